#include "common/round.h"
#include "kernels/cuda/activation.cuh"
#include "kernels/cuda/block_reduce.cuh"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ops.h"

namespace tandem::kernels::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kHeadLanes = 16;  // of a warp: one head of up to 16 packs of eight
constexpr int kHeadsPerBlock = kThreads / kHeadLanes;

struct RopeArgs {
  Matrix q, k, v;
  const float* q_norm;
  const float* k_norm;
  float norm_eps;
  Rope rope;
  KvLayer kv;
  Batch batch;
};

// Over the 16 lanes that hold a head.
__device__ float HeadSum(float x) {
#pragma unroll
  for (int offset = kHeadLanes / 2; offset > 0; offset /= 2) {
    x += __shfl_xor_sync(0xffffffffu, x, offset);
  }
  return x;
}

__device__ void NormalizeHead(float (&x)[8], const float* weight, float eps, int head_dim,
                              bool active, int col) {
  float sum = 0;
#pragma unroll
  for (float value : x) sum += value * value;
  const float scale = 1.0f / sqrtf(HeadSum(sum) / static_cast<float>(head_dim) + eps);
  float w[8] = {};
  if (active) Load8(w, weight + col);
#pragma unroll
  for (int i = 0; i < 8; ++i) x[i] = x[i] * scale * w[i];
}

// Pairs (2 i, 2 i + 1): both in this lane.
__device__ void RotateAdjacent(float (&x)[8], const float* cos_sin, int dims, int col) {
#pragma unroll
  for (int i = 0; i < 8; i += 2) {
    if (col + i >= dims) return;
    const float2 turn = *reinterpret_cast<const float2*>(cos_sin + col + i);
    const float a = x[i], b = x[i + 1];
    x[i] = a * turn.x - b * turn.y;
    x[i + 1] = a * turn.y + b * turn.x;
  }
}

// Pairs (i, i + dims / 2): the other one is dims / 16 lanes away. All lanes of the warp call.
__device__ void RotateHalves(float (&x)[8], const float* cos_sin, int dims, int col) {
  const int lane = threadIdx.x % kWarp, half = dims / 2;
  const bool first = col < half;
  const int partner = col < dims ? (first ? lane + half / 8 : lane - half / 8) : lane;
  float other[8];
#pragma unroll
  for (int i = 0; i < 8; ++i) other[i] = __shfl_sync(0xffffffffu, x[i], partner);
  if (col >= dims) return;
  float turn[2][8];
  const float* const pair = cos_sin + 2 * (first ? col : col - half);
  Load8(turn[0], pair);
  Load8(turn[1], pair + 8);
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const float c = turn[i / 4][i % 4 * 2], s = turn[i / 4][i % 4 * 2 + 1];
    x[i] = first ? x[i] * c - other[i] * s : other[i] * s + x[i] * c;
  }
}

// Sixteen lanes for a head of q, k or v of one row; `heads` counts the three one after the other.
template <class T>
__global__ void __launch_bounds__(kThreads) RopeKernel(const __grid_constant__ RopeArgs args) {
  DependentLaunchWait();
  DependentLaunchTrigger();
  const int row = static_cast<int>(blockIdx.y);
  const int32_t sequence = args.batch.row_sequence[row];
  if (sequence < 0) return;
  const int head_dim = args.kv.head_dim, kv_heads = args.kv.num_kv_heads;
  const int q_heads = static_cast<int>(args.q.cols) / head_dim;
  const int index =
      static_cast<int>(blockIdx.x) * kHeadsPerBlock + static_cast<int>(threadIdx.x) / kHeadLanes;
  const int col = threadIdx.x % kHeadLanes * kPackElements;
  const bool is_q = index < q_heads, is_k = !is_q && index < q_heads + kv_heads;
  const bool active = index < q_heads + 2 * kv_heads && col < head_dim;
  const int head = is_q ? index : (index - q_heads) % kv_heads;
  const int32_t position = args.batch.positions[row];

  const Matrix& from = is_q ? args.q : is_k ? args.k : args.v;
  T* const data = static_cast<T*>(from.data) + row * from.stride + head * head_dim + col;
  float x[8] = {};
  if (active) Load8(x, data);
  if (args.q_norm != nullptr || args.k_norm != nullptr) {
    // Lanes of one warp may hold heads of q, k and v: all join the sums, some for nothing.
    const float* const norm = is_q ? args.q_norm : is_k ? args.k_norm : nullptr;
    float y[8];
#pragma unroll
    for (int i = 0; i < 8; ++i) y[i] = x[i];
    NormalizeHead(y, norm, args.norm_eps, head_dim, active && norm != nullptr, col);
#pragma unroll
    for (int i = 0; i < 8; ++i) x[i] = norm != nullptr ? y[i] : x[i];
  }
  const int dims = is_q || is_k ? args.rope.dims : 0;
  const float* const cos_sin = args.rope.cos_sin + int64_t{position} * args.rope.dims;
  if (args.rope.pairs == RopePairs::kAdjacent) {
    RotateAdjacent(x, cos_sin, dims, col);
  } else {
    RotateHalves(x, cos_sin, dims, col);
  }
  if (!active) return;
  if (is_q) {
    Store8(data, x);
    return;
  }
  const int32_t block =
      args.batch.block_table[args.batch.first_block[sequence] + position / args.kv.block_size];
  const int64_t slot =
      (int64_t{block} * kv_heads + head) * args.kv.block_size + position % args.kv.block_size;
  Store8(static_cast<T*>(is_k ? args.kv.k : args.kv.v) + slot * head_dim + col, x);
}

}  // namespace

void RopeAndStoreKv(const Matrix& q, const Matrix& k, const Matrix& v, const float* q_norm,
                    const float* k_norm, float norm_eps, const Rope& rope, const KvLayer& kv,
                    const Batch& batch, cudaStream_t stream) {
  const int64_t rows = batch.num_tokens, kv_cols = int64_t{kv.num_kv_heads} * kv.head_dim;
  CheckMatrix(q, rows, q.cols, kv.type);
  CheckMatrix(k, rows, kv_cols, kv.type);
  CheckMatrix(v, rows, kv_cols, kv.type);
  TANDEM_CHECK(kv.head_dim % kPackElements == 0 && kv.head_dim <= kHeadLanes * kPackElements &&
               q.cols % kv.head_dim == 0)
      << "head dim " << kv.head_dim << ", q of " << q.cols;
  TANDEM_CHECK(rope.dims <= kv.head_dim &&
               rope.dims % (rope.pairs == RopePairs::kHalves ? 16 : 2) == 0)
      << rope.dims << " rotated dims";
  if (rows == 0) return;
  const int64_t heads = q.cols / kv.head_dim + 2 * kv.num_kv_heads;
  ForType(kv.type, [&]<class T>(T) {
    Launch<&RopeKernel<T>>({.grid = dim3(CeilDiv(heads, kHeadsPerBlock), rows),
                            .block = dim3(kThreads),
                            .stream = stream,
                            .dependent = true},
                           RopeArgs{q, k, v, q_norm, k_norm, norm_eps, rope, kv, batch});
  });
}

}  // namespace tandem::kernels::cuda
