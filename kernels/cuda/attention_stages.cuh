// What a block of attention.cuh works on, and its copies of it in shared memory.
#pragma once

#include "common/round.h"
#include "kernels/cuda/activation.cuh"
#include "kernels/cuda/device.cuh"
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
  int64_t out_stride, q_stride;
  const int32_t* block_table;
  const int32_t* first_block;
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
  const int32_t* table = args.block_table + args.first_block[work.item.sequence];
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
    for (int turn = 0; turn < CeilDiv(kPiece * kRowPieces, kThreads); ++turn) {
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

}  // namespace tandem::kernels::cuda::attention
