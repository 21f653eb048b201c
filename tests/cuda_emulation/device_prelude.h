// What the host's compiler is given (-include) before a .cu file, in place of nvcc: CUDA's built-in
// names and the functions of kernels/cuda/ptx.cuh, on the emulation. Names that kernels do not use
// are missing; add them here when one does. Barriers and collectives take their call site as
// trailing arguments, so that two of them are told apart.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "tests/cuda_emulation/device_atomics.h"
#include "tests/cuda_emulation/device_launch.h"
#include "tests/cuda_emulation/device_math.h"
#include "tests/cuda_emulation/device_ptx.h"
#include "tests/cuda_emulation/device_warp.h"
#include "tests/cuda_emulation/thread_index.h"

#ifndef __launch_bounds__
#define __launch_bounds__(...)
#endif

// A block's variable: found by the address of a static of its own in every instantiation of the
// template that it stands in.
#define TANDEM_SHARED(type, name, dims)                                                           \
  static char name##_shared_key;                                                                  \
  using name##_shared_type = type dims;                                                           \
  name##_shared_type& name = *static_cast<name##_shared_type*>(::tandem::emulation::StaticShared( \
      &name##_shared_key, sizeof(name##_shared_type), alignof(name##_shared_type), #name))
#define TANDEM_DYNAMIC_SHARED(name) \
  unsigned char* name = static_cast<unsigned char*>(::tandem::emulation::DynamicShared())
