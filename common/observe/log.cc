#include "common/observe/log.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <array>
#include <cmath>
#include <memory>

#include "common/observe/last_error.h"

namespace tandem::observe {
namespace {

struct Logger {
  std::shared_ptr<spdlog::logger> spd;
  bool json = false;
};

std::shared_ptr<spdlog::logger> MakeLogger(bool json, const std::string& process) {
  auto logger =
      std::make_shared<spdlog::logger>(process, std::make_shared<spdlog::sinks::stderr_sink_mt>());
  logger->set_pattern(json ? R"({"time":"%Y-%m-%dT%H:%M:%S.%fZ","level":"%l","process":"%n",%v})"
                           : "%Y-%m-%dT%H:%M:%S.%eZ %l %n: %v",
                      spdlog::pattern_time_type::utc);
  logger->flush_on(spdlog::level::trace);  // a line that explains a crash must not sit in a buffer
  return logger;
}

Logger& TheLogger() {
  static Logger logger{MakeLogger(false, "tandem"), false};
  return logger;
}

spdlog::level::level_enum ToSpdlog(LogLevel level) {
  constexpr std::array kLevels = {spdlog::level::trace, spdlog::level::debug, spdlog::level::info,
                                  spdlog::level::warn, spdlog::level::err};
  return kLevels[static_cast<size_t>(level)];
}

// Escapes quotes, backslashes and control characters; bytes above 0x7f pass.
void AppendEscaped(std::string& out, std::string_view text, bool quotes) {
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '\n') {
      out += "\\n";
    } else if (byte < 0x20 || byte == 0x7f) {
      fmt::format_to(std::back_inserter(out), "\\u{:04x}", byte);
    } else {
      if (quotes && (c == '"' || c == '\\')) out += '\\';
      out += c;
    }
  }
}

void AppendValue(std::string& out, const LogField::Value& value, bool json) {
  if (const auto* text = std::get_if<std::string_view>(&value)) {
    const bool quoted =
        json || text->empty() || text->find_first_of(" \"=") != std::string_view::npos;
    if (quoted) out += '"';
    AppendEscaped(out, *text, quoted);
    if (quoted) out += '"';
  } else if (const auto* integer = std::get_if<int64_t>(&value)) {
    fmt::format_to(std::back_inserter(out), "{}", *integer);
  } else if (const auto* real = std::get_if<double>(&value)) {
    if (json && !std::isfinite(*real)) {
      out += "null";
    } else {
      fmt::format_to(std::back_inserter(out), "{:.6g}", *real);
    }
  } else {
    out += std::get<bool>(value) ? "true" : "false";
  }
}

}  // namespace

std::string FormatLogText(std::string_view message, std::span<const LogField> fields) {
  std::string out;
  AppendEscaped(out, message, false);
  for (const LogField& field : fields) {
    out += ' ';
    out += field.key;
    out += '=';
    AppendValue(out, field.value, false);
  }
  return out;
}

std::string FormatLogJson(std::string_view message, std::span<const LogField> fields) {
  std::string out = "\"message\":\"";
  AppendEscaped(out, message, true);
  out += '"';
  for (const LogField& field : fields) {
    out += ",\"";
    out += field.key;
    out += "\":";
    AppendValue(out, field.value, true);
  }
  return out;
}

Status InitLog(const std::string& level, const std::string& format, const std::string& process) {
  constexpr std::array<std::string_view, 5> kNames = {"trace", "debug", "info", "warn", "error"};
  size_t index = 0;
  while (index < kNames.size() && kNames[index] != level) ++index;
  if (index == kNames.size()) {
    return InvalidArgument("log level '{}' is not known; one of trace, debug, info, warn, error",
                           level);
  }
  if (format != "text" && format != "json") {
    return InvalidArgument("log format '{}' is not known; text or json", format);
  }
  Logger& logger = TheLogger();
  logger.json = format == "json";
  logger.spd = MakeLogger(logger.json, process);
  logger.spd->set_level(ToSpdlog(static_cast<LogLevel>(index)));
  OpenLastError();
  return OkStatus();
}

bool LogEnabled(LogLevel level) { return TheLogger().spd->should_log(ToSpdlog(level)); }

void LogEvent(LogLevel level, std::string_view message, std::span<const LogField> fields) {
  Logger& logger = TheLogger();
  if (!logger.spd->should_log(ToSpdlog(level))) return;
  const std::string body =
      logger.json ? FormatLogJson(message, fields) : FormatLogText(message, fields);
  logger.spd->log(ToSpdlog(level), spdlog::string_view_t(body.data(), body.size()));
  if (level == LogLevel::kError) WriteLastError(FormatLogText(message, fields));
}

void LogLine(LogLevel level, std::string_view message) { LogEvent(level, message, {}); }

}  // namespace tandem::observe
