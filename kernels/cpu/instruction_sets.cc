#include "kernels/cpu/instruction_sets.h"

#include <cpuid.h>

#include <string>

namespace tandem::kernels::cpu {
namespace {

// __builtin_cpu_supports of clang 14 and g++ 12 do not know all of these by name.
struct Leaf {
  unsigned a = 0, b = 0, c = 0, d = 0;
};

Leaf ReadLeaf(unsigned leaf, unsigned part) {
  Leaf out;
  if (__get_cpuid_count(leaf, part, &out.a, &out.b, &out.c, &out.d) == 0) return {};
  return out;
}

bool HasF16c() { return (ReadLeaf(1, 0).c >> 29 & 1) != 0; }
bool HasAvxVnniBit() { return (ReadLeaf(7, 1).a >> 4 & 1) != 0; }
bool HasAvx512Bf16Bit() { return (ReadLeaf(7, 1).a >> 5 & 1) != 0; }

bool HasAvx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && HasF16c();
}

bool HasAvx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512vnni") && HasAvx2();
}

// Intel's AMX (tiles of 16 rows x 64 bytes, TDPBUSD and TDPBF16PS) would come first here: for it
// panels need blocks of 64 columns by 16 rows, which PanelFormat's steps of 4 columns already are.
constexpr Variant kVariants[] = {
    {InstructionSet::kAvx512Bf16, "avx512_bf16", [] { return HasAvx512() && HasAvx512Bf16Bit(); },
     Avx512Bf16Kernels},
    {InstructionSet::kAvx512, "avx512", HasAvx512, Avx512Kernels},
    {InstructionSet::kAvxVnni, "avx_vnni", [] { return HasAvx2() && HasAvxVnniBit(); },
     AvxVnniKernels},
    {InstructionSet::kAvx2, "avx2", HasAvx2, Avx2Kernels},
};

}  // namespace

std::span<const Variant> Variants() { return kVariants; }

StatusOr<const Variant*> FindVariant(InstructionSet set) {
  std::string found;
  const char* wanted = "one of them";
  for (const Variant& variant : kVariants) {
    const bool supported = variant.supported();
    if (supported && (set == InstructionSet::kAuto || set == variant.set)) return &variant;
    if (set == variant.set) wanted = variant.name;
    if (supported) found += std::string(found.empty() ? "" : ", ") + variant.name;
  }
  return InvalidArgument(
      "instruction set {}: this CPU has {} of those there are kernels for; choose another, or "
      "\"reference\" (slow)",
      wanted, found.empty() ? "none" : found);
}

}  // namespace tandem::kernels::cpu
