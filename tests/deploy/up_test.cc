#include "deploy/cli/up.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

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
  // Clients hear within min_watchdog, and nobody acts before the group's own ranks.
  EXPECT_GT(units[2].stopped_bound, cluster->groups[1].min_watchdog * 9 / 10);
  EXPECT_LE(units[2].stopped_bound, cluster->groups[1].min_watchdog - 300 * kMillisecond);
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

// What runs where the only addresses are `here`.
std::vector<std::string> NamesOn(const std::string& here, const std::string& groups) {
  const auto cluster = config::Parse(
      "model: {path: /m.gguf}\nlinks: {routers: "
      "['tcp://[fd00::9]:8100']}\ngroups: " +
          groups + "\n",
      "/c/cluster.yaml");
  EXPECT_TRUE(cluster.ok()) << Message(cluster.status());
  UpOptions options{.file = "/c/cluster.yaml", .bin_dir = "/bin"};
  options.is_here = [&](const std::string& host) { return host == here; };
  std::vector<std::string> names;
  for (const UnitSpec& unit : UnitsOf(*cluster, options)) {
    for (const ProcessSpec& process : unit.processes) names.push_back(process.name);
  }
  return names;
}

TEST(Up, OnlyWhatRunsOnThisMachine) {
  const std::string groups =
      "[{name: a, tp: 2, hosts: [10.0.0.1, 10.0.0.2], rendezvous_port: 8200}, "
      "{name: b, tp: 2, hosts: [10.0.0.2]}, {name: c}]";
  EXPECT_THAT(NamesOn("fd00::9", groups), ElementsAre("router", "worker c/0"));
  EXPECT_THAT(NamesOn("10.0.0.1", groups), ElementsAre("worker a/0", "worker c/0"));
  EXPECT_THAT(NamesOn("10.0.0.2", groups),
              ElementsAre("worker a/1", "worker b/0", "worker b/1", "worker c/0"));
  EXPECT_THAT(NamesOn("10.0.0.3", "[{name: b, hosts: [10.0.0.2]}]"), ElementsAre());
}

TEST(ThisMachine, IsItsLoopbackAndNoAddressThatNobodyHas) {
  EXPECT_TRUE(IsThisMachine("127.0.0.1"));
  EXPECT_TRUE(IsThisMachine("0.0.0.0"));
  EXPECT_TRUE(IsThisMachine("*"));
  EXPECT_FALSE(IsThisMachine("192.0.2.1"));  // TEST-NET-1
  EXPECT_EQ(HostOf("tcp://node-1:8100"), "node-1");
  EXPECT_EQ(HostOf("tcp://[fd00::1]:8100"), "fd00::1");
  EXPECT_EQ(HostOf("ipc:///run/x"), "");
}

}  // namespace
}  // namespace tandem::cli
