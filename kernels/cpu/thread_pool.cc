#include "kernels/cpu/thread_pool.h"

#include <immintrin.h>

namespace tandem::kernels::cpu {
namespace {

// About half a millisecond: longer than what one thread does alone between two calls of a step.
// With 1,000 the team slept at every call, and two threads decoded at a fifth of what they do
// (bench/engine).
constexpr int kSpins = 20000;

// Returns the value once it is no longer `old`.
uint32_t WaitWhile(const std::atomic<uint32_t>& value, uint32_t old) {
  for (int i = 0; i < kSpins; ++i) {
    const uint32_t now = value.load(std::memory_order_acquire);
    if (now != old) return now;
    _mm_pause();
  }
  value.wait(old, std::memory_order_acquire);
  return value.load(std::memory_order_acquire);
}

}  // namespace

ThreadPool::ThreadPool(int num_threads) : done_(num_threads - 1) {
  for (int i = 1; i < num_threads; ++i) threads_.emplace_back([this, i] { Work(i); });
}

ThreadPool::~ThreadPool() {
  stopping_.store(true, std::memory_order_relaxed);
  call_.number.fetch_add(1, std::memory_order_release);
  call_.number.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void ThreadPool::Run(Function function, void* context) {
  if (threads_.empty()) return function(context, 0);
  call_.function = function;
  call_.context = context;
  const uint32_t number = call_.number.fetch_add(1, std::memory_order_release) + 1;
  call_.number.notify_all();
  function(context, 0);
  for (const Done& done : done_) {
    while (done.number.load(std::memory_order_acquire) != number) {
      WaitWhile(done.number, number - 1);
    }
  }
}

void ThreadPool::Work(int thread) {
  Done& done = done_[thread - 1];
  uint32_t seen = 0;
  while (true) {
    seen = WaitWhile(call_.number, seen);
    if (stopping_.load(std::memory_order_relaxed)) return;
    call_.function(call_.context, thread);
    done.number.exchange(seen, std::memory_order_acq_rel);
    done.number.notify_one();
  }
}

}  // namespace tandem::kernels::cpu
