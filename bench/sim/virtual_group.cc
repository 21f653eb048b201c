#include "bench/sim/virtual_group.h"

#include <cmath>
#include <utility>

#include "common/check.h"
#include "common/hash.h"

namespace tandem::simulator {

VirtualGroup::VirtualGroup(const GroupSpec& spec)
    : profile_(spec.profile),
      slowdown_(spec.slowdown),
      vocab_size_(static_cast<uint64_t>(spec.engine.vocab_size)),
      engine_(spec.engine),
      work_(engine::Engine::LimitsOf(spec.engine).max_rows),
      results_(static_cast<size_t>(engine::Engine::LimitsOf(spec.engine).max_rows)),
      sampled_(HashBytes(spec.name).low) {}

bool VirtualGroup::Deliver(engine::Inbound&& arrival, Nanos now, GroupOut& out) {
  engine_.Handle(std::move(arrival), now);
  engine_.TakeOutputs(out.outputs);
  const bool ended = !out.outputs.empty();
  if (ended) Report(/*after_step=*/false, now, out);
  FillPipeline(now);
  return ended;
}

void VirtualGroup::FinishStep(Nanos now, GroupOut& out) {
  TANDEM_CHECK(now == step_end()) << now << " is not the end of the step, " << step_end();
  const Step step = in_flight_[0];
  in_flight_[0] = in_flight_[1];
  --num_in_flight_;
  busy_ += step.duration;
  Sample(step.num_rows);
  engine_.Commit(std::span(results_).first(step.num_rows), step.start, now);
  engine_.TakeOutputs(out.outputs);
  Report(/*after_step=*/true, now, out);
  FillPipeline(now);
}

// What replies say does not matter here, only that no two are alike: they share no prefix.
void VirtualGroup::Sample(size_t num_rows) {
  for (size_t i = 0; i < num_rows; ++i) {
    sampled_ = sampled_ * 0xD1342543DE82EF95ULL + 1;  // a linear congruential generator
    results_[i].token = static_cast<TokenId>(((sampled_ >> 32) * vocab_size_) >> 32);
  }
}

void VirtualGroup::Report(bool after_step, Nanos now, GroupOut& out) {
  engine_.TakeKvEvents(out.kv_events);
  out.load = engine_.load(now);
  out.timing = after_step ? engine_.last_step() : engine::StepTiming{};
}

void VirtualGroup::FillPipeline(Nanos now) {
  while (num_in_flight_ < 2) {
    const StepPlan* plan = engine_.Plan(now);
    if (plan == nullptr) return;
    Step& step = in_flight_[num_in_flight_];
    step.num_rows = plan->rows.size();
    step.start = num_in_flight_ == 0 ? now : in_flight_[0].end;
    const Nanos duration = StepTime(profile_, work_.Apply(*plan));
    step.duration = std::llround(static_cast<double>(duration) * slowdown_);
    step.end = step.start + step.duration;
    ++num_in_flight_;
  }
}

}  // namespace tandem::simulator
