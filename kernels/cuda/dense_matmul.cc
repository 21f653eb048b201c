#include "kernels/cuda/dense_matmul.h"

#include <cublasLt.h>

#include <bit>
#include <cstring>
#include <limits>
#include <map>
#include <utility>

#include "common/check.h"
#include "kernels/cuda/matmul_algorithms.h"

namespace tandem::kernels::cuda {
namespace {

constexpr uint32_t kAlignment = 16;  // of every pointer and row, in bytes
constexpr int kCandidates = 8;
constexpr int kTimedRuns = 3;

cudaDataType TypeOf(ActivationType type) {
  return type == ActivationType::kBf16 ? CUDA_R_16BF : CUDA_R_16F;
}

bool IsAligned(const void* pointer) {
  return reinterpret_cast<uintptr_t>(pointer) % kAlignment == 0;
}

// The library's words for one shape. It has column-major matrices, so what it computes is
// outᵀ [N, T] = W [N, K] · xᵀ [K, T], and the bias runs along its rows.
struct Plan {
  cublasLtMatmulDescOpaque_t product;
  cublasLtMatrixLayoutOpaque_t weight, x, out;
  cublasLtMatmulAlgo_t algorithm;
};

struct Operands {
  const void* weight;
  const void* bias;
  const void* x;
  void* out;
};

// Events for timing, for as long as an algorithm is chosen.
class Timer {
 public:
  Timer() {
    if (cudaEventCreate(&begin_) != cudaSuccess || cudaEventCreate(&end_) != cudaSuccess) {
      is_good_ = false;
    }
  }
  ~Timer() {
    if (begin_ != nullptr) static_cast<void>(cudaEventDestroy(begin_));
    if (end_ != nullptr) static_cast<void>(cudaEventDestroy(end_));
  }
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

  bool Begin(cudaStream_t stream) {
    return is_good_ && cudaEventRecord(begin_, stream) == cudaSuccess;
  }
  // Waits; false if the device failed.
  bool End(cudaStream_t stream, float& ms) {
    return cudaEventRecord(end_, stream) == cudaSuccess &&
           cudaEventSynchronize(end_) == cudaSuccess &&
           cudaEventElapsedTime(&ms, begin_, end_) == cudaSuccess;
  }

 private:
  cudaEvent_t begin_ = nullptr;
  cudaEvent_t end_ = nullptr;
  bool is_good_ = true;
};

// Whether all the calls of the library that a plan is made of succeed.
bool Compose(const MatMulShape& s, Plan& plan) {
  const cudaDataType type = TypeOf(s.type);
  const cudaDataType out_type = s.out_f32 ? CUDA_R_32F : type;
  const cublasOperation_t transposed = CUBLAS_OP_T;
  const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
  bool good =
      cublasLtMatmulDescInit(&plan.product, CUBLAS_COMPUTE_32F, CUDA_R_32F) ==
          CUBLAS_STATUS_SUCCESS &&
      cublasLtMatmulDescSetAttribute(&plan.product, CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
                                     sizeof(transposed)) == CUBLAS_STATUS_SUCCESS &&
      cublasLtMatrixLayoutInit(&plan.weight, type, s.k, s.n, s.k) == CUBLAS_STATUS_SUCCESS &&
      cublasLtMatrixLayoutInit(&plan.x, type, s.k, s.rows, s.x_stride) == CUBLAS_STATUS_SUCCESS &&
      cublasLtMatrixLayoutInit(&plan.out, out_type, s.n, s.rows, s.out_stride) ==
          CUBLAS_STATUS_SUCCESS;
  if (good && s.has_bias) {
    good = cublasLtMatmulDescSetAttribute(&plan.product, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue,
                                          sizeof(epilogue)) == CUBLAS_STATUS_SUCCESS;
  }
  return good;
}

bool SetBias(Plan& plan, const void* bias) {
  return cublasLtMatmulDescSetAttribute(&plan.product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias,
                                        sizeof(bias)) == CUBLAS_STATUS_SUCCESS;
}

// What the library may count on.
bool Prefer(cublasLtMatmulPreferenceOpaque_t& preference) {
  const uint64_t workspace = DenseMatMul::kWorkspaceBytes;
  bool good =
      cublasLtMatmulPreferenceInit(&preference) == CUBLAS_STATUS_SUCCESS &&
      cublasLtMatmulPreferenceSetAttribute(&preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                           &workspace, sizeof(workspace)) == CUBLAS_STATUS_SUCCESS;
  for (const auto which :
       {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
    good =
        good && cublasLtMatmulPreferenceSetAttribute(&preference, which, &kAlignment,
                                                     sizeof(kAlignment)) == CUBLAS_STATUS_SUCCESS;
  }
  return good;
}

bool IsCaptured(cudaStream_t stream) {
  cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
  return cudaStreamIsCapturing(stream, &capture) == cudaSuccess &&
         capture != cudaStreamCaptureStatusNone;
}

}  // namespace

struct DenseMatMul::State {
  ~State() {
    static_cast<void>(cudaFree(workspace));
    if (handle != nullptr) static_cast<void>(cublasLtDestroy(handle));
  }

  void Run(const MatMulShape& shape, const Operands& operands, cudaStream_t stream);
  // The plan of a shape, made at need. An error is cuBLASLt's.
  StatusOr<Plan*> PlanOf(const MatMulShape& shape, const Operands& operands, cudaStream_t stream);
  Status Choose(const MatMulShape& shape, const Operands& operands, cudaStream_t stream,
                Plan& plan);
  bool Keeps(const MatMulShape& shape, Plan& plan) const;
  // Milliseconds of one run, or infinity if the library refuses.
  float Time(const Plan& plan, const cublasLtMatmulAlgo_t& algorithm, const Operands& operands,
             cudaStream_t stream) const;
  cublasStatus_t Enqueue(const Plan& plan, const cublasLtMatmulAlgo_t& algorithm,
                         const Operands& operands, cudaStream_t stream) const;

  cublasLtHandle_t handle = nullptr;
  void* workspace = nullptr;
  std::map<MatMulShape, Plan> plans;
  MatMulAlgorithms algorithms;
  Status status;
};

StatusOr<std::unique_ptr<DenseMatMul>> DenseMatMul::Make(
    const std::string& algorithms, const std::function<void(const std::string&)>& warn) {
  auto state = std::make_unique<State>();
  if (const cublasStatus_t status = cublasLtCreate(&state->handle);
      status != CUBLAS_STATUS_SUCCESS) {
    return Internal("cuBLASLt does not start: {}", cublasLtGetStatusString(status));
  }
  if (const cudaError_t error = cudaMalloc(&state->workspace, kWorkspaceBytes);
      error != cudaSuccess) {
    return ResourceExhausted("{} bytes of workspace for cuBLASLt: {}", kWorkspaceBytes,
                             cudaGetErrorString(error));
  }
  int device = 0;
  cudaDeviceProp properties;
  if (cudaGetDevice(&device) != cudaSuccess ||
      cudaGetDeviceProperties(&properties, device) != cudaSuccess) {
    return Internal("no properties of the device: {}", cudaGetErrorString(cudaGetLastError()));
  }
  const Status read = state->algorithms.Open(
      algorithms, fmt::format("cuBLASLt {}, {}", cublasLtGetVersion(), properties.name));
  if (!read.ok() && warn) warn(std::string(Message(read)));
  return std::unique_ptr<DenseMatMul>(new DenseMatMul(std::move(state)));
}

DenseMatMul::DenseMatMul(std::unique_ptr<State> state) : state_(std::move(state)) {}
DenseMatMul::~DenseMatMul() = default;

Status DenseMatMul::Poll() const { return state_->status; }
Status DenseMatMul::Save() { return state_->algorithms.Save(); }

void DenseMatMul::MatMul(const Matrix& out, const Matrix& x, const DenseWeight& weight,
                         cudaStream_t stream) {
  TANDEM_CHECK(out.cols == weight.rows && out.rows == x.rows && out.type == x.type)
      << "out [" << out.rows << ", " << out.cols << "], x [" << x.rows << ", " << x.cols
      << "], weight [" << weight.rows << ", " << weight.cols << "]";
  TANDEM_CHECK(out.stride % 8 == 0 && IsAligned(out.data)) << "out is not aligned to 16 bytes";
  TANDEM_CHECK(x.cols == weight.cols && x.type == weight.type && x.rows > 0) << "x does not fit";
  MatMulShape shape{x.rows,     weight.rows, weight.cols, x.stride,
                    out.stride, weight.type, false,       weight.bias != nullptr};
  state_->Run(shape, {weight.data, weight.bias, x.data, out.data}, stream);
}

void DenseMatMul::MatMulF32(float* out, int64_t out_stride, const Matrix& x,
                            const DenseWeight& weight, cudaStream_t stream) {
  TANDEM_CHECK(x.cols == weight.cols && x.type == weight.type && x.rows > 0) << "x does not fit";
  TANDEM_CHECK(out_stride >= weight.rows && out_stride % 4 == 0 && IsAligned(out))
      << "out is not aligned to 16 bytes";
  TANDEM_CHECK(weight.bias == nullptr) << "no bias into float32";
  MatMulShape shape{x.rows,     weight.rows, weight.cols, x.stride,
                    out_stride, weight.type, true,        false};
  state_->Run(shape, {weight.data, nullptr, x.data, out}, stream);
}

void DenseMatMul::State::Run(const MatMulShape& shape, const Operands& operands,
                             cudaStream_t stream) {
  if (!status.ok()) return;
  TANDEM_CHECK(shape.k % 8 == 0 && shape.x_stride % 8 == 0 && IsAligned(operands.weight) &&
               IsAligned(operands.bias) && IsAligned(operands.x))
      << "not aligned to 16 bytes: " << Describe(shape);
  const StatusOr<Plan*> plan = PlanOf(shape, operands, stream);
  if (!plan.ok()) {
    status = plan.status();
    return;
  }
  const cublasStatus_t result = Enqueue(**plan, (*plan)->algorithm, operands, stream);
  if (result != CUBLAS_STATUS_SUCCESS) {
    status = Internal("cuBLASLt: {}: {}", Describe(shape), cublasLtGetStatusString(result));
  }
}

StatusOr<Plan*> DenseMatMul::State::PlanOf(const MatMulShape& shape, const Operands& operands,
                                           cudaStream_t stream) {
  const auto known = plans.find(shape);
  if (known != plans.end()) {
    if (shape.has_bias) SetBias(known->second, operands.bias);  // it took one before
    return &known->second;
  }
  Plan plan;
  if (!Compose(shape, plan) || (shape.has_bias && !SetBias(plan, operands.bias))) {
    return Internal("cuBLASLt does not describe {}", Describe(shape));
  }
  if (!Keeps(shape, plan)) TANDEM_RETURN_IF_ERROR(Choose(shape, operands, stream, plan));
  return &plans.emplace(shape, plan).first->second;
}

// Whether there is a choice from before that still holds.
bool DenseMatMul::State::Keeps(const MatMulShape& shape, Plan& plan) const {
  const MatMulAlgorithms::Algorithm* chosen = algorithms.Find(shape);
  if (chosen == nullptr) return false;
  std::memcpy(&plan.algorithm, chosen, sizeof(plan.algorithm));
  cublasLtMatmulHeuristicResult_t result;
  return cublasLtMatmulAlgoCheck(handle, &plan.product, &plan.weight, &plan.x, &plan.out, &plan.out,
                                 &plan.algorithm, &result) == CUBLAS_STATUS_SUCCESS &&
         result.workspaceSize <= static_cast<size_t>(kWorkspaceBytes);
}

Status DenseMatMul::State::Choose(const MatMulShape& shape, const Operands& operands,
                                  cudaStream_t stream, Plan& plan) {
  cublasLtMatmulPreferenceOpaque_t preference;
  cublasLtMatmulHeuristicResult_t candidates[kCandidates];
  int count = 0;
  const cublasStatus_t result =
      Prefer(preference)
          ? cublasLtMatmulAlgoGetHeuristic(handle, &plan.product, &plan.weight, &plan.x, &plan.out,
                                           &plan.out, &preference, kCandidates, candidates, &count)
          : CUBLAS_STATUS_INTERNAL_ERROR;
  if (result != CUBLAS_STATUS_SUCCESS || count == 0) {
    return Internal("cuBLASLt has no algorithm for {}: {}", Describe(shape),
                    cublasLtGetStatusString(result));
  }
  int best = 0;
  if (count > 1 && std::has_single_bit(static_cast<uint64_t>(shape.rows)) && !IsCaptured(stream)) {
    float best_ms = std::numeric_limits<float>::infinity();
    for (int i = 0; i < count; ++i) {
      const float ms = Time(plan, candidates[i].algo, operands, stream);
      if (ms >= best_ms) continue;
      best_ms = ms;
      best = i;
    }
  }
  plan.algorithm = candidates[best].algo;
  MatMulAlgorithms::Algorithm chosen;
  static_assert(sizeof(chosen) == sizeof(plan.algorithm));
  std::memcpy(&chosen, &plan.algorithm, sizeof(chosen));
  algorithms.Set(shape, chosen);
  return OkStatus();
}

float DenseMatMul::State::Time(const Plan& plan, const cublasLtMatmulAlgo_t& algorithm,
                               const Operands& operands, cudaStream_t stream) const {
  Timer timer;
  float ms = std::numeric_limits<float>::infinity();
  // The first run loads the kernel.
  if (Enqueue(plan, algorithm, operands, stream) != CUBLAS_STATUS_SUCCESS || !timer.Begin(stream)) {
    return ms;
  }
  for (int i = 0; i < kTimedRuns; ++i) {
    if (Enqueue(plan, algorithm, operands, stream) != CUBLAS_STATUS_SUCCESS) return ms;
  }
  return timer.End(stream, ms) ? ms : std::numeric_limits<float>::infinity();
}

cublasStatus_t DenseMatMul::State::Enqueue(const Plan& plan, const cublasLtMatmulAlgo_t& algorithm,
                                           const Operands& operands, cudaStream_t stream) const {
  const float one = 1;
  const float zero = 0;
  // The library takes descriptors as not const, and does not change them.
  auto& p = const_cast<Plan&>(plan);
  return cublasLtMatmul(handle, &p.product, &one, operands.weight, &p.weight, operands.x, &p.x,
                        &zero, operands.out, &p.out, operands.out, &p.out, &algorithm, workspace,
                        kWorkspaceBytes, stream);
}

}  // namespace tandem::kernels::cuda
