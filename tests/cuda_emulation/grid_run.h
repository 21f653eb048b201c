// One grid that runs on this OS thread: which blocks are in flight, which thread is next.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tests/cuda_emulation/block.h"
#include "tests/cuda_emulation/grid.h"
#include "tests/cuda_emulation/options.h"

namespace tandem::emulation {

// Draws by splitmix64: the same everywhere for one seed.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t operator()();
  uint64_t Below(uint64_t n) { return (*this)() % n; }

 private:
  uint64_t state_;
};

class GridRun {
 public:
  // `launch` must outlive it. With primary_done false, threads stay in DependentLaunchWait.
  GridRun(const GridLaunch& launch, uint64_t seed, bool primary_done);
  ~GridRun();
  GridRun(const GridRun&) = delete;
  GridRun& operator=(const GridRun&) = delete;

  // Runs until the grid's end; or, while the primary is not done, until no thread can go on
  // without it.
  void Run();
  void SetPrimaryDone();

  // For threads of this grid. Yield returns when the current thread is picked again.
  void Yield();
  bool primary_done() const { return primary_done_; }
  void SeePrimary();  // after the wait: what it wrote
  void NoteProgress() { ++progress_; }

  const GridLaunch& launch() const { return launch_; }
  const Options& options() const { return options_; }
  Random& random() { return random_; }

 private:
  static void ThreadMain();
  // Ends the current thread; returns if another one took its place on this stack.
  void EndThread();
  void Start(Thread& thread);
  void SwitchTo(Context& from, Thread& to);
  Thread* Pick();
  void StartBlocks();
  uint3 NextBlockIndex();
  // After a switch back to the OS thread's context: frees what ended.
  void Reap();
  // When no thread is runnable: wakes some. False: none without the primary.
  bool Idle();
  void CheckWatchdog();
  std::string DescribeWaits() const;

  const GridLaunch& launch_;
  const Options options_;
  Random random_;
  std::vector<uint32_t> order_;  // of blocks, under kRandom
  uint64_t num_blocks_;
  uint64_t next_block_ = 0;
  size_t max_in_flight_;
  std::vector<std::unique_ptr<Block>> blocks_;  // in flight
  size_t cursor_ = 0;                           // the block that was picked last
  Thread* picked_ = nullptr;                    // to be started by the OS thread's context
  Thread* ended_ = nullptr;                     // to be freed by it
  bool primary_done_;
  uint64_t progress_ = 0;  // waits that ended
  uint64_t last_progress_ = 0;
  int64_t last_progress_ms_ = 0;
  uint64_t num_idles_ = 0;
  char primary_sync_ = 0;  // what TSan sees of the end of the grid before
  char sync_ = 0;          // and of this one's
};

// What an OS thread has for running grids.
struct Processor {
  Context context;  // its own
  StackPool stacks;
  std::vector<std::unique_ptr<Block>> free_blocks;
  Thread* current = nullptr;      // null: no thread of a kernel runs
  const Block* ending = nullptr;  // whose end is being checked
  const GridRun* run = nullptr;
  uint64_t num_launches = 0;
};
extern constinit thread_local Processor* processor;  // null before this OS thread's first grid

}  // namespace tandem::emulation
