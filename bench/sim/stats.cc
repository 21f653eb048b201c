#include "bench/sim/stats.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace tandem::simulator {
namespace {

constexpr int kCdfSteps = 200;

float Ms(Nanos duration) { return static_cast<float>(static_cast<double>(duration) / 1e6); }

double Seconds(Nanos duration) { return static_cast<double>(duration) / 1e9; }

// REQUIRES: `sorted` is not empty.
template <class Number>
Number NearestRank(const std::vector<Number>& sorted, double share) {
  const auto count = static_cast<double>(sorted.size());
  const auto rank = static_cast<size_t>(std::max(1.0, std::ceil(share * count)));
  return sorted[std::min(rank, sorted.size()) - 1];
}

bool Meets(const Outcome& outcome, const Slo& slo) {
  const Nanos gaps = std::max(outcome.output_tokens - 1, 1);
  const Nanos itl = (outcome.last_token - outcome.first_token) / gaps;
  return (slo.ttft == 0 || outcome.first_token - outcome.arrival <= slo.ttft) &&
         (slo.itl == 0 || itl <= slo.itl);
}

// TTFT, end-to-end times and prediction ratios of what finished; fills in the counts as well.
struct Collected {
  std::vector<float> ttft, e2e;
  std::vector<double> ratios;
  int64_t good = 0, prompt_tokens = 0, cached_tokens = 0;
};

Collected Collect(const RawResult& raw, const Slo& slo, PolicyResult& result) {
  Collected all;
  for (const Outcome& outcome : raw.outcomes) {
    ++result.requests;
    result.rejected += outcome.end == Outcome::End::kRejected;
    result.failed += outcome.end == Outcome::End::kFailed;
    if (outcome.end != Outcome::End::kFinished) continue;
    ++result.finished;
    all.good += Meets(outcome, slo);
    all.prompt_tokens += outcome.prompt_tokens;
    all.cached_tokens += outcome.cached_tokens;
    all.ttft.push_back(Ms(outcome.first_token - outcome.arrival));
    all.e2e.push_back(Ms(outcome.last_token - outcome.arrival));
    const Nanos observed = outcome.first_token - outcome.sent_at;
    if (outcome.predicted_ttft > 0 && observed > 0) {
      all.ratios.push_back(Seconds(outcome.predicted_ttft) / Seconds(observed));
    }
  }
  return all;
}

}  // namespace

void LoadWindows::Add(int group, Nanos end, Nanos duration) {
  const auto groups = static_cast<size_t>(num_groups_);
  const auto window = static_cast<size_t>(end / length_);
  if (busy_.size() < (window + 1) * groups) busy_.resize((window + 1) * groups);
  busy_[window * groups + static_cast<size_t>(group)] += duration;
}

std::vector<LoadWindows::Share> LoadWindows::Shares() const {
  std::vector<Share> shares;
  const auto groups = static_cast<size_t>(num_groups_);
  for (size_t begin = 0; groups > 0 && begin < busy_.size(); begin += groups) {
    Share share;
    for (size_t g = 0; g < groups; ++g) {
      const double busy = Seconds(busy_[begin + g]) / Seconds(length_);
      share.mean += busy / static_cast<double>(groups);
      share.max = std::max(share.max, busy);
    }
    shares.push_back(share);
  }
  return shares;
}

Summary Summarize(std::vector<float>& values_ms) {
  Summary summary;
  summary.count = static_cast<int64_t>(values_ms.size());
  if (values_ms.empty()) return summary;
  std::sort(values_ms.begin(), values_ms.end());
  summary.mean = std::accumulate(values_ms.begin(), values_ms.end(), 0.0) /
                 static_cast<double>(values_ms.size());
  summary.p50 = NearestRank(values_ms, 0.50);
  summary.p95 = NearestRank(values_ms, 0.95);
  summary.p99 = NearestRank(values_ms, 0.99);
  return summary;
}

PolicyResult Evaluate(const std::string& name, RawResult& raw, const Slo& slo) {
  PolicyResult result;
  result.name = name;
  Collected all = Collect(raw, slo, result);
  result.duration_s = Seconds(raw.duration);
  result.ttft = Summarize(all.ttft);
  result.e2e = Summarize(all.e2e);
  result.itl = Summarize(raw.itl_ms);
  if (all.prompt_tokens > 0) {
    result.hit_rate =
        static_cast<double>(all.cached_tokens) / static_cast<double>(all.prompt_tokens);
  }
  if (raw.duration > 0) result.goodput = static_cast<double>(all.good) / result.duration_s;
  const double busy = Seconds(std::accumulate(raw.busy.begin(), raw.busy.end(), Nanos{0}));
  if (busy > 0) {
    const double mean = busy / static_cast<double>(raw.busy.size());
    result.imbalance = Seconds(*std::max_element(raw.busy.begin(), raw.busy.end())) / mean;
    result.utilization = mean / result.duration_s;
  }
  std::sort(all.ratios.begin(), all.ratios.end());
  if (!all.ratios.empty()) {
    result.prediction_p50 = NearestRank(all.ratios, 0.50);
    result.prediction_p95 = NearestRank(all.ratios, 0.95);
  }
  result.preemptions = raw.num_preemptions;
  for (int i = 0; !all.ttft.empty() && i <= kCdfSteps; ++i) {
    result.ttft_cdf_ms.push_back(NearestRank(all.ttft, static_cast<double>(i) / kCdfSteps));
  }
  result.load = raw.windows.Shares();
  result.load_window_s = Seconds(raw.windows.length());
  return result;
}

}  // namespace tandem::simulator
