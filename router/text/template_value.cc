#include "router/text/template_value.h"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <string>
#include <utility>

namespace tandem::text {

JinjaValue ToTemplateValue(const boost::json::value& value) {
  using Value = JinjaValue;
  namespace json = boost::json;
  switch (value.kind()) {
    case json::kind::null:
      return Value(Value::None{});
    case json::kind::bool_:
      return Value(value.get_bool());
    case json::kind::int64:
      return Value(value.get_int64());
    case json::kind::uint64:
      return Value(static_cast<double>(value.get_uint64()));
    case json::kind::double_:
      return Value(value.get_double());
    case json::kind::string:
      return Value(std::string(value.get_string()));
    case json::kind::array: {
      Value::List list;
      list.reserve(value.get_array().size());
      for (const json::value& item : value.get_array()) list.push_back(ToTemplateValue(item));
      return Value(std::move(list));
    }
    case json::kind::object:
      break;
  }
  Value::Map map;
  map.reserve(value.get_object().size());
  for (const auto& [key, item] : value.get_object()) {
    map.emplace_back(std::string(key), ToTemplateValue(item));
  }
  return Value(std::move(map));
}

}  // namespace tandem::text
