// The tensors of a model by what they are for, wherever they lie: a GGUF file's names are the
// names, and what a file holds fused (QKV, gate and up, experts) is several tensors here. Filled
// when a model is opened, then checked as a whole against the shape (CheckModelTensors), so that
// the loader can take what it finds for granted.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>

#include "common/status.h"
#include "kernels/ops.h"
#include "worker/model/model_config.h"

namespace tandem::model {

struct ModelTensor {
  kernels::MatrixSlice slice;  // borrows from the file; a vector is one row
  float plus = 0;              // of a vector: what its values lack (norms that are stored less 1)
  std::string source;          // the file's name of it, for errors
  std::string type_name;       // the file's word for its type
};

using ModelTensors = std::map<std::string, ModelTensor>;

// GGUF's names. `kind` as in "attn_q": blk.3.attn_q.weight, blk.3.attn_q.bias; of expert 5
// blk.3.ffn_up.5.weight.
std::string LayerTensorName(int layer, const char* kind);
std::string LayerBiasName(int layer, const char* kind);
std::string ExpertTensorName(int layer, const char* kind, int expert);

struct TensorPart {
  std::string name;
  int64_t rows;
};

// Enters `whole` under `name`; or, if there are parts, each of them: its rows, one part below the
// other. `file`: for errors.
Status AddTensor(const std::string& name, const ModelTensor& whole,
                 std::span<const TensorPart> parts, const std::string& file, ModelTensors& tensors);

// Every tensor that the shape calls for must be there, of its shape and of types that are
// supported, and no other: one that is left unread would change what the model computes. `name`:
// of the file, for errors.
Status CheckModelTensors(const ModelConfig& config, const ModelTensors& tensors,
                         const std::string& name);

}  // namespace tandem::model
