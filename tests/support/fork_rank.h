// Ranks as processes of a test: forked, in a folder of their own, ended with their owner.
#pragma once

#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <utility>

#include "common/check.h"

namespace tandem::testing {

class TempFolder {
 public:
  TempFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "tandem-test-XXXXXX").string();
    TANDEM_CHECK(::mkdtemp(name.data()) != nullptr) << name;
    path_ = name;
  }
  ~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::string& path() const { return path_; }

  // A file of the folder, and the folders that it is in.
  void Write(const std::string& path, const std::string& text) const {
    const std::filesystem::path full = std::filesystem::path(path_) / path;
    std::filesystem::create_directories(full.parent_path());
    std::ofstream(full) << text << "\n";
  }

 private:
  std::string path_;
};

// A child process that runs `body` and exits with what it returns.
class ForkedRank {
 public:
  // REQUIRES: the test has no other thread at this moment.
  explicit ForkedRank(const std::function<int()>& body) : pid_(::fork()) {
    TANDEM_CHECK(pid_ >= 0) << "fork";
    if (pid_ != 0) return;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::_exit(body());
  }
  ~ForkedRank() {
    if (pid_ < 0) return;
    Signal(SIGKILL);
    Wait();
  }
  ForkedRank(ForkedRank&& other) noexcept : pid_(std::exchange(other.pid_, -1)) {}

  void Signal(int signal) { ::kill(pid_, signal); }
  int pid() const { return pid_; }

  // Exit code, or -signal.
  int Wait() {
    int status = 0;
    TANDEM_CHECK(::waitpid(pid_, &status, 0) == pid_) << "waitpid";
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }

 private:
  int pid_;
};

}  // namespace tandem::testing
