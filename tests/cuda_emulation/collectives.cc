#include "tests/cuda_emulation/collectives.h"

#include <algorithm>
#include <atomic>
#include <functional>

#include "tests/cuda_emulation/grid_run.h"
#include "tests/cuda_emulation/sanitizer.h"

namespace tandem::emulation {
namespace {

constexpr uint32_t kAllLanes = 0xFFFFFFFF;

void Join(const WarpOp& op, uint32_t mask, void* operand, Site site) {
  processor->current->block->WarpCollective(op, mask, operand, site);
}

// Calls f(operand of a lane, lane) for the lanes of the mask.
template <class Operand, class F>
void ForLanes(void* const* operands, uint32_t mask, F f) {
  for (; mask != 0; mask &= mask - 1) {
    const int lane = __builtin_ctz(mask);
    f(*static_cast<Operand*>(operands[lane]), lane);
  }
}

struct ShuffleOperand {
  uint64_t in;
  uint64_t out;
  int source;
};

void ComputeShuffle(void* const* operands, uint32_t mask) {
  ForLanes<ShuffleOperand>(operands, mask, [&](ShuffleOperand& operand, int lane) {
    if ((mask >> operand.source & 1) == 0) {
      Fail("shuffle: lane {} reads lane {}, which is not in mask {:#010x}", lane, operand.source,
           mask);
    }
    operand.out = static_cast<const ShuffleOperand*>(operands[operand.source])->in;
  });
}
constexpr WarpOp kShuffles[] = {{"__shfl_sync", &ComputeShuffle},
                                {"__shfl_up_sync", &ComputeShuffle},
                                {"__shfl_down_sync", &ComputeShuffle},
                                {"__shfl_xor_sync", &ComputeShuffle}};

struct Word {
  uint64_t in;
  uint32_t out;
};

void ComputeBallot(void* const* operands, uint32_t mask) {
  uint32_t ballot = 0;
  ForLanes<Word>(operands, mask, [&](Word& w, int lane) { ballot |= w.in != 0 ? 1u << lane : 0; });
  ForLanes<Word>(operands, mask, [&](Word& w, int) { w.out = ballot; });
}
constexpr WarpOp kVotes[] = {{"__ballot_sync", &ComputeBallot},
                             {"__any_sync", &ComputeBallot},
                             {"__all_sync", &ComputeBallot}};

void ComputeMatch(void* const* operands, uint32_t mask) {
  ForLanes<Word>(operands, mask, [&](Word& w, int) {
    w.out = 0;
    ForLanes<Word>(operands, mask, [&](const Word& other, int lane) {
      if (other.in == w.in) w.out |= 1u << lane;
    });
  });
}
constexpr WarpOp kMatch = {"__match_any_sync", &ComputeMatch};

template <class F>
void ComputeReduce(void* const* operands, uint32_t mask) {
  bool first = true;
  uint32_t result = 0;
  ForLanes<Word>(operands, mask, [&](const Word& w, int) {
    const auto value = static_cast<uint32_t>(w.in);
    result = first ? value : F()(result, value);
    first = false;
  });
  ForLanes<Word>(operands, mask, [&](Word& w, int) { w.out = result; });
}
template <class T>
struct Min {
  uint32_t operator()(uint32_t a, uint32_t b) const {
    return static_cast<T>(a) < static_cast<T>(b) ? a : b;
  }
};
template <class T>
struct Max {
  uint32_t operator()(uint32_t a, uint32_t b) const {
    return static_cast<T>(a) > static_cast<T>(b) ? a : b;
  }
};
constexpr WarpOp kReduces[] = {{"__reduce_add_sync", &ComputeReduce<std::plus<uint32_t>>},
                               {"__reduce_min_sync", &ComputeReduce<Min<int32_t>>},
                               {"__reduce_min_sync", &ComputeReduce<Min<uint32_t>>},
                               {"__reduce_max_sync", &ComputeReduce<Max<int32_t>>},
                               {"__reduce_max_sync", &ComputeReduce<Max<uint32_t>>},
                               {"__reduce_and_sync", &ComputeReduce<std::bit_and<uint32_t>>},
                               {"__reduce_or_sync", &ComputeReduce<std::bit_or<uint32_t>>},
                               {"__reduce_xor_sync", &ComputeReduce<std::bit_xor<uint32_t>>}};

// Every lane adds what the lane at a distance has, for falling distances: the same bits in all.
template <class F>
void ComputeButterfly(void* const* operands, uint32_t mask) {
  float x[kWarpSize];
  float y[kWarpSize];
  ForLanes<float>(operands, mask, [&](const float& value, int lane) { x[lane] = value; });
  for (int offset = kWarpSize / 2; offset > 0; offset /= 2) {
    for (int i = 0; i < kWarpSize; ++i) y[i] = F()(x[i], x[i ^ offset]);
    std::copy(y, y + kWarpSize, x);
  }
  ForLanes<float>(operands, mask, [&](float& value, int lane) { value = x[lane]; });
}
struct FloatMax {  // fmaxf: the other one if one is a NaN
  float operator()(float a, float b) const { return a > b || b != b ? a : b; }
};
constexpr WarpOp kSum = {"WarpSum", &ComputeButterfly<std::plus<float>>};
constexpr WarpOp kMax = {"WarpMax", &ComputeButterfly<FloatMax>};

// Of integers, whose order does not matter; each lane up to itself, or all of them.
template <class F, bool kUpTo>
void ComputeIntegers(void* const* operands, uint32_t mask) {
  uint64_t total = 0;
  ForLanes<uint64_t>(operands, mask, [&](uint64_t& value, int) {
    total = F()(total, value);
    if (kUpTo) value = total;
  });
  if (kUpTo) return;
  ForLanes<uint64_t>(operands, mask, [&](uint64_t& value, int) { value = total; });
}
struct IntegerMax {
  uint64_t operator()(uint64_t a, uint64_t b) const { return std::max(a, b); }
};
constexpr WarpOp kIntegers[] = {{"WarpSum", &ComputeIntegers<std::plus<uint64_t>, false>},
                                {"WarpMax", &ComputeIntegers<IntegerMax, false>},
                                {"WarpSumUpTo", &ComputeIntegers<std::plus<uint64_t>, true>}};

}  // namespace

int LaneId() { return processor->current->lane; }

uint64_t Shuffle(ShuffleKind kind, uint32_t mask, uint64_t value, int source, Site site) {
  ShuffleOperand operand = {value, 0, source};
  Join(kShuffles[static_cast<int>(kind)], mask, &operand, site);
  return operand.out;
}

uint32_t Vote(VoteKind kind, uint32_t mask, bool predicate, Site site) {
  Word word = {predicate ? 1u : 0u, 0};
  Join(kVotes[static_cast<int>(kind)], mask, &word, site);
  return word.out;
}

uint32_t MatchAny(uint32_t mask, uint64_t value, Site site) {
  Word word = {value, 0};
  Join(kMatch, mask, &word, site);
  return word.out;
}

uint32_t Reduce(ReduceKind kind, uint32_t mask, uint32_t value, Site site) {
  Word word = {value, 0};
  Join(kReduces[static_cast<int>(kind)], mask, &word, site);
  return word.out;
}

float WarpSum(float value, Site site) {
  Join(kSum, kAllLanes, &value, site);
  return value;
}

float WarpMax(float value, Site site) {
  Join(kMax, kAllLanes, &value, site);
  return value;
}

uint64_t WarpInteger(WarpIntegerKind kind, uint64_t value, Site site) {
  Join(kIntegers[static_cast<int>(kind)], kAllLanes, &value, site);
  return value;
}

void SyncWarp(uint32_t mask, Site site) { processor->current->block->SyncWarp(mask, site); }

int Barrier(BarrierKind kind, bool predicate, Site site) {
  return processor->current->block->Barrier(kind, predicate, site);
}

void Spin(Site site) { processor->current->block->Spin(site); }

void WaitForPrimary(Site site) { processor->current->block->WaitForPrimary(site); }

void NoteProgress() { processor->current->block->run()->NoteProgress(); }

void Fence() { std::atomic_thread_fence(std::memory_order_seq_cst); }

void* StaticShared(const void* key, size_t size, size_t alignment, const char* name) {
  return processor->current->block->shared().Static(key, size, alignment, name);
}

void* DynamicShared() { return processor->current->block->shared().dynamic(); }

}  // namespace tandem::emulation
