// Counts every operator new of a program that links this, so that a test can see that a hot path
// allocates nothing.
#pragma once

#include <cstdint>

namespace tandem::testing {

// Since the program started, by all threads.
int64_t NumAllocations();

}  // namespace tandem::testing
