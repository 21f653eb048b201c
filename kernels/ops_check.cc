#include "kernels/ops_check.h"

#include "common/check.h"

namespace tandem::kernels {
namespace {

void CheckSlice(const MatrixSlice& s) {
  TANDEM_CHECK(s.data != nullptr);
  TANDEM_CHECK(0 <= s.row_begin && s.row_begin <= s.row_end) << s.row_begin << " " << s.row_end;
  TANDEM_CHECK(0 <= s.col_begin && s.col_begin < s.col_end && s.col_end <= s.total_cols)
      << s.col_begin << " " << s.col_end << " of " << s.total_cols;
  const int block = BlockElements(s.type), unit = ColumnUnit(s.type);
  TANDEM_CHECK(s.total_cols % block == 0 && s.col_begin % unit == 0 && s.col_end % unit == 0)
      << s.col_begin << " " << s.col_end << " of " << s.total_cols << ", blocks of " << block;
}

void CheckBatch(const StepBatch& batch) {
  TANDEM_CHECK(batch.query_start[0] == 0) << batch.query_start[0];
  TANDEM_CHECK(batch.query_start[batch.num_seqs] == batch.num_tokens)
      << batch.query_start[batch.num_seqs] << " " << batch.num_tokens;
  for (int s = 0; s < batch.num_seqs; ++s) {
    const int tokens = batch.query_start[s + 1] - batch.query_start[s];
    TANDEM_CHECK(tokens >= 0 && tokens <= batch.context_len[s])
        << "sequence " << s << ": " << tokens << " new of " << batch.context_len[s] << " tokens";
  }
}

// Every block of every table: once a step is enough, so that long contexts cost nothing.
void CheckBlockTables(const StepBatch& batch, const KvCacheSpec& spec) {
  for (int s = 0; s < batch.num_seqs; ++s) {
    const int64_t blocks = (int64_t{batch.context_len[s]} + spec.block_size - 1) / spec.block_size;
    TANDEM_CHECK(blocks <= batch.max_blocks) << blocks << " " << batch.max_blocks;
    for (int64_t b = 0; b < blocks; ++b) {
      const int32_t block = batch.block_table[s * batch.max_blocks + b];
      TANDEM_CHECK(block >= 0 && block < spec.num_blocks)
          << "sequence " << s << ", block " << b << ": " << block << " of " << spec.num_blocks;
    }
  }
}

void CheckProduct(const OpsOptions& options, TensorView x, const Weight& weight) {
  TANDEM_CHECK(x.cols == weight.cols()) << x.cols << " " << weight.cols();
  TANDEM_CHECK(x.rows <= options.max_tokens) << x.rows << " " << options.max_tokens;
}

}  // namespace

void CheckSlices(std::span<const MatrixSlice> slices) {
  TANDEM_CHECK(!slices.empty());
  for (const MatrixSlice& s : slices) {
    CheckSlice(s);
    TANDEM_CHECK(s.cols() == slices[0].cols()) << s.cols() << " " << slices[0].cols();
  }
}

void CheckGateUp(const MatrixSlice& gate, const MatrixSlice& up) {
  CheckSlice(gate);
  CheckSlice(up);
  TANDEM_CHECK(gate.type == up.type);
  TANDEM_CHECK(gate.rows() == up.rows() && gate.cols() == up.cols())
      << gate.rows() << "x" << gate.cols() << " " << up.rows() << "x" << up.cols();
  TANDEM_CHECK(gate.rows() % 16 == 0) << gate.rows();
}

void CheckKvSpec(const KvCacheSpec& spec) {
  TANDEM_CHECK(spec.num_layers > 0 && spec.num_blocks > 0 && spec.num_kv_heads > 0);
  TANDEM_CHECK(spec.block_size > 0 && spec.block_size % 16 == 0) << spec.block_size;
  TANDEM_CHECK(spec.head_dim > 0 && spec.head_dim % 16 == 0 && spec.head_dim <= 256)
      << spec.head_dim;
}

void CheckRopeSpec(const RopeSpec& spec) {
  TANDEM_CHECK(spec.dims >= 0 && spec.dims % 2 == 0) << spec.dims;
  TANDEM_CHECK(spec.max_positions > 0) << spec.max_positions;
  TANDEM_CHECK(spec.freq_factors.empty() ||
               static_cast<int>(spec.freq_factors.size()) == spec.dims / 2)
      << spec.freq_factors.size();
  TANDEM_CHECK(spec.scaling.factor > 0 && spec.scaling.attention_factor > 0)
      << spec.scaling.factor << " " << spec.scaling.attention_factor;
  TANDEM_CHECK(spec.scaling.type != RopeScaling::Type::kYarn || spec.scaling.original_context > 0);
}

void CheckEmbed(TensorView out, const MatrixSlice& table, std::span<const int32_t> tokens) {
  CheckSlice(table);
  TANDEM_CHECK(out.rows == static_cast<int64_t>(tokens.size()) && out.cols == table.cols())
      << out.rows << "x" << out.cols;
  for (int32_t token : tokens) {
    TANDEM_CHECK(token >= 0 && token < table.rows()) << token << " of " << table.rows();
  }
}

void CheckNorm(TensorView out, TensorView x, std::span<const float> weight) {
  TANDEM_CHECK(out.rows == x.rows && out.cols == x.cols) << out.rows << "x" << out.cols;
  TANDEM_CHECK(static_cast<int64_t>(weight.size()) == x.cols) << weight.size() << " " << x.cols;
}

void CheckMatMul(const OpsOptions& options, TensorView out, TensorView x, const Weight& weight,
                 std::span<const float> bias) {
  CheckProduct(options, x, weight);
  TANDEM_CHECK(out.rows == x.rows && out.cols == weight.rows())
      << out.rows << "x" << out.cols << " from " << x.rows << " rows, N " << weight.rows();
  TANDEM_CHECK(bias.empty() || static_cast<int64_t>(bias.size()) == weight.rows())
      << bias.size() << " " << weight.rows();
}

void CheckGateUpProduct(const OpsOptions& options, TensorView out, TensorView x,
                        const Weight& weight) {
  CheckProduct(options, x, weight);
  TANDEM_CHECK(out.rows == x.rows && out.cols * 2 == weight.rows())
      << out.rows << "x" << out.cols << " from " << x.rows << " rows, 2 F " << weight.rows();
}

void CheckRopeAndStoreKv(TensorView q, TensorView k, TensorView v, const HeadNorms& norms,
                         const KvCacheSpec& spec, int layer, const StepBatch& batch) {
  TANDEM_CHECK(layer >= 0 && layer < spec.num_layers) << layer;
  const int64_t kv_cols = int64_t{spec.num_kv_heads} * spec.head_dim;
  TANDEM_CHECK(q.rows == batch.num_tokens && q.cols % kv_cols == 0) << q.rows << "x" << q.cols;
  TANDEM_CHECK(k.rows == batch.num_tokens && k.cols == kv_cols) << k.rows << "x" << k.cols;
  TANDEM_CHECK(v.rows == batch.num_tokens && v.cols == kv_cols) << v.rows << "x" << v.cols;
  TANDEM_CHECK(norms.q.size() == norms.k.size() &&
               (norms.q.empty() || static_cast<int>(norms.q.size()) == spec.head_dim))
      << norms.q.size() << " " << norms.k.size() << " " << spec.head_dim;
  CheckBatch(batch);
  if (layer == 0) CheckBlockTables(batch, spec);
}

void CheckAttention(TensorView out, TensorView q, const KvCacheSpec& spec, int layer,
                    const StepBatch& batch, const AttentionSpec& attention) {
  TANDEM_CHECK(layer >= 0 && layer < spec.num_layers) << layer;
  TANDEM_CHECK(attention.window >= 0 && attention.softcap >= 0)
      << attention.window << " " << attention.softcap;
  const int64_t kv_cols = int64_t{spec.num_kv_heads} * spec.head_dim;
  TANDEM_CHECK(q.rows == batch.num_tokens && q.cols % kv_cols == 0) << q.rows << "x" << q.cols;
  TANDEM_CHECK(out.rows == q.rows && out.cols == q.cols) << out.rows << "x" << out.cols;
  CheckBatch(batch);
}

void CheckSample(const OpsOptions& options, TensorView logits,
                 std::span<const SamplingParams> params, std::span<const TokenHistory> histories,
                 std::span<SampledToken> out) {
  TANDEM_CHECK(logits.rows == static_cast<int64_t>(params.size()) && params.size() <= out.size())
      << logits.rows << " " << params.size() << " " << out.size();
  TANDEM_CHECK(logits.cols > 0 && logits.cols <= options.max_vocab)
      << logits.cols << " " << options.max_vocab;
  TANDEM_CHECK(histories.size() == params.size()) << histories.size() << " " << params.size();
  for (const SamplingParams& p : params) {
    TANDEM_CHECK(p.temperature >= 0 && p.top_p > 0 && p.min_p >= 0 && p.top_k >= 0);
    TANDEM_CHECK(p.repetition_penalty > 0) << p.repetition_penalty;
    TANDEM_CHECK(p.num_logprobs <= kMaxTopLogprobs) << p.num_logprobs;
    TANDEM_CHECK(p.forced_token < logits.cols) << p.forced_token << " of " << logits.cols;
    for (int32_t i = 0; i < p.num_biases; ++i) {
      TANDEM_CHECK(p.biases[i].token >= 0 && p.biases[i].token < logits.cols)
          << p.biases[i].token << " of " << logits.cols;
    }
  }
}

}  // namespace tandem::kernels
