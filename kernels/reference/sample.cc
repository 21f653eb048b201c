#include "kernels/reference/sample.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "kernels/rng.h"

namespace tandem::kernels {
namespace {

constexpr double kMinusInfinity = -std::numeric_limits<double>::infinity();

// Softmax of values / temperature.
std::vector<double> Probabilities(std::span<const double> values, double temperature) {
  const double max = *std::max_element(values.begin(), values.end());
  std::vector<double> p(values.size());
  double sum = 0;
  for (size_t i = 0; i < p.size(); ++i) sum += p[i] = std::exp((values[i] - max) / temperature);
  for (double& value : p) value /= sum;
  return p;
}

void Penalize(std::vector<double>& values, const SamplingParams& params,
              const TokenHistory& history) {
  std::vector<int> in_prompt(values.size()), in_output(values.size());
  history.ForEach([&](int32_t i, int32_t token) {
    ++(i < history.num_prompt_tokens ? in_prompt : in_output)[token];
  });
  for (size_t id = 0; id < values.size(); ++id) {
    if (in_prompt[id] + in_output[id] > 0) {
      const double r = params.repetition_penalty;
      values[id] = values[id] > 0 ? values[id] / r : values[id] * r;
    }
    values[id] -= static_cast<double>(params.frequency_penalty) * in_output[id];
    if (in_output[id] > 0) values[id] -= params.presence_penalty;
  }
}

// In float32, as everywhere: the sum is the logit, not an intermediate of one.
void Bias(std::vector<double>& values, const SamplingParams& params) {
  for (int32_t i = 0; i < params.num_biases; ++i) {
    const TokenBias& b = params.biases[i];
    double& value = values[static_cast<size_t>(b.token)];
    if (params.applies(b)) value = static_cast<float>(value) + b.bias;
  }
}

void Mask(std::vector<double>& values, const SamplingParams& params) {
  for (size_t id = 0; id < values.size(); ++id) {
    if (!params.allows(static_cast<int32_t>(id))) values[id] = kMinusInfinity;
  }
}

// `order`: ids, most likely first. Returns how many of them are kept.
size_t Truncate(std::span<const int32_t> order, std::span<const double> p,
                const SamplingParams& params) {
  size_t kept = order.size();
  if (params.top_k > 0) kept = std::min<size_t>(kept, params.top_k);
  double total = 0;
  for (size_t i = 0; i < kept; ++i) total += p[order[i]];
  if (params.top_p < 1) {
    double mass = 0;
    for (size_t i = 0; i < kept; ++i) {
      mass += p[order[i]];
      if (mass >= params.top_p * total) kept = i + 1;
    }
  }
  while (kept > 1 && p[order[kept - 1]] < params.min_p * p[order[0]]) --kept;
  return kept;
}

// Ids, most likely first, ties to the lowest.
std::vector<int32_t> Order(std::span<const double> values) {
  std::vector<int32_t> order(values.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return values[a] > values[b]; });
  return order;
}

int32_t Draw(std::span<const double> values, const SamplingParams& params) {
  const std::vector<int32_t> order = Order(values);
  int32_t token = order[0];
  if (params.temperature <= 0) return token;
  const std::vector<double> p = Probabilities(values, params.temperature);
  const size_t kept = Truncate(order, p, params);
  std::vector<int32_t> drawn(order.begin(), order.begin() + static_cast<int64_t>(kept));
  std::sort(drawn.begin(), drawn.end());
  double total = 0;
  for (int32_t id : drawn) total += p[id];
  const double target = total * UniformDraw(params.seed, params.sequence_index, params.position);
  double mass = 0;
  for (size_t i = 0; i < kept && mass <= target; ++i) {
    mass += p[drawn[i]];
    if (p[drawn[i]] > 0) token = drawn[i];
  }
  return token;
}

}  // namespace

SampledToken SampleReference(std::span<const float> logits, const SamplingParams& params,
                             const TokenHistory& history) {
  std::vector<double> values(logits.begin(), logits.end());
  for (double& v : values) v = std::isnan(v) ? kMinusInfinity : v;
  std::vector<double> adjusted = values;
  Bias(adjusted, params);
  if (params.penalized()) Penalize(adjusted, params, history);
  if (params.mask != nullptr) Mask(adjusted, params);

  SampledToken out;
  out.token = params.forced_token >= 0 ? params.forced_token : Draw(adjusted, params);
  if (params.num_logprobs >= 0) {
    const std::vector<int32_t> order = Order(values);
    const std::vector<double> p = Probabilities(values, 1);
    out.logprob = static_cast<float>(std::log(p[out.token]));
    out.num_top = std::min<int>(params.num_logprobs, static_cast<int>(order.size()));
    for (int i = 0; i < out.num_top; ++i) {
      out.top_ids[i] = order[i];
      out.top_logprobs[i] = static_cast<float>(std::log(p[order[i]]));
    }
  }
  return out;
}

}  // namespace tandem::kernels
