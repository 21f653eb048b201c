#include "kernels/cpu/sampler.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <limits>

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
  for (size_t i = 0; i < logits.size(); ++i) {
    uint64_t key = KeyOf(logits[i], i);
    if (key < best[out.num_top - 1]) continue;
    for (int j = 0; j < out.num_top; ++j) {
      if (key > best[j]) std::swap(key, best[j]);
    }
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

Sampler::Sampler(int max_vocab) : p_(max_vocab), keys_(max_vocab) {}

SampledToken Sampler::Sample(std::span<const float> logits, const SamplingParams& params) {
  SampledToken out;
  const int32_t best = ArgMax(logits);
  const float max = OrLowest(logits[best]);
  if (params.forced_token >= 0) {
    out.token = params.forced_token;
  } else if (params.temperature > 0 && max > kMinusInfinity) {
    out.token = Draw(logits, params, max);
  } else {
    out.token = best;
  }
  if (params.num_logprobs >= 0) {
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

int32_t Sampler::Draw(std::span<const float> logits, const SamplingParams& params, float max) {
  const std::span<float> p(p_.data(), logits.size());
  const float inverse = 1.0f / std::max(params.temperature, 1e-6f);
  for (size_t i = 0; i < p.size(); ++i) p[i] = ExpNegative((logits[i] - max) * inverse);
  if (params.top_k > 0 || params.top_p < 1) {
    const uint64_t threshold = Threshold(logits, params, Sum(p));
    for (size_t i = 0; i < p.size(); ++i) {
      if (KeyOf(logits[i], i) < threshold) p[i] = 0;
    }
  }
  if (params.min_p > 0) {  // the greatest p is 1
    for (float& value : p) value = value < params.min_p ? 0 : value;
  }
  return Invert(p, UniformDraw(params.seed, params.sequence_index, params.position));
}

// The key of the least likely token that top_k and top_p keep.
uint64_t Sampler::Threshold(std::span<const float> logits, const SamplingParams& params,
                            double total) {
  // Without top_k, tokens that together have less than 1 - top_p cannot be needed to reach top_p.
  const bool limited = params.top_k > 0;
  const double floor =
      limited ? 0 : 0.5 * (1 - params.top_p) * total / static_cast<double>(logits.size());
  size_t count = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    keys_[count] = KeyOf(logits[i], i);
    count += p_[i] >= floor;
  }
  std::span<uint64_t> kept(keys_.data(), count);
  uint64_t threshold = 0;
  if (limited && static_cast<size_t>(params.top_k) < count) {
    std::nth_element(kept.begin(), kept.begin() + (params.top_k - 1), kept.end(), std::greater<>());
    kept = kept.first(params.top_k);
    threshold = kept.back();
  }
  if (params.top_p >= 1) return threshold;
  if (limited) {
    total = 0;
    std::sort(kept.begin(), kept.end(), std::greater<>());
    for (uint64_t key : kept) total += p_[IdOf(key)];
  }
  return std::max(threshold, TopPThreshold(kept, params.top_p * total));
}

// Key at which the mass of the most likely candidates reaches `mass`; sorts no more than it needs.
uint64_t Sampler::TopPThreshold(std::span<uint64_t> candidates, double mass) {
  double sum = 0;
  for (size_t begin = 0, step = 64; begin < candidates.size(); begin += step, step *= 2) {
    const std::span<uint64_t> rest = candidates.subspan(begin);
    const size_t count = std::min(step, rest.size());
    if (count < rest.size()) {
      std::nth_element(rest.begin(), rest.begin() + static_cast<int64_t>(count), rest.end(),
                       std::greater<>());
    }
    std::sort(rest.begin(), rest.begin() + static_cast<int64_t>(count), std::greater<>());
    for (size_t i = 0; i < count; ++i) {
      sum += p_[IdOf(rest[i])];
      if (sum >= mass) return rest[i];
    }
  }
  return 0;  // rounding kept the sum below: all stay
}

}  // namespace tandem::kernels::cpu
