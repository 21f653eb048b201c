#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "router/routing/hot_blocks.h"
#include "router/routing/policies.h"

namespace tandem::routing {
namespace {

// What others pay for our prefill, as multiples of what it adds: docs/routing.md has the study.
constexpr double kBehindWeight = 1;  // each prompt that waits behind it
// Arrivals to come are weighted by 1 / (part of its time that a group has left), up to this part:
// what comes to a fuller one is sent elsewhere.
constexpr double kLeastIdle = 0.3;

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

// Which part of their time groups spend on prefill that was sent them, averaged. Those about as
// fast as each other are taken together: of one alone it is noise, and who follows it herds.
class Utilization {
 public:
  // Of `num_groups` those that may take a request; work is counted for all.
  void See(std::span<const GroupView> groups, int32_t num_groups, Nanos now) {
    places_.clear();
    num_groups_.fill(0);
    for (const GroupView& g : groups) {
      places_.push_back(PlaceOf(g.state.speed));
      Add(num_groups_, places_.back(), 1);
    }
    // One prompt after the first moment is no sign of a full group.
    const double since = std::max(kLeastSeconds, ToSeconds(now - first_));
    const double seen = kRateMemorySeconds * (1 - std::exp(-since / kRateMemorySeconds));
    const double decay = std::exp(-ToSeconds(now - last_) / kRateMemorySeconds);
    per_work_ = decay / seen * static_cast<double>(groups.size()) / std::max(1, num_groups);
  }
  // Of the i-th of the groups last seen.
  double of(size_t i) const {
    return per_work_ * At(work_, places_[i]) / At(num_groups_, places_[i]);
  }
  void Sent(size_t i, double seconds, Nanos now) {
    if (first_ < 0) first_ = last_ = now;
    const double decay = std::exp(-ToSeconds(now - last_) / kRateMemorySeconds);
    for (double& w : work_) w *= decay;
    last_ = now;
    Add(work_, places_[i], seconds);
  }

 private:
  // A place lies between two counters, so that a speed that is fitted anew does not jump.
  static constexpr size_t kCounters = 32;
  static constexpr double kCountersPerDoubling = 3;
  static constexpr double kLeastSeconds = 3;
  using Counters = std::array<double, kCounters>;
  static double PlaceOf(double speed) {
    int exponent = 0;
    const double fraction = std::frexp(speed, &exponent);      // [0.5, 1)
    const double doublings = exponent - 1 + 2 * fraction - 1;  // near enough, and no logarithm
    const double place = kCounters / 2.0 + kCountersPerDoubling * doublings;
    return std::min(std::max(0.0, place), kCounters - 1.001);  // a NaN is 0
  }
  static void Add(Counters& counters, double place, double value) {
    const auto below = static_cast<size_t>(place);
    const double part = place - static_cast<double>(below);
    counters[below] += value * (1 - part);
    counters[below + 1] += value * part;
  }
  static double At(const Counters& counters, double place) {
    const auto below = static_cast<size_t>(place);
    const double part = place - static_cast<double>(below);
    return counters[below] * (1 - part) + counters[below + 1] * part;
  }

  Counters work_{}, num_groups_{};
  std::vector<double> places_;
  double per_work_ = 0;  // of a second of work
  Nanos first_ = -1, last_ = 0;
};

class Ttft : public Policy {
 public:
  Pick Select(const RouteQuery& query, std::span<const GroupView> groups, Rng& rng) override {
    rate_.Arrived(query.now);
    utilization_.See(groups, query.num_groups, query.now);
    hot_.Arrived(query.chain, query.block_size, query.now);
    depths_.clear();
    for (const GroupView& g : groups) depths_.push_back(HeldBlocks(g, query));
    hot_.Count(depths_);
    ComputeCosts(query, groups);
    const Pick pick = Draw(query, groups, rng);
    utilization_.Sent(pick.index, groups[pick.index].prediction.added, query.now);
    return pick;
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
      // Who comes while the group is busy is served later. It is for longer than until our first
      // token: what comes meanwhile keeps it busy in turn.
      const double idle = std::max(kLeastIdle, 1 - utilization_.of(i));
      const double arrivals = rate / groups[i].state.speed * ttft / idle;
      costs_.push_back(ttft + added * (kBehindWeight * p.num_behind + arrivals));
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
  Utilization utilization_;
  HotBlocks hot_;
  std::vector<int32_t> depths_;
  std::vector<double> costs_;
};

}  // namespace

std::unique_ptr<Policy> MakeTtftPolicy() { return std::make_unique<Ttft>(); }

}  // namespace tandem::routing
