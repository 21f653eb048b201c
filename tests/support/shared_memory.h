// Memory of a test that the processes it forks share with it.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <span>

#include "common/check.h"

namespace tandem::testing {

class SharedMemory {
 public:
  explicit SharedMemory(size_t bytes) {  // zeroed
    void* data = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    TANDEM_CHECK(data != MAP_FAILED) << bytes;
    span_ = {static_cast<std::byte*>(data), bytes};
  }
  ~SharedMemory() { ::munmap(span_.data(), span_.size()); }
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;
  std::span<std::byte> span() const { return span_; }

 private:
  std::span<std::byte> span_;
};

}  // namespace tandem::testing
