// A grammar without text: what may come follows from a seed and the tokens so far.
#pragma once

#include <algorithm>
#include <memory>
#include <string>

#include "worker/engine/inbox.h"
#include "worker/engine/token_filter.h"

namespace tandem::engine {

class FakeFilter final : public TokenFilter {
 public:
  // Replies of at most `limit` tokens. Token 0 is a control token. `slow`: some masks are there
  // only when they are asked for the second or third time.
  FakeFilter(uint64_t seed, int limit, int vocab_size, bool slow)
      : state_(seed * 0x9e3779b97f4a7c15ULL + 1),
        limit_(limit),
        vocab_size_(vocab_size),
        slow_(slow) {}

  bool Accept(TokenId token) override {
    if (!Allows(token)) return false;
    state_ = state_ * 0xbf58476d1ce4e5b9ULL + static_cast<uint64_t>(token);
    ++length_;
    pending_ = slow_ && Bits(11) % 3 == 0 ? 1 + static_cast<int>(Bits(12) % 2) : 0;
    return true;
  }
  Filled Fill(std::span<uint32_t> mask) override {
    if (length_ < limit_ && pending_ > 0) return --pending_, Filled::kPending;
    std::fill(mask.begin(), mask.end(), 0);
    for (TokenId token = 1; token < vocab_size_; ++token) {
      if (Allows(token)) mask[static_cast<size_t>(token) / 32] |= 1u << (token % 32);
    }
    return length_ < limit_ ? Filled::kTokens : Filled::kNothing;
  }
  bool CanEnd() const override { return length_ == limit_ || (length_ > 0 && Bits(7) % 3 == 0); }
  bool IsControl(TokenId token) const override { return token == 0; }

 private:
  uint64_t Bits(uint64_t of) const { return (state_ ^ of * 0x632be59bd9b4e019ULL) >> 40; }
  bool Allows(TokenId token) const {
    if (token <= 0 || token >= vocab_size_ || length_ == limit_) return false;
    const auto one = static_cast<TokenId>(1 + state_ % static_cast<uint64_t>(vocab_size_ - 1));
    return token == one || Bits(static_cast<uint64_t>(token)) % 3 == 0;
  }

  uint64_t state_;
  const int limit_;
  const int vocab_size_;
  const bool slow_;
  int length_ = 0;
  int pending_ = 0;
};

// The text of a request's grammar is "SEED LIMIT".
inline void SetFakeGrammar(Generate& request, uint64_t seed, int limit) {
  request.grammar = {grammar::GrammarSpec::Kind::kEbnf,
                     std::to_string(seed) + " " + std::to_string(limit)};
}
inline std::unique_ptr<TokenFilter> FakeFilterOf(const Generate& request, int vocab_size,
                                                 bool slow = false) {
  if (request.grammar.kind == grammar::GrammarSpec::Kind::kNone) return nullptr;
  const std::string& text = request.grammar.text;
  const size_t space = text.find(' ');
  return std::make_unique<FakeFilter>(std::stoull(text), std::stoi(text.substr(space)), vocab_size,
                                      slow);
}

}  // namespace tandem::engine
