// Text of one value of a cluster file to what it means, and back. Errors read
// `what is wrong; what would be right`.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/ids.h"
#include "common/status.h"

namespace tandem::config {

StatusOr<int64_t> ParseInteger(std::string_view text);
StatusOr<int64_t> ParseBytes(std::string_view text);   // 512B, 16KiB, 256MiB, 1GiB, 2TiB
StatusOr<Nanos> ParseDuration(std::string_view text);  // 250ms, 5s, 2m, 1h
std::string FormatBytes(int64_t bytes);                // in the largest unit that is exact
std::string FormatDuration(Nanos duration);            // likewise; at least 1ms

struct Address {
  std::string host;  // an IPv4 or IPv6 address, without brackets
  int port = 0;
};
StatusOr<Address> ParseAddress(std::string_view text);  // 127.0.0.1:8000, [::1]:8000
std::string FormatAddress(const Address& address);

// tcp://host:port or ipc:///path; both ends read it, so a port must be named.
Status CheckEndpoint(std::string_view text);

// An IPv4 or IPv6 address without brackets, or a name; no port.
Status CheckHost(std::string_view text);

// Letters, digits, '.', '_' and '-', at most 32: it becomes part of file names and commands.
Status CheckName(std::string_view text);

// Letters, digits, '-' and '_', at most 64.
Status CheckHeaderName(std::string_view text);

// "a, b, c". Not fmt::join: g++ 12 takes its formatter of strings for an overflow.
std::string Join(const std::vector<std::string>& parts, std::string_view separator);

// The candidate that `text` was probably meant to be; empty: none is near.
std::string Nearest(std::string_view text, const std::vector<std::string>& candidates);

}  // namespace tandem::config
