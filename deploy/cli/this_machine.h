// Which hosts of a cluster file are this machine.
#pragma once

#include <string>

namespace tandem::cli {

// Whether `host`, an address or a name, stands for this machine: all of it (0.0.0.0, ::, *), its
// loopback, or an address of one of its interfaces. A name that does not resolve stands for none.
bool IsThisMachine(const std::string& host);

// Of "tcp://host:port"; empty: another endpoint, which is a path.
std::string HostOf(const std::string& endpoint);

}  // namespace tandem::cli
