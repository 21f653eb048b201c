// A steady decode step allocates nothing: the leader's engine thread, the model's and its compute
// threads, over a real ring and real sockets. The router is a process of its own.
#include <gtest/gtest.h>
#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <future>
#include <optional>
#include <thread>

#include "kernels/comm/local_communicator.h"
#include "tests/support/count_allocations.h"
#include "tests/support/fork_rank.h"
#include "tests/support/group_in_a_folder.h"
#include "tests/support/link_pair.h"
#include "tests/worker/model/tiny_sequences.h"
#include "worker/leader.h"
#include "worker/rank_loop.h"
#include "worker/ring_ranks.h"

namespace tandem::worker {
namespace {

using testing::RecordingListener;

constexpr int kMostSequences = 16;
constexpr int kPrompt = 20;
constexpr int kNewTokens = 400;
constexpr int kStretch = 32;  // steps

// Serves `sequences` requests with sampling of all kinds; 0 when each had all of its tokens.
int RunRouter(const std::string& endpoint, int sequences) {
  RecordingListener listener;
  link::GroupLinkOptions options;
  options.endpoint = endpoint;
  options.silence_slack = 60 * kSecond;
  testing::RunningLink router(options, listener);
  if (!listener.WaitUntil([&] { return listener.ups.size() == 1; })) return 1;
  for (int i = 1; i <= sequences; ++i) {
    routing::GenerateRequest request;
    request.request = static_cast<RequestId>(i);
    request.prompt.assign(kPrompt, i);
    request.max_tokens = kNewTokens;
    request.temperature = i % 2 == 0 ? 0 : 0.8f;
    request.top_p = i % 4 == 1 ? 0.9f : 1;
    request.frequency_penalty = i % 4 == 3 ? 0.1f : 0;
    request.num_logprobs = i % 3 == 0 ? 5 : -1;
    router.Send(listener.ups[0].id, request);
  }
  const bool done = listener.WaitUntil([&] {
    int tokens = 0;
    for (const auto& [group, sequence] : listener.tokens) {
      tokens += static_cast<int>(sequence.tokens.size());
    }
    return tokens == sequences * kNewTokens;
  });
  return done ? 0 : 2;
}

// Counts, over stretches of steps in which all sequences decode, what others than the link's
// threads allocate. A stretch is as long as two KV blocks. One of them has to be free of
// allocations, and not every one: a link thread that a busy machine holds up has steps pile up,
// which is new memory.
class Counting final : public Ranks {
 public:
  Counting(Ranks& ranks, int sequences) : ranks_(ranks), sequences_(sequences) {}

  bool Publish(const StepPlan& plan, Nanos limit) override {
    const bool steady =
        plan.num_decodes == sequences_ && plan.rows.size() == static_cast<size_t>(sequences_);
    if (!steady) {
      steps_ = 0;
    } else if (steps_++ % kStretch == 0) {
      if (steps_ > 1) Note(OfSteps() - of_steps_, OfLink() - of_link_);
      of_steps_ = OfSteps();
      of_link_ = OfLink();
    }
    // As slow as a model of some size; else steps pile up in front of the link's thread always.
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return ranks_.Publish(plan, limit);
  }
  bool aborted() const override { return ranks_.aborted(); }
  const StepResult* Oldest() override { return ranks_.Oldest(); }
  void Pop() override { ranks_.Pop(); }

  int num_stretches() const { return num_stretches_; }
  int64_t fewest() const { return fewest_; }                  // in a stretch
  int64_t fewest_of_link() const { return fewest_of_link_; }  // in a stretch

 private:
  static int64_t OfLink() {
    return testing::NumAllocationsOf("link") + testing::NumAllocationsOf("ZMQbg");
  }
  static int64_t OfSteps() { return testing::NumAllocationsOf("") - OfLink(); }
  void Note(int64_t of_steps, int64_t of_link) {
    fewest_ = num_stretches_ == 0 ? of_steps : std::min(fewest_, of_steps);
    fewest_of_link_ = num_stretches_ == 0 ? of_link : std::min(fewest_of_link_, of_link);
    ++num_stretches_;
  }

  Ranks& ranks_;
  const int sequences_;
  int steps_ = 0, num_stretches_ = 0;
  int64_t of_steps_ = 0, of_link_ = 0;
  int64_t fewest_ = -1, fewest_of_link_ = -1;
};

void NameThread(const char* name) { ::pthread_setname_np(::pthread_self(), name); }

class SteadyStep : public ::testing::TestWithParam<int> {};

TEST_P(SteadyStep, AllocatesNothing) {
  const int sequences = GetParam();
  const testing::TempFolder folder;
  const std::string endpoint = "ipc://" + folder.path() + "/router";
  testing::ForkedRank router([&] { return RunRouter(endpoint, sequences); });
  testing::CountByThread();

  const model::ModelFile file;
  model::ShardOptions shard;
  shard.model_path = file.path();
  shard.threads = 2;
  shard.max_seqs = kMostSequences;
  shard.kv_memory_bytes = 64 << 20;
  kernels::LocalCommunicator comm;
  link::Bell bell;
  LeaderOptions options;
  options.engine.max_seqs = kMostSequences;
  options.engine.max_step_tokens = shard.max_step_tokens;
  options.min_watchdog = 60 * kSecond;
  auto ranks = std::move(link::RankLink::Open(testing::RankOptions(folder.path(), 0, 1))).value();
  std::optional<StepResults> results;
  std::optional<RingRanks> ring_ranks;
  std::optional<Counting> counting;
  std::optional<Leader> leader;
  std::promise<void> leader_is_there;
  std::thread engine;

  std::thread model_thread([&] {
    NameThread("model");
    auto model = std::move(model::ModelRunner::Load(shard, comm)).value();
    const model::ModelInfo& info = model->info();
    options.engine.num_blocks = info.num_blocks;
    options.engine.max_context = info.max_context;
    options.engine.vocab_size = info.vocab_size;
    options.engine.hash_seed = "fp";
    ASSERT_TRUE(
        ranks->Agree(testing::ShardWith(info.num_blocks), engine::Engine::LimitsOf(options.engine))
            .ok());
    ASSERT_TRUE(model->Prepare(info.num_blocks).ok());
    results.emplace(ranks->ring().limits().max_rows, [&] { bell.Ring(); });
    ring_ranks.emplace(*ranks, *results);
    counting.emplace(*ring_ranks, sequences);
    leader.emplace(options, *counting, bell);
    leader_is_there.set_value();
    engine = std::thread([&] {
      NameThread("engine");
      ASSERT_TRUE(leader->RunFirstStep());
      auto link_options = testing::LeaderOptionsFor(endpoint);
      link_options.on_inbound = [&] { bell.Ring(); };
      auto routers = std::move(link::RouterLink::Open(link_options)).value();
      EXPECT_EQ(leader->Run(*routers), Leader::End::kDrained);
      routers->Goodbye("drained", kSecond);
      ranks->ring().Shutdown();
    });
    EXPECT_TRUE(RunRank(*model, ranks->ring(), 0, &*results).ok());
  });
  EXPECT_EQ(router.Wait(), 0);
  leader_is_there.get_future().wait();  // which the router's process cannot tell this thread
  leader->StartDraining();
  model_thread.join();
  engine.join();

  ASSERT_GT(counting->num_stretches(), 8);
  EXPECT_EQ(counting->fewest(), 0) << "in " << kStretch << " steps";
  // ZeroMQ copies each report into a message of its own, and nobody waits for that.
  EXPECT_LE(counting->fewest_of_link(), 2 * kStretch);
  for (const char* thread : {"engine", "model", "link"}) {  // all of which allocate at first
    EXPECT_GT(testing::NumAllocationsOf(thread), 0) << thread;
  }
}

INSTANTIATE_TEST_SUITE_P(Batch, SteadyStep, ::testing::Values(1, kMostSequences));

}  // namespace
}  // namespace tandem::worker
