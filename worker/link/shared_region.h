// A piece of anonymous memory that the ranks of one group share: a memfd, handed over a Unix
// socket. It has no name in any file system, so nothing is left behind whatever dies.
#pragma once

#include <cstddef>
#include <span>
#include <utility>

#include "common/status.h"
#include "worker/link/unique_fd.h"

namespace tandem::link {

class SharedRegion {
 public:
  static StatusOr<SharedRegion> Create(size_t bytes);
  // Maps what another process created; takes `fd`.
  static StatusOr<SharedRegion> Map(UniqueFd fd);

  SharedRegion() = default;
  ~SharedRegion();
  SharedRegion(SharedRegion&& other) noexcept { *this = std::move(other); }
  SharedRegion& operator=(SharedRegion&& other) noexcept {
    std::swap(fd_, other.fd_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }

  std::span<std::byte> bytes() const { return bytes_; }  // page aligned, zeroed at first
  int fd() const { return fd_.get(); }

 private:
  UniqueFd fd_;
  std::span<std::byte> bytes_;
};

}  // namespace tandem::link
