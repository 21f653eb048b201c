#include "bench/load/synthetic_workload.h"

#include "bench/load/draws.h"
#include "bench/load/words.h"

namespace tandem::load {

Conversation SyntheticWorkload::Make(int64_t index) const {
  const auto id = static_cast<uint64_t>(index);
  Draws lengths(options_.seed, Purpose::kLengths, id);
  Draws words(options_.seed, Purpose::kWords, id);
  Conversation conversation;
  for (int64_t t = 0; t < options_.turns; ++t) {
    Turn turn;
    if (t == 0 && options_.num_prefixes > 0) {
      const auto prefix = static_cast<uint64_t>(lengths.Between(0, options_.num_prefixes - 1));
      Draws prefix_words(options_.seed, Purpose::kPrefix, prefix);
      AppendWords(turn.text, prefix_words, options_.prefix_tokens);
      turn.num_tokens = options_.prefix_tokens;
    }
    const int64_t num_words = lengths.Between(options_.input.low, options_.input.high);
    AppendWords(turn.text, words, num_words);
    turn.num_tokens += num_words;
    turn.max_tokens = lengths.Between(options_.output.low, options_.output.high);
    conversation.turns.push_back(std::move(turn));
  }
  return conversation;
}

}  // namespace tandem::load
