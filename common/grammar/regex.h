// Regular expressions as a grammar: what guided_regex and JSON Schema's `pattern` may hold.
//
// Supported: literals, ., [classes], \d \w \s and their complements, \b not; escapes (\n \t \r \f
// \v \0 \xHH \uHHHH \u{H..} and of punctuation), (groups), (?:groups), |, * + ? {n} {n,} {n,m},
// lazy forms (they match the same strings), ^ and $ at the ends of an alternative of the outermost
// level. Refused by name: look-around, back references, \b, \p, [:alpha:] and the like, flags,
// named groups; and what Python and ECMAScript read in different ways: {,n} and an empty class. \d,
// \w and \s are those of ECMAScript: ASCII digits and word characters, Unicode white space.
#pragma once

#include <functional>
#include <string_view>
#include <vector>

#include "common/grammar/rules.h"
#include "common/status.h"

namespace tandem::grammar {

struct RegexOptions {
  // Anything may stand before and behind, but for where ^ and $ are: JSON Schema's `pattern`.
  bool search = false;
  // Bounds of the whole, in characters; max kUnbounded: none. They are kept by what varies in
  // length, which has to be one repetition of something of one length (after ^ and before $).
  int min_length = 0, max_length = kUnbounded;
  // How one character of a set is written; empty: in UTF-8. For text within JSON strings.
  std::function<ExprId(Rules&, std::vector<CodeRange>)> write = {};
};

// kInvalidArgument: not a regular expression. kUnimplemented: a part that is not supported. Both
// name the place, in bytes.
StatusOr<ExprId> ParseRegex(std::string_view pattern, const RegexOptions& options, Rules& rules);

}  // namespace tandem::grammar
