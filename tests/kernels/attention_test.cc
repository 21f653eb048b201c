#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <tuple>

#include "tests/kernels/kernel_test_support.h"

namespace tandem::kernels {
namespace {

using testing::FloatSets;
using testing::OpsFor;
using testing::Random;
using testing::SameBits;

constexpr int kQueryHeads = 6, kKvHeads = 2, kMaxContext = 400;

// What models differ in.
struct Variant {
  int window = 0;
  RopePairs pairs = RopePairs::kAdjacent;
  bool head_norms = false;
  float softcap = 0;
};

// One KV cache and the sequences in it. Every slot is poisoned with NaN before use, blocks are
// scattered, and the tokens' q, k and v are a function of (sequence, position) alone.
class World {
 public:
  World(InstructionSet set, KvType type, int head_dim, int block_size, int threads = 1,
        Variant variant = {})
      : head_dim_(head_dim),
        block_size_(block_size),
        window_(variant.window),
        softcap_(variant.softcap) {
    OpsOptions options;
    options.threads = threads;
    options.max_tokens = 512;
    ops_ = OpsFor(set, options);
    KvCacheSpec spec;
    spec.num_layers = 2;
    spec.num_blocks = 160;
    spec.block_size = block_size;
    spec.num_kv_heads = kKvHeads;
    spec.head_dim = head_dim;
    spec.type = type;
    kv_ = ops_->MakeKvCache(spec).value();
    rope_ = ops_->MakeRopeTable(
        {.dims = head_dim, .theta = 1e4, .max_positions = 4096, .pairs = variant.pairs});
    if (variant.head_norms) {
      Random random(8);
      q_norm_ = random.Normals(head_dim);
      k_norm_ = random.Normals(head_dim);
    }
    free_.resize(spec.num_blocks);
    std::iota(free_.begin(), free_.end(), 0);
    std::shuffle(free_.begin(), free_.end(), std::mt19937(7));
    Poison(spec);
  }

  int head_dim() const { return head_dim_; }
  int row_floats() const { return kQueryHeads * head_dim_; }

  struct Part {
    int sequence, begin, end;  // positions to compute
  };

  // `to` begins with the KV of what `from` has at [0, positions).
  void Share(int from, int to, int positions) {
    blocks_[to].assign(blocks_[from].begin(), blocks_[from].begin() + positions / block_size_);
  }

  // Computes these parts in one step; returns the outputs, row by row.
  std::vector<float> Step(const std::vector<Part>& parts, int layer = 1) {
    std::vector<int32_t> query_start = {0}, context_len, table;
    for (const Part& p : parts) {
      query_start.push_back(query_start.back() + p.end - p.begin);
      context_len.push_back(p.end);
      std::vector<int32_t>& blocks = blocks_[p.sequence];
      while (static_cast<int>(blocks.size()) * block_size_ < p.end) {
        blocks.push_back(free_.back());
        free_.pop_back();
      }
      for (int i = 0; i < kMaxContext / block_size_ + 1; ++i) {
        table.push_back(i < static_cast<int>(blocks.size()) ? blocks[i] : -1);
      }
    }
    StepBatch batch{query_start.back(), static_cast<int>(parts.size()),
                    query_start.data(), context_len.data(),
                    table.data(),       kMaxContext / block_size_ + 1};
    std::vector<float> q, k, v;
    for (const Part& p : parts) {
      for (int i = p.begin; i < p.end; ++i) AppendToken(p.sequence, i, q, k, v);
    }
    return Run(batch, layer, q, k, v);
  }

 private:
  void AppendToken(int sequence, int position, std::vector<float>& q, std::vector<float>& k,
                   std::vector<float>& v) const {
    Random random(sequence * 10007 + position);
    for (int i = 0; i < kQueryHeads * head_dim_; ++i) q.push_back(2 * random.Normal());
    for (int i = 0; i < kKvHeads * head_dim_; ++i) k.push_back(random.Normal());
    for (int i = 0; i < kKvHeads * head_dim_; ++i) v.push_back(random.Normal());
  }

  std::vector<float> Run(const StepBatch& batch, int layer, std::vector<float> q,
                         std::vector<float> k, std::vector<float> v) {
    Store(batch, layer, q, k, v);
    const int64_t rows = batch.num_tokens;
    std::vector<float> out(rows * row_floats());
    ops_->PagedAttention({out.data(), rows, row_floats()}, {q.data(), rows, row_floats()}, *kv_,
                         layer, batch,
                         {1 / std::sqrt(static_cast<float>(head_dim_)), window_, softcap_});
    return out;
  }

  void Store(const StepBatch& batch, int layer, std::vector<float>& q, std::vector<float>& k,
             std::vector<float>& v) {
    const int64_t rows = batch.num_tokens, kv_cols = kKvHeads * head_dim_;
    ops_->RopeAndStoreKv({q.data(), rows, row_floats()}, {k.data(), rows, kv_cols},
                         {v.data(), rows, kv_cols}, {q_norm_, k_norm_, 1e-6f}, *rope_, *kv_, layer,
                         batch);
  }

  void Poison(const KvCacheSpec& spec) {
    std::vector<float> nan(int64_t{spec.block_size} * row_floats(),
                           std::numeric_limits<float>::quiet_NaN());
    std::vector<float> q = nan;  // rotated in place
    const int32_t query_start[] = {0, spec.block_size}, length = spec.block_size;
    for (int layer = 0; layer < spec.num_layers; ++layer) {
      for (int32_t block = 0; block < spec.num_blocks; ++block) {
        Store({spec.block_size, 1, query_start, &length, &block, 1}, layer, q, nan, nan);
      }
    }
  }

  int head_dim_, block_size_, window_;
  float softcap_;
  std::vector<float> q_norm_, k_norm_;
  std::unique_ptr<Ops> ops_;
  std::unique_ptr<KvCache> kv_;
  std::unique_ptr<RopeTable> rope_;
  std::vector<int32_t> free_, blocks_[8];
};

// How far outputs near 1 may be from the reference: the largest difference, and all of them by
// Euclid. Caches of both round the same values; a rotation that differs in its last bit may round
// to a neighbour there. Products of bf16 round q and the probabilities too, by 2^-9 at most.
struct Bounds {
  double most, relative;
};
Bounds BoundsOf(InstructionSet set, KvType type) {
  if (type == KvType::kF32) return {2e-5, 2e-6};                  // measured 3e-6, 5e-7
  if (set == InstructionSet::kAvx512Bf16) return {2.5e-2, 4e-3};  // 1.3e-2, 2.8e-3
  return {4e-3, 1e-4};                                            // 2e-4, 9e-6
}

using Case = std::tuple<InstructionSet, KvType, int, int>;

class AttentionTest : public ::testing::TestWithParam<Case> {
 protected:
  World Make(int threads = 1, Variant variant = {}) const {
    return World(set(), type(), std::get<2>(GetParam()), std::get<3>(GetParam()), threads, variant);
  }
  World Reference(Variant variant = {}) const {
    return World(InstructionSet::kReference, type(), std::get<2>(GetParam()),
                 std::get<3>(GetParam()), 1, variant);
  }
  void ExpectAgreement(Variant variant, const std::vector<std::vector<World::Part>>& steps) const {
    World fast = Make(1, variant), reference = Reference(variant);
    double most = 0, squares = 0, norm = 0;
    for (const auto& step : steps) {
      const auto got = fast.Step(step), want = reference.Step(step);
      ASSERT_EQ(got.size(), want.size());
      for (size_t i = 0; i < got.size(); ++i) {
        ASSERT_TRUE(std::isfinite(got[i]))
            << "row " << i / fast.row_floats() << ", column " << i % fast.row_floats();
        const double off = got[i] - want[i];
        most = std::max(most, std::abs(off));
        squares += off * off;
        norm += want[i] * want[i];
      }
    }
    const Bounds bounds = BoundsOf(set(), type());
    EXPECT_LT(most, bounds.most);
    EXPECT_LT(std::sqrt(squares / norm), bounds.relative);
  }
  InstructionSet set() const { return std::get<0>(GetParam()); }
  KvType type() const { return std::get<1>(GetParam()); }
};

TEST_P(AttentionTest, MixedDecodesAndChunksAgreeWithReference) {
  ExpectAgreement({}, {
                          {{0, 0, 130}, {1, 0, 7}, {2, 0, 1}},
                          {{1, 7, 8}, {2, 1, 2}, {0, 130, 163}, {3, 0, 50}},
                          {{1, 8, 9}, {2, 2, 3}, {0, 163, 164}, {3, 50, 51}, {4, 0, 257}},
                      });
}

TEST_P(AttentionTest, WhatModelsDifferInAgreesWithReference) {
  // The last token of sequence 0 sees from inside a split, from a split's start, and itself alone.
  for (const int window : {1, 17, 67, 72, 399}) {
    SCOPED_TRACE(window);
    ExpectAgreement({window, RopePairs::kHalves, true, window % 2 == 0 ? 2.0f : 0},
                    {{{0, 0, 150}, {1, 0, 7}}, {{0, 150, 199}, {1, 7, 8}}, {{0, 199, 200}}});
  }
}

// A window's rows start their sums at positions of their own, inside splits that others read whole.
TEST_P(AttentionTest, AnyChunkingOfAWindowGivesTheSameBits) {
  constexpr int kLength = 290;
  for (const Variant variant : {Variant{33, RopePairs::kHalves, true, 3}, Variant{.window = 150}}) {
    World alone = Make(1, variant);
    std::vector<float> want;
    for (int i = 0; i < kLength; ++i) {
      const auto row = alone.Step({{0, i, i + 1}});
      want.insert(want.end(), row.begin(), row.end());
    }
    for (const int chunk : {290, 37, 16}) {
      World other = Make(1, variant);
      for (int i = 0; i < kLength; i += chunk) {
        const int end = std::min(kLength, i + chunk);
        const auto rows = other.Step({{0, i, end}});
        ASSERT_TRUE(SameBits(rows.data(), &want[int64_t{i} * alone.row_floats()],
                             static_cast<int64_t>(rows.size())))
            << "window " << variant.window << ", chunks of " << chunk << " at " << i;
      }
    }
  }
}

TEST_P(AttentionTest, AnyChunkingAndCompanyGivesTheSameBits) {
  constexpr int kLength = 300;
  World alone = Make();
  std::vector<float> want;
  for (int i = 0; i < kLength; ++i) {
    const auto row = alone.Step({{0, i, i + 1}});
    want.insert(want.end(), row.begin(), row.end());
  }
  for (const int chunk : {300, 128, 37, 16, 2}) {
    World other = Make();
    other.Step({{1, 0, 90}});
    for (int i = 0, turn = 0; i < kLength; i += chunk, ++turn) {
      const int end = std::min(kLength, i + chunk);
      const auto rows = other.Step({{1, 90 + turn, 91 + turn}, {0, i, end}, {2, turn, turn + 1}});
      const int64_t floats = int64_t{end - i} * alone.row_floats();
      ASSERT_TRUE(
          SameBits(&rows[alone.row_floats()], &want[int64_t{i} * alone.row_floats()], floats))
          << "chunks of " << chunk << " at " << i;
    }
  }
}

// Sequences of one prefix attend together, whatever they share and however many threads there are.
TEST_P(AttentionTest, SharedPrefixesGiveTheSameBits) {
  struct Reader {
    int sequence, from, shared, tokens;
  };
  const std::vector<Reader> readers = {{2, 0, 240, 1}, {3, 1, 192, 1}, {4, 0, 288, 5},
                                       {5, 0, 144, 2}, {6, 1, 192, 1}, {7, 0, 96, 1}};
  const auto prepare = [&](World* world) {
    world->Step({{0, 0, 300}, {1, 0, 200}});
    for (const Reader& r : readers) world->Share(r.from, r.sequence, r.shared);
  };
  for (const Variant variant : {Variant{}, Variant{.window = 150}}) {
    World alone = Make(1, variant);
    prepare(&alone);
    std::vector<float> want;
    std::vector<World::Part> parts = {{0, 300, 301}};
    for (const Reader& r : readers) parts.push_back({r.sequence, r.shared, r.shared + r.tokens});
    for (const World::Part& part : parts) {
      const auto rows = alone.Step({part});
      want.insert(want.end(), rows.begin(), rows.end());
    }
    for (const int threads : variant.window > 0 ? std::vector{1} : std::vector{1, 2}) {
      World together = Make(threads, variant);
      prepare(&together);
      EXPECT_EQ(together.Step(parts), want) << "window " << variant.window << ", " << threads;
    }
  }
}

TEST_P(AttentionTest, ThreadsDoNotChangeABit) {
  World one = Make(1), three = Make(3);
  for (const auto& step : std::vector<std::vector<World::Part>>{
           {{0, 0, 100}, {1, 0, 33}}, {{0, 100, 101}, {1, 33, 34}, {2, 0, 40}}}) {
    EXPECT_EQ(one.Step(step), three.Step(step));
  }
}

const char* KvName(KvType type) {
  return type == KvType::kF32 ? "F32" : type == KvType::kBf16 ? "Bf16" : "Int8";
}

std::string CaseName(const ::testing::TestParamInfo<Case>& info) {
  return testing::SetName(std::get<0>(info.param)) + KvName(std::get<1>(info.param)) + "Dim" +
         std::to_string(std::get<2>(info.param)) + "Block" +
         std::to_string(std::get<3>(info.param));
}
INSTANTIATE_TEST_SUITE_P(
    Sets, AttentionTest,
    ::testing::Combine(::testing::ValuesIn(FloatSets()),
                       ::testing::Values(KvType::kF32, KvType::kBf16, KvType::kInt8),
                       ::testing::Values(16, 64, 80), ::testing::Values(16, 48)),
    CaseName);

// Naive softmax over values that never went through a cache: checks the reference itself.
TEST(ReferenceAttention, UniformScoresAverageValues) {
  OpsOptions options;
  const auto ops = OpsFor(InstructionSet::kReference, options);
  KvCacheSpec spec;
  spec.num_layers = 1;
  spec.num_blocks = 3;
  spec.block_size = 16;
  spec.num_kv_heads = 1;
  spec.head_dim = 16;
  spec.type = KvType::kF32;
  const auto kv = ops->MakeKvCache(spec).value();
  const auto rope = ops->MakeRopeTable({.dims = 16, .theta = 1e4, .max_positions = 64});
  constexpr int kTokens = 40;
  std::vector<float> q(kTokens * 16, 0), k(kTokens * 16, 1), v(kTokens * 16), out(kTokens * 16);
  for (int t = 0; t < kTokens; ++t) std::fill_n(&v[t * 16], 16, static_cast<float>(t));
  const int32_t query_start[] = {0, kTokens}, length = kTokens, table[] = {2, 0, 1};
  const StepBatch batch{kTokens, 1, query_start, &length, table, 3};
  const TensorView queries(q.data(), kTokens, 16);
  ops->RopeAndStoreKv(queries, {k.data(), kTokens, 16}, {v.data(), kTokens, 16}, {}, *rope, *kv, 0,
                      batch);
  ops->PagedAttention({out.data(), kTokens, 16}, queries, *kv, 0, batch, {});
  for (int t = 0; t < kTokens; ++t) {
    EXPECT_NEAR(out[t * 16], static_cast<float>(t) / 2, 1e-5) << t;  // the mean of 0 ... t
  }
}

}  // namespace
}  // namespace tandem::kernels
