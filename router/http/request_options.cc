#include "router/http/request_options.h"

#include <fmt/format.h>

#include <charconv>

#include "common/hash.h"

namespace tandem::http {
namespace {

constexpr char kDeadlineHeader[] = "x-tandem-ttft-deadline-ms";
constexpr char kPriorityHeader[] = "x-tandem-priority";
constexpr int64_t kMaxDeadlineMs = 24 * 3600 * 1000;

std::optional<ApiError> ReadDeadline(const std::string& text, Nanos& deadline) {
  int64_t ms = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), ms);
  if (error != std::errc() || end != text.data() + text.size() || ms < 1 || ms > kMaxDeadlineMs) {
    return InvalidRequest(kDeadlineHeader,
                          fmt::format("'{}' must be a whole number of milliseconds, 1 to {}.",
                                      kDeadlineHeader, kMaxDeadlineMs),
                          "invalid_value");
  }
  deadline = ms * kMillisecond;
  return std::nullopt;
}

std::optional<ApiError> ReadPriority(const std::string& text, const std::string& highest,
                                     int32_t& priority) {
  const std::optional<int> asked = PriorityOf(text);
  if (!asked || *asked > PriorityOf(highest).value_or(0)) {
    return InvalidRequest(
        kPriorityHeader,
        fmt::format("'{}' must be 'low', 'normal' or 'high'; the highest that this server gives is "
                    "'{}'.",
                    kPriorityHeader, highest),
        "invalid_value");
  }
  priority = *asked;
  return std::nullopt;
}

}  // namespace

std::optional<int> PriorityOf(std::string_view name) {
  if (name == "low") return -1;
  if (name == "normal") return 0;
  if (name == "high") return 1;
  return std::nullopt;
}

std::optional<ApiError> ReadOptions(const HttpRequest& request, const config::Admission& admission,
                                    Generation& g) {
  if (!request.ttft_deadline_ms.empty()) {
    if (auto error = ReadDeadline(request.ttft_deadline_ms, g.ttft_deadline)) return error;
  }
  if (!request.priority.empty()) {
    auto error = ReadPriority(request.priority, admission.highest_priority, g.priority);
    if (error) return error;
  }
  if (!request.session.empty()) g.session = HashBytes(request.session).low | 1;  // 0: none
  return std::nullopt;
}

}  // namespace tandem::http
