// The vocabulary of all bytes, one a token: a grammar that reads text byte by byte.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "worker/grammar/token_masks.h"

namespace tandem::grammar {

inline std::shared_ptr<const Vocabulary> Bytes() {
  static const auto vocabulary = [] {
    std::vector<std::string> bytes;
    for (int i = 0; i < 256; ++i) bytes.emplace_back(1, static_cast<char>(i));
    return MakeVocabulary(std::move(bytes));
  }();
  return vocabulary;
}

}  // namespace tandem::grammar
