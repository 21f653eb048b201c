#include "bench/sim/simulation.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "bench/sim/peers/peers.h"
#include "bench/sim/report.h"

namespace tandem::simulator {
namespace {

// 1 ms a step and 0.1 ms a token, at least 10 ms: numbers to reckon with.
DeviceProfile Profile() {
  DeviceProfile profile;
  profile.launch_ns = 1e6;
  profile.weights_read_ns = 10e6;
  profile.gemm_ns_per_token = 1e5;
  return profile;
}

std::vector<GroupSpec> Groups(int count) {
  std::vector<GroupSpec> groups;
  for (int i = 0; i < count; ++i) {
    GroupSpec spec;
    spec.name = fmt::format("g{}", i);
    spec.device_class = "sim/test";
    spec.engine = {.num_blocks = 2000,
                   .block_size = 16,
                   .max_context = 8192,
                   .vocab_size = 32000,
                   .max_seqs = 32,
                   .max_step_tokens = 256,
                   .hash_seed = "sim"};
    spec.profile = Profile();
    groups.push_back(spec);
  }
  return groups;
}

PolicyMaker Own(const std::string& name) {
  return [name] { return std::move(*routing::MakePolicy(name)); };
}

struct Line {
  double ms = 0;
  int prompt = 0, output = 0;
  std::vector<uint64_t> ids = {};  // of 16 tokens
};

Trace MakeTrace(const std::vector<Line>& lines) {
  Trace trace;
  trace.hash_tokens = 16;
  for (const Line& line : lines) {
    trace.requests.push_back({.arrival = static_cast<Nanos>(line.ms * 1e6),
                              .prompt_tokens = line.prompt,
                              .output_tokens = line.output,
                              .first_hash = trace.hashes.size(),
                              .num_hashes = static_cast<int32_t>(line.ids.size())});
    trace.hashes.insert(trace.hashes.end(), line.ids.begin(), line.ids.end());
  }
  return trace;
}

// Conversations of some turns over `groups`-fold load: sharing, queueing, eviction.
Trace BusyTrace(int num_requests) {
  std::vector<Line> lines;
  uint64_t next_id = 1;
  std::vector<uint64_t> ids;
  for (int i = 0; i < num_requests; ++i) {
    if (i % 5 == 0) ids.clear();
    for (int k = 0; k < 10 + i % 37; ++k) ids.push_back(next_id++);
    lines.push_back({i * 11.0, static_cast<int>(ids.size()) * 16 + i % 16, 1 + i % 23, ids});
  }
  return MakeTrace(lines);
}

double Ms(Nanos duration) { return static_cast<double>(duration) / 1e6; }

// t=0    r1: 100 tokens in, 3 out. At the group at 0.2; a step takes 1 + max(10, 0.1 * tokens).
// 0.2    step 1: r1's prompt, 11 ms, to 11.2; step 2, planned with it: r1's 2nd token, to 22.2
// 5      r2: 50 tokens in, 1 out. At the group at 5.2, when two steps are planned already
// 11.2   step 3 is planned: r1's 3rd token and r2's prompt, 51 tokens, 11 ms, 22.2 to 33.2
// Each token is at its client 0.2 ms after its step.
TEST(SimulationTest, TimesAreThoseReckonedByHand) {
  const Trace trace = MakeTrace({{0, 100, 3}, {5, 50, 1}});
  const RawResult raw = Simulate(trace, Groups(1), {}, Own("ttft"));
  ASSERT_EQ(raw.outcomes.size(), 2U);
  EXPECT_DOUBLE_EQ(Ms(raw.outcomes[0].first_token), 11.4);
  EXPECT_DOUBLE_EQ(Ms(raw.outcomes[0].last_token), 33.4);
  EXPECT_DOUBLE_EQ(Ms(raw.outcomes[1].first_token), 33.4);
  EXPECT_DOUBLE_EQ(Ms(raw.outcomes[1].first_token - raw.outcomes[1].arrival), 28.4);
  ASSERT_EQ(raw.itl_ms.size(), 2U);
  EXPECT_FLOAT_EQ(raw.itl_ms[0], 11);
  EXPECT_FLOAT_EQ(raw.itl_ms[1], 11);
  EXPECT_EQ(raw.num_steps, 3);
  ASSERT_EQ(raw.busy.size(), 1U);
  EXPECT_DOUBLE_EQ(Ms(raw.busy[0]), 33);
}

// 200 tokens at 0.1 ms beat the 10 ms of the weights; chunks of 256 tokens; attention counts what
// lies before a chunk.
TEST(SimulationTest, LongPromptsTakeSeveralSteps) {
  std::vector<GroupSpec> groups = Groups(1);
  groups[0].profile.attention_ns_per_pair = 100;
  const Trace trace = MakeTrace({{0, 300, 1}});
  const RawResult raw = Simulate(trace, groups, {}, Own("round_robin"));
  // 1 + 25.6 + 256 * 256 / 2 * 0.0001 = 29.8768; 1 + 10 + (256 * 44 + 44 * 44 / 2) * 0.0001.
  EXPECT_NEAR(Ms(raw.outcomes[0].first_token), 0.2 + 29.8768 + 12.2232 + 0.2, 1e-6);
}

TEST(SimulationTest, AgeingDecidesBetweenShortestAndOldest) {
  const Trace trace = MakeTrace({{0, 256, 1}, {1, 1024, 1}, {2, 16, 1}});
  std::vector<GroupSpec> groups = Groups(1);
  const RawResult shortest = Simulate(trace, groups, {}, Own("ttft"));
  EXPECT_LT(shortest.outcomes[2].first_token, shortest.outcomes[1].first_token);
  groups[0].engine.max_prompt_age = 0;
  const RawResult oldest = Simulate(trace, groups, {}, Own("ttft"));
  EXPECT_GT(oldest.outcomes[2].first_token, oldest.outcomes[1].first_token);
}

TEST(SimulationTest, SlowGroupsTakeLonger) {
  std::vector<GroupSpec> groups = Groups(1);
  groups[0].slowdown = 2;
  const RawResult raw = Simulate(MakeTrace({{0, 100, 1}}), groups, {}, Own("ttft"));
  EXPECT_DOUBLE_EQ(Ms(raw.outcomes[0].first_token), 22.4);
}

TEST(SimulationTest, WhatIsSharedIsFoundAgain) {
  const Trace trace =
      MakeTrace({{0, 100, 1, {1, 2, 3, 4, 5, 6}}, {500, 96, 1, {1, 2, 3, 4, 5, 6}}});
  for (const char* policy : {"ttft", "prefix"}) {
    const RawResult raw = Simulate(trace, Groups(8), {}, Own(policy));
    EXPECT_EQ(raw.outcomes[0].cached_tokens, 0) << policy;
    EXPECT_EQ(raw.outcomes[1].cached_tokens, 80) << policy;  // one token at least is computed
    EXPECT_EQ(raw.outcomes[0].group, raw.outcomes[1].group) << policy;
  }
}

TEST(SimulationTest, LateReportsHideWhatIsCached) {
  const Trace trace =
      MakeTrace({{0, 100, 1, {1, 2, 3, 4, 5, 6}}, {500, 96, 1, {1, 2, 3, 4, 5, 6}}});
  SimulationOptions options;
  options.num_routers = 2;  // the second has no expectation of its own
  options.report_delay = kSecond;
  int same = 0;
  for (options.seed = 1; options.seed <= 20; ++options.seed) {
    const RawResult raw = Simulate(trace, Groups(8), options, Own("ttft"));
    same += raw.outcomes[0].group == raw.outcomes[1].group;
    EXPECT_DOUBLE_EQ(Ms(raw.outcomes[0].first_token), 11.4);  // tokens are not late
  }
  EXPECT_LT(same, 12);  // by chance alone 1 in 8
}

TEST(SimulationTest, EqualSeedsGiveEqualBytes) {
  const Trace trace = BusyTrace(400);
  SimulationOptions options;
  const auto run = [&](uint64_t seed) {
    options.seed = seed;
    RawResult raw = Simulate(trace, Groups(4), options, Own("power_of_two"));
    const PolicyResult result = Evaluate("p", raw, {});
    return Json(std::span(&result, 1));
  };
  EXPECT_EQ(run(1), run(1));
  EXPECT_NE(run(1), run(2));
}

// Under every policy, own and peers', with and without what makes life hard.
TEST(SimulationTest, EveryRequestEndsOnceWithAllItsTokens) {
  const Trace trace = BusyTrace(500);
  std::vector<PolicyMaker> makers;
  for (const std::string_view name : routing::PolicyNames())
    makers.push_back(Own(std::string(name)));
  for (const std::string_view name : PeerNames()) {
    makers.push_back([name] { return MakePeer(name); });
  }
  for (const PolicyMaker& make : makers) {
    for (const int routers : {1, 3}) {
      SimulationOptions options;
      options.num_routers = routers;
      options.report_delay = routers == 1 ? 0 : 200 * kMillisecond;
      std::vector<GroupSpec> groups = Groups(5);
      groups[4].slowdown = 3;
      const RawResult raw = Simulate(trace, groups, options, make);
      ASSERT_EQ(raw.outcomes.size(), trace.requests.size());
      int64_t gaps = 0;
      for (size_t i = 0; i < raw.outcomes.size(); ++i) {
        const Outcome& outcome = raw.outcomes[i];
        ASSERT_EQ(outcome.end, Outcome::End::kFinished) << i;
        EXPECT_EQ(outcome.output_tokens, trace.requests[i].output_tokens) << i;
        EXPECT_LE(outcome.arrival, outcome.sent_at) << i;
        EXPECT_LT(outcome.sent_at, outcome.first_token) << i;
        EXPECT_LE(outcome.first_token, outcome.last_token) << i;
        EXPECT_LT(outcome.cached_tokens, outcome.prompt_tokens) << i;
        gaps += outcome.output_tokens - 1;
      }
      EXPECT_EQ(static_cast<int64_t>(raw.itl_ms.size()), gaps);
    }
  }
}

TEST(SimulationTest, WhatCannotBeServedIsCountedAsLost) {
  const Trace trace = MakeTrace({{0, 9000, 1}, {1, 100, 1}});
  RawResult raw = Simulate(trace, Groups(2), {}, Own("ttft"));
  EXPECT_NE(raw.outcomes[0].end, Outcome::End::kFinished);
  EXPECT_EQ(raw.outcomes[1].end, Outcome::End::kFinished);
  const PolicyResult result = Evaluate("p", raw, {});
  EXPECT_EQ(result.rejected + result.failed, 1);
}

TEST(SimulationTest, RequestsThatWaitInTheRouterAreSentInTheEnd) {
  SimulationOptions options;
  options.dispatcher.max_group_backlog = kMillisecond;
  const Trace trace = BusyTrace(300);
  RawResult raw = Simulate(trace, Groups(2), options, Own("ttft"));
  int waited = 0;
  for (const Outcome& outcome : raw.outcomes) {
    ASSERT_EQ(outcome.end, Outcome::End::kFinished);
    waited += outcome.sent_at > outcome.arrival;
  }
  EXPECT_GT(waited, 100);
}

TEST(SimulationTest, WhatWouldBeTooLateIsRejected) {
  SimulationOptions options;
  options.dispatcher.default_deadline = 50 * kMillisecond;
  const Trace trace = BusyTrace(300);
  RawResult raw = Simulate(trace, Groups(1), options, Own("ttft"));
  const PolicyResult result = Evaluate("p", raw, {});
  EXPECT_GT(result.rejected + result.failed, 100);
  EXPECT_GT(result.finished, 20);
  EXPECT_EQ(result.finished + result.rejected + result.failed, 300);
}

}  // namespace
}  // namespace tandem::simulator
