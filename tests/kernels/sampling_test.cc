#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/cpu/instruction_sets.h"
#include "kernels/cpu/sampler.h"
#include "kernels/reference/sample.h"
#include "kernels/rng.h"
#include "tests/kernels/kernel_test_support.h"

namespace tandem::kernels {
namespace {

using testing::Random;

cpu::Sampler MakeSampler(size_t vocab) {
  const auto variant = cpu::FindVariant(InstructionSet::kAuto);
  TANDEM_CHECK(variant.ok()) << variant.status().ToString();
  return cpu::Sampler(static_cast<int>(vocab), (*variant)->kernels().sampling);
}

SampledToken Draw(std::span<const float> logits, const SamplingParams& params,
                  const TokenHistory& history = {}) {
  cpu::Sampler sampler = MakeSampler(logits.size());
  return sampler.Sample(logits, params, history);
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
    const SampledToken got = Draw(logits, params), want = SampleReference(logits, params, {});
    ASSERT_EQ(got.token, want.token) << "case " << i;
    ASSERT_NEAR(got.logprob, want.logprob, 1e-5) << "case " << i;
    ASSERT_EQ(got.num_top, want.num_top);
    for (int j = 0; j < want.num_top; ++j) {
      ASSERT_EQ(got.top_ids[j], want.top_ids[j]) << "case " << i << ", top " << j;
      ASSERT_NEAR(got.top_logprobs[j], want.top_logprobs[j], 1e-5);
    }
  }
}

// Tokens in scattered blocks of 4.
class PagedTokens {
 public:
  PagedTokens(const std::vector<int32_t>& tokens, int num_prompt_tokens)
      : blocks_((tokens.size() + 3) / 4), block_tokens_(8 * blocks_.size(), -7) {
    for (size_t b = 0; b < blocks_.size(); ++b) {
      blocks_[b] = static_cast<int32_t>(2 * (blocks_.size() - b) - 1);
    }
    for (size_t i = 0; i < tokens.size(); ++i)
      block_tokens_[blocks_[i / 4] * 4 + i % 4] = tokens[i];
    history_ = {block_tokens_.data(), blocks_.data(), 4, static_cast<int32_t>(tokens.size()),
                num_prompt_tokens};
  }
  const TokenHistory& history() const { return history_; }

 private:
  std::vector<int32_t> blocks_, block_tokens_;
  TokenHistory history_;
};

TEST(Sampler, PenaltiesAreTheirDefinitions) {
  // 0 in the prompt alone, 1 in both, 2 twice in the output, 3 nowhere.
  const PagedTokens tokens({0, 1, 0, 1, 2, 2}, 3);
  const auto greedy = [&](const std::vector<float>& logits, SamplingParams params) {
    return Draw(logits, params, tokens.history()).token;
  };
  const SamplingParams presence{.presence_penalty = 1}, frequency{.frequency_penalty = 1},
      repetition{.repetition_penalty = 2};
  EXPECT_EQ(greedy({2, 2.9f, 2.9f, 1.8f}, presence), 0);   // 2, 1.9, 1.9, 1.8
  EXPECT_EQ(greedy({0, 2.9f, 2.8f, 1.85f}, presence), 1);  // 0, 1.9, 1.8, 1.85
  EXPECT_EQ(greedy({0, 2.8f, 3.7f, 1.6f}, frequency), 1);  // 0, 1.8, 1.7, 1.6
  EXPECT_EQ(greedy({4, 5, 4.5f, 2.4f}, repetition), 1);    // 2, 2.5, 2.25, 2.4
  EXPECT_EQ(greedy({-1, -1, -1, -1.9f}, repetition), 3);   // -2, -2, -2, -1.9
  EXPECT_EQ(greedy({0, 2, 3, -9}, {.presence_penalty = -2}), 2);
  EXPECT_EQ(greedy({3, 2.9f, 3, 3}, {.presence_penalty = -2}), 2);  // 3, 4.9, 5, 3
}

TEST(Sampler, LogprobsAreWithoutPenalties) {
  const PagedTokens tokens({1, 1}, 0);
  const std::vector<float> logits = {0, 2, 1};
  const SampledToken got =
      Draw(logits, {.num_logprobs = 3, .repetition_penalty = 4, .frequency_penalty = 2},
           tokens.history());
  EXPECT_EQ(got.token, 2);
  EXPECT_EQ(got.top_ids[0], 1);
  EXPECT_EQ(got.logprob, Draw(logits, {.num_logprobs = 3, .forced_token = 2}).logprob);
}

TEST(Sampler, BiasesAreAddedBeforePenaltiesAndOnlyUntilTheirPosition) {
  const float never = -std::numeric_limits<float>::infinity();
  const std::vector<TokenBias> biases = {{0, 2}, {0, 1.5f}, {1, never, 10}, {3, -100}};
  SamplingParams params{.position = 9, .biases = biases.data(), .num_biases = 4};
  EXPECT_EQ(Draw(std::vector<float>{1, 9, 4.4f, 9}, params).token, 0);  // 4.5, -inf, 4.4, -91
  EXPECT_EQ(Draw(std::vector<float>{1, 9, 4.6f, 9}, params).token, 2);
  params.position = 10;
  EXPECT_EQ(Draw(std::vector<float>{1, 9, 4.6f, 9}, params).token, 1);
  // Were the penalty first: -1 * 2 + 3.5 = 1.5; but (-1 + 3.5) / 2 = 1.25.
  const PagedTokens tokens({0}, 1);
  params.repetition_penalty = 2;
  EXPECT_EQ(Draw(std::vector<float>{-1, 1, 1.4f, 1}, params, tokens.history()).token, 2);
  params.num_logprobs = 1;
  EXPECT_EQ(Draw(std::vector<float>{-1, 5, 1, 1}, params, tokens.history()).top_ids[0], 1);
}

TEST(Sampler, OnlyTokensOfTheMaskAreDrawn) {
  std::vector<float> logits(70, 0.0f);
  logits[3] = 9;
  logits[64] = 5;
  logits[69] = 4;
  const std::vector<uint32_t> mask = {~(1u << 3), 0, 1u << 5};  // all of 0 to 31 but 3; and 69
  SamplingParams params{.num_logprobs = 2, .mask = mask.data()};
  const SampledToken got = Draw(logits, params);
  EXPECT_EQ(got.token, 69);
  EXPECT_EQ(got.top_ids[0], 3) << "logprobs are the model's";
  const TokenBias bias{69, -4.5f};
  params.biases = &bias;
  params.num_biases = 1;
  EXPECT_EQ(Draw(logits, params).token, 0) << "the lowest of those that are left";
  params.forced_token = 64;
  EXPECT_EQ(Draw(logits, params).token, 64);
}

// Some tokens of every vocabulary, at least one.
std::vector<uint32_t> RandomMask(Random& random, int vocab) {
  std::vector<uint32_t> mask((vocab + 31) / 32);
  const int one_in = random.Int(1, 40);
  for (int id = 0; id < vocab; ++id) {
    if (random.Int(1, one_in) == 1) mask[id / 32] |= 1u << (id % 32);
  }
  const int kept = random.Int(0, vocab - 1);
  mask[kept / 32] |= 1u << (kept % 32);
  return mask;
}

// Some of them of one token twice.
std::vector<TokenBias> RandomBiases(Random& random, int vocab) {
  std::vector<TokenBias> biases(random.Int(0, 60));
  for (TokenBias& b : biases) {
    b.token = random.Int(0, vocab - 1);
    b.bias = random.Int(0, 5) == 0 ? -std::numeric_limits<float>::infinity()
                                   : 0.1f * static_cast<float>(random.Int(-50, 50));
    b.until = random.Int(0, 1) == 0 ? 150 : b.until;
  }
  std::sort(biases.begin(), biases.end(), [](auto& a, auto& b) { return a.token < b.token; });
  return biases;
}

TEST(Sampler, AdjustedDrawsAgreeWithReference) {
  Random random(5);
  cpu::Sampler sampler = MakeSampler(2000);
  for (int i = 0; i < 300; ++i) {
    std::vector<float> logits = random.Normals(random.Int(1, 2000));
    for (float& v : logits) v *= 3;
    std::vector<int32_t> tokens(random.Int(0, 300));
    for (int32_t& token : tokens) {
      token = random.Int(0, std::min(40, static_cast<int>(logits.size()) - 1));
    }
    const PagedTokens paged(tokens, random.Int(0, static_cast<int>(tokens.size()) + 5));
    SamplingParams params;
    params.temperature = i % 3 == 0 ? 0 : 0.8f;
    params.top_k = i % 2 == 0 ? 0 : random.Int(1, 50);
    params.min_p = i % 5 == 0 ? 0.05f : 0;
    params.position = i;
    params.repetition_penalty =
        i % 4 == 0 ? 1 : 0.5f + 0.01f * static_cast<float>(random.Int(0, 200));
    params.presence_penalty = i % 4 == 1 ? 0 : 0.01f * static_cast<float>(random.Int(-200, 200));
    params.frequency_penalty = i % 4 == 2 ? 0 : 0.01f * static_cast<float>(random.Int(-200, 200));
    params.num_logprobs = 5;
    const auto biases = RandomBiases(random, static_cast<int>(logits.size()));
    params.biases = biases.data();
    params.num_biases = i % 7 == 0 ? 0 : static_cast<int32_t>(biases.size());
    const auto mask = RandomMask(random, static_cast<int>(logits.size()));
    if (i % 5 < 2) params.mask = mask.data();
    const SampledToken got = sampler.Sample(logits, params, paged.history());
    const SampledToken want = SampleReference(logits, params, paged.history());
    ASSERT_EQ(got.token, want.token) << "case " << i;
    ASSERT_NEAR(got.logprob, want.logprob, 1e-5) << "case " << i;
    if (params.mask != nullptr && params.num_biases == 0) {
      ASSERT_TRUE(params.allows(got.token)) << "case " << i;
    }
  }
}

// Truncation looks at the likely tokens alone if they have the mass, and at all of them if not.
TEST(Sampler, PeakedAndFlatRowsAgreeWithReference) {
  Random random(6);
  cpu::Sampler sampler = MakeSampler(3000);
  for (int i = 0; i < 200; ++i) {
    std::vector<float> logits = random.Normals(random.Int(1, 3000));
    for (float& v : logits) v *= i % 2 == 0 ? 8.0f : 0.01f;
    if (i % 5 == 0) logits[0] = std::numeric_limits<float>::quiet_NaN();
    SamplingParams params;
    params.temperature = i % 3 == 0 ? 8.0f : 0.7f;
    params.top_p = 0.01f * static_cast<float>(random.Int(1, 100));
    params.top_k = i % 4 == 0 ? random.Int(1, 3000) : 0;
    params.position = static_cast<uint64_t>(i);
    ASSERT_EQ(sampler.Sample(logits, params, {}).token, SampleReference(logits, params, {}).token)
        << "case " << i;
  }
}

TEST(SamplingKernels, GiveTheSameBitsOnEveryInstructionSet) {
  Random random(7);
  const auto best = cpu::FindVariant(InstructionSet::kAuto);
  TANDEM_CHECK(best.ok()) << best.status().ToString();
  const cpu::SamplingKernels a = (*best)->kernels().sampling;
  const cpu::SamplingKernels b = cpu::Avx2Kernels().sampling;
  for (const int count : {1, 15, 64, 255, 256, 257, 1000, 4099}) {
    std::vector<float> x = random.Normals(count);
    if (count > 1) x[static_cast<size_t>(count) / 2] = std::numeric_limits<float>::quiet_NaN();
    const int64_t at = a.arg_max(x.data(), count);
    ASSERT_EQ(at, b.arg_max(x.data(), count));
    const float max = x[static_cast<size_t>(at)];
    const size_t blocks = (count + cpu::kSamplingBlock - 1) / cpu::kSamplingBlock;
    std::vector<float> p(count), q(count);
    a.exp_below(x.data(), count, max, 1.3f, p.data());
    b.exp_below(x.data(), count, max, 1.3f, q.data());
    EXPECT_EQ(p, q);
    EXPECT_EQ(p[static_cast<size_t>(at)], 1);
    std::vector<double> sums(blocks), others(blocks);
    a.sum_blocks(p.data(), count, sums.data());
    b.sum_blocks(p.data(), count, others.data());
    EXPECT_EQ(sums, others);
    std::vector<int16_t> bins(count), same(count);
    a.bin_below(x.data(), count, max, 1.3f, bins.data());
    b.bin_below(x.data(), count, max, 1.3f, same.data());
    EXPECT_EQ(bins, same);
    std::vector<int32_t> ids(count), want(count);
    ids.resize(a.collect_below(bins.data(), count, 40, ids.data()));
    want.resize(b.collect_below(bins.data(), count, 40, want.data()));
    EXPECT_EQ(ids, want);
    EXPECT_EQ(static_cast<int64_t>(ids.size()),
              std::count_if(bins.begin(), bins.end(), [](int16_t bin) { return bin < 40; }));
    EXPECT_EQ(bins[static_cast<size_t>(at)], 0);
    a.zero_below(x.data(), count, 0.5f, p.data());
    b.zero_below(x.data(), count, 0.5f, q.data());
    EXPECT_EQ(p, q);
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
  cpu::Sampler used = MakeSampler(5000);
  for (uint64_t i = 0; i < 20; ++i) {
    const SamplingParams params{
        .temperature = 1, .top_p = 0.9f, .seed = i, .sequence_index = 1, .position = 100 + i};
    used.Sample(other, params, {});
    EXPECT_EQ(used.Sample(logits, params, {}).token, Draw(logits, params).token);
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
