#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/config/cluster_config.h"

namespace tandem::config {
namespace {

using ::testing::HasSubstr;

StatusOr<Cluster> WithGroup(const std::string& text) {
  return Parse("model: {path: /m/x.gguf}\ngroups: [{name: g, " + text + "}]\n", "c.yaml");
}

std::string MistakesIn(const std::string& text) {
  const auto c = WithGroup(text);
  return c.ok() ? "none" : std::string(Message(c.status()));
}

TEST(Gpus, HaveDefaultsOfTheirOwn) {
  const auto c = WithGroup("device: cuda");
  ASSERT_TRUE(c.ok()) << Message(c.status());
  const Group& g = c->groups[0];
  EXPECT_EQ(g.activation_dtype, "bf16");
  EXPECT_EQ(g.kv_cache_dtype, "bf16");
  EXPECT_EQ(g.kv_memory_bytes, 0);
  EXPECT_EQ(g.max_step_tokens, 2048);
  EXPECT_TRUE(g.cuda_graphs);
  EXPECT_TRUE(g.peer_memory);
  EXPECT_TRUE(g.devices.empty());
  EXPECT_THAT(SettingsOf(g), HasSubstr("kv_memory: auto"));
}

TEST(Gpus, TakeWhatIsSaid) {
  const auto c = WithGroup(
      "device: cuda, tp: 2, devices: [3, 1], cuda_graphs: false, activation_dtype: f16, "
      "peer_memory: false, kv_memory: 1GiB, max_step_tokens: 512");
  ASSERT_TRUE(c.ok()) << Message(c.status());
  const Group& g = c->groups[0];
  EXPECT_EQ(g.devices, (std::vector<int>{3, 1}));
  EXPECT_FALSE(g.cuda_graphs);
  EXPECT_FALSE(g.peer_memory);
  EXPECT_EQ(g.activation_dtype, "f16");
  EXPECT_EQ(g.kv_cache_dtype, "f16");
  EXPECT_EQ(g.kv_memory_bytes, 1 << 30);
  EXPECT_EQ(g.max_step_tokens, 512);
  EXPECT_EQ(MistakesIn("device: cuda, kv_memory: auto"), "none");
}

TEST(Gpus, AreOneForEachRank) {
  EXPECT_EQ(MistakesIn("device: cuda, tp: 2, devices: [0]"),
            "c.yaml:2:50: 'groups[0].devices' are 1, and tp is 2; a GPU for each rank");
  EXPECT_THAT(MistakesIn("device: cuda, tp: 2, devices: [1, 1]"), HasSubstr("stands in the list"));
  EXPECT_THAT(MistakesIn("device: cuda, devices: [64]"),
              HasSubstr("'groups[0].devices[0]' is '64'; a list of integers, 0 to 63"));
  EXPECT_THAT(MistakesIn("device: cuda, devices: 1"), HasSubstr("a list of integers"));
  EXPECT_THAT(MistakesIn("device: cuda, count: 2, devices: [1]"),
              HasSubstr("an entry for each group"));
}

TEST(Gpus, AreNotSharedByTheGroupsOfAnEntry) {
  const auto c = WithGroup("device: cuda, count: 2, tp: 2");
  ASSERT_TRUE(c.ok()) << Message(c.status());
  EXPECT_EQ(c->groups[0].devices, (std::vector<int>{0, 1}));
  EXPECT_EQ(c->groups[1].devices, (std::vector<int>{2, 3}));
}

TEST(Gpus, RefuseWhatOnlyCoresHave) {
  for (const std::string key :
       {"threads: 2", "instruction_set: avx2", "kv_cache_dtype: f32", "kv_cache_dtype: int8"}) {
    EXPECT_THAT(MistakesIn("device: cuda, " + key), HasSubstr("is for 'device: cpu'")) << key;
  }
  EXPECT_THAT(MistakesIn("device: cuda, activation_dtype: int8"), HasSubstr("bf16 or f16"));
}

TEST(Gpus, AloneHaveTheirKeys) {
  for (const std::string key : {"devices: [0]", "cuda_graphs: true", "peer_memory: true"}) {
    EXPECT_THAT(MistakesIn(key), HasSubstr("is for 'device: cuda'")) << key;
  }
  EXPECT_THAT(MistakesIn("activation_dtype: f16"), HasSubstr("int8, bf16 or f32"));
  EXPECT_THAT(MistakesIn("kv_memory: auto"), HasSubstr("a size"));
  EXPECT_THAT(MistakesIn("device: cuda, cuda_graphs: maybe"), HasSubstr("neither true nor false"));
}

}  // namespace
}  // namespace tandem::config
