// Barriers and warp functions under CUDA's names. Part of device_prelude.h.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>

#include "tests/cuda_emulation/collectives.h"

// The trailing parameters: scalars, as g++ 12 gives an aggregate's default the line of the
// declaration.
#define TANDEM_CALLER const char *file = __builtin_FILE(), int line = __builtin_LINE()

namespace tandem::emulation {

template <class T>
uint64_t ToBits(T value) {
  static_assert(sizeof(T) == 2 || sizeof(T) == 4 || sizeof(T) == 8);
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  return bits;
}
template <class T>
T FromBits(uint64_t bits) {
  T value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// `lane` is the source in this lane's group of `width`, or out of the group: then itself.
template <class T>
T ShuffleFrom(ShuffleKind kind, unsigned mask, T value, int lane, bool in_group, Site site) {
  return FromBits<T>(Shuffle(kind, mask, ToBits(value), in_group ? lane : LaneId(), site));
}

}  // namespace tandem::emulation

inline void __syncthreads(TANDEM_CALLER) {
  tandem::emulation::Barrier(tandem::emulation::BarrierKind::kPlain, false, {file, line});
}
inline int __syncthreads_count(int predicate, TANDEM_CALLER) {
  return tandem::emulation::Barrier(tandem::emulation::BarrierKind::kCount, predicate != 0,
                                    {file, line});
}
inline int __syncthreads_and(int predicate, TANDEM_CALLER) {
  return tandem::emulation::Barrier(tandem::emulation::BarrierKind::kAnd, predicate != 0,
                                    {file, line});
}
inline int __syncthreads_or(int predicate, TANDEM_CALLER) {
  return tandem::emulation::Barrier(tandem::emulation::BarrierKind::kOr, predicate != 0,
                                    {file, line});
}
inline void __syncwarp(unsigned mask = 0xFFFFFFFF, TANDEM_CALLER) {
  tandem::emulation::SyncWarp(mask, {file, line});
}

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, TANDEM_CALLER) {
  const int lane = (tandem::emulation::LaneId() & ~(width - 1)) | (source & (width - 1));
  return tandem::emulation::ShuffleFrom(tandem::emulation::ShuffleKind::kIndex, mask, value, lane,
                                        true, {file, line});
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, TANDEM_CALLER) {
  const int self = tandem::emulation::LaneId();
  const int lane = self - static_cast<int>(delta);
  return tandem::emulation::ShuffleFrom(tandem::emulation::ShuffleKind::kUp, mask, value, lane,
                                        lane >= (self & ~(width - 1)), {file, line});
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, TANDEM_CALLER) {
  const int self = tandem::emulation::LaneId();
  const int lane = self + static_cast<int>(delta);
  return tandem::emulation::ShuffleFrom(tandem::emulation::ShuffleKind::kDown, mask, value, lane,
                                        lane <= (self | (width - 1)), {file, line});
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, TANDEM_CALLER) {
  const int self = tandem::emulation::LaneId();
  const int lane = self ^ bits;
  return tandem::emulation::ShuffleFrom(tandem::emulation::ShuffleKind::kXor, mask, value, lane,
                                        lane <= (self | (width - 1)), {file, line});
}

inline unsigned __ballot_sync(unsigned mask, int predicate, TANDEM_CALLER) {
  return tandem::emulation::Vote(tandem::emulation::VoteKind::kBallot, mask, predicate != 0,
                                 {file, line});
}
inline int __any_sync(unsigned mask, int predicate, TANDEM_CALLER) {
  return tandem::emulation::Vote(tandem::emulation::VoteKind::kAny, mask, predicate != 0,
                                 {file, line}) != 0;
}
inline int __all_sync(unsigned mask, int predicate, TANDEM_CALLER) {
  return tandem::emulation::Vote(tandem::emulation::VoteKind::kAll, mask, predicate != 0,
                                 {file, line}) == mask;
}
template <class T>
unsigned __match_any_sync(unsigned mask, T value, TANDEM_CALLER) {
  return tandem::emulation::MatchAny(mask, tandem::emulation::ToBits(value), {file, line});
}

#define TANDEM_REDUCE(name, type, kind)                                                          \
  inline type name(unsigned mask, type value, TANDEM_CALLER) {                                   \
    return static_cast<type>(tandem::emulation::Reduce(                                          \
        tandem::emulation::ReduceKind::kind, mask, static_cast<uint32_t>(value), {file, line})); \
  }
TANDEM_REDUCE(__reduce_add_sync, int, kAdd)
TANDEM_REDUCE(__reduce_add_sync, unsigned, kAdd)
TANDEM_REDUCE(__reduce_min_sync, int, kMinSigned)
TANDEM_REDUCE(__reduce_min_sync, unsigned, kMinUnsigned)
TANDEM_REDUCE(__reduce_max_sync, int, kMaxSigned)
TANDEM_REDUCE(__reduce_max_sync, unsigned, kMaxUnsigned)
TANDEM_REDUCE(__reduce_and_sync, unsigned, kAnd)
TANDEM_REDUCE(__reduce_or_sync, unsigned, kOr)
TANDEM_REDUCE(__reduce_xor_sync, unsigned, kXor)
#undef TANDEM_REDUCE
