// What cgroups limit, from files as Linux has them in a folder of the test's own.
#include "common/cgroup.h"

#include <gtest/gtest.h>

#include <string>

#include "tests/support/fork_rank.h"

namespace tandem {
namespace {

constexpr int64_t kGiB = int64_t{1} << 30;

class Root {
 public:
  void Write(const std::string& path, const std::string& text) { folder_.Write(path, text); }
  CgroupMemory Memory() const { return ReadCgroupMemory(folder_.path()); }
  int64_t OomKills() const { return ReadOomKills(folder_.path()); }

 private:
  testing::TempFolder folder_;
};

TEST(Cgroup, NothingThatCanBeReadLimitsNothing) {
  Root root;
  EXPECT_EQ(root.Memory().bytes, CgroupMemory::kNoLimit);
  root.Write("proc/self/cgroup", "0::/\nnonsense\n:\n::");
  for (const char* text : {"", "max", "x", "-1"}) {
    root.Write("sys/fs/cgroup/memory.max", text);
    EXPECT_EQ(root.Memory().bytes, CgroupMemory::kNoLimit) << text;
  }
}

TEST(Cgroup, TheLeastMemoryOfAllFoldersOfVersion2Holds) {
  Root root;
  root.Write("proc/self/cgroup", "0::/system.slice/tandem.service");
  root.Write("sys/fs/cgroup/system.slice/tandem.service/memory.max", "max");
  EXPECT_EQ(root.Memory().bytes, CgroupMemory::kNoLimit);
  root.Write("sys/fs/cgroup/system.slice/memory.max", std::to_string(2 * kGiB));
  EXPECT_EQ(root.Memory().bytes, 2 * kGiB);
  EXPECT_EQ(root.Memory().swap_bytes, CgroupMemory::kNoLimit);
  root.Write("sys/fs/cgroup/system.slice/tandem.service/memory.max", std::to_string(kGiB));
  root.Write("sys/fs/cgroup/system.slice/tandem.service/memory.swap.max", "0");
  EXPECT_EQ(root.Memory().bytes, kGiB);
  EXPECT_EQ(root.Memory().swap_bytes, 0);
}

TEST(Cgroup, AContainerSeesOnlyItsOwnFolder) {
  Root root;
  root.Write("proc/self/cgroup", "0::/../../docker/abc");  // as another namespace sees it
  root.Write("sys/fs/cgroup/memory.max", std::to_string(3 * kGiB));
  EXPECT_EQ(root.Memory().bytes, 3 * kGiB);
}

TEST(Cgroup, MemoryOfVersion1) {
  Root root;
  root.Write("proc/self/cgroup",
             "5:cpuset:/docker/abc\n4:memory:/docker/abc\n1:name=systemd:/\n0::/docker/abc");
  root.Write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712");
  EXPECT_GE(root.Memory().bytes, int64_t{1} << 62);
  root.Write("sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes", std::to_string(kGiB));
  EXPECT_EQ(root.Memory().bytes, kGiB);
  root.Write("sys/fs/cgroup/cpuset/docker/abc/memory.limit_in_bytes", "1");  // not the memory's
  EXPECT_EQ(root.Memory().bytes, kGiB);
}

TEST(Cgroup, CountsWhatTheKernelKilled) {
  Root root;
  EXPECT_EQ(root.OomKills(), 0);
  root.Write("proc/self/cgroup", "4:memory:/a\n0::/a");
  root.Write("sys/fs/cgroup/memory.events", "low 0\nhigh 0\nmax 9\noom 2\noom_kill 7");
  EXPECT_EQ(root.OomKills(), 7);
  root.Write("sys/fs/cgroup/a/memory.events", "low 0\nhigh 0\nmax 9\noom 2\noom_kill 2");
  EXPECT_EQ(root.OomKills(), 2);
  root.Write("sys/fs/cgroup/memory/a/memory.oom_control",
             "oom_kill_disable 0\nunder_oom 0\noom_kill 3");
  EXPECT_EQ(root.OomKills(), 5);
}

}  // namespace
}  // namespace tandem
