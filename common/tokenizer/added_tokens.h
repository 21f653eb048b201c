// Finds tokens that are spelled out in text, such as <|im_start|>.
#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "common/ids.h"

namespace tandem::text {

struct AddedToken {
  std::string text;
  TokenId id = -1;
  bool special = false;      // structure rather than text: found only when asked for
  bool lstrip = false;       // takes the white space before it
  bool rstrip = false;       // and behind it
  bool single_word = false;  // not beside a letter, digit or other part of a word
  bool normalized = false;   // is looked for in normalized text, after those that are not
};

class AddedTokens {
 public:
  // Texts are not empty; of equal ones the first holds.
  explicit AddedTokens(std::vector<AddedToken> tokens = {});

  struct Match {
    size_t begin = 0;  // text.size() if nothing matches
    size_t end = 0;
    TokenId id = -1;
    size_t next = 0;  // where to search on: white space behind may hold tokens too
  };
  // The first match at or after `from`; of those that begin there, the longest. What it takes
  // before itself ends at `taken`, what the matches before took. A special token that is not asked
  // for still hides what is spelled within it. Each position costs at most the longest token's
  // size.
  Match Find(std::string_view text, size_t from, size_t taken, bool with_special = true) const;

  // Calls `ordinary` with what lies between matches, and `token` with their ids, in order.
  template <class Ordinary, class Token>
  void Split(std::string_view text, bool with_special, Ordinary ordinary, Token token) const {
    size_t taken = 0;
    for (size_t from = 0; taken < text.size();) {
      const Match match = Find(text, from, taken, with_special);
      if (taken < match.begin) ordinary(text.substr(taken, match.begin - taken), taken == 0);
      if (match.id >= 0) token(match.id);
      taken = match.end;
      from = match.next;
    }
  }

 private:
  const AddedToken* MatchAt(std::string_view text, size_t begin) const;

  std::vector<AddedToken> tokens_;     // by text
  std::array<bool, 256> begins_ = {};  // bytes that a token begins with
};

}  // namespace tandem::text
