// A grammar in the EBNF that guided_grammar takes, as llama.cpp's GBNF and XGrammar write it:
//
//   root   ::= "yes" | "no " reason+     # the rule `root` is where a reply begins
//   reason ::= [a-z]{1,10} (", " reason)?
//
// Literals in double quotes and classes in brackets have the escapes \n \r \t \\ \" \] \[ \- \xHH
// \uHHHH \UHHHHHHHH; . is any character. %json {...} is an instance of the JSON Schema behind it
// (as in llguidance's grammars; see json_schema.h). A rule ends where the next `name ::=` begins.
#pragma once

#include <string_view>

#include "common/grammar/rules.h"
#include "common/status.h"

namespace tandem::grammar {

// The root rule. kInvalidArgument, with the line: a syntax error, a name without a rule, two rules
// of one name, no `root`.
StatusOr<RuleId> ParseEbnf(std::string_view text, Rules& rules);

}  // namespace tandem::grammar
