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

#include <cmath>
#include <type_traits>

#include "kernels/cuda/activation.cuh"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ops.h"

namespace tandem::kernels::cuda::attention {

inline constexpr int kUnit = kAttentionUnit;
inline constexpr int kTileRows = kAttentionTileRows;
inline constexpr int kWarps = kAttentionWarps;
inline constexpr int kThreads = 32 * kWarps;
inline constexpr int kPiece = 16;  // keys that lie in one block, whatever its size

struct Args {
  void* out;
  const void* q;
  const void* k;
  const void* v;
  int64_t out_stride, q_stride, max_blocks;
  const int32_t* block_table;
  const AttentionItem* items;
  const int32_t* num_items;
  const AttentionMerge* merges;
  const int32_t* num_merges;
  float* partials;
  int32_t num_kv_heads, group;  // group: query heads of one KV head
  int32_t block_pieces;         // pieces of one block
  int32_t window;
  float scale;  // times log2 e
};

// Shared memory: two stages of the keys and values of a unit, then the queries of a tile for each
// warp; a decode has one tile, and after it P and the maxima that its warps found. 80 KiB for
// D = 128: two blocks on an A100 too.
template <int D>
struct Shared {
  static constexpr int kTile = kUnit * D;
  static constexpr int kQueries = 4 * kTile;
  static constexpr int kWeights = kQueries + kTileRows * D;
  static constexpr int kMaxima = kWeights + kTileRows * kUnit;
  static constexpr size_t kBytes = 2 * (kQueries + kWarps * kTileRows * D);
};
static_assert(2 * Shared<64>::kMaxima + kWarps * kTileRows * sizeof(float) <= Shared<64>::kBytes);

// Where a 16-byte piece of a row of D elements lies: the same piece of 8 consecutive rows, what one
// matrix load reads, in different banks.
template <int D>
__device__ inline int Offset(int row, int piece) {
  static_assert(D % 64 == 0 || D == 96);
  const int turn = D == 96 ? row / 2 % 4 : row % 8;
  return row * D + (piece ^ turn) * kPackElements;
}

// A block's work.
struct Work {
  AttentionItem item;
  int32_t kv_head;
  int32_t first_key, end_key;  // what any row of it sees; other slots are not read
};

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

// Begins the copy of the queries of `tiles` tiles; rows that are none become zero.
template <class T, int D>
__device__ void FetchQueries(const Args& args, const Work& work, int tiles, T* queries) {
  constexpr int kRowPieces = D / kPackElements;
  const int tile_tokens = kTileRows / args.group;
#pragma unroll 1
  for (int i = static_cast<int>(threadIdx.x); i < tiles * kTileRows * kRowPieces; i += kThreads) {
    const int row = i / kRowPieces, piece = i % kRowPieces;
    const int in_tile = row % kTileRows / args.group, head = row % kTileRows % args.group;
    const int token = row / kTileRows * tile_tokens + in_tile;
    const bool used = in_tile < tile_tokens && token < work.item.num_tokens;
    const int64_t from = (work.item.first_row + token) * args.q_stride +
                         (work.kv_head * args.group + head) * D + piece * kPackElements;
    CpAsync16(queries + Offset<D>(row, piece), static_cast<const T*>(args.q) + (used ? from : 0),
              used);
  }
}

// Begins the copy of one unit; slots that no row sees become zero and are not read.
template <class T, int D>
__device__ void FetchUnit(const Args& args, const Work& work, int unit, T* stage) {
  constexpr int kRowPieces = D / kPackElements;
  const int32_t* table = args.block_table + work.item.sequence * args.max_blocks;
#pragma unroll 1
  for (int piece = 0; piece < kUnit / kPiece; ++piece) {  // unrolled, it takes too many registers
    const int first = unit * kUnit + piece * kPiece;
    int64_t from = 0;
    if (first < work.end_key && first + kPiece > work.first_key) {
      const int number = first / kPiece;
      const int64_t block = table[number / args.block_pieces];
      from = ((block * args.num_kv_heads + work.kv_head) * args.block_pieces +
              number % args.block_pieces) *
             (kPiece * D);
    }
#pragma unroll
    for (int turn = 0; turn < (kPiece * kRowPieces + kThreads - 1) / kThreads; ++turn) {
      const int i = static_cast<int>(threadIdx.x) + turn * kThreads;
      if (i >= kPiece * kRowPieces) break;
      const int row = i / kRowPieces, column = i % kRowPieces;
      const bool valid = first + row >= work.first_key && first + row < work.end_key;
      const int64_t source = valid ? from + row * D + column * kPackElements : 0;
      T* to = stage + Offset<D>(piece * kPiece + row, column);
      CpAsync16(to, static_cast<const T*>(args.k) + source, valid);
      CpAsync16(to + Shared<D>::kTile, static_cast<const T*>(args.v) + source, valid);
    }
  }
}

// Calls f(unit, stage) for the item's units with their keys and values (and the queries) in shared
// memory, while the next unit is under way. One barrier a unit; after the last, others may still
// read its stage.
template <class T, int D, class F>
__device__ void ForEachUnit(const Args& args, const Work& work, int tiles, T* stages, F f) {
  FetchQueries<T, D>(args, work, tiles, stages + Shared<D>::kQueries);
  FetchUnit<T, D>(args, work, work.item.first_unit, stages);
  CpAsyncCommit();
#pragma unroll 1
  for (int unit = work.item.first_unit; unit < work.item.end_unit; ++unit) {
    const int parity = (unit - work.item.first_unit) & 1;
    CpAsyncWait<0>();
    __syncthreads();  // this unit is there for all, and all are done with the one before
    if (unit + 1 < work.item.end_unit) {
      FetchUnit<T, D>(args, work, unit + 1, stages + (1 - parity) * 2 * Shared<D>::kTile);
      CpAsyncCommit();
    }
    f(unit, stages + parity * 2 * Shared<D>::kTile);
  }
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

__device__ inline uint32_t PairBits(__nv_bfloat162 pair) {
  return static_cast<uint32_t>(__bfloat16_as_ushort(pair.y)) << 16 | __bfloat16_as_ushort(pair.x);
}
__device__ inline uint32_t PairBits(__half2 pair) {
  return static_cast<uint32_t>(__half_as_ushort(pair.y)) << 16 | __half_as_ushort(pair.x);
}
template <class T>
__device__ uint32_t Pair(float low, float high) {
  if constexpr (std::is_same_v<T, Bf16>) {
    return PairBits(__floats2bfloat162_rn(low, high));
  } else {
    return PairBits(__floats2half2_rn(low, high));
  }
}

template <class T>
__device__ void StorePair(T* to, uint32_t pair) {
  *reinterpret_cast<uint32_t*>(to) = pair;
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

// What is known of one row after some units. The only place where units meet.
struct RowState {
  float max = -INFINITY;
  float sum = 0;
};
struct FoldFactors {
  float keep, add;
};
__device__ inline FoldFactors Fold(RowState& row, float unit_max, float unit_sum) {
  const float max = fmaxf(row.max, unit_max);
  const float base = max == -INFINITY ? 0.0f : max;
  const FoldFactors f = {Exp2(row.max - base), Exp2(unit_max - base)};
  row.sum = fmaf(row.sum, f.keep, unit_sum * f.add);
  row.max = max;
  return f;
}
__device__ inline float FoldColumn(float sum, float unit_sum, const FoldFactors& f) {
  return fmaf(sum, f.keep, unit_sum * f.add);
}
// Never -0, which a unit that is not seen would turn to 0.
__device__ inline float Finish(float sum, float inverse) { return fmaf(sum, inverse, 0.0f); }

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

// Folds partial results as AttendDecode would have: one block a token and head, a thread a column.
template <class T, int D>
__global__ void __launch_bounds__(D) MergeKernel(const __grid_constant__ Args args) {
  constexpr int kAhead = 8;  // loads under way
  DependentLaunchWait();
  DependentLaunchTrigger();
  const int num_heads = args.num_kv_heads * args.group, column = static_cast<int>(threadIdx.x);
  const int count = *args.num_merges * num_heads;
  for (int i = static_cast<int>(blockIdx.x); i < count; i += static_cast<int>(gridDim.x)) {
    const AttentionMerge merge = args.merges[i / num_heads];
    const int head = i % num_heads;
    const int64_t step = int64_t{merge.stride} * num_heads * (D + 2);
    const float* from = args.partials + (int64_t{merge.first} * num_heads + head) * (D + 2);
    float out = 0;
    RowState state;
    for (int first = 0; first < merge.count; first += kAhead) {
      float o[kAhead];
      float2 row[kAhead];
#pragma unroll
      for (int j = 0; j < kAhead; ++j) {
        if (first + j >= merge.count) break;
        o[j] = from[j * step + column];
        row[j] = *reinterpret_cast<const float2*>(from + j * step + D);
      }
#pragma unroll
      for (int j = 0; j < kAhead; ++j) {
        if (first + j >= merge.count) break;
        const FoldFactors f = Fold(state, row[j].x, row[j].y);
        out = FoldColumn(out, o[j], f);
      }
      from += kAhead * step;
    }
    static_cast<T*>(args.out)[merge.row * args.out_stride + head * D + column] =
        FromFloat<T>(Finish(out, 1.0f / state.sum));
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
