#include "common/cgroup.h"

#include <algorithm>
#include <fstream>
#include <sstream>
#include <string_view>

namespace tandem {
namespace {

bool HasController(const std::string& controllers, std::string_view wanted) {
  std::istringstream list(controllers);
  for (std::string name; std::getline(list, name, ',');) {
    if (name == wanted) return true;
  }
  return false;
}

void AddFolders(const std::filesystem::path& mount, std::filesystem::path path,
                std::vector<std::filesystem::path>* folders) {
  for (path = path.relative_path();; path = path.parent_path()) {
    folders->push_back(mount / path);
    if (path.empty()) return;
  }
}

// "max" and what makes no sense: no limit. Version 1 writes "none" as a number of about 2^63.
void LowerToFile(const std::filesystem::path& path, int64_t* least) {
  std::ifstream file(path);
  int64_t bytes = 0;
  if (file >> bytes && bytes >= 0) *least = std::min(*least, bytes);
}

// Of the line "oom_kill N" of the first of these files that is there.
int64_t OomKillsOf(const std::vector<std::filesystem::path>& folders, const char* name) {
  for (const auto& folder : folders) {
    std::ifstream file(folder / name);
    std::string key;
    for (int64_t value = 0; file >> key >> value;) {
      if (key == "oom_kill") return value;
    }
  }
  return 0;
}

}  // namespace

CgroupFolders FindCgroups(const std::string& controller, const std::string& root) {
  const std::filesystem::path mount = std::filesystem::path(root) / "sys/fs/cgroup";
  std::ifstream groups(std::filesystem::path(root) / "proc/self/cgroup");
  CgroupFolders found;
  for (std::string line; std::getline(groups, line);) {  // number:controllers:path
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string path = line.substr(second + 1);
    if (controllers.empty()) {
      AddFolders(mount, path, &found.v2);
      AddFolders(mount / "unified", path, &found.v2);
    } else if (HasController(controllers, controller)) {
      AddFolders(mount / controllers, path, &found.v1);
      if (controllers != controller) AddFolders(mount / controller, path, &found.v1);
    }
  }
  return found;
}

CgroupMemory ReadCgroupMemory(const std::string& root) {
  CgroupMemory memory;
  const CgroupFolders folders = FindCgroups("memory", root);
  for (const auto& folder : folders.v2) {
    LowerToFile(folder / "memory.max", &memory.bytes);
    LowerToFile(folder / "memory.swap.max", &memory.swap_bytes);
  }
  for (const auto& folder : folders.v1)
    LowerToFile(folder / "memory.limit_in_bytes", &memory.bytes);
  return memory;
}

int64_t ReadOomKills(const std::string& root) {
  const CgroupFolders folders = FindCgroups("memory", root);
  return OomKillsOf(folders.v2, "memory.events") + OomKillsOf(folders.v1, "memory.oom_control");
}

}  // namespace tandem
