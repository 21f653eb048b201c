// The leader's connections to every router. Dials out, reconnects for ever, never blocks the
// engine; with router_session.h the only place in the worker that knows ZeroMQ or Protobuf.
//
// One DEALER socket a router (one on two endpoints would spread its messages) and one thread that
// owns them all (link_thread.h); data crosses to and from it by our own queues. What a session is,
// how it is numbered and what ends it: docs/wire.md. A router that does not read loses its own
// sequences, never another's; one that is gone becomes a RouterLost in the inbox.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "common/mutex.h"
#include "common/status.h"
#include "worker/engine/inbox.h"

namespace tandem::link {

class LinkThread;

// What a group says of itself.
struct GroupDescription {
  std::string build;
  std::string group;
  std::string model;        // name in the cluster file
  std::string fingerprint;  // of model + tokenizer
  std::string hash_seed;
  std::string dtype;         // "int8/bf16": activations / KV
  std::string device_class;  // "cpu/avx512_bf16"
  Nonce incarnation = 0;     // random
  int block_size = 0;
  int tp = 0;
  int max_context = 0;
  int max_seqs = 0;
  int max_step_tokens = 0;
  int num_blocks = 0;
  int embedding_size = 0;  // floats; 0: it computes none
  Nanos watchdog = 0;
};

struct RouterLinkOptions {
  std::vector<std::string> endpoints;
  GroupDescription self;
  std::function<void()> on_inbound;        // link's thread: something to Drain
  Nanos hello_interval = 250'000'000;      // until answered
  Nanos refused_interval = 1'000'000'000;  // what the router had against us may be gone
  Nanos router_silence = 3'000'000'000;    // acks come every second
  // Tokens, events and sequences that wait for credits; beyond, the session fails.
  size_t max_backlog_items = 1 << 16;
  // Shared by the groups of a process; null: a thread of its own.
  std::shared_ptr<LinkThread> thread;
};

// One committed step (or what Handle alone put out).
struct StepOut {
  std::vector<engine::Output> outputs;
  std::vector<engine::KvEvent> kv_events;
  engine::Load load;
  engine::StepTiming timing;
  Nanos committed_at = 0;  // MonotonicNow()
  Nanos next_within = 0;   // the next one comes within this, or the group is lost
};

struct StepForRouters;  // router_session.h

class RouterLink {
 public:
  // kInvalidArgument: an endpoint that ZeroMQ does not understand. Routers need not be there yet.
  static StatusOr<std::unique_ptr<RouterLink>> Open(const RouterLinkOptions& options);
  ~RouterLink();

  // Engine thread. Appends what has arrived, in each router's order. Never waits.
  void Drain(std::vector<engine::Inbound>& inbox);

  // Engine thread, once a step: one message for each router. Leaves in `step` the memory of one
  // that has been sent, for the next.
  void SendStep(StepOut&& step);

  // Any thread. Tells routers to send nothing new; sequences go on.
  void StartDraining();

  // Any thread, once, and nothing may be sent after it. Tells routers that the group ends, waits up
  // to `flush` for that to leave, and closes the sockets.
  void Goodbye(const std::string& reason, Nanos flush);

  // The same without the waiting, for several groups that end at once. With a shared thread the
  // last of it may leave until that has ended.
  void StartGoodbye(const std::string& reason, Nanos flush);

  struct Stats {
    std::atomic<uint64_t> sessions_opened{0};
    std::atomic<uint64_t> sessions_failed{0};
    std::atomic<uint64_t> wrong_session{0};    // messages dropped: not of the current session
    std::atomic<uint64_t> malformed{0};        // messages dropped: not ours at all
    std::atomic<uint64_t> coalesced{0};        // steps that went out in one report with others
    std::atomic<uint64_t> outputs_dropped{0};  // of sequences whose router is gone
  };
  const Stats& stats() const { return stats_; }

 private:
  class Loop;  // what the link's thread owns

  struct Received {
    engine::Inbound inbound;
    Nanos at = 0;
  };
  struct KeyHasher {
    size_t operator()(const SequenceKey& k) const {
      return static_cast<size_t>(k.router ^ (k.request * 0x9e3779b97f4a7c15u) ^
                                 (uint64_t{k.attempt} << 40) ^ (uint64_t{k.index} << 20));
    }
  };

  RouterLink();
  void Deliver(engine::Inbound&& inbound, Nanos at);

  Mutex mutex_;
  std::vector<Received> arrived_ TANDEM_GUARDED_BY(mutex_);
  std::function<void()> on_inbound_;

  // Engine thread: sequences drained and not finished, with the time their Generate spent in the
  // inbox; and the last request drained of each router.
  std::vector<Received> draining_;
  std::unordered_map<SequenceKey, Nanos, KeyHasher> live_;
  std::unordered_map<Nonce, RequestId> last_request_;
  std::unique_ptr<StepForRouters> next_;  // memory of what SendStep posts

  Stats stats_;
  std::unique_ptr<Loop> loop_;
};

}  // namespace tandem::link
