#include "kernels/reference/reference_ops.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <vector>

#include "common/check.h"
#include "kernels/dequantize.h"
#include "kernels/ops_check.h"
#include "kernels/reference/sample.h"

namespace tandem::kernels {
namespace {

void RoundToBf16(float* x, int64_t cols) {
  for (int64_t i = 0; i < cols; ++i) x[i] = Bf16ToFloat(FloatToBf16(x[i]));
}

class ReferenceWeight : public Weight {
 public:
  // With bf16 activations, quantized weights are rounded to bf16 as well.
  ReferenceWeight(std::span<const MatrixSlice> slices, ActivationType activations)
      : cols_(slices[0].cols()) {
    for (const MatrixSlice& slice : slices) {
      for (int64_t r = slice.row_begin; r < slice.row_end; ++r) {
        values_.resize(values_.size() + cols_);
        float* const row = &values_[rows_ * cols_];
        DequantizeRow(slice, r, {row, static_cast<size_t>(cols_)});
        const bool quantized = BlockElements(slice.type) > 1;
        if (quantized && activations == ActivationType::kBf16) RoundToBf16(row, cols_);
        types_.push_back(activations == ActivationType::kF32 ? ActivationType::kF32
                         : quantized                         ? activations
                         : slice.type == WeightType::kBf16   ? ActivationType::kBf16
                                                             : ActivationType::kF32);
        ++rows_;
      }
    }
  }
  int64_t rows() const override { return rows_; }
  int64_t cols() const override { return cols_; }
  int64_t bytes() const override { return static_cast<int64_t>(values_.size() * sizeof(float)); }
  const float* row(int64_t i) const { return &values_[i * cols_]; }
  // What row i multiplies.
  ActivationType activations(int64_t i) const { return types_[i]; }

 private:
  int64_t rows_ = 0, cols_;
  std::vector<float> values_;
  std::vector<ActivationType> types_;
};

struct ReferenceRope : RopeTable {
  explicit ReferenceRope(const RopeSpec& s) : spec(s), cos_sin(RopeCosSin(s)) {}
  RopeSpec spec;
  std::vector<float> cos_sin;  // [max_positions, dims]
};

// [layer][block][slot][k or v][head][dim], always float32; other caches hold rounded values.
class ReferenceKvCache : public KvCache {
 public:
  explicit ReferenceKvCache(const KvCacheSpec& spec)
      : spec_(spec),
        values_(int64_t{2} * spec.num_layers * spec.num_blocks * spec.block_size *
                spec.num_kv_heads * spec.head_dim) {}
  const KvCacheSpec& spec() const override { return spec_; }

  const float* At(int layer, int32_t block, int slot, bool is_v, int head) const {
    const int64_t token = (int64_t{layer} * spec_.num_blocks + block) * spec_.block_size + slot;
    return &values_[((2 * token + is_v) * spec_.num_kv_heads + head) * spec_.head_dim];
  }
  void Store(int layer, int32_t block, int slot, bool is_v, int head, const float* source) {
    float* to = const_cast<float*>(At(layer, block, slot, is_v, head));
    const float scale = KvScale({source, static_cast<size_t>(spec_.head_dim)});
    for (int d = 0; d < spec_.head_dim; ++d) to[d] = Rounded(source[d], scale);
  }

 private:
  float Rounded(float x, float int8_scale) const {
    switch (spec_.type) {
      case KvType::kF32:
        return x;
      case KvType::kBf16:
        return Bf16ToFloat(FloatToBf16(x));
      case KvType::kInt8:
        break;
    }
    if (!(int8_scale > 0)) return int8_scale;
    return int8_scale * static_cast<float>(std::lrintf(x * (1 / int8_scale)));
  }

  KvCacheSpec spec_;
  std::vector<float> values_;
};

// Rounds one block of 32 to int8 and back. A block that is not finite becomes NaN.
void RoundBlock(float* x) {
  float max = 0;
  bool finite = true;
  for (int i = 0; i < 32; ++i) {
    max = std::max(max, std::fabs(x[i]));
    finite = finite && std::isfinite(x[i]);
  }
  const float inverse = max < 1e-30f ? 0.0f : 127.0f / max;
  const float d = max < 1e-30f ? 0.0f : max / 127.0f;
  for (int i = 0; i < 32; ++i) {
    x[i] = finite ? d * static_cast<float>(std::lrintf(x[i] * inverse))
                  : std::numeric_limits<float>::quiet_NaN();
  }
}

std::vector<float> Rounded(const float* x, int64_t cols) {
  std::vector<float> out(x, x + cols);
  for (int64_t i = 0; i < cols; i += 32) RoundBlock(&out[i]);
  return out;
}

double Dot(const float* a, const float* b, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(a[i]) * b[i];
  return sum;
}

double Capped(double x, double cap) { return cap * std::tanh(x / cap); }

double Activate(double a, Activation activation) {
  if (activation == Activation::kSilu) return a / (1 + std::exp(-a));
  return a / 2 * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (a + 0.044715 * a * a * a)));
}

class ReferenceOps : public Ops {
 public:
  explicit ReferenceOps(const OpsOptions& options) : options_(options) {}
  const char* name() const override { return "reference"; }

  std::unique_ptr<Weight> Pack(std::span<const MatrixSlice> slices) override {
    CheckSlices(slices);
    return std::make_unique<ReferenceWeight>(slices, options_.activations);
  }
  std::unique_ptr<Weight> PackGateUp(const MatrixSlice& gate, const MatrixSlice& up) override {
    CheckGateUp(gate, up);
    const MatrixSlice slices[] = {gate, up};
    return std::make_unique<ReferenceWeight>(slices, options_.activations);
  }
  std::unique_ptr<RopeTable> MakeRopeTable(const RopeSpec& spec) override {
    CheckRopeSpec(spec);
    return std::make_unique<ReferenceRope>(spec);
  }
  int64_t KvBlockBytes(const KvCacheSpec& spec) const override {
    return int64_t{2} * sizeof(float) * spec.num_layers * spec.block_size * spec.num_kv_heads *
           spec.head_dim;
  }
  StatusOr<std::unique_ptr<KvCache>> MakeKvCache(const KvCacheSpec& spec) override {
    CheckKvSpec(spec);
    return std::make_unique<ReferenceKvCache>(spec);
  }

  void Embed(TensorView out, const MatrixSlice& table, std::span<const int32_t> tokens,
             float scale) override {
    CheckEmbed(out, table, tokens);
    for (size_t t = 0; t < tokens.size(); ++t) {
      DequantizeRow(table, table.row_begin + tokens[t],
                    {out.row(static_cast<int64_t>(t)), static_cast<size_t>(out.cols)});
      for (int64_t i = 0; i < out.cols; ++i) out.row(static_cast<int64_t>(t))[i] *= scale;
    }
  }

  void RmsNorm(TensorView out, TensorView x, std::span<const float> weight, float eps,
               const Weight* /*next*/) override {
    CheckNorm(out, x, weight);
    for (int64_t t = 0; t < x.rows; ++t) {
      const double mean = Dot(x.row(t), x.row(t), x.cols) / static_cast<double>(x.cols);
      const double scale = 1.0 / std::sqrt(mean + eps);
      for (int64_t i = 0; i < x.cols; ++i) {
        out.row(t)[i] = static_cast<float>(x.row(t)[i] * scale * weight[i]);
      }
    }
  }

  void AddRmsNorm(TensorView out, TensorView x, TensorView residual, std::span<const float> weight,
                  float eps, const Weight* next) override {
    CheckNorm(residual, x, weight);
    for (int64_t t = 0; t < x.rows; ++t) {
      for (int64_t i = 0; i < x.cols; ++i) x.row(t)[i] += residual.row(t)[i];
    }
    RmsNorm(out, x, weight, eps, next);
  }

  void MatMul(TensorView out, TensorView x, const Weight& weight,
              std::span<const float> bias) override {
    CheckMatMul(options_, out, x, weight, bias);
    const auto& w = static_cast<const ReferenceWeight&>(weight);
    for (int64_t t = 0; t < x.rows; ++t) {
      std::vector<float> int8, bf16(x.row(t), x.row(t) + x.cols);
      if (x.cols % 32 == 0) int8 = Rounded(x.row(t), x.cols);
      RoundToBf16(bf16.data(), x.cols);
      for (int64_t n = 0; n < w.rows(); ++n) {
        const ActivationType type = w.activations(n);
        const float* input = type == ActivationType::kInt8   ? int8.data()
                             : type == ActivationType::kBf16 ? bf16.data()
                                                             : x.row(t);
        const double offset = bias.empty() ? 0 : bias[n];
        out.row(t)[n] = static_cast<float>(Dot(input, w.row(n), x.cols) + offset);
      }
    }
  }

  void GateUp(TensorView out, TensorView x, const Weight& gate_up, Activation activation) override {
    CheckGateUpProduct(options_, out, x, gate_up);
    std::vector<float> both(x.rows * gate_up.rows());
    MatMul({both.data(), x.rows, gate_up.rows()}, x, gate_up, {});
    for (int64_t t = 0; t < x.rows; ++t) {
      const float* row = &both[t * gate_up.rows()];
      for (int64_t i = 0; i < out.cols; ++i) {
        out.row(t)[i] = static_cast<float>(Activate(row[i], activation) * row[out.cols + i]);
      }
    }
  }

  void RopeAndStoreKv(TensorView q, TensorView k, TensorView v, const HeadNorms& norms,
                      const RopeTable& rope, KvCache& kv, int layer,
                      const StepBatch& batch) override {
    auto& cache = static_cast<ReferenceKvCache&>(kv);
    const KvCacheSpec& spec = cache.spec();
    const auto& table = static_cast<const ReferenceRope&>(rope);
    CheckRopeAndStoreKv(q, k, v, norms, spec, layer, batch);
    std::vector<float> head(spec.head_dim);
    for (int s = 0; s < batch.num_seqs; ++s) {
      for (int t = batch.query_start[s]; t < batch.query_start[s + 1]; ++t) {
        const int position = PositionOfRow(batch, s, t);
        TANDEM_CHECK(position < table.spec.max_positions) << position;
        const int32_t block = batch.block_table[s * batch.max_blocks + position / spec.block_size];
        for (int64_t h = 0; h < q.cols / spec.head_dim; ++h) {
          NormHead(q.row(t) + h * spec.head_dim, norms.q, norms.eps);
          Rotate(q.row(t) + h * spec.head_dim, position, table);
        }
        for (int h = 0; h < spec.num_kv_heads; ++h) {
          std::copy_n(k.row(t) + h * spec.head_dim, spec.head_dim, head.data());
          NormHead(head.data(), norms.k, norms.eps);
          Rotate(head.data(), position, table);
          cache.Store(layer, block, position % spec.block_size, false, h, head.data());
          cache.Store(layer, block, position % spec.block_size, true, h,
                      v.row(t) + h * spec.head_dim);
        }
      }
    }
  }

  void PagedAttention(TensorView out, TensorView q, const KvCache& kv, int layer,
                      const StepBatch& batch, const AttentionSpec& spec) override {
    CheckAttention(out, q, kv.spec(), layer, batch, spec);
    const auto& cache = static_cast<const ReferenceKvCache&>(kv);
    const int head_dim = cache.spec().head_dim;
    for (int s = 0; s < batch.num_seqs; ++s) {
      const int32_t* blocks = batch.block_table + s * batch.max_blocks;
      for (int t = batch.query_start[s]; t < batch.query_start[s + 1]; ++t) {
        const int64_t num_heads = q.cols / head_dim;
        for (int64_t h = 0; h < num_heads; ++h) {
          const int kv_head = static_cast<int>(h * cache.spec().num_kv_heads / num_heads);
          const int last = PositionOfRow(batch, s, t);
          const int first = spec.window == 0 ? 0 : std::max(0, last - spec.window + 1);
          Attend(out.row(t) + h * head_dim, q.row(t) + h * head_dim, cache, layer, kv_head, blocks,
                 first, last, spec);
        }
      }
    }
  }

  void Scale(TensorView x, float factor) override {
    for (int64_t t = 0; t < x.rows; ++t) {
      for (int64_t i = 0; i < x.cols; ++i) x.row(t)[i] *= factor;
    }
  }

  void SoftCap(TensorView x, float cap) override {
    for (int64_t t = 0; t < x.rows; ++t) {
      for (int64_t i = 0; i < x.cols; ++i) {
        x.row(t)[i] = static_cast<float>(Capped(x.row(t)[i], cap));
      }
    }
  }

  void Sample(TensorView logits, std::span<const SamplingParams> params,
              std::span<const TokenHistory> histories, std::span<SampledToken> out) override {
    CheckSample(options_, logits, params, histories, out);
    for (size_t s = 0; s < params.size(); ++s) {
      out[s] =
          SampleReference({logits.row(static_cast<int64_t>(s)), static_cast<size_t>(logits.cols)},
                          params[s], histories[s]);
    }
  }

 private:
  void NormHead(float* head, std::span<const float> weight, float eps) {
    if (weight.empty()) return;
    const TensorView row(head, 1, static_cast<int64_t>(weight.size()));
    RmsNorm(row, row, weight, eps, nullptr);
  }

  static void Rotate(float* head, int position, const ReferenceRope& table) {
    const int pairs = table.spec.dims / 2;
    const bool adjacent = table.spec.pairs == RopePairs::kAdjacent;
    for (int i = 0; i < pairs; ++i) {
      float& first = head[adjacent ? 2 * i : i];
      float& second = head[adjacent ? 2 * i + 1 : i + pairs];
      const float* turn = &table.cos_sin[int64_t{position} * table.spec.dims + 2 * i];
      const double a = first, b = second, cosine = turn[0], sine = turn[1];
      first = static_cast<float>(a * cosine - b * sine);
      second = static_cast<float>(a * sine + b * cosine);
    }
  }

  // One head of one token over positions [first, last].
  static void Attend(float* out, const float* q, const ReferenceKvCache& cache, int layer,
                     int kv_head, const int32_t* blocks, int first, int last,
                     const AttentionSpec& spec) {
    const int head_dim = cache.spec().head_dim, block_size = cache.spec().block_size;
    std::vector<double> p(last - first + 1);
    for (int i = first; i <= last; ++i) {
      const float* k = cache.At(layer, blocks[i / block_size], i % block_size, false, kv_head);
      p[i - first] = Dot(q, k, head_dim) * spec.scale;
      if (spec.softcap > 0) p[i - first] = Capped(p[i - first], spec.softcap);
    }
    const double max = *std::max_element(p.begin(), p.end());
    double sum = 0;
    for (double& value : p) sum += value = std::exp(value - max);
    std::vector<double> total(head_dim);
    for (int i = first; i <= last; ++i) {
      const float* v = cache.At(layer, blocks[i / block_size], i % block_size, true, kv_head);
      for (int d = 0; d < head_dim; ++d) total[d] += p[i - first] / sum * v[d];
    }
    for (int d = 0; d < head_dim; ++d) out[d] = static_cast<float>(total[d]);
  }

  OpsOptions options_;
};

}  // namespace

std::unique_ptr<Ops> MakeReferenceOps(const OpsOptions& options) {
  return std::make_unique<ReferenceOps>(options);
}

}  // namespace tandem::kernels
