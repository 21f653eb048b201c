// Cosines and sines of the rotary embedding, in double and then rounded once, so that every device
// turns by the same numbers. Pure.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace tandem::kernels {

// Which two elements of a head turn together: (2 i, 2 i + 1), what GGUF's Llama files are permuted
// for, or (i, i + dims / 2), as Qwen's files have them.
enum class RopePairs : uint8_t { kAdjacent, kHalves };

// How the angles of a model that was trained on short contexts are shrunk for long ones.
struct RopeScaling {
  enum class Type : uint8_t {
    kNone,
    kLinear,  // all frequencies divided by `factor`
    kYarn,    // fast ones kept, slow ones divided, those between blended
  };
  Type type = Type::kNone;
  double factor = 1;            // > 0
  double attention_factor = 1;  // multiplies cosines and sines
  // kYarn only: pairs that turn more than beta_fast times in original_context positions are fast,
  // those that turn less than beta_slow times slow.
  int original_context = 0;
  double beta_fast = 32;
  double beta_slow = 1;
};

struct RopeSpec {
  int dims = 0;            // rotated leading dims of a head, even, <= head dim
  double theta = 10000.0;  // angle of pair i at position p, unscaled: p * theta^(-2 i / dims)
  int max_positions = 0;
  RopePairs pairs = RopePairs::kAdjacent;
  RopeScaling scaling = {};
  std::span<const float> freq_factors = {};  // [dims / 2] divisors of the frequencies; empty: none
};

// YaRN's own attention factor for a scaling by `factor`: 0.1 ln(factor) + 1, at least 1.
double YarnAttentionFactor(double factor);

// Angle per position of each pair, [dims / 2].
//   linear, YaRN  https://arxiv.org/abs/2309.00071, definition 2 and section 3.2
//   freq_factors  what llama.cpp's converter writes for Llama 3.1's scaling ("rope_freqs.weight")
std::vector<double> RopeFrequencies(const RopeSpec& spec);

// [max_positions, dims]: cosine and sine of pair i at 2 i and 2 i + 1, times the attention factor.
std::vector<float> RopeCosSin(const RopeSpec& spec);

}  // namespace tandem::kernels
