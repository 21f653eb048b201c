// Shape checks that every device makes before it touches memory.
#pragma once

#include "kernels/ops.h"

namespace tandem::kernels {

void CheckSlices(std::span<const MatrixSlice> slices);
void CheckGateUp(const MatrixSlice& gate, const MatrixSlice& up);
void CheckKvSpec(const KvCacheSpec& spec);
void CheckRopeSpec(const RopeSpec& spec);

void CheckEmbed(TensorView out, const MatrixSlice& table, std::span<const int32_t> tokens);
void CheckNorm(TensorView out, TensorView x, std::span<const float> weight);
void CheckMatMul(const OpsOptions& options, TensorView out, TensorView x, const Weight& weight,
                 std::span<const float> bias);
void CheckGateUpProduct(const OpsOptions& options, TensorView out, TensorView x,
                        const Weight& weight);
void CheckRopeAndStoreKv(TensorView q, TensorView k, TensorView v, const HeadNorms& norms,
                         const KvCacheSpec& spec, int layer, const StepBatch& batch);
void CheckAttention(TensorView out, TensorView q, const KvCacheSpec& spec, int layer,
                    const StepBatch& batch, const AttentionSpec& attention);
void CheckSample(const OpsOptions& options, TensorView logits,
                 std::span<const SamplingParams> params, std::span<const TokenHistory> histories,
                 std::span<SampledToken> out);

// Position of row `t`, which belongs to sequence `s`.
inline int PositionOfRow(const StepBatch& batch, int s, int t) {
  return batch.context_len[s] - (batch.query_start[s + 1] - t);
}

}  // namespace tandem::kernels
