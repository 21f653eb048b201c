// What the cgroups of this process, of either version, let it have.
//
// `root`: "/", or what tests put in its place ("proc/self/cgroup", "sys/fs/cgroup/...").
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace tandem {

// Folders of the control group that this process is in and of all that this one is in, nearest
// first; some may not exist: in a container the path may be the host's, of which only the mount's
// own folder is seen.
struct CgroupFolders {
  std::vector<std::filesystem::path> v1, v2;
};
// `controller`: of version 1, like "cpu" or "memory".
CgroupFolders FindCgroups(const std::string& controller, const std::string& root = "/");

struct CgroupMemory {
  static constexpr int64_t kNoLimit = INT64_MAX;
  int64_t bytes = kNoLimit;       // the least of all folders
  int64_t swap_bytes = kNoLimit;  // beside it; version 2 only
};
// What cannot be read limits nothing.
CgroupMemory ReadCgroupMemory(const std::string& root = "/");

// Processes of its cgroup that the kernel has killed because memory was used up; 0: none, or it
// does not say.
int64_t ReadOomKills(const std::string& root = "/");

}  // namespace tandem
