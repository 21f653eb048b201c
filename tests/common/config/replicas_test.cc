// Entries of `groups` that are several groups, and simulated ones.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "common/config/cluster_config.h"

namespace tandem::config {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

StatusOr<Cluster> WithGroups(const std::string& groups) {
  return Parse("model: {path: /m.gguf}\ngroups: " + groups + "\n", "/etc/tandem/c.yaml");
}

std::string MistakesIn(const std::string& groups) {
  const auto cluster = WithGroups(groups);
  return cluster.ok() ? "none" : std::string(Message(cluster.status()));
}

std::vector<std::string> NamesOf(const std::vector<const Group*>& groups) {
  std::vector<std::string> names;
  for (const Group* group : groups) names.push_back(group->name);
  return names;
}

TEST(Replicas, ACountIsWrittenOut) {
  const auto c = WithGroups("[{name: a, max_seqs: 7, count: 3}, {name: b}]");
  ASSERT_TRUE(c.ok()) << Message(c.status());
  ASSERT_EQ(c->groups.size(), 4u);
  EXPECT_EQ(c->groups[2].name, "a-2");
  EXPECT_EQ(c->groups[2].entry, "a");
  EXPECT_EQ(c->groups[2].max_seqs, 7);
  EXPECT_EQ(c->groups[3].name, "b");
  EXPECT_EQ(c->groups[3].entry, "b");
  EXPECT_EQ(c->GroupNames(), "a-0 to a-2, b");
  EXPECT_EQ(c->FindGroup("a"), nullptr);
  EXPECT_NE(c->FindGroup("a-0"), nullptr);
}

TEST(Replicas, AnEntryOrOneOfItsGroupsIsFound) {
  const auto c = WithGroups("[{name: a, count: 2}, {name: b}]");
  ASSERT_TRUE(c.ok()) << Message(c.status());
  EXPECT_THAT(NamesOf(c->GroupsOf("a")), ElementsAre("a-0", "a-1"));
  EXPECT_THAT(NamesOf(c->GroupsOf("a-1")), ElementsAre("a-1"));
  EXPECT_THAT(NamesOf(c->GroupsOf("b")), ElementsAre("b"));
  EXPECT_THAT(NamesOf(c->GroupsOf("c")), IsEmpty());
}

TEST(Replicas, NamesOfAllGroupsDiffer) {
  EXPECT_EQ(MistakesIn("[{name: a-1}, {name: a, count: 2}]"),
            "/etc/tandem/c.yaml:2:30: 'groups[1].name' is 'a-1', as another group's; a name of its "
            "own");
  EXPECT_EQ(MistakesIn("[{name: a}, {name: a, count: 2}]"), "none");
  EXPECT_THAT(MistakesIn("[{name: a23456789012345678901234567890, count: 11}]"),
              HasSubstr("'groups[0]': 'a23456789012345678901234567890-10' cannot be a name"));
}

TEST(Replicas, ThereIsABoundOnAllOfThem) {
  EXPECT_EQ(MistakesIn("[{name: a, count: 4095}, {name: b}]"), "none");
  EXPECT_EQ(MistakesIn("[{name: a, count: 4096}, {name: b}]"),
            "/etc/tandem/c.yaml:2:41: 'groups[1]' brings the number of groups beyond 4096");
  EXPECT_THAT(MistakesIn("[{name: a, count: 4097}]"), HasSubstr("integer, 1 to 4096"));
}

TEST(Replicas, ASimulatedGroupHasAProfile) {
  const auto c = WithGroups("[{name: s, device: sim, profile: devices/p.yaml, count: 2}]");
  ASSERT_TRUE(c.ok()) << Message(c.status());
  EXPECT_EQ(c->groups[1].device, "sim");
  EXPECT_EQ(c->groups[1].profile, "/etc/tandem/devices/p.yaml");
  EXPECT_EQ(MistakesIn("[{name: s, device: sim}]"),
            "/etc/tandem/c.yaml:2:28: 'groups[0].profile' is missing; a simulated group needs a "
            "device profile, like configs/devices/h100-llama3-8b.yaml");
  EXPECT_EQ(MistakesIn("[{name: s, profile: p.yaml}]"),
            "/etc/tandem/c.yaml:2:29: 'groups[0].profile' is of simulated groups; take it out, or "
            "say 'device: sim'");
}

TEST(Replicas, WhatAProfileSaysIsNotSaidAgain) {
  for (const std::string key :
       {"tp: 2", "threads: 2", "instruction_set: auto", "activation_dtype: f32",
        "kv_cache_dtype: f32", "kv_memory: 1GiB"}) {
    EXPECT_THAT(MistakesIn("[{name: s, device: sim, profile: p.yaml, " + key + "}]"),
                HasSubstr("means nothing to a simulated group"))
        << key;
  }
}

TEST(Replicas, MistakesOfAProfileAreThoseOfTheClusterFile) {
  const std::string folder = testing::TempDir();
  const auto write = [](const std::string& path, const std::string& text) {
    FILE* file = std::fopen(path.c_str(), "w");
    ASSERT_NE(file, nullptr) << path;
    std::fputs(text.c_str(), file);
    std::fclose(file);
  };
  write(folder + "/replicas_profile.yaml", "kv_tokens: 0\n");
  write(folder + "/replicas.yaml",
        "model: {path: replicas.yaml}\n"
        "groups: [{name: s, device: sim, profile: replicas_profile.yaml}]\n");
  const auto c = Load(folder + "/replicas.yaml");
  ASSERT_FALSE(c.ok());
  EXPECT_THAT(std::string(Message(c.status())),
              HasSubstr("replicas_profile.yaml:1:12: 'kv_tokens': 0 is out of range"));
}

}  // namespace
}  // namespace tandem::config
