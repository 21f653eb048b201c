// The GPU for ModelRunner::Load, in programs that are linked with the CUDA libraries.
#pragma once

#include "worker/model/model_runner.h"

namespace tandem::model::cuda {

const DeviceBackend& Backend();

}  // namespace tandem::model::cuda
