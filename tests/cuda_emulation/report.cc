#include "tests/cuda_emulation/report.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "tests/cuda_emulation/grid_run.h"
#include "tests/cuda_emulation/options.h"

namespace tandem::emulation {
namespace {

constexpr const char* kPolicyNames[] = {"in_order", "reverse", "random"};

std::atomic<AddressNamer> address_namer = nullptr;
struct sigaction previous_action[2];

std::string Position(uint3 p) { return fmt::format("({},{},{})", p.x, p.y, p.z); }

// Of the kernel that runs on this OS thread; empty if none does.
std::string Where() {
  if (processor == nullptr || processor->run == nullptr) return "";
  const Thread* thread = processor->current;
  const GridRun& run = thread != nullptr ? *thread->block->run() : *processor->run;
  std::string text = fmt::format(": kernel {}", run.launch().name);
  const Block* block = thread != nullptr ? thread->block : processor->ending;
  if (block != nullptr) text += ", block " + Position(block->index());
  if (thread != nullptr) text += ", thread " + Position(thread->index);
  const Options& options = run.options();
  text += fmt::format("; policy {}", kPolicyNames[static_cast<int>(options.policy)]);
  if (options.policy == Policy::kRandom) text += fmt::format(", seed {}", options.seed);
  return text;
}

std::string DescribeFault(int signal, const siginfo_t& info, bool kernel) {
  constexpr int kGeneralProtection = SI_KERNEL;
  if (signal == SIGSEGV && info.si_code == kGeneralProtection) {
    return "misaligned access to a vector, or an address that no memory has";
  }
  if (kernel && processor->current->context.stack.IsGuard(info.si_addr)) return "stack overflow";
  char text[256];
  const AddressNamer namer = address_namer.load();
  if (namer != nullptr && namer(info.si_addr, kernel, text, sizeof text)) return text;
  if (kernel && processor->current->block->shared().IsGuard(info.si_addr)) {
    return "access beyond the end of dynamic shared memory";
  }
  return kernel ? "access to memory that is not the device's" : "";
}

void OnFault(int signal, siginfo_t* info, void*) {
  const bool kernel = processor != nullptr && processor->current != nullptr;
  const std::string what = DescribeFault(signal, *info, kernel);
  if (!what.empty()) Fail("{}, at address {}", what, info->si_addr);
  // None of ours: whoever handled it before sees it again when this returns.
  sigaction(signal, &previous_action[signal == SIGBUS ? 1 : 0], nullptr);
}

struct SignalStack {
  static constexpr size_t kBytes = 128 * 1024;
  std::unique_ptr<char[]> memory = std::make_unique_for_overwrite<char[]>(kBytes);

  SignalStack() {
    stack_t stack = {};
    stack.ss_sp = memory.get();
    stack.ss_size = kBytes;
    sigaltstack(&stack, nullptr);
  }
  ~SignalStack() {
    stack_t stack = {};
    stack.ss_flags = SS_DISABLE;
    sigaltstack(&stack, nullptr);
  }
};

bool InstallHandlers() {
  struct sigaction action = {};
  action.sa_sigaction = &OnFault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  sigaction(SIGSEGV, &action, &previous_action[0]);
  sigaction(SIGBUS, &action, &previous_action[1]);
  return true;
}

}  // namespace

std::string Describe(const Site& site) {
  const char* slash = std::strrchr(site.file, '/');
  return fmt::format("{}:{}", slash == nullptr ? site.file : slash + 1, site.line);
}

void FailText(std::string_view bug) {
  const std::string line = fmt::format("cuda emulation: {}{}\n", bug, Where());
  static_cast<void>(!write(STDERR_FILENO, line.data(), line.size()));
  std::abort();
}

void SetAddressNamer(AddressNamer namer) { address_namer = namer; }

void CatchFaults() {
  static const bool installed = InstallHandlers();
  static_cast<void>(installed);
  static thread_local const SignalStack stack;
}

}  // namespace tandem::emulation
