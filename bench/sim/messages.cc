#include "bench/sim/messages.h"

namespace tandem::simulator {
namespace {

routing::FinishReason Translate(engine::FinishReason reason) {
  switch (reason) {
    case engine::FinishReason::kNone:
      return routing::FinishReason::kNone;
    case engine::FinishReason::kStop:
      return routing::FinishReason::kStop;
    case engine::FinishReason::kLength:
      return routing::FinishReason::kLength;
    case engine::FinishReason::kCancelled:
      return routing::FinishReason::kCancelled;
    case engine::FinishReason::kDeadline:
      return routing::FinishReason::kDeadline;
    case engine::FinishReason::kError:
      return routing::FinishReason::kError;
  }
  return routing::FinishReason::kError;
}

routing::KvEvent Translate(const engine::KvEvent& event) {
  using Kind = routing::KvEvent::Kind;
  const Kind kind = event.kind == engine::KvEvent::Kind::kStored    ? Kind::kStored
                    : event.kind == engine::KvEvent::Kind::kRemoved ? Kind::kRemoved
                                                                    : Kind::kCleared;
  return {event.number, kind, event.hash, event.parent};
}

void Translate(const engine::Output& output, routing::SequenceTokens& to) {
  to.request = output.key.request;
  to.attempt = output.key.attempt;
  to.index = output.key.index;
  to.first_index = output.first_index;
  to.tokens = output.tokens;
  to.logprobs.clear();
  to.finish = Translate(output.finish);
  const engine::SequenceTimings& t = output.timings;
  to.timings = {.queue = t.queue,
                .prefill = t.prefill,
                .waiting = t.waiting,
                .decode = t.decode,
                .preempted = t.preempted,
                .num_preemptions = t.num_preemptions,
                .num_cached_tokens = t.num_cached_tokens,
                .num_computed_tokens = t.num_computed_tokens};
  to.error = output.error;
}

void Translate(const engine::Load& load, const engine::StepTiming& timing, routing::GroupLoad& to) {
  to.num_running = load.num_running;
  to.num_waiting = load.num_waiting;
  to.queued_tokens = load.queued_tokens;
  to.context_tokens = load.context_tokens;
  to.free_blocks = load.free_blocks;
  to.total_blocks = load.total_blocks;
  to.queue.clear();
  for (const engine::QueueEntry& entry : load.queue) {
    to.queue.push_back({entry.remaining_tokens, entry.prompt_tokens, entry.age, entry.priority});
  }
  to.step = timing.step;
  to.step_duration = timing.duration;
  to.step_prefill_tokens = timing.prefill_tokens;
  to.step_decodes = timing.num_decodes;
  to.step_prefill_attention = timing.prefill_attention;
  to.step_context_tokens = timing.context_tokens;
  const engine::WorkInFlight& work = load.in_flight;
  to.in_flight = {.num_steps = work.num_steps,
                  .elapsed = work.elapsed,
                  .prefill_tokens = work.prefill_tokens,
                  .num_decodes = work.num_decodes,
                  .prefill_attention = work.prefill_attention,
                  .context_tokens = work.context_tokens};
}

}  // namespace

routing::GroupInfo Describe(const GroupSpec& spec, GroupId id) {
  routing::GroupInfo info;
  info.id = id;
  info.name = spec.name;
  info.incarnation = static_cast<Nonce>(id.value) + 1;
  info.hash_seed = spec.engine.hash_seed;
  info.block_size = spec.engine.block_size;
  info.tp = spec.profile.ranks;
  info.device_class = spec.device_class;
  info.max_context = engine::Engine::ContextOf(spec.engine);
  info.max_seqs = spec.engine.max_seqs;
  info.max_step_tokens = spec.engine.max_step_tokens;
  info.num_blocks = spec.engine.num_blocks;
  return info;
}

void Translate(const GroupOut& out, GroupId group, Nonce router, RequestId last_request_seen,
               routing::StepReport& report) {
  report.group = group;
  size_t num_sequences = 0;
  for (const engine::Output& output : out.outputs) {
    if (output.key.router != router) continue;
    // Dispatchers look at first tokens and at ends.
    if (output.first_index > 0 && output.finish == engine::FinishReason::kNone) continue;
    if (report.sequences.size() == num_sequences) report.sequences.emplace_back();
    Translate(output, report.sequences[num_sequences++]);
  }
  report.sequences.resize(num_sequences);
  report.kv_events.clear();
  for (const engine::KvEvent& event : out.kv_events) report.kv_events.push_back(Translate(event));
  Translate(out.load, out.timing, report.load);
  report.load.last_request_seen = last_request_seen;
}

}  // namespace tandem::simulator
