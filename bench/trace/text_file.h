// Files of recorded traffic, which are large and often compressed.
#pragma once

#include <string>

#include "common/status.h"

namespace tandem::trace {

// The whole file, unpacked where it is gzip. kInvalidArgument: `file: why not`.
StatusOr<std::string> ReadText(const std::string& path);

}  // namespace tandem::trace
