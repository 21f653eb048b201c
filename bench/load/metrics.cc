#include "bench/load/metrics.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "common/check.h"

namespace tandem::load {
namespace {

double Ms(Nanos time) { return static_cast<double>(time) / static_cast<double>(kMillisecond); }

double TpotMs(const Record& record) {
  const int64_t tokens = record.output_tokens();
  return tokens > 1 ? Ms(record.last - record.first) / static_cast<double>(tokens - 1) : 0;
}

bool Meets(const Record& record, const Slo& slo) {
  const auto held = [](const std::optional<double>& most, double value) {
    return !most || value <= *most;
  };
  const auto longest = std::max_element(record.gaps.begin(), record.gaps.end());
  return held(slo.ttft_ms, Ms(record.first - record.intended)) &&
         held(slo.tpot_ms, TpotMs(record)) &&
         held(slo.itl_ms, longest == record.gaps.end() ? 0 : Ms(*longest)) &&
         held(slo.e2el_ms, Ms(record.last - record.intended));
}

// Values of each kind, over the completed requests.
struct Samples {
  std::vector<double> ttft, tpot, itl, e2el, ttft_text, send_delay;

  void Add(const Record& record) {
    ttft.push_back(Ms(record.first - record.intended));
    e2el.push_back(Ms(record.last - record.intended));
    if (record.output_tokens() > 1) tpot.push_back(TpotMs(record));
    for (const Nanos gap : record.gaps) itl.push_back(Ms(gap));
    if (record.first_text > 0) ttft_text.push_back(Ms(record.first_text - record.intended));
  }
};

// The fullest second, counted from the first request: chunks that came and requests under way in
// it.
void FindPeaks(const std::deque<Record>& records, Metrics& metrics) {
  Nanos start = std::numeric_limits<Nanos>::max(), end = 0;
  for (const Record& record : records) {
    if (!record.ok()) continue;
    start = std::min(start, record.intended);
    end = std::max(end, record.last);
  }
  if (end == 0) return;
  const auto second = [&](Nanos at) { return static_cast<size_t>((at - start) / kSecond); };
  std::vector<int64_t> chunks(second(end) + 1), running(second(end) + 1);
  for (const Record& record : records) {
    if (!record.ok()) continue;
    Nanos at = record.first;
    ++chunks[second(at)];
    for (const Nanos gap : record.gaps) ++chunks[second(at += gap)];
    for (size_t s = second(record.intended); s <= second(record.last); ++s) ++running[s];
  }
  metrics.max_output_tokens_per_s =
      static_cast<double>(*std::max_element(chunks.begin(), chunks.end()));
  metrics.max_concurrent_requests = *std::max_element(running.begin(), running.end());
}

void CountError(const Record& record, Metrics& metrics) {
  const std::string kind(Name(record.outcome));
  ++metrics.failed;
  ++metrics.errors[kind];
  metrics.an_error.try_emplace(kind, record.error);
  if (record.outcome == Outcome::kHttpStatus) ++metrics.http_errors[record.http_status];
}

void SetRates(Metrics& metrics, int64_t good, const Slo& slo) {
  const auto per_second = [&](int64_t count) {
    return metrics.duration_s > 0 ? static_cast<double>(count) / metrics.duration_s : 0;
  };
  metrics.request_throughput = per_second(metrics.completed);
  metrics.output_throughput = per_second(metrics.total_output_tokens);
  metrics.total_token_throughput =
      per_second(metrics.total_input_tokens + metrics.total_output_tokens);
  if (!slo.empty()) metrics.request_goodput = per_second(good);
}

}  // namespace

double Percentile(std::span<const double> sorted, double percent) {
  TANDEM_CHECK(!sorted.empty()) << "no values";
  const double rank = percent / 100 * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(rank);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  return std::lerp(sorted[below], sorted[above], rank - static_cast<double>(below));
}

Distribution Distribute(std::vector<double> values, std::span<const double> percentiles) {
  if (values.empty()) values.push_back(0);
  std::sort(values.begin(), values.end());
  const auto n = static_cast<double>(values.size());
  Distribution out;
  out.mean = std::accumulate(values.begin(), values.end(), 0.0) / n;
  double squares = 0;
  for (const double value : values) squares += (value - out.mean) * (value - out.mean);
  out.std = std::sqrt(squares / n);
  out.median = Percentile(values, 50);
  for (const double percent : percentiles) out.percentiles.push_back(Percentile(values, percent));
  return out;
}

Metrics ComputeMetrics(const std::deque<Record>& records, Nanos duration,
                       std::span<const double> percentiles, const Slo& slo) {
  Metrics metrics;
  metrics.duration_s = static_cast<double>(duration) / static_cast<double>(kSecond);
  Samples samples;
  int64_t good = 0;
  for (const Record& record : records) {
    TANDEM_CHECK(record.outcome != Outcome::kPending) << "conversation " << record.conversation;
    samples.send_delay.push_back(Ms(record.sent - record.intended));
    if (!record.ok()) {
      CountError(record, metrics);
      continue;
    }
    ++metrics.completed;
    metrics.total_input_tokens += record.input_tokens();
    metrics.total_output_tokens += record.output_tokens();
    metrics.total_cached_tokens += std::max<int64_t>(0, record.cached_tokens);
    samples.Add(record);
    if (Meets(record, slo)) ++good;
  }
  SetRates(metrics, good, slo);
  metrics.ttft = Distribute(std::move(samples.ttft), percentiles);
  metrics.tpot = Distribute(std::move(samples.tpot), percentiles);
  metrics.itl = Distribute(std::move(samples.itl), percentiles);
  metrics.e2el = Distribute(std::move(samples.e2el), percentiles);
  metrics.ttft_text = Distribute(std::move(samples.ttft_text), percentiles);
  metrics.send_delay = Distribute(std::move(samples.send_delay), percentiles);
  FindPeaks(records, metrics);
  return metrics;
}

}  // namespace tandem::load
