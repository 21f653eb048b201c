// Groups as a router sees them, in virtual time: continuous batching with chunked prefill, shortest
// remaining first with priority and ageing, a prefix cache without limit, steps of a given cost,
// reports after each. And the loop that drives a Dispatcher with them and a list of arrivals.
#pragma once

#include <map>
#include <queue>
#include <set>
#include <vector>

#include "router/routing/dispatcher.h"

namespace tandem::routing::testing {

struct Arrival {
  Nanos at = 0;
  uint64_t client = 0;
  std::vector<TokenId> prompt;
  int32_t max_tokens = 1;
  int32_t priority = 0;
  Nanos deadline = 0;
};

struct Outcome {
  Nanos ttft = -1;  // -1: rejected, or not ended
  Nanos ended = -1;
  bool rejected = false;
  Rejection rejection;
  Dispatch dispatch;
};

struct GroupModelOptions {
  int num_groups = 4;
  int max_step_tokens = 512;
  int block_size = 16;
  double base = 0.005, per_token = 50e-6, per_decode = 50e-6;
  std::vector<double> speed;  // factor of each group's step time; absent: 1
};

class Cluster {
 public:
  Cluster(const GroupModelOptions& options, const DispatcherOptions& dispatcher,
          std::string_view policy, uint64_t seed);

  // Runs all arrivals to their end. outcomes[i] is of arrivals[i].
  std::vector<Outcome> Run(std::vector<Arrival> arrivals);
  // Lets `group` go at `at` (in a Run): what it has is sent again elsewhere.
  void LoseAt(Nanos at, GroupId group) { losses_.push_back({at, group}); }

  Dispatcher& dispatcher() { return dispatcher_; }

 private:
  struct Sequence {
    RequestId id = 0;
    uint32_t attempt = 0;
    int32_t remaining = 0, length = 0, cached = 0, priority = 0;
    int32_t to_decode = 0;
    Nanos arrival = 0;
    int32_t num_output = 0;
    std::vector<BlockHash> chain = {};
  };
  struct Group {
    GroupInfo info;
    double speed = 1;
    bool up = true;
    std::vector<Sequence> sequences;
    std::set<BlockHash> cache;
    std::vector<KvEvent> events;
    uint64_t last_event = 0, step = 0;
    RequestId last_seen = 0;
    bool running = false;
    Nanos began = 0;
    std::vector<std::pair<RequestId, int32_t>> chunks;  // of the step that runs; 0: a decode
    WorkInFlight work;
  };
  struct Event {
    Nanos at = 0;
    uint64_t order = 0;
    int kind = 0;  // 0: arrival, 1: step ends, 2: group lost, 3: wake
    size_t index = 0;
    bool operator>(const Event& o) const { return at != o.at ? at > o.at : order > o.order; }
  };
  void Push(Nanos at, int kind, size_t index) { events_.push({at, ++order_, kind, index}); }
  void Submit(size_t arrival, uint32_t attempt);
  void Start(const Dispatch& dispatch);
  void BeginStep(Group& group);
  void EndStep(Group& group);
  void Lose(Group& group);
  void Poll();
  void Settle(const Rejection& rejection);

  GroupModelOptions options_;
  Dispatcher dispatcher_;
  std::vector<Group> groups_;
  std::vector<Arrival> arrivals_;
  std::vector<Outcome> outcomes_;
  std::vector<std::pair<Nanos, GroupId>> losses_;
  std::priority_queue<Event, std::vector<Event>, std::greater<>> events_;
  uint64_t order_ = 0;
  Nanos now_ = kSecond, wake_ = 0;
};

// Tokens that no other seed shares.
std::vector<TokenId> UniquePrompt(int num_tokens, uint64_t seed);

Nanos Quantile(std::vector<Nanos> values, double q);

}  // namespace tandem::routing::testing
