// Ops on this machine's CPU, with the instruction set chosen at run time.
#pragma once

#include <memory>
#include <vector>

#include "common/status.h"
#include "kernels/ops.h"

namespace tandem::kernels {

// Those of this CPU that there are kernels for, the fastest first.
std::vector<InstructionSet> CpuInstructionSets();

// kInvalidArgument: the CPU lacks what options.instruction_set asks for, or all of them.
// REQUIRES: options.instruction_set is not kReference.
StatusOr<std::unique_ptr<Ops>> MakeCpuOps(const OpsOptions& options);

}  // namespace tandem::kernels
