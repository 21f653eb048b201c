#include "tests/worker/engine/harness.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <utility>

namespace tandem::engine {

Harness::Harness(const EngineOptions& options)
    : options_(options),
      engine_(options),
      ranks_(Engine::LimitsOf(options), options.num_blocks, options.vocab_size) {}

RequestId Harness::Add(Generate request) {
  if (request.key.router == 0) request.key.router = 1;
  request.key.request = ++last_request_;
  roots_.insert(RootHash(options_.hash_seed, request.cache_salt));
  Stream& stream = streams_[last_request_];
  stream.request = request;
  stream.arrival = now_;
  auto filter = FakeFilterOf(request, options_.vocab_size, slow_filters_);
  engine_.Handle(std::move(request), now_, std::move(filter));
  Collect();
  return last_request_;
}

RequestId Harness::Add(std::vector<TokenId> prompt, int max_tokens) {
  Generate request;
  request.prompt = std::move(prompt);
  request.max_tokens = max_tokens;
  return Add(std::move(request));
}

void Harness::Cancel(RequestId request) {
  engine_.Handle(engine::Cancel{streams_.at(request).request.key}, now_);
  Collect();
}

void Harness::LoseRouter(Nonce router) {
  engine_.Handle(RouterLost{router}, now_);
  Collect();
}

void Harness::ClearCache() {
  engine_.ClearCache();
  Collect();
}

const StepPlan* Harness::Plan() {
  const StepPlan* plan = engine_.Plan(now_);
  if (plan != nullptr) {
    EXPECT_FALSE(plan->idle());
    Enqueue(*plan);
  } else if (engine_.num_in_flight() == 0) {
    EXPECT_TRUE(engine_.num_sequences() == 0 || engine_.num_masks_pending() > 0)
        << "nothing to do, but sequences are alive";
  }
  Collect();
  return plan;
}

const StepPlan& Harness::PlanIdle() {
  const StepPlan& plan = engine_.PlanIdle();
  EXPECT_TRUE(plan.idle());
  Enqueue(plan);
  return plan;
}

void Harness::RunOldest() {
  for (Pending& pending : pending_) {
    if (pending.ran) continue;
    ranks_.Run(*pending.plan, pending.results);
    pending.embeddings = ranks_.embeddings();
    pending.ran = true;
    return;
  }
}

void Harness::Commit(Nanos duration) {
  if (!pending_.front().ran) RunOldest();
  const Nanos start = now_;
  now_ += duration;
  engine_.Commit(pending_.front().results, start, now_, pending_.front().embeddings);
  pending_.pop_front();
  Collect();
}

bool Harness::Step() {
  if (Plan() == nullptr) return false;
  Commit();
  return true;
}

void Harness::Drain(int max_steps) {
  for (int i = 0; i < max_steps; ++i) {
    while (!pending_.empty()) Commit();
    if (!Step() && engine_.num_masks_pending() == 0) return;
    if (::testing::Test::HasFailure()) return;
  }
  ADD_FAILURE() << "not drained after " << max_steps << " steps";
}

void Harness::Collect() {
  engine_.TakeOutputs(outputs_);
  for (const Output& output : outputs_) CollectOutput(output);
  engine_.TakeKvEvents(events_);
  for (const KvEvent& event : events_) CollectEvent(event);
  ExpectSnapshotEqualsCache();
  engine_.CheckInvariants();
}

void Harness::CollectOutput(const Output& output) {
  Stream& stream = streams_.at(output.key.request);
  EXPECT_FALSE(stream.ended()) << "output after the end of request " << output.key.request;
  EXPECT_EQ(output.key, stream.request.key);
  EXPECT_EQ(static_cast<size_t>(output.first_index), stream.tokens.size());
  const bool wants_logprobs = stream.request.sampling.num_logprobs >= 0;
  EXPECT_EQ(output.logprobs.size(), wants_logprobs ? output.tokens.size() : 0);
  stream.tokens.insert(stream.tokens.end(), output.tokens.begin(), output.tokens.end());
  stream.logprobs.insert(stream.logprobs.end(), output.logprobs.begin(), output.logprobs.end());
  stream.embedding.insert(stream.embedding.end(), output.embedding.begin(), output.embedding.end());
  stream.finish = output.finish;
  stream.error = output.error;
  stream.error_kind = output.error_kind;
  stream.timings = output.timings;
  const SequenceTimings& t = output.timings;
  EXPECT_EQ(t.queue + t.prefill + t.waiting + t.decode + t.preempted, now_ - stream.arrival)
      << "engine.invariants.account, request " << output.key.request;
}

void Harness::CollectEvent(const KvEvent& event) {
  EXPECT_EQ(event.number, ++last_event_);
  const auto apply = [&event](Cache& cache) {
    if (event.kind == KvEvent::Kind::kStored) cache[event.hash] = event.parent;
    if (event.kind == KvEvent::Kind::kRemoved) cache.erase(event.hash);
    if (event.kind == KvEvent::Kind::kCleared) cache.clear();
  };
  if (event.kind == KvEvent::Kind::kStored) {
    EXPECT_FALSE(cache_.contains(event.hash)) << "stored twice";
    EXPECT_TRUE(cache_.contains(event.parent) || roots_.contains(event.parent)) << "no parent";
  } else if (event.kind == KvEvent::Kind::kRemoved) {
    EXPECT_TRUE(cache_.contains(event.hash)) << "removed what is not there";
    for (const auto& [hash, parent] : cache_) EXPECT_NE(parent, event.hash) << "before its child";
  }
  apply(cache_);
  if (has_replica_ && event.number > replica_event_) apply(replica_);
}

void Harness::ExpectSnapshotEqualsCache() const {
  std::vector<KvEvent> snapshot;
  EXPECT_EQ(engine_.Snapshot(snapshot), last_event_);
  Cache found;
  for (const KvEvent& event : snapshot) {
    EXPECT_TRUE(found.contains(event.parent) || roots_.contains(event.parent)) << "parents first";
    found[event.hash] = event.parent;
  }
  EXPECT_EQ(found, cache_) << "engine.events.replay";
}

void Harness::StartReplica() {
  std::vector<KvEvent> snapshot;
  replica_.clear();
  replica_event_ = engine_.Snapshot(snapshot);
  for (const KvEvent& event : snapshot) replica_[event.hash] = event.parent;
  has_replica_ = true;
}

void Harness::ExpectReplicaEqualsCache() const {
  if (has_replica_) {
    EXPECT_EQ(replica_, cache_);
  }
}

Harness::Reply Harness::Alone(const Generate& request) const {
  std::vector<TokenId> tokens = request.prompt;
  Reply reply;
  SamplingSpec sampling = request.sampling;
  sampling.num_prompt_tokens = static_cast<int32_t>(tokens.size());
  std::vector<TokenBias> biases = request.biases;
  const int32_t until = sampling.num_prompt_tokens + request.min_tokens;
  const auto filter = FakeFilterOf(request, options_.vocab_size);
  for (const TokenId id : request.stop_ids) {
    if (filter == nullptr || filter->IsControl(id)) biases.push_back({id, -1, until});
  }
  std::vector<uint32_t> mask(static_cast<size_t>(MaskWords(options_.vocab_size)));
  const int room = Engine::ContextOf(options_) - static_cast<int>(tokens.size());
  for (int i = 0; i < std::min(request.max_tokens, room); ++i) {
    if (filter != nullptr) {
      if (filter->Fill(mask) == TokenFilter::Filled::kNothing)
        return {reply.tokens, FinishReason::kStop};
      const bool ends = filter->CanEnd() && std::ranges::count(request.stop_ids, 0) > 0;
      mask[0] |= ends ? 1 : 0;
    }
    const bool forced = i < static_cast<int>(request.forced.size());
    const TokenId token = forced
                              ? request.forced[static_cast<size_t>(i)]
                              : SampleAfter(tokens, sampling, options_.vocab_size, biases,
                                            filter != nullptr ? mask : std::span<const uint32_t>());
    tokens.push_back(token);
    reply.tokens.push_back(token);
    const bool stops = i >= request.min_tokens && std::ranges::count(request.stop_ids, token) > 0;
    if (filter != nullptr && !(stops && token == 0) && !filter->Accept(token)) {
      return {reply.tokens, FinishReason::kError};
    }
    if (stops) return {reply.tokens, FinishReason::kStop};
  }
  if (filter != nullptr && filter->Fill(mask) == TokenFilter::Filled::kNothing)
    reply.finish = FinishReason::kStop;
  return reply;
}

void Harness::ExpectAllStreamsAsIfAlone() const {
  for (const auto& [id, stream] : streams_) {
    if (stream.finish == FinishReason::kError && stream.tokens.empty()) continue;  // refused
    if (stream.request.pooling != Pooling::kNone) {
      ExpectPooledAsIfAlone(stream);
      continue;
    }
    Reply expected = Alone(stream.request);
    if (stream.finish == FinishReason::kCancelled || stream.finish == FinishReason::kDeadline) {
      EXPECT_LE(stream.tokens.size(), expected.tokens.size());
      expected.tokens.resize(std::min(expected.tokens.size(), stream.tokens.size()));
    } else {
      EXPECT_EQ(stream.finish, expected.finish) << "request " << id;
    }
    EXPECT_EQ(stream.tokens, expected.tokens) << "request " << id;
  }
}

void Harness::ExpectPooledAsIfAlone(const Stream& stream) const {
  const bool mean = stream.request.pooling == Pooling::kMean;
  const RequestId id = stream.request.key.request;
  EXPECT_TRUE(stream.tokens.empty()) << "request " << id;
  if (stream.finish == FinishReason::kStop) {
    EXPECT_EQ(stream.embedding, Pooled(stream.request.prompt, mean)) << "request " << id;
  } else {
    EXPECT_TRUE(stream.embedding.empty()) << "request " << id;
  }
  if (mean) {
    EXPECT_EQ(stream.timings.num_cached_tokens, 0) << "request " << id;
  }
}

void Harness::ExpectEverythingFreed() {
  EXPECT_EQ(engine_.num_sequences(), 0);
  EXPECT_EQ(engine_.num_in_flight(), 0);
  const Load& load = engine_.load(now_);
  EXPECT_EQ(load.free_blocks, load.total_blocks);
  EXPECT_EQ(load.num_running + load.num_waiting, 0);
  for (const auto& [id, stream] : streams_) EXPECT_TRUE(stream.ended()) << "request " << id;
}

std::vector<TokenId> Prompt(int num_tokens, TokenId first) {
  std::vector<TokenId> tokens;
  for (int i = 0; i < num_tokens; ++i) tokens.push_back((first + i) % 1000);
  return tokens;
}

EngineOptions SmallOptions() {
  return {.num_blocks = 64,
          .block_size = 4,
          .max_context = 200,
          .vocab_size = 1000,
          .max_seqs = 4,
          .max_step_tokens = 16,
          .max_queued = 100,
          .hash_seed = "test"};
}

}  // namespace tandem::engine
