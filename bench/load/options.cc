#include "bench/load/options.h"

#include <CLI/CLI.hpp>
#include <boost/json.hpp>
#include <charconv>
#include <cmath>
#include <utility>

namespace tandem::load {
namespace {

constexpr int64_t kDefaultRequests = 1000;
constexpr int64_t kMostTokens = 10'000'000;

// What is given as text and needs a second look.
struct Raw {
  std::string endpoint = "chat";
  std::vector<std::string> headers;
  std::string extra_body, sharegpt, trace;
  std::string input = "128", output = "64";
  std::string percentiles = "50,90,95,99", slo;
  double duration_s = 0, timeout_s = 600;
  bool replay = false;
  bool insecure = false;
};

bool ReadNumber(std::string_view text, double& out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc() && end == text.data() + text.size() && !std::isnan(out);
}

StatusOr<Range> ReadRange(std::string_view flag, const std::string& text) {
  const size_t colon = text.find(':');
  const std::string_view low = std::string_view(text).substr(0, colon);
  const std::string_view high =
      colon == std::string::npos ? low : std::string_view(text).substr(colon + 1);
  double a = 0, b = 0;
  if (!ReadNumber(low, a) || !ReadNumber(high, b) || a < 1 || b < a || b > kMostTokens ||
      a != std::floor(a) || b != std::floor(b)) {
    return InvalidArgument("{} '{}': tokens, as 128 or 64:256", flag, text);
  }
  return Range{static_cast<int64_t>(a), static_cast<int64_t>(b)};
}

std::vector<std::string_view> Split(std::string_view text, char at) {
  std::vector<std::string_view> parts;
  while (true) {
    const size_t end = text.find(at);
    parts.push_back(text.substr(0, end));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

StatusOr<std::vector<double>> ReadPercentiles(const std::string& text) {
  std::vector<double> percentiles;
  for (const std::string_view part : Split(text, ',')) {
    double percent = 0;
    if (!ReadNumber(part, percent) || percent < 0 || percent > 100) {
      return InvalidArgument("--percentiles '{}': numbers from 0 to 100, as 50,90,99.9", text);
    }
    percentiles.push_back(percent);
  }
  return percentiles;
}

StatusOr<Slo> ReadSlo(const std::string& text) {
  Slo slo;
  if (text.empty()) return slo;
  for (const std::string_view part : Split(text, ',')) {
    const std::string_view key = part.substr(0, part.find('='));
    std::string_view value = part.substr(std::min(part.size(), key.size() + 1));
    double scale = 1;
    if (value.ends_with("ms")) {
      value.remove_suffix(2);
    } else if (value.ends_with('s')) {
      value.remove_suffix(1);
      scale = 1000;
    }
    std::optional<double>* of = key == "ttft"                   ? &slo.ttft_ms
                                : key == "tpot"                 ? &slo.tpot_ms
                                : key == "itl"                  ? &slo.itl_ms
                                : key == "e2e" || key == "e2el" ? &slo.e2el_ms
                                                                : nullptr;
    double number = 0;
    if (of == nullptr || !ReadNumber(value, number) || number < 0) {
      return InvalidArgument(
          "--slo '{}': ttft, tpot, itl and e2e with milliseconds, as ttft=500,itl=50ms,e2e=10s",
          part);
    }
    *of = number * scale;
  }
  return slo;
}

// A line break would end the header and begin another.
bool HasLineBreak(std::string_view text) {
  return text.find_first_of("\r\n") != std::string_view::npos;
}

Status ReadHeaders(const std::vector<std::string>& headers, RequestOptions& request) {
  for (const std::string& header : headers) {
    if (HasLineBreak(header)) return InvalidArgument("--header: a line break in it");
    const size_t colon = header.find(':');
    if (colon == std::string::npos || colon == 0) {
      return InvalidArgument("--header '{}': as 'Name: value'", header);
    }
    const size_t value = header.find_first_not_of(' ', colon + 1);
    request.headers.emplace_back(header.substr(0, colon),
                                 value == std::string::npos ? "" : header.substr(value));
  }
  if (HasLineBreak(request.api_key)) return InvalidArgument("--api-key: a line break in it");
  return OkStatus();
}

Status ReadExtraBody(const std::string& text, RequestOptions& request) {
  if (text.empty()) return OkStatus();
  boost::system::error_code error;
  const boost::json::value value = boost::json::parse(text, error);
  if (error || !value.is_object()) {
    return InvalidArgument("--extra-body '{}': a JSON object is needed", text);
  }
  for (const char* own :
       {"model", "messages", "prompt", "max_tokens", "stream", "stream_options"}) {
    if (value.get_object().contains(own)) {
      return InvalidArgument("--extra-body: '{}' is set by this program", own);
    }
  }
  const std::string members = boost::json::serialize(value);
  request.extra_members = members.substr(1, members.size() - 2);
  return OkStatus();
}

void DeclareTarget(CLI::App& app, Options& options, Raw& raw) {
  app.add_option("--url", options.url, "http://HOST:PORT or https://HOST:PORT of the endpoint")
      ->required();
  app.add_option("--endpoint", raw.endpoint, "chat or completions")
      ->check(CLI::IsMember({"chat", "completions"}));
  app.add_option("--model", options.request.model, "default: the first of /v1/models");
  app.add_option("--api-key", options.request.api_key, "sent as Authorization: Bearer");
  app.add_option("--header", raw.headers, "'Name: value'; may be repeated")
      ->allow_extra_args(false);
  auto* insecure = app.add_flag("--insecure", raw.insecure, "of https: take any certificate");
  app.add_option("--ca-file", options.tls.ca_file,
                 "of https: PEM file with the authorities to trust (default: the system's)")
      ->excludes(insecure);
  app.add_option("--extra-body", raw.extra_body, "JSON object, added to each request's body");
  app.add_option("--timeout", raw.timeout_s, "seconds a request may take")
      ->check(CLI::PositiveNumber);
}

// CLI::PositiveNumber ends at the largest finite one.
const CLI::Validator kPositiveOrInfinite(
    [](std::string& text) {
      double value = 0;
      return CLI::detail::lexical_cast(text, value) && value > 0 ? "" : "a number above 0, or inf";
    },
    "POSITIVE");

void DeclareMode(CLI::App& app, Options& options, Raw& raw) {
  DriverOptions& driver = options.driver;
  auto* concurrency = app.add_option("--concurrency", driver.concurrency,
                                     "closed loop: so many at a time (default: 1)")
                          ->check(CLI::Range(1, 1'000'000));
  auto* rate = app.add_option("--rate", driver.rate, "open loop: requests/s, or inf")
                   ->check(kPositiveOrInfinite);
  auto* replay = app.add_flag("--replay", raw.replay, "at the times of the trace");
  concurrency->excludes(rate)->excludes(replay);
  rate->excludes(replay);
  app.add_option("--burstiness", driver.burstiness,
                 "shape of the gamma distributed gaps: 1 Poisson, less is burstier, inf none")
      ->check(kPositiveOrInfinite)
      ->needs(rate);
  app.add_option("--rate-scale", driver.rate_scale, "of --replay: 2 is twice as fast")
      ->check(CLI::PositiveNumber)
      ->needs(replay);
  app.add_option("--max-outstanding", driver.max_outstanding,
                 "of --rate and --replay: more wait here, and their latency counts the wait")
      ->check(CLI::Range(1, 1'000'000))
      ->excludes(concurrency);
  app.add_option("--num-requests", driver.num_requests,
                 "default: 1000, or all of a trace, or as many as --duration takes")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 40));
  app.add_option("--duration", raw.duration_s, "seconds in which requests begin")
      ->check(CLI::PositiveNumber);
  app.add_option("--warmup", options.warmup, "requests before the run, not counted")
      ->check(CLI::Range(0, 1'000'000));
}

void DeclareWorkload(CLI::App& app, Options& options, Raw& raw) {
  WorkloadOptions& workload = options.workload;
  auto* sharegpt = app.add_option("--sharegpt", raw.sharegpt, "conversations of this file");
  auto* trace = app.add_option(
      "--trace", raw.trace, "requests of this trace: Mooncake JSONL, Azure CSV or a recorded one");
  sharegpt->excludes(trace);
  auto* input = app.add_option("--input", raw.input, "tokens of a message: N or LOW:HIGH");
  auto* output = app.add_option("--output", raw.output, "tokens of a reply: N or LOW:HIGH");
  auto* prefixes = app.add_option("--prefixes", workload.num_prefixes, "number of shared prefixes")
                       ->check(CLI::Range(int64_t{1}, int64_t{1} << 31));
  auto* prefix_tokens =
      app.add_option("--prefix-tokens", workload.prefix_tokens, "tokens of a shared prefix")
          ->check(CLI::Range(int64_t{1}, kMostTokens));
  prefixes->needs(prefix_tokens);
  prefix_tokens->needs(prefixes);
  for (CLI::Option* made_up : {input, output, prefixes}) {
    made_up->excludes(sharegpt)->excludes(trace);
  }
  app.add_option("--turns", workload.turns, "of a conversation; of --sharegpt: at most")
      ->check(CLI::Range(1, 1000))
      ->excludes(trace);
  app.add_option("--max-input", workload.max_input,
                 "of a file: longer prompts are cut (--sharegpt: left out)")
      ->check(CLI::Range(int64_t{1}, kMostTokens));
  app.add_option("--max-output", workload.max_output, "of a file: longer replies are not asked for")
      ->check(CLI::Range(int64_t{1}, kMostTokens));
  app.add_option("--seed", workload.seed, "of texts, lengths and arrivals");
}

void DeclareReports(CLI::App& app, Options& options, Raw& raw) {
  app.add_option("--percentiles", raw.percentiles, "default: 50,90,95,99");
  app.add_option("--slo", raw.slo, "for goodput: ttft=MS,tpot=MS,itl=MS,e2e=MS, any of them");
  auto* json =
      app.add_option("--json", options.json_file, "write the result there; -: standard output");
  app.add_option("--html", options.html_file, "write a page with charts there");
  app.add_flag("--detailed", options.detailed, "the JSON holds every request too")->needs(json);
  app.add_flag("--allow-errors", options.allow_errors, "exit 0 though requests have failed");
}

void ChooseDataset(const Raw& raw, WorkloadOptions& workload) {
  const std::pair<Dataset, const std::string*> files[] = {{Dataset::kShareGpt, &raw.sharegpt},
                                                          {Dataset::kTrace, &raw.trace}};
  for (const auto& [dataset, file] : files) {
    if (file->empty()) continue;
    workload.dataset = dataset;
    workload.file = *file;
  }
}

// What one flag says of another.
Status CheckTogether(const CLI::App& app, const Raw& raw, const Options& options) {
  if (!options.target.https && (raw.insecure || !options.tls.ca_file.empty())) {
    return InvalidArgument("--insecure and --ca-file are for https://");
  }
  const Dataset dataset = options.workload.dataset;
  if (raw.replay && dataset != Dataset::kTrace) return InvalidArgument("--replay needs a --trace");
  if (dataset == Dataset::kSynthetic &&
      (options.workload.max_input > 0 || options.workload.max_output > 0)) {
    return InvalidArgument("--max-input and --max-output are for files; use --input and --output");
  }
  if (app.count("--max-outstanding") > 0 && options.driver.mode == Mode::kClosed) {
    return InvalidArgument("--max-outstanding is for --rate and --replay; use --concurrency");
  }
  return OkStatus();
}

Status Finish(const CLI::App& app, const Raw& raw, Options& options) {
  TANDEM_ASSIGN_OR_RETURN(options.target, ParseUrl(options.url));
  options.request.endpoint = raw.endpoint == "chat" ? Endpoint::kChat : Endpoint::kCompletions;
  TANDEM_RETURN_IF_ERROR(ReadHeaders(raw.headers, options.request));
  TANDEM_RETURN_IF_ERROR(ReadExtraBody(raw.extra_body, options.request));
  TANDEM_ASSIGN_OR_RETURN(options.workload.input, ReadRange("--input", raw.input));
  TANDEM_ASSIGN_OR_RETURN(options.workload.output, ReadRange("--output", raw.output));
  TANDEM_ASSIGN_OR_RETURN(options.percentiles, ReadPercentiles(raw.percentiles));
  TANDEM_ASSIGN_OR_RETURN(options.slo, ReadSlo(raw.slo));
  ChooseDataset(raw, options.workload);
  options.timeout = static_cast<Nanos>(raw.timeout_s * 1e9);
  options.driver.seed = options.workload.seed;
  if (app.count("--rate") > 0) options.driver.mode = Mode::kOpen;
  if (raw.replay) options.driver.mode = Mode::kReplay;
  if (raw.duration_s > 0) options.driver.duration = static_cast<Nanos>(raw.duration_s * 1e9);
  if (app.count("--num-requests") == 0 && raw.duration_s == 0 && !raw.replay) {
    options.driver.num_requests = kDefaultRequests;
  }
  options.tls.verify = !raw.insecure;
  return CheckTogether(app, raw, options);
}

}  // namespace

StatusOr<std::optional<Options>> ParseOptions(int argc, char** argv) {
  CLI::App app("Load test of an OpenAI endpoint: closed loop, open loop or replay of a trace.",
               "tandem bench");
  app.footer(
      "Exit codes: 0 every request succeeded (or --allow-errors); 1 some failed; 2 a mistake in "
      "flags or files.\nMetrics are defined as `vllm bench serve` has them; docs/bench.md.");
  Options options;
  Raw raw;
  DeclareTarget(app, options, raw);
  DeclareMode(app, options, raw);
  DeclareWorkload(app, options, raw);
  DeclareReports(app, options, raw);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& e) {
    app.exit(e);
    return std::optional<Options>();
  } catch (const CLI::ParseError& e) {
    return InvalidArgument("{}", e.what());
  }
  TANDEM_RETURN_IF_ERROR(Finish(app, raw, options));
  return std::optional<Options>(std::move(options));
}

}  // namespace tandem::load
