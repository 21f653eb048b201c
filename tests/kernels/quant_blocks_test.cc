// ggml's quantized types: elements as the gguf package reads them (tests/golden/README.md), and
// products of types that are packed into other types' panels.
#include "kernels/quant_blocks.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <map>

#include "kernels/dequantize.h"
#include "tests/kernels/kernel_test_support.h"

namespace tandem::kernels {
namespace {

using testing::FileMatrix;
using testing::Random;

constexpr WeightType kAll[] = {WeightType::kQ4_0, WeightType::kQ4_1, WeightType::kQ8_0,
                               WeightType::kQ5_0, WeightType::kQ5_1, WeightType::kIq4Nl,
                               WeightType::kQ2K,  WeightType::kQ3K,  WeightType::kQ4K,
                               WeightType::kQ5K,  WeightType::kQ6K};

std::vector<uint8_t> FromHex(const std::string& hex) {
  std::vector<uint8_t> bytes;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) {
    bytes.push_back(static_cast<uint8_t>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  }
  return bytes;
}

TEST(QuantBlocks, AreReadAsTheGgufPackageReadsThem) {
  std::map<std::string, WeightType> types;
  for (const WeightType type : kAll) types[testing::TypeName(type)] = type;
  std::ifstream file("tests/golden/data/quant_blocks.txt");
  std::string name, blocks, values;
  size_t compared = 0;
  for (; file >> name >> blocks >> values; ++compared) {
    ASSERT_TRUE(types.contains(name)) << name;
    const std::vector<uint8_t> data = FromHex(blocks), want = FromHex(values);
    const MatrixSlice row = {types[name], data.data(), 512, 0, 1, 0, 512};
    ASSERT_EQ(static_cast<int64_t>(data.size()), RowBytes(row)) << name;
    std::vector<float> got(512);
    DequantizeRow(row, 0, got);
    ASSERT_EQ(want.size(), got.size() * sizeof(float));
    EXPECT_EQ(std::memcmp(got.data(), want.data(), want.size()), 0) << name;
    // Any 32 of them.
    MatrixSlice part = row;
    part.col_begin = 288;
    part.col_end = 320;
    std::vector<float> some(32);
    DequantizeRow(part, 0, some);
    EXPECT_EQ(std::memcmp(some.data(), &got[288], sizeof(float) * 32), 0) << name;
  }
  EXPECT_EQ(compared, std::size(kAll));
}

// |a - b| / |b|, by Euclid.
double Distance(const std::vector<float>& a, const std::vector<float>& b) {
  double off = 0, all = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    off += (double{a[i]} - b[i]) * (double{a[i]} - b[i]);
    all += double{b[i]} * b[i];
  }
  return std::sqrt(off / all);
}

std::vector<float> Products(InstructionSet set, ActivationType activations, const FileMatrix& m,
                            const std::vector<float>& x) {
  OpsOptions options;
  options.activations = activations;
  options.max_cols = 1024;
  const auto ops = testing::OpsFor(set, options);
  // Without the first 32 columns and the last 64: a shard's part of a block of 256.
  const MatrixSlice slice = m.Slice(0, m.rows, 32, m.cols - 64);
  const auto weight = ops->Pack({&slice, 1});
  std::vector<float> in = x;
  const int64_t rows = static_cast<int64_t>(x.size()) / slice.cols();
  std::vector<float> out(static_cast<size_t>(rows * m.rows));
  ops->MatMul({out.data(), rows, m.rows}, {in.data(), rows, slice.cols()}, *weight, {});
  return out;
}

TEST(QuantBlocks, ProductsAreAsFarOffAsDocumented) {
  const std::map<WeightType, double> rounded = {{WeightType::kQ4K, 1e-3}, {WeightType::kQ5_1, 6e-3},
                                                {WeightType::kQ2K, 6e-3}, {WeightType::kQ3K, 6e-3},
                                                {WeightType::kQ5K, 6e-3}, {WeightType::kQ6K, 6e-3}};
  for (const WeightType type : kAll) {
    Random random(3);
    const FileMatrix matrix(type, 40, 768, random);
    const std::vector<float> x = random.Normals(3 * (768 - 96));
    for (const ActivationType activations : {ActivationType::kInt8, ActivationType::kF32}) {
      const auto want = Products(InstructionSet::kReference, activations, matrix, x);
      const bool int8 = activations == ActivationType::kInt8;
      const double limit = int8 && rounded.contains(type) ? rounded.at(type) : 1e-5;
      for (const InstructionSet set : testing::FastSets()) {
        const double distance = Distance(Products(set, activations, matrix, x), want);
        EXPECT_LT(distance, limit) << testing::TypeName(type) << (int8 ? " int8" : " f32");
        RecordProperty(testing::TypeName(type) + (int8 ? "_int8" : "_f32"),
                       std::to_string(distance));
      }
    }
  }
}

}  // namespace
}  // namespace tandem::kernels
