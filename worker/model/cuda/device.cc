#include "worker/model/cuda/device.h"

#include "common/check.h"

namespace tandem::model::cuda {
namespace {

constexpr int kLeastCapability = 80;

std::string VersionText(int version) {  // 13000: 13.0
  return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

Status CannotBeUsed(const std::string& line) {
  return MakeStatus(StatusCode::kFailedPrecondition, line);
}

// Why the runtime finds no driver that it can work with.
Status NoDriver() {
  int driver = 0, runtime = 0;
  static_cast<void>(cudaDriverGetVersion(&driver));
  static_cast<void>(cudaRuntimeGetVersion(&runtime));
  if (driver == 0) {
    return CannotBeUsed(fmt::format(
        "no NVIDIA driver on this machine; install one for CUDA {} or later, or say 'device: cpu'",
        VersionText(runtime)));
  }
  return CannotBeUsed(
      fmt::format("the NVIDIA driver is for CUDA {}, and this program needs {}; install a later "
                  "driver, or say 'device: cpu'",
                  VersionText(driver), VersionText(runtime)));
}

}  // namespace

Status FromCuda(cudaError_t error, std::string_view what) {
  switch (error) {
    case cudaSuccess:
      return OkStatus();
    case cudaErrorInsufficientDriver:
      return NoDriver();
    case cudaErrorNoDevice:
      return CannotBeUsed(
          "no GPU on this machine, or CUDA_VISIBLE_DEVICES hides it; say 'device: cpu' without "
          "one");
    case cudaErrorMemoryAllocation:
      return ResourceExhausted("{}: no memory", what);
    default:
      return Internal("{}: {} ({})", what, cudaGetErrorString(error), cudaGetErrorName(error));
  }
}

StatusOr<DeviceInfo> UseDevice(int index) {
  int count = 0;
  TANDEM_RETURN_IF_ERROR(FromCuda(cudaGetDeviceCount(&count), "counting GPUs"));
  if (index >= count) {
    return InvalidArgument(
        "GPU {} is wanted, and this machine has {}; lower groups[].tp or change "
        "groups[].devices",
        index, count);
  }
  cudaDeviceProp properties = {};
  TANDEM_RETURN_IF_ERROR(
      FromCuda(cudaGetDeviceProperties(&properties, index), fmt::format("asking GPU {}", index)));
  DeviceInfo info;
  info.index = index;
  info.name = properties.name;
  info.compute_capability = 10 * properties.major + properties.minor;
  info.total_bytes = static_cast<int64_t>(properties.totalGlobalMem);
  if (info.compute_capability < kLeastCapability) {
    return CannotBeUsed(
        fmt::format("GPU {} ({}) has compute capability {}.{}; 8.0 (A100) or later is needed, so "
                    "take another GPU, or say 'device: cpu'",
                    index, info.name, properties.major, properties.minor));
  }
  TANDEM_RETURN_IF_ERROR(FromCuda(cudaSetDevice(index), fmt::format("taking GPU {}", index)));
  return info;
}

StatusOr<int64_t> FreeBytes() {
  size_t free = 0, total = 0;
  TANDEM_RETURN_IF_ERROR(FromCuda(cudaMemGetInfo(&free, &total), "asking for free memory"));
  return static_cast<int64_t>(free);
}

StatusOr<DeviceMemory> AllocateDevice(int64_t bytes) {
  if (bytes == 0) return DeviceMemory();
  void* memory = nullptr;
  TANDEM_RETURN_IF_ERROR(FromCuda(cudaMalloc(&memory, static_cast<size_t>(bytes)),
                                  fmt::format("{} bytes of GPU memory", bytes)));
  return DeviceMemory(memory);
}

StatusOr<PinnedMemory> AllocatePinned(int64_t bytes) {
  if (bytes == 0) return PinnedMemory();
  void* memory = nullptr;
  TANDEM_RETURN_IF_ERROR(FromCuda(cudaMallocHost(&memory, static_cast<size_t>(bytes)),
                                  fmt::format("{} bytes of pinned memory", bytes)));
  return PinnedMemory(memory);
}

StatusOr<Stream> MakeStream() {
  cudaStream_t stream = nullptr;
  TANDEM_RETURN_IF_ERROR(
      FromCuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "making a stream"));
  return Stream(stream);
}

StatusOr<Event> MakeEvent() {
  cudaEvent_t event = nullptr;
  TANDEM_RETURN_IF_ERROR(
      FromCuda(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "making an event"));
  return Event(event);
}

}  // namespace tandem::model::cuda
