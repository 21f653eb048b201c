#include "kernels/make_ops.h"

#include "kernels/cpu/cpu_ops.h"
#include "kernels/reference/reference_ops.h"

namespace tandem::kernels {

StatusOr<std::unique_ptr<Ops>> MakeOps(const OpsOptions& options) {
  if (options.instruction_set == InstructionSet::kReference) return MakeReferenceOps(options);
  return MakeCpuOps(options);
}

}  // namespace tandem::kernels
