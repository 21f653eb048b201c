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

// Most likely tokens that are looked at alone, if they have the mass: 8 nats.
constexpr int16_t kHeadBins = 128;

size_t NumBlocks(size_t vocab) { return (vocab + kSamplingBlock - 1) / kSamplingBlock; }
size_t BlockEnd(size_t block, size_t vocab) {
  return std::min((block + 1) * kSamplingBlock, vocab);
}

}  // namespace

Sampler::Sampler(int max_vocab, const SamplingKernels& kernels)
    : kernels_(kernels),
      adjusted_(max_vocab),
      counts_(max_vocab),
      p_(max_vocab),
      sums_((max_vocab + kSamplingBlock - 1) / kSamplingBlock),
      bin_of_(max_vocab),
      candidates_(max_vocab),
      bins_(kSamplingBins),
      keys_(max_vocab) {}

int32_t Sampler::ArgMax(std::span<const float> logits) const {
  return static_cast<int32_t>(kernels_.arg_max(logits.data(), static_cast<int64_t>(logits.size())));
}

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
  const auto count = static_cast<int64_t>(logits.size());
  const std::span<float> p(p_.data(), logits.size());
  const float inverse = 1.0f / std::max(params.temperature, 1e-6f);
  kernels_.exp_below(logits.data(), count, max, inverse, p.data());
  if (params.top_k > 0 || params.top_p < 1) {
    kernels_.bin_below(logits.data(), count, max, inverse, bin_of_.data());
    CutBelow(logits, p, Threshold(logits, params));
  }
  if (params.min_p > 0) {  // the greatest p is 1
    for (float& value : p) value = value < params.min_p ? 0 : value;
  }
  return Invert(p, UniformDraw(params.seed, params.sequence_index, params.position));
}

double Sampler::SumOfBlocks(std::span<const float> p) {
  kernels_.sum_blocks(p.data(), static_cast<int64_t>(p.size()), sums_.data());
  double total = 0;
  for (size_t b = 0; b < NumBlocks(p.size()); ++b) total += sums_[b];
  return total;
}

// log Σ exp(logit - max).
double Sampler::LogSum(std::span<const float> logits, float max) {
  const std::span<float> p(p_.data(), logits.size());
  kernels_.exp_below(logits.data(), static_cast<int64_t>(logits.size()), max, 1, p.data());
  return std::log(SumOfBlocks(p));
}

// Zeroes the p of all tokens that come after the one with key `threshold`, which is a candidate.
void Sampler::CutBelow(std::span<const float> logits, std::span<float> p, uint64_t threshold) {
  if (threshold == 0) return;
  const auto last = static_cast<size_t>(IdOf(threshold));
  const float lowest = OrLowest(logits[last]);
  kernels_.zero_below(logits.data(), static_cast<int64_t>(p.size()), lowest, p.data());
  for (const int32_t id : candidates()) {
    if (logits[id] == lowest && static_cast<size_t>(id) > last) p[id] = 0;
  }
}

// The first id at which the running sum of `p` exceeds u times its total. Only one block is walked,
// but where rounding is in the way.
int32_t Sampler::Invert(std::span<const float> p, double u) {
  const double target = u * SumOfBlocks(p);
  double mass = 0;
  size_t last = 0;  // block with any
  for (size_t b = 0; b < NumBlocks(p.size()); ++b) {
    if (sums_[b] == 0) continue;
    last = b;
    if (mass + sums_[b] > target) {
      double inside = mass;
      for (size_t i = b * kSamplingBlock; i < BlockEnd(b, p.size()); ++i) {
        inside += p[i];
        if (p[i] > 0 && inside > target) return static_cast<int32_t>(i);
      }
    }
    mass += sums_[b];
  }
  size_t i = BlockEnd(last, p.size()) - 1;
  while (i > 0 && p[i] == 0) --i;
  return static_cast<int32_t>(i);
}

// Counts the tokens of the first `limit` bins into them, and lists them in candidates_.
Sampler::Bin Sampler::FillBins(size_t vocab, int16_t limit) {
  std::fill_n(bins_.begin(), limit, Bin{});
  num_candidates_ = kernels_.collect_below(bin_of_.data(), static_cast<int64_t>(vocab), limit,
                                           candidates_.data());
  for (const int32_t id : candidates()) {
    Bin& bin = bins_[bin_of_[id]];
    bin.mass += p_[id];
    ++bin.count;
  }
  Bin all;
  for (int16_t b = 0; b < limit; ++b) {
    all.mass += bins_[b].mass;
    all.count += bins_[b].count;
  }
  return all;
}

// The keys of one bin, the most likely first.
std::span<uint64_t> Sampler::SortedBin(std::span<const float> logits, size_t bin) {
  size_t count = 0;
  for (const int32_t id : candidates()) {
    if (bin_of_[id] == static_cast<int16_t>(bin)) keys_[count++] = KeyOf(logits[id], id);
  }
  const std::span<uint64_t> keys(keys_.data(), count);
  std::sort(keys.begin(), keys.end(), std::greater<>());
  return keys;
}

// The key of the least likely token that top_k and top_p keep; REQUIRES: bin_of_ and p_ are filled.
uint64_t Sampler::Threshold(std::span<const float> logits, const SamplingParams& params) {
  const bool by_count = params.top_k > 0 && params.top_k < static_cast<int64_t>(logits.size());
  double total = by_count ? 0 : SumOfBlocks(std::span(p_).first(logits.size()));
  // The likely ones are few: what is sought is nearly always among them.
  const Bin head = FillBins(logits.size(), kHeadBins);
  const bool enough = by_count ? head.count >= params.top_k : head.mass >= params.top_p * total;
  const size_t num_bins = enough ? kHeadBins : kSamplingBins;
  if (!enough) FillBins(logits.size(), kSamplingBins);

  uint64_t threshold = 0;
  if (by_count) {
    int64_t left = params.top_k;
    size_t b = 0;
    for (; bins_[b].count < left; ++b) {
      left -= bins_[b].count;
      total += bins_[b].mass;
    }
    const std::span<uint64_t> kept = SortedBin(logits, b).first(left);
    for (uint64_t key : kept) total += p_[IdOf(key)];
    threshold = kept.back();
  }
  if (params.top_p >= 1) return threshold;

  const double wanted = params.top_p * total;
  double mass = 0;
  size_t b = 0;
  for (; b + 1 < num_bins && mass + bins_[b].mass < wanted; ++b) mass += bins_[b].mass;
  for (uint64_t key : SortedBin(logits, b)) {
    mass += p_[IdOf(key)];
    if (mass >= wanted) return std::max(threshold, key);
  }
  return threshold;  // rounding kept the sum below
}

}  // namespace tandem::kernels::cpu
