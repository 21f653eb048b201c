// Which of the machine's CPUs a rank computes on, and with how many threads: what the affinity mask
// and the cgroups of this process allow, shared with the other ranks of the cluster file that run
// here.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "common/config/cluster_config.h"
#include "worker/link/unique_fd.h"

namespace tandem::worker {

// What the process may use.
struct UsableCpus {
  // Of the affinity mask, which the kernel keeps within the cgroup's cpuset. The first hardware
  // thread of each core comes before any second one.
  std::vector<int> cpus;
  int num_cores = 0;  // leading ones of `cpus`, each on a core of its own
  int quota = 0;  // CPUs' worth of time that the cgroups give (cpu.max), rounded up; 0: no limit
};

// `root`: "/", or what tests put in its place ("proc/self/cgroup", "sys/fs/cgroup/...",
// "sys/devices/system/cpu/..."). What cannot be read limits nothing.
UsableCpus ReadUsableCpus(std::span<const int> affinity, const std::string& root = "/");
std::vector<int> AffinityOfThisThread();

// Compute threads of a rank. `group.threads`, or if that is 0 (auto) an equal share of the cores
// (or of the quota, if that is less) that the groups with a number of their own leave; of four or
// more, one is left to the router and to the worker's other threads. At least 1.
int ThreadsOfRank(const config::Cluster& cluster, const config::Group& group, int rank,
                  const UsableCpus& usable);

// CPUs that this process has for itself among all of this user's workers, for as long as this
// lives. All ranks have disjoint ones: a CPU is claimed by a name in the kernel that ends with the
// process.
class ClaimedCpus {
 public:
  // One for each thread, or none at all: where the compute threads of all ranks here leave no CPU
  // to the router and the rest, or others hold too many, threads are better left to the scheduler.
  static ClaimedCpus Claim(const config::Cluster& cluster, const config::Group& group, int rank,
                           const UsableCpus& usable);

  const std::vector<int>& cpus() const { return cpus_; }

 private:
  std::vector<int> cpus_;
  std::vector<link::UniqueFd> names_;
};

// The calling thread, and those that it starts. False: the kernel would not.
bool RunThisThreadOn(std::span<const int> cpus);

}  // namespace tandem::worker
