// cuBLASLt's matrix product. Only what needs a device is replaced; descriptors, layouts and
// preferences are the real library's (linked where they are used), so that wrong attributes fail as
// they do on a GPU.
//
// bf16 and fp16 into the same or float32; every element of the result is one reduction over k in an
// order that depends on k alone.
#include <cublasLt.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "tests/cuda_emulation/capture.h"
#include "tests/cuda_emulation/memory.h"
#include "tests/cuda_emulation/options.h"
#include "tests/cuda_emulation/runtime.h"
#include "tests/cuda_emulation/stream.h"

struct cublasLtContext {
  int device;
};

namespace tandem::emulation {
namespace {

constexpr uint64_t kAlgorithmMagic = 0x314f474c41444e54;  // "TNDALGO1"
constexpr size_t kAlgorithmWorkspace[] = {0, 1 << 20};    // of the algorithms that there are

struct Layout {
  uint32_t type = 0;
  int32_t order = 0;
  uint64_t rows = 0;
  uint64_t cols = 0;
  int64_t stride = 0;
  int32_t batch = 0;

  // Elements from the first to the last.
  size_t Extent() const {
    return rows == 0 || cols == 0 ? 0 : (cols - 1) * static_cast<size_t>(stride) + rows;
  }
  size_t Bytes() const { return Extent() * (type == CUDA_R_32F ? 4 : 2); }
};

struct Product {
  uint32_t compute = 0;
  uint32_t scale = 0;
  int32_t pointer_mode = 0;
  int32_t transpose_a = 0;
  int32_t transpose_b = 0;
  uint32_t epilogue = 0;
  const void* bias = nullptr;
  int32_t bias_type = -1;
  Layout a, b, c, d;
  uint64_t k = 0;
};

template <class T>
bool Get(cublasLtMatrixLayout_t layout, cublasLtMatrixLayoutAttribute_t attribute, T& value) {
  size_t written = 0;
  return cublasLtMatrixLayoutGetAttribute(layout, attribute, &value, sizeof(value), &written) ==
         CUBLAS_STATUS_SUCCESS;
}
template <class T>
bool Get(cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t attribute, T& value) {
  size_t written = 0;
  return cublasLtMatmulDescGetAttribute(desc, attribute, &value, sizeof(value), &written) ==
         CUBLAS_STATUS_SUCCESS;
}
template <class T>
bool Get(cublasLtMatmulPreference_t preference, cublasLtMatmulPreferenceAttributes_t attribute,
         T& value) {
  size_t written = 0;
  return cublasLtMatmulPreferenceGetAttribute(preference, attribute, &value, sizeof(value),
                                              &written) == CUBLAS_STATUS_SUCCESS;
}

bool Read(cublasLtMatrixLayout_t from, Layout& to) {
  return from != nullptr && Get(from, CUBLASLT_MATRIX_LAYOUT_TYPE, to.type) &&
         Get(from, CUBLASLT_MATRIX_LAYOUT_ORDER, to.order) &&
         Get(from, CUBLASLT_MATRIX_LAYOUT_ROWS, to.rows) &&
         Get(from, CUBLASLT_MATRIX_LAYOUT_COLS, to.cols) &&
         Get(from, CUBLASLT_MATRIX_LAYOUT_LD, to.stride) &&
         Get(from, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, to.batch);
}

bool Read(cublasLtMatmulDesc_t from, Product& to) {
  return from != nullptr && Get(from, CUBLASLT_MATMUL_DESC_COMPUTE_TYPE, to.compute) &&
         Get(from, CUBLASLT_MATMUL_DESC_SCALE_TYPE, to.scale) &&
         Get(from, CUBLASLT_MATMUL_DESC_POINTER_MODE, to.pointer_mode) &&
         Get(from, CUBLASLT_MATMUL_DESC_TRANSA, to.transpose_a) &&
         Get(from, CUBLASLT_MATMUL_DESC_TRANSB, to.transpose_b) &&
         Get(from, CUBLASLT_MATMUL_DESC_EPILOGUE, to.epilogue) &&
         Get(from, CUBLASLT_MATMUL_DESC_BIAS_POINTER, to.bias) &&
         Get(from, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, to.bias_type);
}

bool IsHalf(uint32_t type) { return type == CUDA_R_16BF || type == CUDA_R_16F; }

// Whether the library has this product: types, then shapes.
cublasStatus_t CheckTypes(const Product& p) {
  const bool biased = p.epilogue == CUBLASLT_EPILOGUE_BIAS;
  const bool types = p.compute == CUBLAS_COMPUTE_32F && p.scale == CUDA_R_32F && IsHalf(p.a.type) &&
                     p.b.type == p.a.type && (p.d.type == p.a.type || p.d.type == CUDA_R_32F) &&
                     p.c.type == p.d.type;
  const bool forms = p.pointer_mode == CUBLASLT_POINTER_MODE_HOST &&
                     (biased || p.epilogue == CUBLASLT_EPILOGUE_DEFAULT) &&
                     p.transpose_a != CUBLAS_OP_C && p.transpose_b != CUBLAS_OP_C;
  const bool bias_type =
      !biased || p.bias_type < 0 || static_cast<uint32_t>(p.bias_type) == p.d.type;
  return types && forms && bias_type ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t CheckShapes(Product& p) {
  const uint64_t m = p.transpose_a == CUBLAS_OP_N ? p.a.rows : p.a.cols;
  p.k = p.transpose_a == CUBLAS_OP_N ? p.a.cols : p.a.rows;
  const uint64_t k_of_b = p.transpose_b == CUBLAS_OP_N ? p.b.rows : p.b.cols;
  const uint64_t n = p.transpose_b == CUBLAS_OP_N ? p.b.cols : p.b.rows;
  for (const Layout* l : {&p.a, &p.b, &p.c, &p.d}) {
    if (l->order != CUBLASLT_ORDER_COL || l->batch != 1) return CUBLAS_STATUS_NOT_SUPPORTED;
    if (l->stride < static_cast<int64_t>(l->rows)) return CUBLAS_STATUS_INVALID_VALUE;
  }
  const bool fits = p.k == k_of_b && p.k > 0 && m > 0 && n > 0 && p.d.rows == m && p.d.cols == n &&
                    p.c.rows == m && p.c.cols == n;
  return fits ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t ReadProduct(cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a,
                           cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c,
                           cublasLtMatrixLayout_t d, Product& p) {
  if (!Read(desc, p) || !Read(a, p.a) || !Read(b, p.b) || !Read(c, p.c) || !Read(d, p.d)) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  const cublasStatus_t status = CheckTypes(p);
  return status == CUBLAS_STATUS_SUCCESS ? CheckShapes(p) : status;
}

// What an algorithm was chosen for.
struct Algorithm {
  uint64_t magic = 0;
  uint64_t shape = 0;
  uint64_t index = 0;
  uint64_t alignment = 0;  // of all pointers, in bytes
};
static_assert(sizeof(Algorithm) <= sizeof(cublasLtMatmulAlgo_t));

uint64_t ShapeOf(const Product& p) {
  uint64_t hash = 1469598103934665603u;
  const auto mix = [&](uint64_t word) { hash = (hash ^ word) * 1099511628211u; };
  for (const Layout* l : {&p.a, &p.b, &p.d}) {
    mix(l->type);
    mix(l->rows);
    mix(l->cols);
    mix(static_cast<uint64_t>(l->stride));
  }
  mix(p.epilogue);
  mix(static_cast<uint64_t>(p.transpose_a * 2 + p.transpose_b));
  mix(static_cast<uint64_t>(GetOptions().arch));
  return hash;
}

// The largest power of two that divides it, 256 at most.
uint64_t AlignmentOf(const void* pointer) {
  const auto n = reinterpret_cast<uintptr_t>(pointer);
  return n == 0 ? 256 : std::min<uint64_t>(n & (~n + 1), 256);
}

cublasStatus_t CheckAlgorithm(const Product& p, const cublasLtMatmulAlgo_t& algo, Algorithm& out) {
  std::memcpy(static_cast<void*>(&out), &algo, sizeof(out));
  const bool known = out.magic == kAlgorithmMagic && out.index < std::size(kAlgorithmWorkspace);
  if (!known) return CUBLAS_STATUS_INVALID_VALUE;
  return out.shape == ShapeOf(p) ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

bool InDevice(const void* address, size_t bytes) {
  const auto found = FindRange(address, bytes);
  return found && found->kind != MemoryKind::kPinned;
}

float ToFloat(__nv_bfloat16 x) { return __bfloat162float(x); }
float ToFloat(__half x) { return __half2float(x); }
float ToFloat(float x) { return x; }
void Put(__nv_bfloat16& to, float x) { to = __float2bfloat16_rn(x); }
void Put(__half& to, float x) { to = __float2half_rn(x); }
void Put(float& to, float x) { to = x; }

// Row i of op(M), which is contiguous in memory or not.
template <class T>
void LoadRow(const T* m, const Layout& layout, bool contiguous, uint64_t i, uint64_t k,
             float* row) {
  const T* first = contiguous ? m + i * layout.stride : m + i;
  const uint64_t step = contiguous ? 1 : layout.stride;
  for (uint64_t j = 0; j < k; ++j) row[j] = ToFloat(first[j * step]);
}

// Sixteen sums of every sixteenth product, then those in order.
float Dot(const float* a, const float* b, uint64_t k) {
  float sums[16] = {};
  uint64_t i = 0;
  for (; i + 16 <= k; i += 16) {
    for (int lane = 0; lane < 16; ++lane) sums[lane] += a[i + lane] * b[i + lane];
  }
  for (; i < k; ++i) sums[i % 16] += a[i] * b[i];
  float sum = 0;
  for (const float s : sums) sum += s;
  return sum;
}

struct Operands {
  const void* a;
  const void* b;
  const void* c;
  void* d;
  float alpha;
  float beta;
};

template <class In, class Out>
void Multiply(const Product& p, const Operands& o) {
  const uint64_t n = p.d.cols;
  std::vector<float> b(n * p.k);
  for (uint64_t j = 0; j < n; ++j) {
    LoadRow(static_cast<const In*>(o.b), p.b, p.transpose_b == CUBLAS_OP_N, j, p.k,
            b.data() + j * p.k);
  }
  std::vector<float> row(p.k);
  const bool biased = p.epilogue == CUBLASLT_EPILOGUE_BIAS;
  for (uint64_t i = 0; i < p.d.rows; ++i) {
    LoadRow(static_cast<const In*>(o.a), p.a, p.transpose_a == CUBLAS_OP_T, i, p.k, row.data());
    const float bias = biased ? ToFloat(static_cast<const Out*>(p.bias)[i]) : 0.0f;
    for (uint64_t j = 0; j < n; ++j) {
      float value = o.alpha * Dot(row.data(), b.data() + j * p.k, p.k);
      if (o.beta != 0) {
        value += o.beta * ToFloat(static_cast<const Out*>(o.c)[j * p.c.stride + i]);
      }
      Put(static_cast<Out*>(o.d)[j * p.d.stride + i], value + bias);
    }
  }
}

template <class In>
void MultiplyInto(const Product& p, const Operands& o) {
  if (p.d.type == CUDA_R_32F) {
    Multiply<In, float>(p, o);
  } else {
    Multiply<In, In>(p, o);
  }
}

// Alignment and extent of everything that the product touches.
cublasStatus_t CheckPointers(const Product& p, const Operands& o, const Algorithm& algorithm,
                             const void* workspace, size_t workspace_bytes) {
  const bool biased = p.epilogue == CUBLASLT_EPILOGUE_BIAS;
  if (biased && (p.bias == nullptr || AlignmentOf(p.bias) < 2)) return CUBLAS_STATUS_INVALID_VALUE;
  const void* pointers[] = {o.a, o.b, o.d, o.beta != 0 ? o.c : nullptr};
  for (const void* pointer : pointers) {
    if (AlignmentOf(pointer) < algorithm.alignment) return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  const size_t needed = kAlgorithmWorkspace[algorithm.index];
  if (workspace_bytes < needed || AlignmentOf(workspace) < 16) return CUBLAS_STATUS_INVALID_VALUE;
  const size_t bias_bytes = p.d.rows * (p.d.type == CUDA_R_32F ? 4 : 2);
  const bool inside = InDevice(o.a, p.a.Bytes()) && InDevice(o.b, p.b.Bytes()) &&
                      InDevice(o.d, p.d.Bytes()) && (o.beta == 0 || InDevice(o.c, p.c.Bytes())) &&
                      (!biased || InDevice(p.bias, bias_bytes)) &&
                      (needed == 0 || InDevice(workspace, needed));
  // A GPU would fault in the kernel, or not notice.
  return inside ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}

cublasStatus_t Enqueue(const Product& p, const Operands& o, const Algorithm& algorithm,
                       void* workspace, cudaStream_t handle) {
  const auto stream = FindStream(handle);
  if (stream == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  const size_t used = kAlgorithmWorkspace[algorithm.index];
  // A kernel, so that a dependent launch behind it may begin before it ends.
  Work work;
  work.name = "cublasLtMatmul";
  work.grid.emplace();
  work.grid->name = "cublasLtMatmul";
  work.grid->thread_body = [=] {
    // What others keep in there is lost.
    if (used > 0) std::memset(workspace, 0xFF, used);
    if (p.a.type == CUDA_R_16BF) {
      MultiplyInto<__nv_bfloat16>(p, o);
    } else {
      MultiplyInto<__half>(p, o);
    }
  };
  return EnqueueOrCapture(*stream, std::move(work)) == cudaSuccess ? CUBLAS_STATUS_SUCCESS
                                                                   : CUBLAS_STATUS_EXECUTION_FAILED;
}

cublasLtMatmulHeuristicResult_t ResultOf(const Algorithm& algorithm) {
  cublasLtMatmulHeuristicResult_t result = {};
  std::memcpy(&result.algo, &algorithm, sizeof(algorithm));
  result.workspaceSize = kAlgorithmWorkspace[algorithm.index];
  result.state = CUBLAS_STATUS_SUCCESS;
  result.wavesCount = 1;
  return result;
}

}  // namespace
}  // namespace tandem::emulation

using namespace tandem::emulation;  // NOLINT: this file defines the library's own names

extern "C" {

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  if (Enter() != cudaSuccess) return CUBLAS_STATUS_NOT_INITIALIZED;
  *handle = new cublasLtContext{CurrentDevice()};
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int wanted,
                                              cublasLtMatmulHeuristicResult_t results[],
                                              int* count) {
  *count = 0;
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  Product p;
  const cublasStatus_t status = ReadProduct(desc, a, b, c, d, p);
  if (status != CUBLAS_STATUS_SUCCESS) return status;
  uint64_t workspace = 0;
  uint32_t alignments[4] = {};
  if (!Get(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspace) ||
      !Get(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignments[0]) ||
      !Get(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignments[1]) ||
      !Get(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignments[2]) ||
      !Get(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignments[3])) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  for (uint64_t i = 0; i < std::size(kAlgorithmWorkspace) && *count < wanted; ++i) {
    if (kAlgorithmWorkspace[i] > workspace) continue;
    results[(*count)++] =
        ResultOf({kAlgorithmMagic, ShapeOf(p), i, *std::max_element(alignments, alignments + 4)});
  }
  return *count > 0 ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                                       cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                       cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                       const cublasLtMatmulAlgo_t* algo,
                                       cublasLtMatmulHeuristicResult_t* result) {
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  Product p;
  cublasStatus_t status = ReadProduct(desc, a, b, c, d, p);
  Algorithm algorithm;
  if (status == CUBLAS_STATUS_SUCCESS) status = CheckAlgorithm(p, *algo, algorithm);
  if (status == CUBLAS_STATUS_SUCCESS) *result = ResultOf(algorithm);
  return status;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, const void* alpha,
                              const void* a, cublasLtMatrixLayout_t a_layout, const void* b,
                              cublasLtMatrixLayout_t b_layout, const void* beta, const void* c,
                              cublasLtMatrixLayout_t c_layout, void* d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t* algo,
                              void* workspace, size_t workspace_bytes, cudaStream_t stream) {
  if (handle == nullptr || handle->device != CurrentDevice()) return CUBLAS_STATUS_NOT_INITIALIZED;
  if (Enter() != cudaSuccess) return CUBLAS_STATUS_EXECUTION_FAILED;
  Product p;
  cublasStatus_t status = ReadProduct(desc, a_layout, b_layout, c_layout, d_layout, p);
  if (status != CUBLAS_STATUS_SUCCESS) return status;
  Algorithm algorithm{kAlgorithmMagic, ShapeOf(p), 0, 16};
  if (algo != nullptr) status = CheckAlgorithm(p, *algo, algorithm);
  if (status != CUBLAS_STATUS_SUCCESS) return status;
  const Operands operands{
      a, b, c, d, *static_cast<const float*>(alpha), *static_cast<const float*>(beta)};
  status = CheckPointers(p, operands, algorithm, workspace, workspace_bytes);
  if (status != CUBLAS_STATUS_SUCCESS) return status;
  return Enqueue(p, operands, algorithm, workspace, stream);
}

}  // extern "C"
