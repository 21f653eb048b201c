// The thread of a process that decides whether its group still lives. It trusts progress alone: a
// step that takes longer than its limit, no step at all for too long, or a peer whose socket
// closed, and the group is lost. Also takes SIGTERM and SIGINT in, so that no other thread is
// interrupted.
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
  // Ranks that are not the leader wait this much longer, so that one process names the culprit.
  Nanos slack = 0;
  Nanos tick = 50 * kMillisecond;
  std::function<void()> on_signal;  // also, on the leader, when another rank was signalled
  // Told once, on the watchdog's thread, which then ends. The ranks found silent are dead already.
  std::function<void(const std::string& reason)> on_lost;
};

class Watchdog {
 public:
  // `link` is borrowed and agreed (RankLink::Agree).
  Watchdog(const WatchdogOptions& options, link::RankLink& link);
  ~Watchdog();  // an end that nobody needs to hear of

  // Any thread: the group is lost for a reason that this thread cannot see. Does not wait.
  void Report(const std::string& reason);

 private:
  void Run();
  // Empty: all is well.
  std::string Look(Nanos now);
  std::string LookAtProgress(Nanos now);
  std::string PeerGone(int peer);
  std::string TakeReport();
  int SilentRank(Nanos now) const;
  std::string Describe(int rank) const;
  void ReadSignal();
  void PassOnDrain();

  const WatchdogOptions options_;
  link::RankLink& link_;
  link::PlanRing& ring_;

  struct Beats {
    uint32_t count = 0;
    Nanos changed = 0;
  };
  std::vector<Beats> beats_;  // by rank
  Nanos last_look_ = 0;
  Nanos since_ = 0;  // the front step is in flight, or nothing is
  uint32_t front_ = 0;
  uint32_t published_ = 0;
  bool drain_passed_on_ = false;

  std::atomic<bool> stop_{false};
  Mutex mutex_;
  std::string report_ TANDEM_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace tandem::worker
