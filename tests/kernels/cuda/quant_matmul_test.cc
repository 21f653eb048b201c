// Products with quantized weights against the values that the file means, in double, and against
// themselves: a row has the same bits in any company.
#include <gtest/gtest.h>

#include <cmath>

#include "kernels/cuda/quant_weight.h"
#include "kernels/dequantize.h"
#include "tests/kernels/cuda/device_test_support.h"
#include "tests/kernels/kernel_test_support.h"

namespace tandem::kernels::cuda::testing {
namespace {

using kernels::testing::FileMatrix;
using kernels::testing::Random;

constexpr WeightType kQuantTypes[] = {WeightType::kQ4_0, WeightType::kQ4_1, WeightType::kQ8_0};

int64_t RowsOf(const std::vector<MatrixSlice>& slices) {
  int64_t rows = 0;
  for (const MatrixSlice& slice : slices) rows += slice.rows();
  return rows;
}

std::vector<uint8_t> Packed(const std::vector<MatrixSlice>& slices) {
  const int64_t rows = RowsOf(slices);
  std::vector<uint8_t> packed(QuantPackedBytes(slices[0].type, rows, slices[0].cols()));
  PackQuantRows(slices, 0, rows, packed.data());
  return packed;
}

// [N, K] as the file means it.
std::vector<std::vector<float>> Dequantized(const std::vector<MatrixSlice>& slices) {
  std::vector<std::vector<float>> rows;
  for (const MatrixSlice& slice : slices) {
    for (int64_t r = slice.row_begin; r < slice.row_end; ++r) {
      rows.emplace_back(slice.cols());
      DequantizeRow(slice, r, rows.back());
    }
  }
  return rows;
}

struct Expected {
  std::vector<float> values, sizes;  // [T, N]; sizes: sums of |x w|, what float32 sums err by
};
Expected Multiply(const std::vector<float>& x, const std::vector<MatrixSlice>& slices,
                  const std::vector<float>& bias) {
  Expected out;
  const auto weight = Dequantized(slices);
  const size_t cols = weight[0].size();
  for (size_t t = 0; t < x.size() / cols; ++t) {
    for (size_t n = 0; n < weight.size(); ++n) {
      double sum = bias.empty() ? 0 : bias[n], size = std::fabs(sum);
      for (size_t k = 0; k < cols; ++k) {
        const double product = double{x[t * cols + k]} * weight[n][k];
        sum += product;
        size += std::fabs(product);
      }
      out.values.push_back(static_cast<float>(sum));
      out.sizes.push_back(static_cast<float>(size));
    }
  }
  return out;
}

// The bits of the result; float32 if `float_out`.
std::vector<uint32_t> Product(ActivationType type, const std::vector<float>& x, int64_t tokens,
                              const std::vector<MatrixSlice>& slices,
                              const std::vector<float>& bias, bool float_out) {
  const Stream stream;
  const int64_t rows = RowsOf(slices), cols = slices[0].cols();
  const DeviceArray<uint8_t> packed(stream, Packed(slices));
  const DeviceMatrix input(stream, type, tokens, cols, x, 8);
  const QuantWeight weight = {packed.data(), slices[0].type, rows, cols};
  std::vector<uint32_t> bits;
  if (float_out) {
    const int64_t stride = rows + 3;
    const DeviceArray<float> out(stream, tokens * stride, -1.0f);
    QuantMatMulF32(out.data(), stride, input.view(), weight, stream);
    const std::vector<float> all = out.Read();
    for (int64_t i = 0; i < tokens * stride; ++i) {
      if (i % stride < rows) {
        bits.push_back(__builtin_bit_cast(uint32_t, all[i]));
      } else {
        EXPECT_EQ(all[i], -1.0f) << "past the end of row " << i / stride;
      }
    }
  } else {
    const DeviceArray<float> offsets(stream, bias);
    const DeviceMatrix out(stream, type, tokens, rows, (8 - rows % 8) % 8 + 8);
    QuantMatMul(out.view(), input.view(), weight, offsets.data(), stream);
    for (uint16_t value : out.ReadBits()) bits.push_back(value);
  }
  return bits;
}

void ExpectReference(ActivationType type, int64_t tokens, const std::vector<MatrixSlice>& slices) {
  const int64_t rows = RowsOf(slices), cols = slices[0].cols();
  SCOPED_TRACE(::testing::Message() << kernels::testing::TypeName(slices[0].type) << " " << tokens
                                    << " x " << rows << " x " << cols);
  Random random(5);
  const std::vector<float> x = Rounded(type, random.Normals(tokens * cols));
  const std::vector<float> bias = random.Normals(rows);
  for (const bool float_out : {false, true}) {
    const Expected expected = Multiply(x, slices, float_out ? std::vector<float>() : bias);
    const auto bits = Product(type, x, tokens, slices, bias, float_out);
    ASSERT_EQ(bits.size(), expected.values.size());
    for (size_t i = 0; i < bits.size(); ++i) {
      const float actual = float_out ? __builtin_bit_cast(float, bits[i])
                                     : FromActivation(type, static_cast<uint16_t>(bits[i]));
      const float rounding = float_out ? 0 : Epsilon(type) / 2 * std::fabs(expected.values[i]);
      ASSERT_NEAR(actual, expected.values[i], 1e-6f * expected.sizes[i] + rounding * 1.01f) << i;
    }
  }
}

TEST(CudaQuantMatMul, EqualsWhatTheFileMeans) {
  struct {
    int64_t tokens, rows, cols;
  } constexpr kShapes[] = {{1, 16, 32},  {1, 17, 64},   {2, 100, 96},  {8, 33, 544},
                           {9, 64, 256}, {31, 48, 160}, {33, 16, 512}, {65, 50, 1120}};
  for (ActivationType type : kTypes) {
    for (WeightType weight : kQuantTypes) {
      for (const auto& shape : kShapes) {
        Random random(1);
        const FileMatrix file(weight, shape.rows, shape.cols, random);
        ExpectReference(type, shape.tokens, {file.Slice()});
      }
    }
  }
}

TEST(CudaQuantMatMul, SlicesStandBelowEachOther) {
  Random random(2);
  for (WeightType weight : kQuantTypes) {
    const FileMatrix a(weight, 60, 256, random), b(weight, 40, 192, random);
    ExpectReference(ActivationType::kBf16, 3,
                    {a.Slice(7, 30, 64, 160), b.Slice(0, 21, 96, 192), a.Slice(30, 60, 0, 96)});
  }
}

TEST(CudaQuantMatMul, ARowHasTheSameBitsInAnyCompany) {
  constexpr int64_t kTokens = 70, kRows = 48, kCols = 608;
  Random random(3);
  for (ActivationType type : kTypes) {
    for (WeightType weight : kQuantTypes) {
      const FileMatrix file(weight, kRows, kCols, random);
      const std::vector<float> x = Rounded(type, random.Normals(kTokens * kCols));
      const auto all = Product(type, x, kTokens, {file.Slice()}, {}, true);
      for (const auto& [begin, end] :
           std::vector<std::pair<int64_t, int64_t>>{{0, 1}, {69, 70}, {3, 11}, {5, 21}, {30, 69}}) {
        const auto part = Product(type, {x.begin() + begin * kCols, x.begin() + end * kCols},
                                  end - begin, {file.Slice()}, {}, true);
        EXPECT_TRUE(std::equal(part.begin(), part.end(), all.begin() + begin * kRows))
            << "[" << begin << ", " << end << ")";
      }
    }
  }
}

TEST(CudaQuantMatMul, NaNAndInfinityStayInTheirRow) {
  constexpr int64_t kTokens = 3, kRows = 16, kCols = 96;
  Random random(4);
  for (WeightType weight : kQuantTypes) {
    const FileMatrix file(weight, kRows, kCols, random);
    std::vector<float> x = Rounded(ActivationType::kBf16, random.Normals(kTokens * kCols));
    x[kCols + 40] = std::nanf("");
    x[2 * kCols + 95] = INFINITY;
    const auto bits = Product(ActivationType::kBf16, x, kTokens, {file.Slice()}, {}, true);
    for (int64_t i = 0; i < kTokens * kRows; ++i) {
      const float value = __builtin_bit_cast(float, bits[i]);
      EXPECT_EQ(std::isfinite(value), i < kRows) << i;
      EXPECT_TRUE(i / kRows != 1 || std::isnan(value)) << i;
    }
  }
}

TEST(CudaQuantMatMul, NoTokens) {
  Random random(6);
  const FileMatrix file(WeightType::kQ4_0, 16, 32, random);
  EXPECT_TRUE(Product(ActivationType::kBf16, {}, 0, {file.Slice()}, {}, false).empty());
}

TEST(CudaQuantWeight, PiecesAreTheWhole) {
  Random random(7);
  for (WeightType weight : kQuantTypes) {
    const FileMatrix a(weight, 50, 160, random), b(weight, 30, 160, random);
    const std::vector<MatrixSlice> slices = {a.Slice(1, 42, 0, 160), b.Slice()};
    const std::vector<uint8_t> whole = Packed(slices);
    std::vector<uint8_t> pieces;
    for (const auto& [begin, end] :
         std::vector<std::pair<int64_t, int64_t>>{{0, 16}, {16, 64}, {64, 71}}) {
      ASSERT_EQ(static_cast<int64_t>(pieces.size()), QuantPackedBytes(weight, begin, 160));
      std::vector<uint8_t> piece(QuantPackedBytes(weight, end - begin, 160));
      PackQuantRows(slices, begin, end, piece.data());
      pieces.insert(pieces.end(), piece.begin(), piece.end());
    }
    EXPECT_EQ(pieces, whole);
  }
}

// Small, for ThreadSanitizer: a kernel of each number of token tiles; sums of all warps meet twice.
TEST(CudaQuantMatMulSmall, OneProductOfEachKind) {
  Random random(8);
  for (const auto& [weight, tokens] :
       {std::pair(WeightType::kQ4_1, 1), {WeightType::kQ8_0, 9}, {WeightType::kQ4_0, 33}}) {
    const FileMatrix file(weight, 32, 512, random);
    ExpectReference(ActivationType::kBf16, tokens, {file.Slice()});
  }
}

}  // namespace
}  // namespace tandem::kernels::cuda::testing
