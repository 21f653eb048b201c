// A JSON object of a model folder (config.json), read key by key. Knows JSON, not what keys mean.
// A key that is null is as good as absent: Python's writers leave such.
// Thread: immutable. Memory: copies share the parsed text.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"

namespace tandem::huggingface {

class JsonConfig {
 public:
  // `name` is used in errors.
  static StatusOr<JsonConfig> Parse(std::string_view text, std::string name);

  const std::string& name() const { return name_; }

  // Getters: kNotFound without the key, kInvalidArgument if it has another type. An integer is a
  // float too.
  bool Has(std::string_view key) const;
  StatusOr<int64_t> GetInt(std::string_view key) const;
  StatusOr<double> GetFloat(std::string_view key) const;
  StatusOr<bool> GetBool(std::string_view key) const;
  StatusOr<std::string> GetString(std::string_view key) const;
  StatusOr<std::vector<int64_t>> GetInts(std::string_view key) const;
  StatusOr<std::vector<double>> GetFloats(std::string_view key) const;
  StatusOr<std::vector<std::string>> GetStrings(std::string_view key) const;
  // {"key": {...}}; its errors say "name: key".
  StatusOr<JsonConfig> GetObject(std::string_view key) const;
  bool IsObject(std::string_view key) const;  // whether GetObject would succeed
  // Of a {"key": "text"} object.
  std::vector<std::string> Keys() const;

 private:
  struct Node;
  JsonConfig(std::shared_ptr<const Node> node, std::string name)
      : node_(std::move(node)), name_(std::move(name)) {}

  std::shared_ptr<const Node> node_;
  std::string name_;
};

}  // namespace tandem::huggingface
