// The GPU's forward pass beside the CPU's, on the emulation. The CPU's is in float32 with float32
// KV and weights that bf16 holds exactly, so what differs is the rounding of activations.
#include "worker/model/cuda/gpu_llama_runner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "kernels/comm/local_communicator.h"
#include "kernels/rng.h"
#include "tests/cuda_emulation/options.h"
#include "tests/worker/model/cuda/compare_rows.h"
#include "tests/worker/model/cuda/gpu_options.h"
#include "tests/worker/model/plain_llama.h"
#include "tests/worker/model/tiny_sequences.h"

namespace tandem::model::cuda {
namespace {

using tandem::testing::TinyFamily;
using tandem::testing::TinyModelOptions;
using ::testing::HasSubstr;

constexpr int kBlocks = 96;

TinyModelOptions GpuFamily(const std::string& name, gguf::TensorType type) {
  TinyModelOptions options = TinyFamily(name);
  options.head_dim = 64;
  options.num_heads = 4;
  options.num_kv_heads = 2;
  options.hidden = 128;
  options.type = options.embedding_type = type;
  return options;
}

// Tokens are forced, so that both compute the same.
std::vector<TestSequence> Forced(float temperature = 0) {
  std::vector<TestSequence> all;
  for (const auto& [prompt, num_new, first, chunk] :
       {std::array{70, 6, 0, 1000}, std::array{1, 9, 1, 1}, std::array{33, 7, 2, 13}}) {
    const auto seed = static_cast<unsigned>(all.size());
    all.push_back({.prompt = RandomTokens(prompt, 10 + seed),
                   .num_new = num_new,
                   .sampling = WithLogprobs(temperature),
                   .forced = RandomTokens(num_new, 20 + seed),
                   .first_step = first,
                   .chunk = chunk});
  }
  return all;
}

struct Case {
  const char* family;
  gguf::TensorType type;
};

class BesideCpu : public ::testing::TestWithParam<Case> {};

TEST_P(BesideCpu, LogprobsAreWithinTheRoundingOfActivations) {
  const ModelFile model(GpuFamily(GetParam().family, GetParam().type));
  const auto script = MakeScript(Forced());
  const ScriptResults cpu = RunScript(CpuOptions(model), 1, script, kBlocks);
  ShardOptions gpu = GpuOptions(model);
  const double bf16 = Distance(RunScript(gpu, 1, script, kBlocks), cpu);
  EXPECT_LT(bf16, kBf16Distance);
  gpu.activation_dtype = "f16";
  const double f16 = Distance(RunScript(gpu, 1, script, kBlocks), cpu);
  EXPECT_LT(f16, kF16Distance);
  std::printf("largest difference of a logprob: bf16 %.4f, f16 %.4f\n", bf16, f16);
}

INSTANTIATE_TEST_SUITE_P(Families, BesideCpu,
                         ::testing::Values(Case{"llama3", gguf::TensorType::kF32},
                                           Case{"mistral", gguf::TensorType::kF16},
                                           Case{"qwen2", gguf::TensorType::kF32},
                                           Case{"qwen2-yarn", gguf::TensorType::kQ8_0},
                                           Case{"qwen3", gguf::TensorType::kF32},
                                           Case{"llama3", gguf::TensorType::kQ4_0},
                                           Case{"qwen3", gguf::TensorType::kQ4_1}),
                         [](const auto& info) {
                           std::string name = fmt::format("{}_{}", info.param.family,
                                                          gguf::TypeName(info.param.type));
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

// What is drawn lies where the uniform of (seed, sequence, position) falls in the distribution of
// the plain forward pass, up to the rounding of activations.
TEST(GpuSampling, DrawsTheUniformThatTheCpuDraws) {
  const ModelFile model(GpuFamily("llama3", gguf::TensorType::kF32));
  TestSequence sequence{.prompt = RandomTokens(20, 3), .num_new = 40, .sampling = WithLogprobs(1)};
  ShardOptions options = GpuOptions(model);
  options.max_seqs = 1;
  const auto results = RunScript(options, 1, MakeScript({sequence}), kBlocks)[0];
  std::vector<TokenId> tokens = sequence.prompt;
  for (const RowResult& result : results) tokens.push_back(result.token);
  const auto file = gguf::File::Open(model.path());
  ASSERT_TRUE(file.ok());
  const auto logprobs = PlainLlama(**file).Logprobs(tokens);
  for (size_t i = 0; i < results.size(); ++i) {
    const size_t position = sequence.prompt.size() + i;
    const double u = kernels::UniformDraw(sequence.sampling.seed, 0, position);
    double below = 0;
    for (TokenId t = 0; t < results[i].token; ++t) below += std::exp(logprobs[position - 1][t]);
    const double upto = below + std::exp(logprobs[position - 1][results[i].token]);
    EXPECT_GT(u, below - 0.02) << "position " << position;
    EXPECT_LT(u, upto + 0.02) << "position " << position;
  }
}

class GpuInvariance : public ::testing::Test {
 protected:
  ScriptResults Run(const std::vector<TestSequence>& sequences, int max_seqs, bool graphs = true) {
    ShardOptions options = GpuOptions(model_, graphs);
    options.max_seqs = max_seqs;
    return RunScript(options, 1, MakeScript(sequences), kManyBlocks);
  }
  static TestSequence ShortSubject(float temperature) {
    TestSequence subject = Subject(temperature);
    subject.num_new = 12;
    return subject;
  }
  static constexpr int kManyBlocks = 240;
  ModelFile model_{GpuFamily("llama3", gguf::TensorType::kQ4_0)};
};

TEST_F(GpuInvariance, ASequenceIsTheSameBitsInAnyBatchChunkAndGraph) {
  TestSequence subject = ShortSubject(1);
  const std::vector<RowResult> alone = Run({subject}, 1)[0];
  subject.chunk = 7;
  ExpectSameBits(Run({subject}, 1, /*graphs=*/false)[0], alone);
  subject.chunk = 33;
  constexpr int kSequences = 6;
  ExpectSameBits(Run(AmongOthers(subject, kSequences), 8)[kSequences / 2 + 1], alone);
}

TEST_F(GpuInvariance, CachedBlocksGiveTheSameBits) {
  const TestSequence subject = ShortSubject(0);
  const std::vector<RowResult> alone = Run({subject}, 1)[0];
  std::vector<TestSequence> sharing = SharingBlocks(subject);
  sharing[1].chunk = 5;
  const auto both = Run(sharing, 2);
  ExpectSameBits(both[0], alone);
  ExpectSameBits(both[1], alone);
}

class OneGpu : public ::testing::Test {
 protected:
  std::unique_ptr<ModelRunner> Load(ShardOptions options) {
    auto runner = ModelRunner::Load(options, comm_);
    TANDEM_CHECK(runner.ok()) << Message(runner.status());
    return std::move(runner).value();
  }
  Status LoadError(const ShardOptions& options) {
    return ModelRunner::Load(options, comm_).status();
  }
  ModelFile model_{GpuFamily("llama3", gguf::TensorType::kF32)};
  kernels::LocalCommunicator comm_;
};

TEST_F(OneGpu, KvMemoryIsWhatIsLeftUnlessItIsSaid) {
  ShardOptions options = GpuOptions(model_);
  options.kv_memory_bytes = 1 << 20;
  const int said = Load(options)->info().num_blocks;
  constexpr int64_t kBlockBytes = 16 * (2 * 2 * 2 * 2 * 64 + 4);  // K and V, bytes, layers, heads
  EXPECT_EQ(said, (1 << 20) / kBlockBytes);
  options.kv_memory_bytes = 0;
  const int64_t all = Load(options)->info().num_blocks;
  EXPECT_GT(all, 100 * said);
  EXPECT_LT(all * kBlockBytes, emulation::GetOptions().memory * 19 / 20);  // the rest is for others
  options.kv_memory_bytes = int64_t{1} << 40;
  const Status much = LoadError(options);
  EXPECT_EQ(much.code(), StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(Message(much)), HasSubstr("lower groups[].kv_memory"));
}

TEST_F(OneGpu, WhatDoesNotFitSaysHowMuchIsNeededAndWhatLowersIt) {
  ShardOptions options = GpuOptions(model_);
  options.max_step_tokens = 1 << 20;
  const Status status = LoadError(options);
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(Message(status)), HasSubstr("GPU 0 has "));
  EXPECT_THAT(std::string(Message(status)), HasSubstr("max_step_tokens"));
}

TEST_F(OneGpu, RefusesWhatItCannotCompute) {
  ShardOptions options = GpuOptions(model_);
  options.activation_dtype = "int8";
  EXPECT_THAT(std::string(Message(LoadError(options))), HasSubstr("known: bf16, f16"));
  options = GpuOptions(model_);
  options.device_index = 50;
  EXPECT_EQ(ModelRunner::Check(options, 0, 1).status().code(), StatusCode::kInvalidArgument);
  const ModelFile narrow(TinyModelOptions{});  // head_dim 32
  EXPECT_THAT(std::string(Message(LoadError(GpuOptions(narrow)))), HasSubstr("64, 96 and 128"));
}

TEST_F(OneGpu, IdleStepsCountButComputeNothing) {
  const auto runner = Load(GpuOptions(model_, /*graphs=*/false));
  ASSERT_TRUE(runner->Prepare(8).ok());
  StepPlan plan;
  std::vector<RowResult> results(4);
  plan.step = 5;
  EXPECT_TRUE(runner->Run(plan, results).ok());
  plan.step = 7;
  EXPECT_EQ(runner->Run(plan, results).code(), StatusCode::kInternal);
}

}  // namespace
}  // namespace tandem::model::cuda
