// Streams over real sockets: order of chunks, stop strings, clients that leave or do not read,
// groups that are lost, draining.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/router/http/fixture.h"

namespace tandem::http {
namespace {

using routing::FinishReason;
using ::testing::HasSubstr;
using ::testing::Not;

class StreamTest : public ServerTest {};

TEST_F(StreamTest, ChunksArriveAsTheyAreMade) {
  StartWithGroup();
  RawClient client(port());
  client.Send(ChatPost("Hi", R"(,"stream":true,"stream_options":{"include_usage":true})"));
  const FakeGroups::Sent sent = groups_->WaitSent();
  groups_->Answer(sent, Tokens("a"), 0);
  const std::string first = client.ReadUntil("\"content\":\"a\"");
  EXPECT_THAT(first, HasSubstr("content-type: text/event-stream"));
  EXPECT_THAT(first, HasSubstr(R"("delta":{"role":"assistant","content":""})"));
  EXPECT_THAT(first, HasSubstr("\"usage\":null"));
  groups_->Answer(sent, Tokens("b"), 1);
  EXPECT_THAT(client.ReadUntil("\"content\":\"b\""), HasSubstr("data: "));
  groups_->Answer(sent, {end_id()}, 2, FinishReason::kStop);
  const std::string rest = client.ReadUntil("\r\n0\r\n\r\n");
  EXPECT_THAT(rest, HasSubstr(R"("delta":{},"logprobs":null,"finish_reason":"stop")"));
  EXPECT_THAT(rest, HasSubstr(R"("choices":[],"usage":{"prompt_tokens":)"));
  EXPECT_THAT(rest, HasSubstr("data: [DONE]\n\n"));
  client.Send(RawClient::Get("/health"));  // the connection stays
  EXPECT_EQ(client.Read().status, 200);
}

TEST_F(StreamTest, CompletionChunksAndHttp10) {
  StartWithGroup();
  RawClient client(port());
  const std::string body = R"({"model":"tiny","prompt":"p","stream":true})";
  client.Send(
      fmt::format("POST /v1/completions HTTP/1.0\r\nContent-Type: application/json\r\n"
                  "Content-Length: {}\r\n\r\n{}",
                  body.size(), body));
  groups_->Answer(groups_->WaitSent(), Tokens("z"), 0, FinishReason::kLength);
  const RawResponse response = client.Read();  // to the end of the connection
  EXPECT_EQ(response.Header("transfer-encoding"), "");
  EXPECT_THAT(response.body, HasSubstr(R"("choices":[{"index":0,"text":"z")"));
  EXPECT_THAT(response.body, HasSubstr("[DONE]"));
}

TEST_F(StreamTest, AStopStringEndsItAndCancelsTheRest) {
  StartWithGroup();
  RawClient client(port());
  client.Send(ChatPost("Hi", R"(,"stream":true,"stop":["END"])"));
  const FakeGroups::Sent sent = groups_->WaitSent();
  const std::vector<TokenId> tokens = Tokens("one END two");
  for (size_t i = 0; i < tokens.size(); ++i) {
    groups_->Answer(sent, {tokens[i]}, static_cast<int>(i));
  }
  const std::string all = client.ReadUntil("[DONE]");
  EXPECT_THAT(all, HasSubstr("\"finish_reason\":\"stop\""));
  std::string text;
  for (size_t at = 0; (at = all.find("\"content\":\"", at)) != std::string::npos;) {
    at += 11;
    text += all.substr(at, all.find('"', at) - at);
  }
  EXPECT_EQ(text, "one ");
  EXPECT_EQ(groups_->WaitCancel().request, sent.request.request);
  groups_->Answer(sent, {}, static_cast<int>(tokens.size()), FinishReason::kCancelled);
  client.ReadUntil("\r\n0\r\n\r\n");
  client.Send(RawClient::Get("/health"));
  EXPECT_THAT(client.Read().body, HasSubstr("\"in_flight\":0"));
}

TEST_F(StreamTest, AClientThatLeavesIsCancelledAtOnce) {
  StartWithGroup();
  RawClient before(port()), during(port()), whole(port());
  before.Send(ChatPost("a", R"(,"stream":true)"));
  const FakeGroups::Sent first = groups_->WaitSent();
  before.Close();  // nothing was sent yet
  EXPECT_EQ(groups_->WaitCancel().request, first.request.request);

  during.Send(ChatPost("b", R"(,"stream":true)"));
  const FakeGroups::Sent second = groups_->WaitSent();
  groups_->Answer(second, Tokens("x"), 0);
  during.ReadUntil("\"content\":\"x\"");
  during.Reset();
  EXPECT_EQ(groups_->WaitCancel().request, second.request.request);

  whole.Send(ChatPost("c"));
  const FakeGroups::Sent third = groups_->WaitSent();
  whole.Close();
  EXPECT_EQ(groups_->WaitCancel().request, third.request.request);

  RawClient client(port());  // tokens that come late hurt nobody
  for (const FakeGroups::Sent& sent : {first, second, third}) {
    groups_->Answer(sent, Tokens("late"), 1, FinishReason::kStop);
  }
  client.Send(ChatPost("d"));
  groups_->Answer(groups_->WaitSent(), Tokens("y"), 0, FinishReason::kLength);
  EXPECT_EQ(client.Read().status, 200);
  client.Send(RawClient::Get("/metrics"));
  EXPECT_THAT(client.Read().body, HasSubstr("tandem_router_errors_total{kind=\"client_gone\"} 3"));
}

// However much it has sent behind its request: its end is seen behind that.
TEST_F(StreamTest, AClientThatPipelinesMuchAndLeavesIsCancelledAtOnce) {
  StartWithGroup();
  const std::string next = ChatPost(std::string(300 << 10, 'x'));
  for (const bool streaming : {false, true}) {
    for (const bool reset : {false, true}) {
      RawClient client(port());
      client.Send(ChatPost("a", streaming ? R"(,"stream":true)" : ""));
      const FakeGroups::Sent sent = groups_->WaitSent();
      ASSERT_TRUE(client.Send(next));
      if (reset) {
        client.Reset();
      } else {
        client.Close();
      }
      EXPECT_EQ(groups_->WaitCancel().request, sent.request.request);
    }
  }
}

TEST_F(StreamTest, PipelinedBytesAreBoundedWhileAReplyIsMade) {
  settings_.limits.max_header_bytes = 1024;
  settings_.limits.max_body_bytes = 64 << 10;
  StartWithGroup();
  const std::string flood(1 << 20, 'x');
  RawClient whole(port()), streaming(port());
  whole.Send(ChatPost("a"));
  const FakeGroups::Sent first = groups_->WaitSent();
  whole.Send(flood);  // may fail half-way
  EXPECT_EQ(groups_->WaitCancel().request, first.request.request);
  const RawResponse response = whole.Read();
  EXPECT_EQ(response.status, 400);
  EXPECT_EQ(response.Header("connection"), "close");
  EXPECT_THAT(response.body, HasSubstr("\"code\":\"pipelined_too_much\""));

  streaming.Send(ChatPost("b", R"(,"stream":true)"));
  const FakeGroups::Sent second = groups_->WaitSent();
  groups_->Answer(second, Tokens("x"), 0);
  streaming.ReadUntil("\"content\":\"x\"");
  streaming.Send(flood);
  EXPECT_EQ(groups_->WaitCancel().request, second.request.request);
  EXPECT_THAT(streaming.ReadUntil("\r\n0\r\n\r\n"), HasSubstr("pipelined_too_much"));
}

TEST_F(StreamTest, ManyPipelinedRequestsAreAnsweredInOrder) {
  StartWithGroup();
  RawClient client(port());
  client.Send(ChatPost("a"));
  const FakeGroups::Sent sent = groups_->WaitSent();
  constexpr int kMore = 5000;  // some 200 KB of them wait behind the reply
  std::string more;
  for (int i = 0; i < kMore; ++i) more += RawClient::Get(i % 2 == 0 ? "/ready" : "/nothing");
  ASSERT_TRUE(client.Send(more));
  groups_->Answer(sent, Tokens("x"), 0, FinishReason::kLength);
  EXPECT_THAT(client.Read().body, HasSubstr("\"content\":\"x\""));
  for (int i = 0; i < kMore; ++i) ASSERT_EQ(client.Read().status, i % 2 == 0 ? 200 : 404) << i;
}

// Its end may be seen before the write that gave it the last bytes is.
TEST_F(StreamTest, AClientThatLeavesWithItsWholeReplyWasAnswered) {
  StartWithGroup();
  constexpr int kClients = 100;
  for (int i = 0; i < kClients; ++i) {
    RawClient client(port());
    client.Send(ChatPost("a"));
    groups_->Answer(groups_->WaitSent(), Tokens("x"), 0, FinishReason::kLength);
    ASSERT_EQ(client.Read().status, 200);
  }
  RawClient client(port());
  client.Send(RawClient::Get("/metrics"));
  EXPECT_THAT(
      client.Read().body,
      HasSubstr(fmt::format("tandem_router_responses_total{{status=\"200\"}} {}", kClients)));
}

// Clients that leave at any moment of a request's life: before, while and after its tokens come.
TEST_F(StreamTest, ClientsThatLeaveAtAnyMomentLeaveNothing) {
  StartWithGroup();
  constexpr int kClients = 300;
  std::vector<std::unique_ptr<RawClient>> clients;
  std::vector<FakeGroups::Sent> sent;
  for (int i = 0; i < kClients; ++i) {
    clients.push_back(std::make_unique<RawClient>(port()));
    const bool leaves = i % 5 == 4;  // before its request gets to the group, or soon after
    clients.back()->Send(
        ChatPost("s", fmt::format(R"(,"stream":{},"max_tokens":{})", i % 2 == 0, leaves ? 4 : 5)));
    if (leaves) clients.back()->Close();
  }
  for (int staying = 0; staying < kClients / 5 * 4;) {
    sent.push_back(groups_->WaitSent());
    ASSERT_NE(sent.back().request.max_tokens, 0) << "none came";
    staying += sent.back().request.max_tokens == 5 ? 1 : 0;
  }
  for (int step = 0; step < 3; ++step) {
    std::vector<routing::SequenceTokens> sequences;
    for (const FakeGroups::Sent& to : sent) {
      routing::SequenceTokens s;
      s.request = to.request.request;
      s.first_index = step;
      s.tokens = Tokens("x");
      if (step == 2) s.finish = FinishReason::kLength;
      sequences.push_back(std::move(s));
    }
    groups_->Report(group_, std::move(sequences));
    for (int i = step; i < kClients; i += 5) {
      if (i % 2 == 0) {
        clients[static_cast<size_t>(i)]->Close();
      } else {
        clients[static_cast<size_t>(i)]->Reset();
      }
    }
  }
  for (int i = 3; i < kClients; i += 5) {
    const RawResponse response = clients[static_cast<size_t>(i)]->Read();
    ASSERT_EQ(response.status, 200) << i;
    EXPECT_THAT(response.body, HasSubstr("\"finish_reason\":\"length\"")) << i;
  }
  RawClient client(port());
  std::string metrics;
  while (metrics.find("tandem_router_requests_in_flight 0\n") == std::string::npos) {
    client.Send(RawClient::Get("/metrics"));
    metrics = client.Read().body;
    ASSERT_FALSE(metrics.empty());
  }
}

TEST_F(StreamTest, AReaderThatDoesNotReadIsCutOffAndDelaysNobody) {
  settings_.limits.max_stream_buffer_bytes = 16 << 10;
  StartWithGroup();
  RawClient slow(port(), 4096), quick(port());
  slow.Send(ChatPost("a", R"(,"stream":true)"));
  const FakeGroups::Sent to_slow = groups_->WaitSent();
  quick.Send(ChatPost("b", R"(,"stream":true)"));
  const FakeGroups::Sent to_quick = groups_->WaitSent();
  const std::vector<TokenId> tokens = Tokens(std::string(1000, 'w'));
  int to_quick_count = 0;
  for (int i = 0; i < 200; ++i) {
    groups_->Answer(to_slow, tokens, i * static_cast<int>(tokens.size()));
    if (i % 20 == 0) {
      groups_->Answer(to_quick, Tokens("q"), to_quick_count++);
      EXPECT_FALSE(quick.ReadUntil("\"content\":\"q\"").empty());
    }
  }
  EXPECT_EQ(groups_->WaitCancel().request, to_slow.request.request);
  quick.Send(" ");
  RawClient client(port());
  client.Send(RawClient::Get("/metrics"));
  EXPECT_THAT(client.Read().body, HasSubstr("tandem_router_errors_total{kind=\"slow_reader\"} 1"));
}

TEST_F(StreamTest, AReaderWithoutProgressIsCutOffInTime) {
  settings_.limits.max_stream_buffer_bytes = 64 << 20;
  settings_.limits.slow_reader_timeout = 200 * kMillisecond;
  StartWithGroup();
  RawClient slow(port(), 4096);
  slow.Send(ChatPost("a", R"(,"stream":true)"));
  const FakeGroups::Sent sent = groups_->WaitSent();
  const std::vector<TokenId> tokens = Tokens(std::string(1000, 'w'));
  for (int i = 0; i < 3000; ++i) {
    groups_->Answer(sent, tokens, i * static_cast<int>(tokens.size()));
  }
  EXPECT_EQ(groups_->WaitCancel().request, sent.request.request);
}

TEST_F(StreamTest, ALostGroupEndsItsStreamsWithAnErrorEvent) {
  StartWithGroup();
  RawClient streaming(port()), waiting(port());
  streaming.Send(ChatPost("a", R"(,"stream":true)"));
  groups_->Answer(groups_->WaitSent(), Tokens("x"), 0);
  streaming.ReadUntil("\"content\":\"x\"");
  waiting.Send(ChatPost("b"));
  groups_->WaitSent();
  groups_->Lose(group_, "rank 1 was killed");
  const std::string rest = streaming.ReadUntil("\r\n0\r\n\r\n");
  EXPECT_THAT(rest, HasSubstr(R"(data: {"error":{"message":"the group 'g0')"));
  EXPECT_THAT(rest, HasSubstr("rank 1 was killed"));
  EXPECT_THAT(rest, HasSubstr(R"("code":"group_lost")"));
  EXPECT_THAT(rest, Not(HasSubstr("[DONE]")));
  EXPECT_TRUE(streaming.AtEnd());
  const RawResponse response = waiting.Read();
  EXPECT_EQ(response.status, 503);
  EXPECT_THAT(response.body, HasSubstr(R"("code":"group_lost")"));
  // The group comes back under a new id, and the router serves again.
  groups_->Up("g0");
  RawResponse ready;
  while (ready.status != 200) {
    waiting.Send(RawClient::Get("/ready"));
    ready = waiting.Read();
    ASSERT_NE(ready.status, 0);
  }
  waiting.Send(ChatPost("c"));
  groups_->Answer(groups_->WaitSent(), Tokens("y"), 0, FinishReason::kLength);
  EXPECT_EQ(waiting.Read().status, 200);
}

TEST_F(StreamTest, WhatHasNoOutputYetGoesToAnotherGroup) {
  StartWithGroup();
  RawClient client(port());
  client.Send(ChatPost("a", R"(,"stream":true)"));
  const FakeGroups::Sent lost = groups_->WaitSent();
  const GroupId other = groups_->Up("g1");
  groups_->Lose(group_, "gone");
  const FakeGroups::Sent again = groups_->WaitSent();
  EXPECT_EQ(again.group, other);
  EXPECT_EQ(again.request.request, lost.request.request);
  EXPECT_EQ(again.request.attempt, lost.request.attempt + 1);
  EXPECT_EQ(again.request.seed, lost.request.seed);
  EXPECT_EQ(again.request.prompt, lost.request.prompt);
  groups_->Answer(lost, Tokens("ghost"), 0);  // late, of a group that is gone
  groups_->Answer(again, Tokens("z"), 0, FinishReason::kLength);
  const std::string all = client.ReadUntil("[DONE]");
  EXPECT_THAT(all, HasSubstr("\"content\":\"z\""));
  EXPECT_THAT(all, Not(HasSubstr("ghost")));
}

TEST_F(StreamTest, TheAccountComesWithTheLastChunk) {
  StartWithGroup();
  RawClient client(port());
  client.Send(ChatPost("a", R"(,"stream":true)", "x-tandem-timing: 1\r\n"));
  const FakeGroups::Sent sent = groups_->WaitSent();
  groups_->Answer(sent, {Tokens("x")[0], end_id()}, 0, FinishReason::kStop);  // all in one step
  const std::string all = client.ReadUntil("[DONE]");
  EXPECT_THAT(all, HasSubstr("\"timing\":{\"ttft_us\":"));
  EXPECT_THAT(all, HasSubstr("\"prefill_us\":20.0"));
  EXPECT_THAT(all, HasSubstr("\"residual_us\":"));
  EXPECT_THAT(all, Not(HasSubstr("\"flush_us\":0.0")));
  client.ReadUntil("\r\n0\r\n\r\n");
  client.Send(ChatPost("a", "", "x-tandem-timing: 1\r\n"));
  groups_->Answer(groups_->WaitSent(), Tokens("x"), 0, FinishReason::kLength);
  EXPECT_THAT(client.Read().body, HasSubstr("\"timing\":{\"ttft_us\":"));
}

TEST_F(StreamTest, LongPromptsArePreparedBesideTheStreams) {
  service_options_.inline_text_bytes = 100;
  service_options_.text_threads = 2;
  Start();
  groups_->Up("g0", 1 << 20);
  std::vector<std::unique_ptr<RawClient>> clients;
  for (int i = 0; i < 4; ++i) {
    clients.push_back(std::make_unique<RawClient>(port()));
    clients.back()->Send(ChatPost(std::string(20000, static_cast<char>('a' + i))));
  }
  for (int i = 0; i < 4; ++i) {
    groups_->Answer(groups_->WaitSent(), Tokens("ok"), 0, FinishReason::kLength);
  }
  for (auto& client : clients) EXPECT_EQ(client->Read().status, 200);
}

TEST_F(StreamTest, ALeavingClientsLongPromptIsDropped) {
  service_options_.inline_text_bytes = 100;
  Start();
  groups_->Up("g0", 1 << 20);
  RawClient client(port());
  client.Send(ChatPost(std::string(200000, 'x')));
  client.Close();
  RawClient next(port());
  next.Send(ChatPost("short"));
  // The first one may have been sent before its client was seen to be gone: then it is cancelled.
  FakeGroups::Sent sent = groups_->WaitSent();
  if (sent.request.prompt.size() > 1000) {
    EXPECT_EQ(groups_->WaitCancel().request, sent.request.request);
    sent = groups_->WaitSent();
  }
  groups_->Answer(sent, Tokens("ok"), 0, FinishReason::kLength);
  EXPECT_EQ(next.Read().status, 200);
}

// What clients sent who are gone does not hold up the others.
TEST_F(StreamTest, PromptsOfLeaversAreNotRead) {
  Start();
  groups_->Up("g0", 1 << 22);
  const std::string text(1 << 20, 'x');
  const auto read = [&] {
    const Nanos start = MonotonicNow();
    RawClient client(port());
    client.Send(ChatPost(text));
    FakeGroups::Sent sent = groups_->WaitSent();
    while (sent.request.max_tokens == 1) sent = groups_->WaitSent();  // a leaver's
    groups_->Answer(sent, Tokens("ok"), 0, FinishReason::kLength);
    EXPECT_EQ(client.Read().status, 200);
    return MonotonicNow() - start;
  };
  const Nanos alone = read();
  constexpr int kLeavers = 40;
  for (int i = 0; i < kLeavers; ++i) {
    RawClient leaver(port());
    leaver.Send(ChatPost(text, R"(,"max_tokens":1)"));
    leaver.Close();
  }
  EXPECT_LT(read(), kLeavers / 4 * alone);
}

TEST_F(StreamTest, DrainingFinishesStreamsAndRefusesNewOnes) {
  StartWithGroup();
  RawClient streaming(port()), idle(port()), late(port());
  idle.Send(RawClient::Get("/health"));
  EXPECT_EQ(idle.Read().status, 200);
  late.Send("GET /health HTTP/1.1\r\nHost: t\r\n");  // a request half read
  streaming.Send(ChatPost("a", R"(,"stream":true)"));
  const FakeGroups::Sent sent = groups_->WaitSent();
  groups_->Answer(sent, Tokens("x"), 0);
  streaming.ReadUntil("\"content\":\"x\"");
  server_->Drain();
  EXPECT_TRUE(idle.AtEnd());
  late.Send("\r\n");
  EXPECT_THAT(late.Read().body, HasSubstr("draining"));
  RawClient fresh(port());
  fresh.Send(ChatPost("b"));
  const RawResponse refused = fresh.Read();
  EXPECT_EQ(refused.status, 503);
  EXPECT_EQ(refused.Header("connection"), "close");
  groups_->Answer(sent, Tokens("y"), 1, FinishReason::kLength);
  EXPECT_THAT(streaming.ReadUntil("[DONE]"), HasSubstr("\"content\":\"y\""));
  Join();  // Run() returns on its own
}

TEST_F(StreamTest, DrainingHasAnEnd) {
  settings_.limits.drain_timeout = 100 * kMillisecond;
  StartWithGroup();
  RawClient client(port());
  client.Send(ChatPost("a", R"(,"stream":true)"));
  const FakeGroups::Sent sent = groups_->WaitSent();
  groups_->Answer(sent, Tokens("x"), 0);
  server_->Drain();
  EXPECT_THAT(client.ReadUntil("\r\n0\r\n\r\n"), HasSubstr("\"code\":\"draining\""));
  EXPECT_EQ(groups_->WaitCancel().request, sent.request.request);
  Join();
}

TEST_F(StreamTest, ManyStreamsAtOnceKeepTheirTokensApart) {
  StartWithGroup();
  constexpr int kStreams = 32, kSteps = 50;
  std::vector<std::unique_ptr<RawClient>> clients;
  std::vector<FakeGroups::Sent> sent;
  for (int i = 0; i < kStreams; ++i) {
    clients.push_back(std::make_unique<RawClient>(port()));
    clients.back()->Send(ChatPost("s", R"(,"stream":true)"));
    sent.push_back(groups_->WaitSent());
  }
  for (int step = 0; step < kSteps; ++step) {
    std::vector<routing::SequenceTokens> sequences;
    for (int i = 0; i < kStreams; ++i) {
      routing::SequenceTokens s;
      s.request = sent[static_cast<size_t>(i)].request.request;
      s.first_index = step;
      s.tokens = Tokens(std::string(1, static_cast<char>('A' + (i + step) % 26)));
      if (step == kSteps - 1) s.finish = FinishReason::kLength;
      sequences.push_back(std::move(s));
    }
    groups_->Report(group_, std::move(sequences));
  }
  for (int i = 0; i < kStreams; ++i) {
    const std::string all = clients[static_cast<size_t>(i)]->ReadUntil("[DONE]");
    std::string text, want;
    for (size_t at = 0; (at = all.find("\"content\":\"", at)) != std::string::npos;) {
      at += 11;
      text += all.substr(at, all.find('"', at) - at);
    }
    for (int step = 0; step < kSteps; ++step) want += static_cast<char>('A' + (i + step) % 26);
    EXPECT_EQ(text, want) << "stream " << i;
  }
}

// The next request may arrive while the watch for the client's end is being stopped.
TEST_F(StreamTest, ManyRequestsOnOneConnection) {
  StartWithGroup();
  RawClient client(port());
  for (int i = 0; i < 300; ++i) {
    client.Send(ChatPost("again", i % 2 == 0 ? R"(,"stream":true)" : ""));
    groups_->Answer(groups_->WaitSent(), Tokens("x"), 0, FinishReason::kLength);
    const RawResponse response = client.Read();
    ASSERT_EQ(response.status, 200) << i;
    ASSERT_THAT(response.body, HasSubstr("\"content\":\"x\""));
  }
}

TEST_F(StreamTest, APrefixThatAGroupHoldsIsSentThere) {
  Start();
  const GroupId a = groups_->Up("g0", 4096), b = groups_->Up("g1", 4096);
  RawClient client(port());
  const std::string prompt(1500, 'p');
  client.Send(ChatPost(prompt));
  const FakeGroups::Sent sent = groups_->WaitSent();
  std::vector<routing::KvEvent> events;
  BlockHash hash = RootHash("seed", "");
  const std::span<const TokenId> tokens(sent.request.prompt);
  for (size_t i = 0; i + 16 <= tokens.size(); i += 16) {
    const BlockHash parent = hash;
    hash = HashBlock(hash, tokens.subspan(i, 16));
    events.push_back({.number = events.size() + 1,
                      .kind = routing::KvEvent::Kind::kStored,
                      .hash = hash,
                      .parent = parent});
  }
  groups_->Report(sent.group, {}, events);
  groups_->Answer(sent, Tokens("x"), 0, FinishReason::kLength);
  EXPECT_EQ(client.Read().status, 200);
  for (int i = 0; i < 10; ++i) {
    client.Send(ChatPost(prompt));
    const FakeGroups::Sent again = groups_->WaitSent();
    EXPECT_EQ(again.group, sent.group);
    groups_->Answer(again, Tokens("x"), 0, FinishReason::kLength);
    EXPECT_EQ(client.Read().status, 200);
  }
  EXPECT_TRUE(sent.group == a || sent.group == b);
}

}  // namespace
}  // namespace tandem::http
