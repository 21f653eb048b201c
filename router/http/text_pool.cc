#include "router/http/text_pool.h"

#include <algorithm>
#include <utility>

#include "common/clock.h"

namespace tandem::http {

TextPool::TextPool(int num_threads) : started_(static_cast<size_t>(std::max(1, num_threads)), 0) {
  const size_t count = static_cast<size_t>(std::max(1, num_threads));
  for (size_t i = 0; i < count; ++i) threads_.emplace_back([this, i] { Loop(i); });
}

void TextPool::Stop() {
  {
    MutexLock lock(mutex_);
    stop_ = true;
    jobs_.clear();
    wake_.NotifyAll();
  }
  threads_.clear();
}

void TextPool::Run(std::function<void()> job) {
  MutexLock lock(mutex_);
  if (stop_) return;
  jobs_.push_back(std::move(job));
  wake_.NotifyOne();
}

Nanos TextPool::oldest_start() const {
  MutexLock lock(mutex_);
  Nanos oldest = 0;
  for (const Nanos start : started_) {
    if (start != 0 && (oldest == 0 || start < oldest)) oldest = start;
  }
  return oldest;
}

void TextPool::Loop(size_t self) {
  while (true) {
    std::function<void()> job;
    {
      MutexLock lock(mutex_);
      started_[self] = 0;
      while (jobs_.empty() && !stop_) wake_.Wait(mutex_);
      if (stop_) return;
      job = std::move(jobs_.front());
      jobs_.pop_front();
      started_[self] = MonotonicNow();
    }
    job();
  }
}

}  // namespace tandem::http
