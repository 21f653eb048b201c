// What only requests for embeddings say.
#include <boost/json/value.hpp>
#include <limits>
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

// vLLM's two names for it, `normalize` the older one.
FieldError ReadNormalize(const std::string& param, const json::value& v, ApiRequest& out) {
  bool value = false;
  if (FieldError error = ReadBool(param, v, value)) return error;
  if (out.normalize.value_or(value) != value) {
    return InvalidRequest(param, "normalize and use_activation differ; send one of them",
                          "invalid_value");
  }
  out.normalize = value;
  return std::nullopt;
}

FieldError ReadTruncation(const std::string& param, const json::value& v, ApiRequest& out) {
  int32_t& most = out.truncate_prompt_tokens;
  FieldError error =
      ReadInt(param, v, kTruncateToContext, std::numeric_limits<int32_t>::max(), most);
  if (!error && most == 0) return WrongValue(param, "-1, or an integer from 1 on");
  return error;
}

FieldError ReadTruncationSide(const std::string& param, const json::value& v, ApiRequest& out) {
  std::string side;
  if (FieldError error = ReadString(param, v, side)) return error;
  if (side != "left" && side != "right") return WrongValue(param, "'left' or 'right'");
  out.truncate_end = side == "right";
  return std::nullopt;
}

}  // namespace tandem::http
