#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "kernels/cpu/sampler.h"
#include "kernels/reference/sample.h"
#include "kernels/rng.h"
#include "tests/kernels/kernel_test_support.h"

namespace tandem::kernels {
namespace {

using testing::Random;

SampledToken Draw(std::span<const float> logits, const SamplingParams& params) {
  cpu::Sampler sampler(static_cast<int>(logits.size()));
  return sampler.Sample(logits, params);
}

TEST(Philox, KnownAnswers) {  // kat_vectors of Random123, philox4x32 with 10 rounds
  EXPECT_EQ(Philox4x32({0, 0, 0, 0}, {0, 0}),
            (PhiloxCounter{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(Philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
            (PhiloxCounter{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (PhiloxCounter{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(UniformDraw, DependsOnEachPartOfItsKey) {
  const double base = UniformDraw(1, 2, 3);
  EXPECT_EQ(base, UniformDraw(1, 2, 3));
  EXPECT_NE(base, UniformDraw(2, 2, 3));
  EXPECT_NE(base, UniformDraw(uint64_t{1} << 32 | 1, 2, 3));
  EXPECT_NE(base, UniformDraw(1, 3, 3));
  EXPECT_NE(base, UniformDraw(1, 2, 4));
  double sum = 0;
  for (int i = 0; i < 10000; ++i) {
    const double u = UniformDraw(9, 0, i);
    ASSERT_TRUE(u > 0 && u < 1);
    sum += u;
  }
  EXPECT_NEAR(sum / 10000, 0.5, 0.01);
}

TEST(Sampler, GreedyTiesGoToTheLowestId) {
  EXPECT_EQ(Draw(std::vector<float>{1, 3, 3, 2, 3}, {}).token, 1);
  EXPECT_EQ(Draw(std::vector<float>{-0.0f, 0.0f}, {}).token, 0);
  EXPECT_EQ(Draw(std::vector<float>(7, -1e30f), {}).token, 0);
}

TEST(Sampler, NanCountsAsMinusInfinity) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(Draw(std::vector<float>{nan, 1, nan, 2, nan}, {}).token, 3);
  SamplingParams params{.temperature = 1};
  for (uint64_t i = 0; i < 50; ++i) {
    params.position = i;
    const int32_t token = Draw(std::vector<float>{nan, 1, nan, 2, nan}, params).token;
    EXPECT_TRUE(token == 1 || token == 3) << token;
  }
  EXPECT_EQ(Draw(std::vector<float>(4, nan), {.temperature = 1}).token, 0);
}

TEST(Sampler, TopKOneIsGreedy) {
  Random random(1);
  for (int i = 0; i < 100; ++i) {
    const std::vector<float> logits = random.Normals(1000);
    SamplingParams params{.temperature = 2, .top_k = 1, .seed = static_cast<uint64_t>(i)};
    EXPECT_EQ(Draw(logits, params).token, Draw(logits, {}).token);
  }
}

TEST(Sampler, AgreesWithReferenceForEveryTruncation) {
  Random random(2);
  for (int i = 0; i < 600; ++i) {
    std::vector<float> logits = random.Normals(random.Int(1, 3000));
    for (float& v : logits) v *= static_cast<float>(i % 7);
    if (i % 3 == 0) {  // many ties
      for (float& v : logits) v = std::round(v);
    }
    SamplingParams params;
    params.temperature = 0.3f + 0.1f * static_cast<float>(i % 20);
    params.top_k = i % 2 == 0 ? 0 : random.Int(1, 200);
    params.top_p = i % 4 < 2 ? 1.0f : 0.01f * static_cast<float>(random.Int(1, 99));
    params.min_p = i % 5 == 0 ? 0.05f : 0;
    params.seed = 5;
    params.position = i;
    params.num_logprobs = random.Int(0, kMaxTopLogprobs);
    const SampledToken got = Draw(logits, params), want = SampleReference(logits, params);
    ASSERT_EQ(got.token, want.token) << "case " << i;
    ASSERT_NEAR(got.logprob, want.logprob, 1e-5) << "case " << i;
    ASSERT_EQ(got.num_top, want.num_top);
    for (int j = 0; j < want.num_top; ++j) {
      ASSERT_EQ(got.top_ids[j], want.top_ids[j]) << "case " << i << ", top " << j;
      ASSERT_NEAR(got.top_logprobs[j], want.top_logprobs[j], 1e-5);
    }
  }
}

TEST(Sampler, TopPKeepsTheFewestWhoseMassReachesIt) {
  const std::vector<float> logits = {std::log(0.1f), std::log(0.5f), std::log(0.3f),
                                     std::log(0.1f)};
  std::vector<int> seen(4);
  for (int i = 0; i < 2000; ++i) {
    SamplingParams params{.temperature = 1, .top_p = 0.75f, .position = static_cast<uint64_t>(i)};
    ++seen[Draw(logits, params).token];
  }
  EXPECT_EQ(seen[0], 0);
  EXPECT_EQ(seen[3], 0);
  EXPECT_NEAR(seen[1] / 2000.0, 0.625, 0.04);
}

TEST(Sampler, DrawsFollowTheDistribution) {
  Random random(3);
  const int vocab = 50, draws = 20000;
  const std::vector<float> logits = random.Normals(vocab);
  std::vector<double> p(vocab), seen(vocab);
  double sum = 0;
  for (int i = 0; i < vocab; ++i) sum += p[i] = std::exp(logits[i] / 0.8);
  for (int i = 0; i < draws; ++i) {
    SamplingParams params{.temperature = 0.8f, .seed = 42, .position = static_cast<uint64_t>(i)};
    ++seen[Draw(logits, params).token];
  }
  double chi_square = 0;
  for (int i = 0; i < vocab; ++i) {
    const double expected = draws * p[i] / sum;
    chi_square += (seen[i] - expected) * (seen[i] - expected) / expected;
  }
  EXPECT_LT(chi_square, 85.4);  // 49 degrees of freedom, p = 0.001
}

TEST(Sampler, SameKeySameTokenWhateverCameBefore) {
  Random random(4);
  const std::vector<float> logits = random.Normals(5000), other = random.Normals(5000);
  cpu::Sampler used(5000);
  for (uint64_t i = 0; i < 20; ++i) {
    const SamplingParams params{
        .temperature = 1, .top_p = 0.9f, .seed = i, .sequence_index = 1, .position = 100 + i};
    used.Sample(other, params);
    EXPECT_EQ(used.Sample(logits, params).token, Draw(logits, params).token);
  }
}

TEST(Sampler, ForcedTokenCarriesTheModelsLogprob) {
  const std::vector<float> logits = {0, std::log(3.0f)};
  const SampledToken got = Draw(logits, {.num_logprobs = 1, .forced_token = 0});
  EXPECT_EQ(got.token, 0);
  EXPECT_NEAR(got.logprob, std::log(0.25), 1e-6);
  EXPECT_EQ(got.top_ids[0], 1);
}

}  // namespace
}  // namespace tandem::kernels
