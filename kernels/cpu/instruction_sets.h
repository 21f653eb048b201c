// Which of the CPU's instruction sets there are kernels for, found at run time.
#pragma once

#include <span>

#include "common/status.h"
#include "kernels/cpu/kernel_table.h"
#include "kernels/ops.h"

namespace tandem::kernels::cpu {

struct Variant {
  InstructionSet set;
  const char* name;  // as in the cluster file, and what Ops::name() says
  bool (*supported)();
  KernelTable (*kernels)();
};

// The fastest first.
std::span<const Variant> Variants();

// The variant of a set, or the first supported one for kAuto. kInvalidArgument, with what there is,
// where this CPU lacks it. REQUIRES: not kReference.
StatusOr<const Variant*> FindVariant(InstructionSet set);

}  // namespace tandem::kernels::cpu
