// Where the ranks of one group on one machine meet. The leader (rank 0) listens on a Unix socket in
// the runtime folder; the others connect, are checked, and get two pieces of shared memory over
// it: first the communicator's, then, when every rank has loaded its shard, the plan ring. From
// then on the sockets carry nothing: one that closes says that its process is gone.
//
//   rank                                leader
//   Join{rank, tp, build, settings} ->  checks, remembers the process
//                                   <-  Joined + communicator memory, or Refused{one line}
//   Loaded{fingerprint, blocks, ..} ->  waits for all, compares
//                                   <-  Go{blocks} + plan ring, or Refused{one line}
//
// Thread: set-up on one thread; afterwards PollPeers and the kills belong to the watchdog's.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "common/status.h"
#include "worker/link/plan_ring.h"
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
  // kInvalidArgument: an operator's mistake, one line. kCancelled: see stop_fd.
  static StatusOr<std::unique_ptr<RankLink>> Open(const RankLinkOptions& options);
  ~RankLink();
  RankLink(const RankLink&) = delete;
  RankLink& operator=(const RankLink&) = delete;

  // Leader: returns once all ranks have joined. A rank that does not fit is refused and logged, and
  // the wait goes on. Other ranks: returns at once.
  Status WaitForRanks();

  // The communicator's memory; zeroed by the kernel, formatted by the leader before WaitForRanks.
  std::span<std::byte> comm_region() const { return comm_.bytes(); }

  // All ranks, after loading: the group's number of blocks, the least of all. ring() is ready then;
  // its size is the leader's word, other ranks' `limits` are not read.
  // kInvalidArgument: shards differ; kUnavailable: a rank is gone.
  StatusOr<int> Agree(const LoadedShard& shard, const PlanLimits& limits);

  PlanRing& ring() { return *ring_; }
  int rank() const { return options_.rank; }
  int tp() const { return options_.tp; }

  // Waits until a peer is gone, `wake_fd` is readable, or the timeout. Returns the rank of a peer
  // whose process has closed its socket, which is then forgotten, or -1.
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
  };
  explicit RankLink(const RankLinkOptions& options) : options_(options) {}
  Status Listen();
  Status PrepareFolder();
  Status Connect();
  Status JoinLeader();
  Status AcceptOne();
  Status CheckJoin(const struct JoinMessage& join) const;
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
  SharedRegion comm_;
  SharedRegion ring_memory_;
  std::unique_ptr<PlanRing> ring_;
};

}  // namespace tandem::link
