#include "kernels/cpu/sampler.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <limits>
#include <utility>

#include "kernels/rng.h"

namespace tandem::kernels::cpu {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

float OrLowest(float logit) { return logit == logit ? logit : kMinusInfinity; }

// A total order of (logit, id): greater logits first, equal ones by lower id. -0 counts as 0.
uint64_t KeyOf(float logit, size_t id) {
  const uint32_t bits = std::bit_cast<uint32_t>(OrLowest(logit) + 0.0f);
  const uint32_t ordered = bits >> 31 ? ~bits : bits | 0x80000000u;
  return uint64_t{ordered} << 32 | (0xffffffffu - static_cast<uint32_t>(id));
}
int32_t IdOf(uint64_t key) {
  return static_cast<int32_t>(0xffffffffu - static_cast<uint32_t>(key));
}

// exp(x) for x <= 0, without branches so that the compiler makes vector code; 0 below -87 and for
// NaN. Relative error below 2e-7.
float ExpNegative(float x) {
  const float clamped = x > -87.0f ? x : -87.0f;
  const float n = clamped * 1.44269504f + 12582912.0f - 12582912.0f;  // rounds: 1.5 * 2^23
  float r = clamped - n * 0.693359375f;
  r += n * 2.12194440e-4f;
  float p = 1.98412698e-4f;
  p = p * r + 1.38888889e-3f;
  p = p * r + 8.33333333e-3f;
  p = p * r + 4.16666667e-2f;
  p = p * r + 1.66666667e-1f;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  const float scale = std::bit_cast<float>((static_cast<int32_t>(n) + 127) << 23);
  return x > -87.0f ? p * scale : 0.0f;
}

// Sixteen bins a nat below the greatest logit; the last takes all that is left, NaN too. x <= 0.
constexpr size_t kBins = 1024;
uint16_t BinOf(float x) {
  const float bin = -16 * x;
  constexpr float kLast = kBins - 1;
  return static_cast<uint16_t>(static_cast<int32_t>(bin < kLast ? bin : kLast));
}

// A fixed order of additions in 16 lanes.
double Sum(std::span<const float> values) {
  double lanes[16] = {};
  size_t i = 0;
  for (; i + 16 <= values.size(); i += 16) {
    for (size_t lane = 0; lane < 16; ++lane) lanes[lane] += values[i + lane];
  }
  for (; i < values.size(); ++i) lanes[i % 16] += values[i];
  double sum = 0;
  for (double lane : lanes) sum += lane;
  return sum;
}

// log Σ exp(logit - max).
double LogSum(std::span<const float> logits, float max) {
  float chunk[256];
  double sum = 0;
  for (size_t i = 0; i < logits.size(); i += 256) {
    const size_t count = std::min<size_t>(256, logits.size() - i);
    for (size_t j = 0; j < count; ++j) chunk[j] = ExpNegative(logits[i + j] - max);
    sum += Sum({chunk, count});
  }
  return std::log(sum);
}

// The most likely first; `count` >= 0.
void FillTop(std::span<const float> logits, int count, SampledToken& out) {
  uint64_t best[kMaxTopLogprobs] = {};
  out.num_top = std::min<int>(count, static_cast<int>(logits.size()));
  if (out.num_top == 0) return;
  float lowest = kMinusInfinity;  // logit of the last of `best`, once that is full
  for (size_t i = 0; i < logits.size(); ++i) {
    if (logits[i] < lowest) continue;
    uint64_t key = KeyOf(logits[i], i);
    if (key < best[out.num_top - 1]) continue;
    for (int j = 0; j < out.num_top; ++j) {
      if (key > best[j]) std::swap(key, best[j]);
    }
    if (best[out.num_top - 1] != 0) lowest = OrLowest(logits[IdOf(best[out.num_top - 1])]);
  }
  for (int j = 0; j < out.num_top; ++j) out.top_ids[j] = IdOf(best[j]);
}

int32_t ArgMax(std::span<const float> logits) {
  size_t best = 0;
  float highest = OrLowest(logits[0]);
  for (size_t i = 1; i < logits.size(); ++i) {
    if (logits[i] > highest) {
      highest = logits[i];
      best = i;
    }
  }
  return static_cast<int32_t>(best);
}

// Zeroes the p of all tokens that come after the one with key `threshold`.
void CutBelow(std::span<const float> logits, std::span<float> p, uint64_t threshold) {
  if (threshold == 0) return;
  const auto last = static_cast<size_t>(IdOf(threshold));
  const float lowest = OrLowest(logits[last]);
  for (size_t i = 0; i < p.size(); ++i) p[i] = logits[i] < lowest ? 0 : p[i];
  for (size_t i = last + 1; i < p.size(); ++i) p[i] = logits[i] == lowest ? 0 : p[i];
}

// The first id at which the running sum of `p` exceeds u times its total. Sums go block by block,
// so that only one block is walked.
int32_t Invert(std::span<const float> p, double u) {
  constexpr size_t kBlock = 256;
  double total = 0;
  for (size_t i = 0; i < p.size(); i += kBlock) {
    total += Sum(p.subspan(i, std::min(kBlock, p.size() - i)));
  }
  const double target = u * total;
  double mass = 0;
  int32_t last = 0;  // with p > 0
  for (size_t i = 0; i < p.size(); i += kBlock) {
    const std::span<const float> block = p.subspan(i, std::min(kBlock, p.size() - i));
    const double sum = Sum(block);
    if (sum == 0) continue;
    const bool here = mass + sum > target;
    double inside = mass;
    for (size_t j = 0; j < block.size(); ++j) {
      if (block[j] == 0) continue;
      last = static_cast<int32_t>(i + j);
      inside += block[j];
      if (here && inside > target) return last;
    }
    mass += sum;
  }
  return last;
}

}  // namespace

Sampler::Sampler(int max_vocab)
    : adjusted_(max_vocab),
      counts_(max_vocab),
      p_(max_vocab),
      bin_of_(max_vocab),
      bins_(kBins),
      keys_(max_vocab) {}

SampledToken Sampler::Sample(std::span<const float> logits, const SamplingParams& params,
                             const TokenHistory& history) {
  SampledToken out;
  const int32_t best = ArgMax(logits);
  if (params.forced_token >= 0) {
    out.token = params.forced_token;
  } else if (params.adjusted()) {
    const std::span<const float> adjusted = Adjust(logits, params, history);
    out.token = Choose(adjusted, params, ArgMax(adjusted));
  } else {
    out.token = Choose(logits, params, best);
  }
  if (params.num_logprobs >= 0) {
    const float max = OrLowest(logits[best]);
    const double log_sum = LogSum(logits, max);
    const auto logprob = [&](int32_t id) {
      return static_cast<float>(static_cast<double>(OrLowest(logits[id])) - max - log_sum);
    };
    out.logprob = logprob(out.token);
    FillTop(logits, params.num_logprobs, out);
    for (int i = 0; i < out.num_top; ++i) out.top_logprobs[i] = logprob(out.top_ids[i]);
  }
  return out;
}

std::span<const float> Sampler::Adjust(std::span<const float> logits, const SamplingParams& params,
                                       const TokenHistory& history) {
  std::copy(logits.begin(), logits.end(), adjusted_.begin());
  for (int32_t i = 0; i < params.num_biases; ++i) {
    const TokenBias& b = params.biases[i];
    if (params.applies(b)) adjusted_[static_cast<size_t>(b.token)] += b.bias;
  }
  if (params.penalized()) Penalize(params, history);
  if (params.mask != nullptr) Mask(params.mask, logits.size());
  return std::span<const float>(adjusted_).first(logits.size());
}

void Sampler::Mask(const uint32_t* mask, size_t vocab) {
  for (size_t from = 0; from < vocab; from += 32) {
    const uint32_t allowed = mask[from / 32];
    if (allowed == ~uint32_t{0}) continue;
    const size_t count = std::min<size_t>(32, vocab - from);
    for (size_t i = 0; i < count; ++i) {
      float& logit = adjusted_[from + i];
      logit = (allowed >> i & 1) != 0 ? logit : kMinusInfinity;
    }
  }
}

void Sampler::Penalize(const SamplingParams& params, const TokenHistory& history) {
  constexpr int32_t kInPrompt = 1 << 30;
  history.ForEach([&](int32_t i, int32_t id) {
    int32_t& count = counts_[id];
    count = i < history.num_prompt_tokens ? count | kInPrompt : count + 1;
  });
  history.ForEach([&](int32_t, int32_t id) {
    const int32_t count = std::exchange(counts_[id], 0);
    if (count == 0) return;  // done already
    const int32_t in_output = count & ~kInPrompt;
    float& logit = adjusted_[id];
    logit = logit > 0 ? logit / params.repetition_penalty : logit * params.repetition_penalty;
    logit -= params.frequency_penalty * static_cast<float>(in_output);
    if (in_output > 0) logit -= params.presence_penalty;
  });
}

int32_t Sampler::Choose(std::span<const float> logits, const SamplingParams& params, int32_t best) {
  const float max = OrLowest(logits[best]);
  return params.temperature > 0 && max > kMinusInfinity ? Draw(logits, params, max) : best;
}

int32_t Sampler::Draw(std::span<const float> logits, const SamplingParams& params, float max) {
  const std::span<float> p(p_.data(), logits.size());
  const float inverse = 1.0f / std::max(params.temperature, 1e-6f);
  for (size_t i = 0; i < p.size(); ++i) p[i] = ExpNegative((logits[i] - max) * inverse);
  if (params.top_k > 0 || params.top_p < 1) {
    for (size_t i = 0; i < p.size(); ++i) bin_of_[i] = BinOf((logits[i] - max) * inverse);
    CutBelow(logits, p, Threshold(logits, params));
  }
  if (params.min_p > 0) {  // the greatest p is 1
    for (float& value : p) value = value < params.min_p ? 0 : value;
  }
  return Invert(p, UniformDraw(params.seed, params.sequence_index, params.position));
}

// The keys of one bin, the most likely first.
std::span<uint64_t> Sampler::SortedBin(std::span<const float> logits, size_t bin) {
  size_t count = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (bin_of_[i] == bin) keys_[count++] = KeyOf(logits[i], i);
  }
  const std::span<uint64_t> keys(keys_.data(), count);
  std::sort(keys.begin(), keys.end(), std::greater<>());
  return keys;
}

// The key of the least likely token that top_k and top_p keep; REQUIRES: bin_of_ and p_ are filled.
uint64_t Sampler::Threshold(std::span<const float> logits, const SamplingParams& params) {
  std::fill(bins_.begin(), bins_.end(), Bin{});
  for (size_t i = 0; i < logits.size(); ++i) {
    Bin& bin = bins_[bin_of_[i]];
    bin.mass += p_[i];
    ++bin.count;
  }
  uint64_t threshold = 0;
  double total = 0;  // of what top_k keeps
  if (params.top_k > 0 && params.top_k < static_cast<int64_t>(logits.size())) {
    int64_t left = params.top_k;
    size_t b = 0;
    for (; bins_[b].count < left; ++b) {
      left -= bins_[b].count;
      total += bins_[b].mass;
    }
    const std::span<uint64_t> kept = SortedBin(logits, b).first(left);
    for (uint64_t key : kept) total += p_[IdOf(key)];
    threshold = kept.back();
  } else {
    for (const Bin& bin : bins_) total += bin.mass;
  }
  if (params.top_p >= 1) return threshold;

  const double wanted = params.top_p * total;
  double mass = 0;
  size_t b = 0;
  for (; b + 1 < bins_.size() && mass + bins_[b].mass < wanted; ++b) mass += bins_[b].mass;
  for (uint64_t key : SortedBin(logits, b)) {
    mass += p_[IdOf(key)];
    if (mass >= wanted) return std::max(threshold, key);
  }
  return threshold;  // rounding kept the sum below
}

}  // namespace tandem::kernels::cpu
