#include "kernels/cpu/aligned_buffer.h"

#include <errno.h>
#include <sys/mman.h>

#include <algorithm>

namespace tandem::kernels::cpu {
namespace {

constexpr size_t kPage = 4096;
constexpr size_t kHugePage = size_t{2} << 20;
#ifndef MADV_POPULATE_WRITE
constexpr int MADV_POPULATE_WRITE = 23;  // older headers; the number is the kernel's
#endif

}  // namespace

AlignedBuffer::AlignedBuffer(size_t bytes) {
  if (bytes == 0) return;
  // Older kernels map at any page: then as much more as it takes to begin with a huge one.
  const size_t more = bytes < kHugePage ? 0 : kHugePage;
  void* const mapped =
      mmap(nullptr, bytes + more, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) return;
  auto* const begin = static_cast<uint8_t*>(mapped);
  const size_t before = more == 0 ? 0 : -reinterpret_cast<uintptr_t>(begin) % kHugePage;
  const size_t pages = (bytes + kPage - 1) / kPage * kPage;
  if (before > 0) munmap(begin, before);
  if (more > before) munmap(begin + before + pages, more - before);
  data_ = begin + before;
  bytes_ = bytes;
  madvise(data_, bytes, MADV_HUGEPAGE);  // advice: without effect where it is switched off
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
