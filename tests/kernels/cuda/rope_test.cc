// Rotation and the write of K and V into their blocks, against a plain loop in double.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "kernels/rope_table.h"
#include "tests/kernels/cuda/device_test_support.h"
#include "tests/kernels/kernel_test_support.h"

namespace tandem::kernels::cuda::testing {
namespace {

using kernels::testing::Random;

constexpr float kEps = 1e-6f;
constexpr int kMaxPositions = 64;

struct Shape {
  int head_dim, dims, q_heads, kv_heads;
  RopePairs pairs;
  bool norms;
};

std::string Name(const Shape& s) {
  return fmt::format("D{} dims {} {}/{}{}{}", s.head_dim, s.dims, s.q_heads, s.kv_heads,
                     s.pairs == RopePairs::kHalves ? " halves" : "", s.norms ? " norms" : "");
}

// A step of three sequences, one without tokens, with padding at the end and within.
struct Step {
  std::vector<int32_t> row_sequence = {0, 0, 0, 2, -1, 2, -1};
  std::vector<int32_t> positions = {14, 15, 16, 40, -100000000, 41, -100000000};
  std::vector<int32_t> block_table = {3, 0, 5, -100000000, 1};
  std::vector<int32_t> first_block = {0, 2, 2};
  static constexpr int kBlocks = 6;
};

// One head, in double.
void Turn(float* head, const Shape& shape, const float* norm, const float* cos_sin) {
  if (norm != nullptr) {
    double sum = 0;
    for (int i = 0; i < shape.head_dim; ++i) sum += static_cast<double>(head[i]) * head[i];
    const double scale = 1 / std::sqrt(sum / shape.head_dim + kEps);
    for (int i = 0; i < shape.head_dim; ++i) {
      head[i] = static_cast<float>(head[i] * scale * norm[i]);
    }
  }
  for (int i = 0; i < shape.dims / 2; ++i) {
    const bool halves = shape.pairs == RopePairs::kHalves;
    float& first = head[halves ? i : 2 * i];
    float& second = head[halves ? i + shape.dims / 2 : 2 * i + 1];
    const double a = first, b = second, c = cos_sin[2 * i], s = cos_sin[2 * i + 1];
    first = static_cast<float>(a * c - b * s);
    second = static_cast<float>(a * s + b * c);
  }
}

class Case {
 public:
  Case(const Shape& shape, ActivationType type)
      : shape_(shape), type_(type), rows_(static_cast<int64_t>(step_.row_sequence.size())) {
    Random random(5);
    q_cols_ = int64_t{shape.q_heads} * shape.head_dim;
    kv_cols_ = int64_t{shape.kv_heads} * shape.head_dim;
    qkv_ = Rounded(type, random.Normals(rows_ * (q_cols_ + 2 * kv_cols_)));
    q_norm_ = random.Normals(shape.head_dim);
    k_norm_ = random.Normals(shape.head_dim);
    cos_sin_ = RopeCosSin({.dims = shape.dims, .theta = 10000, .max_positions = kMaxPositions});
  }

  void Run(const Stream& stream) {
    const DeviceMatrix qkv(stream, type_, rows_, q_cols_ + 2 * kv_cols_, qkv_, 8);
    const DeviceArray<float> q_norm(stream, q_norm_), k_norm(stream, k_norm_);
    const DeviceArray<float> cos_sin(stream, cos_sin_);
    const int64_t kv_elements = Step::kBlocks * 16 * kv_cols_;
    const DeviceArray<uint16_t> k(stream, kv_elements, kUnused), v(stream, kv_elements, kUnused);
    const KvLayer kv{k.data(),        v.data(), Step::kBlocks, shape_.kv_heads,
                     shape_.head_dim, 16,       type_};
    const DeviceArray<int32_t> row_sequence(stream, step_.row_sequence),
        positions(stream, step_.positions), block_table(stream, step_.block_table),
        first_block(stream, step_.first_block);
    Batch batch;
    batch.num_tokens = static_cast<int32_t>(rows_);
    batch.num_seqs = 3;
    batch.row_sequence = row_sequence.data();
    batch.positions = positions.data();
    batch.block_table = block_table.data();
    batch.first_block = first_block.data();
    const Matrix view = qkv.view();
    RopeAndStoreKv(view.Cols(0, q_cols_), view.Cols(q_cols_, q_cols_ + kv_cols_),
                   view.Cols(q_cols_ + kv_cols_, view.cols), shape_.norms ? q_norm.data() : nullptr,
                   shape_.norms ? k_norm.data() : nullptr, kEps,
                   {cos_sin.data(), kMaxPositions, shape_.dims, shape_.pairs}, kv, batch, stream);
    Check(qkv.Read(), k.Read(), v.Read());
  }

 private:
  static constexpr uint16_t kUnused = 0x7ffe;  // a NaN of both types

  void Check(const std::vector<float>& qkv, const std::vector<uint16_t>& k,
             const std::vector<uint16_t>& v) const {
    const int64_t cols = q_cols_ + 2 * kv_cols_;
    std::vector<float> expected = qkv_;  // k and v stay
    std::vector<float> expected_k(k.size(), NAN), actual_k;
    std::vector<uint16_t> expected_v(v.size(), kUnused);
    for (int64_t r = 0; r < rows_; ++r) {
      if (step_.row_sequence[r] < 0) continue;
      const float* turn = cos_sin_.data() + int64_t{step_.positions[r]} * shape_.dims;
      for (int h = 0; h < shape_.q_heads; ++h) {
        Turn(&expected[r * cols + h * shape_.head_dim], shape_,
             shape_.norms ? q_norm_.data() : nullptr, turn);
      }
      for (int h = 0; h < shape_.kv_heads; ++h) {
        const float* from = &qkv_[r * cols + q_cols_ + h * shape_.head_dim];
        float* to = &expected_k[Slot(r, h)];
        std::copy_n(from, shape_.head_dim, to);
        Turn(to, shape_, shape_.norms ? k_norm_.data() : nullptr, turn);
        for (int d = 0; d < shape_.head_dim; ++d) {
          expected_v[Slot(r, h) + d] = ToActivation(type_, from[kv_cols_ + d]);
        }
      }
    }
    for (uint16_t bits : k) actual_k.push_back(FromActivation(type_, bits));
    // A rounding to the type; the parts of a pair may cancel.
    ExpectNear(qkv, expected, Epsilon(type_), 1e-5f);
    ExpectNear(actual_k, expected_k, Epsilon(type_), 1e-5f);
    EXPECT_EQ(v, expected_v);
  }

  // Where the row's head lies in the layer.
  int64_t Slot(int64_t row, int head) const {
    const int32_t position = step_.positions[row];
    const int32_t block =
        step_.block_table[step_.first_block[step_.row_sequence[row]] + position / 16];
    return ((int64_t{block} * shape_.kv_heads + head) * 16 + position % 16) * shape_.head_dim;
  }

  Shape shape_;
  ActivationType type_;
  Step step_;
  int64_t rows_, q_cols_ = 0, kv_cols_ = 0;
  std::vector<float> qkv_, q_norm_, k_norm_, cos_sin_;
};

void RunAll(std::initializer_list<Shape> shapes) {
  const Stream stream;
  for (ActivationType type : kTypes) {
    for (const Shape& shape : shapes) {
      SCOPED_TRACE(TypeName(type) + " " + Name(shape));
      Case(shape, type).Run(stream);
    }
  }
}

TEST(CudaRope, AdjacentPairs) {
  RunAll({{64, 64, 1, 1, RopePairs::kAdjacent, false},
          {96, 96, 9, 3, RopePairs::kAdjacent, false},
          {128, 128, 4, 1, RopePairs::kAdjacent, false},
          {64, 22, 3, 1, RopePairs::kAdjacent, false}});  // a part of the head
}

TEST(CudaRope, PairsInHalves) {
  RunAll({{64, 64, 1, 1, RopePairs::kHalves, false},
          {96, 96, 9, 3, RopePairs::kHalves, false},
          {128, 128, 4, 1, RopePairs::kHalves, false},
          {96, 32, 3, 1, RopePairs::kHalves, false},
          {128, 112, 3, 2, RopePairs::kHalves, false}});
}

TEST(CudaRope, HeadNorms) {
  RunAll({{64, 64, 7, 1, RopePairs::kHalves, true},
          {96, 96, 2, 2, RopePairs::kAdjacent, true},
          {128, 128, 5, 1, RopePairs::kHalves, true}});
}

TEST(CudaRope, SmallHeads) { RunAll({{64, 64, 2, 1, RopePairs::kHalves, true}}); }

TEST(CudaRope, NoRowsIsNothing) {
  const Stream stream;
  const KvLayer kv{nullptr, nullptr, 1, 1, 64, 16, ActivationType::kBf16};
  const Matrix none{nullptr, 0, 64, 64, ActivationType::kBf16};
  RopeAndStoreKv(none, none, none, nullptr, nullptr, kEps, {nullptr, 1, 64, RopePairs::kHalves}, kv,
                 Batch(), stream);
  stream.Sync();
}

}  // namespace
}  // namespace tandem::kernels::cuda::testing
