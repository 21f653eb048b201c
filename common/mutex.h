// std::mutex with Clang's thread-safety annotations. Not absl::Mutex: Debian's is not instrumented,
// and ThreadSanitizer reports false races through it.
#pragma once

#include <condition_variable>
#include <mutex>

#if defined(__clang__)
#define TANDEM_THREAD_ANNOTATION(x) __attribute__((x))
#else
#define TANDEM_THREAD_ANNOTATION(x)
#endif

#define TANDEM_GUARDED_BY(m) TANDEM_THREAD_ANNOTATION(guarded_by(m))
#define TANDEM_REQUIRES(m) TANDEM_THREAD_ANNOTATION(requires_capability(m))
#define TANDEM_EXCLUDES(m) TANDEM_THREAD_ANNOTATION(locks_excluded(m))

namespace tandem {

class TANDEM_THREAD_ANNOTATION(capability("mutex")) Mutex {
 public:
  void Lock() TANDEM_THREAD_ANNOTATION(acquire_capability()) { mutex_.lock(); }
  void Unlock() TANDEM_THREAD_ANNOTATION(release_capability()) { mutex_.unlock(); }

 private:
  friend class CondVar;
  std::mutex mutex_;
};

class TANDEM_THREAD_ANNOTATION(scoped_lockable) MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) TANDEM_THREAD_ANNOTATION(acquire_capability(mutex))
      : mutex_(mutex) {
    mutex_.Lock();
  }
  ~MutexLock() TANDEM_THREAD_ANNOTATION(release_capability()) { mutex_.Unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex& mutex_;
};

// Waits with `mutex` held; spurious wake-ups happen, so wait in a loop over the condition.
class CondVar {
 public:
  void Wait(Mutex& mutex) TANDEM_REQUIRES(mutex) {
    std::unique_lock<std::mutex> lock(mutex.mutex_, std::adopt_lock);
    cv_.wait(lock);
    lock.release();
  }
  // False: timed out.
  template <class Duration>
  bool WaitFor(Mutex& mutex, Duration timeout) TANDEM_REQUIRES(mutex) {
    std::unique_lock<std::mutex> lock(mutex.mutex_, std::adopt_lock);
    const bool woken = cv_.wait_for(lock, timeout) == std::cv_status::no_timeout;
    lock.release();
    return woken;
  }
  void NotifyOne() { cv_.notify_one(); }
  void NotifyAll() { cv_.notify_all(); }

 private:
  std::condition_variable cv_;
};

}  // namespace tandem
