// The YAML file of a device profile. configs/devices/ has some, each with its arithmetic.
#pragma once

#include <string>

#include "common/device_profile.h"
#include "common/status.h"

namespace tandem::config {

// Reads and validates. On failure (kInvalidArgument, the operator's) the message holds every
// mistake found, one a line, each `file:line:column: what is wrong; what would be right`.
StatusOr<DeviceProfile> LoadDeviceProfile(const std::string& path);

// The same of a text; `path` is what messages say and what the profile's name comes from.
StatusOr<DeviceProfile> ParseDeviceProfile(const std::string& yaml, const std::string& path);

// Every key with its type and meaning, as the table of docs/cluster_file.md.
std::string DeviceProfileReference();

}  // namespace tandem::config
