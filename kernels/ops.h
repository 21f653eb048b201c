// The contract between the forward pass and a device: every device implements exactly these.
// Shapes stand at the right: T tokens of the step, S sequences, H hidden, F feed-forward, Nq/Nkv
// query/KV heads of this rank, D head dim, B tokens a KV block, V vocabulary.
//
// All: synchronous; no allocation in a step (scratch is sized by OpsOptions when Ops is made); bad
// shapes CHECK (they are our bug, never a user's). Activations are float32.
//
// Batch invariance: every output row is bitwise the same whatever other rows are in the call, for
// any number of threads: one reduction chain per output, in ascending order.
// Thread: one caller at a time; `threads` workers inside.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "common/status.h"
#include "kernels/rope_table.h"
#include "kernels/sampling.h"
#include "kernels/tensor.h"

namespace tandem::kernels {

// kAvx512: F, BW, DQ, VL and VNNI; kAvx512Bf16: products of bf16 too. kAvx2: with FMA and F16C.
enum class InstructionSet : uint8_t { kAuto, kAvx512Bf16, kAvx512, kAvxVnni, kAvx2, kReference };

// What a matrix product does to its input.
//   kInt8  rounded per row and block of 32 to int8 for quantized weights, to bf16 for BF16 ones
//   kBf16  rounded to bf16 for both, quantized weights being dequantized to bf16 at load
//   kF32   not rounded, and quantized weights dequantized; slower, exact to float32
// F32 and F16 weights multiply float32 in any case.
enum class ActivationType : uint8_t { kInt8, kBf16, kF32 };

struct OpsOptions {
  int threads = 1;
  std::vector<int> cpus = {};  // where they stay, the first being the caller's; empty: anywhere
  InstructionSet instruction_set = InstructionSet::kAuto;
  ActivationType activations = ActivationType::kInt8;
  int max_tokens = 256;  // most rows of any op
  int max_cols = 4096;   // most columns (K) of any weight, and of a KV head's query heads together
  int max_vocab = 0;     // of Sample; 0: Sample is not used
};

// A part of a matrix as it lies in the model file: rows [row_begin, row_end) and columns
// [col_begin, col_end) of a row-major matrix of `total_cols` columns. Column bounds of quantized
// types are multiples of 32. Borrowed during Pack; an embedding table is borrowed while it is used.
struct MatrixSlice {
  WeightType type = WeightType::kF32;
  const void* data = nullptr;  // of the whole matrix
  int64_t total_cols = 0;
  int64_t row_begin = 0, row_end = 0;
  int64_t col_begin = 0, col_end = 0;
  int64_t rows() const { return row_end - row_begin; }
  int64_t cols() const { return col_end - col_begin; }
};

// The three below are made by an Ops and understood only by Ops of the same kind.

// A matrix [N, K] in the device's packed layout. Immutable.
class Weight {
 public:
  virtual ~Weight() = default;
  virtual int64_t rows() const = 0;   // N
  virtual int64_t cols() const = 0;   // K
  virtual int64_t bytes() const = 0;  // of memory
};

// Cosines and sines of the rotary embedding. Immutable.
class RopeTable {
 public:
  virtual ~RopeTable() = default;
};

// RmsNorm of every head of q and of k before they turn (Qwen3). Borrowed; empty: none.
struct HeadNorms {
  std::span<const float> q = {};  // [D]
  std::span<const float> k = {};  // [D]; as empty as q
  float eps = 0;
};

// What the gate goes through: a / (1 + exp(-a)), or
// a / 2 (1 + tanh(sqrt(2 / pi) (a + 0.044715 a^3))).
enum class Activation : uint8_t { kSilu, kGeluTanh };

// How a layer looks at what came before.
struct AttentionSpec {
  float scale = 1;    // of the scores
  int window = 0;     // position p sees (p - window, p]; 0: all of [0, p]
  float softcap = 0;  // scores become softcap * tanh(score / softcap); 0: they stay
};

// kInt8: a scale for each token and KV head, of K and of V: the largest magnitude / 127.
enum class KvType : uint8_t { kF32, kBf16, kInt8 };

struct KvCacheSpec {
  int num_layers = 0;
  int num_blocks = 0;
  int block_size = 16;  // tokens; a multiple of 16
  int num_kv_heads = 0;
  int head_dim = 0;  // a multiple of 16, at most 256
  KvType type = KvType::kBf16;
};

// The KV memory of one rank, all layers. Layout private to the device.
class KvCache {
 public:
  virtual ~KvCache() = default;
  virtual const KvCacheSpec& spec() const = 0;
};

// Which tokens a step computes and where their KV lies. Rows of all activations are the tokens of
// sequence 0, then of sequence 1, ...; the last query token of sequence s is at position
// context_len[s] - 1, the others before it without gaps. Position p of sequence s lies in block
// block_table[s * max_blocks + p / B].
struct StepBatch {
  int num_tokens = 0;                    // T
  int num_seqs = 0;                      // S
  const int32_t* query_start = nullptr;  // [S + 1] first row of each sequence; ends with T
  const int32_t* context_len = nullptr;  // [S] tokens whose KV exists after this step
  const int32_t* block_table = nullptr;  // [S, max_blocks]
  int64_t max_blocks = 0;
};

class Ops {
 public:
  virtual ~Ops() = default;

  virtual const char* name() const = 0;  // "reference", or as the cluster file names the set

  // ---- At load. May allocate.

  // One matrix of all slices, one below the other; equal numbers of columns (quantized types: a
  // multiple of 32). Several slices make a fused weight (q, k, v).
  virtual std::unique_ptr<Weight> Pack(std::span<const MatrixSlice> slices) = 0;

  // The weight of GateUp: rows() == 2 F. REQUIRES: equal shapes and types, F % 16 == 0.
  virtual std::unique_ptr<Weight> PackGateUp(const MatrixSlice& gate, const MatrixSlice& up) = 0;

  virtual std::unique_ptr<RopeTable> MakeRopeTable(const RopeSpec& spec) = 0;

  // Bytes of one block over all layers: what to divide a memory budget by.
  virtual int64_t KvBlockBytes(const KvCacheSpec& spec) const = 0;
  // kResourceExhausted if the memory cannot be had. Zeroed; a CPU has it all from here on.
  virtual StatusOr<std::unique_ptr<KvCache>> MakeKvCache(const KvCacheSpec& spec) = 0;

  // ---- In a step.

  // out[t] = scale * row tokens[t] of the table, as the file has it (unpacked: a lookup touches T
  // rows).
  virtual void Embed(TensorView out,                   // [T, H]
                     const MatrixSlice& table,         // [V, H]
                     std::span<const int32_t> tokens,  // [T]
                     float scale) = 0;

  // out = x / sqrt(mean(x^2) + eps) * weight. `out` may be `x`. `next`: the matrix of the next
  // product, which is of all of `out`, unchanged until then; null: of something else. A device that
  // rounds activations does it in the same pass over `out` then.
  virtual void RmsNorm(TensorView out,                            // [T, H]
                       TensorView x,                              // [T, H]
                       std::span<const float> weight, float eps,  // [H]
                       const Weight* next) = 0;

  // x += residual, then RmsNorm of x into out.
  virtual void AddRmsNorm(TensorView out,                            // [T, H]
                          TensorView x,                              // [T, H] in place
                          TensorView residual,                       // [T, H]
                          std::span<const float> weight, float eps,  // [H]
                          const Weight* next) = 0;

  // out = x · Wᵀ + bias. `out` must not overlap `x`. int8 activations: a row with a NaN or infinity
  // gives NaN in that row.
  virtual void MatMul(TensorView out,  // [T, N]
                      TensorView x,    // [T, K]
                      const Weight& weight,
                      std::span<const float> bias) = 0;  // [N]; empty: none

  // out = activation(x · Gᵀ) * (x · Uᵀ).
  virtual void GateUp(TensorView out,  // [T, F]
                      TensorView x,    // [T, K]
                      const Weight& gate_up, Activation activation) = 0;

  // Norms each head of q and k if `norms` says so, rotates q in place and k on its way into the
  // cache, and stores k and v at their tokens' positions.
  virtual void RopeAndStoreKv(TensorView q,  // [T, Nq * D] in place
                              TensorView k,  // [T, Nkv * D]
                              TensorView v,  // [T, Nkv * D]
                              const HeadNorms& norms, const RopeTable& rope, KvCache& kv, int layer,
                              const StepBatch& batch) = 0;

  // Causal attention of mixed decodes and chunks. Query heads
  // [g * Nq / Nkv, (g + 1) * Nq / Nkv) share KV head g. Softmax in splits of fixed length counted
  // from position 0, merged in ascending order. Slots that hold no token are never used.
  virtual void PagedAttention(TensorView out,  // [T, Nq * D]
                              TensorView q,    // [T, Nq * D]
                              const KvCache& kv, int layer, const StepBatch& batch,
                              const AttentionSpec& spec) = 0;

  // x = factor * x.
  virtual void Scale(TensorView x, float factor) = 0;

  // x = cap * tanh(x / cap).
  virtual void SoftCap(TensorView x, float cap) = 0;

  // Draws one token for each row of logits; see sampling.h. Logits are left as they are.
  virtual void Sample(TensorView logits,                        // [S, V]
                      std::span<const SamplingParams> params,   // [S]
                      std::span<const TokenHistory> histories,  // [S]; read of penalized rows
                      std::span<SampledToken> out) = 0;         // [S]
};

}  // namespace tandem::kernels
