#include "tests/deploy/up_fixture.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <iostream>
#include <sstream>
#include <thread>

namespace tandem::cli {
namespace {

constexpr char kClusterFile[] =
    "model: {path: model.gguf}\n"
    "groups:\n"
    "  - {name: g0, tp: 2, min_watchdog: 2s}\n"
    "  - {name: g1, tp: 1, min_watchdog: 2s}\n"
    "router: {listen: 127.0.0.1:0, limits: {drain_timeout: 60s}}\n";

pid_t Spawn(const std::vector<std::string>& argv, const std::string& output) {
  std::vector<char*> pointers;
  for (const std::string& arg : argv) pointers.push_back(const_cast<char*>(arg.c_str()));
  pointers.push_back(nullptr);
  const pid_t pid = fork();
  if (pid != 0) return pid;
  prctl(PR_SET_PDEATHSIG, SIGKILL);  // a test that dies leaves nothing either
  const int fd = open(output.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  dup2(fd, STDOUT_FILENO);
  dup2(fd, STDERR_FILENO);
  execv(pointers[0], pointers.data());
  _exit(127);
}

int ExitCode(int status) {
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

std::string ReadAll(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

}  // namespace

bool WaitFor(const std::function<bool()>& condition) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::minutes(1);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

int RunCommand(const std::vector<std::string>& argv, std::string* text) {
  char output[] = "/tmp/tandem-command-XXXXXX";
  close(mkstemp(output));
  const pid_t pid = Spawn(argv, output);
  int status = 0;
  waitpid(pid, &status, 0);
  *text = ReadAll(output);
  unlink(output);
  return ExitCode(status);
}

void UpFixture::SetUp() {
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  char name[] = "/tmp/tandem-up-XXXXXX";
  ASSERT_NE(mkdtemp(name), nullptr);
  folder_ = name;
  setenv("TANDEM_FAKE_DIR", name, 1);
  std::filesystem::create_directory(folder_ / "bin");
  std::filesystem::create_symlink(FAKE_PROCESS, folder_ / "bin/tandem-router");
  std::filesystem::create_symlink(FAKE_PROCESS, folder_ / "bin/tandem-worker");
  Write("model.gguf", "x");
  Write("cluster.yaml", kClusterFile);
}

void UpFixture::TearDown() {
  if (up_ > 0) {
    kill(up_, SIGKILL);
    waitpid(up_, nullptr, 0);
  }
  for (const Started& started : Starts()) {
    if (waitpid(started.pid, nullptr, WNOHANG) == 0) {
      kill(started.pid, SIGKILL);
      waitpid(started.pid, nullptr, 0);
    }
  }
  if (HasFailure()) std::cerr << "events:\n" << Read("events") << "log:\n" << Log();
  std::filesystem::remove_all(folder_);
}

void UpFixture::Write(const std::string& name, const std::string& text) const {
  std::ofstream(folder_ / name) << text;
}

std::string UpFixture::Read(const std::string& name) const { return ReadAll(Path(name)); }

void UpFixture::StartUp(const std::vector<std::string>& more) {
  std::vector<std::string> argv = {TANDEM_COMMAND, "up", Path("cluster.yaml"), "--bin-dir",
                                   Path("bin")};
  argv.insert(argv.end(), more.begin(), more.end());
  up_ = Spawn(argv, Path("log"));
}

void UpFixture::WaitForAll() {
  for (const char* name : {"router", "g0.0", "g0.1", "g1.0"}) {
    ASSERT_TRUE(WaitForStarts(name, 1)) << name;
  }
}

int UpFixture::WaitUp() {
  int status = 0;
  const pid_t up = up_;
  if (!WaitFor([&] { return waitpid(up, &status, WNOHANG) == up; })) return -1;
  up_ = 0;
  return ExitCode(status);
}

int UpFixture::Stop(int signal) {
  kill(up_, signal);
  return WaitUp();
}

std::vector<std::string> UpFixture::Events() const {
  std::vector<std::string> events;
  std::istringstream text(Read("events"));
  for (std::string line; std::getline(text, line);) events.push_back(line);
  return events;
}

std::vector<UpFixture::Started> UpFixture::Starts(const std::string& name) const {
  std::vector<Started> starts;
  for (const std::string& event : Events()) {
    std::istringstream words(event);
    std::string verb;
    Started started;
    words >> verb >> started.name >> started.pid;
    std::getline(words, started.arguments);
    if (verb == "start" && (name.empty() || name == started.name)) starts.push_back(started);
  }
  return starts;
}

int UpFixture::CountStarts(const std::string& name) const {
  return static_cast<int>(Starts(name).size());
}

pid_t UpFixture::LastPid(const std::string& name) const { return Starts(name).back().pid; }

bool UpFixture::WaitForStarts(const std::string& name, int count) const {
  return WaitFor([&] { return CountStarts(name) >= count; });
}

bool UpFixture::WaitForEvent(const std::string& event) const {
  return WaitFor([&] {
    const auto events = Events();
    return std::find(events.begin(), events.end(), event) != events.end();
  });
}

bool UpFixture::AllGone() const {
  for (const Started& started : Starts()) {
    if (kill(started.pid, 0) == 0) return false;
  }
  return true;
}

std::vector<pid_t> UpFixture::ZombiesOf(pid_t parent) {
  std::vector<pid_t> zombies;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    const std::string stat = ReadAll(entry.path() / "stat");
    const size_t end = stat.rfind(')');
    if (end == std::string::npos) continue;
    std::istringstream rest(stat.substr(end + 1));
    std::string state;
    pid_t ppid = 0;
    rest >> state >> ppid;
    if (ppid == parent && state == "Z") zombies.push_back(std::stoi(stat));
  }
  return zombies;
}

}  // namespace tandem::cli
