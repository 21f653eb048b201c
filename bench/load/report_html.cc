#include <algorithm>
#include <cmath>

#include "bench/load/chart.h"
#include "bench/load/report.h"

namespace tandem::load {
namespace {

constexpr size_t kMostDots = 3000;
constexpr double kBuckets = 120;

double Ms(Nanos time) { return static_cast<double>(time) / 1e6; }

std::string CdfChart(const RunResult& result) {
  std::vector<double> ttft, itl, e2el;
  for (const Record& record : result.records) {
    if (!record.ok()) continue;
    ttft.push_back(Ms(record.first - record.intended));
    e2el.push_back(Ms(record.last - record.intended));
    for (const Nanos gap : record.gaps) itl.push_back(Ms(gap));
  }
  const ChartOptions options{"Share of requests (TTFT, end to end) and of gaps (ITL) within a time",
                             "ms", "share", true, false};
  return Chart(options, {{"TTFT", Cdf(std::move(ttft))},
                         {"ITL", Cdf(std::move(itl))},
                         {"end to end", Cdf(std::move(e2el))}});
}

std::string LatencyChart(const RunResult& result) {
  Series ttft{"TTFT", {}, true}, e2el{"end to end", {}, true};
  const size_t every = result.records.size() / kMostDots + 1;
  for (size_t i = 0; i < result.records.size(); i += every) {
    const Record& record = result.records[i];
    if (!record.ok()) continue;
    const double at = static_cast<double>(record.intended - result.started) / 1e9;
    ttft.points.emplace_back(at, Ms(record.first - record.intended));
    e2el.points.emplace_back(at, Ms(record.last - record.intended));
  }
  const ChartOptions options{"Latency of each request over the time it was due", "s", "ms", false,
                             true};
  return Chart(options, {std::move(ttft), std::move(e2el)});
}

// Events over time in buckets of whole seconds, or of less in a short run.
class Histogram {
 public:
  explicit Histogram(double duration_s)
      : width_s_(duration_s > kBuckets ? std::ceil(duration_s / kBuckets) : duration_s / kBuckets),
        counts_(static_cast<size_t>(duration_s / std::max(width_s_, 1e-9)) + 1) {}

  void Add(double at_s, double amount = 1) { counts_[Bucket(at_s)] += amount; }
  // A state that lasts: its mean over the bucket is what Level() gives.
  void AddSpan(double from_s, double to_s) {
    for (size_t b = Bucket(from_s); b <= Bucket(to_s); ++b) {
      const double begin = static_cast<double>(b) * width_s_;
      const double held = std::min(to_s, begin + width_s_) - std::max(from_s, begin);
      counts_[b] += std::max(0.0, held);
    }
  }
  // Per second.
  std::vector<std::pair<double, double>> Rate() const {
    std::vector<std::pair<double, double>> points;
    for (size_t b = 0; b < counts_.size(); ++b) {
      points.emplace_back((static_cast<double>(b) + 0.5) * width_s_, counts_[b] / width_s_);
    }
    return points;
  }

 private:
  size_t Bucket(double at_s) const {
    const auto b = static_cast<size_t>(std::max(0.0, at_s) / std::max(width_s_, 1e-9));
    return std::min(b, counts_.size() - 1);
  }
  double width_s_;
  std::vector<double> counts_;
};

std::string ThroughputCharts(const RunResult& result) {
  const double duration_s = static_cast<double>(result.duration) / 1e9;
  if (result.records.empty() || duration_s <= 0) return "";
  Histogram chunks(duration_s), ok(duration_s), failed(duration_s), running(duration_s);
  const auto at = [&](Nanos time) { return static_cast<double>(time - result.started) / 1e9; };
  for (const Record& record : result.records) {
    (record.ok() ? ok : failed).Add(at(record.ended));
    running.AddSpan(at(record.sent), at(record.ended));
    if (record.first == 0) continue;
    Nanos time = record.first;
    chunks.Add(at(time));
    for (const Nanos gap : record.gaps) chunks.Add(at(time += gap));
  }
  return Chart({"Output over time", "s", "chunks/s", false, false}, {{"chunks", chunks.Rate()}}) +
         Chart({"Requests that ended, over time", "s", "requests/s", false, false},
               {{"succeeded", ok.Rate()}, {"failed", failed.Rate()}}) +
         Chart({"Requests under way, over time", "s", "requests", false, false},
               {{"running", running.Rate()}});
}

}  // namespace

std::string HtmlReport(const Report& report) {
  return fmt::format(
             "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
             "<title>Load test of {0}</title>\n<style>"
             "body{{font-family:sans-serif;max-width:1320px;margin:2em auto;padding:0 1em}}"
             "figure{{display:inline-block;margin:0 1em 1.5em 0}}"
             "figcaption{{font-weight:600;margin-bottom:.3em}}"
             "svg{{max-width:100%}}pre{{background:#f5f5f5;padding:1em;overflow-x:auto}}"
             "</style></head><body>\n<h1>Load test of {0}</h1>\n<p>Model {1}, seed {2}</p>\n"
             "<pre>{3}</pre>\n",
             HtmlEscaped(report.options.url), HtmlEscaped(report.options.request.model),
             report.options.workload.seed, HtmlEscaped(TextReport(report))) +
         CdfChart(report.result) + LatencyChart(report.result) + ThroughputCharts(report.result) +
         "</body></html>\n";
}

}  // namespace tandem::load
