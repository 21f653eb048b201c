// Memory of the emulated devices, and pinned memory of the host.
//
// Every allocation has pages of its own between inaccessible ones; freed ones become inaccessible
// and their addresses are not used again. New memory holds 0xFF (NaN in every float format). The
// memory of all devices of a process lies in one memfd, so that other processes can map or read it
// (IPC handles, collectives) and nothing is left in /dev/shm, whoever dies.
//
// Only a thread inside a DeviceAccess may touch device memory (see Options::hostguard).
//
// Thread: any.
#pragma once

#include <driver_types.h>

#include <cstddef>
#include <cstdint>
#include <optional>

namespace tandem::emulation {

enum class MemoryKind : uint8_t { kDevice, kPinned, kPeer /* another process's, over IPC */ };

struct Allocation {
  uint64_t id = 0;  // counts from 1 in this process
  MemoryKind kind = MemoryKind::kDevice;
  char* begin = nullptr;
  size_t bytes = 0;
  int device = 0;  // of pinned memory: the one that was current
  bool freed = false;
};

// cudaErrorMemoryAllocation when the device has not that much left.
cudaError_t AllocateDevice(int device, size_t bytes, void** out);
cudaError_t AllocatePinned(int device, size_t bytes, void** out);
// cudaErrorInvalidValue for what is not the begin of a live allocation of this kind.
cudaError_t FreeMemory(MemoryKind kind, void* address);

// cudaHostRegister: memory of the program's own that counts as pinned from now on.
cudaError_t RegisterPinned(int device, void* address, size_t bytes);
cudaError_t UnregisterPinned(void* address);

size_t FreeBytes(int device);

// The live allocation that `address` is in.
std::optional<Allocation> FindAllocation(const void* address);
// The same if all of [address, address + bytes) is.
std::optional<Allocation> FindRange(const void* address, size_t bytes);

// What report.h calls an AddressNamer; allocations install it.
bool NameAddress(const void* address, bool kernel, char* text, size_t size);

// Where memory of this process is for others.
struct SharedPlace {
  int32_t pid = 0;
  int32_t fd = -1;
  uint64_t offset = 0;  // in the file
  uint64_t id = 0;      // of the allocation
  uint64_t bytes = 0;
  int32_t device = 0;
};
// REQUIRES: address is of live device memory.
SharedPlace PlaceOf(const void* address);
// Reads from another process's memory (or this one's).
bool ReadShared(const SharedPlace& place, void* to, size_t bytes);
// Maps an allocation of another process: kPeer.
cudaError_t MapShared(int device, const SharedPlace& place, void** out);

// Whether the host is kept out of device memory at all.
bool HostIsGuarded();

class DeviceAccess {
 public:
  DeviceAccess();
  ~DeviceAccess();
  DeviceAccess(const DeviceAccess&) = delete;
  DeviceAccess& operator=(const DeviceAccess&) = delete;
};

}  // namespace tandem::emulation
