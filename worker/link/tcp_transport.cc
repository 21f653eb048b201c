#include "worker/link/tcp_transport.h"

#include <sys/socket.h>

#include <utility>

#include "common/clock.h"
#include "common/observe/log.h"
#include "worker/link/seq_packet.h"
#include "worker/link/tcp_socket.h"

namespace tandem::link {
namespace {

constexpr Nanos kTick = 50 * kMillisecond;  // between two states that say the same
constexpr int kRetryMs = 100;               // between looks for a leader that is not there yet
// Of one look. Short, because a connection attempt that the kernel repeats on its own, ever more
// rarely, finds a link that is up again late.
constexpr int kConnectMs = 1000;
constexpr Nanos kEndFlush = 200 * kMillisecond;

class TcpPeer final : public RankPeer {
 public:
  explicit TcpPeer(std::shared_ptr<TcpChannel> channel) : channel_(std::move(channel)) {}
  ~TcpPeer() override { channel_->EndWhenSent(); }

  std::string name() const override { return channel_->name(); }
  Status Send(std::span<const std::byte> message, int) override {
    return channel_->Send(FrameType::kMessage, message);
  }
  Status Receive(std::span<std::byte> message, int stop_fd, UniqueFd*) override {
    return channel_->Receive(message, stop_fd);
  }
  int fd() const override { return channel_->mail_fd(); }
  bool HasUnread() const override { return channel_->has_mail(); }
  void Joined(int rank) override { channel_->set_rank(rank); }
  pollfd End() const override { return {channel_->end_fd(), POLLIN, 0}; }
  void Kill() override { channel_->End(Unavailable("cut off")); }

 private:
  const std::shared_ptr<TcpChannel> channel_;
};

}  // namespace

TcpTransport::TcpTransport(const TcpTransportOptions& options)
    : options_(options), mirror_(options.rank, options.tp), wake_up_(std::make_shared<WakeUp>()) {}

TcpTransport::~TcpTransport() {
  if (!thread_.joinable()) return;
  stop_.store(true);
  wake_up_->Ring();
  thread_.join();
}

Status TcpTransport::Listen() {
  TANDEM_ASSIGN_OR_RETURN(name_, LeaderSocket::Open(options_.runtime_dir, options_.group));
  StatusOr<UniqueFd> listener = ListenTcp(options_.host, options_.port);
  if (!listener.ok()) {
    return InvalidArgument(
        "{}; the first of the group's hosts is an address of this machine, and "
        "rendezvous_port is free there",
        Message(listener.status()));
  }
  listener_ = std::move(listener).value();
  address_ = LocalAddress(listener_.get());
  thread_ = std::thread([this] { Run(); });
  return OkStatus();
}

std::unique_ptr<RankPeer> TcpTransport::Accept() {
  UniqueFd socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  return socket.valid() ? Add(std::move(socket), -1) : nullptr;
}

StatusOr<std::unique_ptr<RankPeer>> TcpTransport::Connect(int stop_fd) {
  for (std::string told;;) {
    StatusOr<UniqueFd> socket = ConnectTcp(options_.host, options_.port, stop_fd, kConnectMs);
    if (socket.ok()) {
      address_ = LocalAddress(socket->get());
      thread_ = std::thread([this] { Run(); });
      return Add(std::move(socket).value(), 0);
    }
    if (socket.status().code() == StatusCode::kCancelled) return socket.status();
    const std::string why(Message(socket.status()));
    if (why != told) observe::LogInfo("looking for the leader at {}", why);
    told = why;
    const Status waited = WaitReadable(-1, stop_fd, kRetryMs);
    if (waited.code() == StatusCode::kCancelled) return waited;
  }
}

std::unique_ptr<RankPeer> TcpTransport::Add(UniqueFd socket, int rank) {
  auto channel = std::make_shared<TcpChannel>(std::move(socket), wake_up_);
  channel->set_rank(rank);
  {
    MutexLock lock(mutex_);
    channels_.push_back(channel);
  }
  wake_up_->Ring();
  return std::make_unique<TcpPeer>(std::move(channel));
}

TcpTransport::Channels TcpTransport::channels() const {
  MutexLock lock(mutex_);
  return channels_;
}

void TcpTransport::Keep(const RollCall& roll_call) {
  mirror_.Keep(roll_call);
  wake_up_->Ring();
}

void TcpTransport::Keep(const PlanRing& ring) {
  mirror_.Keep(ring);
  wake_up_->Ring();
}

void TcpTransport::Published(const StepPlan& plan, Nanos limit) {
  mirror_.Plan(plan, limit, plan_frame_);
  MutexLock lock(mutex_);
  for (const auto& channel : channels_) {
    if (channel->rank() > 0) (void)channel->Send(FrameType::kPlan, plan_frame_);
  }
}

void TcpTransport::Run() {
  std::vector<std::byte> told;  // the last state that was sent, and when
  for (Nanos told_at = 0; !stop_.load();) {
    const Channels all = channels();
    std::vector<pollfd> fds = {{wake_up_->fd(), POLLIN, 0}};
    for (const auto& channel : all) fds.push_back(channel->interest());
    ::poll(fds.data(), fds.size(), static_cast<int>(kTick / kMillisecond));
    wake_up_->Clear();
    for (size_t i = 0; i < all.size(); ++i) Serve(*all[i], fds[i + 1].revents != 0);
    {
      MutexLock lock(mutex_);
      std::erase_if(channels_, [](const auto& channel) { return channel->ended(); });
    }
    if (!mirror_.has_roll_call()) continue;
    std::vector<std::byte> state = mirror_.State();
    const Nanos now = MonotonicNow();
    if (state == told && now - told_at < kTick) continue;
    SendState(state);
    told = std::move(state);
    told_at = now;
  }
  FlushAtTheEnd();
}

void TcpTransport::Serve(TcpChannel& channel, bool ready) {
  if (ready) channel.Flush();
  if (!ready && !channel.held()) return;
  channel.Read(
      [&](FrameType type, std::span<const std::byte> frame) { return Take(channel, type, frame); });
}

bool TcpTransport::Take(TcpChannel& channel, FrameType type, std::span<const std::byte> frame) {
  const GroupMirror::Taken taken = type == FrameType::kPlan
                                       ? mirror_.TakePlan(channel.rank(), frame)
                                       : mirror_.TakeState(channel.rank(), frame);
  if (taken == GroupMirror::Taken::kNonsense) {
    observe::LogError("{} sent what makes no sense; cut off", channel.name());
    channel.End(InvalidArgument("it sent what makes no sense"));
  }
  return taken != GroupMirror::Taken::kNotYet;
}

// A peer that has not taken what was sent before will take a later state.
void TcpTransport::SendState(const std::vector<std::byte>& state) {
  for (const auto& channel : channels()) {
    const bool takes_part = options_.rank != 0 || channel->rank() > 0;
    if (takes_part && !channel->has_unsent()) (void)channel->Send(FrameType::kState, state);
  }
}

void TcpTransport::FlushAtTheEnd() {
  if (mirror_.has_roll_call()) SendState(mirror_.State());
  const Nanos until = MonotonicNow() + kEndFlush;
  for (const auto& channel : channels()) {
    while (channel->has_unsent() && !channel->ended() && MonotonicNow() < until) {
      pollfd writable = channel->interest();
      writable.events = POLLOUT;
      ::poll(&writable, 1, 10);
      channel->Flush();
    }
  }
}

}  // namespace tandem::link
