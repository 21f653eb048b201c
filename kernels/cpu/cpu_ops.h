// Ops on this machine's CPU, with the instruction set chosen at run time: AVX-512 with VNNI, or
// AVX2 with FMA and F16C.
#pragma once

#include <memory>

#include "common/status.h"
#include "kernels/ops.h"

namespace tandem::kernels {

bool CpuHasAvx512();  // F, BW, DQ, VL and VNNI
bool CpuHasAvx2();    // AVX2, FMA and F16C

// kInvalidArgument: the CPU lacks what options.instruction_set asks for, or any of the two.
// REQUIRES: options.instruction_set is not kReference.
StatusOr<std::unique_ptr<Ops>> MakeCpuOps(const OpsOptions& options);

}  // namespace tandem::kernels
