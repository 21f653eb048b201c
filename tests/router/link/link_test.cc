// Both ends of the wire over real sockets: what docs/wire.md promises.
#include <gtest/gtest.h>
#include <zmq.h>

#include <string>

#include "proto/tandem.pb.h"
#include "tests/router/link/link_options.h"

namespace tandem {
namespace {

using testing::FakeLeader;
using testing::LeaderOptionsFor;
using testing::OpenRouter;
using testing::RecordingListener;
using testing::Request;
using testing::RouterOptions;
using testing::StepWith;
using testing::WaitForSessions;

engine::KvEvent Stored(uint64_t number, uint64_t hash, uint64_t parent) {
  return {number, engine::KvEvent::Kind::kStored, {hash, hash}, {parent, parent}};
}

TEST(Link, CarriesARequestAndItsTokens) {
  RecordingListener listener;
  auto router = OpenRouter(listener);
  FakeLeader leader(LeaderOptionsFor(router->endpoint()));
  ASSERT_TRUE(listener.WaitUntil([&] { return listener.ups.size() == 1; }));
  WaitForSessions(leader, 1);
  const routing::GroupInfo info = listener.ups[0];
  EXPECT_EQ(info.name, "g0");
  EXPECT_EQ(info.incarnation, 7u);
  EXPECT_EQ(info.num_blocks, 100);
  EXPECT_EQ(info.device_class, "cpu/reference");

  router->Send(info.id, Request(11));
  ASSERT_TRUE(leader.DrainUntil([&] { return leader.inbound.size() == 1; }));
  const auto generate = std::get<engine::Generate>(leader.inbound[0]);
  EXPECT_EQ(generate.key, (SequenceKey{router->nonce(), 11, 0, 0}));
  EXPECT_EQ(generate.prompt, (std::vector<TokenId>{1, 2, 3}));
  EXPECT_EQ(generate.sampling.temperature, 0.5f);
  EXPECT_EQ(generate.sampling.seed, 42u);
  EXPECT_EQ(generate.sampling.num_logprobs, 2);
  EXPECT_EQ(generate.sampling.repetition_penalty, 1.25f);
  EXPECT_EQ(generate.sampling.presence_penalty, -0.5f);
  EXPECT_EQ(generate.sampling.frequency_penalty, 0.75f);
  EXPECT_EQ(generate.cache_salt, "salt");
  EXPECT_EQ(generate.deadline_in, kSecond);

  link::StepOut step = StepWith(generate.key, 0, 2);
  RowResult row;
  row.logprob = -0.5;
  row.num_top = 2;
  row.top_ids[0] = 9, row.top_ids[1] = 8;
  row.top_logprobs[0] = -0.25, row.top_logprobs[1] = -0.75;
  step.outputs[0].logprobs = {row, row};
  step.outputs[0].timings.queue = 123;
  step.load.queue = {{5, 6, 7, 8}};
  step.load.in_flight = {1, 50, 4, 5, 60, 70};
  step.timing = {3, 1000, 4, 5, 60, 6};
  leader.link().SendStep(std::move(step));
  ASSERT_TRUE(listener.WaitUntil([&] { return listener.tokens.size() == 1; }));
  const routing::SequenceTokens first = listener.tokens[0].second;
  EXPECT_EQ(first.request, 11u);
  EXPECT_EQ(first.tokens, (std::vector<TokenId>{0, 1}));
  ASSERT_EQ(first.logprobs.size(), 2u);
  EXPECT_EQ(first.logprobs[1].top[1].token, 8);
  EXPECT_EQ(first.logprobs[1].top[1].logprob, -0.75f);
  EXPECT_EQ(first.timings.queue, 123);
  EXPECT_EQ(listener.last_load.last_request_seen, 11u);
  EXPECT_EQ(listener.last_load.step_prefill_attention, 60);
  EXPECT_EQ(listener.last_load.step_context_tokens, 6);
  ASSERT_EQ(listener.last_load.queue.size(), 1u);
  EXPECT_EQ(listener.last_load.queue[0].remaining_tokens, 5);
  EXPECT_EQ(listener.last_load.queue[0].priority, 8);
  const routing::WorkInFlight& work = listener.last_load.in_flight;
  EXPECT_EQ(work.num_steps, 1);
  EXPECT_EQ(work.elapsed, 50);
  EXPECT_EQ(work.prefill_tokens, 4);
  EXPECT_EQ(work.num_decodes, 5);
  EXPECT_EQ(work.prefill_attention, 60);
  EXPECT_EQ(work.context_tokens, 70);
  leader.link().SendStep(StepWith(generate.key, 2, 1, /*last=*/true));
  ASSERT_TRUE(listener.WaitUntil([&] { return listener.tokens.size() == 2; }));
  EXPECT_EQ(listener.tokens[1].second.first_index, 2);
  EXPECT_EQ(listener.tokens[1].second.finish, routing::FinishReason::kLength);

  // It has ended: a Cancel that lost the race goes nowhere, what comes late is dropped.
  router->Cancel(info.id, 11, 0, 0);
  router->Send(info.id, Request(12));
  ASSERT_TRUE(leader.DrainUntil([&] { return leader.inbound.size() == 2; }));
  EXPECT_EQ(leader.Count<engine::Cancel>(), 0);
  leader.link().SendStep(StepWith(generate.key, 3, 1));
  EXPECT_EQ(leader.link().stats().outputs_dropped, 1u);
}

TEST(Link, CarriesWhoseFaultAnErrorIs) {
  RecordingListener listener;
  auto router = OpenRouter(listener);
  FakeLeader leader(LeaderOptionsFor(router->endpoint()));
  ASSERT_TRUE(listener.WaitUntil([&] { return listener.ups.size() == 1; }));
  WaitForSessions(leader, 1);
  const std::pair<engine::ErrorKind, routing::ErrorKind> kinds[] = {
      {engine::ErrorKind::kInternal, routing::ErrorKind::kInternal},
      {engine::ErrorKind::kInvalid, routing::ErrorKind::kInvalid},
      {engine::ErrorKind::kGrammar, routing::ErrorKind::kGrammar},
      {engine::ErrorKind::kBusy, routing::ErrorKind::kBusy}};
  for (size_t i = 0; i < std::size(kinds); ++i) {
    router->Send(listener.ups[0].id, Request(i));
    ASSERT_TRUE(leader.DrainUntil([&] { return leader.inbound.size() == i + 1; }));
    link::StepOut step = StepWith(std::get<engine::Generate>(leader.inbound[i]).key, 0, 0);
    step.outputs[0].finish = engine::FinishReason::kError;
    step.outputs[0].error = "why";
    step.outputs[0].error_kind = kinds[i].first;
    leader.link().SendStep(std::move(step));
    ASSERT_TRUE(listener.WaitUntil([&] { return listener.tokens.size() == i + 1; }));
    EXPECT_EQ(listener.tokens[i].second.finish, routing::FinishReason::kError);
    EXPECT_EQ(listener.tokens[i].second.error_kind, kinds[i].second);
    EXPECT_EQ(listener.tokens[i].second.error, "why");
  }
}

TEST(Link, KeepsTheOrderOfThousands) {
  constexpr int kCount = 3000;
  RecordingListener listener;
  auto router = OpenRouter(listener);
  FakeLeader leader(LeaderOptionsFor(router->endpoint()));
  ASSERT_TRUE(listener.WaitUntil([&] { return listener.ups.size() == 1; }));
  WaitForSessions(leader, 1);
  for (int i = 0; i < kCount; ++i) router->Send(listener.ups[0].id, Request(i));
  ASSERT_TRUE(leader.DrainUntil([&] { return leader.Count<engine::Generate>() == kCount; }));
  for (int i = 0; i < kCount; ++i) {
    const auto& generate = std::get<engine::Generate>(leader.inbound[i]);
    ASSERT_EQ(generate.key.request, static_cast<RequestId>(i));
    leader.link().SendStep(StepWith(generate.key, 0, 1));
    leader.link().SendStep(StepWith(generate.key, 1, 1, /*last=*/true));
  }
  ASSERT_TRUE(listener.WaitUntil([&] {
    return std::ssize(listener.tokens) >= kCount &&
           listener.tokens.back().second.request == kCount - 1 &&
           listener.tokens.back().second.finish == routing::FinishReason::kLength;
  }));
  // Steps that went out together are one message, and a sequence's tokens in it one entry.
  int token = 0;
  for (const auto& [group, sequence] : listener.tokens) {
    for (const TokenId id : sequence.tokens) {
      EXPECT_EQ(sequence.request, static_cast<RequestId>(token / 2));
      EXPECT_EQ(id, token % 2);
      ++token;
    }
  }
  EXPECT_EQ(token, 2 * kCount);
  EXPECT_TRUE(listener.losses.empty());
  EXPECT_EQ(leader.link().stats().sessions_failed, 0u);
}

TEST(Link, DropsDuplicateTokensAndEndsASequenceWithAGap) {
  RecordingListener listener;
  auto router = OpenRouter(listener);
  FakeLeader leader(LeaderOptionsFor(router->endpoint()));
  ASSERT_TRUE(listener.WaitUntil([&] { return listener.ups.size() == 1; }));
  WaitForSessions(leader, 1);
  router->Send(listener.ups[0].id, Request(1));
  ASSERT_TRUE(leader.DrainUntil([&] { return leader.inbound.size() == 1; }));
  const SequenceKey key = std::get<engine::Generate>(leader.inbound[0]).key;
  leader.link().SendStep(StepWith(key, 0, 3));
  leader.link().SendStep(StepWith(key, 1, 3));  // 1 and 2 are known
  leader.link().SendStep(StepWith(key, 6, 1));  // 4 and 5 are missing
  ASSERT_TRUE(listener.WaitUntil([&] { return listener.tokens.size() == 3; }));
  EXPECT_EQ(listener.tokens[1].second.tokens, (std::vector<TokenId>{3}));
  EXPECT_EQ(listener.tokens[1].second.first_index, 3);
  EXPECT_EQ(listener.tokens[2].second.finish, routing::FinishReason::kError);
  EXPECT_EQ(router->stats().duplicate_tokens, 2u);
  EXPECT_EQ(router->stats().token_gaps, 1u);
  ASSERT_TRUE(leader.DrainUntil([&] { return leader.Count<engine::Cancel>() == 1; }));
}

TEST(Link, ARouterThatComesLaterGetsASnapshotAndThenTheEvents) {
  RecordingListener early, late;
  auto first = OpenRouter(early);
  auto reserved = OpenRouter(late);
  const std::string late_endpoint = reserved->endpoint();
  reserved.reset();
  auto options = LeaderOptionsFor(first->endpoint());
  options.endpoints.push_back(late_endpoint);
  FakeLeader leader(options);
  ASSERT_TRUE(early.WaitUntil([&] { return early.ups.size() == 1; }));
  WaitForSessions(leader, 1);
  // More than one chunk: block i has parent i - 1; then the last one goes.
  constexpr uint64_t kBlocks = 5000;
  link::StepOut step = testing::EmptyStep();
  for (uint64_t i = 1; i <= kBlocks; ++i) step.kv_events.push_back(Stored(i, i, i - 1));
  step.kv_events.push_back({kBlocks + 1, engine::KvEvent::Kind::kRemoved, {kBlocks, kBlocks}, {}});
  leader.link().SendStep(std::move(step));
  ASSERT_TRUE(early.WaitUntil([&] { return early.events.size() == kBlocks + 1; }));
  EXPECT_EQ(first->stats().snapshots, 0u);

  auto second = OpenRouter(late, RouterOptions(late_endpoint));
  ASSERT_TRUE(late.WaitUntil([&] { return late.ups.size() == 1; }));
  WaitForSessions(leader, 2);
  for (uint64_t i = 0; i < 10; ++i) {
    link::StepOut more = testing::EmptyStep();
    more.kv_events.push_back(Stored(kBlocks + 2 + i, kBlocks + i, kBlocks + i - 1));
    leader.link().SendStep(std::move(more));
  }
  ASSERT_TRUE(late.WaitUntil(
      [&] { return !late.events.empty() && late.events.back().second.hash.low == kBlocks + 9; }));
  // A Hello that was queued before the events says that there were none; what is missed since then
  // is a gap, which clears.
  const bool cleared = late.events[0].second.kind == routing::KvEvent::Kind::kCleared;
  const uint64_t first_block = cleared ? 0 : 1;
  ASSERT_EQ(late.events.size(), kBlocks + 10 - first_block);
  for (uint64_t i = 0; i < late.events.size(); ++i) {
    const routing::KvEvent& event = late.events[i].second;
    const uint64_t block = first_block + i;
    EXPECT_EQ(event.number, i + 1);
    EXPECT_EQ(event.kind == routing::KvEvent::Kind::kStored, block != 0);
    EXPECT_EQ(event.hash.low, block);
    EXPECT_EQ(event.parent.low, block == 0 ? 0 : block - 1);
  }
  EXPECT_EQ(second->stats().snapshots, 1u);
}

// A peer that is not ours: raw bytes, a wrong session, numbers that jump.
class RawWorker {
 public:
  explicit RawWorker(const std::string& endpoint) {
    context_ = zmq_ctx_new();
    socket_ = zmq_socket(context_, ZMQ_DEALER);
    const int linger = 0, patience = 60'000;
    zmq_setsockopt(socket_, ZMQ_LINGER, &linger, sizeof(linger));
    zmq_setsockopt(socket_, ZMQ_RCVTIMEO, &patience, sizeof(patience));
    zmq_connect(socket_, endpoint.c_str());
  }
  ~RawWorker() {
    zmq_close(socket_);
    zmq_ctx_term(context_);
  }
  void Send(const std::string& bytes) { zmq_send(socket_, bytes.data(), bytes.size(), 0); }
  void Send(const wire::FromWorker& message) { Send(message.SerializeAsString()); }
  wire::FromRouter Receive(wire::FromRouter::BodyCase wanted) {
    wire::FromRouter message;
    do {
      char buffer[4096];
      const int n = zmq_recv(socket_, buffer, sizeof(buffer), 0);
      if (n < 0 || !message.ParseFromArray(buffer, n)) {
        ADD_FAILURE() << "no answer";
        break;
      }
    } while (message.body_case() != wanted);
    return message;
  }
  wire::FromRouter Hello(uint32_t major = 3) {
    wire::FromWorker message;
    wire::Hello& hello = *message.mutable_hello();
    hello.set_major(major);
    hello.set_group("raw");
    hello.set_model("tiny");
    hello.set_fingerprint("fp");
    hello.set_attempt(1);
    hello.set_block_size(16);
    hello.set_max_context(64);
    hello.set_watchdog(60 * kSecond);
    Send(message);
    return Receive(major == 3 ? wire::FromRouter::kWelcome : wire::FromRouter::kRefuse);
  }

 private:
  void* context_;
  void* socket_;
};

TEST(Link, ARouterAnswersAWrongSessionWithReset) {
  RecordingListener listener;
  auto router = OpenRouter(listener);
  RawWorker worker(router->endpoint());
  worker.Send("not a message");
  worker.Send("");
  wire::FromWorker message;
  message.set_session(99);
  message.set_number(1);
  message.mutable_step();
  worker.Send(message);
  EXPECT_EQ(worker.Receive(wire::FromRouter::kReset).session(), 99u);
  EXPECT_EQ(router->stats().malformed, 2u);
  EXPECT_EQ(router->stats().wrong_session, 1u);

  const uint64_t session = worker.Hello().session();
  EXPECT_EQ(worker.Hello().session(), session) << "a Hello sent twice makes one session";
  EXPECT_TRUE(listener.WaitUntil([&] { return listener.ups.size() == 1; }));
  message.set_session(session);
  worker.Send(message);
  message.set_number(3);
  worker.Send(message);
  EXPECT_TRUE(listener.WaitUntil([&] { return listener.losses.size() == 1; }));
  EXPECT_EQ(listener.num_steps, 1);  // not the one after the gap
}

TEST(Link, ARouterRefusesAnotherProtocol) {
  RecordingListener listener;
  auto router = OpenRouter(listener);
  RawWorker worker(router->endpoint());
  const std::string reason = worker.Hello(/*major=*/2).refuse().reason();
  EXPECT_NE(reason.find("protocol 2"), std::string::npos) << reason;
}

TEST(Link, ARouterEndsASessionThatSendsMalformedEvents) {
  RecordingListener listener;
  auto router = OpenRouter(listener);
  RawWorker worker(router->endpoint());
  wire::FromWorker message;
  message.set_session(worker.Hello().session());
  message.set_number(1);
  wire::KvEvents& events = *message.mutable_step()->mutable_kv_events();
  events.set_first_number(1);
  events.set_kinds(std::string(3, '\0'));
  events.add_words(5);
  worker.Send(message);
  EXPECT_TRUE(listener.WaitUntil([&] { return listener.losses.size() == 1; }));
}

TEST(Link, ARouterAsksForEventsThatCameBeforeTheSession) {
  RecordingListener listener;
  auto router = OpenRouter(listener);
  RawWorker worker(router->endpoint());
  wire::FromWorker message;
  message.set_session(worker.Hello().session());
  message.set_number(1);
  message.mutable_step()->mutable_kv_events()->set_first_number(1);
  worker.Send(message);
  message.set_number(2);
  message.mutable_step()->mutable_kv_events()->set_first_number(4);
  worker.Send(message);
  worker.Receive(wire::FromRouter::kSnapshotRequest);
  EXPECT_EQ(router->stats().snapshots, 1u);
  message.set_number(3);
  wire::SnapshotChunk& chunk = *message.mutable_snapshot();
  chunk.set_as_of(3);
  chunk.set_last(true);
  for (const uint64_t word : {5, 5, 0, 0}) chunk.add_words(word);
  worker.Send(message);
  ASSERT_TRUE(listener.WaitUntil([&] { return listener.events.size() == 2; }));
  EXPECT_EQ(listener.events[1].second.hash.low, 5u);
}

// A router that is not ours: answers when the test says so.
class RawRouter {
 public:
  RawRouter() {
    context_ = zmq_ctx_new();
    socket_ = zmq_socket(context_, ZMQ_ROUTER);
    const int linger = 0, patience = 60'000;
    zmq_setsockopt(socket_, ZMQ_LINGER, &linger, sizeof(linger));
    zmq_setsockopt(socket_, ZMQ_RCVTIMEO, &patience, sizeof(patience));
    TANDEM_CHECK(zmq_bind(socket_, "tcp://127.0.0.1:*") == 0) << zmq_strerror(zmq_errno());
  }
  ~RawRouter() {
    zmq_close(socket_);
    zmq_ctx_term(context_);
  }
  std::string endpoint() const {
    char bound[256] = {};
    size_t size = sizeof(bound);
    zmq_getsockopt(socket_, ZMQ_LAST_ENDPOINT, bound, &size);
    return bound;
  }
  void Send(const wire::FromRouter& message) {
    const std::string bytes = message.SerializeAsString();
    zmq_send(socket_, peer_.data(), peer_.size(), ZMQ_SNDMORE);
    zmq_send(socket_, bytes.data(), bytes.size(), 0);
  }
  // The next message, whoever sent it.
  wire::FromWorker Receive() {
    char buffer[4096];
    const int identity = zmq_recv(socket_, buffer, sizeof(buffer), 0);
    peer_.assign(buffer, static_cast<size_t>(std::max(identity, 0)));
    const int n = zmq_recv(socket_, buffer, sizeof(buffer), 0);
    wire::FromWorker message;
    if (n < 0 || !message.ParseFromArray(buffer, n)) ADD_FAILURE() << "no message";
    return message;
  }
  void Welcome(uint64_t attempt) {
    wire::FromRouter message;
    message.set_session(9);
    wire::Welcome& welcome = *message.mutable_welcome();
    welcome.set_attempt(attempt);
    welcome.set_router(1);
    welcome.set_credits(64);
    Send(message);
  }

 private:
  void* context_;
  void* socket_;
  std::string peer_;
};

TEST(Link, AReportSaysHowManyEventsThereWere) {
  RawRouter router;
  FakeLeader leader(LeaderOptionsFor(router.endpoint()));
  const uint64_t attempt = router.Receive().hello().attempt();
  link::StepOut step = testing::EmptyStep();
  for (uint64_t i = 1; i <= 3; ++i) step.kv_events.push_back(Stored(i, i, i - 1));
  leader.link().SendStep(std::move(step));  // there is no session that it could be sent in
  while (router.Receive().hello().last_event() != 3) {
  }
  router.Welcome(attempt);  // to the Hello that said 0
  WaitForSessions(leader, 1);
  leader.link().SendStep(testing::EmptyStep());
  wire::FromWorker report;
  do {
    report = router.Receive();
  } while (!report.has_step());
  EXPECT_EQ(report.step().kv_events().first_number(), 4u);
  EXPECT_EQ(report.step().kv_events().kinds(), "");
}

}  // namespace
}  // namespace tandem
