// Steps of sampling on the device, beside the reference. The reference computes in double, the
// device a probability in float32 and sums of integers, so a token may differ where the uniform, or
// a cut by mass, falls into the rounding of a sum: Close() tells those from errors, and they are
// counted.
#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "kernels/reference/sample.h"
#include "kernels/rng.h"
#include "tests/kernels/cuda/device_test_support.h"
#include "tests/kernels/kernel_test_support.h"

namespace tandem::kernels::cuda::testing {

using kernels::testing::Random;

inline constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Rows of one step, split over ranks as a column-parallel head gives them.
struct Step {
  int32_t vocab = 0;
  int32_t parts = 1;
  std::vector<std::vector<float>> logits;
  std::vector<SampleRow> rows;
  std::vector<std::vector<int32_t>> tokens = {};  // of each sequence so far; none: not penalized
  std::vector<TokenBias> biases = {};             // of all rows, which point here
  std::vector<uint32_t> masks = {};               // too
  float scale = 1;                                // of the logits
};

inline SampleRow Row(SamplingParams params, int32_t slot) { return {params, slot, -1, 0}; }

// Sequences' tokens in blocks that lie in disorder, as Embed leaves them.
class DeviceHistory {
 public:
  DeviceHistory(const Stream& stream, const std::vector<std::vector<int32_t>>& sequences)
      : length_(stream, Lengths(sequences)),
        first_block_(stream, FirstBlocks(sequences)),
        table_(stream, Table(sequences)),
        tokens_(stream, Tokens(sequences)) {}

  Batch batch() const {
    Batch batch;
    batch.num_seqs = static_cast<int32_t>(length_.size());
    batch.context_len = length_.data();
    batch.block_table = table_.data();
    batch.first_block = first_block_.data();
    batch.block_tokens = tokens_.data();
    batch.block_size = kBlockSize;
    return batch;
  }

  static constexpr int kBlockSize = 16, kMaxBlocks = 40;

 private:
  using Sequences = std::vector<std::vector<int32_t>>;
  static constexpr int32_t kUnused = -100000000;

  static int32_t BlockOf(const Sequences& sequences, size_t sequence, size_t block) {
    return static_cast<int32_t>(block * sequences.size() + sequences.size() - 1 - sequence);
  }
  static std::vector<int32_t> Lengths(const Sequences& sequences) {
    std::vector<int32_t> lengths;
    for (const auto& tokens : sequences) lengths.push_back(static_cast<int32_t>(tokens.size()));
    return lengths;
  }
  static std::vector<int32_t> FirstBlocks(const Sequences& sequences) {
    std::vector<int32_t> first;
    int32_t blocks = 0;
    for (const auto& tokens : sequences) {
      first.push_back(blocks);
      blocks += static_cast<int32_t>((tokens.size() + kBlockSize - 1) / kBlockSize);
    }
    return first;
  }
  static std::vector<int32_t> Table(const Sequences& sequences) {
    std::vector<int32_t> table;
    for (size_t s = 0; s < sequences.size(); ++s) {
      for (size_t i = 0; i < sequences[s].size(); i += kBlockSize) {
        table.push_back(BlockOf(sequences, s, i / kBlockSize));
      }
    }
    return table;
  }
  static std::vector<int32_t> Tokens(const Sequences& sequences) {
    std::vector<int32_t> all(sequences.size() * kMaxBlocks * kBlockSize, kUnused);
    for (size_t s = 0; s < sequences.size(); ++s) {
      for (size_t i = 0; i < sequences[s].size(); ++i) {
        all[BlockOf(sequences, s, i / kBlockSize) * kBlockSize + i % kBlockSize] = sequences[s][i];
      }
    }
    return all;
  }

  DeviceArray<int32_t> length_, first_block_, table_, tokens_;
};

inline std::vector<SampledToken> RunStep(const Stream& stream, const Step& step,
                                         std::vector<int32_t>* last_sampled = nullptr) {
  const auto num_rows = static_cast<int32_t>(step.rows.size());
  const int32_t part_cols = (step.vocab + step.parts - 1) / step.parts;
  std::vector<float> gathered(int64_t{step.parts} * num_rows * part_cols, NAN);
  for (int32_t r = 0; r < num_rows; ++r) {
    for (int32_t id = 0; id < step.vocab; ++id) {
      const int32_t part = id / part_cols;
      gathered[(int64_t{part} * num_rows + r) * part_cols + id % part_cols] = step.logits[r][id];
    }
  }
  const DeviceArray<float> logits(stream, gathered);
  const DeviceArray<TokenBias> biases(stream, step.biases);
  std::vector<SampleRow> device_rows = step.rows;
  const DeviceArray<uint32_t> masks(stream, step.masks);
  for (SampleRow& row : device_rows) {
    SamplingParams& params = row.params;
    if (params.num_biases > 0) {
      params.biases = biases.data() + (params.biases - step.biases.data());
    }
    if (params.mask != nullptr) params.mask = masks.data() + (params.mask - step.masks.data());
  }
  const DeviceArray<SampleRow> rows(stream, device_rows);
  const DeviceArray<SampledToken> out(stream, num_rows, SampledToken{-7});
  const DeviceArray<int32_t> last(stream, num_rows + 1, -7);
  // Twice what is asked for: sizes are of the largest step.
  const DeviceArray<uint8_t> scratch(stream, SampleScratchBytes(2 * num_rows, step.vocab), 0xff);
  const DeviceHistory history(stream, step.tokens);
  Sample({logits.data(), step.parts, num_rows, part_cols, step.vocab, step.scale}, rows.data(),
         out.data(), last.data(), scratch.data(), stream, history.batch());
  if (last_sampled != nullptr) *last_sampled = last.Read();
  return out.Read();
}

// A second time, apart from the reference: what draws are made from.
inline std::vector<double> Adjusted(const std::vector<float>& logits, const SamplingParams& params,
                                    const TokenHistory& history) {
  std::vector<double> values(logits.begin(), logits.end());
  for (int32_t i = 0; i < params.num_biases; ++i) {
    const TokenBias& b = params.biases[i];
    double& value = values[static_cast<size_t>(b.token)];
    if (params.applies(b)) value = static_cast<float>(value) + b.bias;
  }
  std::vector<int> prompt(values.size()), output(values.size());
  history.ForEach([&](int32_t i, int32_t token) {
    ++(i < history.num_prompt_tokens ? prompt : output)[token];
  });
  for (size_t id = 0; id < values.size(); ++id) {
    double& v = values[id];
    if (prompt[id] + output[id] > 0) {
      v = v > 0 ? v / params.repetition_penalty : v * params.repetition_penalty;
      v -= static_cast<double>(params.frequency_penalty) * output[id];
      v -= output[id] > 0 ? params.presence_penalty : 0;
    }
    v = std::isnan(v) ? -kInfinity : v;
  }
  for (size_t id = 0; params.mask != nullptr && id < values.size(); ++id) {
    if ((params.mask[id / 32] >> (id % 32) & 1) == 0) values[id] = -kInfinity;
  }
  return values;
}

// Whether rounding explains that `token` was drawn: with every sum off by a part in a million the
// reference might have drawn it.
inline bool Close(const std::vector<float>& logits, const SamplingParams& params,
                  const TokenHistory& history, int32_t token) {
  std::vector<double> values = Adjusted(logits, params, history);
  std::vector<int32_t> order(values.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return values[a] > values[b]; });
  constexpr double kRounding = 1e-6;
  // Penalties in another order may tie in one precision and not in the other: the greatest is a
  // matter of rounding.
  const double greatest = values[order[0]];
  const bool one = params.temperature < 1e-5f || params.top_k == 1 || params.top_p < 1e-5f;
  if (one && std::abs(values[token] - greatest) <= kRounding * (1 + std::abs(greatest))) {
    return true;
  }
  std::vector<double> p(values.size());
  for (size_t i = 0; i < p.size(); ++i) {
    p[i] = std::exp((values[i] - greatest) / params.temperature);
  }
  size_t kept = order.size();
  if (params.top_k > 0) kept = std::min<size_t>(kept, params.top_k);
  double total = 0, mass = 0;
  for (size_t i = 0; i < kept; ++i) total += p[order[i]];
  for (size_t i = 0; i < kept && params.top_p < 1; ++i) {  // a cut that is as near
    mass += p[order[i]];
    if (std::abs(mass - params.top_p * total) < kRounding * total) return true;
  }
  for (size_t i = 0; i < kept; ++i) {
    if (std::abs(p[order[i]] - params.min_p) < kRounding * params.min_p) return true;
  }
  // The same kept set: the boundary between the two tokens is near the uniform.
  const double u = UniformDraw(params.seed, params.sequence_index, params.position);
  for (const double shift : {-kRounding, kRounding}) {
    double sum = 0, target = 0, upto = 0;
    std::vector<int32_t> drawn(order.begin(), order.begin() + static_cast<int64_t>(kept));
    if (params.top_p < 1) {
      double reached = 0;
      size_t n = 0;
      while (n < drawn.size() && reached < params.top_p * total) reached += p[drawn[n++]];
      drawn.resize(n);
    }
    std::erase_if(drawn, [&](int32_t id) { return p[id] < params.min_p; });
    std::sort(drawn.begin(), drawn.end());
    for (int32_t id : drawn) sum += p[id];
    target = (u + shift) * sum;
    for (int32_t id : drawn) {
      upto += p[id];
      if (upto > target) {
        if (id == token) return true;
        break;
      }
    }
  }
  return false;
}

// Random parameters of every kind.
inline SamplingParams RandomParams(Random& random, int32_t vocab) {
  SamplingParams params;
  const float temperatures[] = {0, 0.3f, 0.7f, 1, 1.5f, 1e-7f, 30};
  const float top_ps[] = {1, 1, 0.95f, 0.5f, 0.1f, 1e-6f, 0.999f};
  const int top_ks[] = {0, 0, 1, 2, 40, vocab - 1, vocab, vocab + 5};
  const float min_ps[] = {0, 0, 0, 0.05f, 0.5f};
  params.temperature = temperatures[random.Int(0, 6)];
  params.top_p = top_ps[random.Int(0, 6)];
  params.top_k = std::max(0, top_ks[random.Int(0, 7)]);
  params.min_p = min_ps[random.Int(0, 4)];
  params.seed = static_cast<uint64_t>(random.Int(0, 1 << 30)) << 20;
  params.sequence_index = static_cast<uint32_t>(random.Int(0, 3));
  params.position = static_cast<uint64_t>(random.Int(0, 5000));
  return params;
}

// Logits of different kinds: spread, flat, a few values again and again, NaN and infinities.
inline std::vector<float> RandomLogits(Random& random, int32_t vocab) {
  const int kind = random.Int(0, 4);
  std::vector<float> logits = random.Normals(vocab);
  for (float& logit : logits) {
    if (kind == 0) logit *= 4;
    if (kind == 1) logit = 0.5f;
    if (kind == 2) logit = static_cast<float>(random.Int(-3, 3));
    if (kind == 3 && random.Int(0, 5) == 0) logit = random.Int(0, 1) == 0 ? NAN : -kInfinity;
    if (kind == 4) logit = logit * 1e-3f - 20;
  }
  return logits;
}

inline void ExpectLogprobs(const SampledToken& actual, const SampledToken& expected) {
  ASSERT_EQ(actual.num_top, expected.num_top);
  for (int i = 0; i < kMaxTopLogprobs; ++i) {
    ASSERT_EQ(actual.top_ids[i], expected.top_ids[i]) << i;
    const float a = actual.top_logprobs[i], e = expected.top_logprobs[i];
    ASSERT_TRUE(a == e || (a != a && e != e) || std::abs(a - e) <= 2e-6f * (1 + std::abs(e)))
        << a << " not " << e << " at " << i;
  }
}

// Runs rows through the device and the reference; returns how many draws differ by rounding.
inline int Compare(const Stream& stream, const Step& step) {
  int close = 0;
  std::vector<int32_t> last;
  const std::vector<SampledToken> out = RunStep(stream, step, &last);
  for (size_t r = 0; r < step.rows.size(); ++r) {
    const SamplingParams& params = step.rows[r].params;
    const std::vector<int32_t> in_order{0};
    TokenHistory history;  // all in one block
    if (params.penalized()) {
      const std::vector<int32_t>& tokens = step.tokens[step.rows[r].sequence];
      history = {tokens.data(), in_order.data(), static_cast<int32_t>(tokens.size()),
                 static_cast<int32_t>(tokens.size()), step.rows[r].num_prompt_tokens};
    }
    std::vector<float> logits = step.logits[r];
    for (float& logit : logits) logit *= step.scale;
    const SampledToken expected = SampleReference(logits, params, history);
    SCOPED_TRACE(fmt::format("row {} of V {}: temperature {} top_k {} top_p {} min_p {}", r,
                             step.vocab, params.temperature, params.top_k, params.top_p,
                             params.min_p));
    EXPECT_EQ(last[step.rows[r].slot], out[r].token);
    if (out[r].token != expected.token) {
      ++close;
      EXPECT_TRUE(Close(logits, params, history, out[r].token))
          << out[r].token << " not " << expected.token;
    } else {
      EXPECT_TRUE(out[r].logprob == expected.logprob ||
                  (out[r].logprob != out[r].logprob && expected.logprob != expected.logprob) ||
                  std::abs(out[r].logprob - expected.logprob) <=
                      2e-6f * (1 + std::abs(expected.logprob)))
          << out[r].logprob << " not " << expected.logprob;
    }
    ExpectLogprobs(out[r], expected);
  }
  return close;
}

}  // namespace tandem::kernels::cuda::testing
