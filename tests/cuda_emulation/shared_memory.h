// The shared memory of one block. Static variables stand apart from each other between canaries,
// the dynamic part ends at an unmapped page. Before a block starts all of it is 0xFF: a NaN for
// every float type, -1 for integers. What a kernel writes between variables is found when the block
// ends (at once under ASan).
#pragma once

#include <cstddef>
#include <cstdint>

namespace tandem::emulation {

class SharedMemory {
 public:
  static constexpr size_t kMaxStatic = 48 * 1024;    // CUDA's limit, without canaries
  static constexpr size_t kMaxDynamic = 256 * 1024;  // more than any architecture has

  SharedMemory();
  ~SharedMemory();
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

  void Begin(size_t dynamic_bytes);
  // Fails if a canary was changed.
  void End() const;

  // The variable of this key (an address that only this variable has), made at its first use.
  void* Static(const void* key, size_t size, size_t alignment, const char* name);
  void* dynamic() const { return dynamic_; }

  bool Holds(const void* p, size_t size) const;
  bool IsGuard(const void* p) const;

 private:
  struct Variable {
    const void* key;
    const char* name;
    char* data;
    size_t size;
  };
  static constexpr int kMaxVariables = 32;

  void CheckCanary(const char* begin, const char* end, const char* before, const char* after) const;

  char* base_ = nullptr;     // static part, dynamic part, guard page
  char* dynamic_ = nullptr;  // aligned to 128
  size_t dynamic_bytes_ = 0;
  char* static_end_ = nullptr;  // of the last variable; a canary follows
  size_t static_bytes_ = 0;     // of the variables alone
  int num_variables_ = 0;
  Variable variables_[kMaxVariables];
};

}  // namespace tandem::emulation
