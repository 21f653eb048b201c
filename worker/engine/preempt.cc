// Phase 3: a decode found no block. Preemption is by recompute: the victim's published blocks stay
// cached until they are needed, so that to resume is cheap when they were not.
#include <algorithm>

#include "common/check.h"
#include "worker/engine/engine.h"

namespace tandem::engine {

// True: blocks were freed. False: seq must sit this step out, because what it needs comes free only
// when the step in flight commits, or because it was itself the one to go.
bool Engine::MakeRoom(const Sequence& seq, int num_stalled) {
  while (BlocksComing() <= num_stalled) {
    Sequence& victim = Victim();
    Preempt(victim);
    if (&victim == &seq) return false;
    if (!victim.has_slot()) return true;
  }
  return false;
}

// Blocks that the next commits will free (engine.ownership.in_flight).
int Engine::BlocksComing() const {
  int coming = 0;
  for (const Sequence* seq : running_) {
    if (seq->ended() || seq->preempting) coming += blocks_.CountExclusive(*seq);
  }
  return coming;
}

// The least important one that is not on its way out already; at the latest the one that asks.
Sequence& Engine::Victim() {
  const auto it = std::find_if(running_.rbegin(), running_.rend(), [](const Sequence* seq) {
    return !seq->ended() && !seq->preempting;
  });
  TANDEM_CHECK(it != running_.rend()) << "a decode is running, so there is a victim";
  return **it;
}

void Engine::Preempt(Sequence& seq) {
  TANDEM_CHECK(!InThisPlan(seq)) << "sequence " << seq.id << " is in the plan being made";
  ++num_preemptions_;
  ++seq.timings.num_preemptions;
  seq.preempting = true;
  ReleaseIfIdle(seq);
}

// What it has generated becomes part of what is to be recomputed, and is not sampled again: the
// generator's key is the position, so it goes on with the draws it would have had.
void Engine::BackToWaiting(Sequence& seq) {
  seq.preempting = false;
  seq.state = SeqState::kWaiting;
  const int had = seq.num_output_tokens() > 0 ? seq.num_tokens() : seq.num_computed;
  seq.recompute_until = std::max(seq.recompute_until, had);
  seq.num_computed = seq.num_planned = seq.prefill_target = 0;
  seq.cached_estimate = blocks_.MatchPrefix(seq) * limits_.block_size;
  const auto later = [](const Sequence* a, const Sequence* b) { return a->id < b->id; };
  waiting_.insert(std::upper_bound(waiting_.begin(), waiting_.end(), &seq, later), &seq);
}

}  // namespace tandem::engine
