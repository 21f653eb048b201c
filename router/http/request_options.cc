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

std::optional<ApiError> ReadPriorityHeader(const std::string& text, const std::string& highest,
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

// vLLM's: lower goes first, 0 is usual.
std::optional<ApiError> ReadPriorityField(int32_t asked, const std::string& highest,
                                          int32_t& priority) {
  const int32_t wanted = asked < 0 ? 1 : asked > 0 ? -1 : 0;
  if (wanted > PriorityOf(highest).value_or(0)) {
    return InvalidRequest(
        "priority",
        fmt::format("'priority' asks for the class 'high' (lower goes first); the "
                    "highest that this server gives is '{}'.",
                    highest),
        "invalid_value");
  }
  priority = wanted;
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
                                    ApiCall& call) {
  if (!request.ttft_deadline_ms.empty()) {
    if (auto error = ReadDeadline(request.ttft_deadline_ms, call.ttft_deadline)) return error;
  }
  const std::string& highest = admission.highest_priority;
  if (call.api.priority) {
    if (auto error = ReadPriorityField(*call.api.priority, highest, call.priority)) return error;
  }
  if (!request.priority.empty()) {
    if (call.api.priority) {
      return InvalidRequest("priority",
                            fmt::format("Send 'priority' or '{}', not both.", kPriorityHeader),
                            "invalid_value");
    }
    if (auto error = ReadPriorityHeader(request.priority, highest, call.priority)) return error;
  }
  if (!request.session.empty()) call.session = HashBytes(request.session).low | 1;  // 0: none
  return std::nullopt;
}

}  // namespace tandem::http
