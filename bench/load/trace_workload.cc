#include "bench/load/trace_workload.h"

#include <algorithm>

#include "bench/load/draws.h"
#include "bench/load/words.h"

namespace tandem::load {
namespace {

int64_t Cut(int64_t length, int64_t most) { return most > 0 ? std::min(length, most) : length; }

}  // namespace

Conversation TraceWorkload::Make(int64_t index) const {
  const trace::TraceRequest& request = trace_.requests[static_cast<size_t>(index)];
  Turn turn;
  turn.num_tokens = Cut(request.prompt_tokens, options_.max_input);
  turn.max_tokens = Cut(request.output_tokens, options_.max_output);
  int64_t left = turn.num_tokens;
  for (const uint64_t hash : trace_.HashesOf(request)) {
    const int64_t count = std::min<int64_t>(left, trace_.hash_tokens);
    Draws words(options_.seed, Purpose::kBlock, hash);
    AppendWords(turn.text, words, count);
    left -= count;
  }
  // What no id covers is like nothing else.
  Draws words(options_.seed, Purpose::kWords, static_cast<uint64_t>(index));
  AppendWords(turn.text, words, left);
  Conversation conversation;
  conversation.turns.push_back(std::move(turn));
  return conversation;
}

std::vector<Nanos> TraceWorkload::Times() const {
  std::vector<Nanos> times;
  times.reserve(trace_.requests.size());
  for (const trace::TraceRequest& request : trace_.requests) times.push_back(request.arrival);
  return times;
}

}  // namespace tandem::load
