// The server under test, as a URL names it.
#pragma once

#include <string>
#include <string_view>

#include "common/status.h"

namespace tandem::load {

struct Target {
  std::string host;  // a name or an address; IPv6 without its brackets
  int port = 80;
  bool https = false;
  std::string base_path;  // "" or "/prefix"; "/v1" at its end is taken off

  std::string authority() const;  // for the Host header
};

// http[s]://HOST[:PORT][/PREFIX[/v1]]
StatusOr<Target> ParseUrl(std::string_view url);

}  // namespace tandem::load
