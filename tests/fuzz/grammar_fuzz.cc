// libFuzzer target: whatever the grammar, compiling it ends with an automaton or an error, and
// every token that a mask allows leads somewhere. The first byte says what kind of grammar follows.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "common/grammar/grammar.h"
#include "worker/grammar/token_masks.h"

namespace {

using tandem::grammar::GrammarSpec;
using tandem::grammar::StateId;
using tandem::grammar::TokenMasks;

std::shared_ptr<const tandem::grammar::Vocabulary> Vocabulary() {
  static const auto vocabulary = [] {
    std::vector<std::string> tokens;
    for (int i = 0; i < 256; ++i) tokens.emplace_back(1, static_cast<char>(i));
    for (const char* token : {"{\"", "\":", "\",", "\", \"", "true", "12", " \"a", "ab", "],"}) {
      tokens.emplace_back(token);
    }
    return tandem::grammar::MakeVocabulary(std::move(tokens));
  }();
  return vocabulary;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const auto kind = static_cast<GrammarSpec::Kind>(1 + data[0] % 6);
  const GrammarSpec spec = {kind, std::string(data + 1, data + size)};
  auto automaton = tandem::grammar::CompileGrammar(spec);
  if (!automaton.ok()) return 0;
  TokenMasks masks(Vocabulary(), *std::move(automaton));
  std::vector<uint32_t> mask((Vocabulary()->size + 31) / 32);
  StateId state = masks.Start();
  if (state == TokenMasks::kDead) return 0;  // too many stacks at once
  // The input chooses among what is allowed.
  for (size_t i = 0; i < size && i < 64; ++i) {
    if (masks.Fill(state, mask) == TokenMasks::Filled::kTooMuch) return 0;
    std::vector<int> allowed;
    for (int token = 0; token < Vocabulary()->size; ++token) {
      if (mask[token / 32] >> (token % 32) & 1) allowed.push_back(token);
    }
    if (allowed.empty() && !masks.CanEnd(state)) std::abort();
    if (allowed.empty()) break;
    const StateId next = masks.Advance(state, allowed[data[i] % allowed.size()]);
    masks.Release(state);
    if (next == TokenMasks::kDead) return 0;  // too many stacks at once
    state = next;
  }
  masks.Release(state);
  return 0;
}
