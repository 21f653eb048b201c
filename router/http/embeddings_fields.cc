// What only requests for embeddings say.
#include <boost/json/value.hpp>
#include <string>

#include "router/http/request_fields.h"

namespace tandem::http {

namespace json = boost::json;

// Numbers, or the bytes that they are made of: what OpenAI's client asks for.
FieldError ReadEncodingFormat(const std::string& param, const json::value& v, ApiRequest& out) {
  std::string name;
  if (FieldError error = ReadString(param, v, name)) return error;
  if (name != "float" && name != "base64") return WrongValue(param, "'float' or 'base64'");
  out.base64 = name == "base64";
  return std::nullopt;
}

FieldError ReadTruncationSide(const std::string& param, const json::value& v, ApiRequest& out) {
  std::string side;
  if (FieldError error = ReadString(param, v, side)) return error;
  if (side != "left" && side != "right") return WrongValue(param, "'left' or 'right'");
  out.truncate_end = side == "right";
  return std::nullopt;
}

}  // namespace tandem::http
