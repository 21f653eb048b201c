#include "bench/load/trace_workload.h"

#include <algorithm>

#include "bench/load/draws.h"
#include "bench/load/words.h"

namespace tandem::load {
namespace {

int64_t Cut(int64_t length, int64_t most) { return most > 0 ? std::min(length, most) : length; }

}  // namespace

Conversation TraceWorkload::Make(int64_t index) const {
  const TraceRow& row = rows_[static_cast<size_t>(index)];
  Turn turn;
  // An empty prompt cannot be sent, and a reply has a token at least.
  turn.num_tokens = std::max<int64_t>(1, Cut(row.input_tokens, options_.max_input));
  turn.max_tokens = std::max<int64_t>(1, Cut(row.output_tokens, options_.max_output));
  if (row.hash_ids.empty()) {
    Draws words(options_.seed, Purpose::kWords, static_cast<uint64_t>(index));
    AppendWords(turn.text, words, turn.num_tokens);
  }
  int64_t left = turn.num_tokens;
  for (size_t i = 0; i < row.hash_ids.size() && left > 0; ++i, left -= kHashBlockTokens) {
    Draws words(options_.seed, Purpose::kBlock, row.hash_ids[i]);
    AppendWords(turn.text, words, std::min(left, kHashBlockTokens));
  }
  Conversation conversation;
  conversation.turns.push_back(std::move(turn));
  return conversation;
}

std::vector<Nanos> TraceWorkload::Times() const {
  std::vector<Nanos> times;
  times.reserve(rows_.size());
  for (const TraceRow& row : rows_) times.push_back(row.at);
  return times;
}

}  // namespace tandem::load
