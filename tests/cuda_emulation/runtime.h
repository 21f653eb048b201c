// What the entry points of the emulated CUDA runtime share. cudart_*.cc define the functions of
// cuda_runtime_api.h under their own names, so that programs compile against the real header and
// link this instead of libcudart.
#pragma once

#include <cuda_runtime_api.h>

namespace tandem::emulation {

// The device that is current for this thread.
int CurrentDevice();

// Sets this thread's last error unless `error` is cudaSuccess or cudaErrorNotReady; returns it.
cudaError_t Return(cudaError_t error);

// What every call fails with before it does anything: the error of a failed device, or
// cudaErrorNotPermitted in a function that cudaLaunchHostFunc runs.
cudaError_t Enter();
// Enter, for calls that no capture allows.
cudaError_t EnterUnsafe();

}  // namespace tandem::emulation
