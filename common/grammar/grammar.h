// From what structured output is asked for to the automaton of it.
#pragma once

#include "common/grammar/automaton.h"
#include "common/grammar_spec.h"
#include "common/status.h"

namespace tandem::grammar {

// Whether CompileGrammar would take it, but for what grows too large: in a tenth of the time.
Status CheckGrammar(const GrammarSpec& spec);

// Milliseconds for a large schema; bounded for any text. Errors are the client's, one line.
StatusOr<Automaton> CompileGrammar(const GrammarSpec& spec);

}  // namespace tandem::grammar
