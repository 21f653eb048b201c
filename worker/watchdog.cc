#include "worker/watchdog.h"

#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>

#include "common/clock.h"
#include "common/observe/log.h"

namespace tandem::worker {
namespace {

// A process that has not beaten for this long is stopped, or as good as.
constexpr Nanos kNoBeat = kSecond;
// If this thread itself did not run for so long, nobody's silence means anything yet.
constexpr Nanos kOwnGap = kSecond;

}  // namespace

Watchdog::Watchdog(const WatchdogOptions& options, link::RankLink& link)
    : options_(options), link_(link), ring_(link.ring()), beats_(ring_.ranks()) {
  last_look_ = since_ = MonotonicNow();
  for (Beats& beats : beats_) beats.changed = since_;
  thread_ = std::thread([this] { Run(); });
}

Watchdog::~Watchdog() {
  stop_.store(true);
  thread_.join();
}

void Watchdog::Report(const std::string& reason) {
  MutexLock lock(mutex_);
  if (report_.empty()) report_ = reason;
}

std::string Watchdog::TakeReport() {
  MutexLock lock(mutex_);
  return report_;
}

void Watchdog::Run() {
  while (!stop_.load()) {
    const int peer = link_.PollPeers(options_.tick, options_.signal_fd);
    ReadSignal();
    PassOnDrain();
    ring_.Beat(link_.rank());
    // In an orderly end processes go one by one.
    if (ring_.shut_down()) {
      if (peer < 0) continue;
      if (link_.LivePeers().empty()) return;
      continue;
    }
    std::string reason = peer >= 0 ? PeerGone(peer) : Look(MonotonicNow());
    if (reason.empty()) reason = TakeReport();
    if (reason.empty()) continue;
    options_.on_lost(reason);
    return;
  }
}

void Watchdog::ReadSignal() {
  if (options_.signal_fd < 0) return;
  signalfd_siginfo info;
  while (::read(options_.signal_fd, &info, sizeof(info)) == sizeof(info)) {
    observe::LogInfo("signal {} from process {}", info.ssi_signo, info.ssi_pid);
    options_.on_signal();
  }
}

void Watchdog::PassOnDrain() {
  if (link_.rank() != 0 || drain_passed_on_ || !ring_.drain_requested()) return;
  drain_passed_on_ = true;
  options_.on_signal();
}

std::string Watchdog::PeerGone(int peer) { return fmt::format("{} has ended", Describe(peer)); }

std::string Watchdog::Describe(int rank) const {
  const int pid = rank == link_.rank() ? ::getpid() : link_.pid_of(rank);
  return pid < 0 ? fmt::format("rank {}", rank) : fmt::format("rank {} (process {})", rank, pid);
}

std::string Watchdog::Look(Nanos now) {
  const Nanos gap = now - last_look_;
  last_look_ = now;
  for (int r = 0; r < ring_.ranks(); ++r) {
    const uint32_t count = ring_.beats(r);
    if (count != beats_[r].count || gap > kOwnGap) beats_[r] = {count, now};
  }
  if (gap > kOwnGap) since_ += gap;
  return LookAtProgress(now);
}

std::string Watchdog::LookAtProgress(Nanos now) {
  const uint32_t published = ring_.num_published();
  uint32_t front = published;  // plans that all ranks are done with
  for (int r = 0; r < ring_.ranks(); ++r) {
    const uint32_t done = ring_.num_done(r);
    if (static_cast<int32_t>(done - front) < 0) front = done;
  }
  const bool was_idle = front_ == published_;
  if (front != front_ || (was_idle && published != published_)) since_ = now;
  front_ = front;
  published_ = published;
  if (published == 0) return "";  // ranks may still be loading; those that die are seen to
  const bool idle = front == published;
  const Nanos limit = (idle ? options_.idle_limit : ring_.limit(front)) + options_.slack;
  if (now - since_ <= limit) return "";
  const int silent = idle ? 0 : SilentRank(now);
  const Nanos waited = (now - since_) / kMillisecond;
  if (silent != link_.rank()) link_.Kill(silent);  // a stopped process sees no SIGTERM
  return idle ? fmt::format("{} planned no step for {} ms", Describe(silent), waited)
              : fmt::format("{} did not finish a step within {} ms", Describe(silent), waited);
}

// A process that does not run at all, else the one that has come least far.
int Watchdog::SilentRank(Nanos now) const {
  int silent = 0;
  const auto progress = [&](int r) { return ring_.num_done(r) + ring_.num_started(r); };
  for (int r = 0; r < ring_.ranks(); ++r) {
    if (r != link_.rank() && now - beats_[r].changed > kNoBeat) return r;
    if (static_cast<int32_t>(progress(r) - progress(silent)) < 0) silent = r;
  }
  return silent;
}

}  // namespace tandem::worker
