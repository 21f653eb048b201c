// Random matrices in file formats, and the instruction sets that this machine can run.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "common/check.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/make_ops.h"

namespace tandem::kernels::testing {

// Every one that this CPU has.
inline std::vector<InstructionSet> FastSets() { return CpuInstructionSets(); }

// Those whose kernels differ in more than the int8 product.
inline std::vector<InstructionSet> FloatSets() {
  std::vector<InstructionSet> sets = FastSets();
  std::erase(sets, InstructionSet::kAvxVnni);
  return sets;
}

inline std::vector<InstructionSet> AllSets() {
  std::vector<InstructionSet> sets = FloatSets();
  sets.push_back(InstructionSet::kReference);
  return sets;
}

inline std::string SetName(InstructionSet set) {
  switch (set) {
    case InstructionSet::kAvx512Bf16:
      return "Avx512Bf16";
    case InstructionSet::kAvx512:
      return "Avx512";
    case InstructionSet::kAvxVnni:
      return "AvxVnni";
    case InstructionSet::kAvx2:
      return "Avx2";
    case InstructionSet::kReference:
      return "Reference";
    case InstructionSet::kAuto:
      break;
  }
  return "Auto";
}

inline std::string TypeName(WeightType type) {
  constexpr const char* kNames[] = {"F32",  "F16",    "BF16", "Q4_0", "Q4_1", "Q8_0", "Q5_0",
                                    "Q5_1", "IQ4_NL", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"};
  return kNames[static_cast<int>(type)];
}

inline std::unique_ptr<Ops> OpsFor(InstructionSet set, OpsOptions options = {}) {
  options.instruction_set = set;
  auto ops = MakeOps(options);
  TANDEM_CHECK(ops.ok()) << ops.status().ToString();
  return std::move(ops).value();
}

class Random {
 public:
  explicit Random(uint32_t seed) : engine_(seed) {}
  int Int(int low, int high) { return std::uniform_int_distribution<int>(low, high)(engine_); }
  float Normal() { return std::normal_distribution<float>()(engine_); }
  std::vector<float> Normals(int64_t count) {
    std::vector<float> values(count);
    for (float& v : values) v = Normal();
    return values;
  }

 private:
  std::mt19937 engine_;
};

// A matrix as a file has it: random scales (halfs with small exponents) and random quants.
struct FileMatrix {
  WeightType type;
  int64_t rows, cols;
  std::vector<uint8_t> data;

  FileMatrix(WeightType t, int64_t r, int64_t c, Random& random) : type(t), rows(r), cols(c) {
    data.resize(rows * cols / BlockElements(type) * BlockBytes(type));
    for (size_t i = 0; i < data.size(); i += BlockBytes(type)) FillBlock(&data[i], random);
  }

  MatrixSlice Slice() const { return Slice(0, rows, 0, cols); }
  MatrixSlice Slice(int64_t row_begin, int64_t row_end, int64_t col_begin, int64_t col_end) const {
    return {type, data.data(), cols, row_begin, row_end, col_begin, col_end};
  }

 private:
  std::vector<int> ScaleOffsets() const {
    switch (type) {
      case WeightType::kQ4_1:
      case WeightType::kQ5_1:
      case WeightType::kQ4K:
      case WeightType::kQ5K:
        return {0, 2};
      case WeightType::kQ2K:
        return {80, 82};
      case WeightType::kQ3K:
        return {108};
      case WeightType::kQ6K:
        return {208};
      default:
        return {0};
    }
  }
  void FillBlock(uint8_t* block, Random& random) const {
    if (type == WeightType::kF32) {
      const float value = random.Normal();
      std::memcpy(block, &value, 4);
      return;
    }
    for (int i = 0; i < BlockBytes(type); ++i) {
      block[i] = static_cast<uint8_t>(random.Int(0, 255));
    }
    for (const int offset : ScaleOffsets()) {
      // 2^-6 ... 2^-3 of either sign; F16 weights too.
      const int exponent = random.Int(9, 12), mantissa = random.Int(0, 1023);
      const auto bits = static_cast<uint16_t>(random.Int(0, 1) << 15 | exponent << 10 | mantissa);
      std::memcpy(block + offset, &bits, 2);
    }
  }
};

// Bitwise, NaN included.
inline bool SameBits(const float* a, const float* b, int64_t count) {
  return std::memcmp(a, b, count * sizeof(float)) == 0;
}

}  // namespace tandem::kernels::testing
