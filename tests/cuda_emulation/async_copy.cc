#include "tests/cuda_emulation/async_copy.h"

#include "tests/cuda_emulation/grid_run.h"
#include "tests/cuda_emulation/report.h"
#include "tests/cuda_emulation/sanitizer.h"

namespace tandem::emulation {
namespace {

struct alignas(16) Bytes16 {
  uint64_t words[2];
};

void Make(const AsyncCopy& copy) {
  if (copy.source != nullptr) NoteRead(copy.source, 16);
  NoteWrite(copy.to, 16);
  *static_cast<Bytes16*>(copy.to) =
      copy.source == nullptr ? Bytes16{} : *static_cast<const Bytes16*>(copy.source);
}

bool AtOnce(GridRun& run) {
  const AsyncCopies mode = run.options().cp_async;
  return mode == AsyncCopies::kEager ||
         (mode == AsyncCopies::kRandom && run.random().Below(2) == 0);
}

}  // namespace

void AsyncCopyQueue::Add(void* to, const void* source, bool at_once) {
  const AsyncCopy copy = {to, source, num_groups_};
  if (at_once) return Make(copy);
  NoteWrite(to, 16);
  *static_cast<Bytes16*>(to) = {{~uint64_t{0}, ~uint64_t{0}}};
  if (size_ == kCapacity) Fail("more than {} copies of one thread in flight", kCapacity);
  copies_[(first_ + size_++) % kCapacity] = copy;
}

void AsyncCopyQueue::Wait(uint32_t pending) {
  while (size_ > 0 && copies_[first_].group + pending < num_groups_) {
    Make(copies_[first_]);
    first_ = (first_ + 1) % kCapacity;
    --size_;
  }
}

void IssueAsyncCopy(void* shared, const void* global, bool valid) {
  Thread& thread = *processor->current;
  if (reinterpret_cast<uintptr_t>(shared) % 16 != 0) Fail("cp.async to {}, misaligned", shared);
  if (valid && reinterpret_cast<uintptr_t>(global) % 16 != 0) {
    Fail("cp.async from {}, misaligned", global);
  }
  if (!thread.block->shared().Holds(shared, 16)) {
    Fail("cp.async to {}, which is not within this block's shared memory", shared);
  }
  thread.copies.Add(shared, valid ? global : nullptr, AtOnce(*thread.block->run()));
}

void CommitAsyncCopies() { processor->current->copies.Commit(); }
void WaitAsyncCopies(uint32_t pending) { processor->current->copies.Wait(pending); }

}  // namespace tandem::emulation
