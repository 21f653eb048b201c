#include "tests/cuda_emulation/runtime.h"

#include <cstdio>
#include <utility>

#include "tests/cuda_emulation/architecture.h"
#include "tests/cuda_emulation/capture.h"
#include "tests/cuda_emulation/grid.h"
#include "tests/cuda_emulation/options.h"
#include "tests/cuda_emulation/stream.h"

namespace tandem::emulation {
namespace {

thread_local int current_device = 0;
thread_local cudaError_t last_error = cudaSuccess;

cudaError_t TryEnqueueGrid(GridLaunch launch, cudaStream_t handle) {
  if (const cudaError_t error = Enter(); error != cudaSuccess) return error;
  const auto stream = FindStream(handle);
  if (stream == nullptr || stream->device != current_device) return cudaErrorInvalidResourceHandle;
  if (const cudaError_t error = CheckLaunch(launch); error != cudaSuccess) return error;
  Work work;
  work.name = launch.name;
  work.grid = std::move(launch);
  return EnqueueOrCapture(*stream, std::move(work));
}

int DriverVersion() { return GetOptions().driver < 0 ? CUDART_VERSION : GetOptions().driver; }

// A runtime works with every driver of its major version, and with later ones.
cudaError_t CheckDriver() {
  const bool works = DriverVersion() / 1000 >= CUDART_VERSION / 1000;
  return works ? cudaSuccess : cudaErrorInsufficientDriver;
}

}  // namespace

cudaError_t EnqueueGrid(GridLaunch launch, cudaStream_t stream) {
  return Return(TryEnqueueGrid(std::move(launch), stream));
}

int CurrentDevice() { return current_device; }

cudaError_t Return(cudaError_t error) {
  if (error != cudaSuccess && error != cudaErrorNotReady) last_error = error;
  return error;
}

cudaError_t Enter() {
  if (InHostFunction()) return cudaErrorNotPermitted;
  if (const cudaError_t error = CheckDriver(); error != cudaSuccess) return error;
  return DeviceError(current_device);
}

cudaError_t EnterUnsafe() {
  const cudaError_t error = Enter();
  return error != cudaSuccess ? error : CheckUnsafeCall();
}

}  // namespace tandem::emulation

using namespace tandem::emulation;  // NOLINT: this file defines the runtime's own names

extern "C" {

cudaError_t cudaGetLastError() {
  const cudaError_t error = last_error;
  last_error = DeviceError(current_device);  // that one stays
  return error;
}

cudaError_t cudaPeekAtLastError() { return last_error; }

cudaError_t cudaGetDeviceCount(int* count) {
  if (const cudaError_t error = CheckDriver(); error != cudaSuccess) return Return(error);
  *count = GetOptions().devices;
  return Return(*count > 0 ? cudaSuccess : cudaErrorNoDevice);
}

cudaError_t cudaSetDevice(int device) {
  if (InHostFunction()) return Return(cudaErrorNotPermitted);
  if (device < 0 || device >= GetOptions().devices) return Return(cudaErrorInvalidDevice);
  current_device = device;
  return Return(DeviceError(device));
}

cudaError_t cudaGetDevice(int* device) {
  *device = current_device;
  return Return(Enter());
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (device < 0 || device >= GetOptions().devices) return Return(cudaErrorInvalidDevice);
  FillProperties(*properties, device);
  return Return(Enter());
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  if (device < 0 || device >= GetOptions().devices) return Return(cudaErrorInvalidDevice);
  return Return(DeviceAttribute(value, attribute, device));
}

cudaError_t cudaDeviceGetPCIBusId(char* text, int size, int device) {
  if (device < 0 || device >= GetOptions().devices) return Return(cudaErrorInvalidDevice);
  if (std::snprintf(text, static_cast<size_t>(size), "0000:%02x:00.0", device + 1) >= size) {
    return Return(cudaErrorInvalidValue);
  }
  return cudaSuccess;
}

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = 0;
  *greatest = -5;
  return Return(Enter());
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = DriverVersion();
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize() {
  if (const cudaError_t error = EnterUnsafe(); error != cudaSuccess) return Return(error);
  return Return(WaitDevice(current_device));
}

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  if (const cudaError_t error = Enter(); error != cudaSuccess) return Return(error);
  if (attribute == cudaFuncAttributePreferredSharedMemoryCarveout) return cudaSuccess;  // a hint
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) {
    return Return(cudaErrorInvalidValue);
  }
  return Return(SetMaxDynamicShared(kernel, value));
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void* kernel,
                                                          int block_threads, size_t shared) {
  if (block_threads <= 0 || block_threads > kMaxThreadsPerBlock) {
    return Return(cudaErrorInvalidValue);
  }
  *blocks = shared > MaxDynamicShared(kernel) ? 0 : MaxActiveBlocks(block_threads, shared);
  return Return(Enter());
}

}  // extern "C"
