#include "deploy/cli/process.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>

namespace tandem::cli {
namespace {

constexpr int kOperatorMistake = 2;

std::vector<char*> Pointers(const std::vector<std::string>& argv) {
  std::vector<char*> pointers;
  pointers.reserve(argv.size() + 1);
  for (const std::string& arg : argv) pointers.push_back(const_cast<char*>(arg.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

void DefaultSignals() {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGCHLD}) {
    ::signal(signal, SIG_DFL);
  }
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
}

// Between fork and exec: system calls only.
[[noreturn]] void RunChild(pid_t parent, const std::vector<char*>& argv, int error_fd,
                           const std::vector<char*>& environment) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(1);  // it died before prctl
  setpgid(0, 0);
  const int null = open("/dev/null", O_RDONLY);
  if (null >= 0) {
    dup2(null, STDIN_FILENO);
    if (null != STDIN_FILENO) close(null);
  }
  constexpr int kErrorFd = observe::LastError::kChildFd;
  if (error_fd == kErrorFd) {
    fcntl(kErrorFd, F_SETFD, 0);
  } else if (error_fd >= 0) {
    dup2(error_fd, kErrorFd);
  }
  DefaultSignals();
  execve(argv[0], argv.data(), environment.data());
  dprintf(STDERR_FILENO, "tandem: cannot execute %s: %s\n", argv[0], strerror(errno));
  _exit(kOperatorMistake);
}

}  // namespace

StatusOr<std::string> OwnFolder() {
  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return Internal("/proc/self/exe: {}; is /proc mounted?", error.message());
  return self.parent_path().string();
}

Status CheckProgram(const std::string& path) {
  struct stat info = {};
  if (stat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode) && access(path.c_str(), X_OK) == 0) {
    return OkStatus();
  }
  return NotFound(
      "there is no program {}; build it (cmake --build --preset release --target {}) or install it "
      "there",
      path, std::filesystem::path(path).filename().string());
}

StatusOr<pid_t> StartProcess(const std::vector<std::string>& argv,
                             const observe::LastError& last_error) {
  const std::vector<char*> pointers = Pointers(argv);
  std::vector<char*> environment;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    environment.push_back(*variable);
  }
  environment.push_back(const_cast<char*>(observe::LastError::kVariable));
  environment.push_back(nullptr);
  const pid_t parent = getpid();
  const pid_t child = fork();
  if (child == 0) RunChild(parent, pointers, last_error.fd(), environment);
  if (child < 0) return Unavailable("fork: {}", strerror(errno));
  return child;
}

Status Execute(const std::vector<std::string>& argv) {
  TANDEM_RETURN_IF_ERROR(CheckProgram(argv[0]));
  execv(argv[0].c_str(), Pointers(argv).data());
  return Internal("cannot execute {}: {}", argv[0], strerror(errno));
}

std::string DescribeExit(int wait_status) {
  if (WIFSIGNALED(wait_status)) {
    const int signal = WTERMSIG(wait_status);
    return fmt::format("was killed by signal {} ({})", signal, strsignal(signal));
  }
  return fmt::format("exited with {}", WEXITSTATUS(wait_status));
}

}  // namespace tandem::cli
