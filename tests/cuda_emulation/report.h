// How the emulation says that it found a bug: one line on stderr,
//   cuda emulation: <bug>: kernel Name<...>, block (x,y,z), thread (x,y,z); policy random, seed 7
// then abort(), so that debuggers, death tests and CI stop where the bug is.
#pragma once

#include <fmt/format.h>

#include <cstddef>
#include <cstring>
#include <string>
#include <string_view>

namespace tandem::emulation {

// A place in a kernel's source.
struct Site {
  const char* file = nullptr;
  int line = 0;

  // The same text, wherever the string lies.
  bool operator==(const Site& other) const {
    return line == other.line && (file == other.file || std::strcmp(file, other.file) == 0);
  }
};
std::string Describe(const Site& site);  // "rms_norm.cu:40"

// Outside of a kernel the line ends after <bug>.
[[noreturn]] void FailText(std::string_view bug);
template <class... Args>
[[noreturn]] void Fail(fmt::format_string<Args...> format, Args&&... args) {
  FailText(fmt::format(format, std::forward<Args>(args)...));
}

// Names what lies at an address that a kernel (or, with kernel false, the host) may not touch:
// writes a text such as "16 bytes past the end of 4096 bytes of device memory" and returns true, or
// returns false if it knows nothing of it. Called in a signal handler: no allocation, no lock.
using AddressNamer = bool (*)(const void* address, bool kernel, char* text, size_t size);
void SetAddressNamer(AddressNamer namer);  // once, before the first kernel

// Installs the handler of SIGSEGV and SIGBUS for the process, and a signal stack for this OS
// thread. Repeated calls are free. RunGrid calls it; the runtime does for faults on the host.
void CatchFaults();

}  // namespace tandem::emulation
