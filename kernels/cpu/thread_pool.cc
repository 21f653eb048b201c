#include "kernels/cpu/thread_pool.h"

#include <immintrin.h>
#include <pthread.h>
#include <sched.h>

namespace tandem::kernels::cpu {
namespace {

// About half a millisecond: longer than what one thread does alone between two calls of a step.
// With 1,000 the team slept at every call, and two threads decoded at a fifth of what they do
// (bench/engine).
constexpr int kSpins = 20000;

// A CPU that is gone by now is no reason not to compute.
void PinToCpu(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<size_t>(cpu), &set);
  ::pthread_setaffinity_np(::pthread_self(), sizeof(set), &set);
}

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

ThreadPool::ThreadPool(int num_threads, std::span<const int> cpus) : parts_(num_threads - 1) {
  for (int i = 1; i < num_threads; ++i) {
    const int cpu = cpus.empty() ? -1 : cpus[static_cast<size_t>(i)];
    threads_.emplace_back([this, i, cpu] {
      if (cpu >= 0) PinToCpu(cpu);
      Work(i);
    });
  }
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
  for (size_t i = 0; i < parts_.size(); ++i) {
    if (!Take(parts_[i], number)) continue;
    function(context, static_cast<int>(i) + 1);
    parts_[i].done.store(number, std::memory_order_relaxed);
  }
  for (const Part& part : parts_) {
    uint32_t done = part.done.load(std::memory_order_acquire);
    while (done != number) done = WaitWhile(part.done, done);
  }
}

// A thread that comes late, after the call is over, takes nothing: all of its parts are taken.
bool ThreadPool::Take(Part& part, uint32_t number) {
  uint32_t before = number - 1;
  return part.taken.compare_exchange_strong(before, number, std::memory_order_acq_rel,
                                            std::memory_order_acquire);
}

void ThreadPool::Work(int thread) {
  ::pthread_setname_np(::pthread_self(), "compute");
  Part& part = parts_[thread - 1];
  uint32_t seen = 0;
  while (true) {
    seen = WaitWhile(call_.number, seen);
    if (stopping_.load(std::memory_order_relaxed)) return;
    if (!Take(part, seen)) continue;
    call_.function(call_.context, thread);
    part.done.exchange(seen, std::memory_order_acq_rel);
    part.done.notify_one();
  }
}

}  // namespace tandem::kernels::cpu
