#include "tests/cuda_emulation/shared_memory.h"

#include <sys/mman.h>

#include <string_view>

#include "tests/cuda_emulation/report.h"
#include "tests/cuda_emulation/sanitizer.h"

namespace tandem::emulation {
namespace {

constexpr size_t kPage = 4096;
constexpr size_t kCanaryBytes = 64;
constexpr size_t kStaticArea = 2 * SharedMemory::kMaxStatic;  // with canaries
constexpr size_t kArea = kStaticArea + SharedMemory::kMaxDynamic;
constexpr uint16_t kCanary = 0xFFFB;  // a NaN as bf16, fp16 and, twice, as float32
constexpr size_t kDynamicAlignment = 128;

size_t RoundUp(size_t n, size_t to) { return (n + to - 1) / to * to; }

// Not memset: see sanitizer.h.
void Fill(char* begin, char* end, uint8_t value) {
  size_t count = static_cast<size_t>(end - begin);
  asm volatile("rep stosb" : "+D"(begin), "+c"(count) : "a"(value) : "memory");
}
// The canary's byte at an offset from where the gap begins.
char CanaryByte(ptrdiff_t offset) {
  return static_cast<char>(offset % 2 == 0 ? kCanary & 0xFF : kCanary >> 8);
}
void FillCanary(char* begin, char* end) {
  for (char* p = begin; p < end; ++p) *p = CanaryByte(p - begin);
}

// For TSan: a new mapping, so that the accesses of the block that had this memory before do not
// count.
void ForgetAccesses(char* begin, char* end) {
  begin -= reinterpret_cast<uintptr_t>(begin) % kPage;
  if (begin >= end) return;
  mmap(begin, static_cast<size_t>(end - begin), PROT_READ | PROT_WRITE,
       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
}

}  // namespace

SharedMemory::SharedMemory() {
  void* memory = mmap(nullptr, kArea + kPage, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) Fail("no memory for another block's shared memory");
  base_ = static_end_ = static_cast<char*>(memory);
  dynamic_ = base_ + kArea;
  mprotect(base_ + kArea, kPage, PROT_NONE);
}

SharedMemory::~SharedMemory() {
  Unpoison(base_, kArea);
  munmap(base_, kArea + kPage);
}

void SharedMemory::Begin(size_t dynamic_bytes) {
  if (kTsan) {
    ForgetAccesses(base_, static_end_ + kCanaryBytes);
    ForgetAccesses(dynamic_, base_ + kArea);
  }
  num_variables_ = 0;
  static_bytes_ = 0;
  static_end_ = base_;
  FillCanary(base_, base_ + kCanaryBytes);

  dynamic_bytes_ = dynamic_bytes;
  const size_t rounded = RoundUp(dynamic_bytes, kDynamicAlignment);
  dynamic_ = base_ + kArea - rounded;
  FillCanary(dynamic_ - kCanaryBytes, dynamic_);
  Fill(dynamic_, dynamic_ + dynamic_bytes, 0xFF);
  FillCanary(dynamic_ + dynamic_bytes, dynamic_ + rounded);
  Poison(base_, static_cast<size_t>(dynamic_ - base_));
  Poison(dynamic_ + dynamic_bytes, rounded - dynamic_bytes);
}

void* SharedMemory::Static(const void* key, size_t size, size_t alignment, const char* name) {
  for (int i = 0; i < num_variables_; ++i) {
    if (variables_[i].key == key) return variables_[i].data;
  }
  if (num_variables_ == kMaxVariables) Fail("more than {} shared variables", kMaxVariables);
  static_bytes_ = RoundUp(static_bytes_, alignment) + size;
  if (static_bytes_ > kMaxStatic) Fail("{} bytes of static shared memory", static_bytes_);
  // Aligned as asked for and no more, so that what relies on more is found by UBSan.
  const auto end = reinterpret_cast<uintptr_t>(static_end_ + kCanaryBytes);
  char* data = static_end_ + kCanaryBytes + (RoundUp(end, alignment) - end);
  if (data + size + kCanaryBytes > base_ + kStaticArea) Fail("too many shared variables");
  Unpoison(static_end_, static_cast<size_t>(data - static_end_) + size + kCanaryBytes);
  FillCanary(static_end_, data);
  Fill(data, data + size, 0xFF);
  FillCanary(data + size, data + size + kCanaryBytes);
  Poison(static_end_, static_cast<size_t>(data - static_end_));
  Poison(data + size, kCanaryBytes);
  static_end_ = data + size;
  variables_[num_variables_++] = {key, name, data, size};
  return data;
}

void SharedMemory::CheckCanary(const char* begin, const char* end, const char* before,
                               const char* after) const {
  for (const char* p = begin; p < end; ++p) {
    if (*p == CanaryByte(p - begin)) continue;
    Fail("shared memory written {} bytes after the end of {} and {} bytes before {}", p - begin,
         before, end - p, after);
  }
}

void SharedMemory::End() const {
  Unpoison(base_, kArea);  // the next Begin() poisons again
  const char* begin = base_;
  const char* before = "nothing";
  for (int i = 0; i < num_variables_; ++i) {
    const Variable& v = variables_[i];
    CheckCanary(begin, v.data, before, v.name);
    begin = v.data + v.size;
    before = v.name;
  }
  CheckCanary(begin, begin + kCanaryBytes, before, "nothing");
  CheckCanary(dynamic_ - kCanaryBytes, dynamic_, "nothing", "the dynamic part");
  CheckCanary(dynamic_ + dynamic_bytes_, base_ + kArea, "the dynamic part", "nothing");
}

bool SharedMemory::Holds(const void* p, size_t size) const {
  const char* begin = static_cast<const char*>(p);
  if (begin >= dynamic_ && begin + size <= dynamic_ + dynamic_bytes_) return true;
  for (int i = 0; i < num_variables_; ++i) {
    const Variable& v = variables_[i];
    if (begin >= v.data && begin + size <= v.data + v.size) return true;
  }
  return false;
}

bool SharedMemory::IsGuard(const void* p) const {
  return p >= base_ + kArea && p < base_ + kArea + kPage;
}

}  // namespace tandem::emulation
