#include "tests/cuda_emulation/fiber.h"

#include <sys/mman.h>

#include <atomic>
#include <cstdint>

#include "tests/cuda_emulation/report.h"
#include "tests/cuda_emulation/sanitizer.h"

#if !defined(__x86_64__)
#error "the switch between fibers is written for x86-64"
#endif

// Saves what a callee must keep, changes the stack, restores. By a return, not a jump: it has one
// call site, so that the CPU predicts it, and its stack of predicted returns keeps step with the
// calls (with a jump every return of every caller was mispredicted: four times as slow).
asm(R"(
.text
.globl tandem_emulation_switch
.type tandem_emulation_switch,@function
tandem_emulation_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size tandem_emulation_switch,.-tandem_emulation_switch
)");
extern "C" void tandem_emulation_switch(void** save, void* resume);

namespace tandem::emulation {
namespace {

constexpr size_t kStackBytes = kAsan ? 256 * 1024 : 64 * 1024;
// A process may have 65530 mappings, and one without a guard merges with its neighbours. The first
// stacks find a kernel that overflows any.
constexpr int kMaxGuarded = 4096;
std::atomic<int> num_guarded = 0;
constexpr size_t kColors = 16;
constexpr size_t kColorBytes = 192;

}  // namespace

StackPool::~StackPool() {
  for (const Stack& stack : free_) {
    Unpoison(stack.base, stack.size);  // or what is mapped there next begins with these frames
    munmap(stack.base - Stack::kGuardBytes, stack.size + Stack::kGuardBytes);
  }
}

Stack StackPool::Take() {
  if (!free_.empty()) {
    const Stack stack = free_.back();
    free_.pop_back();
    if (kTsan) {  // a new mapping: the accesses of the thread that had it before are forgotten
      mmap(stack.base, stack.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
           -1, 0);
    }
    return stack;
  }
  void* memory = mmap(nullptr, kStackBytes + Stack::kGuardBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) Fail("no memory for another thread's stack");
  if (num_guarded++ < kMaxGuarded) mprotect(memory, Stack::kGuardBytes, PROT_NONE);
  return {static_cast<char*>(memory) + Stack::kGuardBytes, kStackBytes};
}

void Prepare(Context& context, void (*entry)(), unsigned color) {
  char* top = context.stack.base + context.stack.size - kColorBytes * (color % kColors);
  Unpoison(context.stack.base, context.stack.size);  // frames that were abandoned
  auto** slots = reinterpret_cast<void**>(top) - 8;
  // Six saved registers, then where to go. A function is entered with the stack pointer 8 below a
  // multiple of 16; the word there is its return address: none.
  for (int i = 0; i < 8; ++i) slots[i] = nullptr;
  slots[6] = reinterpret_cast<void*>(entry);
  context.stack_pointer = slots;
  context.fake_stack = nullptr;
#if defined(TANDEM_EMULATION_TSAN)
  context.tsan_fiber = __tsan_create_fiber(0);
#endif
}

void Switch(Context& from, Context& to, bool last) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(last ? nullptr : &from.fake_stack, to.stack.base, to.stack.size);
#endif
#if defined(TANDEM_EMULATION_TSAN)
  constexpr unsigned kNoSync = 1;
  if (from.tsan_fiber == nullptr) from.tsan_fiber = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(to.tsan_fiber, kNoSync);
#endif
  static_cast<void>(last);
  tandem_emulation_switch(&from.stack_pointer, to.stack_pointer);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
#endif
}

void Entered(Context& from) {
  static_cast<void>(from);
#if defined(__SANITIZE_ADDRESS__)
  const void* base = nullptr;
  __sanitizer_finish_switch_fiber(nullptr, &base, &from.stack.size);
  from.stack.base = static_cast<char*>(const_cast<void*>(base));
#endif
}

void Forget(Context& context) {
#if defined(TANDEM_EMULATION_TSAN)
  __tsan_destroy_fiber(context.tsan_fiber);
#endif
  context.tsan_fiber = nullptr;
}

}  // namespace tandem::emulation
