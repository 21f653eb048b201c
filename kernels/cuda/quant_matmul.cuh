// Quantized weights times 16-bit activations on tensor cores. For quant_matmul_bf16.cu and
// quant_matmul_f16.cu. The packed layout is that of quant_layout.h.
//
// The weights are the 16 rows of the instruction, the tokens its 8 columns, so that few tokens
// waste little. A block has kRowTiles tiles of weight rows; its eight warps take an eighth of the
// columns each, and their sums meet in warp order. What a sum is made of depends on the weight's
// shape alone: a row of the result has the same bits whatever the number of tokens.
#pragma once

#include <type_traits>

#include "common/check.h"
#include "common/round.h"
#include "kernels/cuda/activation.cuh"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/quant_layout.h"
#include "kernels/cuda/quant_tile.cuh"

namespace tandem::kernels::cuda::quant {

inline constexpr int kWarps = 8;
inline constexpr int kThreads = 32 * kWarps;
inline constexpr int kTokens = 8;  // of one instruction
inline constexpr int kBlocks = 2;  // of 32 columns, in a tile
// Of a token's sums in shared memory: no two of the lanes that write together in one bank.
inline constexpr int kSumRow = kQuantTileRows + 4;

struct Args {
  void* out;
  const void* x;
  const unsigned char* packed;
  const float* bias;
  int64_t out_stride, x_stride;
  int32_t rows, cols, tokens;
  bool float_out;
};

// Eight columns of the lane's token; zero where there is no token or column.
template <class T>
__device__ uint4 LoadActivations(const Args& args, int token, int column) {
  if (token >= args.tokens || column >= args.cols) return {0, 0, 0, 0};
  return *reinterpret_cast<const uint4*>(static_cast<const T*>(args.x) + token * args.x_stride +
                                         column);
}

template <class T>
__device__ void Multiply(float (&d)[4], const uint32_t (&a)[2][4], const uint4& x) {
  MmaM16N8K16(d, a[0], {x.x, x.y}, T{});
  MmaM16N8K16(d, a[1], {x.z, x.w}, T{});
}

// One block of 32 columns of all tiles: sums += scales * (quants · x).
template <class T, WeightType kType, int kRowTiles, int kTokenTiles>
__device__ void AddBlock(float (&sums)[kRowTiles][kTokenTiles][4], const Args& args,
                         const Tile<kType> (&tiles)[kRowTiles], int block, int column, int token) {
  uint4 x[kTokenTiles];
  float total[kTokenTiles][4] = {};  // of the activations: what an offset multiplies
#pragma unroll
  for (int n = 0; n < kTokenTiles; ++n) {
    x[n] = LoadActivations<T>(args, token + kTokens * n, column);
    if constexpr (Tile<kType>::kOffset) {
      constexpr uint32_t kOnes = std::is_same_v<T, Bf16> ? 0x3f803f80u : 0x3c003c00u;
      Multiply<T>(total[n], {{kOnes, kOnes, kOnes, kOnes}, {kOnes, kOnes, kOnes, kOnes}}, x[n]);
    }
  }
#pragma unroll
  for (int r = 0; r < kRowTiles; ++r) {
    uint32_t a[2][4];
    Weights<kType, T>(a[0], tiles[r], block, 0);
    Weights<kType, T>(a[1], tiles[r], block, 1);
    float d[2], m[2];
    ScalesOf(d, m, tiles[r], block);
#pragma unroll
    for (int n = 0; n < kTokenTiles; ++n) {
      float product[4] = {};
      Multiply<T>(product, a, x[n]);
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        sums[r][n][e] = fmaf(d[e / 2], product[e], sums[r][n][e]);
        if constexpr (Tile<kType>::kOffset) {
          sums[r][n][e] = fmaf(m[e / 2], total[n][e], sums[r][n][e]);
        }
      }
    }
  }
}

// The warps' sums of one row tile, added in warp order and stored.
template <class T, int kTokenTiles>
__device__ void StoreSums(const Args& args, const float (&sums)[kTokenTiles][4], float* shared,
                          int row_tile, int first_token) {
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32;
  constexpr int kWarpSums = kTokenTiles * kTokens * kSumRow;
  float* own = shared + thread / 32 * kWarpSums + lane % 4 * 2 * kSumRow + lane / 4;
#pragma unroll
  for (int n = 0; n < kTokenTiles; ++n) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      own[(n * kTokens + e % 2) * kSumRow + e / 2 * 8] = sums[n][e];
    }
  }
  __syncthreads();
  for (int i = thread; i < kTokenTiles * kTokens * kQuantTileRows; i += kThreads) {
    const int token = first_token + i / kQuantTileRows;
    const int row = row_tile * kQuantTileRows + i % kQuantTileRows;
    if (token >= args.tokens || row >= args.rows) continue;
    float sum = 0;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) {
      sum += shared[w * kWarpSums + i / kQuantTileRows * kSumRow + i % kQuantTileRows];
    }
    if (args.bias != nullptr) sum += args.bias[row];
    const int64_t to = token * args.out_stride + row;
    if (args.float_out) {
      static_cast<float*>(args.out)[to] = sum;
    } else {
      static_cast<T*>(args.out)[to] = FromFloat<T>(sum);
    }
  }
  __syncthreads();  // the sums are free
}

// kAhead: tiles along the columns whose loads are begun together.
template <class T, WeightType kType, int kRowTiles, int kTokenTiles, int kAhead>
__global__ void __launch_bounds__(kThreads, kTokenTiles == 8 ? 1 : 2)
    QuantMatMulKernel(const __grid_constant__ Args args) {
  TANDEM_SHARED(float, shared, [kWarps * kTokenTiles * kTokens * kSumRow]);
  DependentLaunchWait();
  DependentLaunchTrigger();
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int row_tiles = CeilDiv(args.rows, kQuantTileRows);
  const int col_tiles = CeilDiv(args.cols, kQuantTileCols);
  const int first = warp * col_tiles / kWarps, end = (warp + 1) * col_tiles / kWarps;
  const int row_tile = static_cast<int>(blockIdx.x) * kRowTiles;
  const int first_token = static_cast<int>(blockIdx.y) * kTokenTiles * kTokens;
  float sums[kRowTiles][kTokenTiles][4] = {};
  for (int tile = first; tile < end; tile += kAhead) {
    Tile<kType> tiles[kAhead][kRowTiles];
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
#pragma unroll
      for (int r = 0; r < kRowTiles; ++r) {
        // Past the end: the last again, which nothing uses.
        const int64_t from =
            int64_t{min(row_tile + r, row_tiles - 1)} * col_tiles + min(tile + i, end - 1);
        tiles[i][r].Load(args.packed + from * QuantTileBytes(kType));
      }
    }
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      if (tile + i >= end) break;
#pragma unroll
      for (int block = 0; block < kBlocks; ++block) {
        AddBlock<T, kType, kRowTiles, kTokenTiles>(
            sums, args, tiles[i], block,
            (tile + i) * kQuantTileCols + block * 32 + lane % 4 * kPackElements,
            first_token + lane / 4);
      }
    }
  }
#pragma unroll
  for (int r = 0; r < kRowTiles; ++r) {
    StoreSums<T>(args, sums[r], shared, row_tile + r, first_token);
  }
}

// What quant_matmul.cu calls, by type: one translation unit each.
template <class T>
struct Device {
  static void Run(WeightType type, const Args& args, cudaStream_t stream);
};
extern template struct Device<Bf16>;
extern template struct Device<F16>;

template <class T, WeightType kType, int kRowTiles, int kTokenTiles, int kAhead>
void RunTiles(const Args& args, cudaStream_t stream) {
  Launch<&QuantMatMulKernel<T, kType, kRowTiles, kTokenTiles, kAhead>>(
      {.grid = dim3(CeilDiv(args.rows, kRowTiles * kQuantTileRows),
                    CeilDiv(args.tokens, kTokenTiles * kTokens)),
       .block = dim3(kThreads),
       .stream = stream,
       .dependent = true},
      args);
}

template <class T, WeightType kType>
void RunType(const Args& args, cudaStream_t stream) {
  if (args.tokens <= kTokens) {
    RunTiles<T, kType, 1, 1, 4>(args, stream);
  } else if (args.tokens <= 4 * kTokens) {
    RunTiles<T, kType, 1, 4, 1>(args, stream);
  } else {
    // Sums of the activations, for an offset, take the registers of a second row tile.
    RunTiles<T, kType, Tile<kType>::kOffset ? 1 : 2, 8, 1>(args, stream);
  }
}

template <class T>
void Device<T>::Run(WeightType type, const Args& args, cudaStream_t stream) {
  switch (type) {
    case WeightType::kQ4_0:
      return RunType<T, WeightType::kQ4_0>(args, stream);
    case WeightType::kQ4_1:
      return RunType<T, WeightType::kQ4_1>(args, stream);
    case WeightType::kQ8_0:
      return RunType<T, WeightType::kQ8_0>(args, stream);
    default:
      TANDEM_CHECK(false) << static_cast<int>(type);
  }
}

}  // namespace tandem::kernels::cuda::quant
