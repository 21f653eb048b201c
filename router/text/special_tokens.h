// Finds tokens that are spelled out in text, such as <|im_start|>.
#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/ids.h"

namespace tandem::text {

class SpecialTokens {
 public:
  // Texts are not empty and differ from each other.
  explicit SpecialTokens(std::vector<std::pair<std::string, TokenId>> tokens = {});

  struct Match {
    size_t begin = 0;  // text.size() if nothing matches
    size_t size = 0;
    TokenId id = -1;
  };
  // The first match at or after `from`; of those that begin there, the longest. Each position costs
  // at most the longest token's size.
  Match Find(std::string_view text, size_t from) const;

 private:
  Match MatchAt(std::string_view text, size_t begin) const;

  std::vector<std::pair<std::string, TokenId>> tokens_;  // by text
  std::array<bool, 256> begins_ = {};                    // bytes that a token begins with
};

}  // namespace tandem::text
