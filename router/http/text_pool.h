// Threads that prepare long prompts, so that no stream waits behind one on the I/O thread.
// Thread: any.
#pragma once

#include <deque>
#include <functional>
#include <thread>
#include <vector>

#include "common/ids.h"
#include "common/mutex.h"

namespace tandem::http {

class TextPool {
 public:
  explicit TextPool(int num_threads);
  ~TextPool() { Stop(); }

  void Stop();  // finishes running jobs, drops those that wait; once it returns none runs

  void Run(std::function<void()> job);  // in order of arrival

  // When the oldest job that runs began, or 0: a job that never ends shows here.
  Nanos oldest_start() const;

 private:
  void Loop(size_t self);

  mutable Mutex mutex_;
  CondVar wake_;
  std::deque<std::function<void()>> jobs_ TANDEM_GUARDED_BY(mutex_);
  std::vector<Nanos> started_ TANDEM_GUARDED_BY(mutex_);  // by thread; 0: idle
  bool stop_ TANDEM_GUARDED_BY(mutex_) = false;
  std::vector<std::jthread> threads_;
};

}  // namespace tandem::http
