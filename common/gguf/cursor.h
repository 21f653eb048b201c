// Reads little-endian values from a byte span, front to back, and never past its end. Internal to
// common/gguf.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

namespace tandem::gguf {

// A read that would pass the end fails and leaves `position` where that read began.
class Cursor {
 public:
  explicit Cursor(std::span<const std::byte> bytes, uint64_t position = 0)
      : bytes_(bytes), position_(position) {}

  uint64_t position() const { return position_; }
  uint64_t remaining() const { return bytes_.size() - position_; }

  template <class T>
  [[nodiscard]] bool Read(T& value) {
    if (remaining() < sizeof(T)) return false;
    std::memcpy(&value, bytes_.data() + position_, sizeof(T));
    position_ += sizeof(T);
    return true;
  }

  // A string as GGUF writes it: a 64-bit length, then the bytes.
  [[nodiscard]] bool ReadString(std::string_view& value) {
    const uint64_t start = position_;
    uint64_t size = 0;
    if (!Read(size) || size > remaining()) {
      position_ = start;
      return false;
    }
    value = {reinterpret_cast<const char*>(bytes_.data()) + position_, static_cast<size_t>(size)};
    position_ += size;
    return true;
  }

  // Skips `count` values of `size` bytes each. REQUIRES: size > 0.
  [[nodiscard]] bool Skip(uint64_t count, uint64_t size) {
    if (count > remaining() / size) return false;
    position_ += count * size;
    return true;
  }

 private:
  std::span<const std::byte> bytes_;
  uint64_t position_;
};

}  // namespace tandem::gguf
