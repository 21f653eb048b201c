#include "bench/load/target.h"

#include <charconv>

namespace tandem::load {
namespace {

Status ReadPort(std::string_view text, int& port) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (error != std::errc() || end != text.data() + text.size() || port < 1 || port > 65535) {
    return InvalidArgument("'{}' is no port; 1 to 65535", text);
  }
  return OkStatus();
}

}  // namespace

std::string Target::authority() const {
  const bool ipv6 = host.find(':') != std::string::npos;
  return fmt::format("{}{}{}:{}", ipv6 ? "[" : "", host, ipv6 ? "]" : "", port);
}

StatusOr<Target> ParseUrl(std::string_view url) {
  const bool https = url.starts_with("https://");
  if (!https && !url.starts_with("http://")) {
    return InvalidArgument("--url '{}': as http://HOST:PORT or https://HOST:PORT", url);
  }
  std::string_view rest = url.substr(url.find("//") + 2);
  const size_t slash = rest.find('/');
  std::string_view authority = rest.substr(0, slash);
  Target target;
  target.https = https;
  target.port = https ? 443 : 80;
  if (slash != std::string_view::npos) target.base_path = rest.substr(slash);
  while (target.base_path.ends_with('/')) target.base_path.pop_back();
  if (target.base_path.ends_with("/v1")) target.base_path.resize(target.base_path.size() - 3);

  const bool bracketed = authority.starts_with('[');
  const size_t host_end = bracketed ? authority.find(']') : authority.find(':');
  target.host = authority.substr(bracketed ? 1 : 0, host_end - (bracketed ? 1 : 0));
  const size_t used =
      host_end == std::string_view::npos ? authority.size() : host_end + (bracketed ? 1 : 0);
  authority.remove_prefix(used);
  if (target.host.empty() || (bracketed && host_end == std::string_view::npos)) {
    return InvalidArgument("--url '{}': no host", url);
  }
  if (authority.starts_with(':')) {
    TANDEM_RETURN_IF_ERROR(ReadPort(authority.substr(1), target.port));
  } else if (!authority.empty()) {
    return InvalidArgument("--url '{}': '{}' after the host", url, authority);
  }
  return target;
}

}  // namespace tandem::load
