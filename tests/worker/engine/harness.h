// An engine, a simulated rank and a client in virtual time. After every call it takes all outputs
// and events and checks what must always hold: tokens in order, one end per sequence, timings that
// sum to the time since arrival, events that replay into the cache's contents, CheckInvariants().
#pragma once

#include <deque>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "tests/worker/engine/fake_filter.h"
#include "tests/worker/engine/rank_simulator.h"
#include "worker/engine/engine.h"

namespace tandem::engine {

// What a client saw of one sequence.
struct Stream {
  Generate request;
  Nanos arrival = 0;
  std::vector<TokenId> tokens;
  std::vector<RowResult> logprobs;
  std::vector<float> embedding;
  FinishReason finish = FinishReason::kNone;
  SequenceTimings timings;
  std::string error;
  ErrorKind error_kind = ErrorKind::kInternal;
  bool ended() const { return finish != FinishReason::kNone; }
};

class Harness {
 public:
  explicit Harness(const EngineOptions& options);

  // Returns the request number (also SequenceKey::request); key.router is 1 unless set. A grammar
  // is one of fake_filter.h.
  RequestId Add(Generate request);
  RequestId Add(std::vector<TokenId> prompt, int max_tokens);
  void Cancel(RequestId request);
  void LoseRouter(Nonce router);
  void ClearCache();

  void SetSlowFilters(bool slow) { slow_filters_ = slow; }  // see FakeFilter; of those to come

  // Null: nothing to do. The plan is run by the ranks no later than its Commit.
  const StepPlan* Plan();
  const StepPlan& PlanIdle();
  void RunOldest();  // the oldest plan that has not run yet; none: no effect
  void Commit(Nanos duration = kMillisecond);
  // Plan, run, commit, one after the other. False: there was nothing to do.
  bool Step();
  // Until nothing is left; fails after `max_steps`.
  void Drain(int max_steps = 10000);

  void Advance(Nanos duration) { now_ += duration; }
  Nanos now() const { return now_; }
  Engine& engine() { return engine_; }
  const EngineOptions& options() const { return options_; }
  const RankSimulator& ranks() const { return ranks_; }
  const Stream& stream(RequestId request) const { return streams_.at(request); }
  const std::map<RequestId, Stream>& streams() const { return streams_; }
  size_t num_cached_hashes() const { return cache_.size(); }

  // A router that asks for a snapshot now and applies the events after it.
  void StartReplica();
  void ExpectReplicaEqualsCache() const;

  // What the request gives when it is alone, with unlimited memory.
  struct Reply {
    std::vector<TokenId> tokens;
    FinishReason finish = FinishReason::kLength;
  };
  Reply Alone(const Generate& request) const;
  void ExpectAllStreamsAsIfAlone() const;
  void ExpectEverythingFreed();

 private:
  struct Pending {
    const StepPlan* plan;
    bool ran = false;
    std::vector<RowResult> results;
    std::vector<float> embeddings;
  };
  using Cache = std::map<BlockHash, BlockHash>;  // hash -> parent

  void Collect();
  void ExpectPooledAsIfAlone(const Stream& stream) const;
  void CollectOutput(const Output& output);
  void CollectEvent(const KvEvent& event);
  void ExpectSnapshotEqualsCache() const;
  void Enqueue(const StepPlan& plan) { pending_.push_back({&plan, false, {}, {}}); }

  const EngineOptions options_;
  Engine engine_;
  RankSimulator ranks_;
  Nanos now_ = 1'000'000;
  RequestId last_request_ = 0;
  std::map<RequestId, Stream> streams_;
  std::deque<Pending> pending_;
  std::set<BlockHash> roots_;
  Cache cache_;
  uint64_t last_event_ = 0;
  Cache replica_;
  uint64_t replica_event_ = 0;
  bool has_replica_ = false;
  bool slow_filters_ = false;
  std::vector<Output> outputs_;
  std::vector<KvEvent> events_;
};

// Tokens first, first + 1, ... modulo the vocabulary of 1,000 that unit tests use.
std::vector<TokenId> Prompt(int num_tokens, TokenId first = 1);

// 64 blocks of 4 tokens, budget 16, 4 slots, context 200.
EngineOptions SmallOptions();

}  // namespace tandem::engine
