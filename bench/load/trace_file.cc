#include "bench/load/trace_file.h"

#include <zlib.h>

#include <algorithm>
#include <boost/json.hpp>
#include <charconv>
#include <chrono>
#include <cmath>
#include <functional>
#include <string_view>

namespace tandem::load {
namespace {

namespace json = boost::json;

constexpr int64_t kMaxTokens = 100'000'000;

// Calls read(line) for each line that is not empty; the first error ends it, with its line number.
StatusOr<std::vector<TraceRow>> ReadRows(
    const std::string& file, const std::function<Status(std::string_view, TraceRow&)>& read,
    bool header) {
  TANDEM_ASSIGN_OR_RETURN(const std::string text, ReadText(file));
  std::vector<TraceRow> rows;
  int number = 0;
  for (std::string_view rest = text; !rest.empty();) {
    std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (++number == 1 && header) continue;
    if (line.empty()) continue;
    const Status status = read(line, rows.emplace_back());
    if (!status.ok()) return InvalidArgument("{}:{}: {}", file, number, Message(status));
  }
  if (rows.empty()) return InvalidArgument("{}: no requests in it", file);
  std::stable_sort(rows.begin(), rows.end(),
                   [](const TraceRow& a, const TraceRow& b) { return a.at < b.at; });
  const Nanos start = rows.front().at;
  for (TraceRow& row : rows) row.at -= start;
  return rows;
}

StatusOr<double> Number(const json::object& object, std::string_view key, double most) {
  const json::value* value = object.if_contains(json::string_view(key.data(), key.size()));
  if (value == nullptr || !value->is_number()) return InvalidArgument("no number '{}'", key);
  const auto number = value->to_number<double>();
  if (!(number >= 0) || number > most) {
    return InvalidArgument("'{}' is {}; 0 to {} is possible", key, number, most);
  }
  return number;
}

Status ReadHashIds(const json::object& object, TraceRow& row) {
  const json::value* ids = object.if_contains("hash_ids");
  if (ids == nullptr || !ids->is_array()) return InvalidArgument("no array 'hash_ids'");
  for (const json::value& id : ids->get_array()) {
    boost::system::error_code error;
    row.hash_ids.push_back(id.to_number<uint64_t>(error));
    if (error) return InvalidArgument("'hash_ids' holds what is not an integer from 0");
  }
  const auto needed = (row.input_tokens + kHashBlockTokens - 1) / kHashBlockTokens;
  if (static_cast<int64_t>(row.hash_ids.size()) < needed) {
    return InvalidArgument("{} 'hash_ids' for {} tokens; {} are needed", row.hash_ids.size(),
                           row.input_tokens, needed);
  }
  return OkStatus();
}

Status ReadMooncakeRow(std::string_view line, TraceRow& row) {
  boost::system::error_code error;
  const json::value value = json::parse(json::string_view(line.data(), line.size()), error);
  if (error || !value.is_object()) return InvalidArgument("not a JSON object");
  const json::object& object = value.get_object();
  TANDEM_ASSIGN_OR_RETURN(const double at_ms, Number(object, "timestamp", 9e12));
  TANDEM_ASSIGN_OR_RETURN(const double input, Number(object, "input_length", kMaxTokens));
  TANDEM_ASSIGN_OR_RETURN(const double output, Number(object, "output_length", kMaxTokens));
  row.at = static_cast<Nanos>(at_ms * static_cast<double>(kMillisecond));
  row.input_tokens = static_cast<int64_t>(input);
  row.output_tokens = static_cast<int64_t>(output);
  return ReadHashIds(object, row);
}

// Takes digits (at most 18, so that they fit) and what must follow them off the text.
bool TakeInteger(std::string_view& text, std::string_view then, int64_t& out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  const auto used = static_cast<size_t>(end - text.data());
  if (error != std::errc() || out < 0 || used > 18) return false;
  text.remove_prefix(used);
  if (!text.starts_with(then)) return false;
  text.remove_prefix(then.size());
  return true;
}

// "2023-11-16 18:15:46.6805900", perhaps with a zone behind it, which is the same in every row.
bool ReadTime(std::string_view text, Nanos& out) {
  int64_t year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0;
  if (!TakeInteger(text, "-", year) || !TakeInteger(text, "-", month) ||
      !TakeInteger(text, " ", day) || !TakeInteger(text, ":", hour) ||
      !TakeInteger(text, ":", minute) || !TakeInteger(text, "", second)) {
    return false;
  }
  const std::chrono::year_month_day date{std::chrono::year(static_cast<int>(year)),
                                         std::chrono::month(static_cast<unsigned>(month)),
                                         std::chrono::day(static_cast<unsigned>(day))};
  if (!date.ok() || year > 2200 || hour > 23 || minute > 59 || second > 60) return false;
  const int64_t days = std::chrono::sys_days(date).time_since_epoch().count();
  out = (((days * 24 + hour) * 60 + minute) * 60 + second) * kSecond;
  if (!text.starts_with('.')) return true;
  Nanos unit = kSecond / 10;
  for (size_t i = 1; i < text.size() && text[i] >= '0' && text[i] <= '9'; ++i, unit /= 10) {
    out += (text[i] - '0') * unit;
  }
  return true;
}

Status ReadAzureRow(std::string_view line, TraceRow& row) {
  const std::string_view time = line.substr(0, line.find(','));
  std::string_view rest = line.substr(std::min(line.size(), time.size() + 1));
  if (!ReadTime(time, row.at)) {
    return InvalidArgument("'{}' is no time like 2023-11-16 18:15:46.68", time);
  }
  if (!TakeInteger(rest, ",", row.input_tokens) || !TakeInteger(rest, "", row.output_tokens) ||
      !rest.empty() || row.input_tokens > kMaxTokens || row.output_tokens > kMaxTokens) {
    return InvalidArgument("not a row of TIMESTAMP,ContextTokens,GeneratedTokens");
  }
  return OkStatus();
}

}  // namespace

StatusOr<std::string> ReadText(const std::string& file) {
  gzFile in = gzopen(file.c_str(), "rb");  // reads plain files too
  if (in == nullptr) return NotFound("{}: cannot be opened", file);
  std::string text, buffer(size_t{1} << 16, '\0');
  int n = 0;
  while ((n = gzread(in, buffer.data(), static_cast<unsigned>(buffer.size()))) > 0) {
    text.append(buffer, 0, static_cast<size_t>(n));
  }
  const bool whole = n == 0 && gzclose(in) == Z_OK;
  if (n < 0) gzclose(in);
  if (!whole) return InvalidArgument("{}: cannot be read to its end", file);
  return text;
}

StatusOr<std::vector<TraceRow>> ReadMooncake(const std::string& file) {
  return ReadRows(file, ReadMooncakeRow, false);
}

StatusOr<std::vector<TraceRow>> ReadAzure(const std::string& file) {
  return ReadRows(file, ReadAzureRow, true);
}

}  // namespace tandem::load
