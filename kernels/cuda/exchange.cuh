// How the ranks' kernels meet in all_reduce.cu. Every rank has exchange memory that all others read
// (`data`) and flags that all others write (`signals`), and every call is made by all ranks with
// the same shape, so with the same grid: block b of a rank only ever waits for block b of the
// others.
//
// A call has a number, the same in all ranks: 1 for the first. It lies in device memory, so that a
// graph that is replayed counts on. There are two copies of the exchange memory, and a call uses
// that of its number's parity. So it needs no wait at its end: a rank writes a copy again two calls
// later, and the call between only ended when all ranks had begun it, which they do when they have
// read what they wanted of the one before.
#pragma once

#include <cstdint>

#include "kernels/cuda/activation.cuh"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/ops.h"

namespace tandem::kernels::cuda {

// What lies in `signals` of a rank.
struct Signals {
  // Calls that block b has ended. All entries are equal between calls, whatever their grids were:
  // each block counts for those that its grid does not have.
  uint32_t calls[kMaxExchangeBlocks];
  // flag[phase][b][r] = number of the last call whose phase block b of rank r has come to.
  uint32_t flag[2][kMaxExchangeBlocks][kMaxPeers];
};
static_assert(sizeof(Signals) <= kAllReduceSignalBytes);

// The 16 bytes of pack `index` in copy `parity`. The copies alternate every 4 KiB, so that nobody
// needs to know how large they are.
inline constexpr uint32_t kExchangeRun = 256;  // packs
__device__ inline int64_t ExchangePack(uint32_t index, uint32_t parity) {
  return (int64_t{index / kExchangeRun} * 2 + parity) * kExchangeRun + index % kExchangeRun;
}

// One block's view of a call. Every thread of the block calls each of these.
class Exchange {
 public:
  __device__ explicit Exchange(const PeerBuffers& peers)
      : peers_(peers), number_(Own()->calls[blockIdx.x] + 1) {}

  template <class T>
  __device__ Pack<T>* At(int rank, uint32_t pack) const {
    return static_cast<Pack<T>*>(peers_.data[rank]) + ExchangePack(pack, number_ & 1);
  }

  // What this block wrote before is seen by the same block of all ranks after it.
  __device__ void Meet(int phase) const {
    __syncthreads();
    const int peer = static_cast<int>(threadIdx.x);
    if (peer < peers_.size) {
      StoreRelease(
          &static_cast<Signals*>(peers_.signals[peer])->flag[phase][blockIdx.x][peers_.rank],
          number_);
      WaitFor(&Own()->flag[phase][blockIdx.x][peer]);
    }
    __syncthreads();
  }

  // The last thing of a call.
  __device__ void End() const {
    for (unsigned block = blockIdx.x + threadIdx.x * gridDim.x; block < kMaxExchangeBlocks;
         block += blockDim.x * gridDim.x) {
      Own()->calls[block] = number_;
    }
  }

 private:
  __device__ void WaitFor(const uint32_t* flag) const {
    constexpr uint32_t kBetweenLooks = 32;  // at the flag; a look at the host goes over the bus
    // A peer may be one call ahead already. The difference, so that numbers may wrap around.
    for (uint32_t i = 1; static_cast<int32_t>(LoadAcquire(flag) - number_) < 0; ++i) {
      if (i % kBetweenLooks == 0 && peers_.abandoned != nullptr &&
          LoadAcquire(peers_.abandoned) != 0) {
        return;
      }
      SpinPause();
    }
  }
  __device__ Signals* Own() const { return static_cast<Signals*>(peers_.signals[peers_.rank]); }

  const PeerBuffers& peers_;
  const uint32_t number_;
};

// Adds pack `index` of all ranks in rank order. `own`: this rank's, which the caller has. kInFlight
// loads are on their way before the first is used, as each takes a trip to a peer and back: as many
// as the caller's registers allow.
template <int kInFlight, class T>
__device__ void SumPack(float (&sum)[8], const Exchange& exchange, const PeerBuffers& peers,
                        uint32_t index, const Pack<T>& own) {
  static_assert(kMaxPeers % kInFlight == 0);
#pragma unroll
  for (float& value : sum) value = 0;
#pragma unroll 1
  for (int first = 0; first < peers.size; first += kInFlight) {
    Pack<T> packs[kInFlight];
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      const int rank = first + i;
      if (rank < peers.size) packs[i] = rank == peers.rank ? own : *exchange.At<T>(rank, index);
    }
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      if (first + i >= peers.size) break;
#pragma unroll
      for (int j = 0; j < 8; ++j) sum[j] += ToFloat(packs[i].v[j]);
    }
  }
}

}  // namespace tandem::kernels::cuda
