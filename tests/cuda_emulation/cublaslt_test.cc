// The products that DenseMatMul asks for are tested there; here: what else the emulation takes, and
// what it refuses.
#include <cublasLt.h>
#include <cuda_bf16.h>

#include <vector>

#include "tests/cuda_emulation/collectives.h"
#include "tests/cuda_emulation/runtime_test_support.h"

namespace tandem::emulation {
namespace {

#define ASSERT_CUBLAS(call) ASSERT_EQ(CUBLAS_STATUS_SUCCESS, (call))

// A product of column-major matrices: a [2, 8] or its transpose, b [8, 3], d [2, 3].
class CublasLtTest : public RuntimeTest {
 protected:
  void SetUp() override {
    ASSERT_CUBLAS(cublasLtCreate(&handle_));
    ASSERT_CUBLAS(cublasLtMatmulDescInit(&product_, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    ASSERT_CUBLAS(cublasLtMatrixLayoutInit(&a_layout_, CUDA_R_16BF, 2, 8, 8));
    ASSERT_CUBLAS(cublasLtMatrixLayoutInit(&b_layout_, CUDA_R_16BF, 8, 3, 8));
    ASSERT_CUBLAS(cublasLtMatrixLayoutInit(&d_layout_, CUDA_R_32F, 2, 3, 4));
    ASSERT_CUBLAS(cublasLtMatmulPreferenceInit(&preference_));
    a_ = DeviceArray<__nv_bfloat16>(64);
    b_ = DeviceArray<__nv_bfloat16>(24);
    d_ = DeviceArray<float>(12);
    std::vector<__nv_bfloat16> a(64);
    std::vector<__nv_bfloat16> b(24);
    for (int k = 0; k < 8; ++k) {
      for (int i = 0; i < 2; ++i) a[k * 8 + i] = __float2bfloat16(static_cast<float>(i + 1));
      for (int j = 0; j < 3; ++j) b[j * 8 + k] = __float2bfloat16(static_cast<float>(j * k));
    }
    Upload(a_, a);
    Upload(b_, b);
  }
  void TearDown() override {
    for (void* memory : std::vector<void*>{a_, b_, d_}) EXPECT_CUDA(cudaFree(memory));
    EXPECT_EQ(cublasLtDestroy(handle_), CUBLAS_STATUS_SUCCESS);
  }

  template <class T>
  void Upload(T* to, const std::vector<T>& values) {
    ASSERT_CUDA(cudaMemcpyAsync(to, values.data(), values.size() * sizeof(T),
                                cudaMemcpyHostToDevice, stream_));
  }
  template <class T>
  void Set(cublasLtMatmulDescAttributes_t attribute, T value) {
    ASSERT_CUBLAS(cublasLtMatmulDescSetAttribute(&product_, attribute, &value, sizeof(value)));
  }
  cublasStatus_t Choose() {
    int count = 0;
    const cublasStatus_t status =
        cublasLtMatmulAlgoGetHeuristic(handle_, &product_, &a_layout_, &b_layout_, &d_layout_,
                                       &d_layout_, &preference_, 1, &chosen_, &count);
    EXPECT_EQ(count, status == CUBLAS_STATUS_SUCCESS ? 1 : 0);
    return status;
  }
  cublasStatus_t Multiply(const void* a, float alpha = 1, float beta = 0,
                          const cublasLtMatmulAlgo_t* algorithm = nullptr) {
    return cublasLtMatmul(handle_, &product_, &alpha, a, &a_layout_, b_, &b_layout_, &beta, d_,
                          &d_layout_, d_, &d_layout_, algorithm, nullptr, 0, stream_);
  }
  std::vector<float> Result() {
    std::vector<float> d(12);
    EXPECT_CUDA(cudaMemcpyAsync(d.data(), d_, 48, cudaMemcpyDeviceToHost, stream_));
    return {d[0], d[1], d[4], d[5], d[8], d[9]};
  }

  cublasLtHandle_t handle_ = nullptr;
  cublasLtMatmulDescOpaque_t product_;
  cublasLtMatrixLayoutOpaque_t a_layout_, b_layout_, d_layout_;
  cublasLtMatmulPreferenceOpaque_t preference_;
  cublasLtMatmulHeuristicResult_t chosen_;
  __nv_bfloat16* a_ = nullptr;
  __nv_bfloat16* b_ = nullptr;
  float* d_ = nullptr;
};

TEST_F(CublasLtTest, MultipliesWithAlphaAndBeta) {
  ASSERT_CUBLAS(Multiply(a_));
  EXPECT_EQ(Result(), (std::vector<float>{0, 0, 28, 56, 56, 112}));
  ASSERT_CUBLAS(Multiply(a_, 0.5f, 2));
  EXPECT_EQ(Result(), (std::vector<float>{0, 0, 70, 140, 140, 280}));
}

// The library's kernels may let the launch behind them begin: it waits, or reads what was before.
TEST_F(CublasLtTest, ADependentLaunchMayBeginBeforeAProductEnds) {
  bool found = false;
  for (int i = 0; i < 20; ++i) {
    ASSERT_CUDA(cudaMemsetAsync(d_, 0, 48, stream_));
    ASSERT_CUBLAS(Multiply(a_));
    float early = 0, late = 0;
    GridLaunch launch;
    launch.name = "Reader";
    launch.dependent = true;
    launch.thread_body = [&] {
      early = d_[4];
      WaitForPrimary({__FILE__, __LINE__});
      late = d_[4];
    };
    ASSERT_CUDA(EnqueueGrid(launch, stream_));
    ASSERT_CUDA(cudaStreamSynchronize(stream_));
    EXPECT_EQ(late, 28);
    found = found || early != late;
  }
  EXPECT_TRUE(found);
}

TEST_F(CublasLtTest, TransposesAreTaken) {
  // The same a, stored as [8, 2].
  ASSERT_CUBLAS(cublasLtMatrixLayoutInit(&a_layout_, CUDA_R_16BF, 8, 2, 8));
  std::vector<__nv_bfloat16> a(64);
  for (int k = 0; k < 16; ++k) a[k] = __float2bfloat16(static_cast<float>(k / 8 + 1));
  Upload(a_, a);
  EXPECT_EQ(Multiply(a_), CUBLAS_STATUS_INVALID_VALUE);  // shapes do not fit
  Set(CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T);
  ASSERT_CUBLAS(Multiply(a_));
  EXPECT_EQ(Result(), (std::vector<float>{0, 0, 28, 56, 56, 112}));
}

TEST_F(CublasLtTest, BiasRunsAlongTheRows) {
  float* bias = DeviceArray<float>(2);
  Upload(bias, {1, 2});
  Set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
  EXPECT_EQ(Multiply(a_), CUBLAS_STATUS_INVALID_VALUE);  // no pointer
  Set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, static_cast<const void*>(bias));
  ASSERT_CUBLAS(Multiply(a_));
  EXPECT_EQ(Result(), (std::vector<float>{1, 2, 29, 58, 57, 114}));
  EXPECT_CUDA(cudaFree(bias));
}

TEST_F(CublasLtTest, WrongUseIsRefused) {
  ASSERT_CUBLAS(cublasLtMatrixLayoutInit(&d_layout_, CUDA_R_16F, 2, 3, 4));
  EXPECT_EQ(Multiply(a_), CUBLAS_STATUS_NOT_SUPPORTED);  // bf16 into fp16
  ASSERT_CUBLAS(cublasLtMatrixLayoutInit(&d_layout_, CUDA_R_32F, 2, 4, 4));
  EXPECT_EQ(Multiply(a_), CUBLAS_STATUS_INVALID_VALUE);  // another shape
  ASSERT_CUBLAS(cublasLtMatrixLayoutInit(&d_layout_, CUDA_R_32F, 2, 3, 8));
  EXPECT_EQ(Multiply(a_), CUBLAS_STATUS_EXECUTION_FAILED);  // past the end of d
  ASSERT_CUBLAS(cublasLtMatrixLayoutInit(&d_layout_, CUDA_R_32F, 2, 3, 4));
  std::vector<__nv_bfloat16> host(64);
  EXPECT_EQ(Multiply(host.data()), CUBLAS_STATUS_EXECUTION_FAILED);
  EXPECT_EQ(Multiply(a_ + 1), CUBLAS_STATUS_NOT_SUPPORTED);  // not aligned
  Set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_GELU);
  EXPECT_EQ(Multiply(a_), CUBLAS_STATUS_NOT_SUPPORTED);  // not emulated
  ASSERT_CUDA(cudaSetDevice(1));
  EXPECT_EQ(Multiply(a_), CUBLAS_STATUS_NOT_INITIALIZED);  // the handle is of device 0
  ASSERT_CUDA(cudaSetDevice(0));
}

TEST_F(CublasLtTest, AlgorithmsHoldForWhatTheyWereChosenFor) {
  ASSERT_CUBLAS(Choose());
  // The preference promises 256 bytes unless it says otherwise.
  auto* aligned = static_cast<char*>(static_cast<void*>(DeviceArray<char>(1024)));
  aligned += 256 - reinterpret_cast<uintptr_t>(aligned) % 256 + 16;
  EXPECT_EQ(Multiply(aligned, 1, 0, &chosen_.algo), CUBLAS_STATUS_NOT_SUPPORTED);
  const uint32_t alignment = 16;
  for (const auto which :
       {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
    ASSERT_CUBLAS(
        cublasLtMatmulPreferenceSetAttribute(&preference_, which, &alignment, sizeof(alignment)));
  }
  ASSERT_CUBLAS(Choose());
  EXPECT_EQ(Multiply(aligned, 1, 0, &chosen_.algo), CUBLAS_STATUS_SUCCESS);
  ASSERT_CUBLAS(cublasLtMatrixLayoutInit(&b_layout_, CUDA_R_16BF, 8, 2, 8));
  ASSERT_CUBLAS(cublasLtMatrixLayoutInit(&d_layout_, CUDA_R_32F, 2, 2, 4));
  EXPECT_EQ(Multiply(a_, 1, 0, &chosen_.algo), CUBLAS_STATUS_NOT_SUPPORTED);  // another shape
  ASSERT_CUDA(cudaStreamSynchronize(stream_));
}

}  // namespace
}  // namespace tandem::emulation
