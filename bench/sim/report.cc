#include "bench/sim/report.h"

#include <fmt/format.h>

#include <boost/json.hpp>
#include <cerrno>
#include <cstring>
#include <fstream>

namespace tandem::simulator {
namespace {

namespace json = boost::json;

json::object ToJson(const Summary& summary) {
  return {{"mean", summary.mean}, {"p50", summary.p50}, {"p95", summary.p95}, {"p99", summary.p99}};
}

json::object ToJson(const PolicyResult& r) {
  return {{"name", r.name},
          {"requests", r.requests},
          {"finished", r.finished},
          {"rejected", r.rejected},
          {"failed", r.failed},
          {"duration_s", r.duration_s},
          {"ttft_ms", ToJson(r.ttft)},
          {"itl_ms", ToJson(r.itl)},
          {"e2e_ms", ToJson(r.e2e)},
          {"hit_rate", r.hit_rate},
          {"goodput", r.goodput},
          {"imbalance", r.imbalance},
          {"utilization", r.utilization},
          {"preemptions", r.preemptions},
          {"ttft_prediction_ratio", {{"p50", r.prediction_p50}, {"p95", r.prediction_p95}}}};
}

}  // namespace

std::string TextTable(std::span<const PolicyResult> results) {
  std::string text = fmt::format(
      "{:<20} {:>8} {:>6} {:>9} {:>9} {:>9} {:>9} {:>8} {:>8} {:>9} {:>6} {:>8} {:>6} {:>5}\n",
      "policy", "requests", "lost", "TTFT mean", "p50 ms", "p95 ms", "p99 ms", "ITL mean", "p99 ms",
      "E2E p50 s", "hits", "goodput", "imbal.", "busy");
  for (const PolicyResult& r : results) {
    text += fmt::format(
        "{:<20} {:>8} {:>6} {:>9.1f} {:>9.1f} {:>9.1f} {:>9.1f} {:>8.2f} {:>8.2f} {:>9.2f} "
        "{:>6.3f} "
        "{:>8.2f} {:>6.2f} {:>5.2f}\n",
        r.name, r.requests, r.rejected + r.failed, r.ttft.mean, r.ttft.p50, r.ttft.p95, r.ttft.p99,
        r.itl.mean, r.itl.p99, r.e2e.p50 / 1000, r.hit_rate, r.goodput, r.imbalance, r.utilization);
  }
  return text;
}

std::string Json(std::span<const PolicyResult> results) {
  json::array policies;
  for (const PolicyResult& result : results) policies.push_back(ToJson(result));
  return json::serialize(json::object{{"policies", policies}}) + "\n";
}

Status WriteFile(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << text;
  file.close();
  if (!file) return InvalidArgument("{}: cannot be written: {}", path, std::strerror(errno));
  return OkStatus();
}

}  // namespace tandem::simulator
