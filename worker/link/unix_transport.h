// Ranks of one machine: they meet over the leader's Unix socket and map its memory files. From the
// end of the handshake on the sockets carry nothing; one that closes says that its process is gone.
#pragma once

#include <memory>
#include <string>

#include "worker/link/leader_socket.h"
#include "worker/link/rank_transport.h"

namespace tandem::link {

class UnixTransport final : public RankTransport {
 public:
  UnixTransport(std::string folder, std::string group);

  Status Listen() override;
  int listener() const override { return socket_->listener(); }
  std::unique_ptr<RankPeer> Accept() override;
  StatusOr<std::unique_ptr<RankPeer>> Connect(int stop_fd) override;
  bool shares_memory() const override { return true; }
  void Keep(const RollCall&) override {}
  void Keep(const PlanRing&) override {}
  void Published(const StepPlan&, Nanos) override {}
  std::string address() const override { return ""; }

 private:
  const std::string folder_;
  const std::string group_;
  std::unique_ptr<LeaderSocket> socket_;  // the leader's
};

}  // namespace tandem::link
