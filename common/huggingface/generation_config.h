// What the authors of a model would have it sample with: generation_config.json of its folder.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "common/status.h"

namespace tandem::huggingface {

// Absent: the file does not say, or there is none.
struct GenerationConfig {
  std::optional<float> temperature;         // [0, 2]
  std::optional<float> top_p;               // (0, 1]
  std::optional<float> min_p;               // [0, 1)
  std::optional<int32_t> top_k;             // 0: off
  std::optional<float> repetition_penalty;  // [0.01, 100]
  std::optional<int32_t> max_new_tokens;    // 1 or more
};

// kInvalidArgument: not JSON, or a value that no request could have.
StatusOr<GenerationConfig> ReadGenerationConfig(const std::string& folder);

}  // namespace tandem::huggingface
