#include <cmath>
#include <iterator>

#include "bench/load/report.h"

namespace tandem::load {
namespace {

void Row(std::string& out, std::string_view name, const std::string& value) {
  fmt::format_to(std::back_inserter(out), "{:36}{}\n", name, value);
}

std::string LengthText(const Range& range) {
  return range.low == range.high ? fmt::format("{}", range.low)
                                 : fmt::format("{} to {}", range.low, range.high);
}

void Table(std::string& out, const Report& report) {
  auto to = std::back_inserter(out);
  const Metrics& m = report.metrics;
  fmt::format_to(to, "\n{:18}{:>10}{:>10}", "ms", "mean", "std");
  for (const double percent : report.options.percentiles) {
    fmt::format_to(to, "{:>10}", fmt::format("p{}", PercentName(percent)));
  }
  out += '\n';
  const std::pair<const char*, const Distribution*> rows[] = {{"TTFT", &m.ttft},
                                                              {"TPOT", &m.tpot},
                                                              {"ITL", &m.itl},
                                                              {"end to end", &m.e2el},
                                                              {"sent after due", &m.send_delay}};
  for (const auto& [name, values] : rows) {
    fmt::format_to(to, "{:18}{:10.2f}{:10.2f}", name, values->mean, values->std);
    for (const double value : values->percentiles) fmt::format_to(to, "{:10.2f}", value);
    out += '\n';
  }
}

void Errors(std::string& out, const Metrics& metrics) {
  for (const auto& [kind, count] : metrics.errors) {
    Row(out, "  " + kind, fmt::format("{}, such as: {}", count, metrics.an_error.at(kind)));
  }
}

}  // namespace

std::string PercentName(double percent) {
  return percent == std::floor(percent) ? fmt::format("{:.0f}", percent)
                                        : fmt::format("{}", percent);
}

std::string Report::mode() const {
  const DriverOptions& driver = options.driver;
  if (driver.mode == Mode::kClosed) {
    return fmt::format("closed loop, {} at a time", driver.concurrency);
  }
  if (driver.mode == Mode::kReplay) {
    return fmt::format("replay of the trace, {} times as fast", driver.rate_scale);
  }
  return fmt::format("open loop, {} requests/s, burstiness {}", driver.rate, driver.burstiness);
}

std::string Report::workload() const {
  const WorkloadOptions& w = options.workload;
  if (w.dataset != Dataset::kSynthetic) return w.file;
  std::string text =
      fmt::format("random text, {} tokens in, {} out", LengthText(w.input), LengthText(w.output));
  if (w.num_prefixes > 0) {
    text += fmt::format(", one of {} prefixes of {} tokens", w.num_prefixes, w.prefix_tokens);
  }
  if (w.turns > 1) text += fmt::format(", {} turns", w.turns);
  return text;
}

std::string TextReport(const Report& report) {
  const Metrics& m = report.metrics;
  std::string out;
  Row(out, "mode", report.mode());
  Row(out, "workload", report.workload());
  Row(out, "requests that succeeded", fmt::format("{}", m.completed));
  Row(out, "requests that failed", fmt::format("{}", m.failed));
  Errors(out, m);
  Row(out, "duration, s", fmt::format("{:.2f}", m.duration_s));
  Row(out, "input tokens",
      fmt::format("{}, {} of them cached", m.total_input_tokens, m.total_cached_tokens));
  Row(out, "output tokens", fmt::format("{}", m.total_output_tokens));
  Row(out, "requests/s", fmt::format("{:.2f}", m.request_throughput));
  if (m.request_goodput) {
    Row(out, "requests/s within the SLO", fmt::format("{:.2f}", *m.request_goodput));
  }
  Row(out, "output tokens/s", fmt::format("{:.1f}", m.output_throughput));
  Row(out, "total tokens/s", fmt::format("{:.1f}", m.total_token_throughput));
  Row(out, "most chunks in a second", fmt::format("{:.0f}", m.max_output_tokens_per_s));
  Row(out, "most requests at once", fmt::format("{}", m.max_concurrent_requests));
  Row(out, "CPU of this program",
      fmt::format("{:.2f} s, {:.0f} % of a core", report.result.cpu_s, report.cpu_share() * 100));
  Table(out, report);
  if (report.cpu_share() > 0.85) {
    out += "\nThis program used most of a core: what it measured may be itself.\n";
  }
  return out;
}

}  // namespace tandem::load
