// A JSON Schema document as json_schema.cc reads it: what its words are, where references lead,
// which alternatives exclude each other. Included by the two files that compile schemas, for
// Boost.JSON is heavy. Paths are JSON pointers ("#/properties/age"), for messages.
#pragma once

#include <boost/json/value.hpp>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "common/grammar/json_rules.h"
#include "common/status.h"

namespace tandem::grammar {

namespace json = boost::json;

template <class... Args>
Status WrongSchema(const std::string& path, fmt::format_string<Args...> format, Args&&... args) {
  return InvalidArgument("{}: {}", path, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
Status SchemaNotSupported(const std::string& path, fmt::format_string<Args...> format,
                          Args&&... args) {
  return Unsupported("{}: {} is not supported", path,
                     fmt::format(format, std::forward<Args>(args)...));
}

inline std::string_view View(const json::string& text) { return {text.data(), text.size()}; }
inline std::string_view View(json::string_view text) { return {text.data(), text.size()}; }

// The place `key` within `path`.
std::string At(const std::string& path, std::string_view key);

// A value as it is written where only this one will do.
std::string Written(const json::value& value);
bool IsOfType(const json::value& value, std::string_view type);
// kUnimplemented: a number in it that is not held as it was written.
Status CheckConstant(const std::string& path, const json::value& value);

bool IsAnnotation(std::string_view word);
// OpenAPI 3.0's word: null is an instance too.
bool IsNullable(const json::object& schema);
// kUnimplemented: a word that has a meaning and is not supported.
Status CheckWords(const std::string& path, const json::object& schema);
// As 'type' says, or as the other words do; empty: any.
StatusOr<std::vector<std::string>> TypesOf(const std::string& path, const json::object& schema);
// Those of `types` that are of `outer` too; integers are numbers.
std::vector<std::string> Within(const std::vector<std::string>& types,
                                const std::vector<std::string>& outer);
// 'minimum' and the like.
StatusOr<NumberRange> RangeOf(const std::string& path, const json::object& schema);
// A count as 'minItems' says; absent: `otherwise`.
StatusOr<int> CountOf(const std::string& path, const json::object& schema, const char* word,
                      int otherwise);

class SchemaDocument {
 public:
  explicit SchemaDocument(const json::value& root) : root_(root) {}  // borrowed
  const json::value& root() const { return root_; }

  struct Target {
    std::string path;
    const json::value* schema = nullptr;
  };
  // Where the value of a '$ref' leads.
  StatusOr<Target> Resolve(const std::string& path, const json::value& ref) const;
  // A schema that is an object, behind its references.
  StatusOr<const json::object*> Plain(const std::string& path, const json::value& schema) const;
  // oneOf is anyOf where no instance can be of two alternatives; else kUnimplemented.
  Status CheckDisjoint(const std::string& path, const json::array& alternatives) const;

 private:
  const json::value& root_;
};

}  // namespace tandem::grammar
