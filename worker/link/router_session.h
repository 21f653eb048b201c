// One router as a leader sees it, without the socket: says Hello until it is answered, numbers and
// encodes what is sent, spends credits, checks what comes. docs/wire.md is the specification.
//
//   kHello ──Welcome──▶ kOpen ──gap, Reset, silence, backlog full──▶ kHello (next attempt)
//     └─────Refuse──▶ kRefused ──after a while──▶ kHello
//
// Thread: the link's. Time is an argument.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "worker/link/kv_mirror.h"
#include "worker/link/router_link.h"

namespace tandem::wire {
class FromRouter;
class FromWorker;
class Generate;
}  // namespace tandem::wire

namespace tandem::link {

// A step as the link's thread gets it. Inbox durations are parallel to outputs.
struct StepForRouters {
  StepOut step;
  std::vector<Nanos> inbox;
  std::unordered_map<Nonce, RequestId> last_request;
};

class RouterSession {
 public:
  // `mirror`, `stats` and `options` are borrowed. `name`: the endpoint, for log lines.
  RouterSession(std::string name, const RouterLinkOptions& options, const KvMirror& mirror,
                RouterLink::Stats& stats);
  ~RouterSession();

  // Takes one message in. What it means for the engine is appended to `inbound`.
  void Receive(std::string_view bytes, Nanos now, std::vector<engine::Inbound>& inbound);

  // Passes of time: silence ends the session.
  void Tick(Nanos now, std::vector<engine::Inbound>& inbound);

  // Adds the part of a step that concerns this router to the backlog.
  void Add(const StepForRouters& step, Nanos now, std::vector<engine::Inbound>& inbound);
  void AddDraining();
  void AddGoodbye(const std::string& reason);

  // The next message that may go out now, or empty. Stays the same until Sent().
  std::string_view Outgoing(Nanos now);
  void Sent(Nanos now);

  size_t num_waiting() const { return backlog_.num_items; }  // tokens, events and sequences

  bool open() const { return state_ == State::kOpen; }
  // The router has read the Goodbye, hence all before it. Until then the socket stays open: a
  // router that finds it closed does not look for what it has not read.
  bool goodbye_heard() const { return goodbye_sent_ && acked_ == last_sent_; }
  Nanos next_tick() const;  // when Tick or Outgoing has something to do by itself

 private:
  enum class State : uint8_t { kHello, kOpen, kRefused };
  struct Backlog {
    std::vector<engine::Output> outputs;  // the first num_outputs; the rest is memory for more
    size_t num_outputs = 0;
    std::vector<Nanos> inbox;
    std::vector<engine::KvEvent> kv_events;
    engine::Load load;
    engine::StepTiming timing;
    Nanos committed_at = 0;  // of the oldest step in it
    Nanos next_within = 0;
    RequestId last_request = 0;
    bool any = false;
    size_t num_items = 0;
    // The `hint`th output of a step: mostly steps have the same sequences in the same order.
    void Add(const engine::Output& output, Nanos inbox, size_t hint);
    void Clear();
  };

  class MessageMemory;

  void Welcomed(const wire::FromRouter& message, Nanos now);
  void Refused(const std::string& reason, Nanos now);
  void Handle(const wire::FromRouter& message, std::vector<engine::Inbound>& inbound);
  void Fail(const std::string& why, Nanos now, std::vector<engine::Inbound>& inbound);
  void ForgetSession();
  bool HasCredit() const { return last_sent_ - acked_ < credits_; }

  void EncodeHello();
  bool EncodeNext(Nanos now);
  void EncodeReport(Nanos now);
  void EncodeSnapshotChunk();
  void StartMessage();
  void FinishMessage();

  const std::string name_;
  const RouterLinkOptions& options_;
  const KvMirror& mirror_;
  RouterLink::Stats& stats_;

  State state_ = State::kHello;
  uint64_t attempt_ = 1;
  Nonce session_ = 0;
  Nonce router_ = 0;
  Nanos hello_due_ = 0;
  Nanos last_heard_ = 0;
  std::string refused_for_;  // logged already

  uint64_t credits_ = 0;
  uint64_t last_sent_ = 0;  // numbers of this session
  uint64_t acked_ = 0;
  uint64_t last_received_ = 0;
  Backlog backlog_;
  bool draining_ = false;       // this group is
  bool draining_said_ = false;  // in this session
  std::string goodbye_;
  bool goodbye_asked_ = false;
  bool goodbye_sent_ = false;

  bool snapshot_active_ = false;
  std::vector<KvMirror::Block> snapshot_;
  size_t snapshot_next_ = 0;
  uint32_t snapshot_chunk_ = 0;
  uint64_t snapshot_as_of_ = 0;

  std::unique_ptr<MessageMemory> memory_;
  wire::FromWorker* message_ = nullptr;  // in memory_; being encoded
  std::string outgoing_;
  bool outgoing_is_goodbye_ = false;
};

}  // namespace tandem::link
