// The thread of a process that decides whether its group still lives, from the moment its ranks
// have met. It trusts progress alone; the group is lost when
//
//   always     a peer's socket closed, or something was reported
//   loading    a peer does not run at all, or this process has computed and read nothing for long
//   steps      a step takes longer than its limit, or none is planned for too long
//   shut down  an end that was asked for does not come, by the same limits
//
// It also takes SIGTERM and SIGINT in, so that no other thread is interrupted.
#pragma once

#include <atomic>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "common/ids.h"
#include "common/mutex.h"
#include "worker/link/rank_link.h"

namespace tandem::worker {

struct WatchdogOptions {
  int signal_fd = -1;
  Nanos idle_limit = 5 * kSecond;  // no plan published for this long: the engine thread is stuck
  // Until the first step is done: a peer that does not beat for so long is stopped, and a process
  // that does nothing at all for so long will never have loaded. Loading itself may take its time.
  Nanos silence_limit = 5 * kSecond;
  Nanos stall_limit = 60 * kSecond;
  double share = 1;  // of all these limits but stall_limit: see step_limit.h
  Nanos tick = 50 * kMillisecond;
  // Told once, on the watchdog's thread, which then ends. The ranks found silent are dead already,
  // the ring is aborted.
  std::function<void(const std::string& reason)> on_lost;
  // Told to stop before there are steps to drain; called once, on the watchdog's thread, which then
  // ends. The signal is not read.
  std::function<void()> on_stopped_loading;
};

class Watchdog {
 public:
  // Watches the loading. `link` is borrowed; its ranks have met (RankLink::WaitForRanks).
  Watchdog(const WatchdogOptions& options, link::RankLink& link);
  ~Watchdog();  // an end that nobody needs to hear of

  // Once: this process is ready for the first step; from here on steps are watched. `on_signal` is
  // called on the watchdog's thread; also, on the leader, when another rank was signalled.
  // REQUIRES: the ring is there (RankLink::Agree).
  void WatchSteps(std::function<void()> on_signal);

  // Any thread: the group is lost for a reason that this thread cannot see. Does not wait.
  void Report(const std::string& reason);

 private:
  void Run();
  // Why the group is lost; empty: all is well.
  std::string Look(Nanos now);
  std::string LookAtPeers(Nanos now);
  std::string LookAtLoading(Nanos now);
  std::string LookAtProgress(Nanos now);
  std::string PeerGone(int peer);
  std::string TakeReport();
  bool SawProgress();
  bool LeftEarly(int peer) const;
  bool FirstStepDone() const;
  int SilentRank(Nanos now) const;
  std::string Describe(int rank) const;
  void ReadSignal();
  bool Signalled() const;
  void PassOnDrain();

  const WatchdogOptions options_;
  link::RankLink& link_;
  std::function<void()> on_signal_;    // set before stepping_
  std::atomic<bool> stepping_{false};  // the ring is there
  link::PlanRing* ring_ = nullptr;     // this thread's; null while loading

  struct Beats {
    uint32_t count = 0;
    Nanos changed = 0;
  };
  std::vector<Beats> beats_;  // by rank
  Nanos last_look_ = 0;
  Nanos since_ = 0;  // the front step is in flight, or nothing is; while loading: nothing was done
  Nanos work_seen_ = 0;  // CPU time of the other threads of this process, when it last grew
  int64_t reads_seen_ = 0;
  uint32_t front_ = 0;
  uint32_t published_ = 0;
  bool shutting_down_ = false;
  bool drain_passed_on_ = false;

  std::atomic<bool> stop_{false};
  Mutex mutex_;
  std::string report_ TANDEM_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace tandem::worker
