// Where the ranks of one group on one machine meet. The leader (rank 0) listens on a Unix socket in
// the runtime folder; the others connect, are checked, and get two pieces of shared memory over
// it: first roll call and communicator, then, when every rank has loaded its shard, the plan ring.
// From then on the sockets carry nothing: one that closes says that its process is gone.
//
// Until the group is complete a rank that dies is forgotten, and one that stands still is killed,
// so that another process can take its place. From then on the group lives or ends as one.
//
//   rank                                leader
//   Join{rank, tp, build, settings} ->  checks, remembers the process
//                                   <-  Joined + first memory, or Refused{one line}
//   Loaded{fingerprint, blocks, ..} ->  waits for all, compares
//                                   <-  Go{blocks} + plan ring, or Refused{one line}
//
// Thread: Open and WaitForRanks on one thread. Then PollPeers, LivePeers and Kill belong to the
// watchdog's, also while the first thread is in Agree.
#pragma once

#include <atomic>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "common/status.h"
#include "worker/link/plan_ring.h"
#include "worker/link/roll_call.h"
#include "worker/link/shared_region.h"
#include "worker/link/unique_fd.h"

namespace tandem::link {

struct RankLinkOptions {
  std::string runtime_dir;  // made if absent; must be ours, mode 0700
  std::string group;
  int rank = 0;
  int tp = 1;
  std::string build;      // equal on all ranks: shared memory has no versions
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
  // Rank 0 takes the group's lock and socket, others look for the leader until it is there; no time
  // limit, because a person may start the ranks one by one. The leader returns at once, the others
  // when they have joined.
  // kInvalidArgument: an operator's mistake, one line. kUnavailable: the leader has such a rank,
  // does not answer, or is gone; another try may succeed. kCancelled: see stop_fd.
  static StatusOr<std::unique_ptr<RankLink>> Open(const RankLinkOptions& options);
  ~RankLink();
  RankLink(const RankLink&) = delete;
  RankLink& operator=(const RankLink&) = delete;

  // Leader: returns once all ranks have joined. A rank that does not fit is refused and logged, and
  // the wait goes on. Beats meanwhile. Other ranks: returns at once.
  Status WaitForRanks();

  // Every rank beats, from the moment it has joined until it ends.
  RollCall& roll_call() { return roll_call_; }

  // The communicator's memory; zeroed by the kernel, formatted by the leader before WaitForRanks.
  std::span<std::byte> comm_region() const { return memory_.bytes().subspan(comm_offset_); }

  // All ranks, after loading: the group's number of blocks, the least of all. ring() is ready then;
  // its size is the leader's word, other ranks' `limits` are not read.
  // kInvalidArgument: shards differ; kUnavailable: a rank is gone.
  StatusOr<int> Agree(const LoadedShard& shard, const PlanLimits& limits);

  // Any thread: Agree is waiting for other ranks.
  bool waits_for_ranks() const { return waits_for_ranks_.load(std::memory_order_relaxed); }

  PlanRing& ring() { return *ring_; }
  int rank() const { return options_.rank; }
  int tp() const { return options_.tp; }

  // Waits until a peer is gone, `wake_fd` is readable, or the timeout. Returns, once, the rank of a
  // peer whose process is gone and has left no message unread, or -1. Refuses who comes late.
  // REQUIRES: the group is complete.
  int PollPeers(Nanos timeout, int wake_fd);

  // Peers not known to be gone; for other ranks than the leader this is the leader alone.
  std::vector<int> LivePeers() const;
  int pid_of(int peer) const;  // -1: unknown
  // SIGKILL, through a pidfd taken at the handshake: never another process that got the pid later.
  void Kill(int peer);

 private:
  struct Peer {
    UniqueFd socket;
    UniqueFd pidfd;
    int pid = -1;
    int rank = -1;
    bool gone = false;   // watchdog's
    uint32_t beats = 0;  // until the group is complete: last seen, and since when
    Nanos beats_at = 0;
  };
  explicit RankLink(const RankLinkOptions& options) : options_(options) {}
  Status Listen();
  Status PrepareFolder();
  Status Connect();
  Status JoinLeader();
  Status AcceptOne();
  void ForgetGone();
  void KillSilent(Nanos now);
  struct Answer CheckJoin(const struct JoinMessage& join) const;
  Peer Accept();
  void AnswerLate();
  void MapMemory(SharedRegion memory);
  StatusOr<int> LeadAgreement(const LoadedShard& shard, const PlanLimits& limits);
  Status CollectLoaded(LoadedShard& group);
  Status SendRing(int num_blocks, const PlanLimits& limits);
  StatusOr<int> ReceiveRing(const LoadedShard& shard);
  Status AttachRing();
  void RefuseAll(const std::string& line);
  Peer* FindPeer(int rank);

  RankLinkOptions options_;
  std::string socket_path_;
  UniqueFd lock_;
  UniqueFd listener_;
  std::vector<Peer> peers_;
  std::vector<Peer> late_;  // connected to a complete group, have not said who they are
  SharedRegion memory_;     // roll call, then the communicator's
  size_t comm_offset_ = 0;
  RollCall roll_call_;
  Nanos last_look_ = 0;
  std::atomic<bool> waits_for_ranks_{false};
  SharedRegion ring_memory_;
  std::unique_ptr<PlanRing> ring_;
};

}  // namespace tandem::link
