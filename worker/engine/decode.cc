// Phase 2: every running sequence gets its next token, before any prompt gets a share of the
// budget. There are no more slots than budget tokens, so decodes never wait for each other.
#include "common/check.h"
#include "worker/engine/engine.h"

namespace tandem::engine {

void Engine::PlanDecodes() {
  int num_stalled = 0;
  // Most important first, so that these get the last blocks. Victims come from the back, never
  // from before i.
  for (size_t i = 0; i < running_.size(); ++i) {
    Sequence& seq = *running_[i];
    if (i + 2 < running_.size()) Prefetch(*running_[i + 2]);
    if (!CanDecode(seq)) continue;
    if (!GrowOrPreempt(seq, num_stalled)) {
      ++num_stalled;
      continue;
    }
    AddRow(seq, 1, /*last=*/true);
    building_->context_tokens += seq.num_planned;
  }
  building_->plan.num_decodes = static_cast<int>(building_->rows.size());
}

// The output limit is known ahead, so no overrun is ever planned past it; past a stop id one is,
// and dropped at its commit (engine.planning.overrun).
bool Engine::CanDecode(const Sequence& seq) const {
  return seq.state == SeqState::kDecode && !seq.preempting && !seq.mask_pending &&
         seq.num_output_tokens() + seq.num_sampling_in_flight < seq.max_output_tokens;
}

bool Engine::GrowOrPreempt(Sequence& seq, int num_stalled) {
  while (!blocks_.Grow(seq, seq.num_planned + 1)) {
    if (!MakeRoom(seq, num_stalled)) return false;
  }
  return true;
}

}  // namespace tandem::engine
