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

ThreadPool::ThreadPool(int num_threads) {
  for (int i = 1; i < num_threads; ++i) threads_.emplace_back([this, i] { Work(i); });
}

ThreadPool::~ThreadPool() {
  stopping_.store(true, std::memory_order_relaxed);
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void ThreadPool::Run(Function function, void* context) {
  if (!threads_.empty()) {
    function_ = function;
    context_ = context;
    running_.store(static_cast<uint32_t>(threads_.size()), std::memory_order_relaxed);
    generation_.fetch_add(1, std::memory_order_release);
    generation_.notify_all();
  }
  function(context, 0);
  uint32_t left = running_.load(std::memory_order_acquire);
  while (left != 0) left = WaitWhile(running_, left);
}

void ThreadPool::Work(int thread) {
  uint32_t seen = 0;
  while (true) {
    seen = WaitWhile(generation_, seen);
    if (stopping_.load(std::memory_order_relaxed)) return;
    function_(context_, thread);
    if (running_.fetch_sub(1, std::memory_order_acq_rel) == 1) running_.notify_one();
  }
}

}  // namespace tandem::kernels::cpu
