#include "bench/sim/cluster.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "bench/sim/report.h"

namespace tandem::simulator {
namespace {

using testing::HasSubstr;

// Tests run at the root of the repository.
std::string ProfilePath() {
  return std::filesystem::absolute("configs/devices/h100-llama3-8b.yaml").string();
}

class ClusterTest : public testing::Test {
 protected:
  StatusOr<SimCluster> Loaded(const std::string& groups) {
    const Status written =
        WriteFile(path_, "model: {path: absent.gguf, max_context: 4096}\ngroups:\n" + groups);
    EXPECT_TRUE(written.ok()) << Message(written);
    return LoadCluster(path_);
  }
  void TearDown() override { std::filesystem::remove(path_); }

  const std::string path_ = testing::TempDir() + "/cluster_test.yaml";
};

TEST_F(ClusterTest, ReadsSimulatedGroups) {
  const auto cluster = Loaded(fmt::format(
      "  - {{name: a, count: 2, device: sim, profile: {0}, block_size: 32, max_seqs: 8}}\n"
      "  - {{name: b, device: sim, profile: {0}, max_step_tokens: 2048}}\n",
      ProfilePath()));
  ASSERT_TRUE(cluster.ok()) << Message(cluster.status());
  ASSERT_EQ(cluster->groups.size(), 3U);
  EXPECT_EQ(cluster->groups[1].name, "a-1");
  EXPECT_EQ(cluster->groups[1].engine.block_size, 32);
  EXPECT_EQ(cluster->groups[1].engine.num_blocks, 450'000 / 32);
  EXPECT_EQ(cluster->groups[1].engine.max_seqs, 8);
  EXPECT_EQ(cluster->groups[2].engine.max_step_tokens, 2048);
  EXPECT_EQ(cluster->groups[2].engine.max_context, 4096);
  EXPECT_EQ(cluster->groups[2].device_class, "sim/h100-llama3-8b");
  EXPECT_EQ(cluster->policy, "ttft");
}

TEST_F(ClusterTest, RefusesGroupsThatAreReal) {
  const auto cluster = Loaded("  - {name: real}\n");
  ASSERT_FALSE(cluster.ok());
  EXPECT_THAT(std::string(Message(cluster.status())), HasSubstr("group 'real' has device 'cpu'"));
}

TEST_F(ClusterTest, NamesMistakesAsTandemCheckDoes) {
  const auto cluster = Loaded("  - {name: a, devise: sim}\n");
  ASSERT_FALSE(cluster.ok());
  EXPECT_THAT(std::string(Message(cluster.status())), HasSubstr("cluster_test.yaml:3:"));
  EXPECT_THAT(std::string(Message(LoadCluster("/nonexistent.yaml").status())),
              HasSubstr("/nonexistent.yaml"));
}

}  // namespace
}  // namespace tandem::simulator
