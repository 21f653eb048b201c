// Starts a cluster's processes on this machine and keeps them running.
//
//   serving   a unit (the router; all ranks of a group) of which a process died is ended as a whole
//             and started again, see RestartPolicy; a group that exits with 0 was told to leave
//             (`tandem drain`) and stays away until the next SIGHUP
//   draining  after SIGTERM, SIGINT or the end of the terminal: the router gets SIGTERM and
//             finishes its streams
//   stopping  the router is gone: the workers get SIGTERM
//   ended     nothing runs any more: Run returns
//
// A process that stands still by SIGSTOP for longer than its unit's limit gets SIGKILL: nobody else
// may be left to notice (a group of one rank, or one whose ranks are all stopped). One that is
// continued in time goes on.
//
// What takes longer than its bound gets SIGKILL, and so does everything at the second signal of the
// same kind, if it comes a second or more after the first. A process that exits with 2 says that
// the operator must mend something: no restart, all of it stops.
//
// SIGHUP asks for the units anew (SupervisorOptions::reload): routers get SIGHUP, groups that are
// new or had left are started, those that are gone from the list get SIGTERM and leave.
//
// Thread: the main one (see StartProcess), and no other runs.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/ids.h"
#include "common/observe/last_error.h"
#include "common/status.h"
#include "deploy/cli/restart_policy.h"

namespace tandem::cli {

struct ProcessSpec {
  std::string name;  // "router", "worker g0/1"
  std::vector<std::string> argv;
};

struct UnitSpec {
  std::string name;  // "router", "group g0"
  bool is_router = false;
  std::vector<ProcessSpec> processes;
  Nanos stopped_bound = 5 * kSecond;  // how long a process of it may stand still
  std::string settings = {};          // of the cluster file; what differs is not what runs
};

struct SupervisorOptions {
  // What to run from now on; not OK: nothing changes, the message is logged. Null: SIGHUP does
  // nothing.
  std::function<StatusOr<std::vector<UnitSpec>>()> reload;
  RestartOptions restart;
  // After one process of a unit died, for the others to end by themselves: the leader uses it to
  // tell the routers.
  Nanos unit_grace = 2 * kSecond;
  Nanos router_bound = 65 * kSecond;  // to drain
  Nanos worker_bound = 5 * kSecond;   // to end, once idle
};

class Supervisor {
 public:
  Supervisor(const std::vector<UnitSpec>& units, const SupervisorOptions& options);

  // Exit code: 0 stopped on request, 2 a process exited with 2, 1 other.
  int Run();

 private:
  enum class Phase : uint8_t { kServing, kDraining, kStopping };

  struct Process {
    ProcessSpec spec;
    pid_t pid = 0;           // 0: does not run
    Nanos stopped_kill = 0;  // stopped, and killed then; 0: not stopped
    std::unique_ptr<observe::LastError> last_error = nullptr;
  };
  struct Unit {
    UnitSpec spec;         // of the next start
    std::string settings;  // of what runs
    std::vector<Process> processes;
    RestartPolicy policy;
    bool leaving = false;     // told to leave, or left: not started again
    bool comes_back = false;  // but wanted again since: started once all of it has ended
    bool removed = false;     // the cluster file has it no more
    Nanos started = 0;
    Nanos pause = 0;             // before the next start, decided when the first process died
    bool failing = false;        // a process died, the others are on their way out
    std::string cause = {};      // of its death: how the process ended that began it
    bool cause_follows = false;  // because another was gone, most likely: that one's is better
    Nanos kill_at = 0;           // 0: no
    Nanos start_at = 0;          // 0: no
  };

  Status CatchSignals();
  void WaitForSignals();
  void OnStopSignal(int signal);
  void OnHangup(int code);
  void Reload();
  void Merge(const std::vector<UnitSpec>& specs);
  Unit* FindUnit(const std::string& name);
  void Reap();
  void OnChange(Unit& unit, Process& process, int wait_status);
  void OnExit(Unit& unit, const Process& process, int wait_status);
  void StartUnit(Unit& unit);
  void FailUnit(Unit& unit);
  struct Cause {
    std::string text;
    bool follows;  // from the death of another process of the unit, most likely
  };
  Cause CauseOf(const Process& process, int wait_status);
  void RestartWhenEmpty(Unit& unit);
  void DropRemoved();
  void RunTimers();
  void KillStopped(Nanos now);
  void BeginStop();
  void StopWorkers();
  void AdvanceStop();
  void KillAll();
  void EnforceBound();
  void Signal(int signal, bool routers, bool workers);
  bool AnyRuns(bool routers, bool workers) const;
  int PollTimeoutMs() const;

  SupervisorOptions options_;
  std::vector<Unit> units_;
  Phase phase_ = Phase::kServing;
  Nanos bound_at_ = 0;  // of the phase; 0: none
  bool killed_ = false;
  bool ended_ = false;
  int exit_code_ = 0;
  Nanos first_[65] = {};   // stop signals by number: when the first came
  int64_t num_oom_kills_;  // of our cgroup, as far as they are accounted for
  int signal_fd_ = -1;
  bool hangup_ignored_ = false;  // the terminal may go: nohup
};

}  // namespace tandem::cli
