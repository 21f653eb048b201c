// A folder with a cluster file and programs that play its processes, and `tandem up` over it.
// The test is the subreaper of what it starts: a child that outlives `tandem up` is seen.
#pragma once

#include <gtest/gtest.h>
#include <sys/types.h>

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace tandem::cli {

// False when `condition` did not come true within a minute, which only a fault takes.
bool WaitFor(const std::function<bool()>& condition);

// Runs to the end. `text` receives its output and errors.
int RunCommand(const std::vector<std::string>& argv, std::string* text);

class UpFixture : public testing::Test {
 protected:
  struct Started {
    std::string name;  // "router", "g0.1"
    pid_t pid;
    std::string arguments;
  };

  void SetUp() override;
  void TearDown() override;

  void Write(const std::string& name, const std::string& text) const;
  std::string Read(const std::string& name) const;
  std::string Path(const std::string& name) const { return folder_ / name; }

  // The cluster of the fixture: a router, g0 with two ranks, g1 with one.
  void StartUp(const std::vector<std::string>& more = {});
  void WaitForAll();     // until the four processes have started
  int WaitUp();          // exit code of `tandem up`, or 128 + signal
  int Stop(int signal);  // sends it, then WaitUp
  std::string Log() const { return Read("log"); }

  std::vector<Started> Starts(const std::string& name = "") const;  // in order
  int CountStarts(const std::string& name) const;
  pid_t LastPid(const std::string& name) const;
  std::vector<std::string> Events() const;
  bool WaitForStarts(const std::string& name, int count) const;
  bool WaitForEvent(const std::string& event) const;

  // Every process that was ever started has ended (zombies count as running).
  bool AllGone() const;
  static std::vector<pid_t> ZombiesOf(pid_t parent);

  std::filesystem::path folder_;
  pid_t up_ = 0;
};

}  // namespace tandem::cli
