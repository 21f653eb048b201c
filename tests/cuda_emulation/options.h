// What the environment asks of the emulation:
//   TANDEM_EMULATION="policy=random,seed=7,cp_async=random,streams=deferred,arch=90,memory=1G"
// Read once. A key or value that does not exist ends the process with a line that says so.
#pragma once

#include <cstdint>

namespace tandem::emulation {

// Which thread runs next: the lowest, the highest, or any; blocks likewise. Random also keeps
// several blocks in flight.
enum class Policy : uint8_t { kInOrder, kReverse, kRandom };

// When cp.async writes: at the wait (finds waits that are missing), at once (finds stages that are
// written while others still read them), or either, drawn for each copy.
enum class AsyncCopies : uint8_t { kLazy, kEager, kRandom };

// When enqueued work runs: in the call, or at synchronization points in an order drawn at random.
enum class Streams : uint8_t { kSync, kDeferred };

// How the host is kept from dereferencing device memory: by protection keys where the machine has
// them, by mprotect (anywhere; slow with many allocations), or not.
enum class HostGuard : uint8_t { kAuto, kMprotect, kOff };

struct Options {
  Policy policy = Policy::kInOrder;
  AsyncCopies cp_async = AsyncCopies::kLazy;
  Streams streams = Streams::kSync;
  uint64_t seed = 0;  // of everything drawn; absent: from the system, and printed
  int arch = 90;    // compute capability, ten times; 75 is too old for every kernel, 86 a small GPU
  int driver = -1;  // its CUDA version, 12090 for 12.9; 0: none; -1: the toolkit's
  int64_t memory = 1ll << 30;  // bytes of a device; suffix K, M or G
  int watchdog_seconds = 10;   // for how long all threads of a grid may spin before it is a bug
  int devices = 8;             // that this process sees
  // 16: allocations end at a guard page, which finds every overrun but breaks cudaMalloc's promise
  // of 256. 256 keeps it and misses overruns of less than that.
  int align = 16;
  HostGuard hostguard = HostGuard::kAuto;
  bool peer_access = true;      // what cudaDeviceCanAccessPeer says
  int progress_ms = 20;         // deferred streams move on by themselves after this
  int collective_seconds = 60;  // for how long a collective may miss a peer before it is a bug
  int64_t fail_launch = 0;  // the n-th kernel of a device fails, and with it the device; 0: none
};

const Options& GetOptions();

// For tests within one process: until the next call. No grid may be running.
void SetOptions(const Options& options);

}  // namespace tandem::emulation
