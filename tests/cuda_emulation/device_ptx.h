// The functions of kernels/cuda/ptx.cuh, which says what they mean. Part of device_prelude.h.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <math.h>

#include <cstdint>

#include "tests/cuda_emulation/async_copy.h"
#include "tests/cuda_emulation/collectives.h"
#include "tests/cuda_emulation/device_warp.h"

namespace tandem::kernels::cuda {

inline void MmaM16N8K16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                        __nv_bfloat16, TANDEM_CALLER) {
  emulation::MmaBf16(d, a, b, {file, line});
}
inline void MmaM16N8K16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], __half,
                        TANDEM_CALLER) {
  emulation::MmaF16(d, a, b, {file, line});
}

inline void LdMatrixX4(uint32_t (&r)[4], const void* shared_row, TANDEM_CALLER) {
  emulation::LoadMatrix(r, shared_row, false, {file, line});
}
inline void LdMatrixX4Trans(uint32_t (&r)[4], const void* shared_row, TANDEM_CALLER) {
  emulation::LoadMatrix(r, shared_row, true, {file, line});
}

inline void CpAsync16(void* shared, const void* global, bool valid = true) {
  emulation::IssueAsyncCopy(shared, global, valid);
}
inline void CpAsyncCommit() { emulation::CommitAsyncCopies(); }
template <int kPending>
inline void CpAsyncWait() {
  emulation::WaitAsyncCopies(kPending);
}

inline uint32_t LoadAcquire(const uint32_t* address) {
  return __atomic_load_n(address, __ATOMIC_ACQUIRE);
}
inline void StoreRelease(uint32_t* address, uint32_t value) {
  __atomic_store_n(address, value, __ATOMIC_RELEASE);
  emulation::NoteProgress();
}
inline void SpinPause(TANDEM_CALLER) { emulation::Spin({file, line}); }

inline void DependentLaunchWait(TANDEM_CALLER) { emulation::WaitForPrimary({file, line}); }
inline void DependentLaunchTrigger() {}  // the emulation may begin the next grid at any time

inline float Exp2(float x) { return exp2f(x); }

inline float WarpSum(float x, TANDEM_CALLER) { return emulation::WarpSum(x, {file, line}); }
inline float WarpMax(float x, TANDEM_CALLER) { return emulation::WarpMax(x, {file, line}); }
inline unsigned long long WarpSum(unsigned long long x, TANDEM_CALLER) {
  return emulation::WarpInteger(emulation::WarpIntegerKind::kSum, x, {file, line});
}
inline unsigned long long WarpMax(unsigned long long x, TANDEM_CALLER) {
  return emulation::WarpInteger(emulation::WarpIntegerKind::kMax, x, {file, line});
}
inline unsigned long long WarpSumUpTo(unsigned long long x, TANDEM_CALLER) {
  return emulation::WarpInteger(emulation::WarpIntegerKind::kSumUpTo, x, {file, line});
}

}  // namespace tandem::kernels::cuda
