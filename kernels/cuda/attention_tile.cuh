// One tile of attention.cuh against keys and values in shared memory: the steps of its chain, each
// by one warp, in the fragment layout of MmaM16N8K16.
#pragma once

#include <cmath>

#include "kernels/cuda/activation_pair.cuh"
#include "kernels/cuda/attention_stages.cuh"
#include "kernels/cuda/device.cuh"

namespace tandem::kernels::cuda::attention {

// The two query rows of this lane: row g and g + 8 of a tile, g = lane / 4.
struct Rows {
  int32_t token[2];  // of the item; -1: none
  int32_t head[2];   // of the KV head's group
  int32_t first_key[2], end_key[2];
};

__device__ inline Rows RowsOf(const Args& args, const AttentionItem& item, int first_token) {
  Rows rows;
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int row = lane / 4 + 8 * i;
    const int token = row / args.group;
    rows.head[i] = row % args.group;
    const bool used = token < kTileRows / args.group && first_token + token < item.num_tokens;
    rows.token[i] = used ? first_token + token : -1;
    const int position = item.first_position + first_token + token;
    rows.end_key[i] = used ? position + 1 : 0;
    rows.first_key[i] = args.window > 0 ? position + 1 - args.window : 0;
  }
  return rows;
}

// Scores of the tile with 8 * kTiles keys, which begin at row `first_row` of the stage and at
// position `first_key`; those not seen are -infinity.
// s[j][e] is of row e / 2 of the lane's two, key 8 j + lane % 4 * 2 + e % 2.
template <class T, int D, int kTiles>
__device__ void Score(float (&s)[kTiles][4], const T* queries, const T* keys, int first_row,
                      int first_key, const Rows& rows) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int j = 0; j < kTiles; ++j) {
#pragma unroll
    for (int e = 0; e < 4; ++e) s[j][e] = 0;
  }
#pragma unroll
  for (int i = 0; i < D / 32; ++i) {
    uint32_t q[2][4];
    LdMatrixX4(q[0], queries + Offset<D>(lane % 16, 4 * i + lane / 16));
    LdMatrixX4(q[1], queries + Offset<D>(lane % 16, 4 * i + 2 + lane / 16));
#pragma unroll
    for (int j = 0; j < kTiles; ++j) {
      uint32_t k[4];
      LdMatrixX4(k, keys + Offset<D>(first_row + 8 * j + lane % 8, 4 * i + lane / 8));
      MmaM16N8K16(s[j], q[0], {k[0], k[1]}, T{});
      MmaM16N8K16(s[j], q[1], {k[2], k[3]}, T{});
    }
  }
  first_key += lane % 4 * 2;
  const int begin[2] = {rows.first_key[0] - first_key, rows.first_key[1] - first_key};
  const int end[2] = {rows.end_key[0] - first_key, rows.end_key[1] - first_key};
  if (max(begin[0], begin[1]) <= 0 && min(end[0], end[1]) >= 8 * kTiles) return;
#pragma unroll
  for (int j = 0; j < kTiles; ++j) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int key = 8 * j + e % 2;
      if (key < begin[e / 2] || key >= end[e / 2]) s[j][e] = -INFINITY;
    }
  }
}

// The largest score of each of the lane's rows over these keys.
template <int kTiles>
__device__ void RowMax(float (&max)[2], const float (&s)[kTiles][4]) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    max[i] = -INFINITY;
#pragma unroll
    for (int j = 0; j < kTiles; ++j) max[i] = fmaxf(max[i], fmaxf(s[j][2 * i], s[j][2 * i + 1]));
    max[i] = fmaxf(max[i], __shfl_xor_sync(0xffffffffu, max[i], 1));
    max[i] = fmaxf(max[i], __shfl_xor_sync(0xffffffffu, max[i], 2));
  }
}

// Scores to weights 2^(scale * s - scale * max); max becomes scale * max.
template <int kTiles>
__device__ void Weigh(float (&s)[kTiles][4], float (&max)[2], float scale) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    max[i] *= scale;
    const float base = max[i] == -INFINITY ? 0.0f : max[i];
#pragma unroll
    for (int j = 0; j < kTiles; ++j) {
      s[j][2 * i] = Exp2(fmaf(s[j][2 * i], scale, -base));
      s[j][2 * i + 1] = Exp2(fmaf(s[j][2 * i + 1], scale, -base));
    }
  }
}

// Sums of the rounded weights of the lane's rows.
template <class T>
__device__ void RowSum(float (&sum)[2], const uint32_t (&p)[kUnit / 16][4]) {
  const uint32_t one = Pair<T>(1.0f, 1.0f);
  float d[4] = {};
#pragma unroll
  for (int i = 0; i < kUnit / 16; ++i) MmaM16N8K16(d, p[i], {one, one}, T{});
  sum[0] = d[0];
  sum[1] = d[2];
}

// Eight columns of P V.
template <class T, int D>
__device__ void Weighted(float (&o)[4], const uint32_t (&p)[kUnit / 16][4], const T* values,
                         int column) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int e = 0; e < 4; ++e) o[e] = 0;
#pragma unroll
  for (int i = 0; i < kUnit / 32; ++i) {
    uint32_t v[4];
    LdMatrixX4Trans(v, values + Offset<D>(32 * i + lane, column / 8));
    MmaM16N8K16(o, p[2 * i], {v[0], v[1]}, T{});
    MmaM16N8K16(o, p[2 * i + 1], {v[2], v[3]}, T{});
  }
}

}  // namespace tandem::kernels::cuda::attention
