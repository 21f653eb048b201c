// Both ends of the wire in one process over real sockets: a GroupListener that records, a leader's
// end that is driven by hand, and waiting for what another thread will do without sleeping on a
// guess.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/check.h"
#include "common/mutex.h"
#include "router/routing/messages.h"
#include "tests/support/running_link.h"
#include "worker/link/router_link.h"

namespace tandem::testing {

// Generous: reached only when the test fails.
inline constexpr std::chrono::seconds kPatience{60};

// Everything a router is told, in order, and a way to wait for it. The members below belong to the
// test's thread and change only within WaitUntil.
class RecordingListener : public routing::GroupListener {
 public:
  void OnGroupUp(const routing::GroupInfo& info) override {
    Change([this, info] { ups.push_back(info); });
  }
  void OnStep(routing::StepReport report) override {
    if (on_step) on_step();
    Change([this, report = std::move(report)] {
      ++num_steps;
      for (const auto& sequence : report.sequences) tokens.emplace_back(report.group, sequence);
      for (const auto& event : report.kv_events) events.emplace_back(report.group, event);
      last_load = report.load;
    });
  }
  void OnGroupLost(GroupId group, const std::string& reason) override {
    Change([this, group, reason] { losses.emplace_back(group, reason); });
  }
  void OnGroupDraining(GroupId group) override {
    Change([this, group] { draining.push_back(group); });
  }

  // Takes in what was told until `condition` holds. False: it never did.
  [[nodiscard]] bool WaitUntil(const std::function<bool()>& condition) {
    const auto until = std::chrono::steady_clock::now() + kPatience;
    for (;;) {
      std::vector<std::function<void()>> changes;
      {
        MutexLock lock(mutex_);
        changes.swap(changes_);
      }
      for (const auto& change : changes) change();
      if (condition()) return true;
      if (std::chrono::steady_clock::now() > until) return false;
      MutexLock lock(mutex_);
      if (changes_.empty()) changed_.WaitFor(mutex_, std::chrono::milliseconds(100));
    }
  }

  std::vector<routing::GroupInfo> ups;
  std::vector<std::pair<GroupId, routing::SequenceTokens>> tokens;
  std::vector<std::pair<GroupId, routing::KvEvent>> events;
  std::vector<std::pair<GroupId, std::string>> losses;
  std::vector<GroupId> draining;
  routing::GroupLoad last_load;
  int num_steps = 0;
  std::function<void()> on_step;  // link's thread; set before the link opens

 private:
  void Change(std::function<void()> change) {
    MutexLock lock(mutex_);
    changes_.push_back(std::move(change));
    changed_.NotifyAll();
  }
  Mutex mutex_;
  CondVar changed_;
  std::vector<std::function<void()>> changes_ TANDEM_GUARDED_BY(mutex_);
};

// A leader's end, driven by the test instead of an engine.
class FakeLeader {
 public:
  explicit FakeLeader(link::RouterLinkOptions options) {
    options.on_inbound = [this] {
      MutexLock lock(mutex_);
      ++rings_;
      arrived_.NotifyAll();
    };
    auto opened = link::RouterLink::Open(options);
    TANDEM_CHECK(opened.ok()) << Message(opened.status());
    link_ = std::move(opened).value();
  }

  // Drains into `inbound` until `condition` holds. False: it never did.
  [[nodiscard]] bool DrainUntil(const std::function<bool()>& condition) {
    const auto until = std::chrono::steady_clock::now() + kPatience;
    for (;;) {
      link_->Drain(inbound);
      if (condition()) return true;
      MutexLock lock(mutex_);
      if (rings_ == seen_) arrived_.WaitFor(mutex_, std::chrono::milliseconds(100));
      seen_ = rings_;
      if (std::chrono::steady_clock::now() > until) return false;
    }
  }

  link::RouterLink& link() { return *link_; }
  template <class T>
  int Count() const {
    int n = 0;
    for (const auto& message : inbound) n += std::holds_alternative<T>(message) ? 1 : 0;
    return n;
  }

  std::vector<engine::Inbound> inbound;

 private:
  Mutex mutex_;
  CondVar arrived_;
  int rings_ TANDEM_GUARDED_BY(mutex_) = 0;
  int seen_ TANDEM_GUARDED_BY(mutex_) = 0;
  std::unique_ptr<link::RouterLink> link_;  // last: its thread uses the others
};

inline link::RouterLinkOptions LeaderOptionsFor(const std::string& endpoint,
                                                const std::string& group = "g0",
                                                Nonce incarnation = 7) {
  link::RouterLinkOptions options;
  options.endpoints = {endpoint};
  options.self.build = "test";
  options.self.group = group;
  options.self.model = "tiny";
  options.self.fingerprint = "fp";
  options.self.hash_seed = "fp";
  options.self.dtype = "f32/f32";
  options.self.device_class = "cpu/reference";
  options.self.incarnation = incarnation;
  options.self.block_size = 16;
  options.self.tp = 1;
  options.self.max_context = 512;
  options.self.max_seqs = 8;
  options.self.max_step_tokens = 64;
  options.self.num_blocks = 100;
  options.self.watchdog = 60 * kSecond;
  options.hello_interval = 20 * kMillisecond;
  options.refused_interval = 50 * kMillisecond;
  options.router_silence = 60 * kSecond;
  return options;
}

// A step in which nothing happened.
inline link::StepOut EmptyStep() {
  link::StepOut step;
  step.next_within = 60 * kSecond;
  return step;
}

// A step with `count` tokens of one sequence: token i is i.
inline link::StepOut StepWith(const SequenceKey& key, int first, int count, bool last = false) {
  link::StepOut step = EmptyStep();
  engine::Output& output = step.outputs.emplace_back();
  output.key = key;
  output.first_index = first;
  for (int i = 0; i < count; ++i) output.tokens.push_back(first + i);
  if (last) output.finish = engine::FinishReason::kLength;
  return step;
}

}  // namespace tandem::testing
