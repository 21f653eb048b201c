#include "common/huggingface/json_config.h"

#include <boost/json.hpp>
#include <utility>

namespace tandem::huggingface {

namespace json = boost::json;

struct JsonConfig::Node {
  json::object object;

  const json::value* Find(std::string_view key) const {
    const json::value* value = object.if_contains({key.data(), key.size()});
    return value == nullptr || value->is_null() ? nullptr : value;
  }
};

namespace {

bool Read(const json::value& value, int64_t& out) {
  if (!value.is_int64()) return false;
  out = value.get_int64();
  return true;
}
bool Read(const json::value& value, double& out) {
  if (value.is_double()) {
    out = value.get_double();
  } else if (value.is_int64()) {
    out = static_cast<double>(value.get_int64());
  } else {
    return false;
  }
  return true;
}
bool Read(const json::value& value, bool& out) {
  if (!value.is_bool()) return false;
  out = value.get_bool();
  return true;
}
bool Read(const json::value& value, std::string& out) {
  if (!value.is_string()) return false;
  out.assign(value.get_string().data(), value.get_string().size());
  return true;
}
template <class T>
bool Read(const json::value& value, std::vector<T>& out) {
  if (!value.is_array()) return false;
  for (const json::value& element : value.get_array()) {
    T one{};
    if (!Read(element, one)) return false;
    out.push_back(std::move(one));
  }
  return true;
}

template <class T>
StatusOr<T> Get(const json::value* value, std::string_view key, const std::string& name,
                const char* wanted) {
  if (value == nullptr) return NotFound("{}: key {} is missing", name, key);
  T out{};
  if (!Read(*value, out)) return InvalidArgument("{}: {} is not {}", name, key, wanted);
  return out;
}

}  // namespace

StatusOr<JsonConfig> JsonConfig::Parse(std::string_view text, std::string name) {
  json::error_code error;
  json::value value = json::parse({text.data(), text.size()}, error);
  if (error) return InvalidArgument("{}: not JSON: {}", name, error.message());
  if (!value.is_object()) return InvalidArgument("{}: not a JSON object", name);
  return JsonConfig(std::make_shared<const Node>(Node{std::move(value.get_object())}),
                    std::move(name));
}

bool JsonConfig::Has(std::string_view key) const { return node_->Find(key) != nullptr; }

StatusOr<int64_t> JsonConfig::GetInt(std::string_view key) const {
  return Get<int64_t>(node_->Find(key), key, name_, "an integer");
}
StatusOr<double> JsonConfig::GetFloat(std::string_view key) const {
  return Get<double>(node_->Find(key), key, name_, "a number");
}
StatusOr<bool> JsonConfig::GetBool(std::string_view key) const {
  return Get<bool>(node_->Find(key), key, name_, "true or false");
}
StatusOr<std::string> JsonConfig::GetString(std::string_view key) const {
  return Get<std::string>(node_->Find(key), key, name_, "a string");
}
StatusOr<std::vector<int64_t>> JsonConfig::GetInts(std::string_view key) const {
  return Get<std::vector<int64_t>>(node_->Find(key), key, name_, "an array of integers");
}
StatusOr<std::vector<double>> JsonConfig::GetFloats(std::string_view key) const {
  return Get<std::vector<double>>(node_->Find(key), key, name_, "an array of numbers");
}
StatusOr<std::vector<std::string>> JsonConfig::GetStrings(std::string_view key) const {
  return Get<std::vector<std::string>>(node_->Find(key), key, name_, "an array of strings");
}

bool JsonConfig::IsObject(std::string_view key) const {
  const json::value* value = node_->Find(key);
  return value != nullptr && value->is_object();
}

StatusOr<JsonConfig> JsonConfig::GetObject(std::string_view key) const {
  const json::value* value = node_->Find(key);
  if (value == nullptr) return NotFound("{}: key {} is missing", name_, key);
  if (!value->is_object()) return InvalidArgument("{}: {} is not an object", name_, key);
  return JsonConfig(std::make_shared<const Node>(Node{value->get_object()}),
                    fmt::format("{}: {}", name_, key));
}

std::vector<std::string> JsonConfig::Keys() const {
  std::vector<std::string> keys;
  for (const auto& [key, value] : node_->object) keys.emplace_back(key.data(), key.size());
  return keys;
}

}  // namespace tandem::huggingface
