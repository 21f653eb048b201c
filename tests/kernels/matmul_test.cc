#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>

#include "tests/kernels/kernel_test_support.h"

namespace tandem::kernels {
namespace {

using testing::FastSets;
using testing::FileMatrix;
using testing::OpsFor;
using testing::Random;
using testing::SameBits;

constexpr WeightType kTypes[] = {WeightType::kF32,  WeightType::kF16,  WeightType::kBf16,
                                 WeightType::kQ4_0, WeightType::kQ4_1, WeightType::kQ8_0};

using Case = std::tuple<InstructionSet, ActivationType, WeightType>;

class MatMulTest : public ::testing::TestWithParam<Case> {
 protected:
  InstructionSet set() const { return std::get<0>(GetParam()); }
  WeightType type() const { return std::get<2>(GetParam()); }
  OpsOptions Options(int threads = 1) const {
    OpsOptions options;
    options.threads = threads;
    options.activations = std::get<1>(GetParam());
    options.max_tokens = 320;
    options.max_cols = 2048;
    return options;
  }
  std::unique_ptr<Ops> Fast(int threads = 1) const { return OpsFor(set(), Options(threads)); }
  std::unique_ptr<Ops> Reference() const { return OpsFor(InstructionSet::kReference, Options()); }
};

std::vector<float> Product(Ops& ops, const Weight& weight, std::vector<float> x, int64_t rows) {
  std::vector<float> out(rows * weight.rows(), -1);
  ops.MatMul({out.data(), rows, weight.rows()}, {x.data(), rows, weight.cols()}, weight, {});
  return out;
}

std::vector<float> GateUp(Ops& ops, const Weight& weight, std::vector<float> x, int64_t rows,
                          Activation activation = Activation::kSilu) {
  std::vector<float> out(rows * weight.rows() / 2, -1);
  ops.GateUp({out.data(), rows, weight.rows() / 2}, {x.data(), rows, weight.cols()}, weight,
             activation);
  return out;
}

// The same input to both: products of equally rounded activations differ only by float32 rounding,
// which grows with the sum of |terms|: here the norm of the whole row.
void ExpectClose(const std::vector<float>& got, const std::vector<float>& want, int64_t rows) {
  ASSERT_EQ(got.size(), want.size());
  const int64_t cols = static_cast<int64_t>(want.size()) / rows;
  for (int64_t t = 0; t < rows; ++t) {
    double norm = 0;
    for (int64_t n = 0; n < cols; ++n) norm += want[t * cols + n] * want[t * cols + n];
    const double limit = 1e-5 * std::sqrt(norm / static_cast<double>(cols)) + 1e-6;
    for (int64_t n = 0; n < cols; ++n) {
      ASSERT_NEAR(got[t * cols + n], want[t * cols + n], limit) << "row " << t << ", column " << n;
    }
  }
}

TEST_P(MatMulTest, AgreesWithReferenceOnOddShapes) {
  Random random(1);
  const auto fast = Fast(), reference = Reference();
  for (const auto [m, n, k] : {std::array<int64_t, 3>{1, 1, 32},
                               {2, 17, 64},
                               {3, 15, 96},
                               {5, 33, 288},
                               {7, 100, 576},
                               {9, 48, 544},
                               {33, 31, 1536},
                               {64, 81, 1568},
                               {130, 19, 160}}) {
    SCOPED_TRACE(::testing::Message() << m << " x " << n << " x " << k);
    const FileMatrix matrix(type(), n, k, random);
    const MatrixSlice slice = matrix.Slice();
    const std::vector<float> x = random.Normals(m * k);
    const auto a = fast->Pack({&slice, 1}), b = reference->Pack({&slice, 1});
    ExpectClose(Product(*fast, *a, x, m), Product(*reference, *b, x, m), m);
  }
}

TEST_P(MatMulTest, BiasIsAddedToEveryRow) {
  Random random(11);
  const auto fast = Fast(2), reference = Reference();
  for (const auto [m, n] : {std::array<int64_t, 2>{1, 1}, {6, 16}, {9, 47}}) {
    const FileMatrix first(type(), n, 96, random), second(WeightType::kF32, 21, 96, random);
    const MatrixSlice slices[] = {first.Slice(), second.Slice()};
    const auto a = fast->Pack(slices), b = reference->Pack(slices);
    std::vector<float> x = random.Normals(m * 96), got(m * (n + 21)), want = got;
    const std::vector<float> bias = random.Normals(n + 21);
    fast->MatMul({got.data(), m, n + 21}, {x.data(), m, 96}, *a, bias);
    reference->MatMul({want.data(), m, n + 21}, {x.data(), m, 96}, *b, bias);
    ExpectClose(got, want, m);
    std::vector<float> sum = Product(*fast, *a, x, m);
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += bias[i % bias.size()];
    EXPECT_EQ(got, sum);
  }
}

TEST_P(MatMulTest, EveryRowIsBitwiseItsProductAlone) {
  Random random(2);
  const auto fast = Fast();
  const int64_t n = 40, k = 608, most = 300;
  const FileMatrix matrix(type(), n, k, random);
  const MatrixSlice slice = matrix.Slice();
  const auto weight = fast->Pack({&slice, 1});
  const std::vector<float> x = random.Normals(most * k);
  std::vector<float> alone;
  for (int64_t t = 0; t < most; ++t) {
    const auto row = Product(*fast, *weight, {&x[t * k], &x[t * k] + k}, 1);
    alone.insert(alone.end(), row.begin(), row.end());
  }
  for (int64_t m = 1; m <= most; m += m < 40 ? 1 : 13) {
    const auto batch = Product(*fast, *weight, {x.begin(), x.begin() + m * k}, m);
    ASSERT_TRUE(SameBits(batch.data(), alone.data(), m * n)) << m << " rows";
  }
}

TEST_P(MatMulTest, ThreadsDoNotChangeABit) {
  Random random(3);
  const auto one = Fast();
  // Numbers of panels and of pairs whose ranges differ in how many parts they have, too.
  for (const auto [n, ffn] : {std::array<int64_t, 2>{250, 96}, {304, 176}, {464, 256}}) {
    const FileMatrix matrix(type(), n, 96, random);
    const FileMatrix gate(type(), ffn, 96, random), up(type(), ffn, 96, random);
    const MatrixSlice slice = matrix.Slice();
    for (const int64_t m : {1, 5, 9, 70}) {
      SCOPED_TRACE(::testing::Message() << m << " x " << n);
      const std::vector<float> x = random.Normals(m * 96);
      const auto want = Product(*one, *one->Pack({&slice, 1}), x, m);
      const auto want_gated = GateUp(*one, *one->PackGateUp(gate.Slice(), up.Slice()), x, m);
      for (const int threads : {2, 3}) {
        const auto many = Fast(threads);
        EXPECT_EQ(Product(*many, *many->Pack({&slice, 1}), x, m), want) << threads;
        EXPECT_EQ(GateUp(*many, *many->PackGateUp(gate.Slice(), up.Slice()), x, m), want_gated)
            << threads;
      }
    }
  }
}

TEST_P(MatMulTest, GateUpAgreesWithReferenceAndWithItself) {
  Random random(4);
  const auto fast = Fast(), reference = Reference();
  const FileMatrix gate(type(), 48, 160, random), up(type(), 48, 160, random);
  const auto a = fast->PackGateUp(gate.Slice(), up.Slice());
  const auto b = reference->PackGateUp(gate.Slice(), up.Slice());
  std::vector<float> x = random.Normals(41 * 160);
  for (float& v : x) v *= 0.1f;
  const auto all = GateUp(*fast, *a, x, 41);
  ExpectClose(all, GateUp(*reference, *b, x, 41), 41);
  ExpectClose(GateUp(*fast, *a, x, 41, Activation::kGeluTanh),
              GateUp(*reference, *b, x, 41, Activation::kGeluTanh), 41);
  for (int64_t t = 0; t < 41; ++t) {
    const auto row = GateUp(*fast, *a, {&x[t * 160], &x[t * 160] + 160}, 1);
    ASSERT_TRUE(SameBits(row.data(), &all[t * 48], 48)) << t;
  }
}

TEST_P(MatMulTest, ShardsAreSlicesOfTheWhole) {
  Random random(5);
  const auto fast = Fast(), reference = Reference();
  const FileMatrix matrix(type(), 90, 256, random), other(type(), 70, 256, random);
  // Rows of two matrices make one weight; columns 64 to 192 are a row-parallel shard.
  const MatrixSlice slices[] = {matrix.Slice(10, 51, 64, 192), other.Slice(3, 8, 64, 192),
                                other.Slice(40, 70, 64, 192)};
  const std::vector<float> x = random.Normals(6 * 128);
  const auto packed = fast->Pack(slices);
  EXPECT_EQ(packed->rows(), 41 + 5 + 30);
  EXPECT_EQ(packed->cols(), 128);
  ExpectClose(Product(*fast, *packed, x, 6), Product(*reference, *reference->Pack(slices), x, 6),
              6);
}

TEST_P(MatMulTest, MixedTypesStackInOneWeight) {
  Random random(6);
  const auto fast = Fast(), reference = Reference();
  const FileMatrix first(type(), 20, 96, random), second(WeightType::kQ8_0, 9, 96, random),
      third(WeightType::kF32, 18, 96, random);
  const MatrixSlice slices[] = {first.Slice(), second.Slice(), third.Slice()};
  const std::vector<float> x = random.Normals(11 * 96);
  ExpectClose(Product(*fast, *fast->Pack(slices), x, 11),
              Product(*reference, *reference->Pack(slices), x, 11), 11);
}

TEST_P(MatMulTest, StridedViewsTouchOnlyTheirColumns) {
  Random random(7);
  const auto fast = Fast();
  const FileMatrix matrix(type(), 21, 64, random);
  const MatrixSlice slice = matrix.Slice();
  const auto weight = fast->Pack({&slice, 1});
  std::vector<float> wide = random.Normals(10 * 80), out(10 * 32, 7), x;
  for (int t = 0; t < 10; ++t) x.insert(x.end(), &wide[t * 80 + 8], &wide[t * 80 + 72]);
  fast->MatMul({out.data() + 4, 10, 21, 32}, {wide.data() + 8, 10, 64, 80}, *weight, {});
  const auto want = Product(*fast, *weight, x, 10);
  for (int t = 0; t < 10; ++t) {
    EXPECT_TRUE(SameBits(&out[t * 32 + 4], &want[t * 21], 21)) << t;
    for (int c : {0, 1, 2, 3, 25, 26, 31}) EXPECT_EQ(out[t * 32 + c], 7) << t << " " << c;
  }
}

TEST_P(MatMulTest, NonFiniteInputsSpoilTheirRowOnly) {
  Random random(8);
  const auto fast = Fast();
  const FileMatrix matrix(type(), 33, 96, random);
  const MatrixSlice slice = matrix.Slice();
  const auto weight = fast->Pack({&slice, 1});
  std::vector<float> x = random.Normals(12 * 96);
  const std::vector<float> clean = Product(*fast, *weight, x, 12);
  x[3 * 96 + 40] = std::numeric_limits<float>::quiet_NaN();
  x[7 * 96 + 5] = -std::numeric_limits<float>::infinity();
  const std::vector<float> dirty = Product(*fast, *weight, x, 12);
  for (int t = 0; t < 12; ++t) {
    for (int n = 0; n < 33; ++n) {
      const float value = dirty[t * 33 + n];
      if (t == 3 || t == 7) {
        EXPECT_FALSE(std::isfinite(value)) << t << " " << n;
      } else {
        EXPECT_EQ(value, clean[t * 33 + n]) << t << " " << n;
      }
    }
  }
}

TEST_P(MatMulTest, ExtremeInputsStayExactEnough) {
  Random random(9);
  const auto fast = Fast(), reference = Reference();
  const FileMatrix matrix(type(), 16, 64, random);
  const MatrixSlice slice = matrix.Slice();
  const auto a = fast->Pack({&slice, 1}), b = reference->Pack({&slice, 1});
  for (float scale : {0.0f, 1e-38f, 1e-20f, 1e20f}) {
    std::vector<float> x = random.Normals(64);
    for (float& v : x) v *= scale;
    const auto got = Product(*fast, *a, x, 1), want = Product(*reference, *b, x, 1);
    for (int n = 0; n < 16; ++n) EXPECT_NEAR(got[n], want[n], 1e-4 * scale + 1e-30) << scale;
  }
}

std::string CaseName(const ::testing::TestParamInfo<Case>& info) {
  return testing::SetName(std::get<0>(info.param)) +
         (std::get<1>(info.param) == ActivationType::kInt8   ? "Int8"
          : std::get<1>(info.param) == ActivationType::kBf16 ? "Bf16"
                                                             : "F32") +
         "With" + testing::TypeName(std::get<2>(info.param));
}
INSTANTIATE_TEST_SUITE_P(Sets, MatMulTest,
                         ::testing::Combine(::testing::ValuesIn(FastSets()),
                                            ::testing::Values(ActivationType::kInt8,
                                                              ActivationType::kBf16,
                                                              ActivationType::kF32),
                                            ::testing::ValuesIn(kTypes)),
                         CaseName);

TEST(MatMul, InstructionSetsAgreeBitwiseOnInt8) {
  const auto sets = FastSets();
  if (sets.empty()) GTEST_SKIP() << "no AVX2";
  Random random(10);
  for (WeightType type : {WeightType::kQ4_0, WeightType::kQ4_1, WeightType::kQ8_0}) {
    const FileMatrix matrix(type, 50, 672, random);
    const MatrixSlice slice = matrix.Slice();
    const std::vector<float> x = random.Normals(70 * 672);
    const auto first = OpsFor(sets[0]);
    const std::vector<float> want = Product(*first, *first->Pack({&slice, 1}), x, 70);
    for (size_t i = 1; i < sets.size(); ++i) {
      const auto other = OpsFor(sets[i]);
      EXPECT_EQ(Product(*other, *other->Pack({&slice, 1}), x, 70), want)
          << testing::SetName(sets[i]);
    }
  }
}

TEST(MakeOps, NamesWhatItChose) {
  EXPECT_STREQ(OpsFor(InstructionSet::kReference)->name(), "reference");
  const auto sets = CpuInstructionSets();
  if (sets.empty()) GTEST_SKIP() << "no AVX2";
  EXPECT_STREQ(OpsFor(InstructionSet::kAvx2)->name(), "avx2");
  EXPECT_STREQ(OpsFor(InstructionSet::kAuto)->name(), OpsFor(sets[0])->name());
}

}  // namespace
}  // namespace tandem::kernels
