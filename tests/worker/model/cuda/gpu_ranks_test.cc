// Ranks on GPUs as processes, as a worker's are: sums over peer memory and NCCL, the parts of the
// logits gathered. The parent touches no device, so that it may fork.
#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "tests/cuda_emulation/options.h"
#include "tests/support/fork_rank.h"
#include "tests/support/shared_memory.h"
#include "tests/worker/model/cuda/compare_rows.h"
#include "tests/worker/model/cuda/gpu_options.h"
#include "tests/worker/model/tiny_sequences.h"

namespace tandem::model::cuda {
namespace {

using tandem::testing::ForkedRank;
using tandem::testing::SharedMemory;
using tandem::testing::TinyFamily;
using tandem::testing::TinyModelOptions;

constexpr int kBlocks = 240;
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
  const ScriptResults cpu = RunForked(CpuOptions(model), {.tp = 1}, sequences);
  EXPECT_LT(Distance(gpu, cpu), kF16Distance);
}
INSTANTIATE_TEST_SUITE_P(Families, GpuRanks, ::testing::Values("llama3", "qwen2", "qwen3"),
                         [](const auto& info) { return std::string(info.param); });

// The subject is preempted after a few tokens and goes on later, its first blocks still cached,
// with other ones behind them: what it had was taken. Meanwhile others come and go in the same
// slots, one that shares its cached blocks while it runs: decodes by graphs, and mixed steps.
std::vector<TestSequence> WithPreemption(const TestSequence& subject,
                                         const std::vector<RowResult>& alone) {
  constexpr int kBefore = 3, kShared = 4;  // tokens sampled until then; cached blocks
  TestSequence first = subject, resumed = subject, sharing = subject;
  first.num_new = kBefore;
  first.chunk = 33;
  first.blocks = {50, 3, 17, 40, 9};
  for (int i = 0; i < kBefore; ++i) resumed.prompt.push_back(alone[i].token);
  resumed.num_new = subject.num_new - kBefore;
  resumed.sampling.num_prompt_tokens = static_cast<int32_t>(subject.prompt.size());
  resumed.chunk = 7;
  resumed.blocks = {50, 3, 17, 40, 21, 60};
  resumed.slot = 1;
  sharing.prompt.resize(kShared * kTestBlockSize);
  for (const TokenId token : {5, 80, 3}) sharing.prompt.push_back(token);
  sharing.num_new = 4;
  sharing.sampling.seed = 7;
  sharing.blocks = {50, 3, 17, 40, 33};
  resumed.num_cached = sharing.num_cached = kShared * kTestBlockSize;
  sharing.first_step = 3;  // `first` samples in steps 2 to 4
  resumed.first_step = 6;
  return {
      {.prompt = RandomTokens(1, 8), .num_new = 5, .sampling = WithLogprobs(1), .blocks = {2}},
      first,
      sharing,
      {.prompt = RandomTokens(20, 9),
       .num_new = 3,
       .sampling = WithLogprobs(),
       .first_step = 5,
       .chunk = 16,
       .blocks = {9, 34},
       .slot = 0},
      resumed,
  };
}

struct ScheduleCase {
  int tp;
  const char* family;
  const char* activations;
  double distance;
};

class GpuSchedules : public ::testing::TestWithParam<ScheduleCase> {
 protected:
  ShardOptions Options(bool graphs = true) const {
    ShardOptions options = GpuOptions(model_, graphs);
    options.activation_dtype = options.kv_cache_dtype = GetParam().activations;
    return options;
  }
  // By the CPU, the same tokens forced.
  void ExpectNearCpu(std::vector<TestSequence> sequences, const ScriptResults& gpu) const {
    for (size_t s = 0; s < gpu.size(); ++s) {
      for (const RowResult& row : gpu[s]) sequences[s].forced.push_back(row.token);
    }
    const double distance = Distance(gpu, RunForked(CpuOptions(model_), {.tp = 1}, sequences));
    EXPECT_LT(distance, GetParam().distance);
    std::printf("largest difference of a logprob: %.4f\n", distance);
  }
  ModelFile model_{ThreeHeads(GetParam().family)};
};

// Streams that run whenever they like, threads and blocks in any order, two steps in flight, beside
// the subject alone, one step at a time in order; every row beside the CPU's.
TEST_P(GpuSchedules, GiveTheSameBits) {
  using emulation::AsyncCopies, emulation::Policy, emulation::Streams;
  TestSequence subject = Subject(1);
  subject.num_new = 8;
  subject.sampling.presence_penalty = 0.5f;  // the prompt's tokens have none, before and after
  RankRun run{.tp = GetParam().tp};
  run.schedule.policy = Policy::kInOrder;
  run.schedule.cp_async = AsyncCopies::kLazy;
  run.schedule.streams = Streams::kSync;
  const std::vector<RowResult> alone = RunForked(Options(), run, {subject})[0];
  const std::vector<TestSequence> sequences = WithPreemption(subject, alone);
  ScriptResults before;
  run.ahead = true;
  run.schedule.streams = Streams::kDeferred;
  for (const auto& [policy, cp_async, seed, graphs] :
       {std::tuple(Policy::kReverse, AsyncCopies::kEager, 10, false),
        {Policy::kRandom, AsyncCopies::kRandom, 20, true}}) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    run.schedule.policy = policy;
    run.schedule.cp_async = cp_async;
    run.schedule.seed = static_cast<uint64_t>(seed);
    const ScriptResults results = RunForked(Options(graphs), run, sequences);
    std::vector<RowResult> whole = results[1];
    whole.insert(whole.end(), results[4].begin(), results[4].end());
    ExpectSameBits(whole, alone);
    for (size_t s = 0; s < before.size(); ++s) ExpectSameBits(results[s], before[s]);
    before = results;
  }
  ExpectNearCpu(sequences, before);
}
INSTANTIATE_TEST_SUITE_P(Ranks, GpuSchedules,
                         ::testing::Values(ScheduleCase{1, "mistral", "f16", kF16Distance},
                                           ScheduleCase{1, "qwen2", "bf16", kBf16Distance},
                                           ScheduleCase{2, "qwen3", "bf16", kBf16Distance}),
                         [](const auto& info) {
                           return fmt::format("tp{}_{}", info.param.tp, info.param.family);
                         });

}  // namespace
}  // namespace tandem::model::cuda
