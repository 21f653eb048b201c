// Vocabularies for tests: all bytes, one a token, so that a grammar reads text byte by byte; and
// one of the usual size.
#pragma once

#include <memory>
#include <random>
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

// The tokens of Bytes(), and printable ones of two to eight characters up to 120,000 in all.
inline std::vector<std::string> ManyTokens() {
  std::vector<std::string> tokens;
  for (int i = 0; i < 256; ++i) tokens.emplace_back(1, static_cast<char>(i));
  std::mt19937 random(1);
  while (tokens.size() < 120'000) {
    std::string token;
    for (size_t size = 2 + random() % 7; token.size() < size;) {
      token += static_cast<char>(' ' + random() % 95);
    }
    tokens.push_back(std::move(token));
  }
  return tokens;
}

}  // namespace tandem::grammar
