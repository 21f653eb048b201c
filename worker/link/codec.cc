#include "worker/link/codec.h"

#include <algorithm>

namespace tandem::link {
namespace {

wire::Finish ToWire(engine::FinishReason reason) {
  switch (reason) {
    case engine::FinishReason::kNone:
      return wire::RUNNING;
    case engine::FinishReason::kStop:
      return wire::STOP;
    case engine::FinishReason::kLength:
      return wire::LENGTH;
    case engine::FinishReason::kCancelled:
      return wire::CANCELLED;
    case engine::FinishReason::kDeadline:
      return wire::DEADLINE;
    case engine::FinishReason::kError:
      return wire::ERROR;
  }
  return wire::ERROR;
}

wire::ErrorKind ToWire(engine::ErrorKind kind) {
  switch (kind) {
    case engine::ErrorKind::kInternal:
      return wire::INTERNAL;
    case engine::ErrorKind::kInvalid:
      return wire::INVALID;
    case engine::ErrorKind::kGrammar:
      return wire::GRAMMAR;
    case engine::ErrorKind::kBusy:
      return wire::BUSY;
  }
  return wire::INTERNAL;
}

engine::Pooling FromWire(wire::Pooling pooling) {
  switch (pooling) {
    case wire::LAST_STATE:
      return engine::Pooling::kLast;
    case wire::MEAN_STATE:
      return engine::Pooling::kMean;
    default:
      return engine::Pooling::kNone;
  }
}

template <class Words>
void AddHash(const BlockHash& hash, Words& words) {
  words.Add(hash.low);
  words.Add(hash.high);
}

}  // namespace

void Encode(const GroupDescription& self, wire::Hello& to) {
  to.set_major(kProtocolMajor);
  to.set_minor(kProtocolMinor);
  to.set_build(self.build);
  to.set_group(self.group);
  to.set_incarnation(self.incarnation);
  to.set_model(self.model);
  to.set_fingerprint(self.fingerprint);
  to.set_hash_seed(self.hash_seed);
  to.set_block_size(self.block_size);
  to.set_tp(self.tp);
  to.set_dtype(self.dtype);
  to.set_device_class(self.device_class);
  to.set_max_context(self.max_context);
  to.set_max_seqs(self.max_seqs);
  to.set_max_step_tokens(self.max_step_tokens);
  to.set_num_blocks(self.num_blocks);
  to.set_watchdog(self.watchdog);
  to.set_embedding_size(self.embedding_size);
}

void Encode(const engine::Output& output, Nanos inbox, wire::Sequence& to) {
  to.set_request(output.key.request);
  to.set_attempt(output.key.attempt);
  to.set_index(output.key.index);
  to.set_first_index(output.first_index);
  to.mutable_tokens()->Add(output.tokens.begin(), output.tokens.end());
  for (const RowResult& row : output.logprobs) {
    to.add_logprobs(row.logprob);
    to.add_num_top(row.num_top);
    to.mutable_top_ids()->Add(row.top_ids, row.top_ids + row.num_top);
    to.mutable_top_logprobs()->Add(row.top_logprobs, row.top_logprobs + row.num_top);
  }
  to.mutable_embedding()->Add(output.embedding.begin(), output.embedding.end());
  to.set_finish(ToWire(output.finish));
  const engine::SequenceTimings& from = output.timings;
  wire::Timings& t = *to.mutable_timings();
  t.set_queue(from.queue);
  t.set_prefill(from.prefill);
  t.set_waiting(from.waiting);
  t.set_decode(from.decode);
  t.set_preempted(from.preempted);
  t.set_inbox(inbox);
  t.set_num_preemptions(from.num_preemptions);
  t.set_num_cached_tokens(from.num_cached_tokens);
  t.set_num_computed_tokens(from.num_computed_tokens);
  if (!output.error.empty()) to.set_error(output.error);
  to.set_error_kind(ToWire(output.error_kind));
}

void Encode(std::span<const engine::KvEvent> events, wire::KvEvents& to) {
  to.set_first_number(events.front().number);
  std::string& kinds = *to.mutable_kinds();
  kinds.reserve(events.size());
  for (const engine::KvEvent& event : events) {
    kinds.push_back(static_cast<char>(event.kind));
    if (event.kind == engine::KvEvent::Kind::kCleared) continue;
    AddHash(event.hash, *to.mutable_words());
    if (event.kind == engine::KvEvent::Kind::kStored) AddHash(event.parent, *to.mutable_words());
  }
}

void Encode(const engine::Load& load, wire::Load& to) {
  to.set_num_running(load.num_running);
  to.set_num_waiting(load.num_waiting);
  to.set_queued_tokens(load.queued_tokens);
  to.set_context_tokens(load.context_tokens);
  to.set_free_blocks(load.free_blocks);
  to.set_total_blocks(load.total_blocks);
  for (const engine::QueueEntry& entry : load.queue) {
    to.add_remaining_tokens(entry.remaining_tokens);
    to.add_prompt_tokens(entry.prompt_tokens);
    to.add_age(entry.age);
    to.add_priority(entry.priority);
  }
  const engine::WorkInFlight& work = load.in_flight;
  to.set_steps_in_flight(work.num_steps);
  to.set_elapsed_in_flight(work.elapsed);
  to.set_prefill_tokens_in_flight(work.prefill_tokens);
  to.set_decodes_in_flight(work.num_decodes);
  to.set_prefill_attention_in_flight(work.prefill_attention);
  to.set_context_tokens_in_flight(work.context_tokens);
}

void Encode(const engine::StepTiming& timing, wire::StepTiming& to) {
  to.set_step(timing.step);
  to.set_duration(timing.duration);
  to.set_prefill_tokens(timing.prefill_tokens);
  to.set_num_decodes(timing.num_decodes);
  to.set_context_tokens(timing.context_tokens);
  to.set_prefill_attention(timing.prefill_attention);
}

void Encode(std::span<const KvMirror::Block> blocks, wire::SnapshotChunk& to) {
  to.mutable_words()->Reserve(static_cast<int>(4 * blocks.size()));
  for (const KvMirror::Block& block : blocks) {
    AddHash(block.hash, *to.mutable_words());
    AddHash(block.parent, *to.mutable_words());
  }
}

engine::Generate Decode(const wire::Generate& from, Nonce router) {
  engine::Generate to;
  to.key = {router, from.request(), from.attempt(), from.index()};
  to.prompt.assign(from.prompt().begin(), from.prompt().end());
  to.sampling.temperature = from.sampling().temperature();
  to.sampling.top_p = from.sampling().top_p();
  to.sampling.min_p = from.sampling().min_p();
  to.sampling.top_k = from.sampling().top_k();
  to.sampling.seed = from.sampling().seed();
  to.sampling.sequence_index = from.index();
  to.sampling.num_logprobs = from.sampling().num_logprobs();
  const float repetition = from.sampling().repetition_penalty();
  to.sampling.repetition_penalty = repetition == 0 ? 1 : repetition;
  to.sampling.presence_penalty = from.sampling().presence_penalty();
  to.sampling.frequency_penalty = from.sampling().frequency_penalty();
  const int biases = std::min(from.sampling().bias_ids_size(), from.sampling().biases_size());
  for (int i = 0; i < biases; ++i) {
    to.biases.push_back({from.sampling().bias_ids(i), from.sampling().biases(i)});
  }
  to.max_tokens = from.max_tokens();
  to.min_tokens = from.min_tokens();
  to.stop_ids.assign(from.stop_ids().begin(), from.stop_ids().end());
  to.forced.assign(from.forced().begin(), from.forced().end());
  if (from.has_grammar()) {
    // A kind that is not known is refused when it is compiled.
    to.grammar.kind = static_cast<grammar::GrammarSpec::Kind>(from.grammar().kind());
    to.grammar.text = from.grammar().text();
  }
  to.cache_salt = from.cache_salt();
  to.priority = from.priority();
  to.deadline_in = from.deadline_in();
  to.pooling = FromWire(from.pooling());
  return to;
}

}  // namespace tandem::link
