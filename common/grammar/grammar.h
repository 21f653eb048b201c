// What structured output is asked for, as text that crosses processes, and the automaton of it.
#pragma once

#include <cstdint>
#include <string>

#include "common/grammar/automaton.h"
#include "common/status.h"

namespace tandem::grammar {

struct GrammarSpec {
  enum class Kind : uint8_t { kNone, kJsonObject, kJsonSchema, kRegex, kChoice, kEbnf };
  Kind kind = Kind::kNone;
  std::string text;  // the schema, the pattern, the grammar; kChoice: a JSON list of strings

  bool operator==(const GrammarSpec&) const = default;
};

// Milliseconds for a large schema; bounded for any text. Errors are the client's, one line.
StatusOr<Automaton> CompileGrammar(const GrammarSpec& spec);

}  // namespace tandem::grammar
