// A fixed team of threads that runs one function at a time, each with its own index: for work that
// is split statically, so that results do not depend on timing.
//
// A part is done by the thread of its index, or by the caller if that thread has not begun it when
// the caller is done with its own: on a machine with more to do than CPUs, a thread that is not
// running then holds nobody up.
//
// Thread: Run from one thread at a time. Waiting: spins briefly, then sleeps on a futex
// (std::atomic::wait), because a step has hundreds of calls but a worker may be idle for hours.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <thread>
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

  // Calls function(context, i) once for every i in [0, size()), 0 on the caller's thread, and
  // returns when all have returned.
  using Function = void (*)(void* context, int thread);
  void Run(Function function, void* context);

  // The same for a lambda, without allocation.
  template <class F>
  void Run(F&& body) {
    Run([](void* context, int thread) { (*static_cast<F*>(context))(thread); }, &body);
  }

 private:
  // One cache line from the caller to the others, one from each back: a call costs little more than
  // these two ways.
  struct alignas(128) Call {
    std::atomic<uint32_t> number{0};
    Function function = nullptr;  // written before `number` is released
    void* context = nullptr;
  };
  struct alignas(128) Part {
    std::atomic<uint32_t> taken{0};  // last call in which: whoever moves it there does the part
    std::atomic<uint32_t> done{0};   // last call in which it was done
  };

  void Work(int thread);
  static bool Take(Part& part, uint32_t number);

  Call call_;
  std::vector<Part> parts_;  // of threads 1, 2, ...
  std::vector<std::thread> threads_;
  std::atomic<bool> stopping_{false};
};

}  // namespace tandem::kernels::cpu
