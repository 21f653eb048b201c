#include <array>

#include "common/check.h"
#include "common/gguf/gguf_file.h"

namespace tandem::gguf {
namespace {

struct TypeInfo {
  const char* name;
  int block_elements;  // 0: not supported
  int block_bytes;
};

// Index: ggml's number. What blocks hold: kernels/tensor.h.
constexpr std::array<TypeInfo, 40> kTypes = {{
    {"F32", 1, 4},        {"F16", 1, 2},        {"Q4_0", 32, 18},     {"Q4_1", 32, 20},
    {"Q4_2", 0, 0},       {"Q4_3", 0, 0},       {"Q5_0", 32, 22},     {"Q5_1", 32, 24},
    {"Q8_0", 32, 34},     {"Q8_1", 0, 0},       {"Q2_K", 256, 84},    {"Q3_K", 256, 110},
    {"Q4_K", 256, 144},   {"Q5_K", 256, 176},   {"Q6_K", 256, 210},   {"Q8_K", 0, 0},
    {"IQ2_XXS", 0, 0},    {"IQ2_XS", 0, 0},     {"IQ3_XXS", 0, 0},    {"IQ1_S", 0, 0},
    {"IQ4_NL", 32, 18},   {"IQ3_S", 0, 0},      {"IQ2_S", 0, 0},      {"IQ4_XS", 0, 0},
    {"I8", 0, 0},         {"I16", 0, 0},        {"I32", 0, 0},        {"I64", 0, 0},
    {"F64", 0, 0},        {"IQ1_M", 0, 0},      {"BF16", 1, 2},       {"Q4_0_4_4", 0, 0},
    {"Q4_0_4_8", 0, 0},   {"Q4_0_8_8", 0, 0},   {"TQ1_0", 0, 0},      {"TQ2_0", 0, 0},
    {"IQ4_NL_4_4", 0, 0}, {"IQ4_NL_4_8", 0, 0}, {"IQ4_NL_8_8", 0, 0}, {"MXFP4", 0, 0},
}};

const TypeInfo& Info(TensorType type) {
  static constexpr TypeInfo kUnknown = {"unknown", 0, 0};
  const auto index = static_cast<uint32_t>(type);
  return index < kTypes.size() ? kTypes[index] : kUnknown;
}

}  // namespace

const char* TypeName(TensorType type) { return Info(type).name; }

bool IsSupported(TensorType type) { return Info(type).block_elements > 0; }

std::string SupportedTypes() {
  std::string names;
  for (const TypeInfo& info : kTypes) {
    if (info.block_elements > 0) names += (names.empty() ? "" : ", ") + std::string(info.name);
  }
  return names;
}

int BlockElements(TensorType type) {
  TANDEM_CHECK(IsSupported(type)) << TypeName(type);
  return Info(type).block_elements;
}

int BlockBytes(TensorType type) {
  TANDEM_CHECK(IsSupported(type)) << TypeName(type);
  return Info(type).block_bytes;
}

}  // namespace tandem::gguf
