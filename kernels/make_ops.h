// Makes the Ops of this machine's CPU: kAuto takes the best instruction set it has.
#pragma once

#include <memory>
#include <string_view>

#include "common/status.h"
#include "kernels/ops.h"

namespace tandem::kernels {

// "avx512" or another name of the cluster file. kInvalidArgument, with all of them, for another.
StatusOr<InstructionSet> ParseInstructionSet(std::string_view name);

// kInvalidArgument: the CPU lacks what was asked for (the message says what it has).
StatusOr<std::unique_ptr<Ops>> MakeOps(const OpsOptions& options);

}  // namespace tandem::kernels
