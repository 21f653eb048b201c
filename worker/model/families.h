// The families of models that are run here: one table entry each. What an entry says is what the
// files themselves do not; everything else is read from them. docs/models.md says how to add one.
#pragma once

#include <string>
#include <string_view>

#include "kernels/ops.h"
#include "kernels/rope_table.h"

namespace tandem::model {

enum class QkvBias : uint8_t {
  kNever,
  kAlways,    // of Q, K and V
  kOptional,  // GGUF: the tensors tell; Hugging Face: attention_bias, and then of O too
};

// What a layer's window is, in a file that has one.
enum class Windows : uint8_t {
  kNone,  // a file with a window is refused
  kAll,   // of every layer
  kMost,  // every window_period-th layer sees everything
  kLast,  // Hugging Face: of the layers from max_window_layers on, if use_sliding_window
};

struct Family {
  const char* name;                   // ModelConfig::architecture
  const char* gguf = nullptr;         // general.architecture; null: there is none
  const char* huggingface = nullptr;  // model_type in config.json
  kernels::RopePairs gguf_pairs = kernels::RopePairs::kHalves;
  QkvBias bias = QkvBias::kNever;
  bool qk_norm = false;
  Windows windows = Windows::kNone;
  int window_period = 0;
  double local_theta = 0;           // of layers with a window; 0: as the others
  int nope_interval = 0;            // every so many-th layer has no rope; 0: all have
  bool experts = false;             // may have them
  bool normalizes_experts = false;  // Hugging Face: norm_topk_prob if the config is silent
  bool rope_freqs = false;          // GGUF: may have rope_freqs.weight
  bool long_rope = false;           // may have factors for short and for long contexts
  bool fused = false;               // Q, K, V in one tensor, gate and up in another
  bool post_norms = false;
  bool gelu = false;
  bool attention_softcap = false;  // may have one
  bool scaled_embeddings = false;  // by sqrt(hidden)
  bool multipliers = false;        // has factors of embeddings, residuals, scores and logits
  bool norms_less_one = false;     // Hugging Face: norm weights are stored less 1
  bool tied = false;               // Hugging Face: tie_word_embeddings if the config is silent
};

// Null: not known.
const Family* FamilyOfGguf(std::string_view architecture);
const Family* FamilyOfHuggingFace(std::string_view model_type);

// "a", "b", "c": for errors.
std::string KnownGguf();
std::string KnownHuggingFace();

}  // namespace tandem::model
