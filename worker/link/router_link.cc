#include "worker/link/router_link.h"

#include <zmq.h>

#include <algorithm>
#include <cerrno>
#include <random>

#include "common/check.h"
#include "common/clock.h"
#include "worker/link/link_thread.h"
#include "worker/link/router_session.h"

namespace tandem::link {
namespace {

constexpr size_t kReadsPerTurn = 256;  // of one socket before the others get theirs
constexpr size_t kItemsPerReport = 4096;
constexpr size_t kSpareSteps = 16;

// Random, so that a router never takes this process for one before it. A first byte of zero is
// ZeroMQ's own.
std::string RandomIdentity() {
  std::random_device device;
  std::string identity = "T";
  while (identity.size() < 16) identity.push_back(static_cast<char>(device() & 0xff));
  return identity;
}

}  // namespace

// Everything the link's thread owns of one group, and the queue into it.
class RouterLink::Loop final : public LinkThread::Client {
 public:
  Loop(const RouterLinkOptions& options, RouterLink& link);
  ~Loop() override;
  Status Start();

  // Leaves memory of a step that was posted before.
  void Post(StepForRouters& step);
  void StartDraining();
  void StartGoodbye(const std::string& reason, Nanos flush);
  void WaitClosed(Nanos until);

  Nanos Want(std::vector<LinkThread::Wanted>& sockets, Nanos now) override;
  bool Turn() override;

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
  void Wake() { thread_->Wake(*this); }
  void TakeCommands();
  void KeepMemoryOfSteps();
  void Read(Connection& connection);
  void Write(Connection& connection);
  bool Stays() const;
  bool AllHeardGoodbye() const;
  void CloseSockets(Nanos linger);
  void DeliverAll();

  const RouterLinkOptions options_;
  RouterLink& link_;
  const bool owns_thread_;
  std::shared_ptr<LinkThread> thread_;
  std::vector<Connection> connections_;
  KvMirror mirror_;
  std::vector<engine::Inbound> inbound_;
  Commands taken_;
  Nanos goodbye_until_ = 0;

  Mutex mutex_;
  CondVar closed_cv_;
  Commands commands_ TANDEM_GUARDED_BY(mutex_);
  std::vector<StepForRouters> spare_steps_ TANDEM_GUARDED_BY(mutex_);  // sent
  bool closed_ TANDEM_GUARDED_BY(mutex_) = false;
};

RouterLink::Loop::Loop(const RouterLinkOptions& options, RouterLink& link)
    : options_(options),
      link_(link),
      owns_thread_(options.thread == nullptr),
      thread_(owns_thread_ ? std::make_shared<LinkThread>() : options.thread) {}

Status RouterLink::Loop::Start() {
  for (const std::string& endpoint : options_.endpoints) {
    TANDEM_RETURN_IF_ERROR(Connect(endpoint));
  }
  thread_->Add(*this);
  if (owns_thread_) thread_->CloseWhenEmpty();
  return OkStatus();
}

Status RouterLink::Loop::Connect(const std::string& endpoint) {
  Connection connection;
  connection.socket = zmq_socket(thread_->context(), ZMQ_DEALER);
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
  {
    MutexLock lock(mutex_);
    commands_.stop = true;
  }
  Wake();
  thread_->WaitGone(*this);
  CloseSockets(0);  // of a link that was never started
}

void RouterLink::Loop::Post(StepForRouters& step) {
  {
    MutexLock lock(mutex_);
    commands_.steps.push_back(std::move(step));
    if (!spare_steps_.empty()) {
      step = std::move(spare_steps_.back());
      spare_steps_.pop_back();
    }
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

void RouterLink::Loop::StartGoodbye(const std::string& reason, Nanos flush) {
  {
    MutexLock lock(mutex_);
    commands_.goodbye = true;
    commands_.reason = reason;
    commands_.flush = flush;
  }
  Wake();
}

void RouterLink::Loop::WaitClosed(Nanos until) {
  // Its end comes after what lingers in the sockets has left.
  if (owns_thread_) return thread_->WaitEnded(until);
  MutexLock lock(mutex_);
  while (!closed_ && MonotonicNow() < until) {
    closed_cv_.WaitFor(mutex_, std::chrono::nanoseconds(until - MonotonicNow()));
  }
}

Nanos RouterLink::Loop::Want(std::vector<LinkThread::Wanted>& sockets, Nanos now) {
  Nanos due = goodbye_until_ == 0 ? now + kSecond : goodbye_until_;
  for (Connection& c : connections_) {
    sockets.push_back({c.socket, c.blocked});
    // A Hello that is due but blocked waits for the socket, not for the clock.
    if (!c.blocked || c.session->open()) due = std::min(due, c.session->next_tick());
  }
  return due;
}

bool RouterLink::Loop::Turn() {
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
      // What has been committed by now goes out together, up to that.
      if (connection.session->num_waiting() >= kItemsPerReport) Write(connection);
    }
  }
  KeepMemoryOfSteps();
  for (Connection& connection : connections_) {
    // After the steps that were posted before it: nothing follows a Goodbye.
    if (taken_.goodbye) connection.session->AddGoodbye(taken_.reason);
    Write(connection);
  }
  DeliverAll();
  if (Stays()) return true;
  CloseSockets(taken_.goodbye ? taken_.flush : 0);
  MutexLock lock(mutex_);
  closed_ = true;
  closed_cv_.NotifyAll();
  return false;
}

bool RouterLink::Loop::Stays() const {
  if (taken_.stop) return false;
  return goodbye_until_ == 0 || (!AllHeardGoodbye() && MonotonicNow() < goodbye_until_);
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
  }
  if (taken_.goodbye && goodbye_until_ == 0) goodbye_until_ = MonotonicNow() + taken_.flush;
}

void RouterLink::Loop::KeepMemoryOfSteps() {
  if (taken_.steps.empty()) return;
  MutexLock lock(mutex_);
  for (StepForRouters& step : taken_.steps) {
    if (spare_steps_.size() < kSpareSteps) spare_steps_.push_back(std::move(step));
  }
  taken_.steps.clear();
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

bool RouterLink::Loop::AllHeardGoodbye() const {
  return std::all_of(connections_.begin(), connections_.end(), [](const Connection& c) {
    return !c.session->open() || c.session->goodbye_heard();
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

RouterLink::RouterLink() : next_(std::make_unique<StepForRouters>()) {}
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
      last_request_[generate->key.router] = generate->key.request;
    } else if (const auto* lost = std::get_if<engine::RouterLost>(&received.inbound)) {
      std::erase_if(live_, [&](const auto& entry) { return entry.first.router == lost->router; });
      last_request_.erase(lost->router);
    }
    inbox.push_back(std::move(received.inbound));
  }
  draining_.clear();
}

void RouterLink::SendStep(StepOut&& step) {
  StepForRouters& out = *next_;
  std::swap(out.step, step);
  out.inbox.clear();
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
    if (kept != i) std::swap(out.step.outputs[kept], output);
    ++kept;
  }
  out.step.outputs.resize(kept);
  out.last_request = last_request_;
  loop_->Post(out);
}

void RouterLink::StartDraining() { loop_->StartDraining(); }

void RouterLink::StartGoodbye(const std::string& reason, Nanos flush) {
  loop_->StartGoodbye(reason, flush);
}

void RouterLink::Goodbye(const std::string& reason, Nanos flush) {
  loop_->StartGoodbye(reason, flush);
  loop_->WaitClosed(MonotonicNow() + 2 * flush);  // half to hand over, half on ZeroMQ's thread
}

}  // namespace tandem::link
