// Groups whose ranks are on named hosts.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "common/config/cluster_config.h"
#include "common/config/values.h"

namespace tandem::config {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

StatusOr<Cluster> WithGroups(const std::string& groups) {
  return Parse("model: {path: /m.gguf}\ngroups: " + groups + "\n", "/c.yaml");
}

std::string MistakesIn(const std::string& groups) {
  const auto cluster = WithGroups(groups);
  return cluster.ok() ? "none" : std::string(Message(cluster.status()));
}

TEST(Hosts, AreReadInOrderOfRank) {
  const auto c = WithGroups(
      "[{name: a, tp: 2, hosts: [10.0.0.1, 'fd00::2'], rendezvous_port: 8200}, {name: b, tp: 2, "
      "hosts: [node-2]}, {name: c}]");
  ASSERT_TRUE(c.ok()) << Message(c.status());
  EXPECT_THAT(c->groups[0].hosts, ElementsAre("10.0.0.1", "fd00::2"));
  EXPECT_EQ(c->groups[0].rendezvous_port, 8200);
  EXPECT_THAT(c->groups[1].hosts, ElementsAre("node-2"));
  EXPECT_THAT(c->groups[2].hosts, ElementsAre());
  EXPECT_THAT(SettingsOf(c->groups[0]), HasSubstr("hosts: [10.0.0.1, fd00::2], rendezvous_port: "
                                                  "8200"));
}

TEST(Hosts, AreOneForEachRankOrOneForAll) {
  EXPECT_EQ(MistakesIn("[{name: a, tp: 3, hosts: [x, y], rendezvous_port: 8200}]"),
            "/c.yaml:2:34: 'groups[0].hosts' are 2, and tp is 3; one for each rank, or a single "
            "one for all");
  EXPECT_EQ(MistakesIn("[{name: a, tp: 3, hosts: [x]}]"), "none");
  EXPECT_EQ(MistakesIn("[{name: a, tp: 2, hosts: [x, x]}]"), "none");
}

TEST(Hosts, ThatAreSeveralNeedAPortToMeetAt) {
  EXPECT_EQ(MistakesIn("[{name: a, tp: 2, hosts: [x, y]}]"),
            "/c.yaml:2:34: 'groups[0].hosts' are several, and there is no 'rendezvous_port'; a "
            "port of x where the ranks meet, like 8200");
  EXPECT_EQ(MistakesIn("[{name: a, tp: 2, rendezvous_port: 8200}]"),
            "/c.yaml:2:44: 'groups[0].rendezvous_port' is a port of the first of 'hosts', which "
            "are missing; a list like [10.0.0.1, 10.0.0.2]");
  EXPECT_THAT(MistakesIn("[{name: a, tp: 2, hosts: [x], rendezvous_port: 65536}]"),
              HasSubstr("2:56: 'groups[0].rendezvous_port': 65536 is out of range"));
}

TEST(Hosts, EveryGroupHasAPortOfItsOwn) {
  const std::string a = "{name: a, tp: 2, hosts: [x, y], rendezvous_port: 8200}";
  EXPECT_EQ(MistakesIn("[" + a + ", {name: b, tp: 2, hosts: [x, z], rendezvous_port: 8200}]"),
            "/c.yaml:2:115: 'groups[1].rendezvous_port' is 8200, as another group's on x; a port "
            "of its own");
  EXPECT_EQ(MistakesIn("[" + a + ", {name: b, tp: 2, hosts: [y, x], rendezvous_port: 8200}]"),
            "none");
  EXPECT_EQ(MistakesIn("[{name: a, count: 2, tp: 2, hosts: [x, y], rendezvous_port: 8200}]"),
            "/c.yaml:2:69: 'groups[0]' is 2 groups that would all meet at one port; an entry for "
            "each group");
}

TEST(Hosts, AreAddressesOrNamesWithoutPort) {
  for (const char* good : {"10.0.0.1", "node-2.example.org", "fd00::2", "fe80::1%eth0", "::1"}) {
    EXPECT_TRUE(CheckHost(good).ok()) << good;
  }
  for (const char* bad : {"", "10.0.0.1:80", "[::1]", "tcp://x", "a b"}) {
    EXPECT_FALSE(CheckHost(bad).ok()) << bad;
  }
  EXPECT_THAT(MistakesIn("[{name: a, hosts: ['10.0.0.1:80']}]"),
              HasSubstr("2:28: 'groups[0].hosts[0]': '10.0.0.1:80' cannot be a host; an address or "
                        "a name without a port"));
  EXPECT_THAT(MistakesIn("[{name: a, hosts: []}]"),
              HasSubstr("'groups[0].hosts' is an empty list"));
  EXPECT_THAT(MistakesIn("[{name: a, hosts: x}]"), HasSubstr("'groups[0].hosts' is"));
}

TEST(Hosts, MeanNothingToASimulatedGroup) {
  EXPECT_THAT(MistakesIn("[{name: s, device: sim, profile: p, hosts: [x]}]"),
              HasSubstr("'groups[0].hosts' means nothing to a simulated group"));
}

}  // namespace
}  // namespace tandem::config
