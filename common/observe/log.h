// The log of one process: lines on stderr, as text or as JSON, each with time (UTC), level and the
// name of the process. An error is logged once, where it is decided; pure rooms do not log.
//
//   LogInfo("listening on {}", address);
//   LogEvent(LogLevel::kInfo, "request", {{"id", id}, {"status", 200}, {"ttft_us", 1234}});
//
// Thread: any. Before InitLog: level info, text, process "tandem".
#pragma once

#include <fmt/format.h>

#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "common/status.h"

namespace tandem::observe {

enum class LogLevel : uint8_t { kTrace, kDebug, kInfo, kWarn, kError };

// `level`: trace | debug | info | warn | error; `format`: text | json, as in the cluster file.
// `process` appears in every line ("router", "worker g0/1"). Call once, before other threads log.
Status InitLog(const std::string& level, const std::string& format, const std::string& process);

bool LogEnabled(LogLevel level);

// One line. Newlines and control characters in `message` are escaped: a line stays one line
// whatever a client sent.
void LogLine(LogLevel level, std::string_view message);

// One value of a structured line.
struct LogField {
  using Value = std::variant<std::string_view, int64_t, double, bool>;
  LogField(std::string_view k, std::string_view v) : key(k), value(v) {}
  LogField(std::string_view k, const char* v) : key(k), value(std::string_view(v)) {}
  LogField(std::string_view k, const std::string& v) : key(k), value(std::string_view(v)) {}
  LogField(std::string_view k, bool v) : key(k), value(v) {}
  LogField(std::string_view k, double v) : key(k), value(v) {}
  template <std::integral T>
  LogField(std::string_view k, T v) : key(k), value(static_cast<int64_t>(v)) {}
  std::string_view key;  // an identifier: not escaped
  Value value;
};

// Text: `message key=value ...` (strings with spaces quoted); JSON: members of the object.
void LogEvent(LogLevel level, std::string_view message, std::span<const LogField> fields);
inline void LogEvent(LogLevel level, std::string_view message,
                     std::initializer_list<LogField> fields) {
  LogEvent(level, message, std::span<const LogField>(fields.begin(), fields.size()));
}

template <class... Args>
void LogDebug(fmt::format_string<Args...> format, Args&&... args) {
  if (LogEnabled(LogLevel::kDebug)) {
    LogLine(LogLevel::kDebug, fmt::format(format, std::forward<Args>(args)...));
  }
}
template <class... Args>
void LogInfo(fmt::format_string<Args...> format, Args&&... args) {
  if (LogEnabled(LogLevel::kInfo)) {
    LogLine(LogLevel::kInfo, fmt::format(format, std::forward<Args>(args)...));
  }
}
template <class... Args>
void LogWarn(fmt::format_string<Args...> format, Args&&... args) {
  if (LogEnabled(LogLevel::kWarn)) {
    LogLine(LogLevel::kWarn, fmt::format(format, std::forward<Args>(args)...));
  }
}
template <class... Args>
void LogError(fmt::format_string<Args...> format, Args&&... args) {
  LogLine(LogLevel::kError, fmt::format(format, std::forward<Args>(args)...));
}

// What LogLine and LogEvent would write after time, level and process; the tests look at it.
std::string FormatLogText(std::string_view message, std::span<const LogField> fields);
std::string FormatLogJson(std::string_view message, std::span<const LogField> fields);

}  // namespace tandem::observe
