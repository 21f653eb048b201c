#include "worker/model/llama_runner.h"

#include <algorithm>
#include <cmath>

#include "common/check.h"
#include "kernels/make_ops.h"
#include "worker/model/memory_check.h"

namespace tandem::model {
namespace {

using kernels::TensorView;

StatusOr<kernels::OpsOptions> ReadOpsOptions(const ShardOptions& options,
                                             const ModelConfig& config) {
  kernels::OpsOptions ops;
  ops.threads = options.threads;
  ops.cpus = options.cpus;
  ops.max_tokens = std::max(options.max_step_tokens, options.max_seqs);
  ops.max_cols = std::max({config.hidden, config.ffn, config.num_heads * config.head_dim});
  ops.max_vocab = config.vocab;
  if (options.activation_dtype == "int8") {
    ops.activations = kernels::ActivationType::kInt8;
  } else if (options.activation_dtype == "bf16") {
    ops.activations = kernels::ActivationType::kBf16;
  } else if (options.activation_dtype == "f32") {
    ops.activations = kernels::ActivationType::kF32;
  } else {
    return InvalidArgument("activation dtype \"{}\" is not known; known: int8, bf16, f32",
                           options.activation_dtype);
  }
  TANDEM_ASSIGN_OR_RETURN(ops.instruction_set,
                          kernels::ParseInstructionSet(options.instruction_set));
  return ops;
}

StatusOr<kernels::KvCacheSpec> ReadKvSpec(const ShardOptions& options, const ModelConfig& config,
                                          const RankShard& shard) {
  kernels::KvCacheSpec spec;
  spec.num_layers = config.num_layers;
  spec.block_size = options.block_size;
  spec.num_kv_heads = shard.kv_heads.size();
  spec.head_dim = config.head_dim;
  if (options.kv_cache_dtype == "f32") {
    spec.type = kernels::KvType::kF32;
  } else if (options.kv_cache_dtype == "bf16") {
    spec.type = kernels::KvType::kBf16;
  } else if (options.kv_cache_dtype == "int8") {
    spec.type = kernels::KvType::kInt8;
  } else {
    return InvalidArgument("KV cache dtype \"{}\" is not known; known: bf16, int8, f32",
                           options.kv_cache_dtype);
  }
  return spec;
}

// By KV heads, not by ranks: shards need not be equal, and the group has the least of its ranks.
int64_t KvMemoryOf(const ShardOptions& options, const ModelConfig& config, const RankShard& shard) {
  return options.kv_memory_bytes * shard.kv_heads.size() / config.num_kv_heads;
}

template <class T>
std::span<std::byte> Bytes(T* data, size_t count) {
  return std::as_writable_bytes(std::span<T>(data, count));
}

}  // namespace

StatusOr<std::unique_ptr<ModelRunner>> ModelRunner::Load(const ShardOptions& options,
                                                         kernels::Communicator& comm) {
  if (options.gpu != nullptr) return options.gpu->load(options, comm);
  TANDEM_ASSIGN_OR_RETURN(std::unique_ptr<ModelSource> source,
                          ModelSource::Open(options.model_path));
  TANDEM_ASSIGN_OR_RETURN(std::unique_ptr<ModelRunner> runner,
                          LlamaRunner::Make(options, std::move(source), comm));
  return runner;
}

StatusOr<int> ModelRunner::Check(const ShardOptions& options, int rank, int tp) {
  if (options.gpu != nullptr) return options.gpu->check(options, rank, tp);
  TANDEM_ASSIGN_OR_RETURN(const std::unique_ptr<ModelSource> source,
                          ModelSource::Open(options.model_path));
  const ModelConfig& config = source->config();
  TANDEM_ASSIGN_OR_RETURN(const auto shards, MakeShardLayout(config, tp));
  const RankShard& shard = shards[static_cast<size_t>(rank)];
  TANDEM_RETURN_IF_ERROR(CheckMemory(rank, LeastWeightBytes(*source, shard),
                                     KvMemoryOf(options, config, shard), ReadUsableMemory()));
  return config.max_context;
}

StatusOr<std::unique_ptr<LlamaRunner>> LlamaRunner::Make(const ShardOptions& options,
                                                         std::unique_ptr<ModelSource> source,
                                                         kernels::Communicator& comm) {
  std::unique_ptr<LlamaRunner> runner(new LlamaRunner(options, std::move(source), comm));
  TANDEM_RETURN_IF_ERROR(runner->Load());
  return runner;
}

LlamaRunner::LlamaRunner(const ShardOptions& options, std::unique_ptr<ModelSource> source,
                         kernels::Communicator& comm)
    : options_(options), source_(std::move(source)), config_(source_->config()), comm_(comm) {}

Status LlamaRunner::Load() {
  if (config_.head_dim > 256) {
    return Unsupported("{}: a head dimension of {} is not supported; the most is 256",
                       source_->name(), config_.head_dim);
  }
  TANDEM_ASSIGN_OR_RETURN(shards_, MakeShardLayout(config_, tp()));
  shard_ = shards_[comm_.rank()];
  TANDEM_ASSIGN_OR_RETURN(const kernels::OpsOptions ops_options, ReadOpsOptions(options_, config_));
  TANDEM_ASSIGN_OR_RETURN(const kernels::KvCacheSpec kv_spec,
                          ReadKvSpec(options_, config_, shard_));
  TANDEM_ASSIGN_OR_RETURN(ops_, kernels::MakeOps(ops_options));

  info_.architecture = config_.architecture;
  info_.vocab_size = config_.vocab;
  info_.tokens = config_.has_head;
  info_.embedding_size = config_.hidden;
  info_.max_context = options_.max_context > 0 ? std::min(options_.max_context, config_.max_context)
                                               : config_.max_context;
  info_.instruction_set = ops_->name();
  info_.fingerprint = source_->Fingerprint();
  const int64_t block_bytes = ops_->KvBlockBytes(kv_spec);
  const int64_t kv_memory_bytes = KvMemoryOf(options_, config_, shard_);
  info_.num_blocks = static_cast<int>(std::min<int64_t>(kv_memory_bytes / block_bytes, 1 << 30));
  if (info_.num_blocks < 1) {
    return ResourceExhausted(
        "{} bytes of KV memory are less than one block of {} tokens, which takes {}; raise "
        "groups[].kv_memory or lower groups[].block_size",
        kv_memory_bytes, options_.block_size, block_bytes);
  }
  weights_ = LoadLlamaWeights(*source_, shard_, comm_.rank(), *ops_);
  MakeRopeTables();
  return OkStatus();
}

void LlamaRunner::MakeRopeTables() {
  for (const RopeConfig& rope : config_.ropes) {
    ropes_.push_back(ops_->MakeRopeTable(
        RopeSpecOf(rope, info_.max_context + options_.block_size, info_.max_context)));
  }
  kernels::RopeSpec none;
  none.max_positions = info_.max_context + options_.block_size;
  no_rope_ = ops_->MakeRopeTable(none);
}

Status LlamaRunner::Prepare(int num_blocks) {
  TANDEM_CHECK(num_blocks >= 1 && num_blocks <= info_.num_blocks)
      << num_blocks << " blocks, " << info_.num_blocks << " fit";
  TANDEM_ASSIGN_OR_RETURN(kernels::KvCacheSpec spec, ReadKvSpec(options_, config_, shard_));
  spec.num_blocks = num_blocks;
  TANDEM_ASSIGN_OR_RETURN(kv_, ops_->MakeKvCache(spec));
  info_.num_blocks = num_blocks;
  const PlanLimits limits = {
      .max_rows = options_.max_seqs,
      .max_step_tokens = std::max(options_.max_step_tokens, options_.max_seqs),
      // One more than a full context takes: a step planned ahead may run past its end.
      .max_blocks_per_seq = (info_.max_context - 1) / options_.block_size + 2,
      .block_size = options_.block_size,
      .mask_words = MaskWords(config_.vocab)};
  slots_.emplace(limits, num_blocks);
  AllocateStep();
  return OkStatus();
}

void LlamaRunner::AllocateStep() {
  const size_t tokens = std::max(options_.max_step_tokens, options_.max_seqs);
  const size_t seqs = options_.max_seqs;
  const size_t drawn = (seqs + tp() - 1) / tp();
  const size_t q_cols = static_cast<size_t>(shard_.heads.size()) * config_.head_dim;
  const size_t kv_cols = static_cast<size_t>(shard_.kv_heads.size()) * config_.head_dim;
  for (auto* rows : {&x_, &normed_, &partial_}) rows->resize(tokens * config_.hidden);
  qkv_.resize(tokens * (q_cols + 2 * kv_cols));
  attention_.resize(tokens * q_cols);
  act_.resize(tokens * shard_.ffn.size());
  if (config_.num_experts > 0) {
    experts_.emplace(config_, static_cast<int>(tokens), shard_.ffn.size());
  }
  last_x_.resize(seqs * config_.hidden);
  last_partial_.resize(seqs * config_.hidden);
  embeddings_.resize(seqs * config_.hidden);
  sums_.resize(seqs * config_.hidden);
  if (tp() > 1) part_logits_.resize(seqs * shard_.vocab.size());
  logits_.resize(drawn * config_.vocab);
  gather_bytes_.resize(tp());
  params_.resize(drawn);
  histories_.resize(drawn);
  drawn_.resize(drawn);
  all_drawn_.resize(seqs);
}

Status LlamaRunner::Begin(const StepPlan& plan) {
  TANDEM_CHECK(slots_.has_value()) << "Begin before Prepare";
  if (last_step_ && plan.step != *last_step_ + 1) {
    return Internal("rank {} was given step {} after step {}", comm_.rank(), plan.step,
                    *last_step_);
  }
  last_step_ = plan.step;
  plan_ = plan;
  in_ = nullptr;
  num_embeddings_ = 0;
  if (plan.idle()) {
    comm_.Barrier();
    return OkStatus();
  }
  const StepInputs& in = slots_->Apply(plan);
  for (const int32_t token : in.tokens) {
    if (token >= config_.vocab) {
      return Internal("token {} in a plan; the vocabulary has {}", token, config_.vocab);
    }
  }
  in_ = &in;
  Forward(in);
  Pool(plan, in);
  num_drawn_ = NumDrawn(static_cast<int>(in.sampled.size()), comm_.rank());
  if (!in.sampled.empty()) {
    Logits(in);
    Sample(plan, in);
  }
  return OkStatus();
}

Status LlamaRunner::Finish(std::span<RowResult> results) {
  TANDEM_CHECK(results.size() >= plan_.rows.size()) << results.size() << " results";
  for (size_t i = 0; i < plan_.rows.size(); ++i) results[i].token = -1;
  if (in_ != nullptr && !in_->sampled.empty()) Publish(results);
  return comm_.Poll();
}

void LlamaRunner::Forward(const StepInputs& in) {
  const int tokens = in.batch.num_tokens;
  const TensorView x(x_.data(), tokens, config_.hidden);
  const TensorView normed(normed_.data(), tokens, config_.hidden);
  const TensorView partial(partial_.data(), tokens, config_.hidden);
  ops_->Embed(x, weights_.embedding, in.tokens, config_.embedding_scale);
  for (int i = 0; i < config_.num_layers; ++i) {
    const LlamaLayer& layer = weights_.layers[i];
    if (i == 0) {
      ops_->RmsNorm(normed, x, layer.attn_norm, config_.rms_eps, layer.qkv.get());
    } else {
      ops_->AddRmsNorm(normed, x, partial, layer.attn_norm, config_.rms_eps, layer.qkv.get());
    }
    Attention(layer, i, in.batch);
    ops_->AddRmsNorm(normed, x, partial, layer.ffn_norm, config_.rms_eps,
                     experts_ ? nullptr : layer.ffn[0].gate_up.get());
    FeedForward(layer, tokens);
  }
}

void LlamaRunner::Attention(const LlamaLayer& layer, int index, const kernels::StepBatch& batch) {
  const int64_t tokens = batch.num_tokens;
  const int64_t q_cols = int64_t{shard_.heads.size()} * config_.head_dim;
  const int64_t kv_cols = int64_t{shard_.kv_heads.size()} * config_.head_dim;
  const TensorView qkv(qkv_.data(), tokens, q_cols + 2 * kv_cols);
  const TensorView q = qkv.Cols(0, q_cols);
  const TensorView attention(attention_.data(), tokens, q_cols);
  const LayerConfig& kind = config_.layers[index];
  const kernels::RopeTable& rope = kind.rope == kNoRope ? *no_rope_ : *ropes_[kind.rope];
  ops_->MatMul(qkv, {normed_.data(), tokens, config_.hidden}, *layer.qkv, layer.qkv_bias);
  ops_->RopeAndStoreKv(q, qkv.Cols(q_cols, q_cols + kv_cols),
                       qkv.Cols(q_cols + kv_cols, q_cols + 2 * kv_cols),
                       {layer.q_norm, layer.k_norm, config_.rms_eps}, rope, *kv_, index, batch);
  ops_->PagedAttention(attention, q, *kv_, index, batch,
                       {config_.attention_scale, kind.window, config_.attention_softcap});
  ops_->MatMul({partial_.data(), tokens, config_.hidden}, attention, *layer.o, layer.o_bias);
  SumPartial(batch.num_tokens, layer.attn_post_norm);
}

void LlamaRunner::FeedForward(const LlamaLayer& layer, int num_tokens) {
  const TensorView normed(normed_.data(), num_tokens, config_.hidden);
  const TensorView partial(partial_.data(), num_tokens, config_.hidden);
  if (experts_) {
    experts_->Forward(partial, normed, layer, *ops_);
  } else {
    const TensorView act(act_.data(), num_tokens, shard_.ffn.size());
    ops_->GateUp(act, normed, *layer.ffn[0].gate_up, config_.activation);
    ops_->MatMul(partial, act, *layer.ffn[0].down, {});
  }
  SumPartial(num_tokens, layer.ffn_post_norm);
}

void LlamaRunner::SumPartial(int num_tokens, const std::vector<float>& post_norm) {
  comm_.AllReduceSum({partial_.data(), static_cast<size_t>(num_tokens) * config_.hidden});
  if (post_norm.empty()) return;
  const TensorView partial(partial_.data(), num_tokens, config_.hidden);
  ops_->RmsNorm(partial, partial, post_norm, config_.rms_eps, nullptr);
}

void LlamaRunner::Logits(const StepInputs& in) {
  const int rows = static_cast<int>(in.sampled_row.size());
  const size_t hidden = config_.hidden;
  for (int i = 0; i < rows; ++i) {
    const size_t from = in.sampled_row[i] * hidden;
    std::copy_n(x_.begin() + from, hidden, last_x_.begin() + i * hidden);
    std::copy_n(partial_.begin() + from, hidden, last_partial_.begin() + i * hidden);
  }
  const TensorView last(last_x_.data(), rows, config_.hidden);
  const TensorView normed(normed_.data(), rows, config_.hidden);
  ops_->AddRmsNorm(normed, last, {last_partial_.data(), rows, config_.hidden}, weights_.output_norm,
                   config_.rms_eps, weights_.output.get());
  const int64_t part = shard_.vocab.size();
  float* const part_logits = tp() == 1 ? logits_.data() : part_logits_.data();
  if (part > 0) {
    ops_->MatMul({part_logits, rows, part}, normed, *weights_.output, {});
    if (config_.logit_scale != 1) ops_->Scale({part_logits, rows, part}, config_.logit_scale);
    if (config_.logit_softcap > 0) ops_->SoftCap({part_logits, rows, part}, config_.logit_softcap);
  }
  if (tp() == 1) return;
  // A gather a row: the parts in rank order are the row, and only the rank that draws takes it.
  for (int r = 0; r < tp(); ++r) gather_bytes_[r] = shards_[r].vocab.size() * sizeof(float);
  for (int i = 0; i < rows; ++i) {
    const bool mine = i % tp() == comm_.rank();
    float* const to = logits_.data() + static_cast<size_t>(i / tp()) * config_.vocab;
    comm_.AllGather(Bytes(part_logits + i * part, part), gather_bytes_,
                    Bytes(to, mine ? config_.vocab : 0));
  }
}

// Hidden states are the same on every rank, so each pools all of them.
void LlamaRunner::Pool(const StepPlan& plan, const StepInputs& in) {
  const int64_t hidden = config_.hidden;
  const TensorView x(x_.data(), in.batch.num_tokens, hidden);
  const TensorView partial(partial_.data(), in.batch.num_tokens, hidden);
  for (size_t i = 0; i < plan.rows.size(); ++i) {
    const PlanRow& row = plan.rows[i];
    if ((row.flags & (kRowAddToMean | kRowEmbed)) == 0) continue;
    const bool mean = (row.flags & kRowAddToMean) != 0;
    const int end = in.batch.query_start[i + 1];
    const int begin = mean ? in.batch.query_start[i] : end - 1;
    const TensorView states(normed_.data(), end - begin, hidden);
    ops_->AddRmsNorm(states, x.Rows(begin, end), partial.Rows(begin, end), weights_.output_norm,
                     config_.rms_eps, nullptr);
    double* const sum = sums_.data() + row.slot * hidden;
    if (mean) {
      if ((row.flags & kRowStart) != 0) std::fill_n(sum, hidden, 0.0);
      for (int64_t t = 0; t < states.rows; ++t) {
        for (int64_t k = 0; k < hidden; ++k) sum[k] += states.row(t)[k];
      }
    }
    if ((row.flags & kRowEmbed) == 0) continue;
    float* const to = embeddings_.data() + num_embeddings_++ * hidden;
    const double tokens = slots_->length(row.slot);
    for (int64_t k = 0; k < hidden; ++k) {
      to[k] = mean ? static_cast<float>(sum[k] / tokens) : states.data[k];
    }
  }
}

kernels::TensorView LlamaRunner::logits() { return {logits_.data(), num_drawn_, config_.vocab}; }

void LlamaRunner::Sample(const StepPlan& plan, const StepInputs& in) {
  for (int i = 0; i < num_drawn_; ++i) {
    const int index = in.sampled[i * tp() + comm_.rank()];
    const PlanRow& row = plan.rows[index];
    params_[i] = {.temperature = row.sampling.temperature,
                  .top_p = row.sampling.top_p,
                  .min_p = row.sampling.min_p,
                  .top_k = row.sampling.top_k,
                  .seed = row.sampling.seed,
                  .sequence_index = row.sampling.sequence_index,
                  .position = static_cast<uint64_t>(in.batch.context_len[index]),
                  .num_logprobs = row.sampling.num_logprobs,
                  .forced_token = row.forced_token,
                  .repetition_penalty = row.sampling.repetition_penalty,
                  .presence_penalty = row.sampling.presence_penalty,
                  .frequency_penalty = row.sampling.frequency_penalty,
                  .biases = slots_->Biases(row.slot),
                  .num_biases = row.num_biases,
                  .mask = slots_->Mask(plan, row)};
    histories_[i] = slots_->History(row.slot, row.sampling.num_prompt_tokens);
  }
  if (num_drawn_ > 0) {
    ops_->Sample(logits(), std::span<const kernels::SamplingParams>(params_).first(num_drawn_),
                 std::span<const kernels::TokenHistory>(histories_).first(num_drawn_),
                 std::span<kernels::SampledToken>(drawn_).first(num_drawn_));
  }
  const int sampled = static_cast<int>(in.sampled.size());
  for (int r = 0; r < tp(); ++r) {
    gather_bytes_[r] = NumDrawn(sampled, r) * sizeof(kernels::SampledToken);
  }
  comm_.AllGather(Bytes(drawn_.data(), num_drawn_), gather_bytes_,
                  Bytes(all_drawn_.data(), sampled));
}

void LlamaRunner::Publish(std::span<RowResult> results) {
  static_assert(kernels::kMaxTopLogprobs == kMaxLogprobs);
  const StepInputs& in = *in_;
  const int sampled = static_cast<int>(in.sampled.size());
  const kernels::SampledToken* next = all_drawn_.data();
  for (int rank = 0; rank < tp(); ++rank) {
    for (int i = rank; i < sampled; i += tp(), ++next) {
      RowResult& result = results[in.sampled[i]];
      result.token = next->token;
      result.logprob = next->logprob;
      result.num_top = next->num_top;
      std::copy_n(next->top_ids, next->num_top, result.top_ids);
      std::copy_n(next->top_logprobs, next->num_top, result.top_logprobs);
      slots_->SetSampled(plan_.rows[in.sampled[i]].slot, next->token);
    }
  }
}

}  // namespace tandem::model
