#include "bench/sim/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "bench/sim/peers/peers.h"

namespace tandem::simulator {
namespace {

using testing::HasSubstr;

TEST(OptionsTest, ReadsPolicies) {
  const auto policies = ParsePolicies("ttft,sglang@fcfs");
  ASSERT_TRUE(policies.ok()) << Message(policies.status());
  ASSERT_EQ(policies->size(), 2U);
  EXPECT_EQ((*policies)[0].name, "ttft");
  EXPECT_FALSE((*policies)[0].fcfs);
  EXPECT_EQ((*policies)[1].name, "sglang@fcfs");
  EXPECT_EQ((*policies)[1].policy, "sglang");
  EXPECT_TRUE((*policies)[1].fcfs);
  EXPECT_NE((*policies)[1].make(), nullptr);
}

TEST(OptionsTest, KnowsEveryPolicy) {
  for (const std::string_view name : routing::PolicyNames()) {
    EXPECT_TRUE(ParsePolicies(std::string(name)).ok()) << name;
  }
  for (const std::string_view name : PeerNames()) {
    EXPECT_TRUE(ParsePolicies(std::string(name)).ok()) << name;
  }
}

TEST(OptionsTest, RefusesOtherPoliciesAndNamesThem) {
  for (const char* text : {"", "ttft,", "TTFT", "ttft@srpf", "@fcfs"}) {
    const auto policies = ParsePolicies(text);
    ASSERT_FALSE(policies.ok()) << text;
    EXPECT_THAT(std::string(Message(policies.status())), HasSubstr("dynamo16")) << text;
    EXPECT_THAT(std::string(Message(policies.status())), HasSubstr("round_robin")) << text;
  }
}

TEST(OptionsTest, ReadsObjectives) {
  const auto slo = ParseSlo("itl=50ms,ttft=3s");
  ASSERT_TRUE(slo.ok());
  EXPECT_EQ(slo->ttft, 3 * kSecond);
  EXPECT_EQ(slo->itl, 50 * kMillisecond);
  EXPECT_TRUE(ParseSlo("").ok());
  for (const char* text : {"ttft", "ttft=", "ttft=3", "ttft=1s,ttft=2s", "e2e=1s", "ttft=1s,"}) {
    EXPECT_FALSE(ParseSlo(text).ok()) << text;
  }
}

TEST(OptionsTest, ReadsSlowGroups) {
  const auto slow = ParseSlowGroups("4:1.6");
  ASSERT_TRUE(slow.ok());
  EXPECT_EQ(slow->count, 4);
  EXPECT_DOUBLE_EQ(slow->factor, 1.6);
  EXPECT_EQ(ParseSlowGroups("")->count, 0);
  for (const char* text : {"4", "4:", ":2", "0:2", "4:0", "4:1.6x", "4:nan", "-1:2", "4 1"}) {
    EXPECT_FALSE(ParseSlowGroups(text).ok()) << text;
  }
}

}  // namespace
}  // namespace tandem::simulator
