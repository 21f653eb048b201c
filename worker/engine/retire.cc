// Phase 1, and every other way in which a sequence ends: exactly once (engine.invariants.one_end),
// at once for its client, later for its memory (engine.ownership.in_flight).
#include <algorithm>
#include <utility>

#include "common/check.h"
#include "worker/engine/engine.h"

namespace tandem::engine {

// A first token that is being sampled is let through: it is there sooner than any answer of ours.
void Engine::ExpireDeadlines(Nanos now) {
  for (size_t i = sequences_.size(); i-- > 0;) {  // backwards: End() moves the last one to i
    Sequence& seq = *sequences_[i];
    const bool expired = seq.deadline > 0 && now >= seq.deadline;
    if (!expired || seq.ended()) continue;
    if (seq.num_output_tokens() > 0 || seq.num_sampling_in_flight > 0) continue;
    End(seq, FinishReason::kDeadline, now);
  }
}

void Engine::End(Sequence& seq, FinishReason reason, Nanos now, std::string error, ErrorKind kind) {
  const bool busy = seq.num_in_flight > 0;
  Account(seq, busy ? BusyShare(seq, seq.num_output_tokens() > 0) : IdleShare(seq), now);
  Output& last = NewOutput(seq.key);
  last.first_index = seq.num_output_tokens();
  last.timings = seq.timings;
  last.error = std::move(error);
  last.error_kind = kind;
  Finish(seq, last, reason);
  ReleaseIfIdle(seq);
}

void Engine::Finish(Sequence& seq, Output& last, FinishReason reason) {
  TANDEM_CHECK(!seq.ended()) << "sequence " << seq.id << " ends twice";
  last.finish = reason;
  num_masks_pending_ -= static_cast<int>(std::exchange(seq.mask_pending, false));
  if (seq.state == SeqState::kWaiting) {
    waiting_.erase(std::find(waiting_.begin(), waiting_.end(), &seq));
  }
  seq.state = SeqState::kFinished;
  by_key_.erase(seq.key);
}

void Engine::ReleaseIfIdle(Sequence& seq) {
  if (seq.num_in_flight > 0) return;
  if (seq.ended()) {
    if (seq.has_slot()) GiveBack(seq);
    num_filtered_ -= seq.filter != nullptr;
    const size_t index = seq.index;
    std::swap(sequences_[index], sequences_.back());
    sequences_[index]->index = index;
    sequences_.pop_back();
  } else if (seq.preempting) {
    GiveBack(seq);
    BackToWaiting(seq);
  }
}

void Engine::GiveBack(Sequence& seq) {
  blocks_.Release(seq);
  free_slots_.push_back(seq.slot);
  seq.slot = -1;
  running_.erase(std::find(running_.begin(), running_.end(), &seq));
}

}  // namespace tandem::engine
