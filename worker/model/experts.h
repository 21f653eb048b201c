// Mixture of experts: sends every token of a step through the experts that the layer's router
// chooses for it, and adds up what they give, times the router's probabilities.
//
// Every rank has a slice of every expert (its feed-forward columns), so that ranks have equal work
// whatever is chosen; the result is this rank's part of the sum. A token's experts are added in
// ascending order, whatever other tokens are in the step: batch invariance.
// Thread: the runner's. Memory: all of it in the constructor.
#pragma once

#include <vector>

#include "kernels/ops.h"
#include "worker/model/llama_weights.h"

namespace tandem::model {

class Experts {
 public:
  // `ffn`: columns of this rank.
  Experts(const ModelConfig& config, int max_tokens, int ffn);

  void Forward(kernels::TensorView out,     // [T, H]
               kernels::TensorView normed,  // [T, H]
               const LlamaLayer& layer, kernels::Ops& ops);

 private:
  struct Choice {
    int token;
    float weight;
  };

  // Fills choices_, expert by expert, and begin_.
  void Choose(int num_tokens);
  void ChooseFor(int token);

  int num_experts_, per_token_, hidden_, ffn_;
  bool normalize_;
  std::vector<float> logits_;    // [T, E]
  std::vector<int> chosen_;      // [T, per_token] ascending
  std::vector<float> weights_;   // [T, per_token]
  std::vector<int> begin_;       // [E + 1] into choices_
  std::vector<int> next_;        // [E]
  std::vector<Choice> choices_;  // [T * per_token]
  std::vector<float> x_, y_;     // [T, H]
  std::vector<float> act_;       // [T, F]
};

}  // namespace tandem::model
