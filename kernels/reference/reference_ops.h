// The oracle: every op as plain loops, sums in double, nothing packed. Obvious before fast; single
// threaded. With int8 activations it rounds them exactly as the fast ops do.
#pragma once

#include <memory>

#include "kernels/ops.h"

namespace tandem::kernels {

std::unique_ptr<Ops> MakeReferenceOps(const OpsOptions& options);

}  // namespace tandem::kernels
