#include "worker/build_id.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "common/hash.h"
#include "worker/link/unique_fd.h"

namespace tandem::worker {

std::string BuildId() {
  const link::UniqueFd self(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  struct stat status {};
  if (!self.valid() || ::fstat(self.get(), &status) != 0) return TANDEM_VERSION;
  const auto size = static_cast<size_t>(status.st_size);
  void* bytes = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, self.get(), 0);
  if (bytes == MAP_FAILED) return TANDEM_VERSION;
  const BlockHash hash = HashBytes({static_cast<const char*>(bytes), size});
  ::munmap(bytes, size);
  return fmt::format("{}-{:016x}", TANDEM_VERSION, hash.low);
}

}  // namespace tandem::worker
