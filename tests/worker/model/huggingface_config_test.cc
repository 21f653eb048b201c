// What of config.json is refused, and by which name. Starts from a checkpoint that is fine.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <boost/json.hpp>
#include <filesystem>
#include <fstream>

#include "worker/model/model_source.h"

namespace tandem::model {
namespace {

using ::testing::HasSubstr;

class HuggingFaceConfig : public ::testing::Test {
 protected:
  HuggingFaceConfig() : path_(::testing::TempDir() + "tandem_hf_" + std::to_string(getpid())) {}
  ~HuggingFaceConfig() override { std::filesystem::remove_all(path_); }

  // A copy of the checkpoint with `changes` in its config.json; null removes a key.
  StatusOr<std::unique_ptr<ModelSource>> Open(const std::string& checkpoint, const char* changes) {
    const std::filesystem::path from = "tests/golden/checkpoints/" + checkpoint;
    std::filesystem::remove_all(path_);
    std::filesystem::copy(from, path_);
    std::ifstream file(from / "config.json");
    std::stringstream text;
    text << file.rdbuf();
    auto config = boost::json::parse(text.str()).as_object();
    const auto changed = boost::json::parse(changes).as_object();
    for (const auto& [key, value] : changed) config[key] = value;
    std::ofstream(path_ + "/config.json") << boost::json::serialize(config);
    return ModelSource::Open(path_);
  }
  std::string Error(const std::string& checkpoint, const char* changes) {
    const auto source = Open(checkpoint, changes);
    return source.ok() ? "no error" : std::string(Message(source.status()));
  }
  std::string path_;
};

TEST_F(HuggingFaceConfig, NamesWhatIsNotSupported) {
  struct Case {
    const char *checkpoint, *changes, *error;
  };
  constexpr Case kCases[] = {
      {"llama2", R"({})", "no error"},
      {"llama2", R"({"model_type":"gpt2"})", "model_type \"gpt2\" is not supported; supported: "},
      {"llama2", R"({"model_type":null})", "key model_type is missing"},
      {"llama2", R"({"mlp_bias":true})", "mlp_bias is not supported"},
      {"llama2", R"({"quantization_config":{}})", "quantization_config is not supported"},
      {"llama2", R"({"sliding_window":16})", "sliding_window is not supported for llama"},
      {"llama2", R"({"hidden_act":"relu"})", "hidden_act \"relu\" is not supported"},
      {"llama2", R"({"hidden_size":0})", "hidden_size is 0"},
      {"llama2", R"({"hidden_size":"x"})", "hidden_size is not an integer"},
      {"llama2", R"({"intermediate_size":48})", "multiples of 32"},
      {"llama2", R"({"num_hidden_layers":1000000})", "1000000 layers, but only"},
      {"llama2", R"({"num_hidden_layers":1})", "tensor model.layers.1."},
      {"llama2", R"({"num_hidden_layers":3})", "tensor blk.2.attn_norm.weight of shape [1, 32]"},
      {"llama2", R"({"vocab_size":97})",
       "tensor model.embed_tokens.weight has shape [96, 32], expected [97, 32]"},
      {"llama2", R"({"attention_bias":true})", "tensor blk.0.attn_q.bias of shape [1, 128]"},
      {"mistral", R"({"attention_bias":true})", "attention_bias is not supported for mistral"},
      {"llama2", R"({"rope_parameters":{"rope_type":"magic"}})", "rope type \"magic\""},
      {"llama2", R"({"rope_parameters":{"rope_type":"linear"}})",
       "rope_parameters: key factor is missing"},
      {"llama2", R"({"rope_parameters":{"rope_type":"yarn","factor":2,"mscale":1}})",
       "mscale of YaRN is not supported"},
      {"llama2", R"({"rope_parameters":{"partial_rotary_factor":0.5}})",
       "partial_rotary_factor (0.5) is not supported for llama"},
      {"llama2", R"({"layer_types":["full_attention"]})", "1 layer_types for 2 layers"},
      {"llama2", R"({"layer_types":["full_attention","chunked_attention"]})",
       "layer_types has \"chunked_attention\""},
      {"qwen3moe", R"({"decoder_sparse_step":2})", "decoder_sparse_step (2) is not supported"},
      {"qwen3moe", R"({"mlp_only_layers":[1]})", "mlp_only_layers (1 of them)"},
      {"qwen3moe", R"({"num_local_experts":100000})", "100000 experts are not supported"},
      {"qwen3moe", R"({"num_local_experts":7})",
       "mlp.gate.weight has shape [6, 32], expected [7, 32]"},
      {"qwen3moe", R"({"num_experts_per_tok":9})", "9 of 6 experts a token"},
      {"gemma3-scale", R"({"attn_logit_softcapping":50})",
       "attn_logit_softcapping (50) is not supported for gemma3"},
      {"granite", R"({"residual_multiplier":0})", "residual_multiplier is 0, expected between"},
      {"granite", R"({"logits_scaling":"x"})", "logits_scaling is not"},
      {"phi3-long", R"({"partial_rotary_factor":1,"rope_parameters":{"rope_type":"longrope",
        "short_factor":[1],"long_factor":[1],"original_max_position_embeddings":64}})",
       "1 rope factors for 32 rotated dimensions"},
  };
  for (const Case& c : kCases) {
    EXPECT_THAT(Error(c.checkpoint, c.changes), HasSubstr(c.error)) << c.changes;
  }
}

TEST_F(HuggingFaceConfig, ReadsWhatTransformersWroteBeforeVersion5) {
  const auto source = Open("mistral", R"({"rope_parameters":null,"rope_theta":5e5,
      "rope_scaling":{"type":"linear","factor":2},"layer_types":null})");
  ASSERT_TRUE(source.ok()) << Message(source.status());
  const ModelConfig& config = (*source)->config();
  EXPECT_EQ(config.ropes[0].theta, 5e5);
  EXPECT_EQ(config.ropes[0].scaling.factor, 2);
  EXPECT_EQ(config.layers[1].window, 24);
}

}  // namespace
}  // namespace tandem::model
