#include "router/routing/dispatcher.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "common/check.h"

namespace tandem::routing {
namespace {

// Levels of priority in a group for each class of requests, and for a client that has no lead while
// there are others: enough that its prompts of any usual length go first there
// (engine.planning.ageing: a level is worth 4,096 tokens).
constexpr int32_t kLevelsPerClass = 16, kLevelsOfShare = 8;
constexpr int32_t kMaxClass = 1000;

// What may wait at a group, in full steps, for a client that had more than its share to be sent
// there too: the step that runs, so that the group never runs dry for fairness' sake.
constexpr double kStepsBeyondShare = 1;
constexpr double kStepsOfLead = 8;
constexpr double kAnyLead = std::numeric_limits<double>::infinity();

// Until the first report sets the scale of predictions, in full steps too.
constexpr double kStepsUncalibrated = 16;

// Before that many steps of a class the error of a prediction says nothing of one group.
constexpr int64_t kStepsToFit = 100;

double ToSeconds(Nanos n) { return static_cast<double>(n) / kSecond; }
Nanos ToNanos(double seconds) { return static_cast<Nanos>(seconds * kSecond); }

double FullStep(const GroupState& group) {
  return group.speed *
         group.model->Seconds({.prefill_tokens = static_cast<double>(group.info->max_step_tokens),
                               .decodes = static_cast<double>(group.load->num_running),
                               .context_tokens = static_cast<double>(group.load->context_tokens)});
}

}  // namespace

Dispatcher::Dispatcher(const DispatcherOptions& options, std::unique_ptr<Policy> policy,
                       uint64_t seed)
    : options_(options), policy_(std::move(policy)), rng_(seed) {
  TANDEM_CHECK(policy_ != nullptr) << "a dispatcher needs a policy";
}

void Dispatcher::GroupUp(const GroupInfo& info, Nanos now) {
  const auto at = std::lower_bound(ids_.begin(), ids_.end(), info.id);
  TANDEM_CHECK(at == ids_.end() || *at != info.id) << "group " << info.id.value << " is up twice";
  Group group;
  group.info = info;
  group.name_hash = HashBytes(info.name).low;
  group.load.free_blocks = group.load.total_blocks = info.num_blocks;
  group.reported_at = now;
  group.model = ModelOf(info.device_class);
  groups_.insert(groups_.begin() + (at - ids_.begin()), std::move(group));
  ids_.insert(at, info.id);
  AddDomain(info);
}

// A class that comes new is taken for the one known best: in one pool times must be comparable.
LatencyModel* Dispatcher::ModelOf(const std::string& device_class) {
  const auto found = models_.find(device_class);
  if (found != models_.end()) return &found->second;
  const auto best =
      std::max_element(models_.begin(), models_.end(), [](const auto& a, const auto& b) {
        return a.second.num_observed() < b.second.num_observed();
      });
  LatencyModel model = best == models_.end() ? LatencyModel() : LatencyModel::Like(best->second);
  return &models_.emplace(device_class, model).first->second;
}

void Dispatcher::AddDomain(const GroupInfo& info) {
  if (info.block_size <= 0) return;
  const bool known = std::any_of(domains_.begin(), domains_.end(), [&](const Domain& d) {
    return d.hash_seed == info.hash_seed && d.block_size == info.block_size;
  });
  if (!known) domains_.push_back({info.hash_seed, info.block_size});
}

Dispatcher::Group* Dispatcher::Find(GroupId group) {
  const auto at = std::lower_bound(ids_.begin(), ids_.end(), group);
  return at == ids_.end() || *at != group ? nullptr
                                          : &groups_[static_cast<size_t>(at - ids_.begin())];
}

const GroupInfo* Dispatcher::FindGroup(GroupId group) const {
  const Group* found = const_cast<Dispatcher*>(this)->Find(group);
  return found == nullptr ? nullptr : &found->info;
}

void Dispatcher::GroupDraining(GroupId group) {
  if (Group* found = Find(group)) found->draining = true;
}

std::vector<Attempt> Dispatcher::GroupLost(GroupId group) {
  const Group* found = Find(group);
  if (found == nullptr) return {};
  const auto at = found - groups_.data();
  groups_.erase(groups_.begin() + at);
  ids_.erase(ids_.begin() + at);
  std::vector<Attempt> lost = ledger_.GroupLost(group);
  for (const Attempt& attempt : lost) index_.Settle(attempt.key.request);
  index_.Clear(group);
  return lost;
}

void Dispatcher::OnReport(const StepReport& report) {
  Group* group = Find(report.group);
  if (group == nullptr) return;
  ApplyEvents(report);
  const GroupLoad& load = report.load;
  ledger_.Reported(report.group, load.last_request_seen);
  const StepFeatures step{.prefill_tokens = static_cast<double>(load.step_prefill_tokens),
                          .attention = static_cast<double>(load.step_prefill_attention),
                          .decodes = static_cast<double>(load.step_decodes),
                          .context_tokens = static_cast<double>(load.step_context_tokens)};
  if (load.step_duration > 0 && (load.step_prefill_tokens > 0 || load.step_decodes > 0)) {
    if (group->model->num_observed() >= kStepsToFit) {
      group->speed.Observe(group->model->Seconds(step), ToSeconds(load.step_duration));
    }
    group->model->Observe(
        step, static_cast<Nanos>(static_cast<double>(load.step_duration) / group->speed.factor()));
  }
  group->load = load;
  group->reported_at = report.received_at;
  for (const SequenceTokens& sequence : report.sequences) {
    OnSequence(sequence, report.received_at);
  }
}

void Dispatcher::ApplyEvents(const StepReport& report) {
  std::span<const KvEvent> events = report.kv_events;
  for (;;) {
    events = events.subspan(index_.Apply(report.group, events));
    if (events.empty()) return;
    // What is known of the group is behind the truth from here on, which only costs hits.
    ++num_event_gaps_;
    index_.Clear(report.group);
  }
}

void Dispatcher::OnSequence(const SequenceTokens& sequence, Nanos now) {
  // Nothing to note: spares a look-up for most tokens.
  if (sequence.first_index > 0 && sequence.finish == FinishReason::kNone) return;
  const AttemptKey key{sequence.request, sequence.attempt};
  const Attempt* attempt = ledger_.Find(key);
  if (attempt == nullptr) return;  // late
  const bool cancelled = attempt->state == Attempt::State::kCancelling;
  if (attempt->prefilling && (!sequence.tokens.empty() || !sequence.embedding.empty())) {
    if (!cancelled) error_.Observe(attempt->predicted_ttft, now - attempt->sent_at);
    index_.Settle(sequence.request);  // its events came in this report or before it
    shares_.Served(attempt->uncached_tokens);
    ledger_.Progressed(key);
  }
  if (sequence.finish == FinishReason::kNone) return;
  if (!cancelled) index_.Settle(sequence.request);
  ledger_.Finished(key, sequence.finish);
}

Decision Dispatcher::Submit(const RouteRequest& request, Nanos now) {
  Describe(request, now);
  if (!queue_.Holds(current_.client)) shares_.Join(current_.client, now);
  View(current_, now);
  if (views_.empty()) return Reject(current_, Rejection::Why::kNoGroup, now);
  current_.own_tokens = views_[0].prediction.own_tokens;
  for (const GroupView& view : views_) {
    current_.own_tokens = std::min(current_.own_tokens, view.prediction.own_tokens);
  }
  const double max_lead = WithinShare(current_.client) ? MaxLead() : kAnyLead;
  const auto next = queue_.Next(shares_, max_lead, now);
  if (next && !AdmissionQueue::Precedes(current_, queue_.at(*next), shares_, now)) {
    return Enqueue(now);
  }
  Dispatch dispatch;
  switch (TrySend(current_, now, dispatch)) {
    case Verdict::kSent:
      return dispatch;
    case Verdict::kNoRoom:
      return Enqueue(now);
    case Verdict::kLate:
      return Reject(current_, Rejection::Why::kDeadline, now);
    case Verdict::kNoGroup:
      break;
  }
  return Reject(current_, Rejection::Why::kNoGroup, now);
}

void Dispatcher::Describe(const RouteRequest& request, Nanos now) {
  const Nanos deadline = request.deadline > 0 ? request.deadline : options_.default_deadline;
  current_.id = request.id;
  current_.attempt = request.attempt;
  current_.prompt_tokens = static_cast<int32_t>(request.prompt.size());
  current_.max_tokens = request.max_tokens;
  current_.embeds = request.embeds;
  current_.priority = std::clamp(request.priority, -kMaxClass, kMaxClass);
  current_.client = request.client;
  current_.session = request.session;
  current_.queued_at = now;
  current_.deadline = deadline > 0 ? now + deadline : 0;
  HashPrompt(request);
}

void Dispatcher::HashPrompt(const RouteRequest& request) {
  current_.chains.resize(domains_.size());
  for (size_t d = 0; d < domains_.size(); ++d) {
    const auto size = static_cast<size_t>(domains_[d].block_size);
    std::vector<BlockHash>& chain = current_.chains[d];
    chain.clear();
    // A fully cached prompt still computes its last token, so its last full block may not count.
    const bool none = request.prompt.empty() || !request.reads_cache;
    const size_t blocks = none ? 0 : (request.prompt.size() - 1) / size;
    BlockHash hash = RootHash(domains_[d].hash_seed, request.cache_salt);
    for (size_t i = 0; i < blocks; ++i) {
      chain.push_back(hash = HashBlock(hash, request.prompt.subspan(i * size, size)));
    }
  }
}

void Dispatcher::View(const WaitingRequest& request, Nanos now) {
  depth_.assign(groups_.size(), 0);
  matched_.resize(groups_.size());
  // Chains of groups that hash otherwise match nowhere else.
  for (size_t d = 0; d < request.chains.size(); ++d) {
    index_.Match(request.chains[d], ids_, matched_);
    for (size_t g = 0; g < groups_.size(); ++g) {
      depth_[g] = std::max(depth_[g], matched_[g] * domains_[d].block_size);
    }
  }
  views_.clear();
  tokens_per_second_ = 0;
  const int32_t priority = PriorityOf(request);
  calibrated_ = true;
  for (size_t g = 0; g < groups_.size(); ++g) {
    const Group& group = groups_[g];
    const bool fits = request.prompt_tokens + request.max_tokens <= group.info.max_context;
    if (group.draining || !fits) continue;
    if (request.embeds && group.info.embedding_size == 0) continue;
    const GroupState state = StateOf(group);
    const PromptState prompt{
        .prompt_tokens = request.prompt_tokens, .cached_tokens = depth_[g], .priority = priority};
    views_.push_back({.state = state,
                      .group = ids_[g],
                      .name_hash = group.name_hash,
                      .outstanding = ledger_.Outstanding(ids_[g]),
                      .cached_tokens = depth_[g],
                      .prediction = Predict(state, prompt, now)});
    tokens_per_second_ += group.info.max_step_tokens / FullStep(state);
    calibrated_ = calibrated_ && group.model->calibrated();
  }
}

// In the group. From half of the lead that it may have, the more a client leads, the later its
// prompts are served there; below that, shortest first is worth more. One that has as much again
// waiting here floods: its prompts leave room in each step, whatever their class.
int32_t Dispatcher::PriorityOf(const WaitingRequest& request) const {
  if (shares_.num_clients() < 2) return request.priority * kLevelsPerClass;
  const double max_lead = MaxLead();
  const double lead = shares_.Lead(request.client) / max_lead;
  if (lead > 0.5 && static_cast<double>(queue_.Tokens(request.client)) > max_lead) {
    return std::min(request.priority, 0) * kLevelsPerClass - 1;
  }
  const auto favour = static_cast<int32_t>(kLevelsOfShare * std::clamp(2 - 2 * lead, 0.0, 1.0));
  return request.priority * kLevelsPerClass + favour;
}

bool Dispatcher::AnyRoom(bool within_share, Nanos now) const {
  for (const Group& group : groups_) {
    if (group.draining) continue;
    const GroupState state = StateOf(group);
    if (Backlog(state, now) <= Bound(state, within_share)) return true;
  }
  return false;
}

// Seconds of work that a group may have waiting and still be sent to.
double Dispatcher::Bound(const GroupState& group, bool within_share) const {
  const double step = FullStep(group);
  const double full =
      group.model->calibrated() ? ToSeconds(options_.max_group_backlog) : kStepsUncalibrated * step;
  return within_share ? full : std::min(full, kStepsBeyondShare * step);
}

GroupState Dispatcher::StateOf(const Group& group) const {
  return {.info = &group.info,
          .load = &group.load,
          .reported_at = group.reported_at,
          .unreported = ledger_.UnreportedAt(group.info.id),
          .model = group.model,
          .speed = group.speed.factor()};
}

Dispatcher::Verdict Dispatcher::TrySend(const WaitingRequest& request, Nanos now,
                                        Dispatch& dispatch) {
  if (views_.empty()) return Verdict::kNoGroup;
  const bool within = WithinShare(request.client);
  const double bound = request.deadline > 0 ? ToSeconds(request.deadline - now) : 0;
  bool in_time = false;
  open_.clear();
  for (const GroupView& view : views_) {
    const bool late = bound != 0 && calibrated_ && view.prediction.ttft() > bound;
    in_time = in_time || !late;
    if (!late && view.prediction.backlog <= Bound(view.state, within)) open_.push_back(view);
  }
  if (!in_time) return Verdict::kLate;
  if (open_.empty()) return Verdict::kNoRoom;
  const RouteQuery query{
      .prompt_tokens = request.prompt_tokens,
      .block_size = domains_.empty() ? 0 : domains_[0].block_size,
      .chain = request.chains.empty() ? std::span<const BlockHash>() : std::span(request.chains[0]),
      .session = request.session,
      .now = now,
      .num_groups = num_groups()};
  const Pick pick = policy_->Select(query, open_, rng_);
  dispatch.reason = pick.reason;
  Send(request, open_[pick.index], dispatch, now);
  return Verdict::kSent;
}

void Dispatcher::Send(const WaitingRequest& request, const GroupView& group, Dispatch& dispatch,
                      Nanos now) {
  dispatch.id = request.id;
  dispatch.attempt = request.attempt;
  dispatch.group = group.group;
  dispatch.cached_tokens = group.cached_tokens;
  dispatch.priority = PriorityOf(request);
  dispatch.deadline_in = request.deadline > 0 ? std::max<Nanos>(1, request.deadline - now) : 0;
  dispatch.queued = now - request.queued_at;
  dispatch.predicted_ttft = calibrated_ ? std::max<Nanos>(1, ToNanos(group.prediction.ttft())) : 0;
  ledger_.Sent({.key = {request.id, request.attempt},
                .group = group.group,
                .uncached_tokens = group.prediction.own_tokens,
                .prompt_tokens = request.prompt_tokens,
                .now = now,
                .predicted_ttft = dispatch.predicted_ttft,
                .priority = dispatch.priority});
  // Groups that hash alike hold what the chain of their way says; the others' chains name blocks
  // that they never have.
  for (size_t d = 0; d < request.chains.size(); ++d) {
    const bool theirs = domains_[d].block_size == group.state.info->block_size &&
                        domains_[d].hash_seed == group.state.info->hash_seed;
    if (theirs) index_.Expect(group.group, request.id, request.chains[d]);
  }
  shares_.Charge(request.client, group.prediction.own_tokens, now);
}

Decision Dispatcher::Enqueue(Nanos now) {
  if (num_queued() >= options_.max_queued) {
    return Reject(current_, Rejection::Why::kQueueFull, now);
  }
  const double predicted = PredictedSeconds(current_, now);
  if (current_.deadline > 0 && calibrated_ && predicted > ToSeconds(current_.deadline - now)) {
    return Reject(current_, Rejection::Why::kDeadline, now);
  }
  queue_.Push(current_);
  return Queued{.predicted_ttft = calibrated_ ? ToNanos(predicted) : 0};
}

double Dispatcher::PredictedSeconds(const WaitingRequest& request, Nanos) const {
  if (views_.empty()) return 0;
  double best = views_[0].prediction.ttft();
  for (const GroupView& view : views_) best = std::min(best, view.prediction.ttft());
  const auto ahead =
      static_cast<double>(queue_.TokensAhead(request.client, request.priority, request.own_tokens));
  return best + (tokens_per_second_ > 0 ? ahead / tokens_per_second_ : 0);
}

Rejection Dispatcher::Reject(const WaitingRequest& request, Rejection::Why why, Nanos now) const {
  Rejection rejection{.id = request.id, .attempt = request.attempt, .why = why};
  if (why == Rejection::Why::kNoGroup || !calibrated_) return rejection;
  const double predicted = PredictedSeconds(request, now);
  const double bound = request.deadline > 0 ? ToSeconds(request.deadline - now) : 0;
  rejection.predicted_ttft = ToNanos(predicted);
  rejection.retry_after = ToNanos(std::max(0.0, predicted - bound));
  return rejection;
}

bool Dispatcher::Cancel(RequestId id, uint32_t attempt) {
  if (queue_.Remove(id, attempt)) return false;
  if (!ledger_.Cancelled({id, attempt})) return false;
  index_.Settle(id);
  return true;
}

void Dispatcher::Poll(Nanos now, std::vector<Dispatch>& dispatches,
                      std::vector<Rejection>& rejections) {
  // Clients beyond their share may be kept where others are not: the second look.
  double max_lead = kAnyLead;
  while (queue_.size() > 0) {
    // Before a prompt is looked up, which costs more.
    if (!groups_.empty() && !AnyRoom(/*within_share=*/true, now)) break;
    if (!groups_.empty() && !AnyRoom(/*within_share=*/false, now)) max_lead = MaxLead();
    const auto next = queue_.Next(shares_, max_lead, now);
    if (!next) break;
    const WaitingRequest& request = queue_.at(*next);
    View(request, now);
    Dispatch dispatch;
    const Verdict verdict = TrySend(request, now, dispatch);
    if (verdict == Verdict::kNoRoom) {
      if (max_lead != kAnyLead) break;
      max_lead = MaxLead();
      continue;
    }
    if (verdict == Verdict::kSent) {
      dispatches.push_back(dispatch);
    } else {
      const bool late = verdict == Verdict::kLate;
      rejections.push_back(
          Reject(request, late ? Rejection::Why::kDeadline : Rejection::Why::kNoGroup, now));
    }
    queue_.Take(*next);
  }
  while (const auto expired = queue_.FindExpired(now)) {
    View(queue_.at(*expired), now);
    rejections.push_back(Reject(queue_.at(*expired), Rejection::Why::kDeadline, now));
    queue_.Take(*expired);
  }
}

// Steps of the whole pool: bursts up to that are no flood.
double Dispatcher::MaxLead() const {
  double tokens = 0;
  for (const Group& group : groups_) tokens += group.info.max_step_tokens;
  return kStepsOfLead * tokens;
}

Nanos Dispatcher::next_wake() const { return queue_.next_deadline(); }

void Dispatcher::SetPolicy(std::unique_ptr<Policy> policy) {
  TANDEM_CHECK(policy != nullptr) << "a dispatcher needs a policy";
  policy_ = std::move(policy);
}

void Dispatcher::SetOptions(const DispatcherOptions& options) { options_ = options; }

int Dispatcher::max_context() const {
  int most = 0;
  for (const Group& group : groups_) {
    if (!group.draining) most = std::max(most, group.info.max_context);
  }
  return most;
}

int Dispatcher::embedding_size() const {
  int size = 0;
  for (const Group& group : groups_) {
    if (!group.draining) size = std::max(size, group.info.embedding_size);
  }
  return size;
}

void Dispatcher::CheckInvariants() const {
  ledger_.CheckInvariants();
  TANDEM_CHECK(ids_.size() == groups_.size()) << ids_.size() << " ids, " << groups_.size();
  for (size_t g = 0; g < groups_.size(); ++g) {
    TANDEM_CHECK(ids_[g] == groups_[g].info.id) << "group " << g << " is out of order";
  }
}

}  // namespace tandem::routing
