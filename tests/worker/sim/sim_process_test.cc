// A process of eight simulated groups against a router's real end of the wire.
#include "worker/sim_process.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <map>
#include <set>
#include <string>

#include "common/gguf/gguf_file.h"
#include "common/observe/log.h"
#include "tests/support/fork_rank.h"
#include "tests/support/link_pair.h"
#include "tests/support/tiny_model.h"
#include "worker/worker_process.h"

namespace tandem::worker {
namespace {

using testing::ForkedRank;
using testing::RecordingListener;
using testing::TempFolder;

constexpr int kGroups = 8;
constexpr int kBlockSize = 16;

class SimProcessTest : public ::testing::Test {
 protected:
  SimProcessTest() {
    testing::WriteTinyModel(Path("model.gguf"));
    Write("profile.yaml",
          "kv_tokens: 4096\nlaunch: 200us\nweights_read: 0ns\ngemm_per_token: 1us\n"
          "attention_per_pair: 0ns\nkv_read_per_token: 0ns\n");
    Write("cluster.yaml", fmt::format("model: {{name: tiny, path: model.gguf}}\n"
                                      "groups:\n"
                                      "  - {{name: sim, device: sim, profile: profile.yaml, "
                                      "count: {}, max_seqs: 8, max_step_tokens: 64}}\n"
                                      "links: {{routers: ['{}'], runtime_dir: run}}\n",
                                      kGroups, Endpoint()));
  }

  std::string Path(const std::string& name) const { return folder_.path() + "/" + name; }
  std::string Endpoint() const { return "ipc://" + Path("router"); }

  void Write(const std::string& name, const std::string& text) const {
    FILE* file = std::fopen(Path(name).c_str(), "w");
    ASSERT_NE(file, nullptr);
    std::fputs(text.c_str(), file);
    std::fclose(file);
  }

  // REQUIRES: no thread yet.
  ForkedRank StartGroups(const std::string& name) {
    return ForkedRank([this, name] {
      const auto cluster = config::Load(Path("cluster.yaml"));
      if (!cluster.ok() || !observe::InitLog("warn", "text", "worker").ok()) return 99;
      return RunSimulated(*cluster, cluster->GroupsOf(name), name);
    });
  }

  std::unique_ptr<testing::RunningLink> OpenRouter(RecordingListener& listener) {
    link::GroupLinkOptions options;
    options.endpoint = Endpoint();
    options.models["tiny"] = (*gguf::File::Open(Path("model.gguf")))->Fingerprint();
    options.silence_slack = 60 * kSecond;
    return std::make_unique<testing::RunningLink>(options, listener);
  }

  TempFolder folder_;
};

routing::GenerateRequest Request(RequestId request, int max_tokens) {
  routing::GenerateRequest generate;
  generate.request = request;
  generate.prompt.assign(100, 5);
  generate.max_tokens = max_tokens;
  generate.seed = request;
  generate.stop_ids = {0, 1, 2};
  return generate;
}

// What a router heard of one request.
struct Heard {
  std::vector<TokenId> tokens;
  routing::FinishReason finish = routing::FinishReason::kNone;
  int cached = 0;
};

Heard HeardOf(const RecordingListener& listener, RequestId request) {
  Heard heard;
  for (const auto& [group, sequence] : listener.tokens) {
    if (sequence.request != request) continue;
    heard.tokens.insert(heard.tokens.end(), sequence.tokens.begin(), sequence.tokens.end());
    heard.finish = sequence.finish;
    heard.cached = sequence.timings.num_cached_tokens;
  }
  return heard;
}

bool AllEnded(const RecordingListener& listener, int num_requests) {
  for (RequestId i = 1; i <= static_cast<RequestId>(num_requests); ++i) {
    if (HeardOf(listener, i).finish == routing::FinishReason::kNone) return false;
  }
  return true;
}

TEST_F(SimProcessTest, EightGroupsServeAsRealOnesDo) {
  ForkedRank process = StartGroups("sim");
  RecordingListener listener;
  auto router = OpenRouter(listener);
  ASSERT_TRUE(listener.WaitUntil([&] { return listener.ups.size() == kGroups; }));
  std::set<std::string> names;
  for (const routing::GroupInfo& info : listener.ups) {
    names.insert(info.name);
    EXPECT_EQ(info.device_class, "sim/profile");
    EXPECT_EQ(info.num_blocks, 4096 / kBlockSize);
    EXPECT_EQ(info.max_seqs, 8);
  }
  EXPECT_EQ(names.size(), static_cast<size_t>(kGroups));
  EXPECT_TRUE(names.contains("sim-0") && names.contains("sim-7"));

  constexpr int kEach = 12;  // more than there are slots
  RequestId last = 0;
  for (int i = 0; i < kEach; ++i) {
    for (const routing::GroupInfo& info : listener.ups) router->Send(info.id, Request(++last, 20));
  }
  ASSERT_TRUE(listener.WaitUntil([&] { return AllEnded(listener, kGroups * kEach); }));
  for (RequestId i = 1; i <= last; ++i) {
    const Heard heard = HeardOf(listener, i);
    EXPECT_EQ(heard.finish, routing::FinishReason::kLength) << i;
    EXPECT_EQ(heard.tokens.size(), 20u) << i;
  }
  // One prompt was computed once in each group, and the router was told what they keep of it.
  std::map<int, int> with_cached;
  for (RequestId i = 1; i <= last; ++i) ++with_cached[HeardOf(listener, i).cached];
  EXPECT_EQ(with_cached[0], kGroups);
  EXPECT_EQ(with_cached[96], kGroups * (kEach - 1));
  std::map<int32_t, int> stored;
  for (const auto& [group, event] : listener.events) {
    if (event.kind == routing::KvEvent::Kind::kStored) ++stored[group.value];
  }
  EXPECT_EQ(stored.size(), static_cast<size_t>(kGroups));
  process.Signal(SIGTERM);
  EXPECT_EQ(process.Wait(), kExitDone);
}

TEST_F(SimProcessTest, AGroupRepliesTheSameAsAnother) {
  ForkedRank process = StartGroups("sim");
  RecordingListener listener;
  auto router = OpenRouter(listener);
  ASSERT_TRUE(listener.WaitUntil([&] { return listener.ups.size() == kGroups; }));
  router->Send(listener.ups[0].id, Request(1, 40));
  auto again = Request(2, 40);
  again.seed = 1;
  router->Send(listener.ups[1].id, std::move(again));
  router->Send(listener.ups[1].id, Request(3, 40));
  ASSERT_TRUE(listener.WaitUntil([&] { return AllEnded(listener, 3); }));
  EXPECT_EQ(HeardOf(listener, 1).tokens, HeardOf(listener, 2).tokens);
  EXPECT_NE(HeardOf(listener, 1).tokens, HeardOf(listener, 3).tokens);
}

TEST_F(SimProcessTest, OneOfThemMayRunAlone) {
  ForkedRank process = StartGroups("sim-3");
  RecordingListener listener;
  auto router = OpenRouter(listener);
  ASSERT_TRUE(listener.WaitUntil([&] { return listener.ups.size() == 1; }));
  EXPECT_EQ(listener.ups[0].name, "sim-3");
  process.Signal(SIGKILL);
  ASSERT_TRUE(listener.WaitUntil([&] { return listener.losses.size() == 1; }));
}

TEST_F(SimProcessTest, SigtermDrainsAllOfThem) {
  ForkedRank process = StartGroups("sim");
  RecordingListener listener;
  auto router = OpenRouter(listener);
  ASSERT_TRUE(listener.WaitUntil([&] { return listener.ups.size() == kGroups; }));
  // Slow enough (0.2 ms a token) to be in progress when the signal comes.
  for (int i = 0; i < kGroups; ++i) {
    router->Send(listener.ups[static_cast<size_t>(i)].id,
                 Request(static_cast<RequestId>(i + 1), 400));
  }
  ASSERT_TRUE(listener.WaitUntil([&] { return !listener.tokens.empty(); }));
  process.Signal(SIGTERM);
  ASSERT_TRUE(listener.WaitUntil([&] { return listener.losses.size() == kGroups; }));
  EXPECT_EQ(process.Wait(), kExitDone);
  EXPECT_EQ(listener.draining.size(), static_cast<size_t>(kGroups));
  for (const auto& [group, reason] : listener.losses) {
    EXPECT_EQ(reason, "the group was told to stop");
  }
  for (RequestId i = 1; i <= kGroups; ++i) EXPECT_EQ(HeardOf(listener, i).tokens.size(), 400u) << i;
}

TEST_F(SimProcessTest, AnEntryRunsOnce) {
  ForkedRank process = StartGroups("sim");
  RecordingListener listener;
  std::unique_ptr<testing::RunningLink> router;
  {
    // Up, hence the name is taken; then without the router's threads, because of the fork.
    router = OpenRouter(listener);
    ASSERT_TRUE(listener.WaitUntil([&] { return listener.ups.size() == kGroups; }));
    router.reset();
  }
  EXPECT_EQ(StartGroups("sim").Wait(), kExitMistake);
}

}  // namespace
}  // namespace tandem::worker
