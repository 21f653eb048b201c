// Runs kernels: the threads of a block are fibers of the calling OS thread, which switch where a
// kernel waits (barriers, warp collectives, spin loops). Which thread runs next, and how many
// blocks are in flight, is the policy's (options.h). A kernel's mistakes end the process: report.h.
//
// Several OS threads may each run a grid at the same time (ranks of one process that wait for each
// other's flags); fibers never change the OS thread.
//
// What it costs (emulation_speed, release, a busy core): a thread 55 ns, with its first wait 200;
// a barrier 40 ns for each thread; a warp collective 2 us for the warp, mma 4 us. So a kernel is
// slow here by its waits, not by its arithmetic: one WarpSum is five times cheaper than its five
// shuffles. Under TSan a thread costs 0.2 to 0.5 ms: small shapes.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <functional>
#include <string_view>

namespace tandem::emulation {

struct GridLaunch {
  std::string_view name;         // of the kernel, with its template arguments; static storage
  const void* kernel = nullptr;  // identifies it (attributes set by cudaFuncSetAttribute)
  dim3 grid;
  dim3 block;
  size_t shared_bytes = 0;            // dynamic
  bool cooperative = false;           // all blocks in flight from the start
  bool dependent = false;             // may begin before the launch before it has ended
  std::function<void()> thread_body;  // one thread's run: the kernel with its arguments
};

// Runs the grid to its end. The dimensions were validated by the caller; an empty grid is nothing.
void RunGrid(const GridLaunch& launch);

// Runs both to their ends, in the order least favourable to a kernel that reads too early: the
// threads of `second` run up to their DependentLaunchWait, then `first` runs, then the rest of
// `second`. Under the random policy that, or one after the other.
void RunDependent(const GridLaunch& first, const GridLaunch& second);

// What a launch calls: checks the dimensions against the device's limits at once, and runs the grid
// now, later or in a graph, as the stream asks for. Defined by the runtime.
cudaError_t EnqueueGrid(GridLaunch launch, cudaStream_t stream);

}  // namespace tandem::emulation
