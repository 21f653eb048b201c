#include "tests/cuda_emulation/memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <map>
#include <mutex>

#include "tests/cuda_emulation/options.h"
#include "tests/cuda_emulation/report.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(begin, bytes) (static_cast<void>(begin), static_cast<void>(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(begin, bytes) \
  (static_cast<void>(begin), static_cast<void>(bytes))
#endif

namespace tandem::emulation {
namespace {

constexpr size_t kPage = 4096;
constexpr size_t kChunk = 256;  // what accounting rounds to
constexpr int kMaxDevices = 64;

size_t RoundUp(size_t n, size_t to) { return (n + to - 1) / to * to; }
uintptr_t Number(const void* p) { return reinterpret_cast<uintptr_t>(p); }

// An allocation with the pages it lies in: [pages, pages + page_bytes), an inaccessible page on
// either side.
struct Block : Allocation {
  char* pages = nullptr;
  size_t page_bytes = 0;
  int pid = 0;  // device memory: of whose file,
  int fd = -1;
  uint64_t offset = 0;  // and where in it `pages` begin
  bool registered = false;
};

struct Memory {
  std::mutex mutex;
  std::map<uintptr_t, Block> blocks;  // by the end of their guard page, freed ones too
  size_t used[kMaxDevices] = {};
  uint64_t next_id = 1;
  int pid = 0;  // a process that was forked off (a death test) gets a file of its own
  int fd = -1;
  uint64_t file_end = 0;
  int key = -1;    // protection key, if the machine has them
  int guests = 0;  // DeviceAccesses, for the guard by mprotect
};

Memory& TheMemory() {
  static Memory* memory = [] {
    auto* m = new Memory;  // never destroyed: kernels may run while the process exits
    if (GetOptions().hostguard == HostGuard::kAuto) m->key = pkey_alloc(0, PKEY_DISABLE_ACCESS);
    SetAddressNamer(&NameAddress);
    CatchFaults();
    return m;
  }();
  return *memory;
}

// The file that this process's new memory goes to.
void OpenFile(Memory& memory) {
  if (memory.pid == getpid()) return;
  memory.pid = getpid();
  memory.file_end = 0;
  memory.fd = memfd_create("tandem-device-memory", MFD_CLOEXEC);
  if (memory.fd < 0 || ftruncate(memory.fd, int64_t{1} << 42) != 0) Fail("no memory for devices");
}

thread_local int access_depth = 0;

bool GuardedByMprotect(const Block& block) {
  return GetOptions().hostguard == HostGuard::kMprotect && block.kind != MemoryKind::kPinned;
}

void Protect(const Memory& memory, const Block& block) {
  if (block.kind == MemoryKind::kPinned) return;
  if (memory.key >= 0) {
    pkey_mprotect(block.pages, block.page_bytes, PROT_READ | PROT_WRITE, memory.key);
  } else if (GuardedByMprotect(block) && memory.guests == 0) {
    mprotect(block.pages, block.page_bytes, PROT_NONE);
  }
}

void ProtectAll(Memory& memory, int protection) {
  for (auto& [end, block] : memory.blocks) {
    if (!block.freed && GuardedByMprotect(block)) {
      mprotect(block.pages, block.page_bytes, protection);
    }
  }
}

// Address space for `bytes` of pages between two guard pages; never given back.
char* Reserve(size_t bytes) {
  void* base = mmap(nullptr, bytes + 2 * kPage, PROT_NONE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return base == MAP_FAILED ? nullptr : static_cast<char*>(base) + kPage;
}

bool Map(char* pages, size_t bytes, int fd, uint64_t offset) {
  const int flags = MAP_FIXED | (fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED);
  return mmap(pages, bytes, PROT_READ | PROT_WRITE, flags, fd, static_cast<off_t>(offset)) !=
         MAP_FAILED;
}

Block& Insert(Memory& memory, Block block) {
  block.id = memory.next_id++;
  return memory.blocks.emplace(Number(block.pages + block.page_bytes + kPage), block).first->second;
}

Block* Find(Memory& memory, const void* address) {
  const auto it = memory.blocks.upper_bound(Number(address));
  if (it == memory.blocks.end()) return nullptr;
  return Number(address) + kPage >= Number(it->second.pages) ? &it->second : nullptr;
}

cudaError_t Allocate(MemoryKind kind, int device, size_t bytes, void** out) {
  *out = nullptr;
  if (bytes == 0) return cudaSuccess;
  Memory& memory = TheMemory();
  const std::lock_guard lock(memory.mutex);
  const bool on_device = kind == MemoryKind::kDevice;
  const auto limit = static_cast<size_t>(GetOptions().memory);
  if (on_device && RoundUp(bytes, kChunk) > limit - std::min(limit, memory.used[device])) {
    return cudaErrorMemoryAllocation;
  }
  OpenFile(memory);
  Block block;
  block.kind = kind;
  block.device = device;
  block.bytes = bytes;
  block.page_bytes = RoundUp(bytes, kPage);
  block.pid = memory.pid;
  block.fd = on_device ? memory.fd : -1;
  block.offset = memory.file_end;
  block.pages = Reserve(block.page_bytes);
  if (block.pages == nullptr || !Map(block.pages, block.page_bytes, block.fd, block.offset)) {
    return cudaErrorMemoryAllocation;
  }
  std::memset(block.pages, 0xFF, block.page_bytes);
  const auto align = static_cast<size_t>(GetOptions().align);
  block.begin = block.pages + block.page_bytes - RoundUp(bytes, align);
  ASAN_POISON_MEMORY_REGION(block.pages, block.page_bytes);
  ASAN_UNPOISON_MEMORY_REGION(block.begin, bytes);
  if (on_device) {
    memory.file_end += block.page_bytes;
    memory.used[device] += RoundUp(bytes, kChunk);
  }
  *out = Insert(memory, block).begin;
  Protect(memory, block);
  return cudaSuccess;
}

}  // namespace

cudaError_t AllocateDevice(int device, size_t bytes, void** out) {
  return Allocate(MemoryKind::kDevice, device, bytes, out);
}

cudaError_t AllocatePinned(int device, size_t bytes, void** out) {
  return Allocate(MemoryKind::kPinned, device, bytes, out);
}

cudaError_t FreeMemory(MemoryKind kind, void* address) {
  if (address == nullptr) return cudaSuccess;
  Memory& memory = TheMemory();
  const std::lock_guard lock(memory.mutex);
  Block* block = Find(memory, address);
  if (block == nullptr || block->begin != address || block->kind != kind || block->freed ||
      block->registered) {
    return cudaErrorInvalidValue;
  }
  block->freed = true;
  ASAN_UNPOISON_MEMORY_REGION(block->pages, block->page_bytes);
  // Not the file's pages any more, so that the hole below is seen by nobody here.
  mmap(block->pages, block->page_bytes, PROT_NONE,
       MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (kind == MemoryKind::kDevice) {
    if (block->pid == getpid()) {
      fallocate(block->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                static_cast<off_t>(block->offset), static_cast<off_t>(block->page_bytes));
    }
    memory.used[block->device] -= RoundUp(block->bytes, kChunk);
  }
  return cudaSuccess;
}

cudaError_t RegisterPinned(int device, void* address, size_t bytes) {
  if (address == nullptr || bytes == 0) return cudaErrorInvalidValue;
  Memory& memory = TheMemory();
  const std::lock_guard lock(memory.mutex);
  if (Find(memory, address) != nullptr) return cudaErrorHostMemoryAlreadyRegistered;
  Block block;
  block.kind = MemoryKind::kPinned;
  block.device = device;
  block.begin = block.pages = static_cast<char*>(address);
  block.bytes = block.page_bytes = bytes;
  block.registered = true;
  Insert(memory, block);
  return cudaSuccess;
}

cudaError_t UnregisterPinned(void* address) {
  Memory& memory = TheMemory();
  const std::lock_guard lock(memory.mutex);
  for (auto it = memory.blocks.begin(); it != memory.blocks.end(); ++it) {
    if (it->second.begin == address && it->second.registered) {
      memory.blocks.erase(it);
      return cudaSuccess;
    }
  }
  return cudaErrorHostMemoryNotRegistered;
}

size_t FreeBytes(int device) {
  Memory& memory = TheMemory();
  const std::lock_guard lock(memory.mutex);
  const auto limit = static_cast<size_t>(GetOptions().memory);
  return limit - std::min(limit, memory.used[device]);
}

std::optional<Allocation> FindRange(const void* address, size_t bytes) {
  Memory& memory = TheMemory();
  const std::lock_guard lock(memory.mutex);
  const Block* block = Find(memory, address);
  if (block == nullptr || block->freed || address < block->begin) return std::nullopt;
  const size_t offset = Number(address) - Number(block->begin);
  if (offset > block->bytes || bytes > block->bytes - offset) return std::nullopt;
  return *block;
}

std::optional<Allocation> FindAllocation(const void* address) { return FindRange(address, 1); }

bool NameAddress(const void* address, bool kernel, char* text, size_t size) {
  Memory& memory = TheMemory();
  // The thread that faulted may hold the lock (it is in here): then look all the same.
  const std::unique_lock lock(memory.mutex, std::try_to_lock);
  const Block* block = Find(memory, address);
  if (block == nullptr) return false;
  const char* what = block->kind == MemoryKind::kPinned ? "pinned memory"
                     : block->kind == MemoryKind::kPeer ? "a peer's device memory"
                                                        : "device memory";
  const uintptr_t at = Number(address);
  const uintptr_t begin = Number(block->begin);
  const uintptr_t end = begin + block->bytes;
  if (block->freed) {
    std::snprintf(text, size, "use after free: byte %td of %zu of %s (allocation %zu)",
                  static_cast<ptrdiff_t>(at - begin), block->bytes, what, block->id);
  } else if (at < begin) {
    std::snprintf(text, size, "%zu bytes before %zu bytes of %s (allocation %zu)", begin - at,
                  block->bytes, what, block->id);
  } else if (at >= end) {
    std::snprintf(text, size, "%zu bytes past the end of %zu bytes of %s (allocation %zu)",
                  at - end, block->bytes, what, block->id);
  } else {
    std::snprintf(text, size, "%s touched byte %zu of %zu of %s (allocation %zu)",
                  kernel ? "a kernel" : "the host", at - begin, block->bytes, what, block->id);
  }
  return true;
}

SharedPlace PlaceOf(const void* address) {
  Memory& memory = TheMemory();
  const std::lock_guard lock(memory.mutex);
  const Block* block = Find(memory, address);
  SharedPlace place;
  place.pid = block->pid;
  place.fd = block->fd;
  place.offset = block->offset + (Number(address) - Number(block->pages));
  place.id = block->id;
  place.bytes = block->bytes - (Number(address) - Number(block->begin));
  place.device = block->device;
  return place;
}

namespace {

// The file of another process, opened once and kept. -1: it is gone, or is not ours to see.
int OpenShared(const SharedPlace& place) {
  if (place.pid == getpid()) return place.fd;
  static std::mutex mutex;
  static std::map<std::pair<int32_t, int32_t>, int> open_files;
  const std::lock_guard lock(mutex);
  const auto [it, inserted] = open_files.try_emplace({place.pid, place.fd}, -1);
  if (it->second < 0) {
    char path[64];
    std::snprintf(path, sizeof(path), "/proc/%d/fd/%d", place.pid, place.fd);
    it->second = open(path, O_RDWR | O_CLOEXEC);
  }
  return it->second;
}

}  // namespace

bool ReadShared(const SharedPlace& place, void* to, size_t bytes) {
  const int fd = OpenShared(place);
  if (fd < 0) return false;
  for (size_t done = 0; done < bytes;) {
    const ssize_t n = pread(fd, static_cast<char*>(to) + done, bytes - done,
                            static_cast<off_t>(place.offset + done));
    if (n <= 0) return false;
    done += static_cast<size_t>(n);
  }
  return true;
}

cudaError_t MapShared(int device, const SharedPlace& place, void** out) {
  if (place.pid == getpid()) return cudaErrorDeviceUninitialized;  // as on a GPU: not one's own
  const int fd = OpenShared(place);
  if (fd < 0) return cudaErrorInvalidValue;
  Memory& memory = TheMemory();
  const std::lock_guard lock(memory.mutex);
  const uint64_t begin = place.offset / kPage * kPage;
  Block block;
  block.kind = MemoryKind::kPeer;
  block.device = device;
  block.bytes = place.bytes;
  block.page_bytes = RoundUp(place.offset + place.bytes - begin, kPage);
  block.pages = Reserve(block.page_bytes);
  if (block.pages == nullptr || !Map(block.pages, block.page_bytes, fd, begin)) {
    return cudaErrorMapBufferObjectFailed;
  }
  block.begin = block.pages + (place.offset - begin);
  *out = Insert(memory, block).begin;
  Protect(memory, block);
  return cudaSuccess;
}

bool HostIsGuarded() {
  return TheMemory().key >= 0 || GetOptions().hostguard == HostGuard::kMprotect;
}

DeviceAccess::DeviceAccess() {
  if (access_depth++ > 0) return;
  Memory& memory = TheMemory();
  if (memory.key >= 0) {
    pkey_set(memory.key, 0);
  } else if (GetOptions().hostguard == HostGuard::kMprotect) {
    const std::lock_guard lock(memory.mutex);
    if (memory.guests++ == 0) ProtectAll(memory, PROT_READ | PROT_WRITE);
  }
}

DeviceAccess::~DeviceAccess() {
  if (--access_depth > 0) return;
  Memory& memory = TheMemory();
  if (memory.key >= 0) {
    pkey_set(memory.key, PKEY_DISABLE_ACCESS);
  } else if (GetOptions().hostguard == HostGuard::kMprotect) {
    const std::lock_guard lock(memory.mutex);
    if (--memory.guests == 0) ProtectAll(memory, PROT_NONE);
  }
}

}  // namespace tandem::emulation
