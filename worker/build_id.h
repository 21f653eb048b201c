// Names the very bytes of the running program: ranks of one group share memory without versions, so
// they must be one build.
#pragma once

#include <string>

namespace tandem::worker {

std::string BuildId();  // "0.1.0-1f0c..."

}  // namespace tandem::worker
