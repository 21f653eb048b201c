#include "kernels/rope_table.h"

#include <gtest/gtest.h>

#include <cmath>

namespace tandem::kernels {
namespace {

RopeSpec Spec(int dims, double theta) {
  return {.dims = dims, .theta = theta, .max_positions = 300};
}

TEST(RopeTable, IsTheDefinitionWithoutScaling) {
  const RopeSpec spec = Spec(20, 1e4);
  const std::vector<float> table = RopeCosSin(spec);
  ASSERT_EQ(table.size(), 300u * 20);
  for (const int p : {0, 1, 299}) {
    for (int i = 0; i < 10; ++i) {
      const double angle = p * std::pow(1e4, -2.0 * i / 20);
      EXPECT_EQ(table[p * 20 + 2 * i], static_cast<float>(std::cos(angle))) << p << " " << i;
      EXPECT_EQ(table[p * 20 + 2 * i + 1], static_cast<float>(std::sin(angle))) << p << " " << i;
    }
  }
}

TEST(RopeTable, LinearScalingAndFactorsDivide) {
  RopeSpec spec = Spec(8, 1e4);
  spec.scaling = {.type = RopeScaling::Type::kLinear, .factor = 4};
  const float factors[] = {1, 2, 8, 1};
  spec.freq_factors = factors;
  const std::vector<double> got = RopeFrequencies(spec);
  for (int i = 0; i < 4; ++i) {
    EXPECT_DOUBLE_EQ(got[i], std::pow(1e4, -i / 4.0) / factors[i] / 4) << i;
  }
}

// Qwen's own numbers (theta 1e6, 32,768 tokens made 131,072), by transformers' formula.
TEST(RopeTable, YarnKeepsFastPairsAndBlends) {
  RopeSpec spec = Spec(128, 1e6);
  spec.scaling = {.type = RopeScaling::Type::kYarn,
                  .factor = 4,
                  .attention_factor = YarnAttentionFactor(4),
                  .original_context = 32768};
  const std::vector<double> got = RopeFrequencies(spec);
  EXPECT_DOUBLE_EQ(got[0], 1);
  EXPECT_DOUBLE_EQ(got[23], 0.006978305848598663);  // the last fast pair
  EXPECT_DOUBLE_EQ(got[24], 0.005375321490790102);  // blended
  EXPECT_DOUBLE_EQ(got[30], 0.0010643609812470017);
  EXPECT_DOUBLE_EQ(got[39], 6.490394320837028e-05);
  EXPECT_DOUBLE_EQ(got[40], 4.445698525097307e-05);  // the first slow pair
  EXPECT_DOUBLE_EQ(got[63], 3.102344401879299e-07);
  EXPECT_DOUBLE_EQ(YarnAttentionFactor(4), 1.138629436111989);
  EXPECT_EQ(YarnAttentionFactor(0.5), 1);
  const std::vector<float> table = RopeCosSin(spec);
  for (const int p : {0, 7}) {
    const float* turn = &table[p * 128 + 60];
    EXPECT_FLOAT_EQ(std::hypot(turn[0], turn[1]), 1.138629436f);
    EXPECT_FLOAT_EQ(std::atan2(turn[1], turn[0]), static_cast<float>(p * got[30]));
  }
}

// A context so short that no pair is fast, and one so long that none is slow.
TEST(RopeTable, YarnsEdges) {
  RopeSpec spec = Spec(32, 1e4);
  spec.scaling = {.type = RopeScaling::Type::kYarn, .factor = 2, .original_context = 1};
  for (int i = 1; i < 16; ++i) {
    EXPECT_DOUBLE_EQ(RopeFrequencies(spec)[i], std::pow(1e4, -2.0 * i / 32) / 2) << i;
  }
  spec.scaling.original_context = 1 << 30;
  for (int i = 0; i < 16; ++i) {
    EXPECT_DOUBLE_EQ(RopeFrequencies(spec)[i], std::pow(1e4, -2.0 * i / 32)) << i;
  }
}

}  // namespace
}  // namespace tandem::kernels
