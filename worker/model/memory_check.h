// Whether a rank's memory fits where it runs, before any of it is taken: the kernel answers with
// SIGKILL, which names nothing.
#pragma once

#include <cstdint>
#include <string>

#include "common/status.h"

namespace tandem::model {

struct UsableMemory {
  int64_t ram_bytes = 0;
  int64_t swap_bytes = 0;
  bool of_cgroup = false;  // it has less than the machine
};

// Of the machine, or of the cgroups of this process where that is less. `root`: see
// common/cgroup.h.
UsableMemory ReadUsableMemory(const std::string& root = "/");

// What cannot fit is kInvalidArgument, with what to lower; what is close to it passes.
// `weight_bytes` is the least that they take. Each rank by itself: others may be elsewhere.
Status CheckMemory(int rank, int64_t weight_bytes, int64_t kv_bytes, const UsableMemory& usable);

}  // namespace tandem::model
