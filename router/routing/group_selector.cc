#include "router/routing/group_selector.h"

#include <algorithm>
#include <vector>

namespace tandem::routing {

Nanos PredictTtft(const Candidate& candidate, int32_t prompt_tokens, Nanos now) {
  const GroupLoad& load = *candidate.load;
  const LatencyModel& model = *candidate.model;
  const bool busy = load.num_running > 0 || load.num_waiting > 0;
  Nanos running = 0;
  if (busy && candidate.reported_at > 0) {
    // The step that followed the reported one began when the report was sent.
    const Nanos step = model.Predict({.prefill_tokens = static_cast<double>(std::min<int64_t>(
                                          load.queued_tokens, candidate.max_step_tokens)),
                                      .decodes = static_cast<double>(load.num_running),
                                      .context_tokens = static_cast<double>(load.context_tokens)});
    running = std::max<Nanos>(0, step - (now - candidate.reported_at));
  }
  const int64_t own = std::max(1, prompt_tokens - candidate.cached_tokens);
  const int64_t tokens = load.queued_tokens + candidate.outstanding.unreported_tokens + own;
  const int64_t budget = std::max(1, candidate.max_step_tokens - load.num_running);
  const int64_t steps = (tokens + budget - 1) / budget;
  const Nanos per_step =
      model.Predict({.decodes = static_cast<double>(load.num_running),
                     .context_tokens = static_cast<double>(load.context_tokens)});
  return running + tokens * model.per_prefill_token() + steps * per_step;
}

Choice SelectGroup(std::span<const Candidate> candidates, int32_t prompt_tokens, Nanos now,
                   Rng& rng) {
  if (candidates.empty()) return {};
  std::vector<Nanos> predicted;
  predicted.reserve(candidates.size());
  for (const Candidate& c : candidates) predicted.push_back(PredictTtft(c, prompt_tokens, now));
  const Nanos best = *std::min_element(predicted.begin(), predicted.end());
  const Nanos bound = best + static_cast<Nanos>(static_cast<double>(best) * kTieBand) + kTieFloor;

  std::vector<size_t> near;
  int32_t warmest = 0, warmest_anywhere = 0;
  for (size_t i = 0; i < candidates.size(); ++i) {
    warmest_anywhere = std::max(warmest_anywhere, candidates[i].cached_tokens);
    if (predicted[i] > bound) continue;
    near.push_back(i);
    warmest = std::max(warmest, candidates[i].cached_tokens);
  }
  std::erase_if(near, [&](size_t i) { return candidates[i].cached_tokens < warmest; });
  const size_t pick = near[std::uniform_int_distribution<size_t>(0, near.size() - 1)(rng)];

  Choice choice{.group = candidates[pick].group,
                .cached_tokens = candidates[pick].cached_tokens,
                .predicted_ttft = predicted[pick],
                .reason = "fastest"};
  if (candidates.size() == 1) {
    choice.reason = "only_group";
  } else if (near.size() > 1) {
    choice.reason = "tie";
  } else if (warmest > 0 && warmest == warmest_anywhere) {
    choice.reason = "warmest";
  }
  return choice;
}

}  // namespace tandem::routing
