#include "worker/link/seq_packet.h"

#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

namespace tandem::link {
namespace {

Status Gone(const char* what) {
  return Unavailable("{}: {}", what, errno == 0 ? "closed" : std::strerror(errno));
}

UniqueFd TakeDescriptor(msghdr& message) {
  for (cmsghdr* c = CMSG_FIRSTHDR(&message); c != nullptr; c = CMSG_NXTHDR(&message, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    int fd = -1;
    std::memcpy(&fd, CMSG_DATA(c), sizeof(fd));
    return UniqueFd(fd);
  }
  return UniqueFd();
}

}  // namespace

Status SendPacket(int socket, std::span<const std::byte> packet, int fd) {
  iovec part{const_cast<std::byte*>(packet.data()), packet.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  if (fd >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    cmsghdr* c = CMSG_FIRSTHDR(&message);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(c), &fd, sizeof(fd));
  }
  ssize_t sent;
  do {
    sent = ::sendmsg(socket, &message, MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  return sent == static_cast<ssize_t>(packet.size()) ? OkStatus() : Gone("cannot send");
}

Status WaitReadable(int fd, int stop_fd, int timeout_ms) {
  return WaitFor(fd, POLLIN, stop_fd, timeout_ms);
}

Status WaitFor(int fd, short events, int stop_fd, int timeout_ms) {
  pollfd fds[2] = {{fd, events, 0}, {stop_fd, POLLIN, 0}};
  int n;
  do {
    n = ::poll(fds, 2, timeout_ms);
  } while (n < 0 && errno == EINTR);
  if (stop_fd >= 0 && (fds[1].revents & POLLIN) != 0) {
    return MakeStatus(StatusCode::kCancelled, "told to stop");
  }
  return n > 0 ? OkStatus() : Unavailable("no answer within {} ms", timeout_ms);
}

Status ReceivePacket(int socket, std::span<std::byte> packet, int stop_fd, UniqueFd* fd) {
  TANDEM_RETURN_IF_ERROR(WaitReadable(socket, stop_fd, -1));
  iovec part{packet.data(), packet.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  ssize_t got;
  do {
    errno = 0;
    got = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  } while (got < 0 && errno == EINTR);
  if (got <= 0) return Gone("peer");
  UniqueFd received = TakeDescriptor(message);
  if (got != static_cast<ssize_t>(packet.size()) || (message.msg_flags & MSG_TRUNC) != 0) {
    return InvalidArgument("a message of {} bytes where {} were due", got, packet.size());
  }
  if (fd != nullptr) *fd = std::move(received);
  return OkStatus();
}

}  // namespace tandem::link
