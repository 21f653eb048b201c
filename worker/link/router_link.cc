#include "worker/link/router_link.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <zmq.h>

#include <algorithm>
#include <cerrno>
#include <random>
#include <thread>

#include "common/check.h"
#include "common/clock.h"
#include "worker/link/router_session.h"
#include "worker/link/unique_fd.h"

namespace tandem::link {
namespace {

constexpr size_t kReadsPerTurn = 256;  // of one socket before the others get theirs
constexpr Nanos kMaxSleep = kSecond;

// Random, so that a router never takes this process for one before it. A first byte of zero is
// ZeroMQ's own.
std::string RandomIdentity() {
  std::random_device device;
  std::string identity = "T";
  while (identity.size() < 16) identity.push_back(static_cast<char>(device() & 0xff));
  return identity;
}

}  // namespace

// Everything the link's thread owns, and the queue into it.
class RouterLink::Loop {
 public:
  explicit Loop(const RouterLinkOptions& options, RouterLink& link)
      : options_(options), link_(link) {}
  ~Loop();
  Status Start();

  void Post(StepForRouters&& step);
  void StartDraining();
  void Goodbye(const std::string& reason, Nanos flush);

 private:
  struct Connection {
    void* socket = nullptr;
    std::unique_ptr<RouterSession> session;
    bool blocked = false;  // the socket took no more
  };
  struct Commands {
    std::vector<StepForRouters> steps;
    bool draining = false;
    bool goodbye = false;
    bool stop = false;
    std::string reason;
    Nanos flush = 0;
  };

  Status Connect(const std::string& endpoint);
  void Wake();
  void Run();
  bool Turn();
  void WaitForWork();
  void TakeCommands();
  void Read(Connection& connection);
  void Write(Connection& connection);
  bool AllSaidGoodbye() const;
  void CloseSockets(Nanos linger);
  void DeliverAll();

  const RouterLinkOptions options_;
  RouterLink& link_;
  void* context_ = nullptr;
  UniqueFd wake_;
  std::vector<Connection> connections_;
  KvMirror mirror_;
  std::vector<engine::Inbound> inbound_;
  Commands taken_;
  Nanos goodbye_until_ = 0;

  Mutex mutex_;
  CondVar closed_cv_;
  Commands commands_ TANDEM_GUARDED_BY(mutex_);
  bool closed_ TANDEM_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

Status RouterLink::Loop::Start() {
  wake_ = UniqueFd(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  context_ = zmq_ctx_new();
  TANDEM_CHECK(wake_.valid() && context_ != nullptr) << "no descriptors left";
  for (const std::string& endpoint : options_.endpoints) {
    TANDEM_RETURN_IF_ERROR(Connect(endpoint));
  }
  thread_ = std::thread([this] { Run(); });
  return OkStatus();
}

Status RouterLink::Loop::Connect(const std::string& endpoint) {
  Connection connection;
  connection.socket = zmq_socket(context_, ZMQ_DEALER);
  TANDEM_CHECK(connection.socket != nullptr) << zmq_strerror(zmq_errno());
  const auto set = [&](int option, int value) {
    TANDEM_CHECK(zmq_setsockopt(connection.socket, option, &value, sizeof(value)) == 0)
        << "option " << option << ": " << zmq_strerror(zmq_errno());
  };
  // Nothing is queued for a router that is absent, and nothing outlives the session: our numbers
  // and credits say what was lost, ZeroMQ's queues would not.
  set(ZMQ_IMMEDIATE, 1);
  set(ZMQ_LINGER, 0);
  set(ZMQ_RECONNECT_IVL, 50);
  set(ZMQ_RECONNECT_IVL_MAX, 1000);
  const std::string identity = RandomIdentity();
  zmq_setsockopt(connection.socket, ZMQ_ROUTING_ID, identity.data(), identity.size());
  connections_.push_back(std::move(connection));
  Connection& kept = connections_.back();
  if (zmq_connect(kept.socket, endpoint.c_str()) != 0) {
    return InvalidArgument("cannot dial router {}: {}; see links.routers", endpoint,
                           zmq_strerror(zmq_errno()));
  }
  kept.session = std::make_unique<RouterSession>(endpoint, options_, mirror_, link_.stats_);
  return OkStatus();
}

RouterLink::Loop::~Loop() {
  if (thread_.joinable()) {
    {
      MutexLock lock(mutex_);
      commands_.stop = true;
    }
    Wake();
    thread_.join();
  } else {
    CloseSockets(0);
  }
}

void RouterLink::Loop::Wake() {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t n = ::write(wake_.get(), &one, sizeof(one));
}

void RouterLink::Loop::Post(StepForRouters&& step) {
  {
    MutexLock lock(mutex_);
    commands_.steps.push_back(std::move(step));
    if (commands_.steps.size() > 1) return;  // woken already
  }
  Wake();
}

void RouterLink::Loop::StartDraining() {
  {
    MutexLock lock(mutex_);
    commands_.draining = true;
  }
  Wake();
}

void RouterLink::Loop::Goodbye(const std::string& reason, Nanos flush) {
  {
    MutexLock lock(mutex_);
    commands_.goodbye = true;
    commands_.reason = reason;
    commands_.flush = flush;
  }
  Wake();
  const Nanos until = MonotonicNow() + 2 * flush;  // half to hand over, half on ZeroMQ's thread
  MutexLock lock(mutex_);
  while (!closed_ && MonotonicNow() < until) {
    closed_cv_.WaitFor(mutex_, std::chrono::nanoseconds(until - MonotonicNow()));
  }
}

void RouterLink::Loop::Run() {
  while (Turn()) {
  }
  CloseSockets(goodbye_until_ == 0 ? 0 : taken_.flush);
  MutexLock lock(mutex_);
  closed_ = true;
  closed_cv_.NotifyAll();
}

bool RouterLink::Loop::Turn() {
  WaitForWork();
  TakeCommands();
  const Nanos now = MonotonicNow();
  for (Connection& connection : connections_) {
    Read(connection);
    connection.session->Tick(now, inbound_);
  }
  for (StepForRouters& step : taken_.steps) {
    for (const engine::KvEvent& event : step.step.kv_events) mirror_.Apply(event);
    for (Connection& connection : connections_) {
      connection.session->Add(step, now, inbound_);
      Write(connection);
    }
  }
  taken_.steps.clear();
  for (Connection& connection : connections_) Write(connection);
  DeliverAll();
  if (taken_.stop) return false;
  return goodbye_until_ == 0 || (!AllSaidGoodbye() && MonotonicNow() < goodbye_until_);
}

void RouterLink::Loop::WaitForWork() {
  std::vector<zmq_pollitem_t> items(1 + connections_.size());
  items[0] = {nullptr, wake_.get(), ZMQ_POLLIN, 0};
  const Nanos now = MonotonicNow();
  Nanos wait = goodbye_until_ == 0 ? kMaxSleep : std::max<Nanos>(goodbye_until_ - now, 0);
  for (size_t i = 0; i < connections_.size(); ++i) {
    Connection& c = connections_[i];
    const short out = c.blocked ? ZMQ_POLLOUT : 0;
    items[i + 1] = {c.socket, 0, static_cast<short>(ZMQ_POLLIN | out), 0};
    const Nanos due = c.session->next_tick() - now;
    // A Hello that is due but blocked waits for the socket, not for the clock.
    if (!c.blocked || c.session->open()) wait = std::clamp<Nanos>(due, 0, wait);
  }
  const long ms = static_cast<long>((wait + kMillisecond - 1) / kMillisecond);
  zmq_poll(items.data(), static_cast<int>(items.size()), ms);
  uint64_t count;
  [[maybe_unused]] const ssize_t n = ::read(wake_.get(), &count, sizeof(count));
}

void RouterLink::Loop::TakeCommands() {
  {
    MutexLock lock(mutex_);
    std::swap(taken_.steps, commands_.steps);
    taken_.draining = commands_.draining;
    taken_.goodbye = commands_.goodbye;
    taken_.stop = commands_.stop;
    taken_.reason = commands_.reason;
    taken_.flush = commands_.flush;
  }
  for (Connection& connection : connections_) {
    if (taken_.draining) connection.session->AddDraining();
    if (taken_.goodbye) connection.session->AddGoodbye(taken_.reason);
  }
  if (taken_.goodbye && goodbye_until_ == 0) goodbye_until_ = MonotonicNow() + taken_.flush;
}

void RouterLink::Loop::Read(Connection& connection) {
  for (size_t i = 0; i < kReadsPerTurn; ++i) {
    zmq_msg_t message;
    zmq_msg_init(&message);
    if (zmq_msg_recv(&message, connection.socket, ZMQ_DONTWAIT) < 0) {
      zmq_msg_close(&message);
      return;
    }
    const std::string_view bytes(static_cast<const char*>(zmq_msg_data(&message)),
                                 zmq_msg_size(&message));
    connection.session->Receive(bytes, MonotonicNow(), inbound_);
    zmq_msg_close(&message);
  }
  Wake();  // there may be more
}

void RouterLink::Loop::Write(Connection& connection) {
  connection.blocked = false;
  for (;;) {
    const Nanos now = MonotonicNow();
    const std::string_view bytes = connection.session->Outgoing(now);
    if (bytes.empty()) return;
    if (zmq_send(connection.socket, bytes.data(), bytes.size(), ZMQ_DONTWAIT) < 0) {
      connection.blocked = true;
      return;
    }
    connection.session->Sent(now);
  }
}

bool RouterLink::Loop::AllSaidGoodbye() const {
  return std::all_of(connections_.begin(), connections_.end(), [](const Connection& c) {
    return !c.session->open() || c.session->said_goodbye();
  });
}

void RouterLink::Loop::CloseSockets(Nanos linger) {
  const int ms = static_cast<int>(linger / kMillisecond);
  for (Connection& connection : connections_) {
    if (connection.socket == nullptr) continue;
    zmq_setsockopt(connection.socket, ZMQ_LINGER, &ms, sizeof(ms));
    zmq_close(connection.socket);
  }
  connections_.clear();
  if (context_ != nullptr) zmq_ctx_term(context_);
  context_ = nullptr;
}

void RouterLink::Loop::DeliverAll() {
  if (inbound_.empty()) return;
  const Nanos now = MonotonicNow();
  {
    MutexLock lock(link_.mutex_);
    for (engine::Inbound& inbound : inbound_) link_.arrived_.push_back({std::move(inbound), now});
  }
  inbound_.clear();
  if (options_.on_inbound) options_.on_inbound();
}

StatusOr<std::unique_ptr<RouterLink>> RouterLink::Open(const RouterLinkOptions& options) {
  std::unique_ptr<RouterLink> link(new RouterLink);
  link->loop_ = std::make_unique<Loop>(options, *link);
  TANDEM_RETURN_IF_ERROR(link->loop_->Start());
  return link;
}

RouterLink::~RouterLink() { loop_.reset(); }

void RouterLink::Drain(std::vector<engine::Inbound>& inbox) {
  {
    MutexLock lock(mutex_);
    draining_.swap(arrived_);
  }
  if (draining_.empty()) return;
  const Nanos now = MonotonicNow();
  for (Received& received : draining_) {
    if (const auto* generate = std::get_if<engine::Generate>(&received.inbound)) {
      live_.try_emplace(generate->key, now - received.at);
      RequestId& last = last_request_[generate->key.router];
      last = std::max(last, generate->key.request);
    } else if (const auto* lost = std::get_if<engine::RouterLost>(&received.inbound)) {
      std::erase_if(live_, [&](const auto& entry) { return entry.first.router == lost->router; });
      last_request_.erase(lost->router);
    }
    inbox.push_back(std::move(received.inbound));
  }
  draining_.clear();
}

void RouterLink::SendStep(StepOut&& step) {
  StepForRouters out;
  out.step = std::move(step);
  out.inbox.reserve(out.step.outputs.size());
  size_t kept = 0;
  for (size_t i = 0; i < out.step.outputs.size(); ++i) {
    engine::Output& output = out.step.outputs[i];
    const auto it = live_.find(output.key);
    if (it == live_.end()) {
      ++stats_.outputs_dropped;
      continue;
    }
    out.inbox.push_back(it->second);
    if (output.finish != engine::FinishReason::kNone) live_.erase(it);
    if (kept != i) out.step.outputs[kept] = std::move(output);
    ++kept;
  }
  out.step.outputs.resize(kept);
  out.last_request = last_request_;
  loop_->Post(std::move(out));
}

void RouterLink::StartDraining() { loop_->StartDraining(); }

void RouterLink::Goodbye(const std::string& reason, Nanos flush) { loop_->Goodbye(reason, flush); }

}  // namespace tandem::link
