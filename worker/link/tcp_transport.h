// Ranks of several hosts: they meet over TCP at the leader's host and port. Each process has memory
// of its own for roll call and plan ring; a thread of this keeps it like the others'
// (group_mirror.h) and tells them every 50 ms that this process lives. So a cut link is a peer that
// does not beat.
//
// Nothing is encrypted or authenticated: for networks where everybody is trusted. What connects and
// does not speak as a rank does is refused.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "common/mutex.h"
#include "worker/link/group_mirror.h"
#include "worker/link/leader_socket.h"
#include "worker/link/rank_transport.h"
#include "worker/link/tcp_channel.h"

namespace tandem::link {

struct TcpTransportOptions {
  std::string runtime_dir;  // the leader holds its group's name here too
  std::string group;
  std::string host;  // where the leader listens
  int port = 0;
  int rank = 0;
  int tp = 1;
};

class TcpTransport final : public RankTransport {
 public:
  explicit TcpTransport(const TcpTransportOptions& options);
  // Tells the others how far this process has come, which after an orderly end is all of it.
  ~TcpTransport() override;

  Status Listen() override;
  int listener() const override { return listener_.get(); }
  std::unique_ptr<RankPeer> Accept() override;
  StatusOr<std::unique_ptr<RankPeer>> Connect(int stop_fd) override;
  bool shares_memory() const override { return false; }
  void Keep(const RollCall& roll_call) override;
  void Keep(const PlanRing& ring) override;
  void Published(const StepPlan& plan, Nanos limit) override;
  std::string address() const override { return address_; }

 private:
  using Channels = std::vector<std::shared_ptr<TcpChannel>>;

  std::unique_ptr<RankPeer> Add(UniqueFd socket, int rank);
  Channels channels() const;
  void Run();
  void Serve(TcpChannel& channel, bool ready);
  bool Take(TcpChannel& channel, FrameType type, std::span<const std::byte> frame);
  void SendState(const std::vector<std::byte>& state);
  void FlushAtTheEnd();

  const TcpTransportOptions options_;
  std::unique_ptr<LeaderSocket> name_;
  UniqueFd listener_;
  std::string address_;
  GroupMirror mirror_;
  std::vector<std::byte> plan_frame_;  // of the thread that publishes
  const std::shared_ptr<WakeUp> wake_up_;
  mutable Mutex mutex_;
  Channels channels_ TANDEM_GUARDED_BY(mutex_);  // that have not ended
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

}  // namespace tandem::link
