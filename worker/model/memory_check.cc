#include "worker/model/memory_check.h"

#include <sys/sysinfo.h>

#include <algorithm>

#include "common/cgroup.h"

namespace tandem::model {
namespace {

std::string Describe(const UsableMemory& usable) {
  const std::string swap =
      usable.swap_bytes > 0 ? fmt::format(" and {} MiB of swap", usable.swap_bytes >> 20) : "";
  return fmt::format("{} has {} MiB{}", usable.of_cgroup ? "this process's cgroup" : "this machine",
                     usable.ram_bytes >> 20, swap);
}

}  // namespace

UsableMemory ReadUsableMemory(const std::string& root) {
  struct sysinfo machine = {};
  ::sysinfo(&machine);
  const CgroupMemory cgroup = ReadCgroupMemory(root);
  UsableMemory usable;
  const auto ram = static_cast<int64_t>(machine.totalram) * machine.mem_unit;
  const auto swap = static_cast<int64_t>(machine.totalswap) * machine.mem_unit;
  usable.ram_bytes = std::min(ram, cgroup.bytes);
  usable.swap_bytes = std::min(swap, cgroup.swap_bytes);
  usable.of_cgroup = cgroup.bytes < ram;
  return usable;
}

// The KV cache is written whole at the start and read at every step, so swap is no place for it;
// weights that are hardly used (experts) may be there.
Status CheckMemory(int rank, int64_t weight_bytes, int64_t kv_bytes, const UsableMemory& usable) {
  if (kv_bytes > usable.ram_bytes) {
    return InvalidArgument(
        "rank {}'s part of kv_memory is {} MiB, and {}; lower groups[].kv_memory", rank,
        kv_bytes >> 20, Describe(usable));
  }
  const int64_t all = usable.ram_bytes + usable.swap_bytes;
  if (weight_bytes > all) {
    return InvalidArgument(
        "rank {}'s weights take {} MiB or more, and {}; give it more, or serve a smaller model, "
        "or have more ranks on more machines (groups[].tp, groups[].hosts)",
        rank, weight_bytes >> 20, Describe(usable));
  }
  if (weight_bytes + kv_bytes > all) {
    return InvalidArgument(
        "rank {}'s weights take {} MiB or more and its part of kv_memory {} MiB, and {}; lower "
        "groups[].kv_memory",
        rank, weight_bytes >> 20, kv_bytes >> 20, Describe(usable));
  }
  return OkStatus();
}

}  // namespace tandem::model
