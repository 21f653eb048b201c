#include "worker/model/cuda/forward.h"

#include <algorithm>
#include <numeric>

#include "common/check.h"

namespace tandem::model::cuda {
namespace {

using kernels::cuda::Batch;
using kernels::cuda::DenseWeight;
using kernels::cuda::Logits;
using kernels::cuda::Matrix;
using kernels::cuda::QuantWeight;

int64_t BlockTokenBytes(const ForwardSpec& spec) {
  return static_cast<int64_t>(sizeof(int32_t)) * spec.block_size;
}

int64_t QCols(const ForwardSpec& spec) {
  return int64_t{spec.shard.heads.size()} * spec.config.head_dim;
}
int64_t KvCols(const ForwardSpec& spec) {
  return int64_t{spec.shard.kv_heads.size()} * spec.config.head_dim;
}

}  // namespace

int64_t KvBlockBytes(const ForwardSpec& spec) {
  return BlockTokenBytes(spec) + int64_t{2} * 2 * spec.config.num_layers * spec.block_size *
                                     spec.shard.kv_heads.size() * spec.config.head_dim;
}

StatusOr<KvMemory> AllocateKv(const ForwardSpec& spec, int num_blocks) {
  KvMemory kv;
  kernels::cuda::KvLayer layer;
  layer.num_blocks = num_blocks;
  layer.num_kv_heads = spec.shard.kv_heads.size();
  layer.head_dim = spec.config.head_dim;
  layer.block_size = spec.block_size;
  layer.type = spec.type;
  for (int i = 0; i < spec.config.num_layers; ++i) {
    for (void** to : {&layer.k, &layer.v}) {
      TANDEM_ASSIGN_OR_RETURN(DeviceMemory memory, AllocateDevice(KvBytes(layer)));
      *to = memory.get();
      kv.memory.push_back(std::move(memory));
    }
    kv.layers.push_back(layer);
  }
  TANDEM_ASSIGN_OR_RETURN(DeviceMemory tokens, AllocateDevice(BlockTokenBytes(spec) * num_blocks));
  kv.block_tokens = static_cast<int32_t*>(tokens.get());
  kv.memory.push_back(std::move(tokens));
  return kv;
}

kernels::cuda::AttentionPlanSpec Forward::AttentionOf(const ForwardSpec& spec) {
  kernels::cuda::AttentionPlanSpec attention;
  attention.max_tokens = spec.max_tokens;
  attention.max_seqs = spec.max_seqs;
  attention.max_context = spec.max_context;
  attention.num_heads = spec.shard.heads.size();
  attention.num_kv_heads = spec.shard.kv_heads.size();
  attention.window = spec.config.layers[0].window;
  attention.blocks_at_once = kernels::cuda::AttentionBlocksAtOnce(spec.type, spec.config.head_dim);
  return attention;
}

Forward::ArrayBytes Forward::BytesOf(const ForwardSpec& spec) {
  const int64_t tokens = spec.max_tokens, seqs = spec.max_seqs;
  const int64_t hidden = spec.config.hidden, ffn = spec.shard.ffn.size();
  const int64_t logits = seqs * spec.part_cols * static_cast<int64_t>(sizeof(float));
  ArrayBytes bytes = {};
  bytes[kX] = tokens * hidden * static_cast<int64_t>(sizeof(float));
  bytes[kNormed] = bytes[kPartial] = 2 * tokens * hidden;
  bytes[kQkv] = 2 * tokens * (QCols(spec) + 2 * KvCols(spec));
  bytes[kHeads] = 2 * tokens * QCols(spec);
  bytes[kGateUp] = 2 * tokens * 2 * ffn;
  bytes[kAct] = 2 * tokens * ffn;
  bytes[kLast] = 2 * seqs * hidden;
  bytes[kPartLogits] = logits;
  bytes[kLogits] = spec.tp > 1 ? spec.tp * logits : 0;
  bytes[kAttentionParts] =
      kernels::cuda::AttentionPlan(AttentionOf(spec)).PartialBytes(spec.config.head_dim);
  bytes[kSampleScratch] = kernels::cuda::SampleScratchBytes(spec.max_seqs, spec.config.vocab);
  bytes[kSampled] = seqs * static_cast<int64_t>(sizeof(kernels::SampledToken));
  bytes[kLastSampled] = seqs * static_cast<int64_t>(sizeof(int32_t));
  bytes[kBiases] = seqs * kMaxTokenBiases * static_cast<int64_t>(sizeof(TokenBias));
  bytes[kMasks] = seqs * MaskWords(spec.config.vocab) * static_cast<int64_t>(sizeof(uint32_t));
  return bytes;
}

int64_t Forward::StepBytes(const ForwardSpec& spec) {
  const ArrayBytes bytes = BytesOf(spec);
  return std::accumulate(bytes.begin(), bytes.end(), int64_t{0}) +
         kernels::cuda::DenseMatMul::kWorkspaceBytes;
}

Forward::Forward(const ForwardSpec& spec, const GpuWeights& weights, RankExchange* exchange,
                 cudaStream_t stream)
    : spec_(spec), weights_(weights), exchange_(exchange), stream_(stream) {}

StatusOr<std::unique_ptr<Forward>> Forward::Make(const ForwardSpec& spec, const GpuWeights& weights,
                                                 RankExchange* exchange, cudaStream_t stream) {
  std::unique_ptr<Forward> forward(new Forward(spec, weights, exchange, stream));
  const ArrayBytes bytes = BytesOf(spec);
  for (int i = 0; i < kNumArrays; ++i) {
    TANDEM_ASSIGN_OR_RETURN(forward->memory_[i], AllocateDevice(bytes[i]));
  }
  TANDEM_ASSIGN_OR_RETURN(forward->dense_, kernels::cuda::DenseMatMul::Make(spec.algorithms));
  return forward;
}

Matrix Forward::View(Array array, int64_t rows, int64_t cols) const {
  return {memory_[array].get(), rows, cols, cols, spec_.type};
}

Status Forward::Poll() const { return dense_->Poll(); }

Status Forward::SaveChoices() const { return dense_->Save(); }

const kernels::SampledToken* Forward::sampled() const {
  return At<kernels::SampledToken>(kSampled);
}

SamplingInputs Forward::sampling_inputs() const {
  return {At<TokenBias>(kBiases), At<uint32_t>(kMasks)};
}

// Slots start rarely: so they are no part of a step's inputs, nor of any graph.
Status Forward::CopyBiases(const StepPlan& plan, TokenBias* host) const {
  for (const PlanRow& row : plan.rows) {
    if ((row.flags & kRowStart) == 0 || row.num_biases == 0) continue;
    std::copy_n(plan.biases.begin() + row.first_bias, row.num_biases, host);
    TANDEM_RETURN_IF_ERROR(
        FromCuda(cudaMemcpyAsync(At<TokenBias>(kBiases) + int64_t{row.slot} * kMaxTokenBiases, host,
                                 static_cast<size_t>(row.num_biases) * sizeof(TokenBias),
                                 cudaMemcpyHostToDevice, stream_),
                 "copying biases"));
    host += row.num_biases;
  }
  return OkStatus();
}

Status Forward::CopyMasks(const StepPlan& plan, uint32_t* host) const {
  if (plan.masks.empty()) return OkStatus();
  std::copy(plan.masks.begin(), plan.masks.end(), host);
  return FromCuda(cudaMemcpyAsync(At<uint32_t>(kMasks), host, plan.masks.size_bytes(),
                                  cudaMemcpyHostToDevice, stream_),
                  "copying token masks");
}

Logits Forward::logits(int rows) const {
  Logits logits;
  logits.data = At<float>(spec_.tp > 1 ? kLogits : kPartLogits);
  logits.parts = spec_.tp;
  logits.rows = rows;
  logits.part_cols = spec_.part_cols;
  logits.vocab = spec_.config.vocab;
  logits.scale = spec_.config.logit_scale;
  return logits;
}

void Forward::Enqueue(const StepLayout& layout, std::byte* inputs, const KvMemory& kv) {
  const Batch batch = layout.BatchAt(inputs, {At<int32_t>(kLastSampled), kv.block_tokens});
  const int tokens = batch.num_tokens;
  const float eps = spec_.config.rms_eps;
  kernels::cuda::Embed(At<float>(kX), weights_.embedding, batch, stream_);
  for (size_t i = 0; i < weights_.layers.size(); ++i) {
    const GpuLayer& layer = weights_.layers[i];
    if (i == 0) {
      kernels::cuda::RmsNorm(View(kNormed, tokens, spec_.config.hidden), At<float>(kX),
                             layer.attn_norm, eps, stream_);
    } else {
      AddNorm(layer.attn_norm, tokens);
    }
    Attention(layer, kv.layers[i], batch);
    AddNorm(layer.ffn_norm, tokens);
    FeedForward(layer, tokens);
  }
  if (layout.shape().sampled > 0) Sample(layout, inputs, batch);
}

void Forward::Attention(const GpuLayer& layer, const kernels::cuda::KvLayer& kv,
                        const Batch& batch) {
  const int64_t tokens = batch.num_tokens, q_cols = QCols(spec_), kv_cols = KvCols(spec_);
  const Matrix qkv = View(kQkv, tokens, q_cols + 2 * kv_cols);
  const Matrix q = qkv.Cols(0, q_cols);
  const Matrix heads = View(kHeads, tokens, q_cols);
  const kernels::cuda::Rope rope = {weights_.rope_cos_sin, weights_.max_positions,
                                    spec_.config.head_dim, spec_.config.ropes[0].pairs};
  MatMul(qkv, View(kNormed, tokens, spec_.config.hidden), layer.qkv);
  kernels::cuda::RopeAndStoreKv(q, qkv.Cols(q_cols, q_cols + kv_cols),
                                qkv.Cols(q_cols + kv_cols, q_cols + 2 * kv_cols), layer.q_norm,
                                layer.k_norm, spec_.config.rms_eps, rope, kv, batch, stream_);
  kernels::cuda::PagedAttention(heads, q, kv, batch, spec_.config.attention_scale,
                                spec_.config.layers[0].window, At<float>(kAttentionParts), stream_);
  MatMul(View(kPartial, tokens, spec_.config.hidden), heads, layer.o);
}

void Forward::FeedForward(const GpuLayer& layer, int tokens) {
  const int64_t ffn = spec_.shard.ffn.size();
  const Matrix gate_up = View(kGateUp, tokens, 2 * ffn);
  const Matrix act = View(kAct, tokens, ffn);
  MatMul(gate_up, View(kNormed, tokens, spec_.config.hidden), layer.gate_up);
  kernels::cuda::SiluMul(act, gate_up.Cols(0, ffn), gate_up.Cols(ffn, 2 * ffn), stream_);
  MatMul(View(kPartial, tokens, spec_.config.hidden), act, layer.down);
}

void Forward::AddNorm(const float* weight, int tokens) {
  const Matrix normed = View(kNormed, tokens, spec_.config.hidden);
  const Matrix partial = View(kPartial, tokens, spec_.config.hidden);
  if (exchange_ != nullptr) {
    exchange_->SumAddRmsNorm(normed, At<float>(kX), partial, weight, spec_.config.rms_eps, stream_);
  } else {
    kernels::cuda::AddRmsNorm(normed, At<float>(kX), partial, weight, spec_.config.rms_eps,
                              stream_);
  }
}

void Forward::MatMul(const Matrix& out, const Matrix& x, const Linear& linear) {
  if (const auto* quant = std::get_if<QuantWeight>(&linear.weight)) {
    kernels::cuda::QuantMatMul(out, x, *quant, linear.bias, stream_);
  } else {
    dense_->MatMul(out, x, std::get<DenseWeight>(linear.weight), stream_);
  }
}

void Forward::Sample(const StepLayout& layout, std::byte* inputs, const Batch& batch) {
  const int rows = layout.shape().sampled;
  const Matrix partial = View(kPartial, layout.shape().tokens, spec_.config.hidden);
  const Matrix last = View(kLast, rows, spec_.config.hidden);
  if (exchange_ != nullptr) exchange_->Sum(partial, stream_);
  kernels::cuda::AddRmsNormRows(last, At<float>(kX), partial, layout.SampledRowsAt(inputs),
                                weights_.output_norm, spec_.config.rms_eps, stream_);
  auto* const part = At<float>(kPartLogits);
  if (const auto* quant = std::get_if<QuantWeight>(&weights_.output.weight)) {
    kernels::cuda::QuantMatMulF32(part, spec_.part_cols, last, *quant, stream_);
  } else if (const auto& dense = std::get<DenseWeight>(weights_.output.weight); dense.rows > 0) {
    dense_->MatMulF32(part, spec_.part_cols, last, dense, stream_);
  }
  if (exchange_ != nullptr) {
    exchange_->Gather(At<float>(kLogits), part, int64_t{rows} * spec_.part_cols, stream_);
  }
  kernels::cuda::Sample(logits(rows), layout.SampleRowsAt(inputs),
                        At<kernels::SampledToken>(kSampled), At<int32_t>(kLastSampled),
                        memory_[kSampleScratch].get(), stream_, batch);
}

}  // namespace tandem::model::cuda
