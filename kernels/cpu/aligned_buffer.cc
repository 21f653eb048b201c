#include "kernels/cpu/aligned_buffer.h"

#include <sys/mman.h>

namespace tandem::kernels::cpu {

AlignedBuffer::AlignedBuffer(size_t bytes) {
  if (bytes == 0) return;
  void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) return;
  madvise(data, bytes, MADV_HUGEPAGE);  // advice: without effect where it is switched off
  data_ = static_cast<uint8_t*>(data);
  bytes_ = bytes;
}

AlignedBuffer::~AlignedBuffer() {
  if (data_ != nullptr) munmap(data_, bytes_);
}

}  // namespace tandem::kernels::cpu
