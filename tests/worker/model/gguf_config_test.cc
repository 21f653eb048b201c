// What GGUF files say of their models, and how they are refused.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/common/gguf/gguf_builder.h"
#include "tests/support/tiny_model.h"
#include "worker/model/model_source.h"

namespace tandem::model {
namespace {

using tandem::testing::MakeTinyModel;
using tandem::testing::TinyModelOptions;
using ::testing::AllOf;
using ::testing::HasSubstr;

StatusOr<ModelConfig> Read(const std::string& bytes) {
  TANDEM_ASSIGN_OR_RETURN(auto file,
                          gguf::File::Parse(std::as_bytes(std::span(bytes)), "tiny.gguf"));
  TANDEM_ASSIGN_OR_RETURN(const auto source, ModelSource::FromGguf(std::move(file)));
  return source->config();
}

std::string Error(const TinyModelOptions& options, StatusCode code) {
  const auto config = Read(MakeTinyModel(options));
  EXPECT_EQ(config.status().code(), code);
  return std::string(Message(config.status()));
}

TEST(GgufConfig, ReadsTheShape) {
  const auto c = Read(MakeTinyModel());
  ASSERT_TRUE(c.ok()) << c.status();
  EXPECT_EQ(c->num_layers, 2);
  EXPECT_EQ(c->hidden, 96);
  EXPECT_EQ(c->num_heads, 6);
  EXPECT_EQ(c->num_kv_heads, 3);
  EXPECT_EQ(c->head_dim, 32);
  EXPECT_EQ(c->ffn, 160);
  EXPECT_EQ(c->vocab, 275);
  EXPECT_EQ(c->max_context, 512);
  EXPECT_EQ(c->ropes[0].theta, 10000);
  EXPECT_FLOAT_EQ(c->rms_eps, 1e-5f);
  EXPECT_FALSE(c->tied_embeddings);
  EXPECT_TRUE(Read(MakeTinyModel({.tied_embeddings = true}))->tied_embeddings);
}

TEST(GgufConfig, ReadsWhatFamiliesAdd) {
  using tandem::testing::TinyFamily;
  const auto qwen3 = Read(MakeTinyModel(TinyFamily("qwen3")));
  ASSERT_TRUE(qwen3.ok()) << qwen3.status();
  EXPECT_EQ(qwen3->architecture, "qwen3");
  EXPECT_EQ(qwen3->head_dim, 64);  // not hidden / heads
  EXPECT_TRUE(qwen3->qk_norm);
  EXPECT_FALSE(qwen3->qkv_bias);
  EXPECT_EQ(qwen3->ropes[0].pairs, kernels::RopePairs::kHalves);
  EXPECT_EQ(qwen3->ropes[0].scaling.type, kernels::RopeScaling::Type::kNone);

  auto options = TinyFamily("qwen2-yarn");
  options.rope_attention_factor = 2;
  const auto qwen2 = Read(MakeTinyModel(options));
  ASSERT_TRUE(qwen2.ok()) << qwen2.status();
  EXPECT_TRUE(qwen2->qkv_bias);
  EXPECT_FALSE(qwen2->qk_norm);
  EXPECT_EQ(qwen2->ropes[0].scaling.type, kernels::RopeScaling::Type::kYarn);
  EXPECT_EQ(qwen2->ropes[0].scaling.factor, 4);
  EXPECT_EQ(qwen2->ropes[0].scaling.original_context, 64);
  EXPECT_EQ(qwen2->ropes[0].scaling.attention_factor, 2 * kernels::YarnAttentionFactor(4));
  const kernels::RopeSpec rope = RopeSpecOf(qwen2->ropes[0], 100, 512);
  EXPECT_EQ(rope.dims, 32);
  EXPECT_EQ(rope.theta, 1e6);
  EXPECT_EQ(rope.pairs, kernels::RopePairs::kHalves);
  EXPECT_EQ(rope.scaling.factor, 4);

  const auto llama3 = Read(MakeTinyModel(TinyFamily("llama3")));
  ASSERT_TRUE(llama3.ok()) << llama3.status();
  EXPECT_EQ(llama3->ropes[0].freq_factors.size(), 32u);
  EXPECT_EQ(llama3->ropes[0].pairs, kernels::RopePairs::kAdjacent);
  EXPECT_TRUE(Read(MakeTinyModel(TinyFamily("llama-long")))->qkv_bias);
  EXPECT_EQ(Read(MakeTinyModel(TinyFamily("mistral")))->layers[1].window, 24);
  // A window that no context fills is none.
  EXPECT_EQ(Read(MakeTinyModel({.max_context = 512, .sliding_window = 512}))->layers[0].window, 0);
}

TEST(GgufConfig, NamesWhatAFamilyLacksOrHasTooMuch) {
  EXPECT_THAT(Error({.architecture = "qwen2", .without = "blk.1.attn_k.bias"},
                    StatusCode::kInvalidArgument),
              AllOf(HasSubstr("blk.1.attn_k.bias"), HasSubstr("missing")));
  EXPECT_THAT(Error({.architecture = "qwen3", .without = "blk.0.attn_q_norm.weight"},
                    StatusCode::kInvalidArgument),
              AllOf(HasSubstr("blk.0.attn_q_norm.weight of shape [1, 32]"), HasSubstr("missing")));
  EXPECT_THAT(Error({.architecture = "qwen2", .rope_freqs = true}, StatusCode::kUnimplemented),
              HasSubstr("rope_freqs.weight is not part of a qwen2 model"));
  EXPECT_THAT(Error({.architecture = "qwen2", .sliding_window = 64}, StatusCode::kUnimplemented),
              HasSubstr("qwen2.attention.sliding_window (64)"));
  EXPECT_THAT(Error({.rope_scaling = "longrope"}, StatusCode::kUnimplemented),
              HasSubstr("rope scaling \"longrope\" is not supported"));
}

TEST(GgufConfig, NamesTheArchitectureThatIsNotSupported) {
  EXPECT_THAT(Error({.architecture = "gpt2"}, StatusCode::kUnimplemented),
              AllOf(HasSubstr("tiny.gguf"), HasSubstr("\"gpt2\" is not supported"),
                    HasSubstr("\"llama\", \"smollm3\", \"qwen2\"")));
}

TEST(GgufConfig, NamesTheMissingTensorAndItsShape) {
  EXPECT_THAT(
      Error({.without = "blk.1.ffn_down.weight"}, StatusCode::kInvalidArgument),
      AllOf(HasSubstr("blk.1.ffn_down.weight"), HasSubstr("[96, 160]"), HasSubstr("missing")));
}

TEST(GgufConfig, NamesBothShapesOfAMisshapenTensor) {
  EXPECT_THAT(Error({.misshape = "blk.0.attn_k.weight"}, StatusCode::kInvalidArgument),
              AllOf(HasSubstr("blk.0.attn_k.weight"), HasSubstr("has shape [97, 96]"),
                    HasSubstr("expected [96, 96]")));
}

TEST(GgufConfig, RefusesHeadsThatDoNotDivide) {
  EXPECT_THAT(Error({.num_heads = 5, .num_kv_heads = 3}, StatusCode::kInvalidArgument),
              HasSubstr("3 KV heads do not divide 5 heads"));
}

TEST(GgufConfig, RefusesSizesThatAreNoMultipleOf32) {
  EXPECT_THAT(Error({.ffn = 168, .type = gguf::TensorType::kF32}, StatusCode::kUnimplemented),
              HasSubstr("168"));
}

// Small files that are not a model yet: what is missing is named before anything is computed.
TEST(GgufConfig, NamesAMissingOrSillySize) {
  gguf::GgufBuilder none;
  none.String("general.architecture", "llama");
  EXPECT_THAT(std::string(Message(Read(none.Build()).status())), HasSubstr("llama.block_count"));
  gguf::GgufBuilder zero;
  zero.String("general.architecture", "llama").Uint32("llama.block_count", 0);
  EXPECT_THAT(std::string(Message(Read(zero.Build()).status())),
              HasSubstr("llama.block_count is 0"));
  EXPECT_THAT(std::string(Message(Read(gguf::GgufBuilder().Build()).status())),
              HasSubstr("general.architecture"));
}

void AddSizes(const std::string& architecture, gguf::GgufBuilder& file) {
  file.String("general.architecture", architecture);
  for (const char* key : {"block_count", "embedding_length", "feed_forward_length",
                          "context_length", "attention.head_count"}) {
    file.Uint32(architecture + "." + key, 32);
  }
}

TEST(GgufConfig, RefusesWhatItWouldNotCompute) {
  const auto error = [](const gguf::GgufBuilder& file) {
    const auto config = Read(file.Build());
    EXPECT_EQ(config.status().code(), StatusCode::kUnimplemented);
    return std::string(Message(config.status()));
  };
  gguf::GgufBuilder experts;
  AddSizes("qwen2", experts);
  experts.Uint32("qwen2.expert_count", 8);
  EXPECT_THAT(error(experts), HasSubstr("8 experts"));
  gguf::GgufBuilder scale;
  scale.String("general.architecture", "qwen3").Float32("qwen3.logit_scale", 0.5f);
  EXPECT_THAT(error(scale), HasSubstr("qwen3.logit_scale (0.5)"));
  gguf::GgufBuilder encoder;
  encoder.String("general.architecture", "llama").Bool("llama.attention.causal", false);
  EXPECT_THAT(error(encoder), HasSubstr("not a causal model"));
}

}  // namespace
}  // namespace tandem::model
