#include "worker/link/shared_region.h"

#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>

namespace tandem::link {

StatusOr<SharedRegion> SharedRegion::Create(size_t bytes) {
  UniqueFd fd(::memfd_create("tandem-group", MFD_CLOEXEC));
  if (!fd.valid() || ::ftruncate(fd.get(), static_cast<off_t>(bytes)) != 0) {
    return ResourceExhausted("cannot create {} bytes of shared memory: {}", bytes,
                             std::strerror(errno));
  }
  return Map(std::move(fd));
}

StatusOr<SharedRegion> SharedRegion::Map(UniqueFd fd) {
  struct stat status {};
  if (::fstat(fd.get(), &status) != 0 || status.st_size <= 0) {
    return InvalidArgument("shared memory of the group: not a memory file");
  }
  const auto size = static_cast<size_t>(status.st_size);
  void* data = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (data == MAP_FAILED) {
    return ResourceExhausted("cannot map {} bytes of shared memory: {}", size,
                             std::strerror(errno));
  }
  SharedRegion region;
  region.fd_ = std::move(fd);
  region.bytes_ = {static_cast<std::byte*>(data), size};
  return region;
}

SharedRegion::~SharedRegion() {
  if (!bytes_.empty()) ::munmap(bytes_.data(), bytes_.size());
}

}  // namespace tandem::link
