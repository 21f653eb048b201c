// The forward pass of Llama, Qwen2 and Qwen3 in the plainest way, in double precision: what the
// runner is compared with. Shares no code with it but the reader of the file.
#pragma once

#include <cmath>
#include <vector>

#include "common/check.h"
#include "common/gguf/gguf_file.h"
#include "common/ids.h"
#include "tests/support/tiny_model.h"
#include "worker/model/gguf_config.h"

namespace tandem::model {

class PlainLlama {
 public:
  explicit PlainLlama(const gguf::File& file) : file_(file) {
    auto config = ReadGgufConfig(file);
    TANDEM_CHECK(config.ok()) << Message(config.status());
    c_ = *config;
  }

  // Log-probabilities over the vocabulary after each token.
  std::vector<std::vector<double>> Logprobs(const std::vector<TokenId>& tokens) const {
    const Rows embedding = Matrix("token_embd.weight");
    Rows x;
    for (const TokenId token : tokens) x.push_back(embedding[token]);
    for (int i = 0; i < c_.num_layers; ++i) Layer(i, x);
    const Rows output = c_.tied_embeddings ? embedding : Matrix("output.weight");
    Rows logprobs = Multiply(output, Norm("output_norm.weight", x));
    for (Row& row : logprobs) LogSoftmax(row);
    return logprobs;
  }

 private:
  using Row = std::vector<double>;
  using Rows = std::vector<Row>;

  Rows Matrix(const std::string& name) const {
    const gguf::Tensor* t = file_.Find(name);
    const std::vector<float> values = tandem::testing::Dequantize(t->type, t->data);
    Rows rows;
    for (int64_t r = 0; r < t->rows(); ++r) {
      rows.emplace_back(values.begin() + r * t->cols(), values.begin() + (r + 1) * t->cols());
    }
    return rows;
  }

  static Rows Multiply(const Rows& weight, const Rows& x) {
    Rows out(x.size(), Row(weight.size()));
    for (size_t t = 0; t < x.size(); ++t) {
      for (size_t n = 0; n < weight.size(); ++n) {
        for (size_t k = 0; k < x[t].size(); ++k) out[t][n] += weight[n][k] * x[t][k];
      }
    }
    return out;
  }

  // Of each row, or of each part of a row that is as long as the weight.
  Rows Norm(const std::string& name, const Rows& x) const {
    const Row weight = Matrix(name)[0];
    Rows out = x;
    for (Row& row : out) {
      for (size_t begin = 0; begin < row.size(); begin += weight.size()) {
        double squares = 0;
        for (size_t i = 0; i < weight.size(); ++i) squares += row[begin + i] * row[begin + i];
        const double mean = squares / static_cast<double>(weight.size());
        for (size_t i = 0; i < weight.size(); ++i) {
          row[begin + i] *= weight[i] / std::sqrt(mean + c_.rms_eps);
        }
      }
    }
    return out;
  }

  // How fast pair i turns, with every scaling: see kernels/rope_table.h.
  double Frequency(int i) const {
    using Type = kernels::RopeScaling::Type;
    const kernels::RopeScaling& s = c_.ropes[0].scaling;
    double frequency = std::pow(c_.ropes[0].theta, -2.0 * i / c_.head_dim);
    if (file_.Find("rope_freqs.weight") != nullptr) frequency /= Matrix("rope_freqs.weight")[0][i];
    if (s.type == Type::kLinear) return frequency / s.factor;
    if (s.type != Type::kYarn) return frequency;
    const auto pair = [&](double turns) {  // that turns so often in the original context
      return std::log(s.original_context / (turns * 2 * M_PI)) / std::log(c_.ropes[0].theta) *
             c_.head_dim / 2;
    };
    const double fast = std::floor(pair(s.beta_fast)), slow = std::ceil(pair(s.beta_slow));
    const double first = std::max(fast, 0.0);
    const double last = std::min(slow, c_.head_dim - 1.0);
    if (i <= first) return frequency;
    if (i >= last) return frequency / s.factor;
    const double part = (i - first) / (last - first);
    return frequency * (1 - part) + frequency / s.factor * part;
  }

  // Every head, by its row's number as position.
  void Rope(Rows& x, int heads) const {
    const bool halves = c_.ropes[0].pairs == kernels::RopePairs::kHalves;
    for (int i = 0; i < c_.head_dim / 2; ++i) {
      const double frequency = Frequency(i);
      for (size_t p = 0; p < x.size(); ++p) {
        const double angle = static_cast<double>(p) * frequency;
        for (int h = 0; h < heads; ++h) {
          double* head = &x[p][h * c_.head_dim];
          double& a = head[halves ? i : 2 * i];
          double& b = head[halves ? i + c_.head_dim / 2 : 2 * i + 1];
          const double rotated = a * std::cos(angle) - b * std::sin(angle);
          b = (a * std::sin(angle) + b * std::cos(angle)) * c_.ropes[0].scaling.attention_factor;
          a = rotated * c_.ropes[0].scaling.attention_factor;
        }
      }
    }
  }

  Rows Attention(const Rows& q, const Rows& k, const Rows& v) const {
    Rows out(q.size(), Row(q[0].size()));
    for (size_t t = 0; t < q.size(); ++t) {
      for (int h = 0; h < c_.num_heads; ++h) {
        const int qh = h * c_.head_dim, kvh = h / c_.heads_per_kv() * c_.head_dim;
        const size_t window = c_.layers[0].window;
        const size_t first = window > 0 && t >= window ? t - window + 1 : 0;
        Row p(t + 1, -INFINITY);
        for (size_t s = first; s <= t; ++s) {
          p[s] = 0;
          for (int i = 0; i < c_.head_dim; ++i) p[s] += q[t][qh + i] * k[s][kvh + i];
          p[s] /= std::sqrt(static_cast<double>(c_.head_dim));
        }
        LogSoftmax(p);
        for (size_t s = first; s <= t; ++s) {
          for (int i = 0; i < c_.head_dim; ++i) out[t][qh + i] += std::exp(p[s]) * v[s][kvh + i];
        }
      }
    }
    return out;
  }

  void Layer(int index, Rows& x) const {
    const auto name = [&](const char* kind) { return LayerTensorName(index, kind); };
    const Rows normed = Norm(name("attn_norm"), x);
    const auto project = [&](const char* kind) {
      Rows rows = Multiply(Matrix(name(kind)), normed);
      if (!c_.qkv_bias) return rows;
      const Row bias = Matrix(LayerBiasName(index, kind))[0];
      Add(rows, Rows(rows.size(), bias));
      return rows;
    };
    Rows q = project("attn_q"), k = project("attn_k");
    const Rows v = project("attn_v");
    if (c_.qk_norm) {
      q = Norm(name("attn_q_norm"), q);
      k = Norm(name("attn_k_norm"), k);
    }
    Rope(q, c_.num_heads);
    Rope(k, c_.num_kv_heads);
    Add(x, Multiply(Matrix(name("attn_output")), Attention(q, k, v)));
    const Rows ffn = Norm(name("ffn_norm"), x);
    Rows gate = Multiply(Matrix(name("ffn_gate")), ffn);
    const Rows up = Multiply(Matrix(name("ffn_up")), ffn);
    for (size_t t = 0; t < gate.size(); ++t) {
      for (size_t i = 0; i < gate[t].size(); ++i) {
        gate[t][i] *= up[t][i] / (1 + std::exp(-gate[t][i]));
      }
    }
    Add(x, Multiply(Matrix(name("ffn_down")), gate));
  }

  static void Add(Rows& x, const Rows& y) {
    for (size_t t = 0; t < x.size(); ++t) {
      for (size_t i = 0; i < x[t].size(); ++i) x[t][i] += y[t][i];
    }
  }

  static void LogSoftmax(Row& row) {
    double highest = row[0];
    for (const double v : row) highest = std::max(highest, v);
    double sum = 0;
    for (const double v : row) sum += std::exp(v - highest);
    for (double& v : row) v -= highest + std::log(sum);
  }

  const gguf::File& file_;
  ModelConfig c_;
};

}  // namespace tandem::model
