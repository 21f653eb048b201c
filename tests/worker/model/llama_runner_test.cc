#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "kernels/comm/local_communicator.h"
#include "kernels/make_ops.h"
#include "kernels/reference/sample.h"
#include "tests/support/count_allocations.h"
#include "tests/worker/model/plain_llama.h"
#include "tests/worker/model/script.h"
#include "tests/worker/model/tiny_sequences.h"
#include "worker/model/llama_runner.h"

namespace tandem::model {
namespace {

using tandem::testing::TinyModelOptions;
using ::testing::HasSubstr;

constexpr int kBlocks = 256;

struct Numbers {
  const char* activations;
  const char* kv;
};
constexpr Numbers kExact = {"f32", "f32"};
constexpr Numbers kServed = {"int8", "bf16"};

ShardOptions Options(const ModelFile& file, const std::string& set, Numbers numbers) {
  ShardOptions options;
  options.model_path = file.path();
  options.instruction_set = set;
  options.activation_dtype = numbers.activations;
  options.kv_cache_dtype = numbers.kv;
  options.kv_memory_bytes = 64 << 20;
  options.max_seqs = 16;
  options.max_step_tokens = 512;
  return options;
}

// Races do not depend on the plain loops, which ThreadSanitizer slows to minutes: there they run
// only where nothing else can.
std::vector<std::string> InstructionSets() {
  std::vector<std::string> sets;
  for (const char* name : {"avx2", "avx512", "avx512_bf16"}) {
    kernels::OpsOptions options;
    options.instruction_set = *kernels::ParseInstructionSet(name);
    if (kernels::MakeOps(options).ok()) sets.push_back(name);
  }
#ifdef __SANITIZE_THREAD__
  if (!sets.empty()) return sets;
#endif
  sets.push_back("reference");
  return sets;
}

// Largest difference of a logprob from the plain forward pass, over the top 20 of every token of
// `forced`, given after `prompt` and each other.
double DistanceFromPlain(const PlainLlama& plain, const std::vector<TokenId>& prompt,
                         const std::vector<TokenId>& forced, const std::vector<RowResult>& got) {
  std::vector<TokenId> all = prompt;
  all.insert(all.end(), forced.begin(), forced.end());
  const auto logprobs = plain.Logprobs(all);
  double most = 0;
  for (size_t i = 0; i < forced.size(); ++i) {
    const auto& expected = logprobs[prompt.size() - 1 + i];
    EXPECT_EQ(got[i].token, forced[i]);
    EXPECT_EQ(got[i].num_top, 20);
    most = std::max(most, std::abs(got[i].logprob - expected[forced[i]]));
    for (int k = 0; k < got[i].num_top; ++k) {
      most = std::max(most, std::abs(got[i].top_logprobs[k] - expected[got[i].top_ids[k]]));
    }
  }
  return most;
}

class PlainForward : public ::testing::TestWithParam<TinyModelOptions> {};

TEST_P(PlainForward, IsMatchedByEveryInstructionSet) {
  const ModelFile model(GetParam());
  auto file = gguf::File::Open(model.path());
  ASSERT_TRUE(file.ok()) << file.status();
  const PlainLlama plain(**file);
  const auto prompt = RandomTokens(37, 1);
  const auto forced = RandomTokens(12, 2);
  const auto script = MakeScript({{.prompt = prompt,
                                   .num_new = 12,
                                   .sampling = WithLogprobs(),
                                   .forced = forced,
                                   .chunk = 20}});
  for (const std::string& set : InstructionSets()) {
    SCOPED_TRACE(set);
    for (const int tp : {1, 2}) {
      const auto exact = RunScript(Options(model, set, kExact), tp, script, kBlocks);
      EXPECT_LT(DistanceFromPlain(plain, prompt, forced, exact[0]), 1e-3) << "tp " << tp;
    }
    const auto served = RunScript(Options(model, set, kServed), 1, script, kBlocks);
    EXPECT_LT(DistanceFromPlain(plain, prompt, forced, served[0]), 0.35);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Types, PlainForward,
    ::testing::Values(TinyModelOptions{.type = gguf::TensorType::kQ4_1},
                      TinyModelOptions{.type = gguf::TensorType::kQ4_0},
                      TinyModelOptions{.type = gguf::TensorType::kQ8_0},
                      TinyModelOptions{.type = gguf::TensorType::kF32,
                                       .embedding_type = gguf::TensorType::kF32},
                      TinyModelOptions{.tied_embeddings = true,
                                       .type = gguf::TensorType::kF16,
                                       .embedding_type = gguf::TensorType::kF16},
                      TinyModelOptions{.num_heads = 3, .head_dim = 64, .hidden = 192, .ffn = 96}),
    [](const auto& info) { return std::to_string(info.index); });

// What a family adds to Llama, and quantized weights with it.
std::vector<TinyModelOptions> Families() {
  std::vector<TinyModelOptions> all;
  for (const std::string& name : tandem::testing::TinyFamilies()) {
    all.push_back(tandem::testing::TinyFamily(name));
  }
  all.push_back(tandem::testing::TinyFamily("qwen3"));
  all.back().head_dim = 96;
  all.back().type = gguf::TensorType::kQ4_0;
  all.push_back(tandem::testing::TinyFamily("qwen2"));
  all.back().head_dim = 128;
  all.back().type = gguf::TensorType::kQ8_0;
  return all;
}
INSTANTIATE_TEST_SUITE_P(Families, PlainForward, ::testing::ValuesIn(Families()),
                         [](const auto& info) { return std::to_string(info.index); });

TEST(LlamaRunner, AgreesAcrossRanksInFloat32) {
  const ModelFile model;
  const auto script = MakeScript({{.prompt = RandomTokens(50, 3),
                                   .num_new = 20,
                                   .sampling = WithLogprobs(),
                                   .forced = RandomTokens(20, 4)}});
  for (const std::string& set : InstructionSets()) {
    const ShardOptions options = Options(model, set, kExact);
    const auto alone = RunScript(options, 1, script, kBlocks);
    for (const int tp : {2, 3}) {
      const auto split = RunScript(options, tp, script, kBlocks);
      for (size_t i = 0; i < alone[0].size(); ++i) {
        EXPECT_NEAR(split[0][i].logprob, alone[0][i].logprob, 1e-3) << set << " tp " << tp;
        for (int k = 0; k < 20; ++k) {
          EXPECT_NEAR(split[0][i].top_logprobs[k], alone[0][i].top_logprobs[k], 1e-3);
        }
      }
    }
  }
}

void CheckInvariance(const ShardOptions& options, int tp, float temperature) {
  const TestSequence subject = Subject(temperature);
  const auto run = [&](const std::vector<TestSequence>& sequences) {
    return RunScript(options, tp, MakeScript(sequences), kBlocks);
  };
  const std::vector<RowResult> alone = run({subject})[0];

  ExpectSameBits(run(AmongOthers(subject))[9], alone);
  for (const int chunk : {1, 7, 16, 33}) {
    TestSequence chunked = subject;
    chunked.chunk = chunk;
    ExpectSameBits(run({chunked})[0], alone);
  }
  std::vector<TestSequence> sharing = SharingBlocks(subject);
  sharing[1].chunk = 5;
  const auto both = run(sharing);
  ExpectSameBits(both[0], alone);
  ExpectSameBits(both[1], alone);
}

class BatchInvariance : public ::testing::TestWithParam<std::string> {};

TEST_P(BatchInvariance, HoldsBitwise) {
  const ModelFile model;
  for (const Numbers numbers : {kServed, kExact}) {
    for (const int tp : {1, 2}) {
      SCOPED_TRACE(std::string(numbers.activations) + " tp " + std::to_string(tp));
      CheckInvariance(Options(model, GetParam(), numbers), tp, tp == 1 ? 0 : 1);
    }
  }
}

TEST_P(BatchInvariance, HoldsForFamilies) {
  for (const char* family : {"mistral", "qwen3"}) {
    SCOPED_TRACE(family);
    const ModelFile model(tandem::testing::TinyFamily(family));
    CheckInvariance(Options(model, GetParam(), kServed), 2, 0);
  }
}

TEST_P(BatchInvariance, HoldsForAnyNumberOfThreads) {
  const ModelFile model;
  ShardOptions options = Options(model, GetParam(), kServed);
  const auto script = MakeScript({Subject(1)});
  const auto one = RunScript(options, 1, script, kBlocks);
  options.threads = 3;
  ExpectSameBits(RunScript(options, 1, script, kBlocks)[0], one[0]);
}

INSTANTIATE_TEST_SUITE_P(InstructionSets, BatchInvariance, ::testing::ValuesIn(InstructionSets()),
                         [](const auto& info) { return info.param; });

TEST(LlamaRunner, SampledTokensFollowTheSeed) {
  const ModelFile model;
  const ShardOptions options = Options(model, "auto", kServed);
  TestSequence a = Subject(1), b = Subject(1), twin = Subject(1);
  b.sampling.seed = 43;
  twin.sampling.sequence_index = 1;
  const auto results = RunScript(options, 1, MakeScript({a, b, twin, a}), kBlocks);
  const auto ids = [&](int i) {
    std::vector<TokenId> tokens;
    for (const RowResult& r : results[i]) tokens.push_back(r.token);
    return tokens;
  };
  EXPECT_NE(ids(0), ids(1));
  EXPECT_NE(ids(0), ids(2));
  EXPECT_EQ(ids(0), ids(3));
}

TestSequence Penalized(float temperature) {
  TestSequence s = Subject(temperature);
  s.sampling.repetition_penalty = 1.3f;
  s.sampling.presence_penalty = 0.5f;
  s.sampling.frequency_penalty = 0.25f;
  return s;
}

// What a penalty goes by is the sequence's tokens, however they came to be in its blocks.
TEST_P(BatchInvariance, HoldsForPenalties) {
  const ModelFile model;
  for (const int tp : {1, 2}) {
    SCOPED_TRACE(tp);
    const auto run = [&](const std::vector<TestSequence>& sequences) {
      return RunScript(Options(model, GetParam(), kServed), tp, MakeScript(sequences), kBlocks);
    };
    const TestSequence subject = Penalized(tp == 1 ? 0 : 1);
    const std::vector<RowResult> alone = run({subject})[0];
    ExpectSameBits(run(AmongOthers(subject))[9], alone);
    TestSequence chunked = subject;
    chunked.chunk = 7;
    ExpectSameBits(run({chunked})[0], alone);

    // Tokens that another sequence computed.
    std::vector<TestSequence> sharing = SharingBlocks(subject);
    sharing[0].sampling = {};
    ExpectSameBits(run(sharing)[1], alone);

    // Preempted after 10 tokens, then computed again up to there, in part from the cache.
    TestSequence resumed = subject;
    resumed.sampling.num_prompt_tokens = static_cast<int>(subject.prompt.size());
    for (int i = 0; i < 10; ++i) resumed.prompt.push_back(alone[i].token);
    resumed.num_new -= 10;
    TestSequence computes_it = resumed;
    computes_it.sampling = {};
    computes_it.num_new = 1;
    computes_it.blocks = {7, 3, 200, 11, 90, 41, 8};
    TestSequence from_cache = resumed;
    from_cache.blocks = {7, 3, 200, 11, 90, 21, 22};
    from_cache.num_cached = 80;
    from_cache.first_step = 1;
    const std::vector<RowResult> rest(alone.begin() + 10, alone.end());
    ExpectSameBits(run({resumed})[0], rest);
    ExpectSameBits(run({computes_it, from_cache})[1], rest);
  }
}

StepPlan Idle(uint64_t step) {
  StepPlan plan;
  plan.step = step;
  return plan;
}

// One runner of one rank, for what needs no group.
class OneRank : public ::testing::Test {
 protected:
  void SetUp() override {
    auto runner = ModelRunner::Load(Options(model_, "auto", kServed), comm_);
    ASSERT_TRUE(runner.ok()) << runner.status();
    runner_ = std::move(runner).value();
    ASSERT_TRUE(runner_->Prepare(kBlocks).ok());
  }
  Status Run(const StepPlan& plan) {
    std::vector<RowResult> results(plan.rows.size());
    return runner_->Run(plan, results);
  }
  ModelFile model_;
  kernels::LocalCommunicator comm_;
  std::unique_ptr<ModelRunner> runner_;
};

TEST_F(OneRank, SaysWhatTheWorkerMustKnow) {
  const ModelInfo& info = runner_->info();
  EXPECT_EQ(info.architecture, "llama");
  EXPECT_EQ(info.vocab_size, kVocab);
  EXPECT_EQ(info.max_context, 512);
  EXPECT_EQ(info.num_blocks, kBlocks);
  EXPECT_EQ(info.fingerprint.size(), 32u);
  EXPECT_FALSE(info.instruction_set.empty());
}

// Every token is what the reference draws from the same logits and all tokens before.
TEST_F(OneRank, PenaltiesAreThoseOfTheReference) {
  auto& runner = static_cast<LlamaRunner&>(*runner_);
  const TestSequence sequence = Penalized(0.7f);
  const auto script = MakeScript({sequence});
  std::vector<int32_t> tokens = sequence.prompt;
  std::vector<RowResult> results(1);
  int changed = 0;
  for (size_t i = 0; i < script.size(); ++i) {
    ASSERT_TRUE(runner_->Run(script[i].View(i + 1), results).ok());
    kernels::SamplingParams params{.temperature = 0.7f, .seed = 42};
    params.position = tokens.size();
    params.num_logprobs = 20;
    const std::span<const float> logits(runner.logits().row(0), kVocab);
    changed += kernels::SampleReference(logits, params, {}).token != results[0].token;
    params.repetition_penalty = 1.3f;
    params.presence_penalty = 0.5f;
    params.frequency_penalty = 0.25f;
    const int32_t whole = 0;
    const kernels::TokenHistory history = {tokens.data(), &whole, static_cast<int>(tokens.size()),
                                           static_cast<int>(tokens.size()),
                                           static_cast<int>(sequence.prompt.size())};
    const kernels::SampledToken want = kernels::SampleReference(logits, params, history);
    ASSERT_EQ(results[0].token, want.token) << "token " << i;
    EXPECT_NEAR(results[0].logprob, want.logprob, 1e-5);
    tokens.push_back(results[0].token);
  }
  EXPECT_GT(changed, 0) << "the penalties changed nothing";
}

TEST_F(OneRank, AllocatesNothingInASteadyDecode) {
  std::vector<TestSequence> sequences;
  for (int i = 0; i < 16; ++i) {
    sequences.push_back({.prompt = RandomTokens(20, i), .num_new = 40, .sampling = WithLogprobs()});
  }
  const auto script = MakeScript(sequences);
  std::vector<RowResult> results(16);
  for (size_t i = 0; i < script.size(); ++i) {
    const StepPlan plan = script[i].View(i + 1);
    const int64_t before = tandem::testing::NumAllocations();
    ASSERT_TRUE(runner_->Run(plan, results).ok());
    if (i >= 2) {
      ASSERT_EQ(tandem::testing::NumAllocations(), before) << "step " << i;
    }
  }
}

TEST_F(OneRank, IdleStepsCountButComputeNothing) {
  EXPECT_TRUE(Run(Idle(5)).ok());
  EXPECT_TRUE(Run(Idle(6)).ok());
  const Status gap = Run(Idle(8));
  EXPECT_EQ(gap.code(), StatusCode::kInternal);
  EXPECT_THAT(std::string(Message(gap)), HasSubstr("step 8 after step 6"));
}

TEST_F(OneRank, ATokenOutsideTheVocabularyIsAnError) {
  const auto script = MakeScript({{.prompt = {1, kVocab}}});
  EXPECT_THAT(std::string(Message(Run(script[0].View(1)))), HasSubstr("token 275"));
}

TEST_F(OneRank, AnAbortedGroupEndsTheStep) {
  comm_.Abort();
  EXPECT_EQ(Run(Idle(1)).code(), StatusCode::kUnavailable);
  const auto script = MakeScript({{.prompt = {1, 2}}});
  EXPECT_EQ(Run(script[0].View(2)).code(), StatusCode::kUnavailable);
}

TEST(LlamaRunner, ARankThatStopsIsSeenByTheOthersAfterAbort) {
  const ModelFile model;
  const auto script = MakeScript({Subject(0)});
  tandem::testing::SpawnRanks(3, [&](kernels::Communicator& comm) {
    auto runner = ModelRunner::Load(Options(model, "auto", kServed), comm);
    ASSERT_TRUE(runner.ok());
    ASSERT_TRUE((*runner)->Prepare(kBlocks).ok());
    std::vector<RowResult> results(4);
    ASSERT_TRUE((*runner)->Run(script[0].View(1), results).ok());
    comm.Barrier();  // nobody aborts while another is still in step 1
    if (comm.rank() == 2) {
      comm.Abort();
    } else {
      EXPECT_EQ((*runner)->Run(script[1].View(2), results).code(), StatusCode::kUnavailable);
    }
  });
}

std::string LoadError(const ShardOptions& options, StatusCode code, int tp = 1) {
  std::string message;
  tandem::testing::SpawnRanks(tp, [&](kernels::Communicator& comm) {
    const auto runner = ModelRunner::Load(options, comm);
    EXPECT_EQ(runner.status().code(), code) << runner.status();
    if (comm.rank() == 0) message = std::string(Message(runner.status()));
  });
  return message;
}

TEST(LlamaRunner, LoadErrorsSayWhatWouldWork) {
  const ModelFile model;
  ShardOptions options = Options(model, "auto", kServed);
  options.activation_dtype = "fp8";
  EXPECT_THAT(LoadError(options, StatusCode::kInvalidArgument),
              HasSubstr("known: int8, bf16, f32"));
  options = Options(model, "auto", kServed);
  options.kv_cache_dtype = "fp8";
  EXPECT_THAT(LoadError(options, StatusCode::kInvalidArgument),
              HasSubstr("known: bf16, int8, f32"));
  options = Options(model, "sse2", kServed);
  EXPECT_THAT(LoadError(options, StatusCode::kInvalidArgument), HasSubstr("\"sse2\""));
  options = Options(model, "auto", kServed);
  options.kv_memory_bytes = 1000;
  EXPECT_THAT(LoadError(options, StatusCode::kResourceExhausted), HasSubstr("1000 bytes"));
  options = Options(model, "auto", kServed);
  EXPECT_THAT(LoadError(options, StatusCode::kInvalidArgument, 4), HasSubstr("3 KV heads"));
  options.model_path = "/nonexistent/model.gguf";
  EXPECT_THAT(LoadError(options, StatusCode::kNotFound), HasSubstr("/nonexistent/model.gguf"));
}

TEST(LlamaRunner, MaxContextIsTheLesserOfFileAndOptions) {
  const ModelFile model;
  kernels::LocalCommunicator comm;
  ShardOptions options = Options(model, "auto", kServed);
  options.max_context = 100;
  EXPECT_EQ((*ModelRunner::Load(options, comm))->info().max_context, 100);
  options.max_context = 100'000;
  EXPECT_EQ((*ModelRunner::Load(options, comm))->info().max_context, 512);
}

TEST(ModelRunner, WhatTheHeaderTellsIsRefusedBeforeAnythingIsLoaded) {
  const ModelFile file;
  ShardOptions options = Options(file, "auto", kServed);
  const StatusOr<int> context = ModelRunner::Check(options, 0, 1);
  ASSERT_TRUE(context.ok()) << Message(context.status());
  EXPECT_GT(*context, 0);
  options.kv_memory_bytes = int64_t{16} << 40;
  const Status large = ModelRunner::Check(options, 0, 1).status();
  EXPECT_EQ(large.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(Message(large)), HasSubstr("lower groups[].kv_memory"));
  options.model_path = "/no/such/model.gguf";
  EXPECT_FALSE(ModelRunner::Check(options, 0, 1).ok());
}

}  // namespace
}  // namespace tandem::model
