// One rank's shard of a Llama model's weights in GPU memory. Read slice by slice from the file, so
// that neither host nor device ever holds more than the shard and what is on its way.
#pragma once

#include <functional>
#include <string>
#include <variant>
#include <vector>

#include "kernels/cuda/dense_matmul.h"
#include "kernels/cuda/ops.h"
#include "worker/model/cuda/device.h"
#include "worker/model/model_source.h"
#include "worker/model/shard_layout.h"

namespace tandem::model::cuda {

// A weight [N, K]: quantized ones stay so, others become the activations' type.
struct Linear {
  std::variant<kernels::cuda::DenseWeight, kernels::cuda::QuantWeight> weight;
  const float* bias = nullptr;  // [N] of a quantized one, or null; dense ones have theirs
};

// Shapes: H hidden, D head dim, Nq/Nkv heads and F feed-forward columns of this rank.
struct GpuLayer {
  const float* attn_norm = nullptr;                  // [H]
  Linear qkv;                                        // [(Nq + 2 Nkv) * D, H]
  const float *q_norm = nullptr, *k_norm = nullptr;  // [D] or null
  Linear o;                                          // [H, Nq * D]
  const float* ffn_norm = nullptr;                   // [H]
  Linear gate_up;                                    // [2 F, H]: gate's rows, then up's
  Linear down;                                       // [H, F]
};

struct GpuWeights {
  kernels::cuda::EmbeddingTable embedding;  // [vocab, H], all of it on every rank
  std::vector<GpuLayer> layers;
  const float* output_norm = nullptr;   // [H]
  Linear output;                        // [vocab of this rank, H]; no rows if that is empty
  const float* rope_cos_sin = nullptr;  // [max_positions, D]
  int32_t max_positions = 0;
  int64_t bytes = 0;
  std::vector<DeviceMemory> memory;  // what all of the above points to
};

struct GpuWeightSpec {
  const ModelSource& source;
  RankShard shard;
  kernels::cuda::ActivationType type = kernels::cuda::ActivationType::kBf16;
  int max_positions = 0;  // of the rotary embedding
};

// What the weights will take: nothing is read but the file's header.
int64_t GpuWeightBytes(const GpuWeightSpec& spec);

// On the thread's current GPU. `on_progress`: told how many bytes of GpuWeightBytes are there.
StatusOr<GpuWeights> LoadGpuWeights(const GpuWeightSpec& spec,
                                    const std::function<void(int64_t bytes)>& on_progress);

}  // namespace tandem::model::cuda
