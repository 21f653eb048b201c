// Counts the allocations of a program that links this, operator new and malloc alike, so that a
// test can see that a hot path makes none.
#pragma once

#include <cstdint>
#include <string_view>

namespace tandem::testing {

// Since the program started, by all threads.
int64_t NumAllocations();

// From the first call on, also by the name that a thread has (pthread_setname_np) when it
// allocates.
void CountByThread();

// Allocations since then by threads whose name begins with `prefix`.
int64_t NumAllocationsOf(std::string_view prefix);

}  // namespace tandem::testing
