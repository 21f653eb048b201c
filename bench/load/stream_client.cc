#include "bench/load/stream_client.h"

#include <netdb.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <limits>
#include <optional>
#include <utility>

#include "common/check.h"
#include "common/clock.h"

namespace tandem::load {
namespace {

constexpr size_t kReadBytes = size_t{256} << 10;
constexpr Nanos kLinger = kSecond;  // for the end of a response whose stream is over
constexpr int kProbeSeconds = 5;

std::string ErrnoText(int number) { return std::strerror(number); }

void SetBlockingTimeouts(int fd, Nanos timeout) {
  const timeval time{timeout / kSecond, (timeout % kSecond) / kMicrosecond};
  ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof(time));
  ::setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &time, sizeof(time));
}

// A connected, blocking socket, or -1 with errno.
int ConnectBlocking(const sockaddr* address, socklen_t size, Nanos timeout) {
  const int fd = ::socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  SetBlockingTimeouts(fd, timeout);
  if (::connect(fd, address, size) == 0) return fd;
  const int error = errno;
  ::close(fd);
  errno = error;
  return -1;
}

// Each stream is a socket: take as many as the system allows.
void RaiseFileLimit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

bool SendAll(int fd, std::string_view bytes) {
  const ssize_t n = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
  return n == static_cast<ssize_t>(bytes.size());
}

// One request over a blocking socket, until its response is whole or the connection is over.
// context: null without TLS.
Status AskBlocking(int fd, const TlsContext* context, const std::string& request,
                   ResponseParser& response, std::string& body) {
  std::optional<TlsSession> tls;
  std::string buffer(kReadBytes, '\0'), plain, out = context == nullptr ? request : "";
  if (context != nullptr) tls.emplace(*context).Feed({}, plain, out);
  while (!response.done() && !response.failed() && SendAll(fd, out)) {
    out.clear();
    const ssize_t n = ::recv(fd, buffer.data(), buffer.size(), 0);
    if (n == 0) response.End();
    if (n <= 0) break;
    if (!tls) {
      response.Feed({buffer.data(), static_cast<size_t>(n)}, body);
      continue;
    }
    const bool met = tls->state() == TlsSession::State::kOpen;
    const TlsSession::State state = tls->Feed({buffer.data(), static_cast<size_t>(n)}, plain, out);
    if (state == TlsSession::State::kFailed) return Unavailable("{}", tls->error());
    if (!met && state == TlsSession::State::kOpen) tls->Write(request, out);
    response.Feed(std::exchange(plain, {}), body);
  }
  return OkStatus();
}

Status LookUp(const Target& target, sockaddr_storage& address, socklen_t& size) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* list = nullptr;
  const std::string port = fmt::format("{}", target.port);
  const int error = ::getaddrinfo(target.host.c_str(), port.c_str(), &hints, &list);
  if (error != 0) return NotFound("host '{}': {}", target.host, ::gai_strerror(error));
  const addrinfo* chosen = list;
  // "localhost" is two addresses and a server may listen on one of them only.
  for (const addrinfo* one = list; list->ai_next != nullptr && one != nullptr; one = one->ai_next) {
    const int fd = ConnectBlocking(one->ai_addr, one->ai_addrlen, kProbeSeconds * kSecond);
    if (fd < 0) continue;
    ::close(fd);
    chosen = one;
    break;
  }
  std::memcpy(&address, chosen->ai_addr, chosen->ai_addrlen);
  size = chosen->ai_addrlen;
  ::freeaddrinfo(list);
  return OkStatus();
}

}  // namespace

struct StreamClient::Connection {
  enum class State : uint8_t { kClosed, kConnecting, kHandshake, kBusy, kIdle };
  State state = State::kClosed;
  int fd = -1;
  bool watches_writes = false;
  bool reused = false;     // a request has been answered on this socket
  bool lingering = false;  // settled, and its linger deadline is set
  bool keep_text = false;
  uint64_t serial = 0;  // of the request; 0: none
  Record* record = nullptr;
  std::string request;
  std::optional<TlsSession> tls;
  std::string out;  // to be written to the socket
  size_t num_written = 0;
  std::optional<Exchange> exchange;
};

StatusOr<std::unique_ptr<StreamClient>> StreamClient::Open(const Target& target, Nanos timeout,
                                                           const TlsOptions& tls) {
  RaiseFileLimit();
  std::unique_ptr<StreamClient> client(new StreamClient);
  client->timeout_ = timeout;
  TANDEM_RETURN_IF_ERROR(client->SetUp(target, tls));
  return client;
}

Status StreamClient::SetUp(const Target& target, const TlsOptions& tls) {
  if (target.https) {
    TANDEM_ASSIGN_OR_RETURN(tls_, TlsContext::Make(tls, target.host));
  }
  TANDEM_RETURN_IF_ERROR(LookUp(target, address_, address_size_));
  buffer_.resize(kReadBytes);
  epoll_ = ::epoll_create1(EPOLL_CLOEXEC);
  timer_ = ::timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
  epoll_event event{};
  event.events = EPOLLIN;
  if (epoll_ < 0 || timer_ < 0 || ::epoll_ctl(epoll_, EPOLL_CTL_ADD, timer_, &event) != 0) {
    return Internal("no epoll set or timer: {}", ErrnoText(errno));
  }
  return OkStatus();
}

StreamClient::~StreamClient() {
  for (const auto& connection : connections_) {
    if (connection->fd >= 0) ::close(connection->fd);
  }
  if (timer_ >= 0) ::close(timer_);
  if (epoll_ >= 0) ::close(epoll_);
}

StreamClient::Connection& StreamClient::Take() {
  std::vector<Connection*>& from = idle_.empty() ? closed_ : idle_;
  if (from.empty()) return *connections_.emplace_back(std::make_unique<Connection>());
  Connection* connection = from.back();
  from.pop_back();
  return *connection;
}

void StreamClient::Send(std::string request, Record* record, bool keep_text) {
  Connection& connection = Take();
  connection.request = std::move(request);
  connection.record = record;
  connection.keep_text = keep_text;
  connection.serial = next_serial_++;
  connection.lingering = false;
  connection.exchange.emplace(record, keep_text);
  record->sent = MonotonicNow();
  deadlines_.push_back({record->sent + timeout_, connection.serial, &connection});
  if (connection.state == Connection::State::kIdle) {
    Say(connection);
    Write(connection);
  } else {
    Dial(connection);
  }
}

void StreamClient::Dial(Connection& connection) {
  ++num_connects_;
  connection.reused = false;
  const int type = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
  connection.fd = ::socket(address_.ss_family, type, 0);
  if (connection.fd < 0) return Fail(connection, Outcome::kConnect, ErrnoText(errno));
  const int on = 1;
  ::setsockopt(connection.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  epoll_event event{};
  event.events = EPOLLIN | EPOLLOUT;
  event.data.ptr = &connection;
  connection.watches_writes = true;
  ::epoll_ctl(epoll_, EPOLL_CTL_ADD, connection.fd, &event);
  connection.state = Connection::State::kConnecting;
  const auto* address = reinterpret_cast<const sockaddr*>(&address_);
  if (::connect(connection.fd, address, address_size_) != 0 && errno != EINPROGRESS) {
    Fail(connection, Outcome::kConnect, ErrnoText(errno));
  }
}

void StreamClient::Watch(Connection& connection, bool writes) {
  if (connection.watches_writes == writes) return;
  connection.watches_writes = writes;
  epoll_event event{};
  event.events = EPOLLIN;
  if (writes) event.events |= EPOLLOUT;
  event.data.ptr = &connection;
  ::epoll_ctl(epoll_, EPOLL_CTL_MOD, connection.fd, &event);
}

void StreamClient::OnEvents(Connection& connection, uint32_t events) {
  if (connection.state == Connection::State::kConnecting && !FinishConnect(connection)) return;
  if ((events & EPOLLOUT) != 0) Write(connection);
  if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) Read(connection);
}

bool StreamClient::FinishConnect(Connection& connection) {
  int error = 0;
  socklen_t size = sizeof(error);
  ::getsockopt(connection.fd, SOL_SOCKET, SO_ERROR, &error, &size);
  if (error != 0) {
    Fail(connection, Outcome::kConnect, ErrnoText(error));
    return false;
  }
  if (tls_ == nullptr) {
    Say(connection);
  } else {
    connection.state = Connection::State::kHandshake;
    connection.tls.emplace(*tls_);
    connection.tls->Feed({}, plain_, connection.out);
  }
  return true;
}

void StreamClient::Say(Connection& connection) {
  connection.state = Connection::State::kBusy;
  if (connection.tls) {
    connection.tls->Write(connection.request, connection.out);
  } else {
    connection.out += connection.request;
  }
}

void StreamClient::Write(Connection& connection) {
  const std::string& out = connection.out;
  while (connection.num_written < out.size()) {
    const ssize_t n = ::send(connection.fd, out.data() + connection.num_written,
                             out.size() - connection.num_written, MSG_NOSIGNAL);
    if (n >= 0) {
      connection.num_written += static_cast<size_t>(n);
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      return Watch(connection, true);
    } else if (errno != EINTR) {
      // Closed: what was answered before that is still to be read, and so is the end.
      return Watch(connection, false);
    }
  }
  connection.out.clear();
  connection.num_written = 0;
  Watch(connection, false);
}

void StreamClient::Read(Connection& connection) {
  const ssize_t n = ::recv(connection.fd, buffer_.data(), buffer_.size(), 0);
  if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) return;
  std::string_view bytes(buffer_.data(), n < 0 ? 0 : static_cast<size_t>(n));
  if (connection.state == Connection::State::kIdle) return ReadIdle(connection, bytes);
  if (n <= 0) return OnClosed(connection);
  const Nanos now = MonotonicNow();
  if (connection.tls && !Decrypt(connection, bytes)) return;
  Exchange& exchange = *connection.exchange;
  exchange.Feed(bytes, now);
  if (exchange.done()) return End(connection);
  if (connection.tls && connection.tls->state() == TlsSession::State::kClosed) {
    return OnClosed(connection);
  }
  if (exchange.settled() && !connection.lingering) {
    connection.lingering = true;
    linger_.push_back({now + kLinger, connection.serial, &connection});
  }
}

// `bytes` becomes what they say. False: there is no session, and the request has ended.
bool StreamClient::Decrypt(Connection& connection, std::string_view& bytes) {
  plain_.clear();
  TlsSession& tls = *connection.tls;
  const TlsSession::State state = tls.Feed(bytes, plain_, connection.out);
  if (state == TlsSession::State::kFailed) {
    Write(connection);  // an alert: why
    const bool met = connection.state == Connection::State::kBusy;
    Fail(connection, met ? Outcome::kProtocol : Outcome::kConnect, tls.error());
    return false;
  }
  if (connection.state == Connection::State::kHandshake && state == TlsSession::State::kOpen) {
    Say(connection);
  }
  if (!connection.out.empty()) Write(connection);
  bytes = plain_;
  return true;
}

// Nothing was asked: the end of the connection, or, with TLS, something between the two ends.
void StreamClient::ReadIdle(Connection& connection, std::string_view bytes) {
  plain_.clear();
  if (connection.tls && !bytes.empty() &&
      connection.tls->Feed(bytes, plain_, connection.out) == TlsSession::State::kOpen &&
      plain_.empty()) {
    return Write(connection);
  }
  idle_.erase(std::find(idle_.begin(), idle_.end(), &connection));
  Close(connection);
}

void StreamClient::OnClosed(Connection& connection) {
  if (connection.state == Connection::State::kHandshake) {
    return Fail(connection, Outcome::kConnect, "TLS: the connection ended in the handshake");
  }
  if (!connection.reused || connection.exchange->answered()) {
    connection.exchange->Closed(MonotonicNow());
    return End(connection);
  }
  ++num_sent_again_;
  Disconnect(connection);
  Dial(connection);
}

void StreamClient::Fail(Connection& connection, Outcome outcome, const std::string& why) {
  connection.exchange->Abandon(outcome, why, MonotonicNow());
  End(connection);
}

void StreamClient::End(Connection& connection) {
  const bool reusable = connection.exchange->reusable() && connection.out.empty();
  ended_.push_back(connection.record);
  connection.record = nullptr;
  connection.serial = 0;
  connection.exchange.reset();
  connection.request.clear();
  if (!reusable) return Close(connection);
  connection.reused = true;
  connection.state = Connection::State::kIdle;
  idle_.push_back(&connection);
}

void StreamClient::Disconnect(Connection& connection) {
  if (connection.fd >= 0) ::close(connection.fd);  // leaves the epoll set too
  connection.fd = -1;
  connection.tls.reset();
  connection.out.clear();
  connection.num_written = 0;
}

void StreamClient::Close(Connection& connection) {
  Disconnect(connection);
  connection.state = Connection::State::kClosed;
  closed_.push_back(&connection);
}

bool StreamClient::Live(const Deadline& deadline) {
  return deadline.connection->serial == deadline.serial;
}

Nanos StreamClient::FirstDeadline() {
  Nanos first = std::numeric_limits<Nanos>::max();
  for (std::deque<Deadline>* deadlines : {&deadlines_, &linger_}) {
    while (!deadlines->empty() && !Live(deadlines->front())) deadlines->pop_front();
    if (!deadlines->empty()) first = std::min(first, deadlines->front().at);
  }
  return first;
}

void StreamClient::Expire(Nanos now) {
  while (FirstDeadline() <= now) {
    const bool lingers = !linger_.empty() && linger_.front().at <= now;
    const Deadline deadline = lingers ? linger_.front() : deadlines_.front();
    // No effect on one that lingers: its outcome is known.
    Fail(*deadline.connection, Outcome::kTimeout,
         fmt::format("not over after {} s", static_cast<double>(timeout_) / 1e9));
  }
}

void StreamClient::Wait(Nanos until, std::vector<Record*>& ended) {
  const Nanos wake = ended_.empty() ? std::min(until, FirstDeadline()) : 0;
  const bool sleep = wake > MonotonicNow();
  if (sleep && wake != timer_at_) {
    timer_at_ = wake;
    itimerspec when{};
    when.it_value = {wake / kSecond, wake % kSecond};
    ::timerfd_settime(timer_, TFD_TIMER_ABSTIME, &when, nullptr);
  }
  std::array<epoll_event, 256> events;
  const int n =
      ::epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), sleep ? -1 : 0);
  for (int i = 0; i < n; ++i) {
    auto* connection = static_cast<Connection*>(events[static_cast<size_t>(i)].data.ptr);
    if (connection != nullptr) {
      OnEvents(*connection, events[static_cast<size_t>(i)].events);
    } else {
      uint64_t expirations = 0;
      if (::read(timer_, &expirations, sizeof(expirations)) > 0) timer_at_ = 0;
    }
  }
  Expire(MonotonicNow());
  ended.insert(ended.end(), ended_.begin(), ended_.end());
  ended_.clear();
}

void StreamClient::CancelAll() {
  for (const auto& connection : connections_) {
    if (connection->serial != 0) Fail(*connection, Outcome::kCancelled, "interrupted");
  }
}

StatusOr<std::string> StreamClient::Fetch(const std::string& request) const {
  const auto* address = reinterpret_cast<const sockaddr*>(&address_);
  const int fd = ConnectBlocking(address, address_size_, timeout_);
  if (fd < 0) return Unavailable("no connection: {}", ErrnoText(errno));
  ResponseParser response;
  std::string body;
  const Status status = AskBlocking(fd, tls_.get(), request, response, body);
  ::close(fd);
  TANDEM_RETURN_IF_ERROR(status);
  if (!response.done()) return Unavailable("no whole response");
  if (response.status() != 200) return Unavailable("status {}", response.status());
  return body;
}

}  // namespace tandem::load
