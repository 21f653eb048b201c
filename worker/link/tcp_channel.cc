#include "worker/link/tcp_channel.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "common/check.h"
#include "worker/link/seq_packet.h"
#include "worker/link/tcp_socket.h"

namespace tandem::link {
namespace {

struct FrameHeader {
  uint32_t magic = 0x464d4454;  // "TDMF"
  FrameType type = FrameType::kMessage;
  uint32_t bytes = 0;
};

constexpr size_t kMaxMessage = 16 << 10;
constexpr size_t kMaxFrame = 64 << 20;
constexpr size_t kMaxMail = 256;
constexpr size_t kReadBytes = 64 << 10;

// Anybody may connect: until it is known who it is, nothing but short messages.
bool IsFrame(const FrameHeader& header, bool known) {
  if (header.magic != FrameHeader{}.magic) return false;
  if (header.type == FrameType::kMessage) return header.bytes <= kMaxMessage;
  return known && header.bytes <= kMaxFrame &&
         (header.type == FrameType::kState || header.type == FrameType::kPlan);
}

}  // namespace

WakeUp::WakeUp() : fd_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  TANDEM_CHECK(fd_.valid()) << "no descriptors left";
}

void WakeUp::Ring() {
  const uint64_t one = 1;
  (void)!::write(fd_.get(), &one, sizeof(one));
}

void WakeUp::Clear() {
  uint64_t count;
  (void)!::read(fd_.get(), &count, sizeof(count));
}

TcpChannel::TcpChannel(UniqueFd socket, std::shared_ptr<WakeUp> wake_up)
    : socket_(std::move(socket)),
      wake_up_(std::move(wake_up)),
      name_(PeerName(socket_.get())),
      local_address_(LocalAddress(socket_.get())) {
  const int on = 1;
  ::setsockopt(socket_.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

Status TcpChannel::Send(FrameType type, std::span<const std::byte> frame) {
  FrameHeader header;
  header.type = type;
  header.bytes = static_cast<uint32_t>(frame.size());
  MutexLock lock(mutex_);
  if (!end_status_.ok()) return end_status_;
  out_.append(reinterpret_cast<const char*>(&header), sizeof(header));
  out_.append(reinterpret_cast<const char*>(frame.data()), frame.size());
  FlushLocked();
  if (!out_.empty()) wake_up_->Ring();
  return end_status_;
}

void TcpChannel::Flush() {
  MutexLock lock(mutex_);
  FlushLocked();
}

void TcpChannel::FlushLocked() {
  size_t sent = 0;
  while (end_status_.ok() && sent < out_.size()) {
    const ssize_t n =
        ::send(socket_.get(), out_.data() + sent, out_.size() - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) break;
    if (n < 0) {
      // What it sent before may still be there to be read: Read() will end it.
      ::shutdown(socket_.get(), SHUT_WR);
      sent = out_.size();
      break;
    }
    sent += static_cast<size_t>(n);
  }
  out_.erase(0, sent);
  if (end_when_sent_ && out_.empty()) EndLocked(Unavailable("closed"));
}

bool TcpChannel::has_unsent() const {
  MutexLock lock(mutex_);
  return !out_.empty();
}

bool TcpChannel::has_mail() const {
  MutexLock lock(mutex_);
  return !mailbox_.empty();
}

Status TcpChannel::Receive(std::span<std::byte> message, int stop_fd) {
  TANDEM_RETURN_IF_ERROR(WaitReadable(mail_.fd(), stop_fd, -1));
  MutexLock lock(mutex_);
  if (mailbox_.empty()) return end_status_.ok() ? Unavailable("no message") : end_status_;
  const std::string mail = std::move(mailbox_.front());
  mailbox_.pop_front();
  if (mailbox_.empty() && end_status_.ok()) mail_.Clear();
  if (mail.size() != message.size()) {
    return InvalidArgument("a message of {} bytes where {} were due", mail.size(), message.size());
  }
  std::memcpy(message.data(), mail.data(), mail.size());
  return OkStatus();
}

void TcpChannel::End(const Status& why) {
  MutexLock lock(mutex_);
  EndLocked(why);
}

void TcpChannel::EndLocked(const Status& why) {
  if (!end_status_.ok()) return;
  end_status_ = why;
  ::shutdown(socket_.get(), SHUT_RDWR);
  end_.Ring();
  mail_.Ring();
  wake_up_->Ring();
}

void TcpChannel::EndWhenSent() {
  MutexLock lock(mutex_);
  end_when_sent_ = true;
  FlushLocked();
}

bool TcpChannel::ended() const {
  MutexLock lock(mutex_);
  return !end_status_.ok();
}

pollfd TcpChannel::interest() const {
  const bool reads = !held_ && read_end_.ok();
  return {socket_.get(), static_cast<short>((reads ? POLLIN : 0) | (has_unsent() ? POLLOUT : 0)),
          0};
}

void TcpChannel::Read(const Handler& handle) {
  while (!held_ && read_end_.ok() && Fill()) Parse(handle);
  held_ = false;
  Parse(handle);
  if (!held_ && !read_end_.ok()) End(read_end_);
}

// False: there is no more now.
bool TcpChannel::Fill() {
  in_.erase(in_.begin(), in_.begin() + static_cast<ptrdiff_t>(std::exchange(parsed_, 0)));
  const size_t had = in_.size();
  in_.resize(had + kReadBytes);
  ssize_t n;
  do {
    n = ::recv(socket_.get(), in_.data() + had, kReadBytes, MSG_DONTWAIT);
  } while (n < 0 && errno == EINTR);
  in_.resize(had + static_cast<size_t>(n > 0 ? n : 0));
  if (n == 0) read_end_ = Unavailable("{} closed the connection", name_);
  if (n < 0 && errno != EAGAIN) read_end_ = Unavailable("{}: {}", name_, std::strerror(errno));
  return n > 0;
}

void TcpChannel::Parse(const Handler& handle) {
  while (!ended()) {
    const std::span<const std::byte> rest = std::span<const std::byte>(in_).subspan(parsed_);
    FrameHeader header;
    if (rest.size() < sizeof(header)) return;
    std::memcpy(&header, rest.data(), sizeof(header));
    if (!IsFrame(header, rank() >= 0)) {
      read_end_ = InvalidArgument("it does not speak as ranks of this build do");
      return;
    }
    if (rest.size() < sizeof(header) + header.bytes) return;
    const auto frame = rest.subspan(sizeof(header), header.bytes);
    const bool taken =
        header.type == FrameType::kMessage ? Deliver(frame) : handle(header.type, frame);
    if (!taken) {
      held_ = true;
      return;
    }
    parsed_ += sizeof(header) + header.bytes;
  }
}

bool TcpChannel::Deliver(std::span<const std::byte> message) {
  MutexLock lock(mutex_);
  if (mailbox_.size() >= kMaxMail) {
    EndLocked(InvalidArgument("it sends messages that nobody asked for"));
    return true;
  }
  mailbox_.emplace_back(reinterpret_cast<const char*>(message.data()), message.size());
  mail_.Ring();
  return true;
}

}  // namespace tandem::link
