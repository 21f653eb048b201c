// Calls a function, on a thread of its own, if a limit is over before the owner says Stop(): for
// what may wait for ever in calls that take no limit, and that the function makes return.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>

namespace tandem {

class Alarm {
 public:
  Alarm(std::chrono::milliseconds limit, std::function<void()> ring)
      : ring_(std::move(ring)), thread_([this, limit] { Run(limit); }) {}
  ~Alarm() { static_cast<void>(Stop()); }
  Alarm(const Alarm&) = delete;
  Alarm& operator=(const Alarm&) = delete;

  // Whether the function was called, and has returned; from here on it is not. Idempotent. Thread:
  // the owner's.
  bool Stop() {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    stopped_.notify_all();
    if (thread_.joinable()) thread_.join();
    return rang_;
  }

 private:
  void Run(std::chrono::milliseconds limit) {
    {
      std::unique_lock lock(mutex_);
      if (stopped_.wait_for(lock, limit, [this] { return stop_; })) return;
    }
    rang_ = true;
    ring_();
  }

  const std::function<void()> ring_;
  std::mutex mutex_;
  std::condition_variable stopped_;
  bool stop_ = false;
  bool rang_ = false;   // the thread's until it is joined
  std::thread thread_;  // the last member: it uses the others
};

}  // namespace tandem
