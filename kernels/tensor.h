// Views and element types that every op speaks. A view owns nothing and checks nothing; ops check
// shapes. On a CPU device `data` is an ordinary pointer.
#pragma once

#include <cstdint>

namespace tandem::kernels {

// Element types of weights as they lie in a model file, by ggml's meaning (kernels may not include
// the file reader). Quantized types store blocks of 32 consecutive elements of a row:
//   kQ4_0   f16 d, 16 bytes of nibbles:           w = d * (q - 8)
//   kQ4_1   f16 d, f16 m, 16 bytes of nibbles:    w = d * q + m
//   kQ8_0   f16 d, 32 int8:                       w = d * q
//   kQ5_0   f16 d, 32 bits, 16 bytes of nibbles:  w = d * (q - 16), q of five bits
//   kQ5_1   f16 d, f16 m, 32 bits, ...:           w = d * q + m
//   kIq4Nl  f16 d, 16 bytes of nibbles:           w = d * one of 16 signed bytes
// Nibbles: the low half of byte i is element i, the high half element 16 + i. Or blocks of 256,
// with a scale (and a minimum) of few bits for every 16 or 32: kQ2K to kQ6K, see quant_blocks.h.
enum class WeightType : uint8_t {
  kF32,
  kF16,
  kBf16,
  kQ4_0,
  kQ4_1,
  kQ8_0,
  kQ5_0,
  kQ5_1,
  kIq4Nl,
  kQ2K,
  kQ3K,
  kQ4K,
  kQ5K,
  kQ6K,
};

// Elements a block and bytes a block; 1 element for the float types.
constexpr int BlockElements(WeightType type) {
  return type <= WeightType::kBf16 ? 1 : type < WeightType::kQ2K ? 32 : 256;
}
// A part of a matrix begins and ends at multiples of this: quantized types are read 32 at a time.
constexpr int ColumnUnit(WeightType type) { return BlockElements(type) == 1 ? 1 : 32; }
constexpr int BlockBytes(WeightType type) {
  switch (type) {
    case WeightType::kF32:
      return 4;
    case WeightType::kF16:
    case WeightType::kBf16:
      return 2;
    case WeightType::kQ4_0:
      return 18;
    case WeightType::kQ4_1:
      return 20;
    case WeightType::kQ8_0:
      return 34;
    case WeightType::kQ5_0:
      return 22;
    case WeightType::kQ5_1:
      return 24;
    case WeightType::kIq4Nl:
      return 18;
    case WeightType::kQ2K:
      return 84;
    case WeightType::kQ3K:
      return 110;
    case WeightType::kQ4K:
      return 144;
    case WeightType::kQ5K:
      return 176;
    case WeightType::kQ6K:
      return 210;
  }
  return 0;
}

// A float32 activation matrix; rows may be further apart than they are long, so that the q, k and v
// parts of one fused output are views too. A vector is a matrix of one row.
struct TensorView {
  float* data = nullptr;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t stride = 0;  // elements from one row to the next, >= cols

  TensorView() = default;
  TensorView(float* d, int64_t r, int64_t c) : data(d), rows(r), cols(c), stride(c) {}
  TensorView(float* d, int64_t r, int64_t c, int64_t s) : data(d), rows(r), cols(c), stride(s) {}

  float* row(int64_t i) const { return data + i * stride; }
  TensorView Rows(int64_t begin, int64_t end) const {
    return {row(begin), end - begin, cols, stride};
  }
  TensorView Cols(int64_t begin, int64_t end) const {
    return {data + begin, rows, end - begin, stride};
  }
};

}  // namespace tandem::kernels
