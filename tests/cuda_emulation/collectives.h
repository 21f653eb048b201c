// What the current thread can do together with others: what the device-side headers (device_*.h)
// are made of. Those of a warp are one collective each: the last lane of the mask computes it for
// all. Order of memory accesses follows from SyncWarp and Barrier alone, as on a GPU.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tests/cuda_emulation/report.h"

namespace tandem::emulation {

int LaneId();  // of the current thread

enum class ShuffleKind : uint8_t { kIndex, kUp, kDown, kXor };
// The value of lane `source`, which must be in the mask.
uint64_t Shuffle(ShuffleKind kind, uint32_t mask, uint64_t value, int source, Site site);

enum class VoteKind : uint8_t { kBallot, kAny, kAll };
uint32_t Vote(VoteKind kind, uint32_t mask, bool predicate, Site site);
// The lanes whose value is the same.
uint32_t MatchAny(uint32_t mask, uint64_t value, Site site);

enum class ReduceKind : uint8_t {
  kAdd,
  kMinSigned,
  kMinUnsigned,
  kMaxSigned,
  kMaxUnsigned,
  kAnd,
  kOr,
  kXor
};
uint32_t Reduce(ReduceKind kind, uint32_t mask, uint32_t value, Site site);

// The butterfly of ptx.cuh over all 32 lanes, in one step.
float WarpSum(float value, Site site);
float WarpMax(float value, Site site);
enum class WarpIntegerKind : uint8_t { kSum, kMax, kSumUpTo };
uint64_t WarpInteger(WarpIntegerKind kind, uint64_t value, Site site);

void SyncWarp(uint32_t mask, Site site);

// mma.m16n8k16 and ldmatrix.x4: ptx.cuh has the layout of fragments.
void MmaBf16(float* d, const uint32_t* a, const uint32_t* b, Site site);
void MmaF16(float* d, const uint32_t* a, const uint32_t* b, Site site);
void LoadMatrix(uint32_t* r, const void* shared_row, bool transposed, Site site);

// __syncthreads and its variants: 0, or the number or conjunction of the predicates.
enum class BarrierKind : uint8_t { kPlain, kCount, kAnd, kOr };
int Barrier(BarrierKind kind, bool predicate, Site site);

void Spin(Site site);            // lets others run; in every loop that waits for memory
void WaitForPrimary(Site site);  // DependentLaunchWait
void NoteProgress();             // for the watchdog: something was written that others wait for
void Fence();

// Shared memory of the current block: see shared_memory.h.
void* StaticShared(const void* key, size_t size, size_t alignment, const char* name);
void* DynamicShared();

}  // namespace tandem::emulation
