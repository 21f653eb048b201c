#include "common/zeroed_memory.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <utility>

#include "common/check.h"

namespace tandem {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;
constexpr size_t kLarge = 2 * kHugePage;

}  // namespace

ZeroedMemory::ZeroedMemory(size_t bytes) {
  if (bytes < kLarge) {
    data_ = std::calloc(bytes, 1);
    TANDEM_CHECK(data_ != nullptr) << "no memory for " << bytes << " bytes";
    return;
  }
  mapping_bytes_ = bytes + kHugePage;  // so that a huge page can begin where the data does
  void* const mapping = mmap(nullptr, mapping_bytes_, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  TANDEM_CHECK(mapping != MAP_FAILED) << "no memory for " << bytes << " bytes";
  mapping_ = static_cast<char*>(mapping);
  const size_t past = reinterpret_cast<uintptr_t>(mapping_) % kHugePage;
  data_ = mapping_ + (past == 0 ? 0 : kHugePage - past);
  (void)madvise(data_, bytes, MADV_HUGEPAGE);  // refused: slower, not wrong
}

ZeroedMemory& ZeroedMemory::operator=(ZeroedMemory&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(mapping_, other.mapping_);
  std::swap(mapping_bytes_, other.mapping_bytes_);
  std::swap(discarded_, other.discarded_);
  return *this;
}

ZeroedMemory::~ZeroedMemory() {
  if (mapping_ != nullptr) {
    munmap(mapping_, mapping_bytes_);
  } else {
    std::free(data_);
  }
}

void ZeroedMemory::DiscardUpTo(size_t bytes) {
  const size_t end = bytes / kHugePage * kHugePage;
  if (mapping_ == nullptr || end <= discarded_) return;
  (void)madvise(static_cast<char*>(data_) + discarded_, end - discarded_, MADV_DONTNEED);
  discarded_ = end;
}

}  // namespace tandem
