#include "worker/model/families.h"

#include <fmt/format.h>

namespace tandem::model {
namespace {

using kernels::RopePairs;

constexpr Family kFamilies[] = {
    {.name = "llama", .huggingface = "llama", .bias = QkvBias::kOptional},
    {.name = "llama",
     .gguf = "llama",
     .gguf_pairs = RopePairs::kAdjacent,
     .bias = QkvBias::kOptional,
     .windows = Windows::kAll,
     .experts = true,
     .rope_freqs = true},
    {.name = "mistral", .huggingface = "mistral", .windows = Windows::kAll},
    {.name = "mixtral",
     .huggingface = "mixtral",
     .windows = Windows::kAll,
     .experts = true,
     .normalizes_experts = true},
    {.name = "smollm3",
     .gguf = "smollm3",
     .huggingface = "smollm3",
     .gguf_pairs = RopePairs::kAdjacent,
     .bias = QkvBias::kOptional,
     .windows = Windows::kLast,
     .nope_interval = 4,
     .tied = true},
    {.name = "qwen2",
     .gguf = "qwen2",
     .huggingface = "qwen2",
     .bias = QkvBias::kAlways,
     .windows = Windows::kLast},
    {.name = "qwen3",
     .gguf = "qwen3",
     .huggingface = "qwen3",
     .bias = QkvBias::kOptional,
     .qk_norm = true,
     .windows = Windows::kLast},
    {.name = "qwen3moe",
     .gguf = "qwen3moe",
     .huggingface = "qwen3_moe",
     .bias = QkvBias::kOptional,
     .qk_norm = true,
     .windows = Windows::kLast,
     .experts = true},
    {.name = "gemma2",
     .gguf = "gemma2",
     .huggingface = "gemma2",
     .windows = Windows::kMost,
     .window_period = 2,
     .post_norms = true,
     .gelu = true,
     .attention_softcap = true,
     .scaled_embeddings = true,
     .norms_less_one = true,
     .tied = true},
    {.name = "gemma3",
     .gguf = "gemma3",
     .huggingface = "gemma3_text",
     .qk_norm = true,
     .windows = Windows::kMost,
     .window_period = 6,
     .local_theta = 10000,
     .post_norms = true,
     .gelu = true,
     .scaled_embeddings = true,
     .norms_less_one = true,
     .tied = true},
    {.name = "granite",
     .gguf = "granite",
     .huggingface = "granite",
     .gguf_pairs = RopePairs::kAdjacent,
     .bias = QkvBias::kOptional,
     .multipliers = true},
    {.name = "phi3",
     .gguf = "phi3",
     .huggingface = "phi3",
     .windows = Windows::kAll,
     .long_rope = true,
     .fused = true},
};

template <const char* Family::*kName>
const Family* Find(std::string_view name) {
  for (const Family& family : kFamilies) {
    if (family.*kName != nullptr && name == family.*kName) return &family;
  }
  return nullptr;
}

template <const char* Family::*kName>
std::string Known() {
  std::string known;
  for (const Family& family : kFamilies) {
    if (family.*kName == nullptr) continue;
    known += fmt::format("{}\"{}\"", known.empty() ? "" : ", ", family.*kName);
  }
  return known;
}

}  // namespace

const Family* FamilyOfGguf(std::string_view architecture) {
  return Find<&Family::gguf>(architecture);
}
const Family* FamilyOfHuggingFace(std::string_view model_type) {
  return Find<&Family::huggingface>(model_type);
}
std::string KnownGguf() { return Known<&Family::gguf>(); }
std::string KnownHuggingFace() { return Known<&Family::huggingface>(); }

}  // namespace tandem::model
