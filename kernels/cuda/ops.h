// The ops contract on an NVIDIA GPU: the operations of kernels/ops.h under the same names, but
// enqueued on a stream and on device memory. Shapes stand at the right: T rows of the step, S
// sequences, H hidden, F feed-forward, Nq/Nkv query/KV heads of this rank, D head dim (64, 96 or
// 128), B tokens a KV block, V vocabulary.
//
// All: return before the work is done; allocate nothing and synchronize nothing, so that a graph
// can capture them; every pointer is of device memory unless it says "host". Bad shapes CHECK. A
// failed launch stays in cudaPeekAtLastError() of this thread: the caller looks once a step.
//
// Activations are of one type (bf16 or fp16) with float32 accumulation; the residual stream is
// float32. Batch invariance as in kernels/ops.h for every op but MatMul of a dense weight, where
// the library may choose by the number of rows.
// Thread: one at a time, with the rank's device current.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/rope_table.h"
#include "kernels/sampling.h"
#include "kernels/tensor.h"

namespace tandem::kernels::cuda {

enum class ActivationType : uint8_t { kBf16, kF16 };  // 2 bytes each

// A row-major matrix of activations; rows may be further apart than they are long. Rows begin at
// multiples of 16 bytes, and so do `cols` and `stride` in bytes.
struct Matrix {
  void* data = nullptr;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t stride = 0;  // elements
  ActivationType type = ActivationType::kBf16;

  Matrix Cols(int64_t begin, int64_t end) const {
    return {static_cast<char*>(data) + 2 * begin, rows, end - begin, stride, type};
  }
  Matrix Rows(int64_t begin, int64_t end) const {
    return {static_cast<char*>(data) + 2 * begin * stride, end - begin, cols, stride, type};
  }
};

// Keys are handled in units of so many, counted from position 0; query rows, which are (token,
// head) pairs of one sequence and one KV head, in tiles of so many, and so many tiles by one block.
inline constexpr int kAttentionUnit = 64;
inline constexpr int kAttentionTileRows = 16;
inline constexpr int kAttentionWarps = 4;

// Attention of one block for each KV head: consecutive query tokens of one sequence and units of
// keys, [first_unit, end_unit). Made by AttentionPlan.
struct AttentionItem {
  int32_t sequence;        // index in the step
  int32_t first_row;       // row of the step (0..T) of the first query token
  int32_t num_tokens;      // query tokens
  int32_t first_position;  // of the first query token
  int32_t first_unit;
  int32_t end_unit;
  int32_t partial;  // -1: these are all units that the tokens see, and out is written; else unit u
                    // of token i goes to partial + (u - first_unit) * num_tokens + i
};

// A query token whose units were spread over items: partial results first, first + stride, ...
struct AttentionMerge {
  int32_t row;  // of the step
  int32_t first;
  int32_t count;
  int32_t stride;
};

// What the kernels read of a step. Arrays have fixed addresses and room for the largest step, so
// that a graph captured once sees the values of every step. The grid of a launch follows from
// num_tokens and num_seqs, which may count padding: rows with sequence -1, and sequences without
// query tokens, compute nothing that anyone reads and write no KV.
struct Batch {
  int32_t num_tokens = 0;                  // T
  int32_t num_seqs = 0;                    // S
  const int32_t* tokens = nullptr;         // [T] ids; -1: last_sampled[slot of its sequence]
  const int32_t* row_sequence = nullptr;   // [T] its sequence; -1: padding
  const int32_t* positions = nullptr;      // [T]
  const int32_t* slots = nullptr;          // [S] the slot (worker/step_plan.h) of a sequence
  const int32_t* query_start = nullptr;    // [S + 1] first row of each sequence
  const int32_t* context_len = nullptr;    // [S] tokens whose KV exists after this step
  const int32_t* block_table = nullptr;    // the KV blocks of each sequence, in order of position;
  const int32_t* first_block = nullptr;    // [S] where in block_table those of a sequence begin
  const AttentionItem* items = nullptr;    // [*num_items]
  const int32_t* num_items = nullptr;      // 1; in device memory
  int32_t max_items = 0;                   // bounds the grid: blocks stride over the items
  const AttentionMerge* merges = nullptr;  // [*num_merges]
  const int32_t* num_merges = nullptr;     // 1; in device memory
  int32_t max_merges = 0;                  // 0: there are none, and no kernel for them
  const int32_t* last_sampled = nullptr;   // [slots] what Sample drew last
  // [num_blocks, block_size] the token whose KV lies there, for penalties: Embed writes, Sample
  // reads. Null where no row is ever penalized.
  int32_t* block_tokens = nullptr;
  int32_t block_size = 16;
};

// One layer's KV memory. Layout private to the kernels: for K and V each
// [num_blocks, num_kv_heads, block_size, head_dim], of the activation type.
struct KvLayer {
  void* k = nullptr;
  void* v = nullptr;
  int32_t num_blocks = 0;
  int32_t num_kv_heads = 0;
  int32_t head_dim = 0;
  int32_t block_size = 16;
  ActivationType type = ActivationType::kBf16;
};
// Bytes of K (or of V, which is as large) of one layer.
constexpr int64_t KvBytes(const KvLayer& kv) {
  return int64_t{2} * kv.num_blocks * kv.num_kv_heads * kv.block_size * kv.head_dim;
}

// ---- embed.cu

// The table as the model file has it: row-major, quantized or not (kernels/tensor.h), in device
// memory.
struct EmbeddingTable {
  const void* data = nullptr;
  WeightType type = WeightType::kF32;
  int64_t rows = 0;  // V
  int64_t cols = 0;  // H
  float scale = 1;
};
// x[t] = scale * row tokens[t] of the table; padding rows become zero. Notes the tokens in
// block_tokens.
void Embed(float* x,  // [T, H]
           const EmbeddingTable& table, const Batch& batch, cudaStream_t stream);

// ---- rms_norm.cu

inline constexpr int64_t kMaxNormCols = 16384;

// H at most kMaxNormCols. out = x / sqrt(mean(x^2) + eps) * weight.
void RmsNorm(const Matrix& out,                                     // [T, H]
             const float* x,                                        // [T, H]
             const float* weight, float eps, cudaStream_t stream);  // [H]

// x += residual, then RmsNorm of x into out.
void AddRmsNorm(const Matrix& out,                                     // [T, H]
                float* x,                                              // [T, H] in place
                const Matrix& residual,                                // [T, H]
                const float* weight, float eps, cudaStream_t stream);  // [H]

// out[i] = RmsNorm(x[rows[i]] + residual[rows[i]]): the rows that are sampled, after the last
// layer. Row index -1 is padding and becomes zero. x stays as it is.
void AddRmsNormRows(const Matrix& out,       // [S, H]
                    const float* x,          // [T, H]
                    const Matrix& residual,  // [T, H]
                    const int32_t* rows,     // [S]
                    const float* weight, float eps, cudaStream_t stream);

// ---- rope.cu

struct Rope {
  const float* cos_sin = nullptr;  // [max_positions, dims] cosine and sine of pair i at 2 i, 2 i +
                                   // 1, scaled (YaRN's attention factor) by whoever made the table
  int32_t max_positions = 0;
  int32_t dims = 0;  // rotated leading dims of a head, <= D; even, kHalves: a multiple of 16
  RopePairs pairs = RopePairs::kAdjacent;
};

// For every row: RMSNorm of each q and k head if the weights are given (Qwen3), rotation of q in
// place and of k on its way into the cache, k and v stored at their positions.
void RopeAndStoreKv(const Matrix& q,      // [T, Nq * D] in place
                    const Matrix& k,      // [T, Nkv * D]
                    const Matrix& v,      // [T, Nkv * D]
                    const float* q_norm,  // [D] or null
                    const float* k_norm,  // [D] or null
                    float norm_eps, const Rope& rope, const KvLayer& kv, const Batch& batch,
                    cudaStream_t stream);

// ---- attention.cu

// Causal attention of mixed decodes and chunks: the token at position p sees (p - window, p], all
// of [0, p] with window 0. Softmax over units of 64 keys from position 0, merged in ascending
// order, in whatever item or step a token comes: the same bits. Slots that hold no visible token
// may hold anything. `partials`: scratch of AttentionPlan::PartialBytes(). out rows of padding are
// left as they are. REQUIRES: D is 64, 96 or 128, Nq / Nkv at most 16, scale > 0.
void PagedAttention(const Matrix& out,  // [T, Nq * D]
                    const Matrix& q,    // [T, Nq * D]
                    const KvLayer& kv, const Batch& batch, float scale, int32_t window,
                    float* partials, cudaStream_t stream);

// Floats of `count` partial results: of each head its D sums, then the maximum and the sum of its
// exponentials.
constexpr int64_t AttentionPartialFloats(int64_t count, int64_t num_heads, int64_t head_dim) {
  return count * num_heads * (head_dim + 2);
}

// Blocks of PagedAttention that the current device holds at once. Host; not in a capture.
int32_t AttentionBlocksAtOnce(ActivationType type, int32_t head_dim);

// ---- silu_mul.cu

// out = silu(gate) * up, silu(a) = a / (1 + exp(-a)).
void SiluMul(const Matrix& out,   // [T, F]
             const Matrix& gate,  // [T, F]
             const Matrix& up,    // [T, F]
             cudaStream_t stream);

// ---- quant_matmul.cu: see quant_layout.h; packed by quant_weight.h.

// A quantized weight [N, K] in this device's layout.
struct QuantWeight {
  const void* packed = nullptr;
  WeightType type = WeightType::kQ8_0;  // kQ4_0, kQ4_1 or kQ8_0
  int64_t rows = 0;                     // N
  int64_t cols = 0;                     // K, a multiple of 32
};

// out = x · Wᵀ + bias: any number of rows, one reduction chain whatever T is.
void QuantMatMul(const Matrix& out,  // [T, N]
                 const Matrix& x,    // [T, K]
                 const QuantWeight& weight,
                 const float* bias,  // [N] or null
                 cudaStream_t stream);
// The same into float32 (logits). out_stride in elements.
void QuantMatMulF32(float* out, int64_t out_stride,  // [T, N]
                    const Matrix& x,                 // [T, K]
                    const QuantWeight& weight, cudaStream_t stream);

// ---- sample.cu

// How one row is drawn; in device memory, part of the step's inputs. See kernels/sampling.h.
struct SampleRow {
  SamplingParams params;
  int32_t slot = -1;  // last_sampled[slot] takes the token; -1: a padding row, nothing is written
  int32_t sequence = -1;          // read of penalized rows: its index in the batch,
  int32_t num_prompt_tokens = 0;  // and how many of its context_len tokens are no output
};

inline constexpr int32_t kMaxVocab = 1 << 18;

// Logits of one step, as gathered from the ranks: part p holds columns [p * part_cols,
// (p + 1) * part_cols) of every row, the last part fewer.
struct Logits {
  const float* data = nullptr;  // [parts, S, part_cols]
  int32_t parts = 1;
  int32_t rows = 0;  // S
  int32_t part_cols = 0;
  int32_t vocab = 0;  // V <= parts * part_cols, at most kMaxVocab
  float scale = 1;    // what is drawn from, and logged, is scale * data
};

// Draws one token for each row; also into last_sampled. `scratch`: SampleScratchBytes(). `batch`:
// of the step, for the tokens that penalized rows have so far.
void Sample(const Logits& logits, const SampleRow* rows, SampledToken* out,  // [S] each
            int32_t* last_sampled, void* scratch, cudaStream_t stream, const Batch& batch = {});
int64_t SampleScratchBytes(int32_t max_rows, int32_t vocab);

// ---- all_reduce.cu

inline constexpr int kMaxPeers = 8;
inline constexpr int kMaxExchangeBlocks = 32;

// The exchange memory of every rank as this process sees it (CUDA IPC); `signals` are zeroed once
// before first use. Both are opaque to callers; sizes by AllReduceBytes / kAllReduceSignalBytes.
// All ranks make the same calls in the same order, one at a time. A rank that is gone holds up the
// others' kernels until they are told to go on without it.
struct PeerBuffers {
  void* data[kMaxPeers] = {};
  void* signals[kMaxPeers] = {};
  // A word of pinned memory: once it is not 0, this rank's kernels wait for nobody any more, their
  // results mean nothing, and no later call is right. Null: they always wait.
  const uint32_t* abandoned = nullptr;
  int32_t rank = 0;
  int32_t size = 1;
  // Of a grid, equal on all ranks: no more than the multiprocessors of any rank's GPU, so that all
  // run at once.
  int32_t max_blocks = kMaxExchangeBlocks;
};
inline constexpr int64_t kAllReduceSignalBytes = 64 * 1024;
int64_t AllReduceBytes(int64_t max_elements);

// partial = sum over the ranks of partial, in rank order, rounded once. kOneShot: every rank reads
// all of every peer; kTwoShot: each reduces its share, then gathers.
enum class AllReduceAlgorithm : uint8_t { kOneShot, kTwoShot };
void AllReduce(const Matrix& partial, AllReduceAlgorithm algorithm, const PeerBuffers& peers,
               cudaStream_t stream);

// One kernel: the sum of `partial` over the ranks, rounded once, x += sum, out = RmsNorm(x): the
// bits of AllReduce and AddRmsNorm. `partial` stays as it is.
void AllReduceAddRmsNorm(const Matrix& out,      // [T, H]
                         float* x,               // [T, H] in place
                         const Matrix& partial,  // [T, H] of this rank
                         const float* weight, float eps, const PeerBuffers& peers,
                         cudaStream_t stream);

}  // namespace tandem::kernels::cuda
