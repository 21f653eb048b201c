#include "worker/cpu_share.h"

#include <sched.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>

#include "common/cgroup.h"

namespace tandem::worker {
namespace {

constexpr int kMostThreads = 256;
constexpr int kCoresWorthSparing = 4;  // from here on, auto leaves one to others

std::string FirstLine(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// Rounded up; 0: no limit, or nothing that can be read.
int CpusOf(const std::string& quota, const std::string& period) {
  std::istringstream text(quota + " " + period);
  int64_t q = 0, p = 0;
  if (!(text >> q >> p) || q <= 0 || p <= 0) return 0;  // "max", or -1 in version 1
  return static_cast<int>(std::min<int64_t>((q + p - 1) / p, 1 << 20));
}

int QuotaV2(const std::filesystem::path& group) {
  std::istringstream line(FirstLine(group / "cpu.max"));
  std::string quota, period;
  line >> quota >> period;
  return CpusOf(quota, period);
}

int QuotaV1(const std::filesystem::path& group) {
  return CpusOf(FirstLine(group / "cpu.cfs_quota_us"), FirstLine(group / "cpu.cfs_period_us"));
}

// The least of a group and those that it is in.
int Quota(const std::string& root) {
  int least = 0;
  const auto lower = [&least](int quota) {
    if (quota > 0 && (least == 0 || quota < least)) least = quota;
  };
  const CgroupFolders folders = FindCgroups("cpu", root);
  for (const auto& folder : folders.v2) lower(QuotaV2(folder));
  for (const auto& folder : folders.v1) lower(QuotaV1(folder));
  return least;
}

// Whether a lower-numbered hardware thread of its core is among `cpus`, which are in order.
bool IsSecondOfCore(const std::filesystem::path& root, int cpu, std::span<const int> cpus) {
  const auto path = root / "sys/devices/system/cpu" / ("cpu" + std::to_string(cpu)) /
                    "topology/thread_siblings_list";
  std::istringstream list(FirstLine(path));  // "0,64" or "0-1"
  for (std::string range; std::getline(list, range, ',');) {
    std::istringstream ends(range);
    int begin = 0, end = 0;
    char dash = 0;
    if (!(ends >> begin)) return false;
    if (!(ends >> dash >> end)) end = begin;
    for (int sibling = begin; sibling <= end && sibling < cpu; ++sibling) {
      if (std::binary_search(cpus.begin(), cpus.end(), sibling)) return true;
    }
  }
  return false;
}

// "": whatever machine it is started on, which is taken to be this one.
std::string HostOf(const config::Group& group, int rank) {
  if (group.hosts.empty()) return "";
  return group.hosts.size() == 1 ? group.hosts[0] : group.hosts[static_cast<size_t>(rank)];
}

// What the cluster file has running beside a rank, itself included.
struct Neighbours {
  int threads = 0;   // of ranks that say how many
  int num_auto = 0;  // ranks that do not
};

Neighbours NeighboursOf(const config::Cluster& cluster, const std::string& host) {
  Neighbours all;
  for (const config::Group& group : cluster.groups) {
    if (group.device != "cpu") continue;
    for (int rank = 0; rank < group.tp; ++rank) {
      if (HostOf(group, rank) != host) continue;
      all.threads += group.threads;
      all.num_auto += group.threads == 0 ? 1 : 0;
    }
  }
  return all;
}

// The name is of this user and this network namespace, and gone with the process.
link::UniqueFd ClaimName(int cpu) {
  link::UniqueFd name(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string text = "tandem-cpu-" + std::to_string(::getuid()) + "-" + std::to_string(cpu);
  std::copy(text.begin(), text.end(), address.sun_path + 1);  // abstract: begins with 0
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + text.size());
  if (!name.valid() || ::bind(name.get(), reinterpret_cast<sockaddr*>(&address), size) != 0) {
    return {};
  }
  return name;
}

}  // namespace

std::vector<int> AffinityOfThisThread() {
  // As large as the kernel of any machine wants it.
  std::vector<cpu_set_t> sets(16);
  const size_t bytes = sets.size() * sizeof(cpu_set_t);
  std::vector<int> cpus;
  if (::sched_getaffinity(0, bytes, sets.data()) != 0) return cpus;
  for (size_t cpu = 0; cpu < 8 * bytes; ++cpu) {
    if (CPU_ISSET_S(cpu, bytes, sets.data())) cpus.push_back(static_cast<int>(cpu));
  }
  return cpus;
}

bool RunThisThreadOn(std::span<const int> cpus) {
  std::vector<cpu_set_t> sets(16);
  const size_t bytes = sets.size() * sizeof(cpu_set_t);
  CPU_ZERO_S(bytes, sets.data());
  for (const int cpu : cpus) CPU_SET_S(static_cast<size_t>(cpu), bytes, sets.data());
  return ::sched_setaffinity(0, bytes, sets.data()) == 0;
}

UsableCpus ReadUsableCpus(std::span<const int> affinity, const std::string& root) {
  UsableCpus usable;
  std::vector<int> second;
  for (const int cpu : affinity) {
    (IsSecondOfCore(root, cpu, affinity) ? second : usable.cpus).push_back(cpu);
  }
  usable.num_cores = static_cast<int>(usable.cpus.size());
  usable.cpus.insert(usable.cpus.end(), second.begin(), second.end());
  usable.quota = Quota(root);
  return usable;
}

int ThreadsOfRank(const config::Cluster& cluster, const config::Group& group, int rank,
                  const UsableCpus& usable) {
  if (group.threads > 0) return group.threads;
  int cores = std::max(1, usable.num_cores);
  if (usable.quota > 0) cores = std::min(cores, usable.quota);
  if (cores >= kCoresWorthSparing) --cores;
  const Neighbours all = NeighboursOf(cluster, HostOf(group, rank));
  return std::clamp((cores - all.threads) / std::max(1, all.num_auto), 1, kMostThreads);
}

ClaimedCpus ClaimedCpus::Claim(const config::Cluster& cluster, const config::Group& group, int rank,
                               const UsableCpus& usable) {
  ClaimedCpus claimed;
  const int threads = ThreadsOfRank(cluster, group, rank, usable);
  const Neighbours all = NeighboursOf(cluster, HostOf(group, rank));
  const int most = usable.quota > 0 ? std::min<int>(usable.quota, kMostThreads * 64) : 1 << 20;
  const int wanted = all.threads + all.num_auto * threads;
  if (wanted + 1 > std::min(static_cast<int>(usable.cpus.size()), most)) return claimed;
  // The first is nobody's: interrupts go there.
  for (size_t i = 1; i < usable.cpus.size() && claimed.cpus_.size() < static_cast<size_t>(threads);
       ++i) {
    link::UniqueFd name = ClaimName(usable.cpus[i]);
    if (!name.valid()) continue;
    claimed.cpus_.push_back(usable.cpus[i]);
    claimed.names_.push_back(std::move(name));
  }
  if (claimed.cpus_.size() < static_cast<size_t>(threads)) claimed = {};
  return claimed;
}

}  // namespace tandem::worker
