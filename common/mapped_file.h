// A whole file, mapped for reading for as long as this lives. The file must not shrink meanwhile:
// the kernel answers reads past the new end with SIGBUS.
// Thread: immutable after Open, any thread.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "common/status.h"

namespace tandem {

class MappedFile {
 public:
  // kNotFound if it cannot be opened, kInvalidArgument if there is nothing to map: a folder, an
  // empty file.
  static StatusOr<MappedFile> Open(const std::string& path);

  MappedFile() = default;  // nothing
  MappedFile(MappedFile&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}
  MappedFile& operator=(MappedFile&& other) noexcept {
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~MappedFile();

  std::span<const std::byte> bytes() const { return bytes_; }
  std::string_view text() const {
    return {reinterpret_cast<const char*>(bytes_.data()), bytes_.size()};
  }

 private:
  explicit MappedFile(std::span<const std::byte> bytes) : bytes_(bytes) {}

  std::span<const std::byte> bytes_;
};

}  // namespace tandem
