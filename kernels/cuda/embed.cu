#include "common/round.h"
#include "kernels/cuda/activation.cuh"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ops.h"

namespace tandem::kernels::cuda {
namespace {

constexpr int kThreads = 128;

// Blocks of the file begin at even addresses only.
__device__ float HalfAt(const unsigned char* bytes) {
  return __half2float(*reinterpret_cast<const __half*>(bytes));
}
__device__ void Bytes8(uint8_t (&out)[8], const unsigned char* bytes) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const uint16_t pair = *reinterpret_cast<const uint16_t*>(bytes + 2 * i);
    out[2 * i] = static_cast<uint8_t>(pair);
    out[2 * i + 1] = static_cast<uint8_t>(pair >> 8);
  }
}

// Elements [col, col + 8) of a row as the file has it; see WeightType.
template <WeightType kType>
__device__ void Dequantize8(float (&x)[8], const unsigned char* row, int col) {
  if constexpr (kType == WeightType::kF32) {
    Load8(x, reinterpret_cast<const float*>(row) + col);
  } else if constexpr (kType == WeightType::kF16) {
    Load8(x, reinterpret_cast<const F16*>(row) + col);
  } else if constexpr (kType == WeightType::kBf16) {
    Load8(x, reinterpret_cast<const Bf16*>(row) + col);
  } else {
    const unsigned char* const block = row + int64_t{col / 32} * BlockBytes(kType);
    const int within = col % 32;
    const float d = HalfAt(block);
    uint8_t q[8];
    if constexpr (kType == WeightType::kQ8_0) {
      Bytes8(q, block + 2 + within);
#pragma unroll
      for (int i = 0; i < 8; ++i) x[i] = d * static_cast<float>(static_cast<int8_t>(q[i]));
    } else {
      constexpr int kScales = kType == WeightType::kQ4_1 ? 4 : 2;
      Bytes8(q, block + kScales + within % 16);
      const int shift = within < 16 ? 0 : 4;
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        const int nibble = q[i] >> shift & 15;
        if constexpr (kType == WeightType::kQ4_1) {
          x[i] = d * static_cast<float>(nibble) + HalfAt(block + 2);
        } else {
          x[i] = d * static_cast<float>(nibble - 8);
        }
      }
    }
  }
}

// The token of row t; -1 for padding.
__device__ int32_t TokenOf(const Batch& batch, int t) {
  const int32_t sequence = batch.row_sequence[t];
  if (sequence < 0) return -1;
  const int32_t token = batch.tokens[t];
  return token >= 0 ? token : batch.last_sampled[batch.slots[sequence]];
}

template <WeightType kType>
__global__ void __launch_bounds__(kThreads)
    EmbedKernel(float* x, const __grid_constant__ EmbeddingTable table,
                const __grid_constant__ Batch batch) {
  DependentLaunchWait();
  DependentLaunchTrigger();
  const int col = static_cast<int>(blockIdx.x * kThreads + threadIdx.x) * kPackElements;
  if (col >= table.cols) return;
  const int row = static_cast<int>(blockIdx.y);
  const int32_t token = TokenOf(batch, row);
  if (col == 0 && token >= 0 && batch.block_tokens != nullptr) {
    const int32_t position = batch.positions[row];
    const int32_t block =
        batch.block_table[batch.first_block[batch.row_sequence[row]] + position / batch.block_size];
    batch.block_tokens[int64_t{block} * batch.block_size + position % batch.block_size] = token;
  }
  float values[8] = {};
  if (token >= 0) {
    const int64_t row_bytes = table.cols / BlockElements(kType) * BlockBytes(kType);
    Dequantize8<kType>(values, static_cast<const unsigned char*>(table.data) + token * row_bytes,
                       col);
#pragma unroll
    for (float& value : values) value *= table.scale;
  }
  Store8(x + blockIdx.y * table.cols + col, values);
}

template <WeightType kType>
void LaunchEmbed(float* x, const EmbeddingTable& table, const Batch& batch, cudaStream_t stream) {
  Launch<&EmbedKernel<kType>>(
      {.grid = dim3(CeilDiv(table.cols, kThreads * kPackElements), batch.num_tokens),
       .block = dim3(kThreads),
       .stream = stream,
       .dependent = true},
      x, table, batch);
}

}  // namespace

void Embed(float* x, const EmbeddingTable& table, const Batch& batch, cudaStream_t stream) {
  TANDEM_CHECK(table.cols > 0 && table.cols % (BlockElements(table.type) > 1 ? 32 : 8) == 0)
      << table.cols << " columns";
  if (batch.num_tokens == 0) return;
  switch (table.type) {
    case WeightType::kF32:
      return LaunchEmbed<WeightType::kF32>(x, table, batch, stream);
    case WeightType::kF16:
      return LaunchEmbed<WeightType::kF16>(x, table, batch, stream);
    case WeightType::kBf16:
      return LaunchEmbed<WeightType::kBf16>(x, table, batch, stream);
    case WeightType::kQ4_0:
      return LaunchEmbed<WeightType::kQ4_0>(x, table, batch, stream);
    case WeightType::kQ4_1:
      return LaunchEmbed<WeightType::kQ4_1>(x, table, batch, stream);
    case WeightType::kQ8_0:
      return LaunchEmbed<WeightType::kQ8_0>(x, table, batch, stream);
    default:
      TANDEM_CHECK(false) << static_cast<int>(table.type);
  }
}

}  // namespace tandem::kernels::cuda
