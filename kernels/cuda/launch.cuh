// Launches a kernel. For .cu files only; `<<<>>>` is not used, so that the emulation sees every
// launch. Under emulation the prelude has its own Launch of the same signature.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>

namespace tandem::kernels::cuda {

struct LaunchConfig {
  dim3 grid;
  dim3 block;
  size_t shared_bytes = 0;  // dynamic; above 48 KiB the kernel is opted in once
  cudaStream_t stream = nullptr;
  bool dependent = false;    // may begin before the launch before ends: see DependentLaunchWait
  bool cooperative = false;  // blocks wait for each other, so all must be resident at once
};

#ifdef __CUDACC__
// Before compute capability 9.0 nobody promises that the attribute is ignored. A process has one
// device.
inline bool HasDependentLaunches() {
  static const bool has = [] {
    int device = 0, major = 0;
    return cudaGetDevice(&device) == cudaSuccess &&
           cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) ==
               cudaSuccess &&
           major >= 9;
  }();
  return has;
}

// Launch<&Kernel<float>>(config, args...): failure stays in cudaPeekAtLastError(). A kernel is
// always launched with the same shared_bytes limit; REQUIRES: shared_bytes of its first launch
// above 48 KiB is the largest it ever asks for.
template <auto kKernel, class... Args>
void Launch(const LaunchConfig& config, Args... args) {
  if (config.shared_bytes > 48 * 1024) {
    static const cudaError_t opted_in = cudaFuncSetAttribute(
        reinterpret_cast<const void*>(kKernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
        static_cast<int>(config.shared_bytes));
    static_cast<void>(opted_in);  // a refusal fails the launch
  }
  cudaLaunchAttribute attributes[2] = {};
  unsigned count = 0;
  if (config.dependent && HasDependentLaunches()) {
    attributes[count].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[count++].val.programmaticStreamSerializationAllowed = 1;
  }
  if (config.cooperative) {
    attributes[count].id = cudaLaunchAttributeCooperative;
    attributes[count++].val.cooperative = 1;
  }
  cudaLaunchConfig_t launch = {};
  launch.gridDim = config.grid;
  launch.blockDim = config.block;
  launch.dynamicSmemBytes = config.shared_bytes;
  launch.stream = config.stream;
  launch.attrs = attributes;
  launch.numAttrs = count;
  static_cast<void>(cudaLaunchKernelEx(&launch, kKernel, args...));
}
#else
// Defined by the emulation: takes the kernel's arguments into a closure and enqueues it.
template <auto kKernel, class... Args>
void Launch(const LaunchConfig& config, Args... args);
#endif

}  // namespace tandem::kernels::cuda
