#include "tests/cuda_emulation/architecture.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <unordered_map>

#include "tests/cuda_emulation/options.h"

namespace tandem::emulation {
namespace {

constexpr Architecture kArchitectures[] = {
    {75, "T4", 40, 1024, 16, 64 << 10, 64 << 10},
    {80, "A100", 108, 2048, 32, 164 << 10, 163 << 10},
    {86, "A2", 10, 1536, 16, 100 << 10, 99 << 10},
    {90, "H100", 132, 2048, 32, 228 << 10, 227 << 10},
    {100, "B200", 148, 2048, 32, 228 << 10, 227 << 10},
};

struct Opted {
  std::mutex mutex;
  std::unordered_map<const void*, size_t> bytes;
};
Opted& TheOpted() {
  static auto* opted = new Opted;
  return *opted;
}

}  // namespace

const Architecture& TheArchitecture() {
  for (const Architecture& a : kArchitectures) {
    if (a.capability == GetOptions().arch) return a;
  }
  return kArchitectures[3];
}

void FillProperties(cudaDeviceProp& p, int device) {
  const Architecture& a = TheArchitecture();
  p = {};
  std::snprintf(p.name, sizeof(p.name), "%s (emulated)", a.name);
  p.uuid.bytes[15] = static_cast<char>(device + 1);
  p.totalGlobalMem = static_cast<size_t>(GetOptions().memory);
  p.sharedMemPerBlock = kSharedWithoutOptIn;
  p.sharedMemPerBlockOptin = a.shared_per_block;
  p.sharedMemPerMultiprocessor = a.shared_per_multiprocessor;
  p.reservedSharedMemPerBlock = kReservedSharedPerBlock;
  p.regsPerBlock = p.regsPerMultiprocessor = 65536;
  p.warpSize = 32;
  p.maxThreadsPerBlock = kMaxThreadsPerBlock;
  p.maxThreadsPerMultiProcessor = a.threads_per_multiprocessor;
  p.maxBlocksPerMultiProcessor = a.blocks_per_multiprocessor;
  const int block[] = {1024, 1024, 64};
  const int grid[] = {2147483647, 65535, 65535};
  std::copy_n(block, 3, p.maxThreadsDim);
  std::copy_n(grid, 3, p.maxGridSize);
  p.major = a.capability / 10;
  p.minor = a.capability % 10;
  p.multiProcessorCount = a.multiprocessors;
  p.canMapHostMemory = p.unifiedAddressing = p.concurrentKernels = p.cooperativeLaunch = 1;
  p.streamPrioritiesSupported = p.hostRegisterSupported = p.computePreemptionSupported = 1;
  p.asyncEngineCount = 3;
  p.l2CacheSize = 50 << 20;
  p.memoryBusWidth = 5120;
  p.pciBusID = device + 1;
}

cudaError_t DeviceAttribute(int* value, cudaDeviceAttr attribute, int device) {
  cudaDeviceProp p;
  FillProperties(p, device);
  const std::pair<cudaDeviceAttr, int64_t> known[] = {
      {cudaDevAttrMaxThreadsPerBlock, p.maxThreadsPerBlock},
      {cudaDevAttrMaxSharedMemoryPerBlock, p.sharedMemPerBlock},
      {cudaDevAttrMaxSharedMemoryPerBlockOptin, p.sharedMemPerBlockOptin},
      {cudaDevAttrMaxSharedMemoryPerMultiprocessor, p.sharedMemPerMultiprocessor},
      {cudaDevAttrReservedSharedMemoryPerBlock, p.reservedSharedMemPerBlock},
      {cudaDevAttrMaxRegistersPerBlock, p.regsPerBlock},
      {cudaDevAttrMaxRegistersPerMultiprocessor, p.regsPerMultiprocessor},
      {cudaDevAttrWarpSize, p.warpSize},
      {cudaDevAttrMultiProcessorCount, p.multiProcessorCount},
      {cudaDevAttrMaxThreadsPerMultiProcessor, p.maxThreadsPerMultiProcessor},
      {cudaDevAttrMaxBlocksPerMultiprocessor, p.maxBlocksPerMultiProcessor},
      {cudaDevAttrComputeCapabilityMajor, p.major},
      {cudaDevAttrComputeCapabilityMinor, p.minor},
      {cudaDevAttrCooperativeLaunch, p.cooperativeLaunch},
      {cudaDevAttrL2CacheSize, p.l2CacheSize},
      {cudaDevAttrGlobalMemoryBusWidth, p.memoryBusWidth},
      {cudaDevAttrMemoryClockRate, 2'619'000},
      {cudaDevAttrClockRate, 1'980'000},
      {cudaDevAttrPciBusId, p.pciBusID},
      {cudaDevAttrUnifiedAddressing, p.unifiedAddressing},
  };
  for (const auto& [name, number] : known) {
    if (name != attribute) continue;
    *value = static_cast<int>(number);
    return cudaSuccess;
  }
  return cudaErrorNotSupported;  // nobody needed it yet: add it above
}

cudaError_t SetMaxDynamicShared(const void* kernel, int bytes) {
  if (bytes < 0 || static_cast<size_t>(bytes) > TheArchitecture().shared_per_block) {
    return cudaErrorInvalidValue;
  }
  const std::lock_guard lock(TheOpted().mutex);
  TheOpted().bytes[kernel] = static_cast<size_t>(bytes);
  return cudaSuccess;
}

size_t MaxDynamicShared(const void* kernel) {
  const std::lock_guard lock(TheOpted().mutex);
  const auto it = TheOpted().bytes.find(kernel);
  return it == TheOpted().bytes.end() ? kSharedWithoutOptIn : it->second;
}

int MaxActiveBlocks(int block_threads, size_t dynamic_shared) {
  const Architecture& a = TheArchitecture();
  const int warps = (block_threads + 31) / 32;
  const int by_threads = a.threads_per_multiprocessor / 32 / std::max(warps, 1);
  const size_t shared = dynamic_shared + kReservedSharedPerBlock;
  const auto by_shared = static_cast<int>(a.shared_per_multiprocessor / shared);
  return std::min({by_threads, by_shared, a.blocks_per_multiprocessor});
}

cudaError_t CheckLaunch(const GridLaunch& launch) {
  const dim3& g = launch.grid;
  const dim3& b = launch.block;
  const uint64_t threads = uint64_t{b.x} * b.y * b.z;
  if (g.x == 0 || g.y == 0 || g.z == 0 || threads == 0 || b.x > 1024 || b.y > 1024 || b.z > 64 ||
      threads > kMaxThreadsPerBlock || g.x > 2147483647u || g.y > 65535 || g.z > 65535) {
    return cudaErrorInvalidConfiguration;
  }
  if (launch.shared_bytes > MaxDynamicShared(launch.kernel)) return cudaErrorInvalidValue;
  if (launch.cooperative) {
    const int resident = MaxActiveBlocks(static_cast<int>(threads), launch.shared_bytes) *
                         TheArchitecture().multiprocessors;
    if (uint64_t{g.x} * g.y * g.z > static_cast<uint64_t>(resident)) {
      return cudaErrorCooperativeLaunchTooLarge;
    }
  }
  return cudaSuccess;
}

}  // namespace tandem::emulation
