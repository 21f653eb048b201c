#include "kernels/cpu/aligned_buffer.h"

#include <errno.h>
#include <sys/mman.h>

#include <algorithm>

namespace tandem::kernels::cpu {
namespace {

constexpr size_t kPage = 4096;
#ifndef MADV_POPULATE_WRITE
constexpr int MADV_POPULATE_WRITE = 23;  // older headers; the number is the kernel's
#endif

}  // namespace

AlignedBuffer::AlignedBuffer(size_t bytes) {
  if (bytes == 0) return;
  void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) return;
  madvise(data, bytes, MADV_HUGEPAGE);  // advice: without effect where it is switched off
  data_ = static_cast<uint8_t*>(data);
  bytes_ = bytes;
}

bool AlignedBuffer::Populate(size_t begin, size_t end) const {
  begin = begin / kPage * kPage;
  end = std::min(bytes_, (end + kPage - 1) / kPage * kPage);
  while (begin < end && madvise(data_ + begin, end - begin, MADV_POPULATE_WRITE) != 0) {
    if (errno == EINTR) continue;
    return errno == EINVAL;
  }
  return true;
}

AlignedBuffer::~AlignedBuffer() {
  if (data_ != nullptr) munmap(data_, bytes_);
}

}  // namespace tandem::kernels::cpu
