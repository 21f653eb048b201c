#include "worker/link/tcp_socket.h"

#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <string>

#include "worker/link/seq_packet.h"

namespace tandem::link {
namespace {

using Addresses = std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)>;

StatusOr<Addresses> Resolve(const std::string& host, int port) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int error = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found);
  if (error != 0) return Unavailable("{}: {}", host, ::gai_strerror(error));
  return Addresses(found, &::freeaddrinfo);
}

UniqueFd MakeSocket(const addrinfo& address) {
  return UniqueFd(::socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
}

struct Name {
  std::string host;
  std::string port;
};

Name NameOf(int socket, decltype(&::getpeername) get) {
  sockaddr_storage address{};
  socklen_t size = sizeof(address);
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  char host[NI_MAXHOST] = "?", port[NI_MAXSERV] = "?";
  if (get(socket, generic, &size) == 0) {
    ::getnameinfo(generic, size, host, sizeof(host), port, sizeof(port),
                  NI_NUMERICHOST | NI_NUMERICSERV);
  }
  return {host, port};
}

// The kernel may give a connection to a port where nobody listens that very port as its own.
bool IsItself(int socket) {
  const Name self = NameOf(socket, &::getsockname), peer = NameOf(socket, &::getpeername);
  return self.host == peer.host && self.port == peer.port;
}

std::string HostAndPort(const std::string& host, const std::string& port) {
  const bool bare = host.find(':') == std::string::npos;
  return (bare ? host : "[" + host + "]") + ":" + port;
}

// 0, or the error number.
int FinishConnect(int socket, int stop_fd, int timeout_ms) {
  const Status ready = WaitFor(socket, POLLOUT, stop_fd, timeout_ms);
  if (ready.code() == StatusCode::kCancelled) return ECANCELED;
  if (!ready.ok()) return ETIMEDOUT;
  int error = 0;
  socklen_t size = sizeof(error);
  ::getsockopt(socket, SOL_SOCKET, SO_ERROR, &error, &size);
  return error;
}

}  // namespace

StatusOr<UniqueFd> ListenTcp(const std::string& host, int port) {
  const StatusOr<Addresses> addresses = Resolve(host, port);
  if (!addresses.ok()) {
    return InvalidArgument("cannot listen on {}", Message(addresses.status()));
  }
  int error = 0;
  for (const addrinfo* a = addresses->get(); a != nullptr; a = a->ai_next) {
    UniqueFd socket = MakeSocket(*a);
    const int on = 1;
    ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (socket.valid() && ::bind(socket.get(), a->ai_addr, a->ai_addrlen) == 0 &&
        ::listen(socket.get(), 64) == 0) {
      return socket;
    }
    error = errno;
  }
  return InvalidArgument("cannot listen on {}: {}", HostAndPort(host, std::to_string(port)),
                         std::strerror(error));
}

StatusOr<UniqueFd> ConnectTcp(const std::string& host, int port, int stop_fd, int timeout_ms) {
  TANDEM_ASSIGN_OR_RETURN(const Addresses addresses, Resolve(host, port));
  int error = 0;
  for (const addrinfo* a = addresses.get(); a != nullptr; a = a->ai_next) {
    UniqueFd socket = MakeSocket(*a);
    error = socket.valid() && ::connect(socket.get(), a->ai_addr, a->ai_addrlen) == 0 ? 0 : errno;
    if (error == EINPROGRESS) error = FinishConnect(socket.get(), stop_fd, timeout_ms);
    if (error == ECANCELED) return MakeStatus(StatusCode::kCancelled, "told to stop");
    if (error == 0 && IsItself(socket.get())) error = ECONNREFUSED;
    if (error == 0) return socket;
  }
  return Unavailable("{}: {}", HostAndPort(host, std::to_string(port)), std::strerror(error));
}

std::string PeerName(int socket) {
  const Name name = NameOf(socket, &::getpeername);
  return HostAndPort(name.host, name.port);
}

std::string LocalAddress(int socket) { return NameOf(socket, &::getsockname).host; }

}  // namespace tandem::link
