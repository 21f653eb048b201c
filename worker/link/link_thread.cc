#include "worker/link/link_thread.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <zmq.h>

#include <algorithm>
#include <chrono>

#include "common/check.h"
#include "common/clock.h"

namespace tandem::link {
namespace {

constexpr Nanos kMaxSleep = kSecond;
constexpr int kMaxSockets = 16 << 10;  // ZeroMQ's own bound is 1,023

}  // namespace

struct LinkThread::PollItems {
  std::vector<zmq_pollitem_t> list;
};

LinkThread::LinkThread()
    : context_(zmq_ctx_new()),
      wake_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)),
      items_(std::make_unique<PollItems>()) {
  TANDEM_CHECK(wake_.valid() && context_ != nullptr) << "no descriptors left";
  zmq_ctx_set(context_, ZMQ_MAX_SOCKETS, kMaxSockets);
  thread_ = std::thread([this] { Run(); });
}

LinkThread::~LinkThread() {
  CloseWhenEmpty();
  thread_.join();
}

void LinkThread::Add(Client& client) {
  {
    MutexLock lock(mutex_);
    added_.push_back(&client);
    members_.push_back(&client);
  }
  Ring();
}

void LinkThread::WaitGone(const Client& client) {
  MutexLock lock(mutex_);
  while (std::find(members_.begin(), members_.end(), &client) != members_.end()) {
    changed_.Wait(mutex_);
  }
}

void LinkThread::Wake(Client& client) {
  client.woken_.store(true, std::memory_order_release);
  Ring();
}

void LinkThread::CloseWhenEmpty() {
  {
    MutexLock lock(mutex_);
    closing_ = true;
  }
  Ring();
}

void LinkThread::WaitEnded(Nanos until) {
  MutexLock lock(mutex_);
  while (!ended_ && MonotonicNow() < until) {
    changed_.WaitFor(mutex_, std::chrono::nanoseconds(until - MonotonicNow()));
  }
}

// One write for all that ring before the thread looks.
void LinkThread::Ring() {
  if (rung_.exchange(true)) return;
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t n = ::write(wake_.get(), &one, sizeof(one));
}

void LinkThread::Run() {
  ::pthread_setname_np(::pthread_self(), "link");
  while (TakeChanges()) {
    WaitForWork();
    TurnAll();
  }
  zmq_ctx_term(context_);  // waits for what lingers
  MutexLock lock(mutex_);
  ended_ = true;
  changed_.NotifyAll();
}

bool LinkThread::TakeChanges() {
  MutexLock lock(mutex_);
  for (Client* client : added_) entries_.push_back({.client = client});
  added_.clear();
  return !entries_.empty() || !closing_;
}

void LinkThread::WaitForWork() {
  const Nanos now = MonotonicNow();
  Nanos until = now + kMaxSleep;
  wanted_.clear();
  for (Entry& entry : entries_) {
    entry.first_socket = wanted_.size();
    entry.due = entry.client->Want(wanted_, now);
    entry.num_sockets = wanted_.size() - entry.first_socket;
    until = std::min(until, entry.due);
  }
  std::vector<zmq_pollitem_t>& items = items_->list;
  items.assign(1, {nullptr, wake_.get(), ZMQ_POLLIN, 0});
  for (const Wanted& wanted : wanted_) {
    const short out = wanted.writable ? ZMQ_POLLOUT : 0;
    items.push_back({wanted.socket, 0, static_cast<short>(ZMQ_POLLIN | out), 0});
  }
  const Nanos wait = std::max<Nanos>(until - now, 0);
  const long ms = static_cast<long>((wait + kMillisecond - 1) / kMillisecond);
  zmq_poll(items.data(), static_cast<int>(items.size()), ms);
  if (items[0].revents != 0) {
    uint64_t count;
    [[maybe_unused]] const ssize_t n = ::read(wake_.get(), &count, sizeof(count));
    rung_.store(false);  // before anything is taken: who rings from here on writes again
  }
}

void LinkThread::TurnAll() {
  const Nanos now = MonotonicNow();
  const std::vector<zmq_pollitem_t>& items = items_->list;
  std::erase_if(entries_, [&](const Entry& entry) {
    bool ready = now >= entry.due || entry.client->woken_.exchange(false);
    for (size_t i = 0; i < entry.num_sockets; ++i) {
      ready |= items[1 + entry.first_socket + i].revents != 0;
    }
    if (!ready || entry.client->Turn()) return false;
    Forget(*entry.client);
    return true;
  });
}

// The owner of `client` may destroy it from here on.
void LinkThread::Forget(const Client& client) {
  MutexLock lock(mutex_);
  std::erase(members_, &client);
  changed_.NotifyAll();
}

}  // namespace tandem::link
