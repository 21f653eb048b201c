// Paged attention against softmax as plain loops, and against itself: the same bits however the
// work is cut. Slots that hold no token are NaN, block tables are garbage past their end.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "kernels/cuda/attention_plan.h"
#include "tests/kernels/cuda/device_test_support.h"

namespace tandem::kernels::cuda::testing {
namespace {

constexpr uint16_t kNan = 0x7fffu;
constexpr int32_t kGarbage = -100'000'000;
constexpr int kMaxContext = 4096;

struct Shape {
  ActivationType type = ActivationType::kBf16;
  int head_dim = 64, group = 1, kv_heads = 2, block_size = 16, window = 0;
  int num_heads() const { return group * kv_heads; }
};

// Positions [begin, end) of a sequence, computed in one step.
struct Part {
  int sequence, begin, end;
};
using Parts = std::vector<Part>;

// How the plan is made.
struct Cut {
  int blocks_at_once = 1;
  int plan_window = -1;  // -1: the shape's
  int max_items = 0;     // 0: as many as there are
};

// A value of a token: a function of what it is alone. In (-2, 2).
enum class Kind { kQuery, kKey, kValue };
float Value(ActivationType type, Kind kind, int sequence, int position, int head, int dim) {
  uint64_t x = static_cast<uint64_t>(kind) + 4 * static_cast<uint64_t>(sequence);
  for (int part : {position, head, dim}) {
    x = (x + 0x9e3779b97f4a7c15u + static_cast<uint64_t>(part)) * 0xbf58476d1ce4e5b9u;
    x ^= x >> 29;
  }
  return Rounded(type, static_cast<float>(x >> 40) / (1 << 22) - 2.0f);
}
float Scale(const Shape& shape) { return 1.5f / std::sqrt(static_cast<float>(shape.head_dim)); }

// The inputs of one step on the host.
class Step {
 public:
  Step(const Shape& shape, const Parts& parts) : shape_(shape), parts_(parts) {
    for (const Part& part : parts) {
      query_start.push_back(query_start.back() + part.end - part.begin);
      context_len.push_back(part.end);
    }
    MakeTable();
    const int64_t values =
        int64_t{num_blocks_} * shape.kv_heads * shape.block_size * shape.head_dim;
    k.assign(values, kNan);
    v.assign(values, kNan);
    for (size_t s = 0; s < parts.size(); ++s) {
      for (int p = FirstKept(parts[s]); p < parts[s].end; ++p) StoreToken(s, p);
    }
    for (const Part& part : parts) {
      for (int p = part.begin; p < part.end; ++p) AppendQuery(part.sequence, p);
    }
  }

  int num_tokens() const { return query_start.back(); }
  int num_blocks() const { return num_blocks_; }

  std::vector<int32_t> query_start = {0}, context_len, table, first_block;
  std::vector<uint16_t> k, v;
  std::vector<float> q;

 private:
  // The first position that anything may look at: with a window, older ones are gone.
  int FirstKept(const Part& part) const {
    return shape_.window > 0 ? std::max(0, part.begin - shape_.window + 1) : 0;
  }
  void MakeTable() {
    for (const Part& part : parts_) {
      first_block.push_back(static_cast<int32_t>(table.size()));
      const int blocks = (part.end + shape_.block_size) / shape_.block_size;
      num_blocks_ += blocks;
      table.resize(table.size() + blocks, kGarbage);
    }
    std::vector<int32_t> free(num_blocks_);
    std::iota(free.begin(), free.end(), 0);
    std::shuffle(free.begin(), free.end(), std::mt19937(3));
    for (size_t s = 0; s < parts_.size(); ++s) {
      const int last = (parts_[s].end - 1) / shape_.block_size;
      for (int b = FirstKept(parts_[s]) / shape_.block_size; b <= last; ++b) {
        table[first_block[s] + b] = free.back();
        free.pop_back();
      }
    }
  }
  void StoreToken(size_t s, int position) {
    const int64_t block = table[first_block[s] + position / shape_.block_size];
    for (int h = 0; h < shape_.kv_heads; ++h) {
      const int64_t at =
          ((block * shape_.kv_heads + h) * shape_.block_size + position % shape_.block_size) *
          shape_.head_dim;
      for (int d = 0; d < shape_.head_dim; ++d) {
        const int sequence = parts_[s].sequence;
        k[at + d] =
            ToActivation(shape_.type, Value(shape_.type, Kind::kKey, sequence, position, h, d));
        v[at + d] =
            ToActivation(shape_.type, Value(shape_.type, Kind::kValue, sequence, position, h, d));
      }
    }
  }
  void AppendQuery(int sequence, int position) {
    for (int h = 0; h < shape_.num_heads(); ++h) {
      for (int d = 0; d < shape_.head_dim; ++d) {
        q.push_back(Value(shape_.type, Kind::kQuery, sequence, position, h, d));
      }
    }
  }

  const Shape& shape_;
  const Parts& parts_;
  int num_blocks_ = 0;
};

AttentionPlan MakePlan(const Shape& shape, const Step& step, const Cut& cut) {
  AttentionPlanSpec spec;
  spec.max_tokens = std::max(1, step.num_tokens());
  spec.max_seqs = static_cast<int32_t>(step.context_len.size());
  spec.max_context = kMaxContext;
  spec.num_heads = shape.num_heads();
  spec.num_kv_heads = shape.kv_heads;
  spec.window = cut.plan_window >= 0 ? cut.plan_window : shape.window;
  spec.blocks_at_once = cut.blocks_at_once;
  spec.min_piece_units = 1;
  AttentionPlan plan(spec);
  plan.Make(step.query_start, step.context_len);
  return plan;
}

// The output's bits, a row for each token.
std::vector<uint16_t> RunStep(const Shape& shape, const Parts& parts, const Cut& cut = {}) {
  const Stream stream;
  const Step step(shape, parts);
  const AttentionPlan plan = MakePlan(shape, step, cut);
  const DeviceArray<AttentionItem> items(stream, {plan.items().begin(), plan.items().end()});
  const DeviceArray<AttentionMerge> merges(stream, {plan.merges().begin(), plan.merges().end()});
  const DeviceArray<int32_t> counts(
      stream, {static_cast<int32_t>(items.size()), static_cast<int32_t>(merges.size())});
  const DeviceArray<int32_t> table(stream, step.table), first_block(stream, step.first_block);
  const DeviceArray<uint16_t> k(stream, step.k), v(stream, step.v);
  const DeviceArray<float> partials(stream, plan.PartialBytes(shape.head_dim) / sizeof(float),
                                    std::nanf(""));
  const int64_t cols = shape.num_heads() * shape.head_dim;
  const DeviceMatrix q(stream, shape.type, step.num_tokens(), cols, step.q, 8);
  const DeviceMatrix out(stream, shape.type, step.num_tokens(), cols, 16);
  Batch batch;
  batch.num_tokens = step.num_tokens();
  batch.num_seqs = static_cast<int32_t>(parts.size());
  batch.block_table = table.data();
  batch.first_block = first_block.data();
  batch.items = items.data();
  batch.num_items = counts.data();
  batch.max_items = cut.max_items > 0 ? cut.max_items : static_cast<int32_t>(items.size());
  batch.merges = merges.data();
  batch.num_merges = counts.data() + 1;
  batch.max_merges = static_cast<int32_t>(merges.size());
  PagedAttention(out.view(), q.view(),
                 {k.data(), v.data(), step.num_blocks(), shape.kv_heads, shape.head_dim,
                  shape.block_size, shape.type},
                 batch, Scale(shape), shape.window, partials.data(), stream);
  stream.Sync();
  return out.ReadBits();
}

using Rows = std::vector<std::vector<double>>;

// Positions [begin, end) of one head.
Rows Values(const Shape& shape, Kind kind, int sequence, int begin, int end, int head) {
  Rows rows;
  for (int p = begin; p < end; ++p) {
    rows.emplace_back();
    for (int d = 0; d < shape.head_dim; ++d) {
      rows.back().push_back(Value(shape.type, kind, sequence, p, head, d));
    }
  }
  return rows;
}

// One head of the token at `position`, in double.
std::vector<double> Attend(const Shape& shape, const std::vector<double>& query, const Rows& keys,
                           const Rows& values, int position) {
  const int first = shape.window > 0 ? std::max(0, position - shape.window + 1) : 0;
  std::vector<double> weights, out(shape.head_dim);
  for (int p = first; p <= position; ++p) {
    weights.push_back(std::inner_product(query.begin(), query.end(), keys[p].begin(), 0.0) *
                      double{Scale(shape)});
  }
  const double max = *std::max_element(weights.begin(), weights.end());
  double sum = 0;
  for (double& w : weights) sum += w = std::exp(w - max);
  for (int p = first; p <= position; ++p) {
    for (int d = 0; d < shape.head_dim; ++d) out[d] += weights[p - first] / sum * values[p][d];
  }
  return out;
}

// The outputs of a part, a row for each token.
std::vector<float> AttendPart(const Shape& shape, const Part& part) {
  const int row = shape.num_heads() * shape.head_dim;
  std::vector<float> out((part.end - part.begin) * row);
  Rows keys, values;
  for (int h = 0; h < shape.num_heads(); ++h) {
    if (h % shape.group == 0) {
      keys = Values(shape, Kind::kKey, part.sequence, 0, part.end, h / shape.group);
      values = Values(shape, Kind::kValue, part.sequence, 0, part.end, h / shape.group);
    }
    const Rows queries = Values(shape, Kind::kQuery, part.sequence, part.begin, part.end, h);
    for (int p = part.begin; p < part.end; ++p) {
      const auto result = Attend(shape, queries[p - part.begin], keys, values, p);
      std::copy(result.begin(), result.end(),
                out.begin() + (p - part.begin) * row + h * shape.head_dim);
    }
  }
  return out;
}

void ExpectReference(const Shape& shape, const Parts& parts, const Cut& cut = {}) {
  SCOPED_TRACE(::testing::Message()
               << "head dim " << shape.head_dim << ", group " << shape.group << ", window "
               << shape.window << ", block " << shape.block_size);
  std::vector<float> expected, actual;
  for (const Part& part : parts) {
    const std::vector<float> rows = AttendPart(shape, part);
    expected.insert(expected.end(), rows.begin(), rows.end());
  }
  for (uint16_t bits : RunStep(shape, parts, cut))
    actual.push_back(FromActivation(shape.type, bits));
  // Weights and results are rounded to the type; values are below 2.
  ExpectNear(actual, expected, Epsilon(shape.type), Epsilon(shape.type));
}

Parts Decodes(const std::vector<int>& contexts) {
  Parts parts;
  for (int context : contexts) {
    parts.push_back({static_cast<int>(parts.size()), context - 1, context});
  }
  return parts;
}

class CudaAttention : public ::testing::TestWithParam<std::tuple<ActivationType, int>> {
 protected:
  Shape MakeShape(int group, int kv_heads = 1) const {
    Shape shape;
    shape.type = std::get<0>(GetParam());
    shape.head_dim = std::get<1>(GetParam());
    shape.group = group;
    shape.kv_heads = kv_heads;
    return shape;
  }
};

TEST_P(CudaAttention, EqualsPlainLoops) {
  for (int group : {1, 2, 3, 4, 7, 8, 16}) {
    if (kSanitized && group != 1 && group != 7) continue;
    const int tile = 16 / group;
    ExpectReference(MakeShape(group, 2), Decodes({1, 15, 16, 17, 63, 64, 65, 130}));
    // A chunk that ends within a unit and a tile, one in the middle of a context, with decodes.
    ExpectReference(
        MakeShape(group),
        {{0, 0, 4 * tile + 3}, {1, 60, 62}, {2, 190, 190 + 5 * tile + 1}, {3, 199, 200}});
  }
}

TEST_P(CudaAttention, LongContexts) {
  ExpectReference(MakeShape(4), {{0, 960, 1001}, {1, 699, 700}, {2, 996, 1001}}, {64});
}

TEST_P(CudaAttention, PiecesDoNotChangeABit) {
  const Parts parts = {{0, 999, 1000}, {1, 300, 305}, {2, 64, 65}, {3, 10, 11}, {4, 511, 513}};
  const Shape shape = MakeShape(3, 2);
  const std::vector<uint16_t> whole = RunStep(shape, parts);
  for (int blocks : {6, 20, 64, 1000}) {
    EXPECT_EQ(RunStep(shape, parts, {blocks}), whole) << blocks << " blocks at once";
  }
}

TEST_P(CudaAttention, AnyChunkingGivesTheSameBits) {
  constexpr int kLength = 150;
  const Shape shape = MakeShape(3);
  const std::vector<uint16_t> whole = RunStep(shape, {{0, 0, kLength}});
  const int64_t row = shape.num_heads() * shape.head_dim;
  for (int chunk : {128, 64, 37}) {
    for (int begin = 0; begin < kLength; begin += chunk) {
      const int end = std::min(kLength, begin + chunk);
      // In company, in second place, cut finely.
      const std::vector<uint16_t> part = RunStep(shape, {{1, 20, 21}, {0, begin, end}}, {32});
      ASSERT_TRUE(std::equal(part.begin() + row, part.end(), whole.begin() + begin * row))
          << "[" << begin << ", " << end << ")";
    }
  }
  Parts decodes;
  for (int i = 0; i < kLength; i += 3) decodes.push_back({0, i, i + 1});
  const std::vector<uint16_t> rows = RunStep(shape, decodes, {8});
  for (size_t i = 0; i < decodes.size(); ++i) {
    ASSERT_TRUE(std::equal(rows.begin() + i * row, rows.begin() + (i + 1) * row,
                           whole.begin() + decodes[i].begin * row))
        << "token " << decodes[i].begin;
  }
}

TEST_P(CudaAttention, Windows) {
  const Parts parts = {{0, 0, 45}, {1, 199, 200}, {2, 150, 170}, {3, 3, 4}, {4, 260, 263}};
  for (int window : {1, 16, 64, 65, 100}) {
    Shape shape = MakeShape(2);
    shape.window = window;
    ExpectReference(shape, parts, {16});
    EXPECT_EQ(RunStep(shape, parts, {16}), RunStep(shape, parts));
  }
}

TEST_P(CudaAttention, APlanWithoutWindowIsRightForOne) {
  Shape shape = MakeShape(4);
  const Parts parts = {{0, 0, 70}, {1, 199, 200}};  // no position is gone in the first
  shape.window = 80;
  const std::vector<uint16_t> own = RunStep(shape, parts, {16});
  EXPECT_EQ(RunStep(shape, parts, {16, 0}), own);
  EXPECT_EQ(RunStep(shape, parts, {1, 0}), own);
}

// Of a sanitizer's concern are the sizes: both types have the same accesses.
INSTANTIATE_TEST_SUITE_P(Types, CudaAttention,
                         ::testing::Combine(kSanitized ? ::testing::ValuesIn(kTypes, kTypes + 1)
                                                       : ::testing::ValuesIn(kTypes),
                                            ::testing::Values(64, 96, 128)),
                         [](const auto& info) {
                           return TypeName(std::get<0>(info.param)) + "Dim" +
                                  std::to_string(std::get<1>(info.param));
                         });

TEST(CudaAttentionShapes, BlockSizes) {
  for (int block_size : {16, 48, 64, 128}) {
    Shape shape;
    shape.group = 5;
    shape.block_size = block_size;
    ExpectReference(shape, {{0, 0, 70}, {1, 199, 200}, {2, 127, 129}}, {8});
  }
}

TEST(CudaAttentionShapes, AGridOfAnySizeDoesAllItems) {
  Shape shape;
  shape.group = 4;
  const Parts parts = {{0, 0, 70}, {1, 199, 200}, {2, 299, 300}};
  const std::vector<uint16_t> expected = RunStep(shape, parts);
  EXPECT_EQ(RunStep(shape, parts, {16, -1, 1}), expected);
  EXPECT_EQ(RunStep(shape, parts, {16, -1, 50}), expected);  // as a graph has it
}

// More units than are merged in a round.
TEST(CudaAttentionShapes, ManyPiecesDoNotChangeABit) {
  const Parts parts = {{0, 2999, 3000}, {1, 2059, 2061}};
  Shape shape;
  shape.kv_heads = 1;
  EXPECT_EQ(RunStep(shape, parts, {100}), RunStep(shape, parts));
}

TEST(CudaAttentionShapes, NothingToDo) { EXPECT_TRUE(RunStep(Shape(), {{0, 20, 20}}).empty()); }

// Small, for ThreadSanitizer: three units, in pieces and whole, beside a chunk.
TEST(CudaAttentionSmall, OneStep) {
  Shape shape;
  shape.kv_heads = 1;
  ExpectReference(shape, {{0, 0, 70}, {1, 139, 140}}, {1});
  ExpectReference(shape, {{1, 139, 140}}, {3});
}

}  // namespace
}  // namespace tandem::kernels::cuda::testing
