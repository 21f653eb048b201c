// What structured output is asked for, as text that crosses processes; common/grammar compiles it.
#pragma once

#include <cstdint>
#include <string>

namespace tandem::grammar {

struct GrammarSpec {
  enum class Kind : uint8_t { kNone, kJsonObject, kJsonSchema, kRegex, kChoice, kEbnf, kSequence };
  Kind kind = Kind::kNone;
  // The schema, the pattern, the grammar. kChoice: a JSON list of strings. kSequence: a JSON list
  // of up to 4 {"kind": number, "text": string}, one behind the other, none a sequence.
  std::string text;

  bool operator==(const GrammarSpec&) const = default;
};

}  // namespace tandem::grammar
