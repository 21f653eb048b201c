// Where time went and what is left to do: the worker's part of the latency account, and the load
// that routers predict from.
#include "worker/engine/engine.h"

namespace tandem::engine {

// Every interval goes to exactly one share, so the shares sum to the time since arrival
// (engine.invariants.account).
void Engine::Account(Sequence& seq, Share share, Nanos now) {
  const Nanos passed = now - seq.accounted;
  seq.accounted = now;
  switch (share) {
    case Share::kQueue:
      seq.timings.queue += passed;
      break;
    case Share::kPrefill:
      seq.timings.prefill += passed;
      break;
    case Share::kWaiting:
      seq.timings.waiting += passed;
      break;
    case Share::kDecode:
      seq.timings.decode += passed;
      break;
    case Share::kPreempted:
      seq.timings.preempted += passed;
      break;
  }
}

bool Engine::IsResuming(const Sequence& seq) const {
  return seq.num_computed < seq.recompute_until;
}

// Where time goes while no step computes anything of seq.
Engine::Share Engine::IdleShare(const Sequence& seq) const {
  if (!seq.was_started) return Share::kQueue;
  return !seq.has_slot() || IsResuming(seq) ? Share::kPreempted : Share::kWaiting;
}

// Where time goes while a row of seq is in flight.
Engine::Share Engine::BusyShare(const Sequence& seq, bool decode) const {
  if (decode) return Share::kDecode;
  return IsResuming(seq) ? Share::kPreempted : Share::kPrefill;
}

const Load& Engine::load(Nanos now) {
  load_.num_running = load_.num_waiting = 0;
  load_.queued_tokens = load_.context_tokens = 0;
  load_.free_blocks = blocks_.num_free();
  load_.total_blocks = blocks_.num_blocks();
  load_.queue.clear();
  for (const Sequence* seq : running_) {
    if (seq->state == SeqState::kDecode) {
      ++load_.num_running;
      load_.context_tokens += seq->num_computed;
    } else if (seq->state == SeqState::kPrefill) {
      AddToQueue(*seq, seq->prefill_target - seq->num_planned, now);
    }
  }
  for (const Sequence* seq : waiting_) {
    AddToQueue(*seq, seq->num_tokens() - seq->cached_estimate, now);
  }
  load_.in_flight = InFlight(now);
  return load_;
}

WorkInFlight Engine::InFlight(Nanos now) const {
  WorkInFlight work;
  for (uint64_t i = 0; i < static_cast<uint64_t>(num_in_flight_); ++i) {
    const PlanBuffer& buffer = buffers_[(last_step_number_ - i) % 2];
    if (buffer.rows.empty()) continue;
    ++work.num_steps;
    work.num_decodes += buffer.plan.num_decodes;
    work.prefill_tokens += static_cast<int32_t>(buffer.tokens.size()) - buffer.plan.num_decodes;
    work.prefill_attention += buffer.prefill_attention;
    work.context_tokens += buffer.context_tokens;
  }
  if (work.num_steps > 0) work.elapsed = now - in_flight_since_;
  return work;
}

void Engine::AddToQueue(const Sequence& seq, int remaining, Nanos now) {
  ++load_.num_waiting;
  load_.queued_tokens += remaining;
  if (load_.queue.size() == kMaxQueueEntries) return;
  load_.queue.push_back({remaining, seq.num_tokens(), now - seq.arrival, seq.priority});
}

}  // namespace tandem::engine
