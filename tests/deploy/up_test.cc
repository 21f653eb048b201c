#include "deploy/cli/up.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tandem::cli {
namespace {

using testing::ElementsAre;

TEST(Up, OneUnitForTheRouterAndOneForEachGroup) {
  const auto cluster = config::Parse(
      "model: {path: /m.gguf}\ngroups: [{name: a, tp: 2}, {name: b}]\n", "/c/cluster.yaml");
  ASSERT_TRUE(cluster.ok());
  const auto units = UnitsOf(*cluster, {.file = "/c/cluster.yaml", .bin_dir = "/bin"});
  ASSERT_EQ(units.size(), 3u);
  EXPECT_TRUE(units[0].is_router);
  EXPECT_THAT(units[0].processes[0].argv,
              ElementsAre("/bin/tandem-router", "--config", "/c/cluster.yaml"));
  ASSERT_EQ(units[1].processes.size(), 2u);
  EXPECT_EQ(units[1].name, "group a");
  EXPECT_EQ(units[1].processes[1].name, "worker a/1");
  EXPECT_THAT(units[1].processes[1].argv,
              ElementsAre("/bin/tandem-worker", "--config", "/c/cluster.yaml", "--group", "a",
                          "--rank", "1"));
  EXPECT_EQ(units[2].processes.size(), 1u);
  EXPECT_EQ(units[2].stopped_bound, cluster->groups[1].min_watchdog + 2 * kSecond);
}

TEST(Up, OneProcessForAllGroupsOfASimulatedEntry) {
  const auto cluster = config::Parse(
      "model: {path: /m.gguf}\n"
      "groups: [{name: a, count: 2}, {name: s, count: 3, device: sim, profile: p.yaml}]\n",
      "/c/cluster.yaml");
  ASSERT_TRUE(cluster.ok()) << Message(cluster.status());
  const auto units = UnitsOf(*cluster, {.file = "/c/cluster.yaml", .bin_dir = "/bin"});
  ASSERT_EQ(units.size(), 4u);
  EXPECT_EQ(units[1].name, "group a-0");
  EXPECT_EQ(units[2].name, "group a-1");
  EXPECT_EQ(units[3].name, "groups s");
  ASSERT_EQ(units[3].processes.size(), 1u);
  EXPECT_THAT(units[3].processes[0].argv,
              ElementsAre("/bin/tandem-worker", "--config", "/c/cluster.yaml", "--group", "s"));
}

}  // namespace
}  // namespace tandem::cli
