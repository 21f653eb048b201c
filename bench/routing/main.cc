// tandem-bench-routing: what the prefix index costs at a stated size. Every answer is checked.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <random>
#include <vector>

#include "bench/routing/filled_index.h"

namespace tandem::bench {
namespace {

// One index at a time: they are as large as the machine's memory allows.
FilledIndex& IndexFor(const Filling& filling) {
  static std::unique_ptr<FilledIndex> index;
  static Filling now;
  if (index == nullptr || now != filling) {
    index.reset();
    index = std::make_unique<FilledIndex>(filling);
    now = filling;
  }
  return *index;
}

Filling FillingOf(const benchmark::State& state) {
  return {.groups = static_cast<int>(state.range(0)),
          .blocks = state.range(1) << 20,
          .holders = static_cast<int>(state.range(2))};
}

void Check(bool holds, const char* what) {
  if (holds) return;
  std::cerr << "wrong answer: " << what << '\n';
  std::abort();
}

// Times single calls, for their median and 99th percentile are what is asked for; in CPU time of
// this thread, so that who else runs on the machine costs caches and memory, but no waiting.
class Samples {
 public:
  template <class Call>
  void Time(benchmark::State& state, Call call) {
    const double start = ThreadSeconds();
    call();
    const double took = ThreadSeconds() - start;
    state.SetIterationTime(took);
    us_.push_back(took * 1e6);
  }
  void Report(benchmark::State& state) {
    std::sort(us_.begin(), us_.end());
    state.counters["p50_us"] = us_[us_.size() / 2];
    state.counters["p99_us"] = us_[us_.size() * 99 / 100];
  }

 private:
  std::vector<double> us_;
};

void ReportFilling(benchmark::State& state, const FilledIndex& filled) {
  state.counters["fill_ns_per_event"] = filled.fill_ns_per_event();
  state.counters["malloc_B_per_pair"] = filled.malloc_bytes_per_pair();
  state.counters["rss_B_per_pair"] = filled.resident_bytes_per_pair();
}

// A prompt of 256 blocks, each time another one, for all groups: nothing of it is in a cache.
void Match(benchmark::State& state) {
  const Filling filling = FillingOf(state);
  FilledIndex& filled = IndexFor(filling);
  std::vector<int32_t> depth(filled.groups().size());
  std::mt19937_64 rng(1);
  Samples samples;
  for (auto _ : state) {
    const auto chain = static_cast<int64_t>(rng() % static_cast<uint64_t>(filling.num_chains()));
    const std::vector<BlockHash> hashes = ChainOf(chain);
    samples.Time(state, [&] { filled.index().Match(hashes, filled.groups(), depth); });
    const auto hits = std::count(depth.begin(), depth.end(), kChainBlocks);
    Check(hits == filling.holders, "all holders have the whole prompt");
    Check(depth[static_cast<size_t>(filled.HolderOf(chain, 0).value)] == kChainBlocks, "holder");
  }
  samples.Report(state);
  ReportFilling(state, filled);
}

// The most that can happen: of a prompt that all groups hold at first, one or more drop out at
// every block, and how many are left is asked for too.
void MatchStaircase(benchmark::State& state) {
  FilledIndex& filled = IndexFor(FillingOf(state));
  const auto groups = static_cast<int64_t>(filled.groups().size());
  constexpr int kPrompts = 16;
  std::vector<std::vector<BlockHash>> prompts;
  const auto each = [&](auto change) {
    for (const auto& hashes : prompts) {
      for (int64_t g = 0; g < groups; ++g) {
        const int64_t depth = (g + 1) * kChainBlocks / groups;
        for (int64_t b = 0; b < depth; ++b) change(GroupId{static_cast<int>(g)}, hashes[b]);
      }
    }
  };
  for (int i = 0; i < kPrompts; ++i) prompts.push_back(ChainOf(-1000000 - 8192 * i));
  each([&](GroupId g, const BlockHash& hash) { filled.Store(g, hash); });
  std::vector<int32_t> depth(filled.groups().size()), holders(kChainBlocks);
  Samples samples;
  size_t next = 0;
  for (auto _ : state) {
    const auto& hashes = prompts[next++ % prompts.size()];
    samples.Time(state, [&] { filled.index().Match(hashes, filled.groups(), depth, holders); });
    for (int64_t g = 0; g < groups; ++g)
      Check(depth[g] == (g + 1) * kChainBlocks / groups, "stair");
    Check(holders.front() >= holders.back() && holders.back() >= 1, "holders");
  }
  each([&](GroupId g, const BlockHash& hash) { filled.Remove(g, hash); });
  samples.Report(state);
}

// A group in steady state: what it stores, it evicted something for. Per event.
void Apply(benchmark::State& state) {
  const Filling filling = FillingOf(state);
  FilledIndex& filled = IndexFor(filling);
  std::mt19937_64 rng(1);
  int64_t events = 0;
  Samples samples;
  for (auto _ : state) {
    const auto chain = static_cast<int64_t>(rng() % static_cast<uint64_t>(filling.num_chains()));
    const std::vector<BlockHash> hashes = ChainOf(chain);
    const GroupId group = filled.HolderOf(chain, 0);
    samples.Time(state, [&] {
      for (size_t i = hashes.size(); i-- > 0;) filled.Remove(group, hashes[i]);
      for (const BlockHash& hash : hashes) filled.Store(group, hash);
    });
    events += 2 * kChainBlocks;
  }
  samples.Report(state);
  state.counters["p50_ns_per_event"] = state.counters["p50_us"] * 1e3 / (2 * kChainBlocks);
  state.SetItemsProcessed(events);
}

// A group is lost and comes back under another id with all it had: the loss at once, then the rest.
void Reconnect(benchmark::State& state) {
  FilledIndex filled(FillingOf(state));
  const int64_t chains = FillingOf(state).num_chains();
  const auto groups = static_cast<int64_t>(filled.groups().size());
  Samples clears;
  double snapshot_ns = 0;
  int64_t events = 0;
  int32_t next_id = static_cast<int32_t>(groups);
  int64_t lost = 0;
  for (auto _ : state) {
    const GroupId old{lost < groups ? static_cast<int32_t>(lost)
                                    : next_id - static_cast<int32_t>(groups)};
    clears.Time(state, [&] { filled.index().Clear(old); });
    uint64_t number = 0;
    for (int64_t chain = lost % groups; chain < chains; chain += groups) {
      const std::vector<BlockHash> hashes = ChainOf(chain);
      const double start = ThreadSeconds();
      for (const BlockHash& hash : hashes) {
        const routing::KvEvent event{.number = ++number,
                                     .kind = routing::KvEvent::Kind::kStored,
                                     .hash = hash,
                                     .parent = {}};
        Check(filled.index().Apply(GroupId{next_id}, event), "no gap");
      }
      snapshot_ns += (ThreadSeconds() - start) * 1e9;
      events += kChainBlocks;
    }
    ++next_id;
    ++lost;
  }
  clears.Report(state);
  state.counters["snapshot_ns_per_event"] = snapshot_ns / static_cast<double>(events);
  state.counters["blocks"] = static_cast<double>(filled.index().num_blocks());
}

// The router's work for a prompt of 100,000 tokens, half of it held by a group: hash, match,
// expect, settle. `step` leaves out those after it, to tell their parts.
void LongPrompt(benchmark::State& state) {
  FilledIndex& filled = IndexFor(FillingOf(state));
  const auto steps = state.range(3);
  constexpr int kTokens = 100'000, kBlocks = kTokens / kBlockTokens;
  std::vector<int32_t> depth(filled.groups().size()), holders(kBlocks);
  RequestId request = 0;
  Samples samples;
  int64_t chain = -1;
  for (auto _ : state) {
    chain -= 200'000;
    const std::vector<TokenId> prompt = PromptOf(chain, kTokens);
    const GroupId warm{static_cast<int>(request % filled.groups().size())};
    const std::vector<BlockHash> half = ChainOf(chain, kBlocks / 2);
    for (const BlockHash& hash : half) filled.Store(warm, hash);
    std::vector<BlockHash> hashes;
    ++request;
    samples.Time(state, [&] {
      BlockHash hash = RootHash("bench", "");
      hashes.reserve(kBlocks);
      for (size_t i = 0; i < kBlocks; ++i) {
        hash = HashBlock(hash, {prompt.data() + i * kBlockTokens, kBlockTokens});
        hashes.push_back(hash);
      }
      if (steps >= 2) filled.index().Match(hashes, filled.groups(), depth, holders);
      if (steps >= 3) filled.index().Expect(warm, request, hashes);
      if (steps >= 4) filled.index().Settle(request);
    });
    if (steps >= 2) Check(depth[static_cast<size_t>(warm.value)] == kBlocks / 2, "half");
    filled.index().Settle(request);
    for (const BlockHash& h : half) filled.Remove(warm, h);
  }
  samples.Report(state);
}

constexpr auto kUs = benchmark::kMicrosecond;
const std::vector<std::string> kNames = {"groups", "Mi_blocks", "holders"};

BENCHMARK(Match)
    ->ArgNames(kNames)
    ->UseManualTime()
    ->Unit(kUs)
    ->Args({256, 4, 1})
    ->Args({256, 4, 2})
    ->Args({256, 4, 4})
    ->Args({256, 1, 16})
    ->Args({256, 1, 64})
    ->Args({1000, 4, 1})
    ->Args({10000, 4, 1})
    ->Args({10000, 4, 4})
    ->Args({10000, 16, 1});
BENCHMARK(MatchStaircase)
    ->ArgNames(kNames)
    ->UseManualTime()
    ->Unit(kUs)
    ->Iterations(2000)
    ->Args({256, 4, 1})
    ->Args({10000, 4, 1});
BENCHMARK(Apply)
    ->ArgNames(kNames)
    ->UseManualTime()
    ->Unit(kUs)
    ->Args({256, 4, 1})
    ->Args({256, 4, 4})
    ->Args({10000, 4, 1});
BENCHMARK(LongPrompt)
    ->ArgNames({"groups", "Mi_blocks", "holders", "steps"})
    ->UseManualTime()
    ->Unit(kUs)
    ->ArgsProduct({{256}, {4}, {1}, {1, 2, 3, 4}})
    ->Args({10000, 4, 1, 4});
BENCHMARK(Reconnect)->ArgNames(kNames)->UseManualTime()->Unit(kUs)->Iterations(256)->Args({256, 4,
                                                                                           1});

}  // namespace
}  // namespace tandem::bench

BENCHMARK_MAIN();
