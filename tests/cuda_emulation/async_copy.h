// cp.async of one thread: copies that were issued, in groups. A copy that is not yet made has
// poisoned its destination, as nothing may be read there.
#pragma once

#include <cstdint>

namespace tandem::emulation {

struct AsyncCopy {
  void* to;
  const void* source;  // null: zeros
  uint32_t group;
};

class AsyncCopyQueue {
 public:
  static constexpr int kCapacity = 128;  // copies that one thread has in flight

  // `storage`: of kCapacity copies, not owned.
  void Begin(AsyncCopy* storage) { *this = {.copies_ = storage}; }

  void Add(void* to, const void* source, bool at_once);
  void Commit() { ++num_groups_; }
  // Makes the copies of all groups but the `pending` latest; those not committed stay.
  void Wait(uint32_t pending);

  AsyncCopy* copies_ = nullptr;
  uint32_t first_ = 0;  // of a ring
  uint32_t size_ = 0;
  uint32_t num_groups_ = 0;
};

// cp.async, commit and wait_group of the current thread.
void IssueAsyncCopy(void* shared, const void* global, bool valid);
void CommitAsyncCopies();
void WaitAsyncCopies(uint32_t pending);

}  // namespace tandem::emulation
