#include "deploy/cli/supervisor.h"

#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <string_view>

#include "common/cgroup.h"
#include "common/clock.h"
#include "common/observe/log.h"
#include "deploy/cli/process.h"

namespace tandem::cli {
namespace {

using observe::LogError;
using observe::LogInfo;
using observe::LogWarn;

constexpr int kOperatorMistake = 2;
constexpr int kGroupLost = 75;
constexpr int kFailuresWorthAnError = 3;
constexpr int kNoDevice = 3;                // of a worker: no other start would find a GPU either
constexpr Nanos kAfterKill = 10 * kSecond;  // only a process stuck in the kernel takes longer

bool Runs(const auto& unit) {
  return std::any_of(unit.processes.begin(), unit.processes.end(),
                     [](const auto& process) { return process.pid != 0; });
}

// Some senders deliver one wish twice: timeout(1) signals the process and its group.
constexpr Nanos kSameWish = kSecond;

bool IsIgnored(int signal) {
  struct sigaction action = {};
  return sigaction(signal, nullptr, &action) == 0 && action.sa_handler == SIG_IGN;
}

}  // namespace

Supervisor::Supervisor(const std::vector<UnitSpec>& units, const SupervisorOptions& options)
    : options_(options), num_oom_kills_(ReadOomKills()) {
  for (const UnitSpec& spec : units) {
    units_.push_back(
        {.spec = spec, .settings = {}, .processes = {}, .policy = RestartPolicy(options.restart)});
  }
}

int Supervisor::Run() {
  if (const Status status = CatchSignals(); !status.ok()) {
    LogError("{}", Message(status));
    return 1;
  }
  for (Unit& unit : units_) StartUnit(unit);
  while (!ended_) {
    WaitForSignals();
    Reap();
    RunTimers();
    DropRemoved();
    AdvanceStop();
  }
  close(signal_fd_);
  return exit_code_;
}

// Blocked signals are queued for the descriptor even when they were to be ignored, as SIGINT is in
// a background job of a script. SIGHUP is a request as well as the end of the terminal, and only
// the latter is ignored (nohup).
Status Supervisor::CatchSignals() {
  ::signal(SIGPIPE, SIG_IGN);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGHUP);
  hangup_ignored_ = IsIgnored(SIGHUP);
  sigaddset(&set, SIGINT);
  sigprocmask(SIG_BLOCK, &set, nullptr);
  signal_fd_ = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
  if (signal_fd_ < 0) return Internal("signalfd: {}", strerror(errno));
  return OkStatus();
}

void Supervisor::WaitForSignals() {
  pollfd waiting = {signal_fd_, POLLIN, 0};
  poll(&waiting, 1, PollTimeoutMs());
  signalfd_siginfo info = {};
  while (read(signal_fd_, &info, sizeof(info)) == static_cast<ssize_t>(sizeof(info))) {
    if (info.ssi_signo == SIGCHLD) continue;
    if (info.ssi_signo == SIGHUP) {
      OnHangup(info.ssi_code);
    } else {
      OnStopSignal(static_cast<int>(info.ssi_signo));
    }
  }
}

void Supervisor::OnStopSignal(int signal) {
  const Nanos now = MonotonicNow();
  if (Nanos& first = first_[signal]; first == 0) {
    first = now;
  } else if (now - first < kSameWish) {
    return;
  } else {
    LogWarn("a second {}: killing all processes", strsignal(signal));
    KillAll();
    return;
  }
  if (phase_ != Phase::kServing) return;
  LogInfo("{}: draining the router", strsignal(signal));
  BeginStop();
}

// The kernel sends it when the terminal goes away, everybody else to have the file read again.
void Supervisor::OnHangup(int code) {
  if (code != SI_KERNEL) {
    Reload();
  } else if (!hangup_ignored_) {
    OnStopSignal(SIGHUP);
  }
}

void Supervisor::Reload() {
  if (phase_ != Phase::kServing || !options_.reload) return;
  const StatusOr<std::vector<UnitSpec>> specs = options_.reload();
  if (!specs.ok()) {
    LogError("the cluster file, or one that it names, has mistakes, so all stays as it was:");
    std::string_view lines = Message(specs.status());
    while (!lines.empty()) {  // a record each
      const size_t end = std::min(lines.find('\n'), lines.size());
      LogError("{}", lines.substr(0, end));
      lines.remove_prefix(std::min(end + 1, lines.size()));
    }
    return;
  }
  LogInfo("the cluster file was read again");
  Reap();  // who drains a group and then has the file read means one that has ended
  if (phase_ != Phase::kServing) return;
  Merge(*specs);
  Signal(SIGHUP, true, false);
}

void Supervisor::Merge(const std::vector<UnitSpec>& specs) {
  for (Unit& unit : units_) {
    unit.removed = true;
    unit.comes_back = false;
  }
  for (const UnitSpec& spec : specs) {
    Unit* unit = FindUnit(spec.name);
    if (unit == nullptr) {
      units_.push_back({.spec = spec,
                        .settings = {},
                        .processes = {},
                        .policy = RestartPolicy(options_.restart)});
      StartUnit(units_.back());
      continue;
    }
    unit->removed = false;
    unit->spec = spec;
    if (unit->leaving && !Runs(*unit)) {
      StartUnit(*unit);
    } else if (unit->leaving) {
      unit->comes_back = true;
    } else if (unit->settings != spec.settings) {
      LogWarn(
          "{} differs from the cluster file; it takes over the new settings when it starts "
          "again: tandem drain, then SIGHUP",
          spec.name);
    }
  }
  for (Unit& unit : units_) {
    if (!unit.removed || unit.leaving) continue;
    LogInfo("{} is not in the cluster file any more: draining it", unit.spec.name);
    unit.leaving = true;
    unit.start_at = 0;
    for (const Process& process : unit.processes) {
      if (process.pid != 0) kill(process.pid, SIGTERM);
    }
  }
}

Supervisor::Unit* Supervisor::FindUnit(const std::string& name) {
  for (Unit& unit : units_) {
    if (unit.spec.name == name) return &unit;
  }
  return nullptr;
}

void Supervisor::DropRemoved() {
  std::erase_if(units_, [](const Unit& unit) { return unit.removed && !Runs(unit); });
}

void Supervisor::Reap() {
  int status = 0;
  for (pid_t pid = 0; (pid = waitpid(-1, &status, WNOHANG | WUNTRACED | WCONTINUED)) > 0;) {
    for (Unit& unit : units_) {
      for (Process& process : unit.processes) {
        if (process.pid == pid) OnChange(unit, process, status);
      }
    }
  }
}

void Supervisor::OnChange(Unit& unit, Process& process, int wait_status) {
  if (WIFSTOPPED(wait_status)) {
    process.stopped_kill = MonotonicNow() + unit.spec.stopped_bound;
    LogWarn("{} is stopped by signal {}", process.spec.name, WSTOPSIG(wait_status));
    return;
  }
  process.stopped_kill = 0;
  if (WIFCONTINUED(wait_status)) {
    LogInfo("{} was continued", process.spec.name);
    return;
  }
  process.pid = 0;
  OnExit(unit, process, wait_status);
}

void Supervisor::OnExit(Unit& unit, const Process& process, int wait_status) {
  const std::string how = DescribeExit(wait_status);
  if (phase_ != Phase::kServing) {
    LogInfo("{} {}", process.spec.name, how);
    if (phase_ == Phase::kDraining && !unit.spec.is_router) FailUnit(unit);
    return;
  }
  const int code = WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : -1;
  if (code == kOperatorMistake || code == kNoDevice) {
    LogError("{} {}: see what it said above; stopping", process.spec.name, how);
    exit_code_ = code;
    BeginStop();
    return;
  }
  const bool told = WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == 0;
  if (told && !unit.spec.is_router && !unit.leaving) {
    LogInfo("{} was told to leave; SIGHUP starts it again", unit.spec.name);
    unit.leaving = true;
  }
  const Cause cause = CauseOf(process, wait_status);
  if (unit.leaving) {
    LogInfo("{} {}", process.spec.name, how);
  } else {
    LogWarn("{}", cause.text);
    if (!unit.failing || (unit.cause_follows && !cause.follows)) {
      unit.cause = cause.text;
      unit.cause_follows = cause.follows;
    }
  }
  FailUnit(unit);
  RestartWhenEmpty(unit);
}

void Supervisor::StartUnit(Unit& unit) {
  unit.started = MonotonicNow();
  unit.start_at = 0;
  unit.failing = false;
  unit.leaving = false;
  unit.comes_back = false;
  unit.settings = unit.spec.settings;
  unit.processes.clear();
  for (const ProcessSpec& process : unit.spec.processes) {
    unit.processes.push_back({process, 0, 0, std::make_unique<observe::LastError>()});
  }
  for (Process& process : unit.processes) {
    const StatusOr<pid_t> pid = StartProcess(process.spec.argv, *process.last_error);
    if (!pid.ok()) {
      LogError("{} does not start: {}", process.spec.name, Message(pid.status()));
      unit.cause = fmt::format("{} does not start: {}", process.spec.name, Message(pid.status()));
      unit.cause_follows = false;
      FailUnit(unit);
      RestartWhenEmpty(unit);
      return;
    }
    process.pid = *pid;
    LogInfo("started {}, pid {}", process.spec.name, process.pid);
  }
}

void Supervisor::FailUnit(Unit& unit) {
  if (unit.failing) return;
  const Nanos now = MonotonicNow();
  unit.failing = true;
  unit.pause = unit.policy.PauseAfter(now - unit.started);
  unit.kill_at = now + options_.unit_grace;
}

void Supervisor::RestartWhenEmpty(Unit& unit) {
  if (Runs(unit)) return;
  unit.kill_at = 0;
  if (unit.leaving) {
    if (unit.comes_back) StartUnit(unit);
    return;
  }
  unit.start_at = MonotonicNow() + unit.pause;
  if (const int failures = unit.policy.num_failures(); failures >= kFailuresWorthAnError) {
    LogError("{} has failed {} times in a row, now because {}; starting {} again in {} ms",
             unit.spec.name, failures, unit.cause, unit.spec.name, unit.pause / kMillisecond);
    return;
  }
  LogInfo("starting {} again in {} ms", unit.spec.name, unit.pause / kMillisecond);
}

// The kernel that ends a process for its memory says so to nobody but the cgroup's counter. Other
// SIGKILLs of a unit that fails are ours.
Supervisor::Cause Supervisor::CauseOf(const Process& process, int wait_status) {
  std::string text = fmt::format("{} {}", process.spec.name, DescribeExit(wait_status));
  if (WIFSIGNALED(wait_status) && WTERMSIG(wait_status) == SIGKILL) {
    const int64_t kills = ReadOomKills();
    const bool out_of_memory = kills > num_oom_kills_;
    num_oom_kills_ = kills;
    if (out_of_memory) {
      text +=
          ": the kernel, because the machine's or this cgroup's memory is used up; lower "
          "groups[].kv_memory";
    }
    return {text, !out_of_memory};
  }
  const int code = WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : -1;
  const std::string error = process.last_error->Read();
  if (!error.empty()) text += ": " + error;
  return {text, code == 0 || code == kGroupLost};
}

void Supervisor::RunTimers() {
  const Nanos now = MonotonicNow();
  KillStopped(now);
  for (Unit& unit : units_) {
    if (unit.kill_at != 0 && now >= unit.kill_at) {
      unit.kill_at = 0;
      for (const Process& process : unit.processes) {
        if (process.pid == 0) continue;
        LogWarn("{} outlived its {}: killing it", process.spec.name, unit.spec.name);
        kill(process.pid, SIGKILL);
      }
    }
    if (unit.start_at != 0 && now >= unit.start_at) StartUnit(unit);
  }
  if (bound_at_ != 0 && now >= bound_at_) EnforceBound();
}

void Supervisor::KillStopped(Nanos now) {
  for (Unit& unit : units_) {
    for (Process& process : unit.processes) {
      if (process.stopped_kill == 0 || now < process.stopped_kill) continue;
      process.stopped_kill = 0;
      LogWarn("{} has stood still for {} ms: killing it", process.spec.name,
              unit.spec.stopped_bound / kMillisecond);
      kill(process.pid, SIGKILL);
    }
  }
}

void Supervisor::BeginStop() {
  phase_ = Phase::kDraining;
  bound_at_ = MonotonicNow() + options_.router_bound;
  for (Unit& unit : units_) unit.start_at = 0;
  Signal(SIGTERM, true, false);
}

void Supervisor::StopWorkers() {
  phase_ = Phase::kStopping;
  bound_at_ = MonotonicNow() + options_.worker_bound;
  Signal(SIGTERM, false, true);
}

void Supervisor::AdvanceStop() {
  if (phase_ == Phase::kDraining && !AnyRuns(true, false)) StopWorkers();
  if (phase_ == Phase::kStopping && !AnyRuns(true, true)) {
    LogInfo("all processes have ended");
    ended_ = true;
  }
}

void Supervisor::EnforceBound() {
  if (killed_) {
    LogError("a process does not end, not even by SIGKILL; leaving it");
    exit_code_ = 1;
    ended_ = true;
  } else if (phase_ == Phase::kDraining) {
    LogWarn("the router takes too long to drain: killing it");
    Signal(SIGKILL, true, false);
    StopWorkers();
  } else {
    LogWarn("processes take too long to end: killing them");
    KillAll();
  }
}

void Supervisor::KillAll() {
  killed_ = true;
  phase_ = Phase::kStopping;
  bound_at_ = MonotonicNow() + kAfterKill;
  Signal(SIGKILL, true, true);
}

void Supervisor::Signal(int signal, bool routers, bool workers) {
  for (const Unit& unit : units_) {
    if (!(unit.spec.is_router ? routers : workers)) continue;
    for (const Process& process : unit.processes) {
      if (process.pid != 0) kill(process.pid, signal);
    }
  }
}

bool Supervisor::AnyRuns(bool routers, bool workers) const {
  for (const Unit& unit : units_) {
    if (!(unit.spec.is_router ? routers : workers)) continue;
    for (const Process& process : unit.processes) {
      if (process.pid != 0) return true;
    }
  }
  return false;
}

int Supervisor::PollTimeoutMs() const {
  Nanos next = std::numeric_limits<Nanos>::max();
  const auto consider = [&next](Nanos at) {
    if (at != 0) next = std::min(next, at);
  };
  consider(bound_at_);
  for (const Unit& unit : units_) {
    consider(unit.kill_at);
    consider(unit.start_at);
    for (const Process& process : unit.processes) consider(process.stopped_kill);
  }
  if (next == std::numeric_limits<Nanos>::max()) return -1;
  const Nanos left = std::max<Nanos>(0, next - MonotonicNow());
  return static_cast<int>(std::min<Nanos>(left / kMillisecond + 1, 3'600'000));
}

}  // namespace tandem::cli
