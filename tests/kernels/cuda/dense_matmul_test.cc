// Products by cuBLASLt against a loop in double.
#include "kernels/cuda/dense_matmul.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>

#include "tests/kernels/cuda/device_test_support.h"
#include "tests/kernels/kernel_test_support.h"

namespace tandem::kernels::cuda::testing {
namespace {

using kernels::testing::Random;

struct Shape {
  int64_t rows, n, k;
};
// Powers of two are timed, others are not; one row, prime numbers of rows, more than one tile.
constexpr Shape kShapes[] = {{1, 8, 8},      {1, 64, 256},   {3, 40, 72},
                             {16, 128, 520}, {37, 264, 128}, {129, 136, 64}};

struct Inputs {
  Inputs(const Shape& shape, ActivationType type)
      : x(Rounded(type, Random(1).Normals(shape.rows * shape.k))),
        weight(Rounded(type, Random(2).Normals(shape.n * shape.k))),
        bias(Rounded(type, Random(3).Normals(shape.n))) {}
  std::vector<float> x, weight, bias;
};

std::vector<float> Reference(const Shape& s, const Inputs& in, bool biased) {
  std::vector<float> out;
  for (int64_t row = 0; row < s.rows; ++row) {
    for (int64_t n = 0; n < s.n; ++n) {
      double sum = biased ? in.bias[n] : 0;
      for (int64_t i = 0; i < s.k; ++i) {
        sum += double{in.x[row * s.k + i]} * in.weight[n * s.k + i];
      }
      out.push_back(static_cast<float>(sum));
    }
  }
  return out;
}

std::unique_ptr<DenseMatMul> MakeOrDie(const std::string& path = "",
                                       std::string* warning = nullptr) {
  auto made = DenseMatMul::Make(path, [&](const std::string& text) {
    if (warning != nullptr) *warning = text;
  });
  TANDEM_CHECK(made.ok()) << Message(made.status());
  return std::move(made).value();
}

TEST(CudaDenseMatMul, EqualsTheReference) {
  const Stream stream;
  const auto matmul = MakeOrDie();
  for (const ActivationType type : kTypes) {
    for (const Shape& s : kShapes) {
      SCOPED_TRACE(TypeName(type) + " " + std::to_string(s.rows) + " rows");
      const Inputs in(s, type);
      const DeviceMatrix x(stream, type, s.rows, s.k, in.x, 8);
      const DeviceMatrix weight(stream, type, s.n, s.k, in.weight);
      const DeviceMatrix bias(stream, type, 1, s.n, in.bias);
      // Sums of k products of about 1, rounded once; and what cancels.
      const float absolute = 1e-5f * static_cast<float>(s.k);
      for (const bool biased : {false, true}) {
        const DeviceMatrix out(stream, type, s.rows, s.n, 8);
        matmul->MatMul(out.view(), x.view(),
                       {weight.view().data, s.n, s.k, type, biased ? bias.view().data : nullptr},
                       stream);
        ExpectNear(out.Read(), Reference(s, in, biased), Epsilon(type), absolute);
      }
      const DeviceArray<float> logits(stream, s.rows * s.n);
      matmul->MatMulF32(logits.data(), s.n, x.view(), {weight.view().data, s.n, s.k, type}, stream);
      ExpectNear(logits.Read(), Reference(s, in, false), 1e-5f, absolute);
      EXPECT_TRUE(matmul->Poll().ok()) << Message(matmul->Poll());
    }
  }
}

TEST(CudaDenseMatMul, ASecondBiasIsTaken) {
  const Stream stream;
  const auto matmul = MakeOrDie();
  const Shape s{3, 40, 72};
  const ActivationType type = ActivationType::kBf16;
  Inputs in(s, type);
  const DeviceMatrix x(stream, type, s.rows, s.k, in.x);
  const DeviceMatrix weight(stream, type, s.n, s.k, in.weight);
  for (int i = 0; i < 2; ++i) {
    in.bias = Rounded(type, Random(10 + i).Normals(s.n));
    const DeviceMatrix bias(stream, type, 1, s.n, in.bias);
    const DeviceMatrix out(stream, type, s.rows, s.n);
    matmul->MatMul(out.view(), x.view(), {weight.view().data, s.n, s.k, type, bias.view().data},
                   stream);
    ExpectNear(out.Read(), Reference(s, in, true), Epsilon(type), 1e-3f);
  }
}

TEST(CudaDenseMatMul, AGraphCanHoldProducts) {
  const Stream stream;
  const auto matmul = MakeOrDie();
  const Shape s{4, 64, 128};
  const ActivationType type = ActivationType::kF16;
  const Inputs in(s, type);
  const DeviceMatrix x(stream, type, s.rows, s.k, in.x);
  const DeviceMatrix weight(stream, type, s.n, s.k, in.weight);
  const DeviceMatrix out(stream, type, s.rows, s.n);
  stream.Sync();
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  ASSERT_EQ(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
  // The first time of its shape, too.
  matmul->MatMul(out.view(), x.view(), {weight.view().data, s.n, s.k, type}, stream);
  ASSERT_EQ(cudaStreamEndCapture(stream, &graph), cudaSuccess);
  ASSERT_EQ(cudaGraphInstantiate(&exec, graph, 0), cudaSuccess);
  ASSERT_EQ(cudaGraphLaunch(exec, stream), cudaSuccess);
  ExpectNear(out.Read(), Reference(s, in, false), Epsilon(type), 1e-3f);
  EXPECT_TRUE(matmul->Poll().ok()) << Message(matmul->Poll());
  EXPECT_EQ(cudaGraphExecDestroy(exec), cudaSuccess);
  EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
}

// A file in a folder of its own, and a product that needs one choice.
class CudaMatMulFile : public ::testing::Test {
 protected:
  CudaMatMulFile() { std::filesystem::create_directories(folder_); }
  ~CudaMatMulFile() override { std::filesystem::remove_all(folder_); }

  std::string Content() const {
    std::ifstream file(path_);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  void Write(const std::string& content) const { std::ofstream(path_) << content; }

  // What Make() warns of; the product is computed and checked in any case.
  std::string Run() const {
    const Stream stream;
    std::string warning;
    const auto matmul = MakeOrDie(path_, &warning);
    const Shape s{3, 64, 128};  // not timed, so the choice is the same every time
    const ActivationType type = ActivationType::kBf16;
    const Inputs in(s, type);
    const DeviceMatrix x(stream, type, s.rows, s.k, in.x);
    const DeviceMatrix weight(stream, type, s.n, s.k, in.weight);
    const DeviceMatrix out(stream, type, s.rows, s.n);
    matmul->MatMul(out.view(), x.view(), {weight.view().data, s.n, s.k, type}, stream);
    ExpectNear(out.Read(), Reference(s, in, false), Epsilon(type), 1e-3f);
    EXPECT_TRUE(matmul->Save().ok());
    return warning;
  }

  const std::string folder_ =
      ::testing::TempDir() + "matmul_" + std::to_string(std::random_device()());
  const std::string path_ = folder_ + "/algorithms";
};

TEST_F(CudaMatMulFile, ChoicesAreKept) {
  EXPECT_EQ(Run(), "");
  const std::string first = Content();
  EXPECT_EQ(first.find("tandem matmul algorithms 1; cuBLASLt "), 0u) << first;
  EXPECT_NE(first.find("\n3 64 128 128 64 bf16 - - "), std::string::npos) << first;
  EXPECT_EQ(Run(), "");
  EXPECT_EQ(Content(), first);
}

TEST_F(CudaMatMulFile, AnotherDevicesFileIsNotUsed) {
  Write("tandem matmul algorithms 1; cuBLASLt 1, GeForce 256\n4 64 128 128 64 bf16 - - 00\n");
  EXPECT_NE(Run().find("is of another device or version and is not used"), std::string::npos);
  EXPECT_EQ(Content().find("GeForce"), std::string::npos);
}

TEST_F(CudaMatMulFile, DamagedFilesAreNotUsed) {
  ASSERT_EQ(Run(), "");
  const std::string good = Content();
  const std::string damaged[] = {good.substr(0, good.size() - 1), good + "\n", good + "1 2 3\n",
                                 good.substr(0, good.size() - 2) + "g\n"};
  for (const std::string& content : damaged) {
    Write(content);
    EXPECT_NE(Run().find("is damaged and is not used"), std::string::npos) << content;
    EXPECT_EQ(Content(), good);
  }
}

TEST_F(CudaMatMulFile, AnAlgorithmThatDoesNotFitIsChosenAnew) {
  ASSERT_EQ(Run(), "");
  const std::string good = Content();
  std::string wrong = good;
  wrong.replace(good.size() - 129, 16, "ffffffffffffffff");
  Write(wrong);
  EXPECT_EQ(Run(), "");
  EXPECT_EQ(Content(), good);
}

TEST_F(CudaMatMulFile, AFolderThatIsNotThereIsSaid) {
  const Stream stream;
  const auto matmul = MakeOrDie(folder_ + "/none/algorithms");
  const ActivationType type = ActivationType::kBf16;
  const DeviceMatrix x(stream, type, 8, 8, std::vector<float>(64));
  const DeviceMatrix out(stream, type, 8, 8);
  matmul->MatMul(out.view(), x.view(), {x.view().data, 8, 8, type}, stream);
  EXPECT_EQ(matmul->Save().code(), StatusCode::kUnavailable);
}

}  // namespace
}  // namespace tandem::kernels::cuda::testing
