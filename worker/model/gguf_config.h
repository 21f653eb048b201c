// What a GGUF file says of its model: metadata and rope factors become a ModelConfig, the other
// tensors ModelTensors. Anything that is not computed here exactly (another architecture or rope
// scaling, a key that would change the result) is refused by name.
#pragma once

#include "common/gguf/gguf_file.h"
#include "common/status.h"
#include "worker/model/model_config.h"
#include "worker/model/model_tensors.h"

namespace tandem::model {

// kUnimplemented: a model that cannot be run here, with what it has that is not supported.
// kInvalidArgument: a broken file, with the key.
StatusOr<ModelConfig> ReadGgufConfig(const gguf::File& file);

// All tensors of the file but those that the config has taken in. They borrow from it.
// REQUIRES: `config` was read from `file`.
StatusOr<ModelTensors> ReadGgufTensors(const gguf::File& file, const ModelConfig& config);

}  // namespace tandem::model
