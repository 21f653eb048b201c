// A fixed team of threads that does the parts of one piece of work at a time. What a part computes
// depends on nothing but its index, so results do not depend on who does it.
//
// Every thread has its own range of the parts, which it does in order, so that it reads weights in
// one stream. Who is done with his own takes from the ranges of the next few threads, the caller
// from all: a thread that another program or the router keeps from its CPU, or that has the slower
// one, holds nobody up for longer than the part it is in.
//
// Thread: Run from one thread at a time. Waiting: spins briefly, then sleeps on a futex
// (std::atomic::wait), because a step has hundreds of calls but a worker may be idle for hours.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <thread>
#include <type_traits>
#include <vector>

namespace tandem::kernels::cpu {

class ThreadPool {
 public:
  // `num_threads` >= 1; the caller of Run counts as one. `cpus`: empty, or where each thread stays;
  // the first is the caller's, who pins himself.
  explicit ThreadPool(int num_threads, std::span<const int> cpus = {});
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return static_cast<int>(threads_.size()) + 1; }

  // Calls function(context, part, thread) once for every part in [0, parts) and returns when all
  // have returned. `thread` in [0, size()) says who calls, the caller of Run being 0: scratch of
  // that index is his alone.
  using Function = void (*)(void* context, int part, int thread);
  void Run(int parts, Function function, void* context);

  // The same for a lambda, without allocation.
  template <class F>
  void Run(int parts, F&& body) {
    Run(
        parts,
        [](void* context, int part, int thread) {
          (*static_cast<std::remove_reference_t<F>*>(context))(part, thread);
        },
        &body);
  }

 private:
  // The parts of one thread, in one cache line: it waits on it for work, and the caller for the
  // end, so a call costs little more than the way there and back. Function and context are read by
  // who has taken a part, and a call does not end before its parts.
  struct alignas(128) Range {
    std::atomic<uint32_t> call{0};   // counts up: here is work
    std::atomic<uint32_t> done{0};   // parts
    std::atomic<uint64_t> parts{0};  // not taken: the next one in the upper half, their end below
    uint32_t count = 0;
    Function function = nullptr;
    void* context = nullptr;
  };

  void Work(int thread);
  void DoParts(Range& range, int thread);
  void DoAllParts(int thread);    // of its own range, then of others
  static int Take(Range& range);  // -1: none

  std::vector<Range> ranges_;
  std::vector<std::thread> threads_;
  std::atomic<bool> stopping_{false};
};

}  // namespace tandem::kernels::cpu
