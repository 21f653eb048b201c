// A fixed team of threads that runs one function at a time, each with its own index: for work that
// is split statically, so that results do not depend on timing.
// Thread: Run from one thread at a time. Waiting: spins briefly, then sleeps on a futex
// (std::atomic::wait), because a step has hundreds of calls but a worker may be idle for hours.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace tandem::kernels::cpu {

class ThreadPool {
 public:
  explicit ThreadPool(int num_threads);  // >= 1; the caller of Run counts as one
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return static_cast<int>(threads_.size()) + 1; }

  // Calls function(context, i) for every i in [0, size()), the caller's thread taking 0, and
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
  struct alignas(128) Done {
    std::atomic<uint32_t> number{0};  // of the last call that this thread has returned from
  };

  void Work(int thread);

  Call call_;
  std::vector<Done> done_;  // of threads 1, 2, ...
  std::vector<std::thread> threads_;
  std::atomic<bool> stopping_{false};
};

}  // namespace tandem::kernels::cpu
