// Device memory in tests: arrays that are filled from the host and read back, on a stream of their
// own. For tests that run on the emulation and, in gpu_selftest, on a GPU.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "common/check.h"
#include "kernels/cuda/ops.h"

namespace tandem::kernels::cuda::testing {

inline constexpr ActivationType kTypes[] = {ActivationType::kBf16, ActivationType::kF16};

inline std::string TypeName(ActivationType type) {
  return type == ActivationType::kBf16 ? "Bf16" : "F16";
}
// The distance of 1 to the next value.
inline float Epsilon(ActivationType type) {
  return type == ActivationType::kBf16 ? 1.0f / 128 : 1.0f / 1024;
}

// Where each thread of a kernel costs many times what it does elsewhere: tests of many rows take
// fewer.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif

inline void CheckCuda(cudaError_t error) {
  TANDEM_CHECK(error == cudaSuccess) << cudaGetErrorString(error);
}

class Stream {
 public:
  Stream() { CheckCuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)); }
  ~Stream() { CheckCuda(cudaStreamDestroy(stream_)); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  operator cudaStream_t() const { return stream_; }

  // Until all is done; launches that failed are an error.
  void Sync() const {
    CheckCuda(cudaGetLastError());
    CheckCuda(cudaStreamSynchronize(stream_));
  }

 private:
  cudaStream_t stream_ = nullptr;
};

template <class T>
class DeviceArray {
 public:
  DeviceArray(const Stream& stream, const std::vector<T>& values)
      : stream_(stream), size_(values.size()) {
    if (size_ == 0) return;
    CheckCuda(cudaMalloc(reinterpret_cast<void**>(&data_), size_ * sizeof(T)));
    CheckCuda(
        cudaMemcpyAsync(data_, values.data(), size_ * sizeof(T), cudaMemcpyHostToDevice, stream_));
  }
  DeviceArray(const Stream& stream, size_t size, T value = {})
      : DeviceArray(stream, std::vector<T>(size, value)) {}
  ~DeviceArray() {
    if (data_ == nullptr) return;
    CheckCuda(cudaStreamSynchronize(stream_));
    CheckCuda(cudaFree(data_));
  }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  T* data() const { return data_; }
  size_t size() const { return size_; }
  std::vector<T> Read() const {
    CheckCuda(cudaGetLastError());
    std::vector<T> values(size_);
    if (size_ == 0) return values;
    CheckCuda(
        cudaMemcpyAsync(values.data(), data_, size_ * sizeof(T), cudaMemcpyDeviceToHost, stream_));
    CheckCuda(cudaStreamSynchronize(stream_));
    return values;
  }

 private:
  cudaStream_t stream_;
  size_t size_;
  T* data_ = nullptr;
};

inline uint16_t ToActivation(ActivationType type, float value) {
  return type == ActivationType::kBf16 ? __bfloat16_as_ushort(__float2bfloat16_rn(value))
                                       : __half_as_ushort(__float2half_rn(value));
}
inline float FromActivation(ActivationType type, uint16_t bits) {
  return type == ActivationType::kBf16 ? __bfloat162float(__ushort_as_bfloat16(bits))
                                       : __half2float(__ushort_as_half(bits));
}
inline float Rounded(ActivationType type, float value) {
  return FromActivation(type, ToActivation(type, value));
}
inline std::vector<float> Rounded(ActivationType type, std::vector<float> values) {
  for (float& value : values) value = Rounded(type, value);
  return values;
}

// Activations whose rows may be further apart than they are long; what lies between is NaN and must
// stay so.
class DeviceMatrix {
 public:
  // `values`: rows x cols, rounded to the type.
  DeviceMatrix(const Stream& stream, ActivationType type, int64_t rows, int64_t cols,
               const std::vector<float>& values, int64_t gap = 0)
      : type_(type),
        rows_(rows),
        cols_(cols),
        stride_(cols + gap),
        array_(stream, Spread(values)) {}
  // All NaN.
  DeviceMatrix(const Stream& stream, ActivationType type, int64_t rows, int64_t cols,
               int64_t gap = 0)
      : DeviceMatrix(stream, type, rows, cols,
                     std::vector<float>(rows * cols, std::numeric_limits<float>::quiet_NaN()),
                     gap) {}

  Matrix view() const { return {array_.data(), rows_, cols_, stride_, type_}; }

  // Its bits, rows x cols; the gaps are looked at.
  std::vector<uint16_t> ReadBits() const {
    const std::vector<uint16_t> all = array_.Read();
    std::vector<uint16_t> bits;
    for (int64_t r = 0; r < rows_; ++r) {
      for (int64_t c = 0; c < stride_; ++c) {
        const uint16_t value = all[r * stride_ + c];
        if (c < cols_) {
          bits.push_back(value);
        } else {
          EXPECT_EQ(value, kGap) << "row " << r << ", " << c - cols_ << " past its end";
        }
      }
    }
    return bits;
  }
  std::vector<float> Read() const {
    std::vector<float> values;
    for (uint16_t bits : ReadBits()) values.push_back(FromActivation(type_, bits));
    return values;
  }

 private:
  static constexpr uint16_t kGap = 0x7fffu;  // a NaN of both types

  std::vector<uint16_t> Spread(const std::vector<float>& values) const {
    TANDEM_CHECK(static_cast<int64_t>(values.size()) == rows_ * cols_) << values.size();
    std::vector<uint16_t> bits(rows_ * stride_, kGap);
    for (int64_t r = 0; r < rows_; ++r) {
      for (int64_t c = 0; c < cols_; ++c) {
        bits[r * stride_ + c] = ToActivation(type_, values[r * cols_ + c]);
      }
    }
    return bits;
  }

  ActivationType type_;
  int64_t rows_, cols_, stride_;
  DeviceArray<uint16_t> array_;
};

// Every value within `relative` of the expected one (and `absolute` near zero); NaN and infinities
// at the same places.
inline void ExpectNear(const std::vector<float>& actual, const std::vector<float>& expected,
                       float relative, float absolute) {
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < actual.size(); ++i) {
    const float a = actual[i], e = expected[i];
    if (e != e || a != a || e - e != 0 || a - a != 0) {
      ASSERT_TRUE((e != e && a != a) || a == e) << a << " not " << e << " at " << i;
      continue;
    }
    const float distance = a > e ? a - e : e - a, size = e > 0 ? e : -e;
    ASSERT_LE(distance, relative * size + absolute) << a << " not " << e << " at " << i;
  }
}

}  // namespace tandem::kernels::cuda::testing
