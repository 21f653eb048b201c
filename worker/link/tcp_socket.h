// TCP sockets by name: "10.0.0.1", "fd00::1" or "node-1", and a port.
#pragma once

#include <string>

#include "common/status.h"
#include "worker/link/unique_fd.h"

namespace tandem::link {

// Listens; non-blocking. kInvalidArgument: not an address of this machine, or in use.
StatusOr<UniqueFd> ListenTcp(const std::string& host, int port);

// One try, non-blocking afterwards. kUnavailable: nobody there, within `timeout_ms`; kCancelled:
// `stop_fd` became readable.
StatusOr<UniqueFd> ConnectTcp(const std::string& host, int port, int stop_fd, int timeout_ms);

std::string PeerName(int socket);      // "10.0.0.2:40112", "[fd00::2]:40112"
std::string LocalAddress(int socket);  // "10.0.0.1"

}  // namespace tandem::link
