// Reads a regular expression in the syntax that Hugging Face's `tokenizers` reads (Oniguruma's
// Ruby syntax), as far as pre-tokenizers and normalizers use it: characters and their escapes, \p,
// \s, \d, \w, classes (nested, &&), groups, (?i:...), alternation, greedy quantifiers, possessive
// ones after a single character, look-ahead, ^ $ \A \z. What else there is (lazy quantifiers,
// look-behind, back-references, other flags) is refused by name.
//
// As in Ruby, ^ and $ are the ends of a line, and {1,3}+ repeats {1,3} rather than being
// possessive.
// (?i:...) knows ASCII's letters and what folds to them (long s, Kelvin), no sequences such as ss.
#pragma once

#include <limits>
#include <string_view>
#include <vector>

#include "common/status.h"
#include "common/tokenizer/code_set.h"

namespace tandem::text {

struct RegexNode {
  enum Kind {
    kSet,       // one character of `set`
    kSequence,  // all children, one after the other; none: empty
    kChoice,    // the first child that leads to a match
    kRepeat,    // the one child, `min` to `max` times, as often as can be
    kAhead,     // the one child matches here, or (`negative`) does not; takes nothing
    kLineBegin,
    kLineEnd,
    kTextBegin,
    kTextEnd,
  };
  static constexpr int kNoLimit = std::numeric_limits<int>::max();

  Kind kind = kSequence;
  std::vector<RegexNode> children = {};
  CodeSet set = {};
  int min = 0;
  int max = kNoLimit;
  bool possessive = false;  // of a repeated kSet: never gives back
  bool negative = false;
};

// Errors are Unsupported or InvalidArgument and name the byte of the pattern.
StatusOr<RegexNode> ParseRegex(std::string_view pattern);

}  // namespace tandem::text
