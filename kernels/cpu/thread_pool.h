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
  void Work(int thread);

  std::vector<std::thread> threads_;
  Function function_ = nullptr;  // written before generation_ is released
  void* context_ = nullptr;
  alignas(128) std::atomic<uint32_t> generation_{0};  // odd or even does not matter: it changes
  alignas(128) std::atomic<uint32_t> running_{0};     // threads that have not finished
  std::atomic<bool> stopping_{false};
};

}  // namespace tandem::kernels::cpu
