#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <fstream>

#include "kernels/cpu/kernel_table.h"
#include "kernels/dequantize.h"
#include "tests/kernels/kernel_test_support.h"

namespace tandem::kernels {
namespace {

using testing::AllSets;
using testing::FileMatrix;
using testing::OpsFor;
using testing::Random;
using testing::SameBits;

class ElementwiseTest : public ::testing::TestWithParam<InstructionSet> {};

TEST_P(ElementwiseTest, AddRmsNormMatchesItsDefinition) {
  Random random(1);
  const auto ops = OpsFor(GetParam());
  for (int64_t cols : {1, 15, 16, 33, 576, 1000}) {
    const int64_t rows = 20;
    std::vector<float> x = random.Normals(rows * cols), added = x, out(x.size());
    const std::vector<float> weight = random.Normals(cols), residual = random.Normals(rows * cols);
    std::vector<float> r = residual;
    ops->AddRmsNorm({out.data(), rows, cols}, {added.data(), rows, cols}, {r.data(), rows, cols},
                    weight, 1e-5f, nullptr);
    for (int64_t t = 0; t < rows; ++t) {
      double sum = 0;
      for (int64_t i = 0; i < cols; ++i) {
        ASSERT_EQ(added[t * cols + i], x[t * cols + i] + residual[t * cols + i]);
        sum += static_cast<double>(added[t * cols + i]) * added[t * cols + i];
      }
      const double scale = 1 / std::sqrt(sum / static_cast<double>(cols) + 1e-5);
      for (int64_t i = 0; i < cols; ++i) {
        const double want = added[t * cols + i] * scale * weight[i];
        ASSERT_NEAR(out[t * cols + i], want, 1e-6 * (1 + std::fabs(want)));
      }
    }
    // RmsNorm of the sum is the same, in place too, and a row alone has the same bits.
    std::vector<float> again = added;
    ops->RmsNorm({again.data(), rows, cols}, {again.data(), rows, cols}, weight, 1e-5f, nullptr);
    EXPECT_TRUE(SameBits(again.data(), out.data(), rows * cols));
    std::vector<float> last(&added[(rows - 1) * cols], &added[(rows - 1) * cols] + cols);
    ops->RmsNorm({last.data(), 1, cols}, {last.data(), 1, cols}, weight, 1e-5f, nullptr);
    EXPECT_TRUE(SameBits(last.data(), &out[(rows - 1) * cols], cols));
  }
}

// What is rounded in the norm's pass gives the bits of what the product rounds, and only there.
TEST_P(ElementwiseTest, ANormRoundsForTheNextProductAlone) {
  Random random(3);
  const auto ops = OpsFor(GetParam());
  const int64_t rows = 19, cols = 96, n = 48;
  for (WeightType type : {WeightType::kF32, WeightType::kBf16, WeightType::kQ4_1}) {
    const FileMatrix file(type, n, cols, random);
    const MatrixSlice slice = file.Slice();
    const auto weight = ops->Pack({&slice, 1});
    const std::vector<float> norm = random.Normals(cols);
    std::vector<float> x = random.Normals(rows * cols), other = random.Normals(rows * cols);
    std::vector<float> out(x.size()), want(rows * n), got(rows * n);
    const TensorView normed(out.data(), rows, cols), in(x.data(), rows, cols);
    const auto product = [&](TensorView of, int64_t count, std::vector<float>& to) {
      ops->MatMul({to.data(), count, n}, of.Rows(0, count), *weight, {});
    };
    ops->RmsNorm(normed, in, norm, 1e-5f, nullptr);
    product(normed, rows, want);
    ops->RmsNorm(normed, in, norm, 1e-5f, weight.get());
    product(normed, rows, got);
    EXPECT_TRUE(SameBits(got.data(), want.data(), rows * n));
    // The product after that rounds anew.
    std::swap_ranges(out.begin(), out.end(), other.begin());
    product(normed, rows, want);
    ops->RmsNorm({other.data(), rows, cols}, in, norm, 1e-5f, weight.get());
    product(normed, rows, got);
    EXPECT_TRUE(SameBits(got.data(), want.data(), rows * n)) << "of another tensor";
  }
}

// Blocks are rounded by themselves, whatever stands beside them and however many there are.
TEST(Quantize, IsTheSameOnEveryInstructionSetAndByItsDefinition) {
  Random random(6);
  std::vector<cpu::KernelTable> tables = {cpu::Avx2Kernels()};
  const auto sets = testing::FastSets();
  if (std::count(sets.begin(), sets.end(), InstructionSet::kAvx512) > 0) {
    tables.push_back(cpu::Avx512Kernels());
  }
  for (int64_t blocks : {1, 2, 15, 16, 17, 18, 48, 63}) {
    std::vector<float> x = random.Normals(blocks * 32);
    const auto block = [&](int64_t b) { return &x[b % blocks * 32]; };
    // Of few blocks several of these are one, and the last holds.
    for (int i = 0; i < 32; ++i) block(3)[i] *= 1e-31f;
    for (int i = 0; i < 32; ++i) block(4)[i] *= 1e30f;
    std::fill_n(block(6), 32, 0.0f);
    block(9)[31] = INFINITY;
    block(14)[0] = NAN;
    for (const cpu::KernelTable& table : tables) {
      std::vector<cpu::QuantizedBlock> got(blocks + 2);
      std::memset(got.data(), 0x55, got.size() * sizeof got[0]);
      table.quantize(x.data(), blocks * 32, got.data());
      for (int64_t b = 0; b < blocks; ++b) {
        float max = 0;
        bool finite = true;
        for (int i = 0; i < 32; ++i) {
          max = std::max(max, std::fabs(block(b)[i]));
          finite = finite && std::isfinite(block(b)[i]);
        }
        const bool usual = finite && max >= 1e-30f;
        int32_t sum = 0;
        for (int i = 0; i < 32; ++i) {
          const float q = usual ? std::nearbyint(block(b)[i] * (127 / max)) : 0;
          ASSERT_EQ(got[b].q[i], static_cast<int>(q)) << "block " << b << " of " << blocks;
          sum += got[b].q[i];
        }
        ASSERT_EQ(got[b].c8, -8 * sum);
        ASSERT_EQ(got[b].c128, -128 * sum);
        const float d = !finite ? NAN : usual ? max / 127 : 0;
        if (std::isnan(d)) {
          ASSERT_TRUE(std::isnan(got[b].d) && std::isnan(got[b].s));
          continue;
        }
        ASSERT_EQ(got[b].d, d);
        ASSERT_EQ(got[b].s, d * static_cast<float>(sum));
      }
      const cpu::QuantizedBlock zero{};
      if (blocks % 2 != 0) {
        ASSERT_EQ(std::memcmp(&got[blocks], &zero, sizeof zero), 0);
      }
      ASSERT_EQ(got[blocks + blocks % 2].c8, 0x55555555) << "wrote too much";
    }
  }
}

TEST_P(ElementwiseTest, EmbedReadsTheFilesRows) {
  Random random(2);
  const auto ops = OpsFor(GetParam());
  for (WeightType type : {WeightType::kF32, WeightType::kF16, WeightType::kBf16, WeightType::kQ4_0,
                          WeightType::kQ4_1, WeightType::kQ8_0}) {
    const FileMatrix table(type, 50, 64, random);
    const MatrixSlice slice = table.Slice();
    const int32_t tokens[] = {0, 49, 7, 7};
    std::vector<float> out(4 * 64), want(64);
    ops->Embed({out.data(), 4, 64}, slice, tokens, 2);
    for (int t = 0; t < 4; ++t) {
      DequantizeRow(slice, tokens[t], want);
      for (float& value : want) value *= 2;
      EXPECT_TRUE(SameBits(&out[t * 64], want.data(), 64)) << t;
    }
  }
}

TEST_P(ElementwiseTest, ScaleIsAFactor) {
  const auto ops = OpsFor(GetParam());
  Random random(5);
  std::vector<float> x = random.Normals(81);
  x[7] = INFINITY;
  const std::vector<float> before = x;
  ops->Scale({x.data(), 3, 27}, 0.0625f / 3);
  for (size_t i = 0; i < x.size(); ++i) EXPECT_EQ(x[i], before[i] * (0.0625f / 3)) << i;
}

TEST_P(ElementwiseTest, SoftCapBendsWhatIsLarge) {
  const auto ops = OpsFor(GetParam());
  std::vector<float> x;
  for (int i = -40; i <= 40; ++i) x.push_back(static_cast<float>(i * i * i) / 100);
  const std::vector<float> before = x;
  ops->SoftCap({x.data(), 3, 27}, 30);
  for (size_t i = 0; i < x.size(); ++i) {
    EXPECT_NEAR(x[i], 30 * std::tanh(before[i] / 30.0), 1e-5) << before[i];
  }
}

// Adjacent pairs turn by position * theta^(-2 i / dims); what is beyond `dims` stays.
TEST_P(ElementwiseTest, RopeTurnsAdjacentPairs) {
  const auto ops = OpsFor(GetParam());
  KvCacheSpec spec;
  spec.num_layers = 1;
  spec.num_blocks = 64;
  spec.block_size = 16;
  spec.num_kv_heads = 1;
  spec.head_dim = 32;
  const auto kv = ops->MakeKvCache(spec).value();
  for (int dims : {32, 20}) {
    const std::vector<float> factors(dims / 2, 2.0f);
    const auto rope = ops->MakeRopeTable(
        {.dims = dims, .theta = 1e5, .max_positions = 1024, .freq_factors = factors});
    std::vector<int32_t> table(64);
    for (int i = 0; i < 64; ++i) table[i] = i;
    for (const int position : {0, 1, 777}) {
      const int32_t query_start[] = {0, 1}, length = position + 1;
      const StepBatch batch{1, 1, query_start, &length, table.data(), 64};
      Random random(position);
      const std::vector<float> before = random.Normals(64);
      std::vector<float> q = before, k = random.Normals(32), v = random.Normals(32);
      ops->RopeAndStoreKv({q.data(), 1, 64}, {k.data(), 1, 32}, {v.data(), 1, 32}, {}, *rope, *kv,
                          0, batch);
      for (int i = 0; i < 64; i += 2) {
        const int pair = i % 32 / 2;
        const double angle = 2 * pair < dims ? position * std::pow(1e5, -2.0 * pair / dims) / 2 : 0;
        EXPECT_NEAR(q[i], before[i] * std::cos(angle) - before[i + 1] * std::sin(angle), 1e-6);
        EXPECT_NEAR(q[i + 1], before[i + 1] * std::cos(angle) + before[i] * std::sin(angle), 1e-6);
      }
    }
  }
}

// Pairs (i, i + dims / 2) of heads that are normed first; what is beyond `dims` is only normed.
TEST_P(ElementwiseTest, RopeTurnsHalvesOfNormedHeads) {
  const auto ops = OpsFor(GetParam());
  KvCacheSpec spec;
  spec.num_layers = 1;
  spec.num_blocks = 64;
  spec.num_kv_heads = 1;
  spec.head_dim = 96;
  const auto kv = ops->MakeKvCache(spec).value();
  constexpr int64_t kHead = 96;
  for (int dims : {96, 64, 20}) {
    const auto rope = ops->MakeRopeTable(
        {.dims = dims, .theta = 1e6, .max_positions = 1024, .pairs = RopePairs::kHalves});
    std::vector<int32_t> table(64);
    for (int i = 0; i < 64; ++i) table[i] = i;
    const int position = 700;
    const int32_t query_start[] = {0, 1}, length = position + 1;
    Random random(dims);
    const std::vector<float> before = random.Normals(2 * kHead), norm = random.Normals(kHead);
    std::vector<float> q = before, k = random.Normals(kHead), v = random.Normals(kHead);
    ops->RopeAndStoreKv({q.data(), 1, 2 * kHead}, {k.data(), 1, kHead}, {v.data(), 1, kHead},
                        {norm, norm, 1e-6f}, *rope, *kv, 0,
                        {1, 1, query_start, &length, table.data(), 64});
    for (int head = 0; head < 2; ++head) {
      const float* x = &before[head * kHead];
      double squares = 0;
      for (int i = 0; i < kHead; ++i) squares += static_cast<double>(x[i]) * x[i];
      const auto normed = [&](int i) { return x[i] / std::sqrt(squares / kHead + 1e-6) * norm[i]; };
      for (int i = 0; i < kHead; ++i) {
        const int pair = i % (dims / 2);
        const double angle = position * std::pow(1e6, -2.0 * pair / dims);
        const double a = normed(pair), b = i < dims ? normed(pair + dims / 2) : 0;
        const double want = i >= dims      ? normed(i)
                            : i < dims / 2 ? a * std::cos(angle) - b * std::sin(angle)
                                           : b * std::cos(angle) + a * std::sin(angle);
        EXPECT_NEAR(q[head * kHead + i], want, 2e-6) << dims << " " << head << " " << i;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Sets, ElementwiseTest, ::testing::ValuesIn(AllSets()),
                         [](const auto& info) { return testing::SetName(info.param); });

int64_t ResidentBytes() {
  int64_t total = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> total >> resident;
  return resident * ::sysconf(_SC_PAGESIZE);
}

// Else the pages of all layers are given, and zeroed, in the step that gets there first.
TEST(KvMemory, IsThereBeforeItIsUsed) {
  const auto ops = MakeCpuOps({.threads = 2}).value();
  const KvCacheSpec spec = {.num_layers = 4, .num_blocks = 512, .num_kv_heads = 2, .head_dim = 64};
  const int64_t bytes = spec.num_blocks * ops->KvBlockBytes(spec);
  ASSERT_EQ(bytes, 16 << 20);
  const int64_t before = ResidentBytes();
  const auto kv = ops->MakeKvCache(spec).value();
  EXPECT_GT(ResidentBytes() - before, bytes - bytes / 16);
}

TEST(Dequantize, KnownBlocks) {
  EXPECT_EQ(HalfToFloat(0x3c00), 1.0f);
  EXPECT_EQ(HalfToFloat(0xc000), -2.0f);
  EXPECT_EQ(HalfToFloat(0x0001), std::ldexp(1.0f, -24));
  EXPECT_EQ(HalfToFloat(0x7bff), 65504.0f);
  EXPECT_TRUE(std::isinf(HalfToFloat(0xfc00)));
  EXPECT_TRUE(std::isnan(HalfToFloat(0x7e00)));
  uint8_t q4_1[20] = {0x00, 0x3c, 0x00, 0xc0};  // d = 1, m = -2
  q4_1[4] = 0x53;                               // elements 0 and 16
  const MatrixSlice slice{WeightType::kQ4_1, q4_1, 32, 0, 1, 0, 32};
  std::vector<float> out(32);
  DequantizeRow(slice, 0, out);
  EXPECT_EQ(out[0], 1.0f);
  EXPECT_EQ(out[16], 3.0f);
  EXPECT_EQ(out[1], -2.0f);
}

TEST(Bf16, RoundsToNearestEven) {
  EXPECT_EQ(Bf16ToFloat(FloatToBf16(1.0f)), 1.0f);
  EXPECT_EQ(Bf16ToFloat(FloatToBf16(1.00390625f)), 1.0f);       // half way: to even
  EXPECT_EQ(Bf16ToFloat(FloatToBf16(1.01171875f)), 1.015625f);  // half way: to even
  EXPECT_TRUE(std::isnan(Bf16ToFloat(FloatToBf16(std::nanf("")))));
  EXPECT_TRUE(std::isinf(Bf16ToFloat(FloatToBf16(INFINITY))));
}

}  // namespace
}  // namespace tandem::kernels
