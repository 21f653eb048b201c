// A block in flight: its threads, what each waits for, its shared memory. A thread that waits is
// not runnable until others come, so a block decides what is wrong (threads at different barriers,
// a lane that nobody waits for) when it happens, and names both places.
#pragma once

#include <cuda_runtime_api.h>

#include <bit>
#include <cstdint>
#include <memory>
#include <string>

#include "tests/cuda_emulation/async_copy.h"
#include "tests/cuda_emulation/collectives.h"
#include "tests/cuda_emulation/fiber.h"
#include "tests/cuda_emulation/report.h"
#include "tests/cuda_emulation/shared_memory.h"

namespace tandem::emulation {

inline constexpr int kWarpSize = 32;
inline constexpr int kMaxThreads = 1024;
inline constexpr int kMaxWarps = kMaxThreads / kWarpSize;

class Block;
class GridRun;
struct WarpOp;

enum class State : uint8_t {
  kNew,      // no stack yet
  kReady,    // runs, or could
  kBarrier,  // in __syncthreads
  kWarp,     // in a collective of its warp
  kSpin,     // in SpinPause
  kPrimary,  // in DependentLaunchWait
  kExited,
};

// One CUDA thread.
struct Thread {
  Context context;
  uint3 index = {};
  Block* block = nullptr;
  uint8_t lane = 0;
  uint8_t warp = 0;
  State state = State::kNew;
  Site site;                 // of the wait
  const char* op = nullptr;  // its name
  AsyncCopyQueue copies;

  uint32_t bit() const { return 1u << lane; }
};

// Lanes that wait for each other in one collective.
struct Collective {
  const WarpOp* op;
  Site site;
  uint32_t mask;
  uint32_t arrived;
};

struct Warp {
  uint32_t runnable = 0;  // lanes
  uint32_t at_barrier = 0;
  uint32_t spinning = 0;
  uint32_t waiting_for_primary = 0;
  uint32_t exited = 0;  // also those that never were
  int num_collectives = 0;
  Collective collectives[kWarpSize];  // no lane has arrived in two
  void* operands[kWarpSize];          // of lanes that arrived
  // What TSan sees of __syncwarp, by the lowest lane of the mask; two take turns, as nobody is two
  // of them behind.
  unsigned num_syncs[kWarpSize] = {};
  char syncs[kWarpSize][2] = {};
};

class Block {
 public:
  Block()
      : threads_(std::make_unique<Thread[]>(kMaxThreads)),
        copies_(std::make_unique_for_overwrite<AsyncCopy[]>(size_t{kMaxThreads} *
                                                            AsyncCopyQueue::kCapacity)) {}

  // Makes all threads of a new block runnable.
  void Begin(GridRun* run, uint3 index, dim3 dims, size_t dynamic_shared_bytes);
  // After the last thread: checks what can be checked at the end.
  void End();

  // Waits of the current thread; they return when it may go on.
  int Barrier(BarrierKind kind, bool predicate, Site site);
  void WarpCollective(const WarpOp& op, uint32_t mask, void* operand, Site site);
  void SyncWarp(uint32_t mask, Site site);
  void Spin(Site site);
  void WaitForPrimary(Site site);

  // The current thread's kernel has returned.
  void Exit(Thread& thread);

  // Puts those that spin, or wait for the grid before, among the runnable; false if there are none.
  bool WakeSpinning();
  bool WakeWaitingForPrimary();

  // The runnable thread that comes first, last, or after a draw.
  bool runnable() const { return runnable_warps_ != 0; }
  Thread* First() {
    const int w = std::countr_zero(runnable_warps_);
    return &At(w, std::countr_zero(warps_[w].runnable));
  }
  Thread* Last() {
    const int w = 31 - std::countl_zero(runnable_warps_);
    return &At(w, 31 - std::countl_zero(warps_[w].runnable));
  }
  Thread* Any(uint64_t draw);

  bool done() const { return num_exited_ == num_threads_; }
  GridRun* run() const { return run_; }
  uint3 index() const { return index_; }
  SharedMemory& shared() { return shared_; }

  // Every thread that is not done and where it waits, many in one line.
  std::string DescribeWaits() const;

 private:
  Thread& At(int warp, int lane) { return threads_[warp * kWarpSize + lane]; }
  void MakeRunnable(int warp, uint32_t lanes);
  // Leaves the processor until somebody makes this thread runnable.
  void Wait(Thread& thread, State state, const char* op, Site site);
  void OpenBarrier();
  void CheckBarrier(const Thread& thread, BarrierKind kind, Site site) const;
  Collective& Join(const Thread& thread, const WarpOp& op, uint32_t mask, Site site);

  GridRun* run_ = nullptr;
  uint3 index_ = {};
  int num_threads_ = 0;
  int num_warps_ = 0;
  int num_exited_ = 0;
  uint32_t runnable_warps_ = 0;

  int num_at_barrier_ = 0;
  BarrierKind barrier_kind_ = BarrierKind::kPlain;
  Site barrier_site_;
  int barrier_trues_ = 0;
  unsigned generation_ = 0;     // of the barrier
  int barrier_result_[2] = {};  // by parity: nobody is two generations behind
  char barrier_sync_[2] = {};   // what TSan sees of it

  std::unique_ptr<Thread[]> threads_;
  std::unique_ptr<AsyncCopy[]> copies_;
  Warp warps_[kMaxWarps];
  SharedMemory shared_;
};

// A collective of lanes: the last that arrives computes it for all, from and into the operands that
// they point to. Two lanes are in the same one if op, mask and call site are equal.
struct WarpOp {
  const char* name;
  void (*compute)(void* const* operands, uint32_t mask);
};

}  // namespace tandem::emulation
