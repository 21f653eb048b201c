#include "worker/model/experts.h"

#include <algorithm>
#include <cmath>

namespace tandem::model {

using kernels::TensorView;

Experts::Experts(const ModelConfig& config, int max_tokens, int ffn)
    : num_experts_(config.num_experts),
      per_token_(config.experts_per_token),
      hidden_(config.hidden),
      ffn_(ffn),
      normalize_(config.normalize_experts) {
  const auto tokens = static_cast<size_t>(max_tokens);
  logits_.resize(tokens * num_experts_);
  chosen_.resize(tokens * per_token_);
  weights_.resize(tokens * per_token_);
  begin_.resize(num_experts_ + 1);
  next_.resize(num_experts_);
  choices_.resize(tokens * per_token_);
  x_.resize(tokens * hidden_);
  y_.resize(tokens * hidden_);
  act_.resize(tokens * ffn_);
}

void Experts::Forward(TensorView out, TensorView normed, const LlamaLayer& layer,
                      kernels::Ops& ops) {
  ops.MatMul({logits_.data(), normed.rows, num_experts_}, normed, *layer.expert_router, {});
  Choose(static_cast<int>(normed.rows));
  for (int64_t t = 0; t < out.rows; ++t) std::fill_n(out.row(t), hidden_, 0.0f);
  for (int e = 0; e < num_experts_; ++e) {
    const int64_t count = begin_[e + 1] - begin_[e];
    if (count == 0) continue;
    const Choice* const choices = &choices_[begin_[e]];
    for (int64_t i = 0; i < count; ++i) {
      std::copy_n(normed.row(choices[i].token), hidden_, &x_[i * hidden_]);
    }
    const TensorView act(act_.data(), count, ffn_), y(y_.data(), count, hidden_);
    ops.GateUp(act, {x_.data(), count, hidden_}, *layer.ffn[e].gate_up, kernels::Activation::kSilu);
    ops.MatMul(y, act, *layer.ffn[e].down, {});
    for (int64_t i = 0; i < count; ++i) {
      float* const to = out.row(choices[i].token);
      for (int k = 0; k < hidden_; ++k) to[k] += choices[i].weight * y.row(i)[k];
    }
  }
}

// The per_token_ greatest logits (of equal ones the lower expert's) and their probabilities.
void Experts::ChooseFor(int token) {
  const float* const logits = &logits_[static_cast<size_t>(token) * num_experts_];
  int* const chosen = &chosen_[static_cast<size_t>(token) * per_token_];
  float* const weights = &weights_[static_cast<size_t>(token) * per_token_];
  int count = 0;
  for (int e = 0; e < num_experts_; ++e) {
    int at = count;
    while (at > 0 && logits[e] > logits[chosen[at - 1]]) --at;
    if (at == per_token_) continue;
    if (count < per_token_) ++count;
    for (int i = count - 1; i > at; --i) chosen[i] = chosen[i - 1];
    chosen[at] = e;
  }
  const float highest = logits[chosen[0]];
  std::sort(chosen, chosen + per_token_);
  double sum = 0, all = 0;
  for (int e = 0; e < num_experts_; ++e) all += std::exp(double{logits[e]} - highest);
  for (int i = 0; i < per_token_; ++i) sum += std::exp(double{logits[chosen[i]]} - highest);
  for (int i = 0; i < per_token_; ++i) {
    const double p = std::exp(double{logits[chosen[i]]} - highest);
    weights[i] = static_cast<float>(p / (normalize_ ? sum : all));
  }
}

void Experts::Choose(int num_tokens) {
  std::fill(begin_.begin(), begin_.end(), 0);
  const int count = num_tokens * per_token_;
  for (int t = 0; t < num_tokens; ++t) ChooseFor(t);
  for (int i = 0; i < count; ++i) ++begin_[chosen_[i] + 1];
  for (int e = 0; e < num_experts_; ++e) {
    begin_[e + 1] += begin_[e];
    next_[e] = begin_[e];
  }
  for (int i = 0; i < count; ++i) {
    choices_[next_[chosen_[i]]++] = {i / per_token_, weights_[i]};
  }
}

}  // namespace tandem::model
