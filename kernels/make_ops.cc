#include "kernels/make_ops.h"

#include <string>

#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/instruction_sets.h"
#include "kernels/reference/reference_ops.h"

namespace tandem::kernels {

StatusOr<InstructionSet> ParseInstructionSet(std::string_view name) {
  if (name == "auto") return InstructionSet::kAuto;
  if (name == "reference") return InstructionSet::kReference;
  std::string known = "auto, ";
  for (const cpu::Variant& variant : cpu::Variants()) {
    if (name == variant.name) return variant.set;
    known += std::string(variant.name) + ", ";
  }
  return InvalidArgument("instruction set \"{}\" is not known; known: {}reference", name, known);
}

StatusOr<std::unique_ptr<Ops>> MakeOps(const OpsOptions& options) {
  if (options.instruction_set == InstructionSet::kReference) return MakeReferenceOps(options);
  return MakeCpuOps(options);
}

}  // namespace tandem::kernels
