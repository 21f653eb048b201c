// The Llama forward pass in the plainest way, in double precision: what the runner is compared
// with. Shares no code with it but the reader of the file.
#pragma once

#include <cmath>
#include <vector>

#include "common/check.h"
#include "common/gguf/gguf_file.h"
#include "common/ids.h"
#include "tests/support/tiny_model.h"
#include "worker/model/llama_config.h"

namespace tandem::model {

class PlainLlama {
 public:
  explicit PlainLlama(const gguf::File& file) : file_(file) {
    auto config = ReadLlamaConfig(file);
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

  Rows Norm(const std::string& name, const Rows& x) const {
    const Row weight = Matrix(name)[0];
    Rows out = x;
    for (Row& row : out) {
      double squares = 0;
      for (const double v : row) squares += v * v;
      const double scale = 1 / std::sqrt(squares / static_cast<double>(row.size()) + c_.rms_eps);
      for (size_t i = 0; i < row.size(); ++i) row[i] *= scale * weight[i];
    }
    return out;
  }

  // Pairs (2 i, 2 i + 1) of every head, by their row's number as position.
  void Rope(Rows& x, int heads) const {
    for (size_t p = 0; p < x.size(); ++p) {
      for (int h = 0; h < heads; ++h) {
        for (int i = 0; i < c_.head_dim; i += 2) {
          const double angle =
              static_cast<double>(p) * std::pow(c_.rope_theta, -1.0 * i / c_.head_dim);
          double& a = x[p][h * c_.head_dim + i];
          double& b = x[p][h * c_.head_dim + i + 1];
          const double rotated = a * std::cos(angle) - b * std::sin(angle);
          b = a * std::sin(angle) + b * std::cos(angle);
          a = rotated;
        }
      }
    }
  }

  Rows Attention(const Rows& q, const Rows& k, const Rows& v) const {
    Rows out(q.size(), Row(q[0].size()));
    for (size_t t = 0; t < q.size(); ++t) {
      for (int h = 0; h < c_.num_heads; ++h) {
        const int qh = h * c_.head_dim, kvh = h / c_.heads_per_kv() * c_.head_dim;
        Row p(t + 1);
        for (size_t s = 0; s <= t; ++s) {
          for (int i = 0; i < c_.head_dim; ++i) p[s] += q[t][qh + i] * k[s][kvh + i];
          p[s] /= std::sqrt(static_cast<double>(c_.head_dim));
        }
        LogSoftmax(p);
        for (size_t s = 0; s <= t; ++s) {
          for (int i = 0; i < c_.head_dim; ++i) out[t][qh + i] += std::exp(p[s]) * v[s][kvh + i];
        }
      }
    }
    return out;
  }

  void Layer(int index, Rows& x) const {
    const auto name = [&](const char* kind) { return LayerTensorName(index, kind); };
    const Rows normed = Norm(name("attn_norm"), x);
    Rows q = Multiply(Matrix(name("attn_q")), normed);
    Rows k = Multiply(Matrix(name("attn_k")), normed);
    Rope(q, c_.num_heads);
    Rope(k, c_.num_kv_heads);
    Add(x, Multiply(Matrix(name("attn_output")),
                    Attention(q, k, Multiply(Matrix(name("attn_v")), normed))));
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
  LlamaConfig c_;
};

}  // namespace tandem::model
