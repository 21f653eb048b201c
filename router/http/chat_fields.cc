// What a chat says beside its messages: for its template.
#include <fmt/format.h>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <string_view>

#include "router/http/request_fields.h"
#include "router/http/template_value.h"

namespace tandem::http {

namespace json = boost::json;

namespace {
std::string_view View(json::string_view s) { return {s.data(), s.size()}; }
}  // namespace

FieldError ReadDocuments(const std::string& param, const json::value& v, ApiRequest& out) {
  if (!v.is_array()) return WrongType(param, "an array", v);
  const json::array& documents = v.get_array();
  for (size_t i = 0; i < documents.size(); ++i) {
    const std::string name = fmt::format("{}[{}]", param, i);
    if (!documents[i].is_object()) return WrongType(name, "an object", documents[i]);
    for (const auto& [key, value] : documents[i].get_object()) {
      if (!value.is_string()) {
        return WrongType(fmt::format("{}.{}", name, View(key)), "a string", value);
      }
    }
  }
  out.documents = ToTemplateValue(v);
  return std::nullopt;
}

FieldError ReadTemplateKwargs(const std::string& param, const json::value& v, ApiRequest& out) {
  if (!v.is_object()) return WrongType(param, "an object", v);
  for (const auto& [key, value] : v.get_object()) {
    const std::string name = fmt::format("{}.{}", param, View(key));
    for (const std::string_view field :
         {"messages", "tools", "documents", "add_generation_prompt", "continue_final_message"}) {
      if (View(key) == field) {
        return NotSupported(name, fmt::format("send '{}' as a field of the request", field));
      }
    }
    for (const std::string_view reserved : {"chat_template", "tokenize"}) {
      if (View(key) == reserved) return NotSupported(name, "the model's own template is used");
    }
    out.template_kwargs.emplace_back(std::string(View(key)), ToTemplateValue(value));
  }
  return std::nullopt;
}

FieldError ReadReasoningEffort(const std::string& param, const json::value& v, ApiRequest& out) {
  if (FieldError error = ReadString(param, v, out.reasoning_effort)) return error;
  for (const std::string_view effort :
       {"none", "minimal", "low", "medium", "high", "xhigh", "max"}) {
    if (out.reasoning_effort == effort) return std::nullopt;
  }
  return WrongValue(param, "one of 'none', 'minimal', 'low', 'medium', 'high', 'xhigh', 'max'");
}

}  // namespace tandem::http
