#include "router/http/json_fields.h"

#include <fmt/format.h>

#include <boost/json/array.hpp>
#include <boost/json/value.hpp>
#include <limits>
#include <utility>

namespace tandem::http {

namespace json = boost::json;

std::string_view KindName(const json::value& v) {
  switch (v.kind()) {
    case json::kind::null:
      return "null";
    case json::kind::bool_:
      return "a boolean";
    case json::kind::int64:
    case json::kind::uint64:
      return "an integer";
    case json::kind::double_:
      return "a number";
    case json::kind::string:
      return "a string";
    case json::kind::array:
      return "an array";
    case json::kind::object:
      return "an object";
  }
  return "unknown";
}

ApiError WrongType(std::string param, std::string_view wanted, const json::value& got) {
  std::string message =
      fmt::format("Invalid type for '{}': expected {}, but got {}.", param, wanted, KindName(got));
  return InvalidRequest(std::move(param), std::move(message), "invalid_type");
}

ApiError WrongValue(std::string param, std::string_view wanted) {
  std::string message = fmt::format("Invalid value for '{}': expected {}.", param, wanted);
  return InvalidRequest(std::move(param), std::move(message), "invalid_value");
}

ApiError NotSupported(std::string param, std::string_view why) {
  std::string message = fmt::format("'{}' is not supported: {}.", param, why);
  return InvalidRequest(std::move(param), std::move(message), "unsupported_parameter");
}

ApiError UnknownField(std::string param) {
  std::string message = fmt::format("Unrecognized request argument: '{}'.", param);
  return InvalidRequest(std::move(param), std::move(message), "unknown_parameter");
}

ApiError MissingField(std::string param) {
  std::string message = fmt::format("Missing required parameter: '{}'.", param);
  return InvalidRequest(std::move(param), std::move(message), "missing_parameter");
}

FieldError ReadString(const std::string& param, const json::value& v, std::string& out) {
  if (!v.is_string()) return WrongType(param, "a string", v);
  out.assign(v.get_string().data(), v.get_string().size());
  return std::nullopt;
}

FieldError ReadName(const std::string& param, const json::value& v, std::string& out) {
  if (v.is_string() && v.get_string().size() > kMaxNameBytes) {
    return WrongValue(param, fmt::format("at most {} bytes", kMaxNameBytes));
  }
  return ReadString(param, v, out);
}

FieldError ReadBool(const std::string& param, const json::value& v, bool& out) {
  if (!v.is_bool()) return WrongType(param, "a boolean", v);
  out = v.get_bool();
  return std::nullopt;
}

FieldError ReadInt(const std::string& param, const json::value& v, int32_t low, int32_t high,
                   int32_t& out) {
  if (!v.is_int64() && !v.is_uint64()) return WrongType(param, "an integer", v);
  const int64_t value = v.is_int64() ? v.get_int64() : std::numeric_limits<int64_t>::max();
  if (value < low || value > high) {
    return WrongValue(param, fmt::format("an integer from {} to {}", low, high));
  }
  out = static_cast<int32_t>(value);
  return std::nullopt;
}

FieldError ReadTokenIds(const std::string& param, const json::value& v, size_t most,
                        std::vector<TokenId>& out) {
  if (!v.is_array()) return WrongType(param, "an array of token ids", v);
  const json::array& array = v.get_array();
  if (array.size() > most) return WrongValue(param, fmt::format("at most {} token ids", most));
  out.reserve(array.size());
  for (size_t i = 0; i < array.size(); ++i) {
    TokenId& id = out.emplace_back();
    FieldError error = ReadInt(fmt::format("{}[{}]", param, i), array[i], 0,
                               std::numeric_limits<int32_t>::max(), id);
    if (error) return error;
  }
  return std::nullopt;
}

}  // namespace tandem::http
