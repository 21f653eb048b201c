// Random worlds: tiny pools, tiny budgets, prompts that share prefixes, conversations that go on,
// cancellations, lost routers, deadlines, two plans in flight. Whatever the engine decides, every
// request must get what it would get alone, and the harness checks the rest after every call.
//
//   TANDEM_SEED=n runs one world, TANDEM_WORLDS=n that many.
#include <gtest/gtest.h>

#include <cstdlib>
#include <iostream>
#include <random>

#include "tests/worker/engine/harness.h"

namespace tandem::engine {
namespace {

struct Coverage {
  uint64_t preemptions = 0, duplicates = 0, ends[6] = {};
  int64_t cached_tokens = 0, hits = 0, overruns = 0;
  int64_t embeddings[3] = {};  // by pooling
  int64_t preempted_embeddings = 0;
};

class World {
 public:
  explicit World(uint64_t seed) : rng_(seed), harness_(RandomOptions()) {
    // Few distinct tokens and few seeds: generated blocks must coincide too.
    for (int i = 0; i < 3; ++i) bases_.push_back(RandomTokens(Below(30)));
    ahead_ = Below(4) != 0;
    harness_.SetSlowFilters(Below(2) != 0);
    arrivals_ = 2 + Below(30);
  }

  void Run(Coverage& coverage) {
    for (int i = 0; i < 600 && !::testing::Test::HasFailure(); ++i) Tick();
    harness_.Drain();
    if (::testing::Test::HasFailure()) return;
    harness_.ExpectAllStreamsAsIfAlone();
    harness_.ExpectReplicaEqualsCache();
    harness_.ExpectEverythingFreed();
    Count(coverage);
  }

 private:
  int Below(int n) { return static_cast<int>(rng_() % static_cast<uint64_t>(n)); }

  EngineOptions RandomOptions() {
    const int block_sizes[] = {1, 2, 4, 16};
    EngineOptions options;
    options.block_size = block_sizes[Below(4)];
    options.num_blocks = (30 + Below(Below(2) != 0 ? 60 : 300)) / options.block_size + 2;
    options.max_context = 24 + Below(160);
    options.vocab_size = 2 + Below(4);
    options.max_seqs = 1 + Below(8);
    options.max_step_tokens = 1 + Below(Below(2) != 0 ? 6 : 40);
    options.max_queued = 10 + Below(40);
    options.hash_seed = "property";
    return options;
  }

  std::vector<TokenId> RandomTokens(int n) {
    std::vector<TokenId> tokens;
    for (int i = 0; i < n; ++i) tokens.push_back(Below(harness_.options().vocab_size));
    return tokens;
  }

  // Long and unimportant: else it is computed before anybody could want its blocks.
  void Pool(Generate& request) {
    request.pooling = Below(2) == 0 ? Pooling::kLast : Pooling::kMean;
    request.max_tokens = 0;
    request.priority = -1;
    const int room = harness_.options().max_context - static_cast<int>(request.prompt.size());
    const std::vector<TokenId> more = RandomTokens(room > 0 ? Below(room) : 0);
    request.prompt.insert(request.prompt.end(), more.begin(), more.end());
  }

  void AddRandom() {
    Generate request;
    request.key.router = 1 + static_cast<Nonce>(Below(2));
    if (!harness_.streams().empty() && Below(3) == 0) {  // the next turn of a conversation
      const Stream& before = harness_.stream(1 + rng_() % harness_.streams().size());
      request.prompt = before.request.prompt;
      request.prompt.insert(request.prompt.end(), before.tokens.begin(), before.tokens.end());
    } else {
      request.prompt = bases_[static_cast<size_t>(Below(3))];
    }
    const std::vector<TokenId> tail = RandomTokens(Below(3) == 0 ? 0 : Below(6));
    request.prompt.insert(request.prompt.end(), tail.begin(), tail.end());
    request.max_tokens = 1 + Below(20);
    if (Below(3) == 0) request.stop_ids = RandomTokens(1);
    if (Below(3) == 0) request.min_tokens = Below(request.max_tokens + 1);
    if (Below(8) == 0) request.forced = RandomTokens(1 + Below(5));
    if (Below(8) == 0) {
      for (const TokenId t : RandomTokens(1 + Below(9))) request.biases.push_back({t, 1});
    }
    if (Below(4) == 0) {
      SetFakeGrammar(request, static_cast<uint64_t>(Below(5)), 1 + Below(15));
      if (Below(2) == 0) request.stop_ids = {0};
    }
    if (Below(6) == 0) request.priority = Below(3) - 1;
    if (Below(10) == 0) request.cache_salt = "tenant";
    if (Below(10) == 0) request.deadline_in = (1 + Below(20)) * kMillisecond;
    if (Below(5) == 0) request.sampling.num_logprobs = Below(3);
    request.sampling.seed = static_cast<uint64_t>(Below(2));
    if (Below(6) == 0) Pool(request);
    const RequestId id = harness_.Add(std::move(request));
    if (Below(20) == 0 && !harness_.stream(id).ended()) {  // the same again, while it is alive
      harness_.engine().Handle(Generate(harness_.stream(id).request), harness_.now());
    }
  }

  void Disturb() {
    if (harness_.streams().empty()) return;
    const RequestId any = 1 + rng_() % harness_.streams().size();
    switch (Below(80)) {
      case 0:
        if (Below(4) != 0) return;
        return harness_.LoseRouter(1 + static_cast<Nonce>(Below(2)));
      case 1:
        return harness_.ClearCache();
      case 2:
        return harness_.StartReplica();
      case 3:
      case 4:
      case 5:
        return harness_.Cancel(any);
      default:
        return;
    }
  }

  void Tick() {
    if (Below(arrivals_) == 0) {
      for (int i = Below(5); i >= 0; --i) AddRandom();
    }
    Disturb();
    harness_.Advance(Below(2) * kMillisecond / 2);
    const int limit = ahead_ ? 2 : 1;
    if (harness_.engine().num_in_flight() < limit && Below(8) != 0) {
      if (harness_.Plan() == nullptr && harness_.engine().num_in_flight() < limit &&
          Below(4) == 0) {
        harness_.PlanIdle();
      }
    }
    if (Below(3) == 0) harness_.RunOldest();
    if (harness_.engine().num_in_flight() > 0 && Below(6) != 0 &&
        (harness_.engine().num_in_flight() == limit || Below(3) == 0)) {
      harness_.Commit();
    }
  }

  void Count(Coverage& coverage) {
    coverage.preemptions += harness_.engine().num_preemptions();
    coverage.duplicates += harness_.engine().num_duplicates();
    for (const auto& [id, stream] : harness_.streams()) {
      ++coverage.ends[static_cast<size_t>(stream.finish)];
      coverage.cached_tokens += stream.timings.num_cached_tokens;
      coverage.hits += stream.timings.num_cached_tokens > 0;
      const auto kind = static_cast<size_t>(stream.request.pooling);
      coverage.embeddings[kind] += !stream.embedding.empty();
      coverage.preempted_embeddings +=
          !stream.embedding.empty() && stream.timings.num_preemptions > 0;
    }
  }

  std::mt19937_64 rng_;
  Harness harness_;
  std::vector<std::vector<TokenId>> bases_;
  bool ahead_ = true;
  int arrivals_ = 0;
};

uint64_t FromEnvironment(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text != nullptr ? std::strtoull(text, nullptr, 10) : otherwise;
}

TEST(EngineProperty, EveryRequestGetsWhatItWouldGetAlone) {
  const uint64_t only = FromEnvironment("TANDEM_SEED", 0);
  const uint64_t first = only != 0 ? only : std::random_device{}() % 1'000'000'000 + 1;
  const uint64_t worlds = only != 0 ? 1 : FromEnvironment("TANDEM_WORLDS", 120);
  std::cout << "seeds " << first << " to " << first + worlds - 1 << "\n";
  Coverage coverage;
  for (uint64_t seed = first; seed < first + worlds; ++seed) {
    SCOPED_TRACE("TANDEM_SEED=" + std::to_string(seed));
    World(seed).Run(coverage);
    if (HasFailure()) return;
  }
  std::cout << coverage.preemptions << " preemptions, " << coverage.hits << " cache hits, "
            << coverage.cached_tokens << " cached tokens, " << coverage.duplicates
            << " duplicates, " << coverage.embeddings[1] << " last states, "
            << coverage.embeddings[2] << " means, " << coverage.preempted_embeddings
            << " of them preempted; ends:";
  for (const uint64_t ends : coverage.ends) std::cout << " " << ends;
  std::cout << "\n";
  if (worlds < 100) return;
  // A world that never gets into trouble proves nothing.
  EXPECT_GT(coverage.preemptions, worlds);
  EXPECT_GT(coverage.hits, worlds);
  EXPECT_GT(coverage.duplicates, 0u);
  for (const size_t pooling : {1, 2}) EXPECT_GT(coverage.embeddings[pooling], 0) << pooling;
  for (size_t reason = 1; reason < 6; ++reason) EXPECT_GT(coverage.ends[reason], 0u) << reason;
}

}  // namespace
}  // namespace tandem::engine
