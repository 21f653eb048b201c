#include "worker/leader.h"

#include <algorithm>
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
  if (!compiling_.empty()) TakeCompiled(now);
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
  for (engine::Inbound& arrival : arrivals_) Take(std::move(arrival), now);
  arrivals_.clear();
  Send(/*after_step=*/false, now);
}

void Leader::Take(engine::Inbound&& arrival, Nanos now) {
  auto* const request = std::get_if<engine::Generate>(&arrival);
  if (request == nullptr) {
    Forget(arrival);
    return engine_.Handle(std::move(arrival), now);
  }
  if (request->grammar.kind == grammar::GrammarSpec::Kind::kNone || options_.grammars == nullptr) {
    return engine_.Handle(std::move(arrival), now);
  }
  if (options_.grammars->Prepare(request->grammar)) return Admit(std::move(*request), now);
  if (compiling_.size() >= static_cast<size_t>(options_.engine.max_queued)) {
    return engine_.Reject(request->key, engine::FinishReason::kError,
                          fmt::format("{} sequences are waiting already", compiling_.size()),
                          engine::ErrorKind::kBusy);
  }
  compiling_.push_back({std::move(*request), now});
}

// Those whose grammar is there now, or whose deadline has passed.
void Leader::TakeCompiled(Nanos now) {
  const bool any_done = options_.grammars->AnyDone();
  const size_t before = compiling_.size();
  std::erase_if(compiling_, [&](Compiling& waiting) {
    const engine::Generate& request = waiting.request;
    if (request.deadline_in > 0 && now - waiting.arrived >= request.deadline_in) {
      engine_.Reject(request.key, engine::FinishReason::kDeadline, "", {});
      return true;
    }
    if (!any_done || !options_.grammars->Prepare(request.grammar)) return false;
    Admit(std::move(waiting.request), waiting.arrived);
    return true;
  });
  if (compiling_.size() != before) Send(/*after_step=*/false, now);
}

void Leader::Admit(engine::Generate&& request, Nanos arrived) {
  auto filter = options_.grammars->NewFilter(request.grammar);
  if (!filter.ok()) {
    return engine_.Reject(request.key, engine::FinishReason::kError,
                          std::string(Message(filter.status())), engine::ErrorKind::kGrammar);
  }
  engine_.Handle(std::move(request), arrived, *std::move(filter));
}

// A cancelled one ends as it would in the engine; nobody listens for those of a lost router.
void Leader::Forget(const engine::Inbound& arrival) {
  const auto* const cancel = std::get_if<engine::Cancel>(&arrival);
  const auto* const lost = std::get_if<engine::RouterLost>(&arrival);
  std::vector<grammar::GrammarSpec> forgotten;
  std::erase_if(compiling_, [&](Compiling& waiting) {
    const SequenceKey& key = waiting.request.key;
    const bool is_cancelled = cancel != nullptr && key == cancel->key;
    const bool is_lost = lost != nullptr && key.router == lost->router;
    if (is_cancelled) engine_.Reject(key, engine::FinishReason::kCancelled, "", {});
    if (!is_cancelled && !is_lost) return false;
    forgotten.push_back(std::move(waiting.request.grammar));
    return true;
  });
  for (const grammar::GrammarSpec& spec : forgotten) {
    const bool wanted = std::any_of(compiling_.begin(), compiling_.end(),
                                    [&](const Compiling& c) { return c.request.grammar == spec; });
    if (!wanted) options_.grammars->Abandon(spec);
  }
}

void Leader::CommitFinished() {
  while (const StepResult* step = ranks_.Oldest()) {
    const Nanos now = MonotonicNow();
    CommitOldest(*step, now);
    Send(/*after_step=*/true, now);
  }
}

void Leader::CommitOldest(const StepResult& step, Nanos now) {
  engine_.Commit(step.rows, step.start, now, step.embeddings);
  if (in_flight_[0].num_tokens > 0) {
    limit_.Observe(in_flight_[0].num_tokens, step.end - step.start);
  }
  ranks_.Pop();
  in_flight_[0] = in_flight_[1];
  --num_in_flight_;
}

// After a step every router is told, the idle ones too; in between only if something ended.
void Leader::Send(bool after_step, Nanos now) {
  engine_.TakeOutputs(out_.outputs);
  if (!after_step && out_.outputs.empty()) return;
  engine_.TakeKvEvents(out_.kv_events);
  out_.load = engine_.load(now);
  out_.timing = after_step ? engine_.last_step() : engine::StepTiming{};
  out_.committed_at = now;
  // The next report follows the step that is now in front, or one that is yet to be planned.
  const Nanos limit =
      num_in_flight_ > 0 ? in_flight_[0].limit : limit_.For(options_.engine.max_step_tokens);
  out_.next_within = ShareOf(kLeaderShare, limit) + 2 * options_.idle_interval;
  routers_->SendStep(std::move(out_));
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
    observe::LogInfo("draining: {} sequences to finish", num_sequences());
    routers_->StartDraining();
  }
  const Nanos age = now - draining_since_;
  if (age >= options_.drain_timeout) {
    observe::LogWarn("{} sequences were not finished in time", num_sequences());
    return true;
  }
  return age >= kDrainGrace && num_sequences() == 0 && num_in_flight_ == 0;
}

Nanos Leader::SleepTime(Nanos now) const {
  if (num_in_flight_ > 0) return kSecond;  // the result rings
  if (!compiling_.empty() || engine_.num_masks_pending() > 0) return kMillisecond;
  const Nanos idle = last_published_ + options_.idle_interval - now;
  return std::max<Nanos>(idle, kMillisecond);
}

}  // namespace tandem::worker
