// How the processes of one group reach each other, below what they say (rank_link.h). Ranks of one
// machine meet over a Unix socket and share memory files (unix_transport.h); ranks of several hosts
// meet over TCP, and each has memory of its own that is kept like the others' (tcp_transport.h).
#pragma once

#include <poll.h>

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "common/status.h"
#include "worker/link/plan_ring.h"
#include "worker/link/roll_call.h"
#include "worker/link/unique_fd.h"

namespace tandem::link {

// The process at the other end: of a rank any process that has connected, for the others the
// leader.
class RankPeer {
 public:
  virtual ~RankPeer() = default;

  virtual std::string name() const = 0;  // for logs: "process 4711", "10.0.0.2:40112"

  // Messages, whole ones and of fixed size. Receive waits; kUnavailable: the peer is gone;
  // kCancelled: `stop_fd` became readable; kInvalidArgument: something else came. `memory`: where
  // a memory file that came with it goes; -1 to Send: there is none.
  virtual Status Send(std::span<const std::byte> message, int memory = -1) = 0;
  virtual Status Receive(std::span<std::byte> message, int stop_fd, UniqueFd* memory = nullptr) = 0;
  virtual int fd() const = 0;  // readable: Receive has something to say
  virtual bool HasUnread() const = 0;

  // It takes part from now on, as `rank`.
  virtual void Joined(int rank) = 0;

  // For poll(); has events once the peer is gone.
  virtual pollfd End() const = 0;

  // Makes sure that it takes no part any more: a process of this machine is killed, the connection
  // to one elsewhere is cut. Any thread.
  virtual void Kill() = 0;
};

class RankTransport {
 public:
  virtual ~RankTransport() = default;

  // Leader: from here on others may connect. kInvalidArgument: an operator's mistake.
  virtual Status Listen() = 0;
  virtual int listener() const = 0;  // readable: Accept() has a peer, or null: it is gone again
  virtual std::unique_ptr<RankPeer> Accept() = 0;

  // Others: looks for the leader until it is there; kCancelled: told to stop.
  virtual StatusOr<std::unique_ptr<RankPeer>> Connect(int stop_fd) = 0;

  // The leader's memory is handed to the others, with messages.
  virtual bool shares_memory() const = 0;

  // What this process has of the group's memory, in that order, before and after the group agreed.
  // Where memory is not shared it is kept like the others' from then on.
  virtual void Keep(const RollCall& roll_call) = 0;
  virtual void Keep(const PlanRing& ring) = 0;

  // Leader's engine thread: `plan` was published in its ring.
  virtual void Published(const StepPlan& plan, Nanos limit) = 0;

  // IP address of this machine that the group's hosts reach; empty: they share one.
  virtual std::string address() const = 0;
};

}  // namespace tandem::link
