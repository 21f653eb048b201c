// Embedding rows and SiLU, over odd shapes.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "kernels/dequantize.h"
#include "tests/kernels/cuda/device_test_support.h"
#include "tests/kernels/kernel_test_support.h"

namespace tandem::kernels::cuda::testing {
namespace {

using kernels::testing::FileMatrix;
using kernels::testing::Random;

constexpr WeightType kWeightTypes[] = {WeightType::kF32, WeightType::kF16, WeightType::kQ4_0,
                                       WeightType::kQ4_1, WeightType::kQ8_0};

// Tokens of two sequences, one of them as it was sampled last, and padding.
TEST(CudaEmbed, TakesRowsAsTheFileHasThem) {
  const Stream stream;
  Random random(1);
  const std::vector<int32_t> tokens = {6, -1, 0, 6, 3}, row_sequence = {0, 1, 1, 1, -1},
                             slots = {2, 1}, last_sampled = {-1, 5, -1},
                             expected_tokens = {6, 5, 0, 6, -1};
  const DeviceArray<int32_t> device_tokens(stream, tokens), device_rows(stream, row_sequence),
      device_slots(stream, slots), device_sampled(stream, last_sampled);
  Batch batch;
  batch.num_tokens = static_cast<int32_t>(tokens.size());
  batch.num_seqs = 2;
  batch.tokens = device_tokens.data();
  batch.row_sequence = device_rows.data();
  batch.slots = device_slots.data();
  batch.last_sampled = device_sampled.data();
  for (WeightType type : kWeightTypes) {
    for (int64_t cols : {32, 96, 1056}) {
      SCOPED_TRACE(kernels::testing::TypeName(type) + " " + std::to_string(cols));
      const FileMatrix table(type, 7, cols, random);
      const DeviceArray<uint8_t> device_table(stream, table.data);
      const DeviceArray<float> x(stream, tokens.size() * cols, NAN);
      const float scale = cols == 96 ? 0.7f : 1;
      Embed(x.data(), {device_table.data(), type, table.rows, cols, scale}, batch, stream);
      std::vector<float> expected(tokens.size() * cols);
      for (size_t t = 0; t < tokens.size(); ++t) {
        if (expected_tokens[t] < 0) continue;
        DequantizeRow(table.Slice(), expected_tokens[t],
                      {&expected[t * cols], static_cast<size_t>(cols)});
      }
      for (float& value : expected) value *= scale;
      EXPECT_EQ(x.Read(), expected);
    }
  }
}

// For penalties: each token where its KV goes.
TEST(CudaEmbed, NotesTokensInTheirBlocks) {
  const Stream stream;
  const std::vector<int32_t> tokens = {6, 2, -1, 3}, row_sequence = {1, 1, 0, -1},
                             positions = {3, 4, 6, -100000000}, slots = {1, 0},
                             last_sampled = {-1, 5}, table = {0, 3, 2, 1};
  const DeviceArray<int32_t> device_tokens(stream, tokens), device_rows(stream, row_sequence),
      device_positions(stream, positions), device_slots(stream, slots),
      device_sampled(stream, last_sampled), device_table(stream, table),
      first_block(stream, {0, 2}), block_tokens(stream, 16, -7);
  Batch batch;
  batch.num_tokens = 4;
  batch.num_seqs = 2;
  batch.tokens = device_tokens.data();
  batch.row_sequence = device_rows.data();
  batch.positions = device_positions.data();
  batch.slots = device_slots.data();
  batch.last_sampled = device_sampled.data();
  batch.block_table = device_table.data();
  batch.first_block = first_block.data();
  batch.block_tokens = block_tokens.data();
  batch.block_size = 4;
  const DeviceArray<float> embeddings(stream, std::vector<float>(7 * 2056, 1));
  const DeviceArray<float> x(stream, 4 * 2056, 0);
  Embed(x.data(), {embeddings.data(), WeightType::kF32, 7, 2056}, batch, stream);
  std::vector<int32_t> expected(16, -7);
  expected[4 * 2 + 3] = 6;
  expected[4 * 1 + 0] = 2;
  expected[4 * 3 + 2] = 5;
  EXPECT_EQ(block_tokens.Read(), expected);
}

TEST(CudaEmbed, NoRowsIsNothing) {
  const Stream stream;
  Embed(nullptr, {nullptr, WeightType::kQ8_0, 7, 64}, Batch(), stream);
  stream.Sync();
}

TEST(CudaSiluMul, EqualsThePlainLoop) {
  const Stream stream;
  struct Shape {
    int64_t rows, cols;
  };
  for (ActivationType type : kTypes) {
    for (const Shape& shape : {Shape{1, 8}, {3, 56}, {2, 1024}, {5, 1032}, {1, 2056}, {0, 8}}) {
      SCOPED_TRACE(TypeName(type) + " " + std::to_string(shape.cols));
      Random random(2);
      const int64_t count = shape.rows * shape.cols;
      std::vector<float> gate = random.Normals(count), up = random.Normals(count), expected(count);
      for (float& value : gate) value *= 8;
      constexpr float kInfinity = std::numeric_limits<float>::infinity();
      const float special[] = {NAN, kInfinity, -kInfinity, 0, -0.0f, -200, 200};
      for (int64_t i = 0; i < count && i < 7; ++i) gate[i] = special[i];
      gate = Rounded(type, gate);
      up = Rounded(type, up);
      for (int64_t i = 0; i < count; ++i) {
        const double g = gate[i];
        expected[i] = Rounded(type, static_cast<float>(g / (1 + std::exp(-g)) * up[i]));
      }
      const DeviceMatrix device_gate(stream, type, shape.rows, shape.cols, gate, 8);
      const DeviceMatrix device_up(stream, type, shape.rows, shape.cols, up, 24);
      const DeviceMatrix out(stream, type, shape.rows, shape.cols, 16);
      SiluMul(out.view(), device_gate.view(), device_up.view(), stream);
      ExpectNear(out.Read(), expected, Epsilon(type), 1e-7f);
    }
  }
}

// gate and up as the halves of one product.
TEST(CudaSiluMul, TakesViewsOfOneMatrix) {
  const Stream stream;
  Random random(3);
  const auto type = ActivationType::kBf16;
  const std::vector<float> both = Rounded(type, random.Normals(3 * 128));
  const DeviceMatrix device_both(stream, type, 3, 128, both);
  const DeviceMatrix out(stream, type, 3, 64);
  SiluMul(out.view(), device_both.view().Cols(0, 64), device_both.view().Cols(64, 128), stream);
  std::vector<float> expected;
  for (int64_t i = 0; i < 3 * 64; ++i) {
    const double g = both[i / 64 * 128 + i % 64];
    expected.push_back(
        static_cast<float>(g / (1 + std::exp(-g)) * both[i / 64 * 128 + 64 + i % 64]));
  }
  ExpectNear(out.Read(), expected, Epsilon(type), 1e-7f);
}

}  // namespace
}  // namespace tandem::kernels::cuda::testing
