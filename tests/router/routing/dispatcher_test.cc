#include "router/routing/dispatcher.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <string>

#include "tests/router/routing/group_model.h"

namespace tandem::routing {
namespace {

using testing::UniquePrompt;

GroupInfo Info(int id, const std::string& seed = "seed", int max_context = 4096) {
  GroupInfo info;
  info.id = GroupId{id};
  info.name = "group" + std::to_string(id);
  info.hash_seed = seed;
  info.block_size = 16;
  info.device_class = "class";
  info.max_context = max_context;
  info.max_seqs = 64;
  info.max_step_tokens = 256;
  info.num_blocks = 1000;
  return info;
}

class DispatcherTest : public ::testing::Test {
 protected:
  static Dispatcher Make(DispatcherOptions options = {}, std::string_view policy = "ttft") {
    return Dispatcher(options, MakePolicy(policy).value(), 7);
  }
  // A step of 256 prompt tokens took 100 ms: about 2,560 tokens a second.
  static StepReport Step(int group, Nanos now, Nanos duration = 100 * kMillisecond) {
    StepReport report;
    report.group = GroupId{group};
    report.received_at = now;
    report.load.step = 1;
    report.load.step_duration = duration;
    report.load.step_prefill_tokens = 256;
    report.load.step_prefill_attention = 256 * 128;
    return report;
  }
  static SequenceTokens Token(RequestId id, FinishReason finish = FinishReason::kNone,
                              uint32_t attempt = 0) {
    SequenceTokens tokens;
    tokens.request = id;
    tokens.attempt = attempt;
    tokens.tokens = {1};
    tokens.finish = finish;
    return tokens;
  }
  RouteRequest Request(RequestId id, int num_tokens, uint64_t seed) {
    prompt_ = UniquePrompt(num_tokens, seed);
    return {.id = id, .prompt = prompt_, .max_tokens = 10};
  }
  std::vector<TokenId> prompt_;
};

TEST_F(DispatcherTest, WithoutAGroupARequestIsRejected) {
  Dispatcher d = Make();
  const Decision decision = d.Submit(Request(1, 100, 1), kSecond);
  ASSERT_TRUE(std::holds_alternative<Rejection>(decision));
  EXPECT_EQ(std::get<Rejection>(decision).why, Rejection::Why::kNoGroup);
  d.GroupUp(Info(0, "seed", 64), kSecond);
  EXPECT_TRUE(std::holds_alternative<Rejection>(d.Submit(Request(2, 100, 1), kSecond)))
      << "its context is too short";
  d.GroupUp(Info(1), kSecond);
  const Decision sent = d.Submit(Request(3, 100, 1), kSecond);
  ASSERT_TRUE(std::holds_alternative<Dispatch>(sent));
  EXPECT_EQ(std::get<Dispatch>(sent).group, GroupId{1});
  EXPECT_STREQ(std::get<Dispatch>(sent).reason, "only_group");
  EXPECT_EQ(std::get<Dispatch>(sent).predicted_ttft, 0) << "no step was reported yet";
  d.GroupDraining(GroupId{1});
  EXPECT_TRUE(std::holds_alternative<Rejection>(d.Submit(Request(4, 100, 1), kSecond)));
}

TEST_F(DispatcherTest, ABurstWithOnePrefixSticksTogetherBeforeAnyEvent) {
  Dispatcher d = Make();
  for (int g = 0; g < 4; ++g) d.GroupUp(Info(g), kSecond);
  const Dispatch first = std::get<Dispatch>(d.Submit(Request(1, 1000, 1), kSecond));
  const Dispatch second = std::get<Dispatch>(d.Submit(Request(2, 1000, 1), kSecond));
  EXPECT_EQ(first.cached_tokens, 0);
  EXPECT_EQ(second.group, first.group);
  EXPECT_EQ(second.cached_tokens, 62 * 16);
  EXPECT_STREQ(second.reason, "warmest");
  EXPECT_FALSE(d.ledger().Find({3, 0}));
  d.CheckInvariants();
}

TEST_F(DispatcherTest, ExpectedBlocksEndWithTheirRequest) {
  Dispatcher d = Make();
  d.GroupUp(Info(0), kSecond);
  ASSERT_TRUE(std::holds_alternative<Dispatch>(d.Submit(Request(1, 1000, 1), kSecond)));
  EXPECT_EQ(d.index().num_blocks(), 62);
  EXPECT_TRUE(d.Cancel(1, 0));
  EXPECT_FALSE(d.Cancel(1, 0));
  EXPECT_EQ(d.index().num_blocks(), 0);
  EXPECT_EQ(d.ledger().num_in_flight(), 1) << "until its group says that it ended";
  StepReport report = Step(0, 2 * kSecond);
  report.sequences = {Token(1, FinishReason::kCancelled)};
  d.OnReport(report);
  EXPECT_EQ(d.ledger().num_in_flight(), 0);
  EXPECT_EQ(d.ledger().counts().cancelled, 1);
}

TEST_F(DispatcherTest, AnEmbeddingGoesWhereItIsComputedAndEndsItsPrefill) {
  Dispatcher d = Make();
  d.GroupUp(Info(0), kSecond);
  EXPECT_EQ(d.embedding_size(), 0);
  RouteRequest request = Request(1, 1000, 1);
  request.embeds = true;
  EXPECT_TRUE(std::holds_alternative<Rejection>(d.Submit(request, kSecond)));
  GroupInfo embeds = Info(1);
  embeds.embedding_size = 64;
  d.GroupUp(embeds, kSecond);
  EXPECT_EQ(d.embedding_size(), 64);
  EXPECT_EQ(std::get<Dispatch>(d.Submit(request, kSecond)).group, GroupId{1});
  StepReport report = Step(1, 2 * kSecond);
  report.sequences.resize(1);
  report.sequences[0].request = 1;
  report.sequences[0].embedding.resize(64);
  report.sequences[0].finish = FinishReason::kStop;
  d.OnReport(report);
  EXPECT_EQ(d.ledger().counts().finished, 1);
  EXPECT_EQ(d.ledger().Outstanding(GroupId{1}), GroupOutstanding{});
  EXPECT_EQ(d.index().num_blocks(), 0) << "nothing is expected any more";
  d.CheckInvariants();
}

TEST_F(DispatcherTest, APromptThatIsComputedWholeExpectsNothingCached) {
  Dispatcher d = Make();
  d.GroupUp(Info(0), kSecond);
  ASSERT_TRUE(std::holds_alternative<Dispatch>(d.Submit(Request(1, 1000, 1), kSecond)));
  RouteRequest whole = Request(2, 1000, 1);
  whole.reads_cache = false;
  EXPECT_EQ(std::get<Dispatch>(d.Submit(whole, kSecond)).cached_tokens, 0);
  EXPECT_EQ(d.ledger().Find({2, 0})->uncached_tokens, 1000);
  EXPECT_EQ(d.index().num_blocks(), 62) << "of the other one";
}

TEST_F(DispatcherTest, ALostGroupGivesItsAttemptsBackForARetry) {
  Dispatcher d = Make();
  d.GroupUp(Info(0), kSecond);
  d.GroupUp(Info(1), kSecond);
  const Dispatch sent = std::get<Dispatch>(d.Submit(Request(1, 500, 1), kSecond));
  const std::vector<Attempt> lost = d.GroupLost(sent.group);
  ASSERT_EQ(lost.size(), 1u);
  EXPECT_EQ(d.index().num_blocks(), 0);
  RouteRequest again = Request(1, 500, 1);
  again.attempt = 1;
  const Dispatch retry = std::get<Dispatch>(d.Submit(again, 2 * kSecond));
  EXPECT_NE(retry.group, sent.group);
  EXPECT_EQ(retry.cached_tokens, 0);
  StepReport late = Step(sent.group.value, 2 * kSecond);
  late.sequences = {Token(1)};
  d.OnReport(late);  // from a group that is gone
  EXPECT_EQ(d.index().num_blocks(), 31);
  EXPECT_EQ(d.ledger().counts().retried, 1);
  d.CheckInvariants();
}

TEST_F(DispatcherTest, AGapInTheEventsForgetsWhatTheGroupHeld) {
  Dispatcher d = Make();
  d.GroupUp(Info(0), kSecond);
  StepReport report = Step(0, kSecond);
  report.kv_events = {{1, KvEvent::Kind::kStored, {1, 1}, {}},
                      {2, KvEvent::Kind::kStored, {2, 2}, {}}};
  d.OnReport(report);
  EXPECT_EQ(d.index().num_held(GroupId{0}), 2);
  report.kv_events = {{4, KvEvent::Kind::kStored, {4, 4}, {}}};
  d.OnReport(report);
  EXPECT_EQ(d.index().num_held(GroupId{0}), 1);
  EXPECT_EQ(d.num_event_gaps(), 1);
}

TEST_F(DispatcherTest, BeyondTheCapRequestsWaitHereAndGoWhenThereIsRoom) {
  DispatcherOptions options;
  options.max_group_backlog = kSecond;
  options.max_queued = 3;
  Dispatcher d = Make(options);
  d.GroupUp(Info(0), kSecond);
  d.OnReport(Step(0, kSecond));
  RequestId id = 0;
  int sent = 0, queued = 0, rejected = 0;
  while (rejected == 0) {
    ++id;
    const Decision decision = d.Submit(Request(id, 1000, id), kSecond);
    sent += std::holds_alternative<Dispatch>(decision);
    queued += std::holds_alternative<Queued>(decision);
    if (!std::holds_alternative<Rejection>(decision)) continue;
    ++rejected;
    const Rejection& rejection = std::get<Rejection>(decision);
    EXPECT_EQ(rejection.why, Rejection::Why::kQueueFull);
    // 3 or 4 prompts at the group and 3 here, 0.4 s each.
    EXPECT_NEAR(static_cast<double>(rejection.retry_after) / kSecond, 2.8, 0.8);
  }
  EXPECT_EQ(queued, 3);
  EXPECT_GE(sent, 3) << "of 0.4 s each, until there is more than 1 s of them";
  EXPECT_LE(sent, 4);
  std::vector<Dispatch> dispatches;
  std::vector<Rejection> rejections;
  d.Poll(kSecond, dispatches, rejections);
  EXPECT_TRUE(dispatches.empty());
  // The first is done: its first token came, and the report has it no more.
  StepReport report = Step(0, kSecond + 400 * kMillisecond);
  report.sequences = {Token(1, FinishReason::kLength)};
  report.load.last_request_seen = 1;
  d.OnReport(report);
  d.Poll(report.received_at, dispatches, rejections);
  EXPECT_EQ(dispatches.size(), 1u);
  EXPECT_GT(dispatches[0].queued, 0);
  EXPECT_EQ(d.num_queued(), 2);
  EXPECT_FALSE(d.Cancel(id - 1, 0)) << "it waits here: no group need be told";
  EXPECT_EQ(d.num_queued(), 1);
  d.CheckInvariants();
}

TEST_F(DispatcherTest, WhatCannotBeInTimeIsRejectedWithTheTimeWhenItWouldBe) {
  Dispatcher d = Make();
  d.GroupUp(Info(0), kSecond);
  RouteRequest request = Request(1, 2560, 1);
  request.deadline = 500 * kMillisecond;
  EXPECT_TRUE(std::holds_alternative<Dispatch>(d.Submit(request, kSecond)))
      << "nothing is known of the group's speed yet";
  d.OnReport(Step(0, kSecond));
  request = Request(2, 2560, 2);
  request.deadline = 500 * kMillisecond;
  const Decision decision = d.Submit(request, kSecond);
  ASSERT_TRUE(std::holds_alternative<Rejection>(decision));
  const Rejection& rejection = std::get<Rejection>(decision);
  EXPECT_EQ(rejection.why, Rejection::Why::kDeadline);
  EXPECT_NEAR(static_cast<double>(rejection.predicted_ttft) / kSecond, 2, 0.5) << "a second each";
  EXPECT_EQ(rejection.retry_after, rejection.predicted_ttft - request.deadline);
  request.deadline = 10 * kSecond;
  EXPECT_TRUE(std::holds_alternative<Dispatch>(d.Submit(request, kSecond)));
}

TEST_F(DispatcherTest, AGroupThatIsInTimeIsTakenBeforeOneThatThePolicyPrefers) {
  Dispatcher d = Make({}, "session");
  d.GroupUp(Info(0), kSecond);
  d.GroupUp(Info(1), kSecond);
  d.OnReport(Step(0, kSecond));
  RouteRequest request = Request(1, 2560, 1);
  request.session = 5;
  const Dispatch first = std::get<Dispatch>(d.Submit(request, kSecond));
  request = Request(2, 256, 2);
  request.session = 5;
  EXPECT_EQ(std::get<Dispatch>(d.Submit(request, kSecond)).group, first.group);
  request = Request(3, 256, 3);
  request.session = 5;
  request.deadline = 150 * kMillisecond;
  EXPECT_NE(std::get<Dispatch>(d.Submit(request, kSecond)).group, first.group);
}

TEST_F(DispatcherTest, ADeadlineThatPassesHereRejects) {
  DispatcherOptions options;
  options.max_group_backlog = kMillisecond;
  Dispatcher d = Make(options);
  d.GroupUp(Info(0), kSecond);
  d.OnReport(Step(0, kSecond));
  ASSERT_TRUE(std::holds_alternative<Dispatch>(d.Submit(Request(1, 500, 1), kSecond)));
  RouteRequest request = Request(2, 100, 2);
  request.deadline = 2 * kSecond;
  ASSERT_TRUE(std::holds_alternative<Queued>(d.Submit(request, kSecond)));
  EXPECT_EQ(d.next_wake(), 3 * kSecond);
  std::vector<Dispatch> dispatches;
  std::vector<Rejection> rejections;
  StepReport busy = Step(0, 3 * kSecond);
  busy.load.num_waiting = 1;
  busy.load.queued_tokens = 500;
  busy.load.queue = {{500, 500, kSecond, 0}};
  d.OnReport(busy);
  d.Poll(3 * kSecond, dispatches, rejections);
  EXPECT_TRUE(dispatches.empty());
  ASSERT_EQ(rejections.size(), 1u);
  EXPECT_EQ(rejections[0].why, Rejection::Why::kDeadline);
  EXPECT_EQ(d.next_wake(), 0);
}

TEST_F(DispatcherTest, AHigherClassGoesFirst) {
  DispatcherOptions options;
  options.max_group_backlog = kMillisecond;
  Dispatcher d = Make(options);
  d.GroupUp(Info(0), kSecond);
  d.OnReport(Step(0, kSecond));
  d.Submit(Request(1, 500, 1), kSecond);
  d.Submit(Request(2, 100, 2), kSecond);
  RouteRequest request = Request(3, 800, 3);
  request.priority = 1;
  EXPECT_TRUE(std::holds_alternative<Queued>(d.Submit(request, kSecond)));
  StepReport report = Step(0, 2 * kSecond);
  report.sequences = {Token(1, FinishReason::kLength)};
  d.OnReport(report);
  std::vector<Dispatch> dispatches;
  std::vector<Rejection> rejections;
  d.Poll(2 * kSecond, dispatches, rejections);
  ASSERT_EQ(dispatches.size(), 1u);
  EXPECT_EQ(dispatches[0].id, 3u);
  EXPECT_GT(dispatches[0].priority, 0);
}

TEST_F(DispatcherTest, GroupsThatHashOtherwiseAreMatchedByTheirOwnChain) {
  Dispatcher d = Make();
  d.GroupUp(Info(0, "one"), kSecond);
  d.GroupUp(Info(1, "two"), kSecond);
  const Dispatch first = std::get<Dispatch>(d.Submit(Request(1, 500, 1), kSecond));
  const Dispatch second = std::get<Dispatch>(d.Submit(Request(2, 500, 1), kSecond));
  EXPECT_EQ(second.group, first.group);
  EXPECT_EQ(second.cached_tokens, 496);
  EXPECT_EQ(d.index().num_blocks(), 31) << "only what that group can hold";
}

// Any order of everything that can happen to a pool, late and doubled messages included: each
// Submit has one answer, the ledger is exact after each event, and nothing stays behind.
TEST(Dispatcher, PropertyEveryRequestIsAccountedForOnEveryPath) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 rng(seed);
  const auto below = [&](uint64_t n) { return static_cast<int>(rng() % n); };
  DispatcherOptions options;
  options.max_queued = 8;
  options.max_group_backlog = 500 * kMillisecond;
  Dispatcher d(options, MakePolicy(PolicyNames()[rng() % 6]).value(), rng());
  struct Known {
    uint32_t attempt = 0;
    GroupId group;  // invalid: queued
  };
  std::map<RequestId, Known> live;
  std::map<int, bool> up;
  std::vector<RequestId> ended = {0};
  int next_group = 0;
  RequestId next_id = 0;
  Nanos now = kSecond;
  const auto sent = [&](const Dispatch& dispatch) {
    const auto it = live.find(dispatch.id);
    ASSERT_TRUE(it != live.end() && !it->second.group.valid()) << dispatch.id;
    ASSERT_EQ(it->second.attempt, dispatch.attempt);
    ASSERT_TRUE(up.contains(dispatch.group.value));
    it->second.group = dispatch.group;
  };
  const auto rejected = [&](const Rejection& rejection) {
    ASSERT_EQ(live.erase(rejection.id), 1u) << rejection.id;
    ended.push_back(rejection.id);
  };
  const auto submit = [&](RequestId id, uint32_t attempt) {
    live[id] = {attempt, {}};
    const std::vector<TokenId> prompt = UniquePrompt(1 + below(600), rng() % 20);
    const Decision decision = d.Submit({.id = id,
                                        .attempt = attempt,
                                        .prompt = prompt,
                                        .max_tokens = 5,
                                        .priority = below(3),
                                        .deadline = below(4) == 0 ? below(2000) * kMillisecond : 0,
                                        .client = rng() % 3},
                                       now);
    if (const auto* dispatch = std::get_if<Dispatch>(&decision)) sent(*dispatch);
    if (const auto* rejection = std::get_if<Rejection>(&decision)) rejected(*rejection);
  };
  const auto any = [&]() -> RequestId {  // alive, or long gone
    if (live.empty() || below(4) == 0) return ended[rng() % ended.size()];
    return std::next(live.begin(), below(live.size()))->first;
  };
  for (int i = 0; i < 6000; ++i) {
    now += below(50) * kMillisecond;
    const int what = below(20);
    if (what < 6) {
      submit(++next_id, 0);
    } else if (what == 6 && up.size() < 5) {
      d.GroupUp(Info(next_group, below(2) == 0 ? "seed" : "other"), now);
      up[next_group++] = true;
    } else if (what == 7 && !up.empty() && below(8) == 0) {
      const GroupId group{std::next(up.begin(), below(up.size()))->first};
      up.erase(group.value);
      std::vector<std::pair<RequestId, uint32_t>> again;
      for (const Attempt& lost : d.GroupLost(group)) {
        const auto it = live.find(lost.key.request);
        if (it == live.end()) continue;  // cancelled before
        ASSERT_EQ(it->second.group, group);
        again.emplace_back(lost.key.request, lost.key.attempt + 1);
      }
      for (const auto& [id, attempt] : again) submit(id, attempt);
    } else if (what == 8 && !up.empty() && below(10) == 0) {
      d.GroupDraining(GroupId{std::next(up.begin(), below(up.size()))->first});
    } else if (what < 11) {
      const RequestId id = any();
      const auto it = live.find(id);
      const bool tell = d.Cancel(id, it == live.end() ? 0 : it->second.attempt);
      if (it != live.end()) {
        ASSERT_EQ(tell, it->second.group.valid());
        live.erase(it);
        ended.push_back(id);
      }
    } else {
      StepReport report;
      report.group = GroupId{below(static_cast<uint64_t>(next_group) + 1)};
      report.received_at = now;
      report.load.step_duration = below(200) * kMillisecond;
      report.load.step_prefill_tokens = below(256);
      report.load.num_waiting = below(3);
      report.load.queued_tokens = report.load.num_waiting * below(300);
      for (int n = below(4); n > 0; --n) {
        const RequestId id = any();
        const auto it = live.find(id);
        SequenceTokens tokens;
        tokens.request = id;
        tokens.attempt = it == live.end() ? static_cast<uint32_t>(below(2)) : it->second.attempt;
        tokens.tokens = {1};
        tokens.finish = static_cast<FinishReason>(below(6));
        report.load.last_request_seen = id;
        const bool there = it != live.end() && it->second.group == report.group;
        if (it != live.end() && !there) continue;  // no group tells of what it was not sent
        if (it != live.end() && tokens.finish != FinishReason::kNone) {
          live.erase(it);
          ended.push_back(id);
        }
        report.sequences.push_back(tokens);
        if (below(5) == 0) report.sequences.push_back(tokens);
      }
      d.OnReport(report);
    }
    std::vector<Dispatch> dispatches;
    std::vector<Rejection> rejections;
    if (below(3) != 0) d.Poll(now, dispatches, rejections);
    for (const Dispatch& dispatch : dispatches) sent(dispatch);
    for (const Rejection& rejection : rejections) rejected(rejection);
    if (HasFatalFailure()) return;
    d.CheckInvariants();
    const auto queued = std::count_if(live.begin(), live.end(),
                                      [](const auto& l) { return !l.second.group.valid(); });
    ASSERT_EQ(d.num_queued(), queued);
    for (const auto& [id, known] : live) {
      ASSERT_EQ(d.ledger().Find({id, known.attempt}) != nullptr, known.group.valid()) << id;
    }
  }
  while (!up.empty()) {
    d.GroupLost(GroupId{up.begin()->first});
    up.erase(up.begin());
  }
  std::vector<Dispatch> dispatches;
  std::vector<Rejection> rejections;
  d.Poll(now, dispatches, rejections);
  EXPECT_EQ(d.num_queued(), 0);
  EXPECT_EQ(d.ledger().num_in_flight(), 0);
  EXPECT_EQ(d.index().num_groups(), 0);
  d.CheckInvariants();
}

}  // namespace
}  // namespace tandem::routing
