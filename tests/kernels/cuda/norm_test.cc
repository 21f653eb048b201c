// RMSNorm in its three forms against the reference, over odd shapes.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "kernels/reference/reference_ops.h"
#include "tests/kernels/cuda/device_test_support.h"
#include "tests/kernels/kernel_test_support.h"

namespace tandem::kernels::cuda::testing {
namespace {

using kernels::testing::Random;

constexpr float kEps = 1e-5f;

struct Shape {
  int64_t rows, cols;
};
// One pack, less than a warp of them, a prime number, whole warps, one more, a thread with two.
constexpr Shape kShapes[] = {{1, 8},   {3, 64},   {2, 8 * 37}, {5, 256},
                             {1, 264}, {2, 2048}, {1, 8200},   {0, 64}};

struct Inputs {
  Inputs(const Shape& shape, ActivationType type, uint32_t seed) {
    Random random(seed);
    x = random.Normals(shape.rows * shape.cols);
    residual = Rounded(type, random.Normals(shape.rows * shape.cols));
    weight = random.Normals(shape.cols);
  }
  std::vector<float> x, residual, weight;
};

// x += residual where there is one, then the norm of x.
std::vector<float> Reference(const Shape& shape, std::vector<float>& x,
                             const std::vector<float>& residual, const std::vector<float>& weight) {
  std::vector<float> out(x.size()), added = residual;
  if (added.empty()) added.resize(x.size());
  MakeReferenceOps({})->AddRmsNorm({out.data(), shape.rows, shape.cols},
                                   {x.data(), shape.rows, shape.cols},
                                   {added.data(), shape.rows, shape.cols}, weight, kEps, nullptr);
  return out;
}

TEST(CudaRmsNorm, EqualsTheReference) {
  const Stream stream;
  for (ActivationType type : kTypes) {
    for (const Shape& shape : kShapes) {
      SCOPED_TRACE(TypeName(type) + " " + std::to_string(shape.cols));
      Inputs in(shape, type, 1);
      const DeviceArray<float> x(stream, in.x), weight(stream, in.weight);
      const DeviceMatrix out(stream, type, shape.rows, shape.cols, 8);
      RmsNorm(out.view(), x.data(), weight.data(), kEps, stream);
      ExpectNear(out.Read(), Reference(shape, in.x, {}, in.weight), Epsilon(type), 1e-6f);
    }
  }
}

TEST(CudaAddRmsNorm, EqualsTheReference) {
  const Stream stream;
  for (ActivationType type : kTypes) {
    for (const Shape& shape : kShapes) {
      SCOPED_TRACE(TypeName(type) + " " + std::to_string(shape.cols));
      Inputs in(shape, type, 2);
      const DeviceArray<float> x(stream, in.x), weight(stream, in.weight);
      const DeviceMatrix residual(stream, type, shape.rows, shape.cols, in.residual, 16);
      const DeviceMatrix out(stream, type, shape.rows, shape.cols);
      AddRmsNorm(out.view(), x.data(), residual.view(), weight.data(), kEps, stream);
      const std::vector<float> expected = Reference(shape, in.x, in.residual, in.weight);
      ExpectNear(out.Read(), expected, Epsilon(type), 1e-6f);
      EXPECT_EQ(x.Read(), in.x);  // the sum in float32, exactly
    }
  }
}

TEST(CudaAddRmsNormRows, TakesTheRowsAsked) {
  const Stream stream;
  for (ActivationType type : kTypes) {
    const Shape shape{5, 8 * 33};
    Inputs in(shape, type, 3);
    const std::vector<int32_t> rows = {4, -1, 0, 4};
    const DeviceArray<float> x(stream, in.x), weight(stream, in.weight);
    const DeviceArray<int32_t> device_rows(stream, rows);
    const DeviceMatrix residual(stream, type, shape.rows, shape.cols, in.residual);
    const DeviceMatrix out(stream, type, static_cast<int64_t>(rows.size()), shape.cols, 8);
    AddRmsNormRows(out.view(), x.data(), residual.view(), device_rows.data(), weight.data(), kEps,
                   stream);
    EXPECT_EQ(x.Read(), in.x);
    std::vector<float> sum = in.x, expected;
    const std::vector<float> all = Reference(shape, sum, in.residual, in.weight);
    for (int32_t row : rows) {
      for (int64_t c = 0; c < shape.cols; ++c) {
        expected.push_back(row < 0 ? 0 : all[row * shape.cols + c]);
      }
    }
    ExpectNear(out.Read(), expected, Epsilon(type), 1e-6f);
  }
}

TEST(CudaRmsNorm, NanAndInfinityStayInTheirRow) {
  const Stream stream;
  const Shape shape{3, 40};
  Inputs in(shape, ActivationType::kBf16, 4);
  in.x[7] = std::numeric_limits<float>::quiet_NaN();
  in.x[40 + 3] = std::numeric_limits<float>::infinity();
  const DeviceArray<float> x(stream, in.x), weight(stream, in.weight);
  const DeviceMatrix out(stream, ActivationType::kBf16, shape.rows, shape.cols);
  RmsNorm(out.view(), x.data(), weight.data(), kEps, stream);
  const std::vector<float> expected = Reference(shape, in.x, {}, in.weight);
  ExpectNear(out.Read(), expected, Epsilon(ActivationType::kBf16), 1e-6f);
}

// A row's bits are the same alone and among others.
TEST(CudaRmsNorm, RowsDoNotDependOnOthers) {
  const Stream stream;
  const Shape shape{7, 1048};
  Inputs in(shape, ActivationType::kF16, 5);
  const DeviceArray<float> x(stream, in.x), weight(stream, in.weight);
  const DeviceMatrix all(stream, ActivationType::kF16, shape.rows, shape.cols);
  const DeviceMatrix one(stream, ActivationType::kF16, 1, shape.cols);
  RmsNorm(all.view(), x.data(), weight.data(), kEps, stream);
  RmsNorm(one.view(), x.data() + 6 * shape.cols, weight.data(), kEps, stream);
  const std::vector<uint16_t> bits = all.ReadBits();
  EXPECT_EQ(one.ReadBits(), std::vector<uint16_t>(bits.begin() + 6 * shape.cols, bits.end()));
}

}  // namespace
}  // namespace tandem::kernels::cuda::testing
