// Memory, copies, IPC and peer access of the emulated CUDA runtime.
#include <cuda_runtime_api.h>

#include <cstring>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "tests/cuda_emulation/capture.h"
#include "tests/cuda_emulation/memory.h"
#include "tests/cuda_emulation/options.h"
#include "tests/cuda_emulation/runtime.h"
#include "tests/cuda_emulation/stream.h"

using namespace tandem::emulation;  // NOLINT: this file defines the runtime's own names

namespace {

// Freeing waits for the device, as on a GPU, where a kernel might still use the memory.
cudaError_t Free(MemoryKind kind, void* address) {
  if (const cudaError_t error = EnterUnsafe(); error != cudaSuccess) return error;
  const auto allocation = FindAllocation(address);
  if (allocation) {
    if (const cudaError_t error = WaitDevice(allocation->device); error != cudaSuccess) {
      return error;
    }
  }
  return FreeMemory(kind, address);
}

// One side of a copy.
enum class Side : uint8_t { kDevice, kPinned, kPageable, kBad };

Side SideOf(const void* address, size_t bytes) {
  const auto allocation = FindAllocation(address);
  if (!allocation) return Side::kPageable;
  if (!FindRange(address, bytes)) return Side::kBad;
  return allocation->kind == MemoryKind::kPinned ? Side::kPinned : Side::kDevice;
}

struct Copy {
  void* to;
  const void* from;
  size_t bytes;
  Side to_side;
  Side from_side;
};

bool OnDevice(Side side) { return side == Side::kDevice; }

// What kind says must be true; ranges must lie within one allocation.
cudaError_t CheckCopy(Copy& copy, cudaMemcpyKind kind) {
  copy.to_side = SideOf(copy.to, copy.bytes);
  copy.from_side = SideOf(copy.from, copy.bytes);
  if (copy.to == nullptr || copy.from == nullptr) return cudaErrorInvalidValue;
  if (copy.to_side == Side::kBad || copy.from_side == Side::kBad) return cudaErrorInvalidValue;
  const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  if (kind == cudaMemcpyDefault) return cudaSuccess;
  if (kind < cudaMemcpyHostToHost || kind > cudaMemcpyDefault) {
    return cudaErrorInvalidMemcpyDirection;
  }
  const bool fits = OnDevice(copy.to_side) == to_device && OnDevice(copy.from_side) == from_device;
  return fits ? cudaSuccess : cudaErrorInvalidValue;
}

// Pageable memory is read at the call and written before it returns; pinned memory is touched when
// the stream gets there.
cudaError_t CopyOn(CUstream_st& stream, const Copy& copy) {
  const auto run = [](void* to, const void* from, size_t bytes) {
    return [=] { std::memcpy(to, from, bytes); };
  };
  const bool reads_now = copy.from_side == Side::kPageable;
  const bool writes_now = copy.to_side == Side::kPageable;
  if (reads_now || writes_now) {
    if (const cudaError_t error = CheckNotCaptured(stream); error != cudaSuccess) return error;
  }
  if (!reads_now) {
    const cudaError_t error =
        EnqueueOrCapture(stream, Simple("a copy", run(copy.to, copy.from, copy.bytes)));
    return error == cudaSuccess && writes_now ? WaitStream(stream) : error;
  }
  const auto* bytes = static_cast<const char*>(copy.from);
  const auto staged = std::make_shared<std::vector<char>>(bytes, bytes + copy.bytes);
  Enqueue(stream, Simple("a copy from the host", [staged, to = copy.to] {
            std::memcpy(to, staged->data(), staged->size());
          }));
  return writes_now ? WaitStream(stream) : cudaSuccess;
}

cudaError_t CopyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                      cudaStream_t handle) {
  if (const cudaError_t error = Enter(); error != cudaSuccess) return error;
  const auto stream = FindStream(handle);
  if (stream == nullptr) return cudaErrorInvalidResourceHandle;
  if (bytes == 0) return cudaSuccess;
  Copy copy{to, from, bytes, {}, {}};
  if (const cudaError_t error = CheckCopy(copy, kind); error != cudaSuccess) return error;
  return CopyOn(*stream, copy);
}

cudaError_t CopyNow(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  if (const cudaError_t error = EnterUnsafe(); error != cudaSuccess) return error;
  if (bytes == 0) return cudaSuccess;
  Copy copy{to, from, bytes, {}, {}};
  if (const cudaError_t error = CheckCopy(copy, kind); error != cudaSuccess) return error;
  // In the default stream's order: after the streams that are not cudaStreamNonBlocking.
  if (const cudaError_t error = WaitBlockingStreams(CurrentDevice()); error != cudaSuccess) {
    return error;
  }
  const DeviceAccess access;
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}

cudaError_t SetAsync(void* to, int value, size_t bytes, cudaStream_t handle) {
  if (const cudaError_t error = Enter(); error != cudaSuccess) return error;
  const auto stream = FindStream(handle);
  if (stream == nullptr) return cudaErrorInvalidResourceHandle;
  if (bytes == 0) return cudaSuccess;
  const Side side = SideOf(to, bytes);
  if (side == Side::kBad || side == Side::kPageable) return cudaErrorInvalidValue;
  return EnqueueOrCapture(*stream, Simple("a memset", [=] { std::memset(to, value, bytes); }));
}

cudaError_t Copy2D(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width,
                   size_t height, cudaMemcpyKind kind, cudaStream_t handle) {
  if (width > to_pitch || width > from_pitch) return cudaErrorInvalidPitchValue;
  for (size_t row = 0; row < height; ++row) {
    const cudaError_t error =
        CopyAsync(static_cast<char*>(to) + row * to_pitch,
                  static_cast<const char*>(from) + row * from_pitch, width, kind, handle);
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

thread_local std::set<std::pair<int, int>> peers_enabled;  // (this device, peer)

bool CanAccess(int device, int peer) { return device != peer && GetOptions().peer_access; }

bool IsDevice(int device) { return device >= 0 && device < GetOptions().devices; }

}  // namespace

extern "C" {

// Waits for kernels, also for those of other devices, as it may on GPUs that see each other's
// memory: ranks of one process that allocate while others wait for them hang.
cudaError_t cudaMalloc(void** address, size_t bytes) {
  if (const cudaError_t error = EnterUnsafe(); error != cudaSuccess) return Return(error);
  WaitUntilNothingRuns();
  return Return(AllocateDevice(CurrentDevice(), bytes, address));
}

cudaError_t cudaFree(void* address) {
  return Return(address == nullptr ? Enter() : Free(MemoryKind::kDevice, address));
}

cudaError_t cudaHostAlloc(void** address, size_t bytes, unsigned int flags) {
  if (const cudaError_t error = EnterUnsafe(); error != cudaSuccess) return Return(error);
  constexpr unsigned kKnown =
      cudaHostAllocPortable | cudaHostAllocMapped | cudaHostAllocWriteCombined;
  if ((flags & ~kKnown) != 0) return Return(cudaErrorInvalidValue);
  return Return(AllocatePinned(CurrentDevice(), bytes, address));
}

cudaError_t cudaMallocHost(void** address, size_t bytes) {
  return cudaHostAlloc(address, bytes, cudaHostAllocDefault);
}

cudaError_t cudaFreeHost(void* address) {
  return Return(address == nullptr ? Enter() : Free(MemoryKind::kPinned, address));
}

cudaError_t cudaHostRegister(void* address, size_t bytes, unsigned int) {
  if (const cudaError_t error = EnterUnsafe(); error != cudaSuccess) return Return(error);
  return Return(RegisterPinned(CurrentDevice(), address, bytes));
}

cudaError_t cudaHostUnregister(void* address) {
  if (const cudaError_t error = EnterUnsafe(); error != cudaSuccess) return Return(error);
  return Return(UnregisterPinned(address));
}

cudaError_t cudaHostGetDevicePointer(void** on_device, void* address, unsigned int flags) {
  const auto allocation = FindAllocation(address);
  if (flags != 0 || !allocation || allocation->kind != MemoryKind::kPinned) {
    return Return(cudaErrorInvalidValue);
  }
  *on_device = address;  // unified addressing
  return Return(Enter());
}

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  if (const cudaError_t error = Enter(); error != cudaSuccess) return Return(error);
  *free = FreeBytes(CurrentDevice());
  *total = static_cast<size_t>(GetOptions().memory);
  return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* address) {
  if (const cudaError_t error = Enter(); error != cudaSuccess) return Return(error);
  *attributes = {};
  const auto allocation = FindAllocation(address);
  if (!allocation) {
    attributes->type = cudaMemoryTypeUnregistered;
    attributes->device = -2;
    attributes->hostPointer = const_cast<void*>(address);
    return cudaSuccess;
  }
  const bool pinned = allocation->kind == MemoryKind::kPinned;
  attributes->type = pinned ? cudaMemoryTypeHost : cudaMemoryTypeDevice;
  attributes->device = allocation->device;
  attributes->devicePointer = const_cast<void*>(address);
  attributes->hostPointer = pinned ? const_cast<void*>(address) : nullptr;
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  return Return(CopyAsync(to, from, bytes, kind, stream));
}

cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch,
                              size_t width, size_t height, cudaMemcpyKind kind,
                              cudaStream_t stream) {
  return Return(Copy2D(to, to_pitch, from, from_pitch, width, height, kind, stream));
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  return Return(CopyNow(to, from, bytes, kind));
}

cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  return Return(SetAsync(to, value, bytes, stream));
}

cudaError_t cudaIpcGetMemHandle(cudaIpcMemHandle_t* handle, void* address) {
  if (const cudaError_t error = Enter(); error != cudaSuccess) return Return(error);
  const auto allocation = FindAllocation(address);
  if (!allocation || allocation->kind != MemoryKind::kDevice) return Return(cudaErrorInvalidValue);
  const SharedPlace place = PlaceOf(allocation->begin);
  static_assert(sizeof(place) <= sizeof(*handle));
  *handle = {};
  std::memcpy(handle->reserved, &place, sizeof(place));
  return cudaSuccess;
}

cudaError_t cudaIpcOpenMemHandle(void** address, cudaIpcMemHandle_t handle, unsigned int flags) {
  if (const cudaError_t error = EnterUnsafe(); error != cudaSuccess) return Return(error);
  if (flags != cudaIpcMemLazyEnablePeerAccess) return Return(cudaErrorInvalidValue);
  SharedPlace place;
  std::memcpy(static_cast<void*>(&place), handle.reserved, sizeof(place));
  if (place.device != CurrentDevice() && !GetOptions().peer_access) {
    return Return(cudaErrorPeerAccessUnsupported);
  }
  return Return(MapShared(CurrentDevice(), place, address));
}

cudaError_t cudaIpcCloseMemHandle(void* address) {
  return Return(Free(MemoryKind::kPeer, address));
}

cudaError_t cudaDeviceCanAccessPeer(int* can, int device, int peer) {
  if (!IsDevice(device) || !IsDevice(peer)) return Return(cudaErrorInvalidDevice);
  *can = CanAccess(device, peer) ? 1 : 0;
  return Return(Enter());
}

cudaError_t cudaDeviceEnablePeerAccess(int peer, unsigned int flags) {
  if (const cudaError_t error = EnterUnsafe(); error != cudaSuccess) return Return(error);
  if (flags != 0) return Return(cudaErrorInvalidValue);
  if (!IsDevice(peer)) return Return(cudaErrorInvalidDevice);
  if (!CanAccess(CurrentDevice(), peer)) return Return(cudaErrorPeerAccessUnsupported);
  const bool first = peers_enabled.emplace(CurrentDevice(), peer).second;
  return Return(first ? cudaSuccess : cudaErrorPeerAccessAlreadyEnabled);
}

}  // extern "C"
