// Memory on cache-line boundaries, zeroed on first touch and in huge pages where the system gives
// them (a decode step reads all weights once: fewer pages, fewer TLB misses).
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

namespace tandem::kernels::cpu {

class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  // data() is null if the memory cannot be had.
  explicit AlignedBuffer(size_t bytes);
  ~AlignedBuffer();
  AlignedBuffer(AlignedBuffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }

  // Has the system give the memory of [begin, end) now, zeroed, instead of on first touch, when a
  // huge page costs whoever needs it milliseconds. False if there is not so much; without effect
  // where the system cannot (Linux before 5.14). Thread: any, of other parts at the same time too.
  [[nodiscard]] bool Populate(size_t begin, size_t end) const;

  uint8_t* data() const { return data_; }
  float* floats() const { return reinterpret_cast<float*>(data_); }
  size_t size() const { return bytes_; }

 private:
  uint8_t* data_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace tandem::kernels::cpu
