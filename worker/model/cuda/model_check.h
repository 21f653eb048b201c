// Which models the kernels here compute.
#pragma once

#include "common/status.h"
#include "worker/model/model_source.h"

namespace tandem::model::cuda {

// kUnimplemented: names what of the model, or which tensor, is not supported on a GPU.
Status CheckModel(const ModelSource& source);

}  // namespace tandem::model::cuda
