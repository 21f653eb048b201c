// The launches of one step's forward pass, in the order of the stream: embed; a layer's norm, QKV,
// rope + KV store, attention, O, sum over the ranks; norm, gate/up, SiLU, down, sum; logits of the
// rows that sample, sampling. Owns the activations, sized for the largest step. Only enqueues, so
// that a graph can capture it.
#pragma once

#include <array>
#include <memory>
#include <vector>

#include "kernels/cuda/attention_plan.h"
#include "kernels/cuda/dense_matmul.h"
#include "kernels/cuda/ops.h"
#include "worker/model/cuda/device.h"
#include "worker/model/cuda/gpu_weights.h"
#include "worker/model/cuda/rank_exchange.h"
#include "worker/model/cuda/step_inputs.h"
#include "worker/model/model_config.h"
#include "worker/model/shard_layout.h"

namespace tandem::model::cuda {

struct ForwardSpec {
  ModelConfig config;
  RankShard shard;
  int tp = 1;
  int part_cols = 0;  // columns of logits of every rank but the last
  kernels::cuda::ActivationType type = kernels::cuda::ActivationType::kBf16;
  int max_tokens = 0;
  int max_seqs = 0;  // also the number of slots
  int max_context = 0;
  int block_size = 16;
  std::string algorithms;  // file for DenseMatMul's choices; empty: none
};

// One rank's KV memory.
struct KvMemory {
  std::vector<kernels::cuda::KvLayer> layers;
  int32_t* block_tokens = nullptr;  // [num_blocks, block_size], for penalties
  std::vector<DeviceMemory> memory;
};
// Of one block over all layers.
int64_t KvBlockBytes(const ForwardSpec& spec);
StatusOr<KvMemory> AllocateKv(const ForwardSpec& spec, int num_blocks);

class Forward {
 public:
  // Of device memory, on the current GPU.
  static int64_t StepBytes(const ForwardSpec& spec);
  static kernels::cuda::AttentionPlanSpec AttentionOf(const ForwardSpec& spec);

  // `weights`, `exchange` (null: one rank) and `stream` are borrowed.
  static StatusOr<std::unique_ptr<Forward>> Make(const ForwardSpec& spec, const GpuWeights& weights,
                                                 RankExchange* exchange, cudaStream_t stream);

  // Enqueues the step that lies at `inputs` in device memory.
  void Enqueue(const StepLayout& layout, std::byte* inputs, const KvMemory& kv);

  // OK, or why a step did not compute what it should.
  Status Poll() const;
  // What matrix products were chosen goes to the file, if there is something new.
  Status SaveChoices() const;

  // Of the step enqueued last, in device memory: [rows that sample], and their logits.
  const kernels::SampledToken* sampled() const;
  kernels::cuda::Logits logits(int rows) const;
  SamplingInputs sampling_inputs() const;
  // Enqueues a copy of those of slots that start, before the step that has them. `host`: pinned, as
  // many, left alone until the step is over.
  Status CopyBiases(const StepPlan& plan, TokenBias* host) const;
  // The plan's masks, likewise.
  Status CopyMasks(const StepPlan& plan, uint32_t* host) const;

 private:
  enum Array {        // of step memory; T tokens, S rows that sample
    kX,               // float [T, H]; activations from here on
    kNormed,          // [T, H]
    kPartial,         // [T, H]
    kQkv,             // [T, (Nq + 2 Nkv) D]
    kHeads,           // [T, Nq D]
    kGateUp,          // [T, 2 F]
    kAct,             // [T, F]
    kLast,            // [S, H]
    kPartLogits,      // float [S, part_cols] of this rank
    kLogits,          // float [tp, S, part_cols]; one rank: none
    kAttentionParts,  // AttentionPlan::PartialBytes
    kSampleScratch,
    kSampled,      // SampledToken [S]
    kLastSampled,  // int32 [slots]
    kBiases,       // TokenBias [slots, kMaxTokenBiases]
    kMasks,        // uint32 [slots, MaskWords(V)]
    kNumArrays
  };
  using ArrayBytes = std::array<int64_t, kNumArrays>;
  static ArrayBytes BytesOf(const ForwardSpec& spec);

  Forward(const ForwardSpec& spec, const GpuWeights& weights, RankExchange* exchange,
          cudaStream_t stream);
  template <class T>
  T* At(Array array) const {
    return static_cast<T*>(memory_[array].get());
  }
  kernels::cuda::Matrix View(Array array, int64_t rows, int64_t cols) const;
  void MatMul(const kernels::cuda::Matrix& out, const kernels::cuda::Matrix& x,
              const Linear& linear);
  void Attention(const GpuLayer& layer, const kernels::cuda::KvLayer& kv,
                 const kernels::cuda::Batch& batch);
  void FeedForward(const GpuLayer& layer, int tokens);
  // x += the sum of kPartial over the ranks; kNormed = RmsNorm(x).
  void AddNorm(const float* weight, int tokens);
  void Sample(const StepLayout& layout, std::byte* inputs, const kernels::cuda::Batch& batch);

  const ForwardSpec spec_;
  const GpuWeights& weights_;
  RankExchange* const exchange_;
  const cudaStream_t stream_;
  std::array<DeviceMemory, kNumArrays> memory_;
  std::unique_ptr<kernels::cuda::DenseMatMul> dense_;
};

}  // namespace tandem::model::cuda
