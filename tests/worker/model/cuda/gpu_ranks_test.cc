// Ranks on GPUs as processes, as a worker's are: sums over peer memory and NCCL, the parts of the
// logits gathered. The parent touches no device, so that it may fork.
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <vector>

#include "tests/cuda_emulation/options.h"
#include "tests/support/fork_rank.h"
#include "tests/support/shared_memory.h"
#include "tests/worker/model/cuda/gpu_options.h"
#include "tests/worker/model/tiny_sequences.h"

namespace tandem::model::cuda {
namespace {

using tandem::testing::ForkedRank;
using tandem::testing::SharedMemory;
using tandem::testing::TinyFamily;
using tandem::testing::TinyModelOptions;

constexpr int kBlocks = 240;
constexpr double kDistance = 0.03;  // of a logprob, with activations in f16 (11 bits)
constexpr size_t kCommBytes = 256 << 10;

TinyModelOptions ThreeHeads(const std::string& name) {
  TinyModelOptions options = TinyFamily(name);
  options.head_dim = 64;  // 3 KV heads: the ranks' shards are not equal
  options.num_heads = 6;
  options.num_kv_heads = 3;
  options.hidden = 128;
  return options;
}

size_t NumSampled(const std::vector<TestPlan>& plans) {
  size_t sampled = 0;
  for (const TestPlan& plan : plans) {
    for (const PlanRow& row : plan.rows) sampled += (row.flags & kRowSample) != 0;
  }
  return sampled;
}

// How a rank's process runs: all ranks alike, but for what is drawn.
struct RankRun {
  int tp = 2;
  bool ahead = false;  // two steps in flight
  emulation::Options schedule = emulation::GetOptions();
};

// One rank's process: runs the plans and leaves what it sampled, by sequence, in `out`.
int RunRank(const ShardOptions& options, std::span<std::byte> region, int rank, RankRun run,
            const std::vector<TestPlan>& plans, RowResult* out) {
  run.schedule.seed += static_cast<uint64_t>(rank);
  emulation::SetOptions(run.schedule);
  auto comm = kernels::ShmCommunicator::Attach(region, rank, run.tp);
  TANDEM_CHECK(comm.ok()) << Message(comm.status());
  auto runner = ModelRunner::Load(options, **comm);
  TANDEM_CHECK(runner.ok()) << Message(runner.status());
  const Status prepared = (*runner)->Prepare(kBlocks);
  TANDEM_CHECK(prepared.ok()) << Message(prepared);
  const ScriptResults results =
      run.ahead ? RunPlansAhead(**runner, plans) : RunPlans(**runner, plans);
  for (const auto& sequence : results) {
    out = std::copy(sequence.begin(), sequence.end(), out);
  }
  return 0;
}

ScriptResults RunForked(const ShardOptions& options, const RankRun& run,
                        const std::vector<TestSequence>& sequences) {
  const int tp = run.tp;
  const std::vector<TestPlan> plans = MakeScript(sequences);
  const size_t sampled = NumSampled(plans);
  const SharedMemory comm(kernels::ShmCommunicator::RequiredBytes(tp, kCommBytes));
  kernels::ShmCommunicator::Format(comm.span(), tp, kCommBytes);
  const SharedMemory memory(tp * sampled * sizeof(RowResult));
  auto* const results = reinterpret_cast<RowResult*>(memory.span().data());
  std::vector<ForkedRank> ranks;
  for (int r = 0; r < tp; ++r) {
    ranks.emplace_back(
        [&, r] { return RunRank(options, comm.span(), r, run, plans, results + r * sampled); });
  }
  for (ForkedRank& rank : ranks) EXPECT_EQ(rank.Wait(), 0);
  for (int r = 1; r < tp; ++r) {
    EXPECT_TRUE(std::equal(results, results + sampled, results + r * sampled, SameBits))
        << "ranks 0 and " << r << " differ";
  }
  ScriptResults by_sequence;
  const RowResult* next = results;
  for (const TestSequence& sequence : sequences) {
    by_sequence.emplace_back(next, next + sequence.num_new);
    next += sequence.num_new;
  }
  return by_sequence;
}

class GpuRanks : public ::testing::TestWithParam<const char*> {};

TEST_P(GpuRanks, AreWithinTheRoundingOfActivationsOfTheCpu) {
  const ModelFile model(ThreeHeads(GetParam()));
  const std::vector<TestSequence> sequences = {{.prompt = RandomTokens(90, 1),
                                                .num_new = 8,
                                                .sampling = WithLogprobs(),
                                                .forced = RandomTokens(8, 2),
                                                .chunk = 50},
                                               {.prompt = RandomTokens(9, 3),
                                                .num_new = 6,
                                                .sampling = WithLogprobs(),
                                                .forced = RandomTokens(6, 4)}};
  ShardOptions gpu_options = GpuOptions(model);
  gpu_options.activation_dtype = "f16";
  const ScriptResults gpu = RunForked(gpu_options, {.tp = 2}, sequences);
  ShardOptions cpu_options = GpuOptions(model);
  cpu_options.gpu = nullptr;
  cpu_options.activation_dtype = cpu_options.kv_cache_dtype = "f32";
  const ScriptResults cpu = RunForked(cpu_options, {.tp = 1}, sequences);
  for (size_t s = 0; s < cpu.size(); ++s) {
    for (size_t i = 0; i < cpu[s].size(); ++i) {
      const RowResult &a = gpu[s][i], &b = cpu[s][i];
      EXPECT_EQ(a.token, b.token);
      EXPECT_NEAR(a.logprob, b.logprob, kDistance);
      if (b.top_logprobs[0] - b.top_logprobs[1] > 2 * kDistance) {
        EXPECT_EQ(a.top_ids[0], b.top_ids[0]) << "sequence " << s << " token " << i;
      }
    }
  }
}
INSTANTIATE_TEST_SUITE_P(Families, GpuRanks, ::testing::Values("llama3", "qwen2", "qwen3"),
                         [](const auto& info) { return std::string(info.param); });

// The subject in chunks, with one that starts later and one that ends sooner: decodes by graphs,
// and mixed steps.
std::vector<TestSequence> AmongTwo(TestSequence subject) {
  subject.chunk = 33;
  return {{.prompt = RandomTokens(1, 8), .num_new = 9, .sampling = WithLogprobs(1)},
          subject,
          {.prompt = RandomTokens(21, 9), .num_new = 3, .first_step = 4, .chunk = 16}};
}

class GpuSchedules : public ::testing::TestWithParam<int> {};

// Streams that run whenever they like, threads and blocks in any order, two steps in flight, beside
// one step at a time in order.
TEST_P(GpuSchedules, GiveTheSameBits) {
  using emulation::AsyncCopies, emulation::Policy, emulation::Streams;
  const ModelFile model(ThreeHeads("llama3"));
  TestSequence subject = Subject(1);
  subject.num_new = 8;
  RankRun run{.tp = GetParam()};
  run.schedule.policy = Policy::kInOrder;
  run.schedule.cp_async = AsyncCopies::kLazy;
  run.schedule.streams = Streams::kSync;
  const std::vector<RowResult> alone = RunForked(GpuOptions(model), run, {subject})[0];
  run.ahead = true;
  run.schedule.streams = Streams::kDeferred;
  for (const auto& [policy, cp_async, seed, graphs] :
       {std::tuple(Policy::kReverse, AsyncCopies::kEager, 10, false),
        {Policy::kRandom, AsyncCopies::kRandom, 20, true},
        {Policy::kRandom, AsyncCopies::kRandom, 30, true}}) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    run.schedule.policy = policy;
    run.schedule.cp_async = cp_async;
    run.schedule.seed = static_cast<uint64_t>(seed);
    ExpectSameBits(RunForked(GpuOptions(model, graphs), run, AmongTwo(subject))[1], alone);
  }
}
INSTANTIATE_TEST_SUITE_P(Ranks, GpuSchedules, ::testing::Values(1, 2),
                         [](const auto& info) { return fmt::format("tp{}", info.param); });

}  // namespace
}  // namespace tandem::model::cuda
