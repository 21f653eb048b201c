#include "worker/leader.h"

#include <utility>

#include "common/clock.h"
#include "common/observe/log.h"

namespace tandem::worker {
namespace {

// Requests that a router sent before it heard of the draining are still on their way.
constexpr Nanos kDrainGrace = 200 * kMillisecond;

// Of the first step: ranks may still be touching their KV memory.
constexpr Nanos kFirstStepLimit = 60 * kSecond;

}  // namespace

Leader::Leader(const LeaderOptions& options, Ranks& ranks, link::Bell& bell)
    : options_(options),
      ranks_(ranks),
      bell_(bell),
      engine_(options.engine),
      limit_(options.min_watchdog) {}

bool Leader::RunFirstStep() {
  if (!Publish(engine_.PlanIdle(), std::max(kFirstStepLimit, options_.min_watchdog))) return false;
  for (;;) {
    const uint32_t seen = bell_.count();
    if (ranks_.aborted()) return false;
    if (const StepResult* step = ranks_.Oldest()) {
      CommitOldest(*step, MonotonicNow());
      return true;
    }
    bell_.Wait(seen, kSecond);
  }
}

Leader::End Leader::Run(link::RouterLink& routers) {
  for (;;) {
    const uint32_t seen = bell_.count();
    if (const std::optional<End> end = Turn(routers)) return *end;
    bell_.Wait(seen, SleepTime(MonotonicNow()));
  }
}

std::optional<Leader::End> Leader::Turn(link::RouterLink& routers) {
  routers_ = &routers;
  CommitFinished();
  const Nanos now = MonotonicNow();
  TakeArrivals(now);
  if (!FillPipeline(now)) return End::kAborted;
  if (Drained(now)) return End::kDrained;
  return std::nullopt;
}

void Leader::StartDraining() {
  draining_.store(true, std::memory_order_release);
  bell_.Ring();
}

void Leader::TakeArrivals(Nanos now) {
  routers_->Drain(arrivals_);
  if (arrivals_.empty()) return;
  for (engine::Inbound& arrival : arrivals_) engine_.Handle(std::move(arrival), now);
  arrivals_.clear();
  Send(/*after_step=*/false, now);
}

void Leader::CommitFinished() {
  while (const StepResult* step = ranks_.Oldest()) {
    const Nanos now = MonotonicNow();
    CommitOldest(*step, now);
    Send(/*after_step=*/true, now);
  }
}

void Leader::CommitOldest(const StepResult& step, Nanos now) {
  engine_.Commit(step.rows, step.start, now);
  if (in_flight_[0].num_tokens > 0) {
    limit_.Observe(in_flight_[0].num_tokens, step.end - step.start);
  }
  ranks_.Pop();
  in_flight_[0] = in_flight_[1];
  --num_in_flight_;
}

// After a step every router is told, the idle ones too; in between only if something ended.
void Leader::Send(bool after_step, Nanos now) {
  link::StepOut out;
  engine_.TakeOutputs(out.outputs);
  if (!after_step && out.outputs.empty()) return;
  engine_.TakeKvEvents(out.kv_events);
  out.load = engine_.load(now);
  if (after_step) out.timing = engine_.last_step();
  out.committed_at = now;
  // The next report follows the step that is now in front, or one that is yet to be planned.
  const Nanos limit =
      num_in_flight_ > 0 ? in_flight_[0].limit : limit_.For(options_.engine.max_step_tokens);
  out.next_within = ShareOf(kLeaderShare, limit) + 2 * options_.idle_interval;
  routers_->SendStep(std::move(out));
}

bool Leader::FillPipeline(Nanos now) {
  while (num_in_flight_ < 2) {
    const StepPlan* plan = engine_.Plan(now);
    if (plan == nullptr) break;
    if (!Publish(*plan, limit_.For(static_cast<int>(plan->tokens.size())))) return false;
  }
  if (num_in_flight_ == 0 && now - last_published_ >= options_.idle_interval) {
    return Publish(engine_.PlanIdle(), options_.min_watchdog);
  }
  return !ranks_.aborted();
}

bool Leader::Publish(const StepPlan& plan, Nanos limit) {
  in_flight_[num_in_flight_++] = {static_cast<int>(plan.tokens.size()), limit};
  last_published_ = MonotonicNow();
  return ranks_.Publish(plan, limit);
}

bool Leader::Drained(Nanos now) {
  if (!draining_.load(std::memory_order_acquire)) return false;
  if (draining_since_ == 0) {
    draining_since_ = now;
    observe::LogInfo("draining: {} sequences to finish", engine_.num_sequences());
    routers_->StartDraining();
  }
  const Nanos age = now - draining_since_;
  if (age >= options_.drain_timeout) {
    observe::LogWarn("{} sequences were not finished in time", engine_.num_sequences());
    return true;
  }
  return age >= kDrainGrace && engine_.num_sequences() == 0 && num_in_flight_ == 0;
}

Nanos Leader::SleepTime(Nanos now) const {
  if (num_in_flight_ > 0) return kSecond;  // the result rings
  const Nanos idle = last_published_ + options_.idle_interval - now;
  return std::max<Nanos>(idle, kMillisecond);
}

}  // namespace tandem::worker
