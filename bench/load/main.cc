// tandem-bench: a load test of any OpenAI endpoint. `tandem bench --url ...` runs it.
#include <algorithm>
#include <boost/json.hpp>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>

#include "bench/load/load_run.h"
#include "bench/load/options.h"
#include "bench/load/report.h"

namespace tandem::load {
namespace {

constexpr int kRequestsFailed = 1;
constexpr int kOperatorMistake = 2;
constexpr Nanos kModelsTimeout = 10 * kSecond;

volatile std::sig_atomic_t g_interrupted = 0;

// The first ends the run and still gives its report, the second ends the program.
void OnInterrupt(int) {
  g_interrupted = 1;
  std::signal(SIGINT, SIG_DFL);
  std::signal(SIGTERM, SIG_DFL);
}

// Of what the target refuses or the operator got wrong, as a CA file that is none.
int CodeOf(const Status& status) {
  return status.code() == StatusCode::kInvalidArgument ? kOperatorMistake : kRequestsFailed;
}

int Complain(const Status& status, int code) {
  const std::string_view text = Message(status);
  std::fprintf(stderr, "tandem bench: %.*s\n", static_cast<int>(text.size()), text.data());
  return code;
}

// The first model that the endpoint names.
StatusOr<std::string> AskForModel(const Options& options) {
  TANDEM_ASSIGN_OR_RETURN(const auto client,
                          StreamClient::Open(options.target, kModelsTimeout, options.tls));
  const auto body = client->Fetch(GetText(options.target, options.request, "/v1/models"));
  if (!body.ok()) return Unavailable("/v1/models: {}; name a --model", Message(body.status()));
  boost::system::error_code error;
  const boost::json::value root = boost::json::parse(*body, error);
  const boost::json::value* id = error ? nullptr : root.find_pointer("/data/0/id", error);
  if (id == nullptr || !id->is_string()) {
    return NotFound("/v1/models names no model; name a --model");
  }
  return std::string(id->get_string());
}

Status WriteFile(const std::string& file, const std::string& text) {
  std::FILE* out = file == "-" ? stdout : std::fopen(file.c_str(), "w");
  if (out == nullptr) return Unavailable("{}: {}", file, std::strerror(errno));
  bool whole = std::fwrite(text.data(), 1, text.size(), out) == text.size();
  whole = (out == stdout ? std::fflush(out) : std::fclose(out)) == 0 && whole;
  return whole ? OkStatus() : Unavailable("{}: {}", file, std::strerror(errno));
}

Status WriteReports(const Report& report) {
  const Options& options = report.options;
  if (options.json_file != "-") std::fputs(TextReport(report).c_str(), stdout);
  if (!options.json_file.empty()) {
    TANDEM_RETURN_IF_ERROR(WriteFile(options.json_file, JsonReport(report)));
  }
  if (!options.html_file.empty()) {
    TANDEM_RETURN_IF_ERROR(WriteFile(options.html_file, HtmlReport(report)));
  }
  return OkStatus();
}

int RunAndReport(const Options& options, LoadedWorkload loaded) {
  const auto client = StreamClient::Open(options.target, options.timeout, options.tls);
  if (!client.ok()) return Complain(client.status(), CodeOf(client.status()));
  LoadRun run(**client, options.target, options.request, *loaded.workload, g_interrupted);
  if (options.detailed) run.KeepTexts();
  if (options.warmup > 0) {
    const int64_t at_a_time = std::max<int64_t>(options.driver.concurrency, 8);
    const Status status = run.WarmUp(options.warmup, at_a_time);
    if (!status.ok()) return Complain(status, kRequestsFailed);
  }
  Driver driver(options.driver, loaded.workload->num_conversations(), std::move(loaded.times));
  Progress progress(stderr);
  const int64_t connects_before = (*client)->num_connects();
  const RunResult result = run.Run(driver, &progress);
  const Metrics metrics =
      ComputeMetrics(result.records, result.duration, options.percentiles, options.slo);
  const Report report{options, result, metrics, (*client)->num_connects() - connects_before,
                      (*client)->num_sent_again()};
  const Status status = WriteReports(report);
  if (!status.ok()) return Complain(status, kRequestsFailed);
  const bool all_ok = metrics.failed == 0 && metrics.completed > 0;
  return all_ok || options.allow_errors ? 0 : kRequestsFailed;
}

int Main(int argc, char** argv) {
  auto parsed = ParseOptions(argc, argv);
  if (!parsed.ok()) return Complain(parsed.status(), kOperatorMistake);
  if (!parsed->has_value()) return 0;
  Options& options = **parsed;
  auto loaded = LoadWorkload(options.workload);
  if (!loaded.ok()) return Complain(loaded.status(), kOperatorMistake);
  if (options.request.model.empty()) {
    auto model = AskForModel(options);
    if (!model.ok()) return Complain(model.status(), CodeOf(model.status()));
    options.request.model = std::move(*model);
  }
  std::signal(SIGINT, OnInterrupt);
  std::signal(SIGTERM, OnInterrupt);
  return RunAndReport(options, std::move(*loaded));
}

}  // namespace
}  // namespace tandem::load

int main(int argc, char** argv) { return tandem::load::Main(argc, argv); }
