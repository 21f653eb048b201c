#include "bench/trace/trace.h"

#include <algorithm>
#include <boost/json.hpp>
#include <charconv>
#include <chrono>
#include <cmath>
#include <string_view>

#include "bench/trace/text_file.h"

namespace tandem::trace {
namespace {

namespace json = boost::json;

constexpr int kMooncakeHashTokens = 512;
constexpr int32_t kMostTokens = 10'000'000;  // of one prompt or reply
constexpr double kMostMs = 1e12;             // 31 years

// One line of a trace, for messages.
struct Line {
  std::string_view text;
  const std::string& path;
  int number = 0;

  template <class... Args>
  Status Wrong(fmt::format_string<Args...> format, Args&&... args) const {
    return InvalidArgument("{}:{}: {}", path, number,
                           fmt::format(format, std::forward<Args>(args)...));
  }
};

// Each line of `text` that is not blank goes to `read`, until one of them is wrong.
template <class Read>
Status ForEachLine(std::string_view text, const std::string& path, Read&& read) {
  int number = 0;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    ++number;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty()) continue;
    TANDEM_RETURN_IF_ERROR(read(Line{line, path, number}));
  }
  return OkStatus();
}

StatusOr<json::object> ParseObject(const Line& line) {
  boost::system::error_code error;
  json::value value = json::parse({line.text.data(), line.text.size()}, error);
  if (error || !value.is_object()) {
    return line.Wrong("not a JSON object; a line is like {}",
                      R"({"timestamp": 0, "input_length": 700, "output_length": 90, )"
                      R"("hash_ids": [1, 2]})");
  }
  return std::move(value.as_object());
}

// Whole numbers in [least, most].
StatusOr<int32_t> IntegerOf(const Line& line, const json::object& object, const char* key,
                            int32_t least, int32_t most) {
  const json::value* value = object.if_contains(key);
  const int64_t* number = value == nullptr ? nullptr : value->if_int64();
  if (number == nullptr || *number < least || *number > most) {
    return line.Wrong("'{}' is {}; a whole number, {} to {}", key,
                      value == nullptr ? "missing" : json::serialize(*value), least, most);
  }
  return static_cast<int32_t>(*number);
}

StatusOr<int32_t> LengthOf(const Line& line, const json::object& object, const char* key) {
  TANDEM_ASSIGN_OR_RETURN(const int32_t length, IntegerOf(line, object, key, 0, kMostTokens));
  return std::max(length, 1);
}

StatusOr<Nanos> TimestampOf(const Line& line, const json::object& object) {
  const json::value* value = object.if_contains("timestamp");
  boost::system::error_code error;
  const double ms = value == nullptr || !value->is_number() ? -1 : value->to_number<double>(error);
  if (error || !(ms >= 0 && ms <= kMostMs)) {
    return line.Wrong("'timestamp' is {}; milliseconds since the trace began, 0 or more",
                      value == nullptr ? "missing" : json::serialize(*value));
  }
  return static_cast<Nanos>(std::llround(ms * static_cast<double>(kMillisecond)));
}

Status ReadHashes(const Line& line, const json::object& object, Trace& trace,
                  TraceRequest& request) {
  const json::value* value = object.if_contains("hash_ids");
  const json::array* ids = value == nullptr ? nullptr : value->if_array();
  if (ids == nullptr) return line.Wrong("no 'hash_ids'; a list of whole numbers");
  const int32_t full = request.prompt_tokens / trace.hash_tokens;
  const int32_t all = (request.prompt_tokens + trace.hash_tokens - 1) / trace.hash_tokens;
  const auto count = static_cast<int64_t>(ids->size());
  if (count != full && count != all) {
    return line.Wrong(
        "{} hash_ids for {} tokens; {} tokens an id make {}, or {} with the last part", count,
        request.prompt_tokens, trace.hash_tokens, full, all);
  }
  request.first_hash = trace.hashes.size();
  request.num_hashes = static_cast<int32_t>(count);
  for (const json::value& id : *ids) {
    if (!id.is_int64() && !id.is_uint64()) {
      return line.Wrong("the hash id {} is not a whole number", json::serialize(id));
    }
    trace.hashes.push_back(id.is_int64() ? static_cast<uint64_t>(id.get_int64()) : id.get_uint64());
  }
  return OkStatus();
}

// Fields beside the four are not ours to judge: other tools add theirs.
Status ReadJsonRequest(const Line& line, const json::object& object, Trace& trace) {
  TraceRequest request;
  TANDEM_ASSIGN_OR_RETURN(request.arrival, TimestampOf(line, object));
  TANDEM_ASSIGN_OR_RETURN(request.prompt_tokens, LengthOf(line, object, "input_length"));
  TANDEM_ASSIGN_OR_RETURN(request.output_tokens, LengthOf(line, object, "output_length"));
  TANDEM_RETURN_IF_ERROR(ReadHashes(line, object, trace, request));
  trace.requests.push_back(request);
  return OkStatus();
}

Status ReadHeader(const Line& line, const json::object& object, Trace& trace) {
  TANDEM_RETURN_IF_ERROR(IntegerOf(line, object, "tandem_trace", 1, 1).status());
  TANDEM_ASSIGN_OR_RETURN(trace.hash_tokens, IntegerOf(line, object, "block_size", 1, 1 << 16));
  return OkStatus();
}

Status ReadJsonLines(const std::string& text, const std::string& path, Trace& trace) {
  bool first = true;
  trace.hash_tokens = kMooncakeHashTokens;
  return ForEachLine(text, path, [&](const Line& line) -> Status {
    TANDEM_ASSIGN_OR_RETURN(const json::object object, ParseObject(line));
    const bool header = std::exchange(first, false) && object.contains("tandem_trace");
    return header ? ReadHeader(line, object, trace) : ReadJsonRequest(line, object, trace);
  });
}

constexpr std::string_view kAzureHeader = "TIMESTAMP,ContextTokens,GeneratedTokens";

// Cuts what comes before `separator` (or all) off `rest`; false: it is no number.
template <class Number>
bool Take(std::string_view& rest, char separator, Number& number) {
  const size_t end = std::min(rest.find(separator), rest.size());
  const std::string_view part = rest.substr(0, end);
  rest.remove_prefix(std::min(end + 1, rest.size()));
  const auto [stop, error] = std::from_chars(part.data(), part.data() + part.size(), number);
  return error == std::errc() && stop == part.data() + part.size();
}

// "2023-11-16 18:15:46.6805900", with or without "+00:00": since 1970.
bool ParseTime(std::string_view text, Nanos& time) {
  if (text.ends_with("+00:00")) text.remove_suffix(6);
  int year = 0;
  unsigned month = 0, day = 0, hour = 0, minute = 0;
  double second = 0;
  if (!Take(text, '-', year) || !Take(text, '-', month) || !Take(text, ' ', day)) return false;
  if (!Take(text, ':', hour) || !Take(text, ':', minute) || !Take(text, ',', second)) return false;
  const std::chrono::year_month_day date{std::chrono::year(year), std::chrono::month(month),
                                         std::chrono::day(day)};
  if (!date.ok() || hour > 23 || minute > 59 || !(second >= 0 && second < 61)) return false;
  const auto days = std::chrono::sys_days(date).time_since_epoch().count();
  time = (Nanos{days} * 86'400 + hour * 3'600 + minute * 60) * kSecond +
         static_cast<Nanos>(std::llround(second * static_cast<double>(kSecond)));
  return true;
}

Status ReadAzureRequest(const Line& line, Trace& trace) {
  TraceRequest request;
  const size_t comma = std::min(line.text.find(','), line.text.size());
  std::string_view rest = line.text.substr(std::min(comma + 1, line.text.size()));
  const bool numbers =
      Take(rest, ',', request.prompt_tokens) && Take(rest, ',', request.output_tokens);
  const auto valid = [](int32_t tokens) { return tokens >= 0 && tokens <= kMostTokens; };
  if (!ParseTime(line.text.substr(0, comma), request.arrival) || !numbers || !rest.empty() ||
      !valid(request.prompt_tokens) || !valid(request.output_tokens)) {
    return line.Wrong(
        "'{}' is no request; like 2023-11-16 18:15:46.6805900,374,44 with 0 to {} "
        "tokens each",
        line.text, kMostTokens);
  }
  request.prompt_tokens = std::max(request.prompt_tokens, 1);
  request.output_tokens = std::max(request.output_tokens, 1);
  trace.requests.push_back(request);
  return OkStatus();
}

Status ReadAzure(const std::string& text, const std::string& path, Trace& trace) {
  return ForEachLine(text, path, [&](const Line& line) -> Status {
    return line.text == kAzureHeader ? OkStatus() : ReadAzureRequest(line, trace);
  });
}

void SortFromZero(Trace& trace) {
  auto& requests = trace.requests;
  std::stable_sort(
      requests.begin(), requests.end(),
      [](const TraceRequest& a, const TraceRequest& b) { return a.arrival < b.arrival; });
  const Nanos start = requests.front().arrival;
  for (TraceRequest& request : requests) request.arrival -= start;
}

}  // namespace

StatusOr<Trace> ParseTrace(const std::string& text, const std::string& path) {
  Trace trace;
  const bool azure = std::string_view(text).starts_with(kAzureHeader);
  if (!azure && !text.starts_with('{')) {
    return InvalidArgument(
        "{}:1: neither a JSON line nor the header '{}'; docs/simulate.md names the formats", path,
        kAzureHeader);
  }
  TANDEM_RETURN_IF_ERROR(azure ? ReadAzure(text, path, trace) : ReadJsonLines(text, path, trace));
  if (trace.requests.empty()) return InvalidArgument("{}:1: no request in the trace", path);
  SortFromZero(trace);
  return trace;
}

StatusOr<Trace> ReadTrace(const std::string& path) {
  TANDEM_ASSIGN_OR_RETURN(const std::string text, ReadText(path));
  return ParseTrace(text, path);
}

}  // namespace tandem::trace
