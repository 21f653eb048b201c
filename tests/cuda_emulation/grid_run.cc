#include "tests/cuda_emulation/grid_run.h"

#include <sched.h>

#include <algorithm>
#include <chrono>
#include <numeric>

#include "tests/cuda_emulation/report.h"
#include "tests/cuda_emulation/sanitizer.h"
#include "tests/cuda_emulation/thread_index.h"

constinit thread_local uint3 threadIdx = {};
constinit thread_local uint3 blockIdx = {};
constinit thread_local uint3 blockDim = {};
constinit thread_local uint3 gridDim = {};

namespace tandem::emulation {

constinit thread_local Processor* processor = nullptr;

namespace {

constexpr uint64_t kMaxBlocksInFlight = 3;  // under kRandom

Processor& ThisProcessor() {
  static thread_local std::unique_ptr<Processor> owner;
  if (owner == nullptr) {
    owner = std::make_unique<Processor>();
    processor = owner.get();
    CatchFaults();
  }
  return *owner;
}

int64_t NowMs() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

uint3 ToUint3(dim3 d) { return {d.x, d.y, d.z}; }

uint64_t NextSeed() {
  Random mix(GetOptions().seed);
  return mix() + ThisProcessor().num_launches++;
}

}  // namespace

uint64_t Random::operator()() {
  state_ += 0x9E3779B97F4A7C15;
  uint64_t z = state_;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
  return z ^ (z >> 31);
}

GridRun::GridRun(const GridLaunch& launch, uint64_t seed, bool primary_done)
    : launch_(launch),
      options_(GetOptions()),
      random_(seed),
      num_blocks_(uint64_t{launch.grid.x} * launch.grid.y * launch.grid.z),
      max_in_flight_(1),
      primary_done_(primary_done) {
  if (uint64_t{launch.block.x} * launch.block.y * launch.block.z > kMaxThreads) {
    Fail("{}: more than {} threads in a block", launch.name, kMaxThreads);
  }
  if (options_.policy == Policy::kRandom) {
    max_in_flight_ = 1 + random_.Below(kMaxBlocksInFlight);
    order_.resize(num_blocks_);
    std::iota(order_.begin(), order_.end(), 0u);
    for (size_t i = order_.size(); i > 1; --i) std::swap(order_[i - 1], order_[random_.Below(i)]);
  }
  if (launch.cooperative) max_in_flight_ = num_blocks_;
}

GridRun::~GridRun() = default;

void GridRun::Run() {
  Processor& self = ThisProcessor();
  self.run = this;
  gridDim = ToUint3(launch_.grid);
  blockDim = ToUint3(launch_.block);
  StartBlocks();
  while (!blocks_.empty()) {
    Thread* next = picked_ != nullptr ? picked_ : Pick();
    picked_ = nullptr;
    if (next == nullptr) {
      if (!Idle()) break;
      continue;
    }
    if (next->state == State::kNew) Start(*next);
    SwitchTo(self.context, *next);
    Reap();
  }
  self.run = nullptr;
  if (blocks_.empty()) Acquire(&sync_);
}

void GridRun::SetPrimaryDone() {
  primary_done_ = true;
  Release(&primary_sync_);
}

void GridRun::SeePrimary() { Acquire(&primary_sync_); }

void GridRun::StartBlocks() {
  std::vector<std::unique_ptr<Block>>& pool = processor->free_blocks;
  while (blocks_.size() < max_in_flight_ && next_block_ < num_blocks_) {
    if (pool.empty()) pool.push_back(std::make_unique<Block>());
    blocks_.push_back(std::move(pool.back()));
    pool.pop_back();
    blocks_.back()->Begin(this, NextBlockIndex(), launch_.block, launch_.shared_bytes);
  }
}

uint3 GridRun::NextBlockIndex() {
  uint64_t n = next_block_++;
  if (options_.policy == Policy::kReverse) n = num_blocks_ - 1 - n;
  if (options_.policy == Policy::kRandom) n = order_[n];
  const uint64_t x = launch_.grid.x;
  const uint64_t y = launch_.grid.y;
  return {static_cast<unsigned>(n % x), static_cast<unsigned>(n / x % y),
          static_cast<unsigned>(n / x / y)};
}

void GridRun::Start(Thread& thread) {
  thread.context.stack = processor->stacks.Take();
  Prepare(thread.context, &GridRun::ThreadMain, thread.warp * 32u + thread.lane);
  thread.state = State::kReady;
}

void GridRun::SwitchTo(Context& from, Thread& to) {
  processor->current = &to;
  threadIdx = to.index;
  blockIdx = to.block->index();
  Switch(from, to.context);
}

void GridRun::ThreadMain() {
  Entered(processor->context);
  for (;;) {
    GridRun& run = *processor->current->block->run();
    run.launch_.thread_body();
    run.EndThread();
  }
}

void GridRun::EndThread() {
  Thread& thread = *processor->current;
  Release(&sync_);
  thread.block->Exit(thread);
  Thread* next = kTsan || thread.block->done() ? nullptr : Pick();
  if (next != nullptr && next->state == State::kNew) {
    next->context.stack = thread.context.stack;
    next->context.fake_stack = nullptr;
    next->state = State::kReady;
    processor->current = next;
    threadIdx = next->index;
    blockIdx = next->block->index();
    return;
  }
  picked_ = next;
  ended_ = &thread;
  processor->current = nullptr;
  Switch(thread.context, processor->context, /*last=*/true);
}

void GridRun::Reap() {
  if (ended_ == nullptr) return;
  Thread& thread = *ended_;
  ended_ = nullptr;
  processor->stacks.Give(thread.context.stack);
  Forget(thread.context);
  Block* block = thread.block;
  if (!block->done()) return;
  processor->ending = block;
  block->End();
  processor->ending = nullptr;
  const auto at = std::find_if(blocks_.begin(), blocks_.end(),
                               [block](const auto& b) { return b.get() == block; });
  processor->free_blocks.push_back(std::move(*at));
  blocks_.erase(at);
  StartBlocks();
}

void GridRun::Yield() {
  Thread& self = *processor->current;
  Thread* next = Pick();
  if (next == &self) return;
  if (next != nullptr && next->state != State::kNew) return SwitchTo(self.context, *next);
  picked_ = next;
  processor->current = nullptr;
  Switch(self.context, processor->context);
}

Thread* GridRun::Pick() {
  const size_t n = blocks_.size();
  const bool random = options_.policy == Policy::kRandom;
  if (random && n > 1) cursor_ = random_.Below(n);
  for (size_t i = 0; i < n; ++i, ++cursor_) {
    if (cursor_ >= n) cursor_ = 0;
    Block& block = *blocks_[cursor_];
    if (!block.runnable()) continue;
    if (random) return block.Any(random_());
    return options_.policy == Policy::kInOrder ? block.First() : block.Last();
  }
  return nullptr;
}

bool GridRun::Idle() {
  bool spinning = false;
  bool waiting = false;
  for (const auto& block : blocks_) {
    spinning |= block->WakeSpinning();
    waiting |= block->WakeWaitingForPrimary();
  }
  if (!spinning && !waiting) Fail("deadlock: {}", DescribeWaits());
  if (!primary_done_) return false;
  if (spinning) {
    CheckWatchdog();
    sched_yield();  // for the rank that is waited for
  }
  return true;
}

void GridRun::CheckWatchdog() {
  if (num_idles_++ % 64 != 0) return;
  const int64_t now = NowMs();
  if (progress_ != last_progress_ || last_progress_ms_ == 0) {
    last_progress_ = progress_;
    last_progress_ms_ = now;
  }
  if (now - last_progress_ms_ < 1000 * int64_t{options_.watchdog_seconds}) return;
  Fail("no progress for {} s{}: {}", options_.watchdog_seconds,
       next_block_ < num_blocks_ ? " (not all blocks run: the launch is not cooperative)" : "",
       DescribeWaits());
}

std::string GridRun::DescribeWaits() const {
  constexpr size_t kMaxBlocks = 8;
  std::string text;
  for (size_t i = 0; i < std::min(blocks_.size(), kMaxBlocks); ++i) {
    text += (i == 0 ? "" : "; ") + blocks_[i]->DescribeWaits();
  }
  if (blocks_.size() > kMaxBlocks) text += fmt::format("; {} more", blocks_.size() - kMaxBlocks);
  return text;
}

void RunGrid(const GridLaunch& launch) { GridRun(launch, NextSeed(), true).Run(); }

void RunDependent(const GridLaunch& first, const GridLaunch& second) {
  const uint64_t seed = NextSeed();
  Random random(seed);
  const bool overlap = GetOptions().policy != Policy::kRandom || random.Below(2) == 0;
  if (!second.dependent || !overlap) {
    RunGrid(first);
    return RunGrid(second);
  }
  GridRun dependent(second, seed, /*primary_done=*/false);
  dependent.Run();
  RunGrid(first);
  dependent.SetPrimaryDone();
  dependent.Run();
}

}  // namespace tandem::emulation
