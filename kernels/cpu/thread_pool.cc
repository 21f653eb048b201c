#include "kernels/cpu/thread_pool.h"

#include <immintrin.h>
#include <pthread.h>
#include <sched.h>

#include <algorithm>

namespace tandem::kernels::cpu {
namespace {

// About half a millisecond: longer than what one thread does alone between two calls of a step.
// With 1,000 the team slept at every call, and two threads decoded at a fifth of what they do
// (bench/engine).
constexpr int kSpins = 20000;

// Ranges that a thread looks into, its own and the next ones. Only the caller looks into all, as he
// waits for all: each look takes a cache line from who works on it.
constexpr size_t kReach = 4;

constexpr uint64_t kEndMask = 0xffffffff;  // of Range::parts

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

ThreadPool::ThreadPool(int num_threads, std::span<const int> cpus)
    : ranges_(static_cast<size_t>(num_threads)) {
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
  for (Range& range : ranges_) {
    range.call.fetch_add(1, std::memory_order_seq_cst);
    range.call.notify_all();
  }
  for (std::thread& thread : threads_) thread.join();
}

void ThreadPool::Run(int parts, Function function, void* context) {
  if (threads_.empty() || parts <= 1) {
    for (int part = 0; part < parts; ++part) function(context, part, 0);
    return;
  }
  // The caller's first part is his without being taken, and nothing here waits for a cache line:
  // he begins while the others are still being told. So one of them that is just falling asleep may
  // not be woken (its flag is not seen before the store is): its parts are then done by others.
  const auto threads = static_cast<int64_t>(ranges_.size());
  for (int64_t i = threads - 1; i >= 0; --i) {
    const auto begin = i == 0 ? 1 : static_cast<uint64_t>((parts * i - 1) / threads + 1);
    const auto end = static_cast<uint64_t>((parts * (i + 1) - 1) / threads + 1);
    Range& range = ranges_[static_cast<size_t>(i)];
    range.function = function;
    range.context = context;
    range.count = static_cast<uint32_t>(end - begin);
    range.done.store(0, std::memory_order_relaxed);
    range.parts.store(begin << 32 | end, std::memory_order_release);
    if (i == 0) continue;
    range.call.store(range.call.load(std::memory_order_relaxed) + 1, std::memory_order_release);
    range.call.notify_all();
  }
  function(context, 0, 0);
  DoAllParts(0);
  for (Range& range : ranges_) {
    uint32_t done = range.done.load(std::memory_order_acquire);
    while (done != range.count) done = WaitWhile(range.done, done);
  }
}

void ThreadPool::DoAllParts(int thread) {
  const size_t reach = thread == 0 ? ranges_.size() : std::min(ranges_.size(), kReach);
  for (size_t i = 0; i < reach; ++i) {
    DoParts(ranges_[(static_cast<size_t>(thread) + i) % ranges_.size()], thread);
  }
}

void ThreadPool::DoParts(Range& range, int thread) {
  uint32_t count = 0;
  for (int part = Take(range); part >= 0; part = Take(range), ++count) {
    range.function(range.context, part, thread);
  }
  if (count == 0) return;
  range.done.fetch_add(count, std::memory_order_acq_rel);
  range.done.notify_one();
}

// Who comes late, when the call is over and perhaps the next one runs, finds nothing or a part of
// that one, which is as good.
int ThreadPool::Take(Range& range) {
  uint64_t parts = range.parts.load(std::memory_order_acquire);
  while (parts >> 32 < (parts & kEndMask)) {
    if (range.parts.compare_exchange_weak(parts, parts + (uint64_t{1} << 32),
                                          std::memory_order_acq_rel, std::memory_order_acquire)) {
      return static_cast<int>(parts >> 32);
    }
  }
  return -1;
}

void ThreadPool::Work(int thread) {
  ::pthread_setname_np(::pthread_self(), "compute");
  uint32_t seen = 0;
  while (true) {
    seen = WaitWhile(ranges_[static_cast<size_t>(thread)].call, seen);
    if (stopping_.load(std::memory_order_relaxed)) return;
    DoAllParts(thread);
  }
}

}  // namespace tandem::kernels::cpu
