#include "worker/watchdog.h"

#include <poll.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include <utility>

#include "common/clock.h"
#include "common/observe/log.h"
#include "worker/step_limit.h"

namespace tandem::worker {
namespace {

// A process that has not beaten for this long is stopped, or as good as.
constexpr Nanos kNoBeat = kSecond;
// If this thread itself did not run for so long, nobody's silence means anything yet.
constexpr Nanos kOwnGap = kSecond;
// More than waking up now and then takes in a minute.
constexpr Nanos kSomeWork = 20 * kMillisecond;

Nanos CpuTime(clockid_t clock) {
  timespec time = {};
  ::clock_gettime(clock, &time);
  return time.tv_sec * kSecond + time.tv_nsec;
}

}  // namespace

Watchdog::Watchdog(const WatchdogOptions& options, link::RankLink& link)
    : options_(options), link_(link), beats_(static_cast<size_t>(link.tp())) {
  last_look_ = since_ = MonotonicNow();
  for (Beats& beats : beats_) beats.changed = since_;
  thread_ = std::thread([this] { Run(); });
}

Watchdog::~Watchdog() {
  stop_.store(true);
  thread_.join();
}

void Watchdog::WatchSteps(std::function<void()> on_signal) {
  on_signal_ = std::move(on_signal);
  link_.roll_call().SetReady(link_.rank());
  stepping_.store(true, std::memory_order_release);
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
  ::pthread_setname_np(::pthread_self(), "watchdog");
  while (!stop_.load()) {
    const int peer = link_.PollPeers(options_.tick, options_.signal_fd);
    if (ring_ == nullptr && stepping_.load(std::memory_order_acquire)) {
      ring_ = &link_.ring();
      since_ = MonotonicNow();
    }
    link_.roll_call().Beat(link_.rank());
    if (ring_ != nullptr) {
      ReadSignal();
      PassOnDrain();
    } else if (Signalled()) {
      options_.on_stopped_loading();
      return;
    }
    std::string reason = peer >= 0 && LeftEarly(peer) ? PeerGone(peer) : Look(MonotonicNow());
    if (reason.empty()) reason = TakeReport();
    if (reason.empty()) continue;
    if (ring_ != nullptr) ring_->Abort();
    options_.on_lost(reason);
    return;
  }
}

// In an orderly end processes go one by one, when they are done with all steps.
bool Watchdog::LeftEarly(int peer) const {
  return ring_ == nullptr || !ring_->shut_down() || ring_->num_done(peer) != ring_->num_published();
}

void Watchdog::ReadSignal() {
  if (options_.signal_fd < 0) return;
  signalfd_siginfo info;
  while (::read(options_.signal_fd, &info, sizeof(info)) == sizeof(info)) {
    observe::LogInfo("signal {} from process {}", info.ssi_signo, info.ssi_pid);
    on_signal_();
  }
}

bool Watchdog::Signalled() const {
  pollfd signal = {options_.signal_fd, POLLIN, 0};
  return ::poll(&signal, 1, 0) > 0;
}

void Watchdog::PassOnDrain() {
  if (link_.rank() != 0 || drain_passed_on_ || !ring_->drain_requested()) return;
  drain_passed_on_ = true;
  on_signal_();
}

std::string Watchdog::PeerGone(int peer) { return fmt::format("{} has ended", Describe(peer)); }

std::string Watchdog::Describe(int rank) const {
  const std::string name =
      rank == link_.rank() ? fmt::format("process {}", ::getpid()) : link_.name_of(rank);
  return name.empty() ? fmt::format("rank {}", rank) : fmt::format("rank {} ({})", rank, name);
}

std::string Watchdog::Look(Nanos now) {
  const Nanos gap = now - last_look_;
  last_look_ = now;
  for (int r = 0; r < link_.tp(); ++r) {
    const uint32_t count = link_.roll_call().beats(r);
    Beats& beats = beats_[static_cast<size_t>(r)];
    if (count != beats.count || gap > kOwnGap) beats = {count, now};
  }
  if (gap > kOwnGap) since_ += gap;
  std::string reason = FirstStepDone() ? "" : LookAtPeers(now);
  if (!reason.empty()) return reason;
  return ring_ == nullptr ? LookAtLoading(now) : LookAtProgress(now);
}

bool Watchdog::FirstStepDone() const { return ring_ != nullptr && front_ != 0; }

std::string Watchdog::LookAtPeers(Nanos now) {
  for (const int peer : link_.LivePeers()) {
    const Nanos silent = now - beats_[static_cast<size_t>(peer)].changed;
    if (silent <= ShareOf(options_.share, options_.silence_limit)) continue;
    link_.Kill(peer);  // a stopped process sees no SIGTERM
    return fmt::format("{} stands still since {} ms, before the first step", Describe(peer),
                       silent / kMillisecond);
  }
  return "";
}

// Others look at themselves. A rank that has loaded waits for them, for as long as they take.
std::string Watchdog::LookAtLoading(Nanos now) {
  if (SawProgress() || link_.waits_for_ranks()) since_ = now;
  if (now - since_ <= options_.stall_limit) return "";
  return fmt::format("{} did nothing for {} ms while it was loading", Describe(link_.rank()),
                     (now - since_) / kMillisecond);
}

// Other threads of this process have computed, or memory came from a disk.
bool Watchdog::SawProgress() {
  const Nanos work = CpuTime(CLOCK_PROCESS_CPUTIME_ID) - CpuTime(CLOCK_THREAD_CPUTIME_ID);
  rusage usage = {};
  ::getrusage(RUSAGE_SELF, &usage);
  const int64_t reads = usage.ru_majflt + usage.ru_inblock;
  if (work - work_seen_ < kSomeWork && reads == reads_seen_) return false;
  work_seen_ = work;
  reads_seen_ = reads;
  return true;
}

std::string Watchdog::LookAtProgress(Nanos now) {
  const uint32_t published = ring_->num_published();
  uint32_t front = published;  // plans that all ranks are done with
  for (int r = 0; r < ring_->ranks(); ++r) {
    const uint32_t done = ring_->num_done(r);
    if (static_cast<int32_t>(done - front) < 0) front = done;
  }
  const bool was_idle = front_ == published_;
  if (front != front_ || (was_idle && published != published_)) since_ = now;
  if (!std::exchange(shutting_down_, ring_->shut_down()) && shutting_down_) since_ = now;
  front_ = front;
  published_ = published;
  if (published == 0 && !link_.roll_call().ready(0)) since_ = now;  // it looks at itself
  const bool idle = front == published;
  const Nanos limit =
      idle ? (published == 0 ? options_.stall_limit : options_.idle_limit) : ring_->limit(front);
  if (now - since_ <= ShareOf(options_.share, limit)) return "";
  const Nanos waited = (now - since_) / kMillisecond;
  if (idle && shutting_down_) {
    return fmt::format("{} did not end within {} ms", Describe(link_.rank()), waited);
  }
  const int silent = idle ? 0 : SilentRank(now);
  if (silent != link_.rank()) link_.Kill(silent);  // a stopped process sees no SIGTERM
  return idle ? fmt::format("{} planned no step for {} ms", Describe(silent), waited)
              : fmt::format("{} did not finish a step within {} ms", Describe(silent), waited);
}

// A process that does not run at all, else the one that has come least far.
int Watchdog::SilentRank(Nanos now) const {
  int silent = 0;
  const auto progress = [&](int r) { return ring_->num_done(r) + ring_->num_started(r); };
  for (int r = 0; r < ring_->ranks(); ++r) {
    if (r != link_.rank() && now - beats_[static_cast<size_t>(r)].changed > kNoBeat) return r;
    if (static_cast<int32_t>(progress(r) - progress(silent)) < 0) silent = r;
  }
  return silent;
}

}  // namespace tandem::worker
