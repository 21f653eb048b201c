// What one instruction set implements: loops over plain pointers, found at run time through a table
// of functions. Files of an instruction set are compiled with its flags and include nothing but
// this header and intrinsics: an inline function that they shared with other files could be merged
// by the linker into code that every CPU runs.
#pragma once

#include <stdint.h>

namespace tandem::kernels::cpu {

// Activations rounded to int8, one record per row and 32 columns; an even number of records a row,
// padded with zeros.
struct QuantizedBlock {
  int8_t q[32];
  float d;       // x = d * q; NaN if the block holds a NaN or infinity
  float s;       // d * sum(q)
  int32_t c8;    // -8 * sum(q): makes Q4_0's nibbles signed
  int32_t c128;  // -128 * sum(q): makes Q8_0's biased bytes signed
};
static_assert(sizeof(QuantizedBlock) == 48);

// How a weight's panels (16 output rows each, zero rows at the end) lie in memory. Quantized: pairs
// of 32-column blocks, [d of block 0][d of block 1] ([m 0][m 1]) [q 0][q 1], d and m 16 halfs each.
// A step of 4 columns is 64 bytes, 4 for each row. Nibbles: byte 4 * row + i of step j holds column
// 4 j + i (low) and 16 + 4 j + i (high). Q8: w + 128. Floats: [cols][16]. kBf16Pairs: [cols /
// 2][16][2], zeros for an odd last column.
enum class PanelFormat : uint8_t { kQ4_0, kQ4_1, kQ8_0, kF16, kBf16, kBf16Pairs, kF32 };

// Bytes of a quantized format: of the scales of a pair of blocks, of one block's quants, of a pair.
template <PanelFormat kFormat>
struct PairLayout {
  static constexpr bool kHasMin = kFormat == PanelFormat::kQ4_1;
  static constexpr int kScaleBytes = kHasMin ? 128 : 64;
  static constexpr int kBlockBytes = kFormat == PanelFormat::kQ8_0 ? 512 : 256;
  static constexpr int kPairBytes = kScaleBytes + 2 * kBlockBytes;
};

// out[rows][...] = x · panelsᵀ for panels [panel_begin, panel_end). With gate_up, panels 2 i and
// 2 i + 1 are gate and up of output panel i, panel bounds are even, and silu(gate) * up is stored.
struct MatMulJob {
  PanelFormat format;
  bool gate_up;
  bool gelu;              // with gate_up: gelu(gate) * up instead
  const uint8_t* panels;  // 64-byte aligned
  int64_t panel_bytes;
  int64_t panel_begin, panel_end;
  int64_t cols;  // K
  int64_t rows;
  const void* x;     // rows of QuantizedBlock, bf16 or float
  int64_t x_stride;  // bytes
  float* out;
  int64_t out_stride;  // elements
  int64_t out_cols;    // columns that exist; the last panel may be cut
  const float* bias;   // [out_cols] added to each row, or null; not with gate_up
  float* scratch;      // float32 path: rows * kMatMulScratchPerRow
};

// How keys and values lie in memory; see attention.inc.
enum class KvFormat : uint8_t { kF32, kBf16, kInt8 };

// A token that attends. Tokens of one sequence have the same `blocks` pointer.
struct AttentionToken {
  const float* q;  // all query heads
  float* out;
  const int32_t* blocks;
  int position;
};

// Attention of up to kAttentionTokens tokens for the query heads of one KV head. Tokens of one
// sequence stand together, by position.
struct AttentionJob {
  const AttentionToken* tokens;
  int num_tokens;
  int shared;           // positions [0, shared) lie in the same blocks for all; whole splits
  int64_t head_column;  // of the group's first query head in q and out; heads are head_dim apart
  int group;            // query heads per KV head
  int head_dim;
  int window;  // position p sees (p - window, p]; 0: all of [0, p]
  KvFormat format;
  const uint8_t* kv;     // this layer's and KV head's part of block 0
  int64_t block_stride;  // bytes from block to block
  int block_size;
  float scale;
  float softcap;   // scores become softcap * tanh(score / softcap); 0: they stay
  float* scratch;  // TANDEM_ATTENTION_SCRATCH_FLOATS(group * head_dim, group)
};

inline constexpr int kAttentionTokens = 16;
inline constexpr int kAttentionSplit = 128;  // positions whose softmax has one maximum
inline constexpr int kMaxHeadDim = 256;
inline constexpr int kFloatSlice = 256;  // columns dequantized at a time by the float32 path

// What callers allocate for the scratch of a job.
inline constexpr int64_t kMatMulScratchPerRow = 32;
// A macro for want of an inline function: see above. For each row (token and head) q, what was
// summed up, its sum in 16 lanes and its maximum; 16 rows' scores; a split as bf16.
#define TANDEM_ATTENTION_SCRATCH_FLOATS(group_cols, group)                \
  (int64_t{kAttentionTokens} * (2 * int64_t{group_cols} + 17 * (group)) + \
   int64_t{kAttentionSplit} * (16 + kMaxHeadDim))

// Passes over the logits of a row. Equal bits on every instruction set.
inline constexpr int kSamplingBlock = 256;  // tokens
inline constexpr int kSamplingBins = 1024;
inline constexpr float kSamplingBinsPerNat = 16;

struct SamplingKernels {
  // The first of the greatest; NaN counts as minus infinity.
  int64_t (*arg_max)(const float* x, int64_t count);
  // p = exp((x - max) * inverse), for x <= max.
  void (*exp_below)(const float* x, int64_t count, float max, float inverse, float* p);
  // Of every kSamplingBlock tokens.
  void (*sum_blocks)(const float* p, int64_t count, double* sums);
  // How far x lies below max, times inverse: in kSamplingBinsPerNat bins a nat.
  void (*bin_below)(const float* x, int64_t count, float max, float inverse, int16_t* bins);
  // The i whose bin is below `limit`, ascending; returns how many. `ids` has room for all.
  int64_t (*collect_below)(const int16_t* bins, int64_t count, int16_t limit, int32_t* ids);
  // p = 0 where x < least.
  void (*zero_below)(const float* x, int64_t count, float least, float* p);
};

struct KernelTable {
  void (*quantize)(const float* x, int64_t cols, QuantizedBlock* out);
  void (*matmul_int8)(const MatMulJob& job);
  void (*matmul_f32)(const MatMulJob& job);  // every format but kBf16Pairs
  // x as bf16, to the nearest, in an even number of columns (zero at the end), and the product with
  // kBf16Pairs. Null where the CPU has no instruction for it; there floats rounded to bf16 go
  // through matmul_f32 and kBf16.
  void (*round_bf16)(const float* x, int64_t cols, uint16_t* out);
  void (*matmul_bf16)(const MatMulJob& job);
  void (*round_bf16_floats)(const float* x, int64_t cols, float* out);
  // x += residual if there is one; out = x * rsqrt(mean(x^2) + eps) * weight.
  void (*rms_norm)(float* out, float* x, const float* residual, const float* weight, int64_t cols,
                   float eps);
  // head[2 i], head[2 i + 1] turned by cosine cos_sin[2 i], sine cos_sin[2 i + 1].
  void (*rotate_adjacent)(float* head, const float* cos_sin, int dims);
  // head[i], head[i + dims / 2] turned by cosine cos_sin[i], sine cos_sin[i + dims / 2].
  void (*rotate_halves)(float* head, const float* cos_sin, int dims);
  void (*attention)(const AttentionJob& job);
  // x = cap * tanh(x / cap)
  void (*soft_cap)(float* x, int64_t count, float cap);
  SamplingKernels sampling;
};

KernelTable Avx2Kernels();
KernelTable AvxVnniKernels();
KernelTable Avx512Kernels();  // with VNNI
KernelTable Avx512Bf16Kernels();

}  // namespace tandem::kernels::cpu
