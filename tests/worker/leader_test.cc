// The leader's threads over real sockets and a real ring, with a model that says 7.
#include "worker/leader.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <thread>

#include "common/clock.h"
#include "tests/support/fork_rank.h"
#include "tests/support/group_in_a_folder.h"
#include "tests/support/link_pair.h"
#include "worker/rank_loop.h"
#include "worker/ring_ranks.h"

namespace tandem::worker {
namespace {

using testing::RankOptions;
using testing::RecordingListener;
using testing::ShardWith;
using testing::TempFolder;

class SaysSeven : public model::ModelRunner {
 public:
  const model::ModelInfo& info() const override { return info_; }
  Status Prepare(int) override { return OkStatus(); }
  Status Begin(const StepPlan& plan) override {
    plan_ = plan;
    return OkStatus();
  }
  Status Finish(std::span<RowResult> results) override {
    for (size_t i = 0; i < plan_.rows.size(); ++i) {
      results[i] = {};
      if ((plan_.rows[i].flags & kRowSample) != 0) results[i].token = 7;
    }
    return OkStatus();
  }

 private:
  StepPlan plan_;
  model::ModelInfo info_;
};

// One group of one rank, all threads of worker_process.h but the watchdog.
class Group {
 public:
  // `vocabulary`: a model file, for structured output.
  explicit Group(const std::string& endpoint, const std::string& vocabulary = "") {
    options_.engine.num_blocks = 64;
    options_.engine.max_context = 256;
    options_.engine.vocab_size = 100;
    options_.engine.max_seqs = 8;
    options_.engine.max_step_tokens = 32;
    options_.engine.hash_seed = "fp";
    options_.idle_interval = 10 * kMillisecond;
    ranks_ = std::move(link::RankLink::Open(RankOptions(folder_.path(), 0, 1))).value();
    TANDEM_CHECK(ranks_->Agree(ShardWith(64), engine::Engine::LimitsOf(options_.engine)).ok());
    results_.emplace(ranks_->ring().limits().max_rows, [this] { bell_.Ring(); });
    ring_ranks_.emplace(*ranks_, *results_);
    if (!vocabulary.empty()) {
      grammars_.emplace(vocabulary, options_.engine.vocab_size, [this] { bell_.Ring(); });
      options_.grammars = &*grammars_;
    }
    leader_.emplace(options_, *ring_ranks_, bell_);
    model_thread_ = std::thread([this] {
      SaysSeven model;
      EXPECT_TRUE(RunRank(model, ranks_->ring(), 0, &*results_).ok());
    });
    engine_thread_ = std::thread([this, endpoint] {
      ASSERT_TRUE(leader_->RunFirstStep());
      auto link_options = testing::LeaderOptionsFor(endpoint);
      // A router that goes may take all credits with it; only silence tells then.
      link_options.router_silence = 5 * kSecond;
      link_options.on_inbound = [this] { bell_.Ring(); };
      auto routers = std::move(link::RouterLink::Open(link_options)).value();
      EXPECT_EQ(leader_->Run(*routers), Leader::End::kDrained);
      routers->Goodbye("drained", kSecond);
      ranks_->ring().Shutdown();
    });
  }
  void StartDraining() { leader_->StartDraining(); }
  ~Group() {
    leader_->StartDraining();
    engine_thread_.join();
    model_thread_.join();
  }

 private:
  TempFolder folder_;
  LeaderOptions options_;
  std::unique_ptr<link::RankLink> ranks_;
  link::Bell bell_;
  std::optional<Grammars> grammars_;
  std::optional<StepResults> results_;
  std::optional<RingRanks> ring_ranks_;
  std::optional<Leader> leader_;
  std::thread model_thread_, engine_thread_;
};

routing::GenerateRequest Request(RequestId request, int max_tokens) {
  routing::GenerateRequest generate;
  generate.request = request;
  generate.prompt.assign(40, 5);  // two blocks and a half, two chunks
  generate.max_tokens = max_tokens;
  return generate;
}

std::unique_ptr<testing::RunningLink> OpenRouter(RecordingListener& listener) {
  link::GroupLinkOptions options;
  options.endpoint = "tcp://127.0.0.1:*";
  options.silence_slack = 60 * kSecond;
  return std::make_unique<testing::RunningLink>(options, listener);
}

int TokensOf(const RecordingListener& listener, RequestId request) {
  int count = 0;
  for (const auto& [group, sequence] : listener.tokens) {
    if (sequence.request == request) count += static_cast<int>(sequence.tokens.size());
  }
  return count;
}

bool Finished(const RecordingListener& listener, RequestId request, routing::FinishReason reason) {
  for (const auto& [group, sequence] : listener.tokens) {
    if (sequence.request == request && sequence.finish != routing::FinishReason::kNone) {
      return sequence.finish == reason;
    }
  }
  return false;
}

TEST(Leader, ServesRequestsAndReportsWhileIdle) {
  RecordingListener listener;
  auto router = OpenRouter(listener);
  Group group(router->endpoint());
  ASSERT_TRUE(listener.WaitUntil([&] { return listener.ups.size() == 1; }));
  constexpr int kRequests = 20;  // more than there are slots
  for (int i = 1; i <= kRequests; ++i) router->Send(listener.ups[0].id, Request(i, 10));
  ASSERT_TRUE(listener.WaitUntil([&] {
    for (int i = 1; i <= kRequests; ++i) {
      if (!Finished(listener, i, routing::FinishReason::kLength)) return false;
    }
    return true;
  }));
  EXPECT_TRUE(listener.WaitUntil([&] {
    for (int i = 1; i <= kRequests; ++i) EXPECT_EQ(TokensOf(listener, i), 10) << "request " << i;
    return true;
  }));
  const int steps = listener.num_steps;
  EXPECT_TRUE(listener.WaitUntil([&] { return listener.num_steps >= steps + 3; }))
      << "an idle group reports its no-op steps";
  EXPECT_TRUE(listener.WaitUntil([&] { return !listener.events.empty(); }));
}

TEST(Leader, ACancelledSequenceEndsAndFreesItsPlace) {
  RecordingListener listener;
  auto router = OpenRouter(listener);
  Group group(router->endpoint());
  ASSERT_TRUE(listener.WaitUntil([&] { return listener.ups.size() == 1; }));
  const GroupId id = listener.ups[0].id;
  router->Send(id, Request(1, 200));
  router->Cancel(id, 1, 0, 0);
  ASSERT_TRUE(listener.WaitUntil([&] {
    return Finished(listener, 1, routing::FinishReason::kCancelled) ||
           Finished(listener, 1, routing::FinishReason::kLength);
  }));
  EXPECT_TRUE(listener.WaitUntil([&] {
    return listener.last_load.num_running == 0 && listener.last_load.num_waiting == 0 &&
           listener.last_load.free_blocks == 64;
  }));
}

TEST(Leader, DrainingFinishesWhatIsHeld) {
  RecordingListener listener;
  auto router = OpenRouter(listener);
  {
    Group group(router->endpoint());
    ASSERT_TRUE(listener.WaitUntil([&] { return listener.ups.size() == 1; }));
    router->Send(listener.ups[0].id, Request(1, 200));
    ASSERT_TRUE(listener.WaitUntil([&] { return TokensOf(listener, 1) > 0; }));
  }
  ASSERT_TRUE(listener.WaitUntil([&] { return listener.losses.size() == 1; }));
  EXPECT_EQ(listener.losses[0].second, "drained");
  EXPECT_EQ(listener.draining.size(), 1u);
  EXPECT_EQ(TokensOf(listener, 1), 200);
}

TEST(Leader, ALostRouterFreesItsSequences) {
  RecordingListener first, second;
  auto lost = OpenRouter(first);
  const std::string endpoint = lost->endpoint();
  Group group(endpoint);
  ASSERT_TRUE(first.WaitUntil([&] { return first.ups.size() == 1; }));
  lost->Send(first.ups[0].id, Request(1, 200));
  lost.reset();
  link::GroupLinkOptions options;
  options.endpoint = endpoint;
  options.silence_slack = 60 * kSecond;
  auto again = std::make_unique<testing::RunningLink>(options, second);
  ASSERT_TRUE(second.WaitUntil([&] { return second.ups.size() == 1; }));
  EXPECT_TRUE(second.WaitUntil([&] {
    return second.num_steps > 0 && second.last_load.free_blocks == 64 &&
           second.last_load.num_running == 0;
  }));
  EXPECT_TRUE(second.tokens.empty());
}

// A file whose reader waits until somebody writes: so long every grammar is still being compiled.
class WaitingFile {
 public:
  WaitingFile() : path_(folder_.path() + "/model.gguf") {
    TANDEM_CHECK(::mkfifo(path_.c_str(), 0600) == 0) << path_;
  }
  ~WaitingFile() { Open(); }
  void Open() {
    if (!opened_) ::close(::open(path_.c_str(), O_WRONLY));
    opened_ = true;
  }
  const std::string& path() const { return path_; }

 private:
  TempFolder folder_;
  const std::string path_;
  bool opened_ = false;
};

routing::GenerateRequest Structured(RequestId request) {
  routing::GenerateRequest generate = Request(request, 50);
  generate.grammar = {grammar::GrammarSpec::Kind::kRegex, "a+"};
  return generate;
}

TEST(Leader, WhatWaitsForItsGrammarCanBeCancelledOrBeLate) {
  WaitingFile file;
  RecordingListener listener;
  auto router = OpenRouter(listener);
  Group group(router->endpoint(), file.path());
  ASSERT_TRUE(listener.WaitUntil([&] { return listener.ups.size() == 1; }));
  const GroupId id = listener.ups[0].id;
  router->Send(id, Structured(1));
  routing::GenerateRequest late = Structured(2);
  late.deadline_in = 20 * kMillisecond;
  router->Send(id, late);
  router->Send(id, Structured(3));
  router->Send(id, Request(4, 10));  // others do not wait
  ASSERT_TRUE(listener.WaitUntil([&] {
    return Finished(listener, 4, routing::FinishReason::kLength) &&
           Finished(listener, 2, routing::FinishReason::kDeadline);
  }));
  router->Cancel(id, 1, 0, 0);
  ASSERT_TRUE(
      listener.WaitUntil([&] { return Finished(listener, 1, routing::FinishReason::kCancelled); }));
  EXPECT_EQ(TokensOf(listener, 3), 0);
  file.Open();  // it is no model, so there is no vocabulary
  ASSERT_TRUE(
      listener.WaitUntil([&] { return Finished(listener, 3, routing::FinishReason::kError); }));
}

TEST(Leader, DrainingWaitsForGrammars) {
  WaitingFile file;
  RecordingListener listener;
  auto router = OpenRouter(listener);
  {
    Group group(router->endpoint(), file.path());
    ASSERT_TRUE(listener.WaitUntil([&] { return listener.ups.size() == 1; }));
    router->Send(listener.ups[0].id, Structured(1));
    router->Send(listener.ups[0].id, Request(2, 1));
    ASSERT_TRUE(listener.WaitUntil([&] { return TokensOf(listener, 2) > 0; }));
    group.StartDraining();
    std::this_thread::sleep_for(std::chrono::milliseconds(400));  // longer than the grace
    file.Open();
  }
  EXPECT_TRUE(
      listener.WaitUntil([&] { return Finished(listener, 1, routing::FinishReason::kError); }));
}

TEST(Leader, ALostRouterTakesWhatWaitsForItsGrammar) {
  WaitingFile file;
  RecordingListener first, second;
  auto lost = OpenRouter(first);
  const std::string endpoint = lost->endpoint();
  Group group(endpoint, file.path());
  ASSERT_TRUE(first.WaitUntil([&] { return first.ups.size() == 1; }));
  lost->Send(first.ups[0].id, Structured(1));
  lost->Send(first.ups[0].id, Request(2, 1));
  ASSERT_TRUE(first.WaitUntil([&] { return TokensOf(first, 2) > 0; }));
  lost.reset();
  link::GroupLinkOptions options;
  options.endpoint = endpoint;
  options.silence_slack = 60 * kSecond;
  auto again = std::make_unique<testing::RunningLink>(options, second);
  ASSERT_TRUE(second.WaitUntil([&] { return second.ups.size() == 1; }));
  file.Open();
  const int steps = second.num_steps;
  EXPECT_TRUE(second.WaitUntil([&] { return second.num_steps >= steps + 3; }));
  EXPECT_TRUE(second.tokens.empty());
}

}  // namespace
}  // namespace tandem::worker
