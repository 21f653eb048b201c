#include "router/routing/prediction.h"

#include <algorithm>
#include <cmath>

#include "common/prompt_order.h"

namespace tandem::routing {
namespace {

struct Work {
  double tokens = 0, attention = 0;
  int32_t prompts = 0;
  void Add(int32_t remaining, int32_t length) {
    tokens += remaining;
    attention += AttentionWork(length - remaining, remaining);
    ++prompts;
  }
};

// The prompts that wait at a group, split by whether they are served before ours; of those behind,
// how many leave room for others (kPatientPart).
struct Queue {
  Work ahead, all;
  int32_t patient_behind = 0;
  int64_t own_score = 0;
  void Add(int32_t remaining, int32_t length, Nanos age, int32_t priority) {
    all.Add(remaining, length);
    if (PromptScore(remaining, age, priority) <= own_score) {
      ahead.Add(remaining, length);
    } else if (priority < 0) {
      ++patient_behind;
    }
  }
};

Queue QueueOf(const GroupState& group, int64_t own_score, Nanos now) {
  Queue queue;
  queue.own_score = own_score;
  const GroupLoad& load = *group.load;
  const Nanos since = now - group.reported_at;
  int64_t listed = 0;
  for (const QueueEntry& entry : load.queue) {
    queue.Add(entry.remaining_tokens, entry.prompt_tokens, entry.age + since, entry.priority);
    listed += entry.remaining_tokens;
  }
  // A report lists the oldest; the rest are counted in its totals only, and are taken to be alike.
  const auto more = load.num_waiting - static_cast<int32_t>(load.queue.size());
  if (more > 0) {
    const auto mean =
        static_cast<int32_t>(std::max<int64_t>(0, load.queued_tokens - listed) / more);
    for (int32_t i = 0; i < more; ++i) queue.Add(mean, mean, since, 0);
  }
  for (const Unreported& sent : group.unreported) {
    queue.Add(sent.uncached_tokens, sent.prompt_tokens, now - sent.sent_at, sent.priority);
  }
  return queue;
}

// Seconds until the steps that the group had begun or planned when it reported are over.
double StepsInFlight(const GroupState& group, Nanos now) {
  const WorkInFlight& work = group.load->in_flight;
  if (work.num_steps == 0) return 0;
  const double all =
      group.model->Seconds({.prefill_tokens = 1.0 * work.prefill_tokens,
                            .attention = static_cast<double>(work.prefill_attention),
                            .decodes = 1.0 * work.num_decodes,
                            .context_tokens = static_cast<double>(work.context_tokens),
                            .steps = 1.0 * work.num_steps});
  const Nanos elapsed = work.elapsed + now - group.reported_at;
  return std::max(0.0, all * group.speed - static_cast<double>(elapsed) / kSecond);
}

// What the steps of a group cost now.
struct Rates {
  double step = 0;   // seconds of one without prefill
  double token = 0;  // seconds more for each prompt token
  double pair = 0;   // and for each (query, key) pair
  double room = 0;   // prompt tokens that fit into one

  explicit Rates(const GroupState& group) {
    const GroupLoad& load = *group.load;
    const LatencyModel::Coefficients& th = group.model->coefficients();
    const int32_t budget = group.info->max_step_tokens;
    step = group.speed * (th.base + th.decode * load.num_running +
                          th.context_token * static_cast<double>(load.context_tokens));
    token = group.speed * th.prefill_token;
    pair = group.speed * th.attention;
    room = std::max({1, budget / 8, budget - load.num_running});
  }
  double Seconds(double tokens, double pairs) const {
    return token * tokens + pair * pairs + step * tokens / room;
  }
};

}  // namespace

double Backlog(const GroupState& group, Nanos now) {
  const Queue queue = QueueOf(group, 0, now);
  return StepsInFlight(group, now) + Rates(group).Seconds(queue.all.tokens, queue.all.attention);
}

Prediction Predict(const GroupState& group, const PromptState& prompt, Nanos now) {
  const GroupLoad& load = *group.load;
  const Rates rates(group);
  Prediction p;
  p.own_tokens = std::max(1, prompt.prompt_tokens - prompt.cached_tokens);
  const Queue queue = QueueOf(group, PromptScore(p.own_tokens, 0, prompt.priority), now);
  p.num_behind = queue.all.prompts - queue.ahead.prompts;
  // They are not delayed by ours: they have what others leave. Counted, they would drive all others
  // to the few groups that have none of a flood.
  if (prompt.priority >= 0) p.num_behind -= queue.patient_behind;
  p.wait = StepsInFlight(group, now);
  p.backlog = p.wait + rates.Seconds(queue.all.tokens, queue.all.attention);

  double ahead = queue.ahead.tokens, attention = queue.ahead.attention;
  const bool busy = load.num_running > 0 || load.num_waiting > 0;
  if (busy && load.in_flight.num_steps < 2) {
    // It planned one more step at once after that report: with what was queued, however long, and
    // with its decodes. We come after that.
    const double queued = static_cast<double>(load.queued_tokens);
    double patient = 0;
    for (const QueueEntry& entry : load.queue) {
      if (entry.priority < 0) patient += entry.remaining_tokens;
    }
    const double planned = std::max(std::min(rates.room, queued - patient),
                                    std::min(rates.room / kPatientPart, queued));
    if (ahead < planned) {
      attention += queue.all.attention / queue.all.tokens * (planned - ahead);
      ahead = planned;
    }
    if (load.num_running > 0) p.wait += rates.step * std::max(0.0, 1 - ahead / rates.room);
  }
  if (load.in_flight.num_steps == 0 && (busy || !group.unreported.empty())) {
    // Nothing was in flight, so what came next has been running since. For one step at most: a
    // group that says nothing for longer stands still.
    const Nanos since = busy ? group.reported_at : group.unreported.front().sent_at;
    const double part = ahead > rates.room ? rates.room / ahead : 1;
    p.wait -= std::min(static_cast<double>(now - since) / kSecond,
                       rates.Seconds(ahead * part, attention * part));
  }
  p.wait = std::max(0.0, p.wait + rates.Seconds(ahead, attention));
  // Steps are whole: ours end with the one that computes our last token.
  const double steps = prompt.priority >= 0
                           ? std::ceil((ahead + p.own_tokens) / rates.room) - ahead / rates.room
                           : std::ceil(p.own_tokens * kPatientPart / rates.room);
  const double pairs = AttentionWork(prompt.prompt_tokens - p.own_tokens, p.own_tokens);
  p.own = rates.token * p.own_tokens + rates.pair * pairs + rates.step * steps;
  p.added = rates.Seconds(p.own_tokens, pairs);
  return p;
}

}  // namespace tandem::routing
