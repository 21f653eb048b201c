// Stacks and the switch between them. A context is where execution can be resumed: the OS thread's
// own stack, or a fiber's. x86-64 only.
#pragma once

#include <cstddef>
#include <vector>

namespace tandem::emulation {

struct Stack {
  static constexpr size_t kGuardBytes = 64 * 1024;  // below; unmapped in the first thousands

  char* base = nullptr;
  size_t size = 0;

  bool IsGuard(const void* p) const { return p >= base - kGuardBytes && p < base; }
};

// Keeps stacks for reuse, the latest first (it is in cache). Thread: its own.
class StackPool {
 public:
  StackPool() = default;
  ~StackPool();
  StackPool(const StackPool&) = delete;
  StackPool& operator=(const StackPool&) = delete;

  Stack Take();
  void Give(Stack stack) { free_.push_back(stack); }

 private:
  std::vector<Stack> free_;
};

struct Context {
  void* stack_pointer = nullptr;
  Stack stack;                 // of the OS thread: only as ASan tells
  void* fake_stack = nullptr;  // ASan's
  void* tsan_fiber = nullptr;  // one for each logical thread, never reused
};

// Makes `context` begin in entry() on its stack. `color` shifts where frames lie: at equal offsets
// of many stacks they would fall into the same cache sets.
void Prepare(Context& context, void (*entry)(), unsigned color);

// Saves `from` and resumes `to`; returns when somebody resumes `from`. With `last`, nobody will.
void Switch(Context& from, Context& to, bool last = false);

// The first thing that entry() does; `from` is who switched to it.
void Entered(Context& from);

// After the last switch away from a fiber.
void Forget(Context& context);

}  // namespace tandem::emulation
