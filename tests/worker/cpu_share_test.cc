// What CPUs a rank takes, from files as Linux has them in a folder of the test's own.
#include "worker/cpu_share.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <thread>

#include "tests/support/fork_rank.h"

namespace tandem::worker {
namespace {

using Cpus = std::vector<int>;

class Root {
 public:
  void Write(const std::string& path, const std::string& text) { folder_.Write(path, text); }
  UsableCpus Read(const Cpus& affinity) const { return ReadUsableCpus(affinity, folder_.path()); }
  int Quota() const { return Read({0}).quota; }

 private:
  testing::TempFolder folder_;
};

TEST(CpuShare, NothingThatCanBeReadLimitsNothing) {
  const Root root;
  const UsableCpus usable = root.Read({0, 1, 5});
  EXPECT_EQ(usable.cpus, (Cpus{0, 1, 5}));
  EXPECT_EQ(usable.num_cores, 3);
  EXPECT_EQ(usable.quota, 0);
}

TEST(CpuShare, QuotasOfVersion2AreRoundedUpAndTheLeastHolds) {
  Root root;
  root.Write("proc/self/cgroup", "0::/system.slice/tandem.service");
  root.Write("sys/fs/cgroup/system.slice/tandem.service/cpu.max", "max 100000");
  EXPECT_EQ(root.Quota(), 0);
  root.Write("sys/fs/cgroup/system.slice/cpu.max", "250000 100000");
  EXPECT_EQ(root.Quota(), 3);
  root.Write("sys/fs/cgroup/system.slice/tandem.service/cpu.max", "50000 100000");
  EXPECT_EQ(root.Quota(), 1);
}

TEST(CpuShare, AContainerSeesOnlyItsOwnFolderOfVersion2) {
  Root root;
  root.Write("proc/self/cgroup", "0::/../../docker/abc");  // as another namespace sees it
  root.Write("sys/fs/cgroup/cpu.max", "400000 100000");
  EXPECT_EQ(root.Quota(), 4);
}

TEST(CpuShare, QuotasOfVersion1) {
  Root root;
  root.Write("proc/self/cgroup",
             "5:cpuset:/docker/abc\n4:cpu,cpuacct:/docker/abc\n1:name=systemd:/");
  root.Write("sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us", "-1");
  root.Write("sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_period_us", "100000");
  EXPECT_EQ(root.Quota(), 0);
  root.Write("sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us", "150000");
  EXPECT_EQ(root.Quota(), 2);
  root.Write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "100000");
  root.Write("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000");
  EXPECT_EQ(root.Quota(), 1);
}

TEST(CpuShare, LinesThatMakeNoSenseLimitNothing) {
  Root root;
  root.Write("proc/self/cgroup", "0::/\nnonsense\n:\n::");
  for (const char* text : {"", "max", "x y", "100000", "100000 0", "-5 100000"}) {
    root.Write("sys/fs/cgroup/cpu.max", text);
    EXPECT_EQ(root.Quota(), 0) << text;
  }
}

TEST(CpuShare, FirstThreadsOfCoresComeFirst) {
  Root root;
  for (int cpu = 0; cpu < 4; ++cpu) {
    root.Write(
        "sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list",
        cpu < 2 ? "0-1" : "2,3");
  }
  EXPECT_EQ(root.Read({0, 1, 2, 3}).cpus, (Cpus{0, 2, 1, 3}));
  EXPECT_EQ(root.Read({0, 1, 2, 3}).num_cores, 2);
  EXPECT_EQ(root.Read({1, 3}).num_cores, 2);  // the others are not ours
}

config::Cluster ClusterOf(const std::vector<std::pair<int, int>>& tp_and_threads) {
  config::Cluster cluster;
  for (const auto& [tp, threads] : tp_and_threads) {
    config::Group group;
    group.name = "g" + std::to_string(cluster.groups.size());
    group.tp = tp;
    group.threads = threads;
    cluster.groups.push_back(group);
  }
  return cluster;
}

int Threads(const config::Cluster& cluster, int cores, int quota = 0) {
  UsableCpus usable;
  for (int cpu = 0; cpu < cores; ++cpu) usable.cpus.push_back(cpu);
  usable.num_cores = cores;
  usable.quota = quota;
  return ThreadsOfRank(cluster, cluster.groups[0], 0, usable);
}

TEST(CpuShare, AutoIsAnEqualShareOfWhatIsThere) {
  EXPECT_EQ(Threads(ClusterOf({{1, 0}}), 1), 1);
  EXPECT_EQ(Threads(ClusterOf({{1, 0}}), 2), 2);
  EXPECT_EQ(Threads(ClusterOf({{2, 0}}), 2), 1);
  EXPECT_EQ(Threads(ClusterOf({{1, 0}}), 8), 7) << "one is left to the router";
  EXPECT_EQ(Threads(ClusterOf({{2, 0}, {1, 0}}), 16), 5);
  EXPECT_EQ(Threads(ClusterOf({{1, 0}, {1, 4}}), 16), 11);
  EXPECT_EQ(Threads(ClusterOf({{1, 0}, {1, 40}}), 16), 1) << "never none";
  EXPECT_EQ(Threads(ClusterOf({{1, 0}}), 16, /*quota=*/2), 2);
  EXPECT_EQ(Threads(ClusterOf({{1, 3}}), 2), 3) << "a number is a number";
}

TEST(CpuShare, RanksOfOtherHostsTakeNothing) {
  config::Cluster cluster = ClusterOf({{2, 0}});
  cluster.groups[0].hosts = {"10.0.0.1", "10.0.0.2"};
  EXPECT_EQ(Threads(cluster, 3), 3);
}

// CPU numbers that no other worker on this machine could claim.
UsableCpus FarAway(int count) {
  UsableCpus usable;
  for (int i = 0; i < count; ++i) usable.cpus.push_back(1'000'000 + getpid() * 100 + i);
  usable.num_cores = count;
  return usable;
}

TEST(CpuShare, RanksClaimDisjointCpusAndLeaveTheFirst) {
  const config::Cluster cluster = ClusterOf({{2, 2}});
  const UsableCpus usable = FarAway(5);
  const int first = usable.cpus[0];
  const auto zero = ClaimedCpus::Claim(cluster, cluster.groups[0], 0, usable);
  auto one = ClaimedCpus::Claim(cluster, cluster.groups[0], 1, usable);
  EXPECT_EQ(zero.cpus(), (Cpus{first + 1, first + 2}));
  EXPECT_EQ(one.cpus(), (Cpus{first + 3, first + 4}));
  // Another cluster finds none, and holds none of what it tried.
  EXPECT_TRUE(ClaimedCpus::Claim(cluster, cluster.groups[0], 0, usable).cpus().empty());
  one = {};
  EXPECT_EQ(ClaimedCpus::Claim(cluster, cluster.groups[0], 1, usable).cpus(),
            (Cpus{first + 3, first + 4}));
}

TEST(CpuShare, NothingIsClaimedWhereNoCpuIsLeftOver) {
  const config::Cluster cluster = ClusterOf({{2, 2}});
  EXPECT_TRUE(ClaimedCpus::Claim(cluster, cluster.groups[0], 0, FarAway(4)).cpus().empty());
  UsableCpus limited = FarAway(16);
  limited.quota = 4;
  EXPECT_TRUE(ClaimedCpus::Claim(cluster, cluster.groups[0], 0, limited).cpus().empty());
}

TEST(CpuShare, AThreadStaysWhereItIsTold) {
  const Cpus all = AffinityOfThisThread();
  ASSERT_FALSE(all.empty());
  std::thread([&] {
    ASSERT_TRUE(RunThisThreadOn(std::span(all).last(1)));
    EXPECT_EQ(AffinityOfThisThread(), (Cpus{all.back()}));
  }).join();
  EXPECT_EQ(AffinityOfThisThread(), all);
}

}  // namespace
}  // namespace tandem::worker
