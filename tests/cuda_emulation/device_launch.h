// Launch of kernels/cuda/launch.cuh: the arguments are converted to the kernel's parameters at the
// call and copied for every thread. Part of device_prelude.h.
#pragma once

#include <cuda_runtime_api.h>

#include <functional>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

#include "kernels/cuda/launch.cuh"
#include "tests/cuda_emulation/grid.h"

namespace tandem::emulation {

// The kernel's name with its template arguments, as the compiler spells it.
template <auto kKernel>
constexpr std::string_view KernelName() {
  std::string_view name = __PRETTY_FUNCTION__;
  constexpr std::string_view kBefore = "kKernel = ";
  name.remove_prefix(name.find(kBefore) + kBefore.size());
  name = name.substr(0, name.find("; "));
  for (const std::string_view scope : {"tandem::kernels::cuda::", "{anonymous}::"}) {
    if (name.starts_with(scope)) name.remove_prefix(scope.size());
  }
  return name;
}

template <class... Params, class... Args>
std::function<void()> BindKernel(void (*kernel)(Params...), Args... args) {
  return [kernel, params = std::tuple<std::decay_t<Params>...>(args...)] {
    std::apply(kernel, params);
  };
}

}  // namespace tandem::emulation

namespace tandem::kernels::cuda {

template <auto kKernel, class... Args>
void Launch(const LaunchConfig& config, Args... args) {
  if (config.shared_bytes > 48 * 1024) {  // as under nvcc
    static const cudaError_t opted_in = cudaFuncSetAttribute(
        reinterpret_cast<const void*>(kKernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
        static_cast<int>(config.shared_bytes));
    static_cast<void>(opted_in);
  }
  emulation::GridLaunch launch;
  launch.name = emulation::KernelName<kKernel>();
  launch.kernel = reinterpret_cast<const void*>(kKernel);
  launch.grid = config.grid;
  launch.block = config.block;
  launch.shared_bytes = config.shared_bytes;
  launch.cooperative = config.cooperative;
  launch.dependent = config.dependent;
  launch.thread_body = emulation::BindKernel(kKernel, args...);
  static_cast<void>(emulation::EnqueueGrid(std::move(launch), config.stream));
}

}  // namespace tandem::kernels::cuda
