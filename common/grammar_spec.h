// What structured output is asked for, as text that crosses processes; common/grammar compiles it.
#pragma once

#include <cstdint>
#include <string>

namespace tandem::grammar {

struct GrammarSpec {
  enum class Kind : uint8_t { kNone, kJsonObject, kJsonSchema, kRegex, kChoice, kEbnf };
  Kind kind = Kind::kNone;
  std::string text;  // the schema, the pattern, the grammar; kChoice: a JSON list of strings

  bool operator==(const GrammarSpec&) const = default;
};

}  // namespace tandem::grammar
