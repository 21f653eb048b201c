// Paged attention on tensor cores. For attention_bf16.cu and attention_f16.cu.
//
// One tile is 16 query rows against one unit of 64 keys, by one chain of instructions:
//   S = Q Kᵀ; m = the largest of a row; P = 2^(S - m) rounded to the activation type;
//   sum = P 1 and O = P V by the tensor core; then the unit is folded into what came before.
// A chunk has a tile for each of the four warps, which share the units' keys and values: each warp
// does all of a unit for its tile. A decode has one tile for the four warps: each scores 16 of the
// 64 keys, then makes a quarter of the columns of O. Every number comes out of the same chain, so
// the two agree in every bit. A unit that a row does not see folds to nothing, exactly.
#pragma once

#include "common/check.h"
#include "kernels/cuda/activation.cuh"
#include "kernels/cuda/activation_pair.cuh"
#include "kernels/cuda/attention_fold.cuh"
#include "kernels/cuda/attention_merge.cuh"
#include "kernels/cuda/attention_stages.cuh"
#include "kernels/cuda/attention_tile.cuh"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/launch.cuh"

namespace tandem::kernels::cuda::attention {

// Columns [first, first + 8 * kTiles) of the lane's rows.
template <class T, int D, int kTiles>
__device__ void StoreRows(const Args& args, const Work& work, const Rows& rows,
                          const RowState (&state)[2], const float (&out)[kTiles][4], int first) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    if (rows.token[i] < 0) continue;
    const float inverse = 1.0f / state[i].sum;
    T* to = static_cast<T*>(args.out) + (work.item.first_row + rows.token[i]) * args.out_stride +
            (work.kv_head * args.group + rows.head[i]) * D + first +
            static_cast<int>(threadIdx.x) % 4 * 2;
#pragma unroll
    for (int j = 0; j < kTiles; ++j) {
      const uint32_t pair =
          Pair<T>(Finish(out[j][2 * i], inverse), Finish(out[j][2 * i + 1], inverse));
      StorePair(to + 8 * j, pair);
    }
  }
}

// A chunk: a tile for each warp.
template <class T, int D>
__device__ void AttendChunk(const Args& args, const Work& work, T* stages) {
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int tile_tokens = kTileRows / args.group, first_token = warp * tile_tokens;
  const int end_token = min(first_token + tile_tokens, work.item.num_tokens);
  const Rows rows = RowsOf(args, work.item, first_token);
  const T* queries = stages + Shared<D>::kQueries + warp * kTileRows * D;
  float out[D / 8][4] = {};
  RowState state[2];
  ForEachUnit<T, D>(args, work, kWarps, stages, [&](int unit, const T* stage) {
    if (unit * kUnit >= work.item.first_position + end_token) return;  // nothing for this warp
    float s[kUnit / 8][4], max[2], sum[2];
    Score<T, D>(s, queries, stage, 0, unit * kUnit, rows);
    RowMax(max, s);
    Weigh(s, max, args.scale);
    uint32_t p[kUnit / 16][4];
#pragma unroll
    for (int i = 0; i < kUnit / 16; ++i) {
      p[i][0] = Pair<T>(s[2 * i][0], s[2 * i][1]);
      p[i][1] = Pair<T>(s[2 * i][2], s[2 * i][3]);
      p[i][2] = Pair<T>(s[2 * i + 1][0], s[2 * i + 1][1]);
      p[i][3] = Pair<T>(s[2 * i + 1][2], s[2 * i + 1][3]);
    }
    RowSum<T>(sum, p);
    const FoldFactors f[2] = {Fold(state[0], max[0], sum[0]), Fold(state[1], max[1], sum[1])};
#pragma unroll
    for (int j = 0; j < D / 8; ++j) {
      // Else all columns are begun at once, in more registers than there are.
      if (j % 4 == 0) __threadfence_block();
      float o[4];
      Weighted<T, D>(o, p, stage + Shared<D>::kTile, 8 * j);
#pragma unroll
      for (int e = 0; e < 4; ++e) out[j][e] = FoldColumn(out[j][e], o[e], f[e / 2]);
    }
  });
  StoreRows<T, D>(args, work, rows, state, out, 0);
}

// Where partial results of the lane's row go.
template <int D>
__device__ float* PartialOf(const Args& args, const Work& work, const Rows& rows, int row,
                            int unit) {
  const int64_t index =
      work.item.partial + (unit - work.item.first_unit) * work.item.num_tokens + rows.token[row];
  const int64_t num_heads = args.num_kv_heads * args.group;
  return args.partials + (index * num_heads + work.kv_head * args.group + rows.head[row]) * (D + 2);
}

// The weights of one unit, made by the four warps together, as the tensor core wants them.
template <class T, int D>
__device__ void ShareWeights(uint32_t (&p)[kUnit / 16][4], float (&max)[2], const Args& args,
                             const Rows& rows, const T* keys, int first_key, T* stages) {
  const T* queries = stages + Shared<D>::kQueries;
  T* weights = stages + Shared<D>::kWeights;
  float* maxima = reinterpret_cast<float*>(stages + Shared<D>::kMaxima);
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  float s[kUnit / kWarps / 8][4];
  const int first = warp * (kUnit / kWarps);
  Score<T, D>(s, queries, keys, first, first_key + first, rows);
  RowMax(max, s);
  if (lane % 4 == 0) {
    maxima[warp * kTileRows + lane / 4] = max[0];
    maxima[warp * kTileRows + lane / 4 + 8] = max[1];
  }
  __syncthreads();
#pragma unroll
  for (int w = 0; w < kWarps; ++w) {
    max[0] = fmaxf(max[0], maxima[w * kTileRows + lane / 4]);
    max[1] = fmaxf(max[1], maxima[w * kTileRows + lane / 4 + 8]);
  }
  Weigh(s, max, args.scale);
#pragma unroll
  for (int j = 0; j < kUnit / kWarps / 8; ++j) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const uint32_t pair = Pair<T>(s[j][2 * i], s[j][2 * i + 1]);
      StorePair(weights + Offset<kUnit>(lane / 4 + 8 * i, first / 8 + j) + lane % 4 * 2, pair);
    }
  }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < kUnit / 16; ++i) {
    LdMatrixX4(p[i], weights + Offset<kUnit>(lane % 16, 2 * i + lane / 16));
  }
}

// A decode: one tile for all warps. Folds the units, or writes each to the partial results.
template <class T, int D>
__device__ void AttendDecode(const Args& args, const Work& work, T* stages) {
  constexpr int kTiles = D / 8 / kWarps;
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int first_column = warp * kTiles * 8;
  const bool whole = work.item.partial < 0;
  const Rows rows = RowsOf(args, work.item, 0);
  float out[kTiles][4] = {};
  RowState state[2];
  ForEachUnit<T, D>(args, work, 1, stages, [&](int unit, const T* stage) {
    uint32_t p[kUnit / 16][4];
    float max[2], sum[2];
    ShareWeights<T, D>(p, max, args, rows, stage, unit * kUnit, stages);
    RowSum<T>(sum, p);
    if (!whole) state[0] = state[1] = RowState{};
    const FoldFactors f[2] = {Fold(state[0], max[0], sum[0]), Fold(state[1], max[1], sum[1])};
#pragma unroll
    for (int j = 0; j < kTiles; ++j) {
      float o[4];
      const int column = first_column + 8 * j;
      Weighted<T, D>(o, p, stage + Shared<D>::kTile, column);
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        out[j][e] = whole ? FoldColumn(out[j][e], o[e], f[e / 2]) : o[e];
      }
    }
    if (whole) return;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if (rows.token[i] < 0) continue;
      float* to = PartialOf<D>(args, work, rows, i, unit);
#pragma unroll
      for (int j = 0; j < kTiles; ++j) {
        const float2 pair = {out[j][2 * i], out[j][2 * i + 1]};
        *reinterpret_cast<float2*>(to + first_column + 8 * j + lane % 4 * 2) = pair;
      }
      if (warp == 0 && lane % 4 == 0) *reinterpret_cast<float2*>(to + D) = {max[i], sum[i]};
    }
  });
  if (whole) StoreRows<T, D>(args, work, rows, state, out, first_column);
}

template <class T, int D>
__global__ void __launch_bounds__(kThreads, 2) AttentionKernel(const __grid_constant__ Args args) {
  TANDEM_DYNAMIC_SHARED(shared);
  T* stages = reinterpret_cast<T*>(shared);
  DependentLaunchWait();
  DependentLaunchTrigger();
  const int count = *args.num_items * args.num_kv_heads;
  for (int i = static_cast<int>(blockIdx.x); i < count; i += static_cast<int>(gridDim.x)) {
    Work work;
    work.item = args.items[i / args.num_kv_heads];
    work.kv_head = i % args.num_kv_heads;
    const int position = work.item.first_position;
    work.end_key = position + work.item.num_tokens;
    work.first_key = args.window > 0 ? max(0, position + 1 - args.window) : 0;
    if (work.item.num_tokens <= kTileRows / args.group) {
      AttendDecode<T, D>(args, work, stages);
    } else {
      AttendChunk<T, D>(args, work, stages);
    }
    __syncthreads();  // the stages are free
  }
}

// What attention.cu calls, by type: one translation unit each.
template <class T>
struct Device {
  static void Run(const Args& args, int head_dim, int max_items, int max_merges,
                  cudaStream_t stream);
  static int BlocksPerMultiprocessor(int head_dim);
};

template <class F>
void ForHeadDim(int head_dim, F&& f) {
  switch (head_dim) {
    case 64:
      return f.template operator()<64>();
    case 96:
      return f.template operator()<96>();
    case 128:
      return f.template operator()<128>();
    default:
      TANDEM_CHECK(false) << head_dim;
  }
}

template <class T>
void Device<T>::Run(const Args& args, int head_dim, int max_items, int max_merges,
                    cudaStream_t stream) {
  ForHeadDim(head_dim, [&]<int D>() {
    Launch<&AttentionKernel<T, D>>({.grid = dim3(max_items * args.num_kv_heads),
                                    .block = dim3(kThreads),
                                    .shared_bytes = Shared<D>::kBytes,
                                    .stream = stream,
                                    .dependent = true},
                                   args);
    if (max_merges == 0) return;
    Launch<&MergeKernel<T, D>>({.grid = dim3(max_merges * args.num_kv_heads * args.group),
                                .block = dim3(D),
                                .stream = stream,
                                .dependent = true},
                               args);
  });
}

template <class T>
int Device<T>::BlocksPerMultiprocessor(int head_dim) {
  int blocks = 0;
  ForHeadDim(head_dim, [&]<int D>() {
    const auto kernel = reinterpret_cast<const void*>(&AttentionKernel<T, D>);
    constexpr size_t kBytes = Shared<D>::kBytes;
    if (cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes) !=
            cudaSuccess ||
        cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, kThreads, kBytes) !=
            cudaSuccess) {
      blocks = 0;
    }
  });
  return blocks;
}

extern template struct Device<Bf16>;
extern template struct Device<F16>;

}  // namespace tandem::kernels::cuda::attention
