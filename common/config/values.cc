#include "common/config/values.h"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <limits>
#include <numeric>

namespace tandem::config {
namespace {

struct Unit {
  std::string_view name;
  int64_t factor;
};

// Ascending, so that the last exact one is the largest.
constexpr std::array<Unit, 5> kByteUnits = {
    {{"B", 1}, {"KiB", 1LL << 10}, {"MiB", 1LL << 20}, {"GiB", 1LL << 30}, {"TiB", 1LL << 40}}};
constexpr std::array<Unit, 4> kDurationUnits = {
    {{"ms", kMillisecond}, {"s", kSecond}, {"m", 60 * kSecond}, {"h", 3600 * kSecond}}};

constexpr size_t kMaxName = 32;
constexpr size_t kMaxIpcPath = 100;  // a Unix socket's path has 107 characters at most

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsAlnum(char c) { return IsDigit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

// Number and unit, apart. False: no whole number at the start.
bool SplitNumber(std::string_view text, int64_t* number, std::string_view* unit, bool* overflow) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *number);
  *overflow = error == std::errc::result_out_of_range;
  if (error != std::errc() && !*overflow) return false;
  *unit = text.substr(static_cast<size_t>(end - text.data()));
  while (unit->starts_with(' ')) unit->remove_prefix(1);
  return true;
}

template <size_t N>
StatusOr<int64_t> ParseWithUnit(std::string_view text, const std::array<Unit, N>& units,
                                std::string_view what, std::string_view right) {
  int64_t number = 0;
  std::string_view name;
  bool overflow = false;
  if (!SplitNumber(text, &number, &name, &overflow)) {
    return InvalidArgument("'{}' is not a {}; {}", text, what, right);
  }
  for (const Unit& unit : units) {
    if (unit.name != name) continue;
    if (overflow || number > std::numeric_limits<int64_t>::max() / unit.factor ||
        number < std::numeric_limits<int64_t>::min() / unit.factor) {
      return InvalidArgument("'{}' is too large; {}", text, right);
    }
    return number * unit.factor;
  }
  if (name.empty()) return InvalidArgument("'{}' has no unit; {}", text, right);
  return InvalidArgument("'{}' has the unknown unit '{}'; {}", text, name, right);
}

template <size_t N>
std::string FormatWithUnit(int64_t value, const std::array<Unit, N>& units) {
  const Unit* best = &units[0];
  for (const Unit& unit : units) {
    if (value % unit.factor == 0) best = &unit;
  }
  if (value == 0) best = &units[0];
  return fmt::format("{}{}", value / best->factor, best->name);
}

bool IsIpAddress(const std::string& host, int family) {
  unsigned char bytes[sizeof(in6_addr)];
  return inet_pton(family, host.c_str(), bytes) == 1;
}

bool ParsePort(std::string_view text, int* port) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *port);
  return error == std::errc() && end == text.data() + text.size() && !text.empty() && *port >= 0 &&
         *port <= 65535;
}

bool IsHostName(std::string_view host) {
  if (host.empty() || host.size() > 253) return false;
  return std::all_of(host.begin(), host.end(),
                     [](char c) { return IsAlnum(c) || c == '-' || c == '.' || c == '_'; });
}

// "host:port" at the last colon; brackets of an IPv6 address taken off.
bool SplitHostPort(std::string_view text, std::string* host, std::string_view* port,
                   bool* bracketed) {
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return false;
  std::string_view name = text.substr(0, colon);
  *bracketed = name.size() >= 2 && name.front() == '[' && name.back() == ']';
  if (*bracketed) name = name.substr(1, name.size() - 2);
  *host = std::string(name);
  *port = text.substr(colon + 1);
  return true;
}

Status CheckTcpEndpoint(std::string_view text, std::string_view rest) {
  constexpr std::string_view kRight = "like tcp://192.168.1.5:8100";
  std::string host;
  std::string_view port_text;
  bool bracketed = false;
  if (!SplitHostPort(rest, &host, &port_text, &bracketed)) {
    return InvalidArgument("'{}' has no port; {}", text, kRight);
  }
  if (bracketed ? !IsIpAddress(host, AF_INET6) : !IsHostName(host)) {
    return InvalidArgument("'{}' names no host; {}", text, kRight);
  }
  int port = 0;
  if (!ParsePort(port_text, &port) || port == 0) {
    return InvalidArgument("'{}' has the port '{}'; 1 to 65535, because workers dial it", text,
                           port_text);
  }
  return OkStatus();
}

size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replace = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({replace, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row.back();
}

}  // namespace

StatusOr<int64_t> ParseInteger(std::string_view text) {
  int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error == std::errc::result_out_of_range) return InvalidArgument("'{}' is too large", text);
  if (error != std::errc() || end != text.data() + text.size()) {
    return InvalidArgument("'{}' is not a whole number", text);
  }
  return number;
}

StatusOr<int64_t> ParseBytes(std::string_view text) {
  return ParseWithUnit(text, kByteUnits, "size", "a whole number of B, KiB, MiB, GiB or TiB");
}

StatusOr<Nanos> ParseDuration(std::string_view text) {
  return ParseWithUnit(text, kDurationUnits, "duration", "a whole number of ms, s, m or h");
}

std::string FormatBytes(int64_t bytes) { return FormatWithUnit(bytes, kByteUnits); }
std::string FormatDuration(Nanos duration) { return FormatWithUnit(duration, kDurationUnits); }

StatusOr<Address> ParseAddress(std::string_view text) {
  constexpr std::string_view kRight = "like 127.0.0.1:8000, 0.0.0.0:8000 or \"[::1]:8000\"";
  Address address;
  std::string_view port;
  bool bracketed = false;
  if (!SplitHostPort(text, &address.host, &port, &bracketed)) {
    return InvalidArgument("'{}' has no port; {}", text, kRight);
  }
  if (address.host == "localhost") address.host = "127.0.0.1";
  if (!IsIpAddress(address.host, bracketed ? AF_INET6 : AF_INET)) {
    return InvalidArgument("'{}' does not begin with an IP address; {}", text, kRight);
  }
  if (!ParsePort(port, &address.port)) {
    return InvalidArgument("'{}' has the port '{}'; 1 to 65535, or 0 for any that is free", text,
                           port);
  }
  return address;
}

std::string FormatAddress(const Address& address) {
  const bool v6 = address.host.find(':') != std::string::npos;
  return v6 ? fmt::format("[{}]:{}", address.host, address.port)
            : fmt::format("{}:{}", address.host, address.port);
}

Status CheckEndpoint(std::string_view text) {
  if (text.starts_with("tcp://")) return CheckTcpEndpoint(text, text.substr(6));
  if (!text.starts_with("ipc://")) {
    return InvalidArgument("'{}' is no endpoint; like tcp://192.168.1.5:8100", text);
  }
  const std::string_view path = text.substr(6);
  if (!path.starts_with('/') || path.size() > kMaxIpcPath) {
    return InvalidArgument(
        "'{}' has no usable path; ipc:// and an absolute path of at most {} "
        "characters",
        text, kMaxIpcPath);
  }
  return OkStatus();
}

Status CheckHost(std::string_view text) {
  constexpr size_t kMaxHost = 253;
  const bool ipv6 = std::count(text.begin(), text.end(), ':') >= 2;
  const bool fine =
      !text.empty() && text.size() <= kMaxHost &&
      std::all_of(text.begin(), text.end(), [&](char c) {
        return IsAlnum(c) || c == '-' || c == '.' || c == '_' || (ipv6 && (c == ':' || c == '%'));
      });
  if (fine) return OkStatus();
  return InvalidArgument(
      "'{}' cannot be a host; an address or a name without a port, like 10.0.0.2, fd00::2 or "
      "node-2",
      text);
}

Status CheckName(std::string_view text) {
  const bool fine = !text.empty() && text.size() <= kMaxName && IsAlnum(text.front()) &&
                    std::all_of(text.begin(), text.end(), [](char c) {
                      return IsAlnum(c) || c == '-' || c == '.' || c == '_';
                    });
  if (fine) return OkStatus();
  return InvalidArgument(
      "'{}' cannot be a name; up to {} letters, digits, '.', '_' and '-', the "
      "first a letter or digit",
      text, kMaxName);
}

Status CheckHeaderName(std::string_view text) {
  constexpr size_t kMaxHeader = 64;
  const bool fine = !text.empty() && text.size() <= kMaxHeader &&
                    std::all_of(text.begin(), text.end(),
                                [](char c) { return IsAlnum(c) || c == '-' || c == '_'; });
  if (fine) return OkStatus();
  return InvalidArgument(
      "'{}' cannot be the name of a header; up to {} letters, digits, '-' and '_', like "
      "x-session-id",
      text, kMaxHeader);
}

std::string Join(const std::vector<std::string>& parts, std::string_view separator) {
  std::string all;
  for (const std::string& part : parts) {
    if (!all.empty()) all += separator;
    all += part;
  }
  return all;
}

std::string Nearest(std::string_view text, const std::vector<std::string>& candidates) {
  if (text.size() > 64) return "";
  // Beyond a third of its letters changed it is another word, not a slip.
  size_t best = std::max<size_t>(2, text.size() / 3) + 1;
  std::string nearest;
  for (const std::string& candidate : candidates) {
    const size_t distance = EditDistance(text, candidate);
    if (distance >= best) continue;
    best = distance;
    nearest = candidate;
  }
  return nearest;
}

}  // namespace tandem::config
