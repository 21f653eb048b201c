#include "bench/sim/simulation.h"

#include <algorithm>
#include <deque>
#include <queue>
#include <utility>
#include <variant>
#include <vector>

#include "bench/sim/messages.h"
#include "common/check.h"

namespace tandem::simulator {
namespace {

// What is on its way. All of one kind take equally long, so a queue is in order of arrival.
struct RequestUnderway {
  Nanos at = 0;
  int32_t group = 0;
  engine::Generate request;
};
struct ReportUnderway {
  Nanos at = 0;
  size_t router = 0;
  std::unique_ptr<routing::StepReport> report;
};

// Ends of running steps, earliest first, then by group: at most one for each group.
struct StepEnd {
  Nanos at = 0;
  int32_t group = 0;
  auto operator<=>(const StepEnd&) const = default;
};

class Simulation {
 public:
  Simulation(const Trace& trace, std::span<const GroupSpec> specs, const SimulationOptions& options,
             const PolicyMaker& make_policy);
  RawResult Run();

 private:
  Nanos NextEvent() const;
  void RunEvent(Nanos at);

  // What can happen.
  void Arrive();
  void DeliverRequest();
  void DeliverReport();
  void EndStep();
  void Wake(Nanos at);

  void Dispatch(size_t router, const routing::Dispatch& dispatch);
  void Reject(const routing::Rejection& rejection);
  void Poll(size_t router);
  void Publish(int32_t group);
  void Record(const engine::Output& output, int32_t group);
  void WatchStep(int32_t group, Nanos end_before);
  std::unique_ptr<routing::StepReport> NewReport();
  Outcome& OutcomeOf(RequestId id) { return result_.outcomes[id - 1]; }
  RequestId& LastSeen(int32_t group, size_t router) {
    return last_seen_[static_cast<size_t>(group) * routers_.size() + router];
  }

  const Trace& trace_;
  const SimulationOptions options_;
  Nanos now_ = 0;
  std::deque<VirtualGroup> groups_;  // never moved
  std::deque<routing::Dispatcher> routers_;
  std::vector<RequestId> last_seen_;  // [groups, routers]
  int vocab_size_ = 0;

  size_t next_arrival_ = 0;
  std::deque<RequestUnderway> requests_;
  std::deque<ReportUnderway> reports_;
  std::priority_queue<StepEnd, std::vector<StepEnd>, std::greater<>> step_ends_;

  RawResult result_;

  // Reused.
  GroupOut out_;
  std::vector<TokenId> prompt_;  // of the request being submitted
  RequestId prompt_of_ = 0;
  std::vector<std::unique_ptr<routing::StepReport>> spare_reports_;
  std::vector<routing::Dispatch> dispatches_;
  std::vector<routing::Rejection> rejections_;
};

Simulation::Simulation(const Trace& trace, std::span<const GroupSpec> specs,
                       const SimulationOptions& options, const PolicyMaker& make_policy)
    : trace_(trace), options_(options) {
  TANDEM_CHECK(!specs.empty() && !trace.requests.empty()) << "nothing to simulate";
  vocab_size_ = specs[0].engine.vocab_size;
  for (const GroupSpec& spec : specs) groups_.emplace_back(spec);
  for (int r = 0; r < options.num_routers; ++r) {
    routers_.emplace_back(options.dispatcher, make_policy(),
                          options.seed + static_cast<uint64_t>(r));
    for (size_t g = 0; g < specs.size(); ++g) {
      routers_.back().GroupUp(Describe(specs[g], {static_cast<int32_t>(g)}), now_);
    }
  }
  last_seen_.resize(groups_.size() * routers_.size());
  result_.outcomes.resize(trace.requests.size());
  result_.windows = LoadWindows(static_cast<int>(specs.size()), options.load_window);
}

RawResult Simulation::Run() {
  for (Nanos at = NextEvent(); at != kNever; at = NextEvent()) {
    TANDEM_CHECK(at >= now_) << "time goes back from " << now_ << " to " << at;
    now_ = at;
    RunEvent(at);
  }
  for (const VirtualGroup& group : groups_) {
    TANDEM_CHECK(group.engine().num_sequences() == 0) << "a group is left with work";
    result_.busy.push_back(group.busy());
    result_.num_preemptions += static_cast<int64_t>(group.engine().num_preemptions());
  }
  result_.duration = now_;
  return std::move(result_);
}

Nanos Simulation::NextEvent() const {
  Nanos at = kNever;
  if (!reports_.empty()) at = std::min(at, reports_.front().at);
  if (!requests_.empty()) at = std::min(at, requests_.front().at);
  if (!step_ends_.empty()) at = std::min(at, step_ends_.top().at);
  if (next_arrival_ < trace_.requests.size()) {
    at = std::min(at, trace_.requests[next_arrival_].arrival);
  }
  for (const routing::Dispatcher& router : routers_) {
    const Nanos wake = router.next_wake();
    if (wake != 0) at = std::min(at, std::max(wake, now_));
  }
  return at;
}

// One event of those due at `at`, in this order.
void Simulation::RunEvent(Nanos at) {
  if (!reports_.empty() && reports_.front().at == at) {
    DeliverReport();
  } else if (!requests_.empty() && requests_.front().at == at) {
    DeliverRequest();
  } else if (!step_ends_.empty() && step_ends_.top().at == at) {
    EndStep();
  } else if (next_arrival_ < trace_.requests.size() &&
             trace_.requests[next_arrival_].arrival == at) {
    Arrive();
  } else {
    Wake(at);
  }
}

void Simulation::Arrive() {
  const size_t index = next_arrival_++;
  const TraceRequest& request = trace_.requests[index];
  MakePrompt(trace_, index, vocab_size_, prompt_);
  prompt_of_ = index + 1;
  Outcome& outcome = OutcomeOf(prompt_of_);
  outcome.arrival = now_;
  outcome.prompt_tokens = request.prompt_tokens;
  const size_t router = index % routers_.size();
  routing::RouteRequest route;
  route.id = prompt_of_;
  route.prompt = prompt_;
  route.max_tokens = request.output_tokens;
  const routing::Decision decision = routers_[router].Submit(route, now_);
  if (const auto* dispatch = std::get_if<routing::Dispatch>(&decision)) {
    Dispatch(router, *dispatch);
  } else if (const auto* rejection = std::get_if<routing::Rejection>(&decision)) {
    Reject(*rejection);
  }
}

void Simulation::Dispatch(size_t router, const routing::Dispatch& dispatch) {
  const size_t index = dispatch.id - 1;
  if (prompt_of_ != dispatch.id) MakePrompt(trace_, index, vocab_size_, prompt_);
  prompt_of_ = 0;  // moved away below
  Outcome& outcome = OutcomeOf(dispatch.id);
  outcome.group = dispatch.group.value;
  outcome.sent_at = now_;
  outcome.predicted_ttft = dispatch.predicted_ttft;
  engine::Generate request;
  request.key = {.router = router + 1, .request = dispatch.id, .attempt = dispatch.attempt};
  request.prompt = std::move(prompt_);
  request.max_tokens = trace_.requests[index].output_tokens;
  request.priority = dispatch.priority;
  request.deadline_in = dispatch.deadline_in;
  requests_.push_back({now_ + options_.link_delay, dispatch.group.value, std::move(request)});
}

void Simulation::Reject(const routing::Rejection& rejection) {
  OutcomeOf(rejection.id).end = Outcome::End::kRejected;
}

void Simulation::Poll(size_t router) {
  if (routers_[router].num_queued() == 0) return;
  dispatches_.clear();
  rejections_.clear();
  routers_[router].Poll(now_, dispatches_, rejections_);
  for (const routing::Dispatch& dispatch : dispatches_) Dispatch(router, dispatch);
  for (const routing::Rejection& rejection : rejections_) Reject(rejection);
}

void Simulation::Wake(Nanos at) {
  for (size_t router = 0; router < routers_.size(); ++router) {
    const Nanos wake = routers_[router].next_wake();
    if (wake == 0 || wake > at) continue;
    Poll(router);
    const Nanos next = routers_[router].next_wake();
    TANDEM_CHECK(next == 0 || next > at) << "router " << router << " wants to be woken for ever";
  }
}

void Simulation::DeliverRequest() {
  RequestUnderway underway = std::move(requests_.front());
  requests_.pop_front();
  const auto router = static_cast<size_t>(underway.request.key.router - 1);
  LastSeen(underway.group, router) = underway.request.key.request;
  VirtualGroup& group = groups_[static_cast<size_t>(underway.group)];
  const Nanos end_before = group.step_end();
  if (group.Deliver(std::move(underway.request), now_, out_)) Publish(underway.group);
  WatchStep(underway.group, end_before);
}

void Simulation::EndStep() {
  const int32_t id = step_ends_.top().group;
  step_ends_.pop();
  VirtualGroup& group = groups_[static_cast<size_t>(id)];
  const Nanos busy_before = group.busy();
  group.FinishStep(now_, out_);
  ++result_.num_steps;
  result_.windows.Add(id, now_, group.busy() - busy_before);
  Publish(id);
  WatchStep(id, kNever);
}

void Simulation::WatchStep(int32_t group, Nanos end_before) {
  const Nanos end = groups_[static_cast<size_t>(group)].step_end();
  if (end != kNever && end != end_before) step_ends_.push({end, group});
}

// Tokens go to clients, reports to all routers.
void Simulation::Publish(int32_t group) {
  for (const engine::Output& output : out_.outputs) Record(output, group);
  for (size_t router = 0; router < routers_.size(); ++router) {
    std::unique_ptr<routing::StepReport> report = NewReport();
    Translate(out_, {group}, router + 1, LastSeen(group, router), *report);
    reports_.push_back(
        {now_ + options_.link_delay + options_.report_delay, router, std::move(report)});
  }
}

void Simulation::Record(const engine::Output& output, int32_t group) {
  const Nanos at = now_ + options_.link_delay;
  Outcome& outcome = OutcomeOf(output.key.request);
  TANDEM_CHECK(outcome.end == Outcome::End::kNone && outcome.group == group)
      << "request " << output.key.request << " hears of group " << group << " after its end";
  if (!output.tokens.empty()) {
    if (outcome.first_token < 0) {
      outcome.first_token = at;
    } else {
      result_.itl_ms.push_back(
          static_cast<float>(static_cast<double>(at - outcome.last_token) / 1e6));
    }
    outcome.last_token = at;
    outcome.output_tokens += static_cast<int32_t>(output.tokens.size());
    outcome.cached_tokens = output.timings.num_cached_tokens;
  }
  if (output.finish == engine::FinishReason::kNone) return;
  const bool whole = output.finish == engine::FinishReason::kLength;
  outcome.end = whole ? Outcome::End::kFinished : Outcome::End::kFailed;
}

std::unique_ptr<routing::StepReport> Simulation::NewReport() {
  if (spare_reports_.empty()) return std::make_unique<routing::StepReport>();
  std::unique_ptr<routing::StepReport> report = std::move(spare_reports_.back());
  spare_reports_.pop_back();
  return report;
}

void Simulation::DeliverReport() {
  ReportUnderway underway = std::move(reports_.front());
  reports_.pop_front();
  underway.report->received_at = now_;
  routers_[underway.router].OnReport(*underway.report);
  Poll(underway.router);
  spare_reports_.push_back(std::move(underway.report));
}

}  // namespace

RawResult Simulate(const Trace& trace, std::span<const GroupSpec> groups,
                   const SimulationOptions& options, const PolicyMaker& make_policy) {
  return Simulation(trace, groups, options, make_policy).Run();
}

}  // namespace tandem::simulator
