#include <algorithm>
#include <cmath>
#include <vector>

#include "router/routing/policies.h"

namespace tandem::routing {
namespace {

constexpr double kArrivalWeight = 3;    // of what a prefill costs the arrivals to come
constexpr double kBehindWeight = 1;     // of what it costs the prompts that wait behind it
constexpr double kDecodeWeight = 0.05;  // of what it costs each running decode
constexpr Nanos kRateMemory = 30 * kSecond;

// Arrivals a second, decaying; from the first on.
class ArrivalRate {
 public:
  void Arrived(Nanos now) {
    if (first_ < 0) first_ = last_ = now;
    count_ = count_ * std::exp(-Seconds(now - last_) / Seconds(kRateMemory)) + 1;
    last_ = now;
  }
  double per_second() const {
    const double age = Seconds(last_ - first_);
    const double seen = Seconds(kRateMemory) * (1 - std::exp(-age / Seconds(kRateMemory)));
    return seen > 0 ? (count_ - 1) / seen : 0;
  }

 private:
  static double Seconds(Nanos n) { return static_cast<double>(n) / kSecond; }
  Nanos first_ = -1, last_ = 0;
  double count_ = 0;
};

class Ttft : public Policy {
 public:
  Pick Select(const RouteQuery& query, std::span<const GroupView> groups, Rng& rng) override {
    rate_.Arrived(query.now);
    const double share = rate_.per_second() / std::max(1, query.num_groups);
    costs_.clear();
    int32_t warmest = 0;
    for (const GroupView& g : groups) {
      costs_.push_back(Cost(g, share));
      warmest = std::max(warmest, g.cached_tokens);
    }
    const double least = *std::min_element(costs_.begin(), costs_.end());
    const double bound = least * (1 + kTieBand);
    Pick pick;
    uint64_t ties = 0;
    for (size_t i = 0; i < groups.size(); ++i) {
      if (costs_[i] <= bound && rng() % ++ties == 0) pick.index = i;
    }
    pick.reason = groups.size() == 1                                           ? "only_group"
                  : ties > 1                                                   ? "tie"
                  : warmest > 0 && groups[pick.index].cached_tokens == warmest ? "warmest"
                                                                               : "fastest";
    return pick;
  }

 private:
  static constexpr double kTieBand = 0.02;

  static double Cost(const GroupView& group, double rate) {
    const Prediction& p = group.prediction;
    return p.ttft() + kBehindWeight * p.own * p.num_behind +
           kArrivalWeight * p.own * rate * p.ttft() + kDecodeWeight * p.own * p.num_decodes;
  }

  ArrivalRate rate_;
  std::vector<double> costs_;
};

}  // namespace

std::unique_ptr<Policy> MakeTtftPolicy() { return std::make_unique<Ttft>(); }

}  // namespace tandem::routing
