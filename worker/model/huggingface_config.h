// What a Hugging Face folder says of its model: config.json becomes a ModelConfig, the tensors
// ModelTensors. Written for what transformers writes, its version 5 (rope_parameters, layer_types)
// and those before (rope_theta, rope_scaling). Keys that would change the result and are not
// computed here are refused by name.
#pragma once

#include "common/huggingface/model_folder.h"
#include "common/status.h"
#include "worker/model/model_config.h"
#include "worker/model/model_tensors.h"

namespace tandem::model {

// kUnimplemented: a model that cannot be run here, with what it has that is not supported.
// kInvalidArgument: a broken config, with the key.
StatusOr<ModelConfig> ReadHuggingFaceConfig(const huggingface::ModelFolder& folder);

// Saved as a model without a head, as models of embeddings are: tensors' names do not begin with
// "model.", and there is no output matrix. (One whose names do, and that lacks it, is broken.)
bool IsWithoutHead(const huggingface::ModelFolder& folder);

// All tensors of the folder; they borrow from it. REQUIRES: `config` was read from `folder`.
StatusOr<ModelTensors> ReadHuggingFaceTensors(const huggingface::ModelFolder& folder,
                                              const ModelConfig& config);

}  // namespace tandem::model
