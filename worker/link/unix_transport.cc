#include "worker/link/unix_transport.h"

#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <cerrno>
#include <utility>

#include "common/observe/log.h"
#include "worker/link/seq_packet.h"

namespace tandem::link {
namespace {

constexpr int kRetryMs = 50;  // between looks for a leader that is not there yet

class UnixPeer final : public RankPeer {
 public:
  explicit UnixPeer(UniqueFd socket) : socket_(std::move(socket)) {
    ucred credentials{};
    socklen_t size = sizeof(credentials);
    ::getsockopt(socket_.get(), SOL_SOCKET, SO_PEERCRED, &credentials, &size);
    pid_ = credentials.pid;
    pidfd_ = UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0)));
  }

  std::string name() const override { return fmt::format("process {}", pid_); }
  Status Send(std::span<const std::byte> message, int memory) override {
    return SendPacket(socket_.get(), message, memory);
  }
  Status Receive(std::span<std::byte> message, int stop_fd, UniqueFd* memory) override {
    return ReceivePacket(socket_.get(), message, stop_fd, memory);
  }
  int fd() const override { return socket_.get(); }
  // Of a socket that poll() called closed: what was sent before is still there to be read.
  bool HasUnread() const override {
    char byte;
    return ::recv(socket_.get(), &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
  }
  void Joined(int) override {}
  pollfd End() const override { return {socket_.get(), 0, 0}; }
  // Through the pidfd: never another process that got the pid later.
  void Kill() override {
    if (!pidfd_.valid()) return;
    ::syscall(SYS_pidfd_send_signal, pidfd_.get(), SIGKILL, nullptr, 0);
  }

 private:
  UniqueFd socket_;
  UniqueFd pidfd_;
  int pid_ = -1;
};

}  // namespace

UnixTransport::UnixTransport(std::string folder, std::string group)
    : folder_(std::move(folder)), group_(std::move(group)) {}

Status UnixTransport::Listen() {
  TANDEM_ASSIGN_OR_RETURN(socket_, LeaderSocket::Open(folder_, group_));
  return OkStatus();
}

std::unique_ptr<RankPeer> UnixTransport::Accept() {
  UniqueFd socket(::accept4(listener(), nullptr, nullptr, SOCK_CLOEXEC));
  return socket.valid() ? std::make_unique<UnixPeer>(std::move(socket)) : nullptr;
}

StatusOr<std::unique_ptr<RankPeer>> UnixTransport::Connect(int stop_fd) {
  const std::string path = LeaderSocket::PathOf(folder_, group_);
  TANDEM_ASSIGN_OR_RETURN(const sockaddr_un address, LeaderSocket::AddressOf(path));
  bool told = false;
  for (;;) {
    UniqueFd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    if (socket.valid() && ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address),
                                    sizeof(address)) == 0) {
      return std::make_unique<UnixPeer>(std::move(socket));
    }
    if (errno != ENOENT && errno != ECONNREFUSED && errno != EAGAIN && errno != EINTR) {
      return InvalidArgument("cannot connect to {}: {}; see links.runtime_dir", path,
                             std::strerror(errno));
    }
    if (!told) observe::LogInfo("looking for the leader at {}", path);
    told = true;
    const Status waited = WaitReadable(-1, stop_fd, kRetryMs);
    if (waited.code() == StatusCode::kCancelled) return waited;
  }
}

}  // namespace tandem::link
