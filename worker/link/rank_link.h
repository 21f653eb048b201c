// Where the ranks of one group meet. The leader (rank 0) listens, the others connect, are checked,
// and get the two pieces of the group's memory: first roll call and communicator, then, when every
// rank has loaded its shard, the plan ring. How they reach each other, and whether that memory is
// shared or each has its own that is kept alike, is a transport's affair (rank_transport.h).
//
// Until the group is complete a rank that dies is forgotten, and one that stands still is killed or
// cut off, so that another process can take its place. From then on the group lives or ends as one.
//
//   rank                                leader
//   Join{rank, tp, build, settings} ->  checks, remembers the process
//                                   <-  Joined + first memory, or Refused{one line}
//   Address                         ->  several hosts, and Meet: waits for all
//                                   <-  Address of every rank
//   Loaded{fingerprint, blocks, ..} ->  waits for all, compares
//                                   <-  Go{blocks} + plan ring, or Refused{one line}
//
// Thread: Open, WaitForRanks and what follows on one thread; Publish on the engine's. Once the
// ranks have met PollPeers, LivePeers and Kill belong to the watchdog's, also while the first
// thread is in ExchangeAddresses, Meet or Agree.
#pragma once

#include <atomic>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "common/status.h"
#include "worker/link/plan_ring.h"
#include "worker/link/rank_transport.h"
#include "worker/link/roll_call.h"
#include "worker/link/shared_region.h"

namespace tandem::link {

struct RankLinkOptions {
  std::string runtime_dir;  // made if absent; must be ours, mode 0700
  std::string group;
  int rank = 0;
  int tp = 1;
  // Where rank 0 is found over TCP, an address of its machine; port 0: all ranks are on one machine
  // and meet in `runtime_dir`.
  std::string host;
  int port = 0;
  std::string build;      // equal on all ranks: memory and messages have no versions
  std::string settings;   // whatever else must be equal, readable: "int8/bf16, 64 seqs, ..."
  size_t comm_bytes = 0;  // leader: size of the communicator's memory
  int stop_fd = -1;       // readable: give up waiting (kCancelled); -1: none
  // Leader, until the group is complete: a rank that does not beat for this long is killed.
  Nanos silence_limit = 5 * kSecond;
  Nanos answer_limit = 10 * kSecond;  // other ranks: for the leader to answer
};

// What a rank learned from loading its shard.
struct LoadedShard {
  std::string fingerprint;
  std::string instruction_set;
  int num_blocks = 0;
};

class RankLink {
 public:
  // Rank 0 takes the group's name and listens, others look for the leader until it is there; no
  // time limit, because a person may start the ranks one by one. The leader returns at once, the
  // others when they have joined.
  // kInvalidArgument: an operator's mistake, one line. kUnavailable: the leader has such a rank,
  // does not answer, or is gone; another try may succeed. kCancelled: see stop_fd.
  static StatusOr<std::unique_ptr<RankLink>> Open(const RankLinkOptions& options);
  RankLink(const RankLink&) = delete;
  RankLink& operator=(const RankLink&) = delete;

  // Leader: returns once all ranks have joined. A rank that does not fit is refused and logged, and
  // the wait goes on. Beats meanwhile. Other ranks: returns at once.
  Status WaitForRanks();

  // Every rank beats, from the moment it has joined until it ends.
  RollCall& roll_call() { return roll_call_; }

  // The communicator's memory; zeroed by the kernel, formatted by the leader before WaitForRanks.
  // Empty where the ranks are on several hosts.
  std::span<std::byte> comm_region() const { return memory_.bytes().subspan(comm_offset_); }

  // Where other hosts reach this one; empty: the ranks are on one machine.
  std::string address() const { return transport_->address(); }

  // All ranks, once they have met: what each calls its address, by rank.
  // kUnavailable: a rank is gone.
  StatusOr<std::vector<std::string>> ExchangeAddresses(const std::string& own);

  // All ranks, while they load: returns when all have called it, however long that takes.
  // kUnavailable: a rank is gone.
  Status Meet() { return ExchangeAddresses("").status(); }

  // All ranks, after loading: the group's number of blocks, the least of all. ring() is ready then;
  // its size is the leader's word, other ranks' `limits` are not read.
  // kInvalidArgument: shards differ; kUnavailable: a rank is gone.
  StatusOr<int> Agree(const LoadedShard& shard, const PlanLimits& limits);

  // Any thread: this rank waits for others.
  bool waits_for_ranks() const { return waits_for_ranks_.load(std::memory_order_relaxed); }

  PlanRing& ring() { return *ring_; }
  int rank() const { return options_.rank; }
  int tp() const { return options_.tp; }

  // Leader: PlanRing::Publish, for all ranks wherever they are.
  [[nodiscard]] bool Publish(const StepPlan& plan, Nanos limit);

  // Waits until a peer is gone, `wake_fd` is readable, or the timeout. Returns, once, the rank of a
  // peer that is gone and has left no message unread, or -1. Refuses who comes late.
  // REQUIRES: the ranks have met.
  int PollPeers(Nanos timeout, int wake_fd);

  // Peers not known to be gone; for other ranks than the leader this is the leader alone.
  std::vector<int> LivePeers() const;
  std::string name_of(int peer) const;  // "process 4711", "10.0.0.2:40112"; empty: unknown
  // The process, by SIGKILL, if it is on this machine, else the connection to it.
  void Kill(int peer);

 private:
  struct Peer {
    std::unique_ptr<RankPeer> process;
    int rank = -1;
    bool gone = false;   // watchdog's
    uint32_t beats = 0;  // until the group is complete: last seen, and since when
    Nanos beats_at = 0;
  };
  struct Newcomer {  // connected, has not said who it is
    std::unique_ptr<RankPeer> process;
    Nanos since = 0;
  };
  explicit RankLink(const RankLinkOptions& options);
  Status Lead();
  Status JoinLeader();
  void Welcome();
  bool Hear(Newcomer& newcomer, Nanos now);
  struct Answer CheckJoin(const struct JoinMessage& join) const;
  void SayWhoIsMissing(Nanos waited);
  void ForgetGone();
  void KillSilent(Nanos now);
  void MapMemory(SharedRegion memory);
  StatusOr<std::vector<std::string>> GatherAddresses(const std::string& own);
  StatusOr<int> LeadAgreement(const LoadedShard& shard, const PlanLimits& limits);
  Status CollectLoaded(LoadedShard& group);
  Status SendRing(int num_blocks, const PlanLimits& limits);
  StatusOr<int> ReceiveRing(const LoadedShard& shard);
  Status MakeRing(const PlanLimits& limits);
  Status AttachRing();
  void RefuseAll(const std::string& line);
  Status Gone(const Peer& peer) const;

  RankLinkOptions options_;
  SharedRegion memory_;  // roll call, then the communicator's
  size_t comm_offset_ = 0;
  RollCall roll_call_;
  Nanos last_look_ = 0;
  std::atomic<bool> waits_for_ranks_{false};
  SharedRegion ring_memory_;
  std::unique_ptr<PlanRing> ring_;
  std::vector<Peer> peers_;
  std::vector<Newcomer> newcomers_;
  std::unique_ptr<RankTransport> transport_;  // last: what it has may use the memory above
};

}  // namespace tandem::link
