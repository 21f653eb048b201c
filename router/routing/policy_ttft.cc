#include <algorithm>
#include <cmath>
#include <vector>

#include "router/routing/hot_blocks.h"
#include "router/routing/policies.h"

namespace tandem::routing {
namespace {

// What others pay for our prefill, as multiples of what it adds: docs/routing.md has the study.
constexpr double kArrivalWeight = 3;  // arrivals to come
constexpr double kBehindWeight = 1;   // each prompt that waits behind it

// Groups whose costs differ by less are equal: predictions are no better, and a fixed order piles
// idle traffic up and thrashes few caches. Wider while other routers send to these groups too.
constexpr double kTieBand = 0.02, kSharedTieBand = 0.05, kSharedTieSteps = 0.3;

constexpr double kRateMemorySeconds = 30;

double ToSeconds(Nanos n) { return static_cast<double>(n) / kSecond; }

// Arrivals a second, decaying, without a bias to zero at the start.
class ArrivalRate {
 public:
  void Arrived(Nanos now) {
    if (first_ < 0) first_ = last_ = now;
    count_ = count_ * std::exp(-ToSeconds(now - last_) / kRateMemorySeconds) + 1;
    last_ = now;
  }
  double per_second() const {
    const double seen = 1 - std::exp(-ToSeconds(last_ - first_) / kRateMemorySeconds);
    return seen > 0 ? std::max(0.0, count_ - 1) / (seen * kRateMemorySeconds) : 0;
  }

 private:
  Nanos first_ = -1, last_ = 0;
  double count_ = 0;
};

class Ttft : public Policy {
 public:
  Pick Select(const RouteQuery& query, std::span<const GroupView> groups, Rng& rng) override {
    rate_.Arrived(query.now);
    hot_.Arrived(query.chain, query.block_size, query.now);
    depths_.clear();
    for (const GroupView& g : groups) depths_.push_back(HeldBlocks(g, query));
    hot_.Count(depths_);
    ComputeCosts(query, groups);
    return Draw(query, groups, rng);
  }

 private:
  static int32_t HeldBlocks(const GroupView& group, const RouteQuery& query) {
    return query.block_size > 0 ? group.cached_tokens / query.block_size : 0;
  }

  void ComputeCosts(const RouteQuery& query, std::span<const GroupView> groups) {
    // A group gets its share of the arrivals to come by what it can do.
    double speeds = 0;
    for (const GroupView& g : groups) speeds += 1 / g.state.speed;
    const double rate = rate_.per_second() / std::max(1, query.num_groups) *
                        static_cast<double>(groups.size()) / speeds;
    double least_own = groups[0].prediction.own;
    for (const GroupView& g : groups) least_own = std::min(least_own, g.prediction.own);
    costs_.clear();
    for (size_t i = 0; i < groups.size(); ++i) {
      const Prediction& p = groups[i].prediction;
      // One more copy of what is hot may cost nothing, but is never worth more than a hit.
      const double cold = 1 - hot_.Heat(depths_[i]);
      const double own = std::max(p.own * cold, std::min(p.own, least_own));
      const double ttft = p.wait + own, added = p.added * cold;
      costs_.push_back(ttft + kBehindWeight * added * p.num_behind +
                       kArrivalWeight * added * rate / groups[i].state.speed * ttft);
    }
  }

  // Of equals those that hold most of the prompt, if that is more than half of it: a short prompt
  // costs a step wherever it is, but where it is cached it takes no blocks from others. What many
  // prompts begin with is less than that, and would pull all of them to one group.
  Pick Draw(const RouteQuery& query, std::span<const GroupView> groups, Rng& rng) const {
    const auto least = std::min_element(costs_.begin(), costs_.end());
    const double bound = Bound(groups[static_cast<size_t>(least - costs_.begin())].state, *least,
                               SharedWithOthers(groups));
    Pick pick;
    int32_t warmest = 0, warmest_tie = 0;
    for (size_t i = 0; i < groups.size(); ++i) {
      warmest = std::max(warmest, groups[i].cached_tokens);
      if (costs_[i] <= bound) warmest_tie = std::max(warmest_tie, groups[i].cached_tokens);
    }
    const int32_t at_least = warmest_tie > query.prompt_tokens / 2 ? warmest_tie : 0;
    uint64_t ties = 0;
    for (size_t i = 0; i < groups.size(); ++i) {
      if (costs_[i] > bound || groups[i].cached_tokens < at_least) continue;
      if (rng() % ++ties == 0) pick.index = i;
    }
    const int32_t cached = groups[pick.index].cached_tokens;
    pick.reason = groups.size() == 1                ? "only_group"
                  : ties > 1                        ? "tie"
                  : cached > 0 && cached == warmest ? "warmest"
                                                    : "fastest";
    return pick;
  }

  static double Bound(const GroupState& best, double least, bool shared) {
    if (!shared) return least * (1 + kTieBand);
    const double step =
        best.speed *
        best.model->Seconds({.prefill_tokens = static_cast<double>(best.info->max_step_tokens)});
    return least * (1 + kSharedTieBand) + kSharedTieSteps * step;
  }

  // Groups report sequences that this router did not send: what others send next is not known, and
  // who always picks the best picks the same one as they do.
  static bool SharedWithOthers(std::span<const GroupView> groups) {
    int64_t reported = 0, ours = 0;
    for (const GroupView& g : groups) {
      reported += g.state.load->num_running + g.state.load->num_waiting;
      ours += g.outstanding.num_attempts;
    }
    return reported > ours + static_cast<int64_t>(groups.size());
  }

  ArrivalRate rate_;
  HotBlocks hot_;
  std::vector<int32_t> depths_;
  std::vector<double> costs_;
};

}  // namespace

std::unique_ptr<Policy> MakeTtftPolicy() { return std::make_unique<Ttft>(); }

}  // namespace tandem::routing
