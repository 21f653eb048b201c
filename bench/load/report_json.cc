#include <fmt/chrono.h>

#include <cmath>
#include <ctime>
#include <functional>
#include <iterator>

#include "bench/load/report.h"

namespace tandem::load {
namespace {

// The members of a JSON object, one a line.
class Members {
 public:
  void Raw(std::string_view name, std::string_view json) {
    out_ += out_.empty() ? "  " : ",\n  ";
    out_ += Quoted(name);
    out_ += ": ";
    out_ += json;
  }
  void Text(std::string_view name, std::string_view text) { Raw(name, Quoted(text)); }
  void Number(std::string_view name, double value) {
    Raw(name, std::isfinite(value) ? fmt::format("{}", value) : "\"inf\"");
  }
  void Count(std::string_view name, int64_t value) { Raw(name, fmt::format("{}", value)); }
  std::string Object() const { return "{\n" + out_ + "\n}"; }

 private:
  std::string out_;
};

double Seconds(Nanos time) { return static_cast<double>(time) / 1e9; }

void AddDistribution(Members& out, const std::string& name, const Distribution& values,
                     const std::vector<double>& percentiles) {
  out.Number("mean_" + name + "_ms", values.mean);
  out.Number("median_" + name + "_ms", values.median);
  out.Number("std_" + name + "_ms", values.std);
  for (size_t i = 0; i < percentiles.size(); ++i) {
    out.Number(fmt::format("p{}_{}_ms", PercentName(percentiles[i]), name), values.percentiles[i]);
  }
}

void AddRun(Members& out, const Report& report) {
  const Options& options = report.options;
  const DriverOptions& driver = options.driver;
  const bool chat = options.request.endpoint == Endpoint::kChat;
  out.Text("date", fmt::format("{:%Y%m%d-%H%M%S}", fmt::gmtime(std::time(nullptr))));
  out.Text("backend", chat ? "openai-chat" : "openai");
  out.Text("model_id", options.request.model);
  out.Count("num_prompts", static_cast<int64_t>(report.result.records.size()));
  out.Number("request_rate", driver.mode == Mode::kOpen ? driver.rate : INFINITY);
  out.Number("burstiness", driver.burstiness);
  const bool closed = driver.mode == Mode::kClosed;
  const int64_t most = closed ? driver.concurrency : driver.max_outstanding;
  out.Raw("max_concurrency",
          most == DriverOptions().max_outstanding ? "null" : fmt::format("{}", most));
}

void AddTotals(Members& out, const Metrics& m) {
  out.Number("duration", m.duration_s);
  out.Count("completed", m.completed);
  out.Count("failed", m.failed);
  out.Count("total_input_tokens", m.total_input_tokens);
  out.Count("total_output_tokens", m.total_output_tokens);
  out.Number("request_throughput", m.request_throughput);
  out.Raw("request_goodput", m.request_goodput ? fmt::format("{}", *m.request_goodput) : "null");
  out.Number("output_throughput", m.output_throughput);
  out.Number("total_token_throughput", m.total_token_throughput);
  out.Number("max_output_tokens_per_s", m.max_output_tokens_per_s);
  out.Count("max_concurrent_requests", m.max_concurrent_requests);
}

// What `vllm bench serve` does not have.
void AddOwn(Members& out, const Report& report) {
  const Metrics& m = report.metrics;
  out.Text("url", report.options.url);
  out.Text("mode", report.mode());
  out.Text("workload", report.workload());
  out.Raw("seed", fmt::format("{}", report.options.workload.seed));
  out.Count("total_cached_tokens", m.total_cached_tokens);
  Members errors, statuses;
  for (const auto& [kind, count] : m.errors) errors.Count(kind, count);
  for (const auto& [status, count] : m.http_errors)
    statuses.Count(fmt::format("{}", status), count);
  out.Raw("errors_by_kind", m.errors.empty() ? "{}" : errors.Object());
  out.Raw("errors_by_status", m.http_errors.empty() ? "{}" : statuses.Object());
  out.Count("connects", report.num_connects);
  out.Count("sent_again", report.num_sent_again);
  out.Number("client_cpu_s", report.result.cpu_s);
  out.Number("client_cpu_share", report.cpu_share());
  out.Raw("interrupted", report.result.interrupted ? "true" : "false");
}

void AddArray(Members& out, std::string_view name, const std::deque<Record>& records,
              const std::function<std::string(const Record&)>& value) {
  std::string array;
  for (const Record& record : records) {
    array += array.empty() ? "[" : ",";
    array += value(record);
  }
  out.Raw(name, array + (array.empty() ? "[]" : "]"));
}

std::string GapsArray(const Record& record) {
  std::string array = "[";
  for (const Nanos gap : record.gaps) {
    fmt::format_to(std::back_inserter(array), "{}{}", array.size() == 1 ? "" : ",", Seconds(gap));
  }
  return array + "]";
}

// In order of sending, times in seconds; of one that failed: 0 or empty, as there; the
// text is what came until it did.
void AddDetails(Members& out, const RunResult& result) {
  const std::deque<Record>& records = result.records;
  const auto number = [](auto value) { return fmt::format("{}", value); };
  AddArray(out, "input_lens", records, [&](const Record& r) { return number(r.input_tokens()); });
  AddArray(out, "output_lens", records,
           [&](const Record& r) { return number(r.ok() ? r.output_tokens() : 0); });
  AddArray(out, "ttfts", records,
           [&](const Record& r) { return number(r.ok() ? Seconds(r.first - r.intended) : 0); });
  AddArray(out, "itls", records, GapsArray);
  AddArray(out, "generated_texts", records,  // escaped already
           [](const Record& r) { return "\"" + r.text + "\""; });
  AddArray(out, "errors", records, [](const Record& r) { return Quoted(r.error); });
  AddArray(out, "outcomes", records, [](const Record& r) { return Quoted(Name(r.outcome)); });
  AddArray(out, "start_times", records,
           [&](const Record& r) { return number(Seconds(r.intended - result.started)); });
  AddArray(out, "latencies", records,
           [&](const Record& r) { return number(r.ok() ? Seconds(r.last - r.intended) : 0); });
}

}  // namespace

std::string JsonReport(const Report& report) {
  const Metrics& m = report.metrics;
  const std::vector<double>& percentiles = report.options.percentiles;
  Members out;
  AddRun(out, report);
  AddTotals(out, m);
  AddDistribution(out, "ttft", m.ttft, percentiles);
  AddDistribution(out, "tpot", m.tpot, percentiles);
  AddDistribution(out, "itl", m.itl, percentiles);
  AddDistribution(out, "e2el", m.e2el, percentiles);
  AddDistribution(out, "ttft_text", m.ttft_text, percentiles);
  AddDistribution(out, "send_delay", m.send_delay, percentiles);
  AddOwn(out, report);
  if (report.options.detailed) AddDetails(out, report.result);
  return out.Object() + "\n";
}

}  // namespace tandem::load
