// Several models, aliases, queues, deadlines, fairness and reload, over real sockets.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "tests/router/http/fixture.h"

namespace tandem::http {
namespace {

using routing::FinishReason;
using ::testing::HasSubstr;
using ::testing::Not;

class PoolTest : public ServerTest {
 protected:
  static std::string For(const std::string& model, std::string_view headers = {},
                         std::string_view content = "Hi") {
    return RawClient::Post("/v1/chat/completions",
                           fmt::format(R"({{"model":"{}","messages":[{{"role":"user","content":)"
                                       R"("{}"}}],"max_tokens":4}})",
                                       model, content),
                           headers);
  }
  std::string HealthBody() {
    RawClient client(port());
    client.Send(RawClient::Get("/health"));
    return client.Read().body;
  }
  void WaitForHealth(const std::string& text) {
    std::string health;
    const Nanos until = MonotonicNow() + 20 * kSecond;
    while (health.find(text) == std::string::npos && MonotonicNow() < until) health = HealthBody();
    ASSERT_THAT(health, HasSubstr(text));
  }
  // A group that takes 10 ms for a token of a prompt, and with one prompt has its fill.
  void StartSlow() {
    settings_.service.admission.max_group_backlog = kMillisecond;
    Start(std::move(settings_.keys));
    group_ = groups_->Up("g0");
    groups_->Calibrate(group_, 100, kSecond);
  }
  void Finish(const FakeGroups::Sent& sent) {
    groups_->Answer(sent, Tokens("x"), 0, FinishReason::kLength);
  }
  std::string Metrics() {
    RawClient client(port());
    client.Send(RawClient::Get("/metrics"));
    return client.Read().body;
  }
};

TEST_F(PoolTest, TheModelPicksThePool) {
  AddModel("large");
  AddModel("small");
  settings_.service.aliases = {{"default", {{.model = "small"}}}};
  Start();
  const GroupId large = groups_->Up("g0", 512, "large");
  const GroupId small = groups_->Up("g1", 512, "small");
  WaitForHealth(R"("name":"small","ready":true,"groups_up":1)");
  const std::vector<std::tuple<std::string, std::string, GroupId>> wanted = {
      {"large", "large", large}, {"small", "small", small}, {"default", "small", small}};
  for (const auto& [asked, served, group] : wanted) {
    RawClient client(port());
    client.Send(For(asked));
    const FakeGroups::Sent sent = groups_->WaitSent();
    EXPECT_EQ(sent.group, group) << asked;
    Finish(sent);
    const RawResponse response = client.Read();
    EXPECT_EQ(response.status, 200);
    EXPECT_EQ(response.Header("x-tandem-model"), served);
    EXPECT_THAT(response.body, HasSubstr("\"model\":\"" + served + "\""));
  }
  RawClient client(port());
  client.Send(For("smal"));
  const RawResponse unknown = client.Read();
  EXPECT_EQ(unknown.status, 404);
  EXPECT_THAT(unknown.body, HasSubstr("this server has 'large', 'small', 'default'"));
  EXPECT_EQ(unknown.Header("x-tandem-model"), "");
  client.Send(RawClient::Get("/v1/models"));
  const std::string models = client.Read().body;
  for (const char* name : {"large", "small", "default"}) {
    EXPECT_THAT(models, HasSubstr(fmt::format("\"id\":\"{}\"", name)));
  }
  client.Send(RawClient::Get("/v1/models/default"));
  EXPECT_EQ(client.Read().status, 200);
  const std::string health = HealthBody();
  EXPECT_THAT(health, HasSubstr(R"("name":"g0","state":"up","model":"large")"));
  EXPECT_THAT(health, HasSubstr(R"("name":"g1","state":"up","model":"small")"));
}

TEST_F(PoolTest, AStreamSaysWhichModelServes) {
  AddModel("large");
  AddModel("small");
  settings_.service.aliases = {{"auto", {{.model = "large"}, {.model = "small"}}}};
  Start();
  groups_->Up("g1", 512, "small");  // and none of large: the next choice serves
  RawClient client(port());
  WaitForHealth(R"("name":"small","ready":true)");
  client.Send(RawClient::Post(
      "/v1/chat/completions",
      R"({"model":"auto","messages":[{"role":"user","content":"Hi"}],"stream":true})"));
  Finish(groups_->WaitSent());
  const std::string stream = client.ReadUntil("[DONE]");
  EXPECT_THAT(stream, HasSubstr("x-tandem-model: small\r\n"));
  EXPECT_THAT(stream, HasSubstr("\"model\":\"small\""));
  EXPECT_THAT(stream, Not(HasSubstr("\"model\":\"auto\"")));
}

TEST_F(PoolTest, AnAliasChoosesByLengthOfThePrompt) {
  AddModel("large");
  AddModel("small");
  settings_.service.aliases = {
      {"auto", {{.model = "large", .max_prompt_tokens = 150}, {.model = "small"}}}};
  Start();
  const GroupId large = groups_->Up("g0", 512, "large");
  const GroupId small = groups_->Up("g1", 512, "small");
  WaitForHealth(R"("name":"small","ready":true)");
  RawClient client(port());
  for (const auto& [content, group] :
       {std::pair(std::string("Hi"), large), std::pair(std::string(300, 'z'), small)}) {
    client.Send(For("auto", {}, content));
    const FakeGroups::Sent sent = groups_->WaitSent();
    EXPECT_EQ(sent.group, group);
    EXPECT_EQ(sent.request.prompt.size() > 150, group == small);
    Finish(sent);
    EXPECT_EQ(client.Read().status, 200);
  }
}

TEST_F(PoolTest, AnAliasGoesOnWhenTheFirstTokenWouldComeLate) {
  AddModel("large");
  AddModel("small");
  settings_.service.aliases = {
      {"auto", {{.model = "large", .max_ttft = 50 * kMillisecond}, {.model = "small"}}},
      {"patient", {{.model = "large"}, {.model = "small"}}}};
  Start();
  const GroupId large = groups_->Up("g0", 512, "large");
  const GroupId small = groups_->Up("g1", 512, "small");
  groups_->Calibrate(large, 100, kSecond);  // 10 ms a token
  groups_->Calibrate(small, 100, kMillisecond);
  RawClient client(port());
  const auto served_by = [&](const std::string& model, std::string_view headers = {}) {
    client.Send(For(model, headers));
    const FakeGroups::Sent sent = groups_->WaitSent();
    Finish(sent);
    EXPECT_EQ(client.Read().status, 200);
    groups_->Calibrate(large, 100, kSecond);
    return sent.group;
  };
  EXPECT_EQ(served_by("auto"), small);
  EXPECT_EQ(served_by("patient"), large);
  EXPECT_EQ(served_by("patient", "x-tandem-ttft-deadline-ms: 50\r\n"), small);
  EXPECT_THAT(Metrics(),
              HasSubstr(R"(tandem_router_rejected_total{model="large",why="deadline"})"));
}

TEST_F(PoolTest, WhatFindsNoRoomWaitsAndGoesInItsTurn) {
  StartSlow();
  RawClient first(port()), second(port());
  first.Send(For("tiny"));
  const FakeGroups::Sent sent = groups_->WaitSent();
  second.Send(For("tiny", "x-tandem-timing: 1\r\n"));
  WaitForHealth(R"("name":"tiny","ready":true,"groups_up":1,"queued":1)");
  EXPECT_THAT(Metrics(), HasSubstr(R"(tandem_router_queued_requests{model="tiny"} 1)"));
  EXPECT_THAT(Metrics(), HasSubstr(R"(tandem_router_attempts_in_flight{model="tiny"} 1)"));
  EXPECT_FALSE(groups_->HasSent());
  Finish(sent);
  EXPECT_EQ(first.Read().status, 200);
  Finish(groups_->WaitSent());
  const RawResponse late = second.Read();
  EXPECT_EQ(late.status, 200);
  EXPECT_THAT(late.body, Not(HasSubstr("\"admission_us\":0.0")));
  EXPECT_THAT(HealthBody(), HasSubstr("\"queued\":0"));
  EXPECT_THAT(Metrics(), HasSubstr(R"(tandem_router_attempts_in_flight{model="tiny"} 0)"));
  EXPECT_THAT(Metrics(), HasSubstr(R"(tandem_router_index_blocks{model="tiny"} 0)"));
  EXPECT_THAT(Metrics(), HasSubstr(R"(tandem_router_routed_total{model="tiny",reason=)"));
}

TEST_F(PoolTest, AClientThatLeavesGivesUpItsPlace) {
  StartSlow();
  RawClient first(port()), third(port());
  first.Send(For("tiny"));
  const FakeGroups::Sent sent = groups_->WaitSent();
  {
    RawClient second(port());
    second.Send(For("tiny", {}, "second"));
    WaitForHealth("\"queued\":1");
  }
  WaitForHealth("\"queued\":0");
  third.Send(For("tiny", {}, "third"));
  WaitForHealth("\"queued\":1");
  Finish(sent);
  EXPECT_EQ(first.Read().status, 200);
  const FakeGroups::Sent next = groups_->WaitSent();
  EXPECT_EQ(next.request.request, 3u);
  Finish(next);
  EXPECT_EQ(third.Read().status, 200);
}

TEST_F(PoolTest, AFullQueueRefusesAndSaysWhenToComeBack) {
  settings_.service.admission.max_queued = 1;
  StartSlow();
  RawClient first(port()), second(port()), third(port());
  first.Send(For("tiny"));
  const FakeGroups::Sent sent = groups_->WaitSent();
  second.Send(For("tiny"));
  WaitForHealth("\"queued\":1");
  third.Send(For("tiny", {}, std::string(300, 'a')));  // 3 s and more
  const RawResponse refused = third.Read();
  EXPECT_EQ(refused.status, 429);
  EXPECT_THAT(refused.body, HasSubstr("\"code\":\"queue_full\""));
  EXPECT_GE(std::stoi(refused.Header("retry-after")), 2);  // by the prediction
  EXPECT_THAT(Metrics(),
              HasSubstr(R"(tandem_router_rejected_total{model="tiny",why="queue_full"} 1)"));
  Finish(sent);
  EXPECT_EQ(first.Read().status, 200);
  Finish(groups_->WaitSent());
  EXPECT_EQ(second.Read().status, 200);
}

TEST_F(PoolTest, ADeadlineThatCannotBeMetIsRefusedAtOnce) {
  StartSlow();
  RawClient client(port());
  client.Send(For("tiny", "x-tandem-ttft-deadline-ms: 20\r\n", std::string(300, 'a')));
  const RawResponse refused = client.Read();
  EXPECT_EQ(refused.status, 429);
  EXPECT_THAT(refused.body, HasSubstr("\"code\":\"deadline\""));
  EXPECT_GE(std::stoi(refused.Header("retry-after")), 2);
  EXPECT_FALSE(groups_->HasSent());
  client.Send(For("tiny", "x-tandem-ttft-deadline-ms: 60000\r\n"));
  const FakeGroups::Sent sent = groups_->WaitSent();
  EXPECT_GT(sent.request.deadline_in, 0);  // the group drops it when it passes there
  EXPECT_LE(sent.request.deadline_in, 60 * kSecond);
  groups_->Answer(sent, {}, 0, FinishReason::kDeadline);
  const RawResponse late = client.Read();
  EXPECT_EQ(late.status, 429);
  EXPECT_THAT(late.body, HasSubstr("\"code\":\"deadline\""));
}

TEST_F(PoolTest, TheDefaultDeadlineEndsWhatWaits) {
  settings_.service.admission.ttft_deadline = 2 * kSecond;
  StartSlow();
  RawClient first(port()), second(port());
  first.Send(For("tiny"));
  const FakeGroups::Sent sent = groups_->WaitSent();
  second.Send(For("tiny"));  // predicted in time, but the group never goes on
  const RawResponse refused = second.Read();
  EXPECT_EQ(refused.status, 429);
  EXPECT_THAT(refused.body, HasSubstr("\"code\":\"deadline\""));
  Finish(sent);
  EXPECT_EQ(first.Read().status, 200);
}

TEST_F(PoolTest, ASilentClientGoesBeforeOneThatFloods) {
  settings_.keys = *ApiKeys::Parse("flood\nsilent\n", "keys");
  StartSlow();
  const std::string flood = "Authorization: Bearer flood\r\n";
  std::vector<std::unique_ptr<RawClient>> clients;
  for (int i = 0; i < 4; ++i) {
    clients.push_back(std::make_unique<RawClient>(port()));
    clients.back()->Send(For("tiny", flood));
    if (i > 0) WaitForHealth(fmt::format("\"queued\":{}", i));
  }
  const FakeGroups::Sent first = groups_->WaitSent();
  RawClient silent(port());
  silent.Send(For("tiny", "Authorization: Bearer silent\r\n"));
  WaitForHealth("\"queued\":4");
  Finish(first);
  const FakeGroups::Sent next = groups_->WaitSent();
  EXPECT_EQ(next.request.request, 5u);
  Finish(next);
  EXPECT_EQ(silent.Read().status, 200);
  for (int i = 1; i < 4; ++i) Finish(groups_->WaitSent());
  for (const auto& client : clients) EXPECT_EQ(client->Read().status, 200);
}

TEST_F(PoolTest, AHigherClassGoesFirst) {
  settings_.service.admission.highest_priority = "normal";
  StartSlow();
  RawClient first(port()), low(port()), normal(port());
  first.Send(For("tiny"));
  const FakeGroups::Sent sent = groups_->WaitSent();
  low.Send(For("tiny", "x-tandem-priority: low\r\n"));
  WaitForHealth("\"queued\":1");
  normal.Send(For("tiny", "x-tandem-priority: normal\r\n"));
  WaitForHealth("\"queued\":2");
  Finish(sent);
  const FakeGroups::Sent next = groups_->WaitSent();
  EXPECT_EQ(next.request.request, 3u);
  Finish(next);
  const FakeGroups::Sent last = groups_->WaitSent();
  EXPECT_LT(last.request.priority, next.request.priority);
  Finish(last);
  for (RawClient* client : {&first, &low, &normal}) EXPECT_EQ(client->Read().status, 200);
}

TEST_F(PoolTest, HeadersThatSayNothingAreRefused) {
  settings_.service.admission.highest_priority = "normal";
  StartWithGroup();
  RawClient client(port());
  for (const char* header :
       {"x-tandem-ttft-deadline-ms: 0", "x-tandem-ttft-deadline-ms: soon",
        "x-tandem-ttft-deadline-ms: 1.5", "x-tandem-ttft-deadline-ms: 99999999999999999999",
        "x-tandem-priority: high", "x-tandem-priority: urgent"}) {
    client.Send(For("tiny", fmt::format("{}\r\n", header)));
    const RawResponse refused = client.Read();
    EXPECT_EQ(refused.status, 400) << header;
    EXPECT_THAT(refused.body, HasSubstr("\"param\":\"x-tandem-")) << header;
  }
}

TEST_F(PoolTest, ASessionStaysOnItsGroup) {
  settings_.service.policy = "session";
  settings_.session_header = "X-Session";
  Start();
  for (int i = 0; i < 8; ++i) groups_->Up(fmt::format("g{}", i));
  WaitForHealth("\"groups_up\":8");
  RawClient client(port());
  std::set<int32_t> used;
  for (int session = 0; session < 16; ++session) {
    GroupId group;
    for (int turn = 0; turn < 2; ++turn) {
      client.Send(For("tiny", fmt::format("x-session: s{}\r\n", session)));
      const FakeGroups::Sent sent = groups_->WaitSent();
      if (turn > 0) {
        EXPECT_EQ(sent.group, group);
      }
      group = sent.group;
      Finish(sent);
      EXPECT_EQ(client.Read().status, 200);
    }
    used.insert(group.value);
  }
  EXPECT_GT(used.size(), 1u);
}

TEST_F(PoolTest, AReloadChangesWhatComesNextAndNoStream) {
  ServerSettings next;
  next.keys = *ApiKeys::Parse("new\n", "keys");
  next.service.aliases = {{"fresh", {{.model = "tiny"}}}};
  next.service.groups = {{"g0", "tiny"}, {"g9", "tiny"}};
  next.service.policy = "round_robin";
  next.service.max_queued_requests = 1;
  bool good = false;
  options_.reload = [&]() -> StatusOr<ServerSettings> {
    if (!good) return InvalidArgument("c.yaml:1:1: bad\nc.yaml:2:1: worse");
    return next;
  };
  Start(*ApiKeys::Parse("old\n", "keys"));
  groups_->Up("g0");
  RawClient stream(port());
  const auto post = [](const char* key, const char* model) {
    return RawClient::Post("/v1/chat/completions",
                           fmt::format(R"({{"model":"{}","messages":[{{"role":"user","content":)"
                                       R"("Hi"}}],"stream":true}})",
                                       model),
                           fmt::format("Authorization: Bearer {}\r\n", key));
  };
  WaitForHealth("\"ready\":true");
  stream.Send(post("old", "tiny"));
  const FakeGroups::Sent sent = groups_->WaitSent();
  groups_->Answer(sent, Tokens("a"), 0);
  stream.ReadUntil("\"content\":\"a\"");

  server_->Reload();  // a file with mistakes
  RawClient client(port());
  client.Send(post("old", "fresh"));
  EXPECT_EQ(client.Read().status, 404);

  good = true;
  server_->Reload();
  WaitForHealth(R"("name":"g9","state":"down")");
  client.Send(post("old", "tiny"));
  EXPECT_EQ(client.Read().status, 401);
  client.Send(post("new", "fresh"));
  const RawResponse refused = client.Read();  // one is in flight, and that is the limit now
  EXPECT_EQ(refused.status, 429);
  groups_->Answer(sent, Tokens("b"), 1, FinishReason::kLength);
  EXPECT_THAT(stream.ReadUntil("[DONE]"), HasSubstr("\"content\":\"b\""));
  client.Send(post("new", "fresh"));
  const FakeGroups::Sent fresh = groups_->WaitSent();
  Finish(fresh);
  EXPECT_THAT(client.ReadUntil("[DONE]"), HasSubstr("\"model\":\"tiny\""));
}

}  // namespace
}  // namespace tandem::http
