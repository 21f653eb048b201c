// Launched as cooperative, since blocks of different ranks wait for each other; so not as dependent
// launches, of which nobody says that they may be both.
#include <algorithm>
#include <type_traits>

#include "common/round.h"
#include "kernels/cuda/activation.cuh"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/exchange.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/norm_row.cuh"
#include "kernels/cuda/ops.h"

namespace tandem::kernels::cuda {
namespace {

constexpr int kThreads = 256;

struct ReduceArgs {
  PeerBuffers peers;
  void* data;
  int64_t stride;
  uint32_t row_packs;  // packs of eight in a row
  uint32_t packs;      // in all
};

template <class T>
__device__ Pack<T>* PackAt(const ReduceArgs& args, uint32_t index) {
  T* const row = static_cast<T*>(args.data) + index / args.row_packs * args.stride;
  return reinterpret_cast<Pack<T>*>(row) + index % args.row_packs;
}

// Every rank reads all of every peer.
template <class T>
__global__ void __launch_bounds__(kThreads) OneShotKernel(const __grid_constant__ ReduceArgs args) {
  const Exchange exchange(args.peers);
  const uint32_t first = blockIdx.x * kThreads + threadIdx.x, step = gridDim.x * kThreads;
  for (uint32_t i = first; i < args.packs; i += step) {
    *exchange.At<T>(args.peers.rank, i) = *PackAt<T>(args, i);
  }
  exchange.Meet(0);
  for (uint32_t i = first; i < args.packs; i += step) {
    float sum[8];
    Pack<T>* const own = PackAt<T>(args, i);
    SumPack<kMaxPeers>(sum, exchange, args.peers, i, *own);
    *own = Rounded<T>(sum);
  }
  exchange.End();
}

// Rank r sums share r and leaves the result in its exchange memory, in the place of its own part of
// that share, which nobody else reads; then all collect the results. Thread i of a block has the
// same places of every share in all phases and ranks, so that meeting block by block is enough.
template <class T>
__global__ void __launch_bounds__(kThreads) TwoShotKernel(const __grid_constant__ ReduceArgs args) {
  const Exchange exchange(args.peers);
  const auto size = static_cast<uint32_t>(args.peers.size);
  const auto rank = static_cast<uint32_t>(args.peers.rank);
  const uint32_t share = CeilDiv(args.packs, size);
  const uint32_t first = blockIdx.x * kThreads + threadIdx.x, step = gridDim.x * kThreads;
  for (uint32_t i = first; i < share; i += step) {
    for (uint32_t r = 0; r < size; ++r) {
      const uint32_t index = r * share + i;
      if (r != rank && index < args.packs) {
        *exchange.At<T>(args.peers.rank, index) = *PackAt<T>(args, index);
      }
    }
  }
  exchange.Meet(0);
  for (uint32_t i = first; i < share && rank * share + i < args.packs; i += step) {
    const uint32_t index = rank * share + i;
    float sum[8];
    Pack<T>* const own = PackAt<T>(args, index);
    SumPack<kMaxPeers>(sum, exchange, args.peers, index, *own);
    *own = Rounded<T>(sum);
    *exchange.At<T>(args.peers.rank, index) = *own;
  }
  exchange.Meet(1);
  for (uint32_t i = first; i < share; i += step) {
    Pack<T> packs[kMaxPeers];  // on their way at once, as in SumPack
#pragma unroll
    for (uint32_t r = 0; r < kMaxPeers; ++r) {
      const uint32_t index = r * share + i;
      if (r < size && r != rank && index < args.packs) {
        packs[r] = *exchange.At<T>(static_cast<int>(r), index);
      }
    }
#pragma unroll
    for (uint32_t r = 0; r < kMaxPeers; ++r) {
      const uint32_t index = r * share + i;
      if (r < size && r != rank && index < args.packs) *PackAt<T>(args, index) = packs[r];
    }
  }
  exchange.End();
}

struct ReduceNormArgs {
  ReduceArgs reduce;
  void* out;
  int64_t out_stride;
  float* x;
  const float* weight;
  uint32_t rows;
  float eps;
};

// A block for a row, and for those that follow at distances of the grid. The sum is rounded to T
// before it is added, as AllReduce and AddRmsNorm would: which of them is used may depend on the
// step's size, and a row's result may not.
template <class T, int kPacks>
__global__ void __launch_bounds__(kMaxNormThreads)
    ReduceNormKernel(const __grid_constant__ ReduceNormArgs args) {
  TANDEM_SHARED(float, sums, [kMaxWarps]);
  const ReduceArgs& reduce = args.reduce;
  const int cols = static_cast<int>(reduce.row_packs) * kPackElements;
  const Exchange exchange(reduce.peers);
  for (uint32_t row = blockIdx.x; row < args.rows; row += gridDim.x) {
    for (uint32_t i = threadIdx.x; i < reduce.row_packs; i += blockDim.x) {
      const uint32_t index = row * reduce.row_packs + i;
      *exchange.At<T>(reduce.peers.rank, index) = *PackAt<T>(reduce, index);
    }
  }
  exchange.Meet(0);
  for (uint32_t row = blockIdx.x; row < args.rows; row += gridDim.x) {
    NormRow<kPacks> x;
    float* const residual = args.x + int64_t{row} * cols;
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
      const int col = NormRow<kPacks>::Col(p);
      float sum[8] = {}, before[8] = {};
      if (col < cols) {
        const uint32_t index = row * reduce.row_packs + static_cast<uint32_t>(col) / kPackElements;
        SumPack<kPacks == 1 ? 4 : 1>(sum, exchange, reduce.peers, index, *PackAt<T>(reduce, index));
        Load8(before, residual + col);
      }
#pragma unroll
      for (int i = 0; i < 8; ++i) x.x[p][i] = before[i] + ToFloat(FromFloat<T>(sum[i]));
    }
    x.Store(residual, cols);
    NormRow<kPacks> weight;
    weight.Load(args.weight, cols);
    x.Normalize(weight, cols, args.eps, sums);
    x.Store(static_cast<T*>(args.out) + row * args.out_stride, cols);
  }
  exchange.End();
}

ReduceArgs MakeReduceArgs(const Matrix& partial, const PeerBuffers& peers) {
  TANDEM_CHECK(peers.size >= 1 && peers.size <= kMaxPeers && peers.rank >= 0 &&
               peers.rank < peers.size && peers.max_blocks >= 1 &&
               peers.max_blocks <= kMaxExchangeBlocks)
      << "rank " << peers.rank << " of " << peers.size << ", " << peers.max_blocks << " blocks";
  CheckMatrix(partial, partial.rows, partial.cols, partial.type);
  const int64_t packs = partial.rows * partial.cols / kPackElements;
  TANDEM_CHECK(packs < int64_t{1} << 31) << packs << " packs";
  return {peers, partial.data, partial.stride, static_cast<uint32_t>(partial.cols / kPackElements),
          static_cast<uint32_t>(packs)};
}

LaunchConfig ReduceConfig(int64_t blocks, const PeerBuffers& peers, int threads,
                          cudaStream_t stream) {
  return {.grid = dim3(static_cast<unsigned>(std::min<int64_t>(blocks, peers.max_blocks))),
          .block = dim3(static_cast<unsigned>(threads)),
          .stream = stream,
          .cooperative = true};
}

}  // namespace

int64_t AllReduceBytes(int64_t max_elements) {
  return RoundUp(max_elements, kExchangeRun * kPackElements) * 2 /* bytes */ * 2 /* copies */;
}

void AllReduce(const Matrix& partial, AllReduceAlgorithm algorithm, const PeerBuffers& peers,
               cudaStream_t stream) {
  const ReduceArgs args = MakeReduceArgs(partial, peers);
  if (args.packs == 0 || peers.size == 1) return;
  ForType(partial.type, [&]<class T>(T) {
    if (algorithm == AllReduceAlgorithm::kOneShot) {
      Launch<&OneShotKernel<T>>(
          ReduceConfig(CeilDiv(args.packs, kThreads), peers, kThreads, stream), args);
    } else {
      const int64_t share = CeilDiv<int64_t>(args.packs, peers.size);
      Launch<&TwoShotKernel<T>>(ReduceConfig(CeilDiv(share, kThreads), peers, kThreads, stream),
                                args);
    }
  });
}

void AllReduceAddRmsNorm(const Matrix& out, float* x, const Matrix& partial, const float* weight,
                         float eps, const PeerBuffers& peers, cudaStream_t stream) {
  const ReduceArgs reduce = MakeReduceArgs(partial, peers);
  CheckMatrix(out, partial.rows, partial.cols, partial.type);
  if (reduce.packs == 0) return;
  const ReduceNormArgs args{
      reduce, out.data, out.stride, x, weight, static_cast<uint32_t>(partial.rows), eps};
  ForType(out.type, [&]<class T>(T) {
    ForPacks(out.cols, [&]<int kPacks>(std::integral_constant<int, kPacks>) {
      Launch<&ReduceNormKernel<T, kPacks>>(
          ReduceConfig(partial.rows, peers, NormThreads(out.cols), stream), args);
    });
  });
}

}  // namespace tandem::kernels::cuda
