#include "tests/cuda_emulation/block.h"

#include <bit>
#include <map>

#include "tests/cuda_emulation/grid_run.h"
#include "tests/cuda_emulation/sanitizer.h"

namespace tandem::emulation {
namespace {

constexpr const char* kBarrierNames[] = {"__syncthreads", "__syncthreads_count",
                                         "__syncthreads_and", "__syncthreads_or"};

uint32_t LowBits(int n) { return n >= 32 ? ~0u : (1u << n) - 1; }

// The position of the n-th set bit, modulo their number.
int PickBit(uint32_t bits, uint64_t n) {
  n %= static_cast<uint64_t>(std::popcount(bits));
  for (; n > 0; --n) bits &= bits - 1;
  return std::countr_zero(bits);
}

}  // namespace

void Block::Begin(GridRun* run, uint3 index, dim3 dims, size_t dynamic_shared_bytes) {
  run_ = run;
  index_ = index;
  num_threads_ = static_cast<int>(dims.x * dims.y * dims.z);
  num_warps_ = (num_threads_ + kWarpSize - 1) / kWarpSize;
  num_exited_ = num_at_barrier_ = barrier_trues_ = 0;
  runnable_warps_ = 0;
  for (int i = 0; i < num_threads_; ++i) {
    Thread& thread = threads_[i];
    const auto n = static_cast<unsigned>(i);
    thread.index = {n % dims.x, n / dims.x % dims.y, n / dims.x / dims.y};
    thread.block = this;
    thread.lane = static_cast<uint8_t>(i % kWarpSize);
    thread.warp = static_cast<uint8_t>(i / kWarpSize);
    thread.state = State::kNew;
    thread.copies.Begin(&copies_[static_cast<size_t>(i) * AsyncCopyQueue::kCapacity]);
  }
  for (int w = 0; w < num_warps_; ++w) {
    const uint32_t lanes = LowBits(num_threads_ - w * kWarpSize);
    Warp& warp = warps_[w];
    warp.runnable = warp.at_barrier = warp.spinning = warp.waiting_for_primary = 0;
    warp.exited = ~lanes;
    warp.num_collectives = 0;
    MakeRunnable(w, lanes);
  }
  shared_.Begin(dynamic_shared_bytes);
}

void Block::End() { shared_.End(); }

void Block::MakeRunnable(int warp, uint32_t lanes) {
  warps_[warp].runnable |= lanes;
  if (lanes != 0) runnable_warps_ |= 1u << warp;
}

void Block::Wait(Thread& thread, State state, const char* op, Site site) {
  thread.state = state;
  thread.op = op;
  thread.site = site;
  Warp& warp = warps_[thread.warp];
  warp.runnable &= ~thread.bit();
  if (warp.runnable == 0) runnable_warps_ &= ~(1u << thread.warp);
  run_->Yield();
  thread.state = State::kReady;
}

void Block::CheckBarrier(const Thread& thread, BarrierKind kind, Site site) const {
  const char* name = kBarrierNames[static_cast<int>(kind)];
  if (num_exited_ > 0) {
    Fail("missing barrier: {} threads of the block have ended, this one comes to {} at {}",
         num_exited_, name, Describe(site));
  }
  if (num_at_barrier_ > 0 && (barrier_kind_ != kind || !(barrier_site_ == site))) {
    Fail("divergent barrier: this thread comes to {} at {}, {} others wait in {} at {}", name,
         Describe(site), num_at_barrier_, kBarrierNames[static_cast<int>(barrier_kind_)],
         Describe(barrier_site_));
  }
  const Warp& warp = warps_[thread.warp];
  for (int i = 0; i < warp.num_collectives; ++i) {
    const Collective& c = warp.collectives[i];
    if ((c.mask & thread.bit()) == 0) continue;
    Fail("divergent warp: this lane comes to {} at {}, lanes {:#010x} wait for it in {} at {}",
         name, Describe(site), c.arrived, c.op->name, Describe(c.site));
  }
}

int Block::Barrier(BarrierKind kind, bool predicate, Site site) {
  Thread& thread = *processor->current;
  CheckBarrier(thread, kind, site);
  barrier_kind_ = kind;
  barrier_site_ = site;
  barrier_trues_ += predicate ? 1 : 0;
  const unsigned parity = generation_ & 1;
  Release(&barrier_sync_[parity]);
  warps_[thread.warp].at_barrier |= thread.bit();
  if (++num_at_barrier_ == num_threads_) {
    OpenBarrier();
    if (run_->options().policy == Policy::kRandom) run_->Yield();
  } else {
    Wait(thread, State::kBarrier, kBarrierNames[static_cast<int>(kind)], site);
  }
  Acquire(&barrier_sync_[parity]);
  return barrier_result_[parity];
}

void Block::OpenBarrier() {
  int& result = barrier_result_[generation_ & 1];
  result = barrier_kind_ == BarrierKind::kAnd  ? barrier_trues_ == num_threads_
           : barrier_kind_ == BarrierKind::kOr ? barrier_trues_ > 0
                                               : barrier_trues_;
  ++generation_;
  num_at_barrier_ = barrier_trues_ = 0;
  for (int w = 0; w < num_warps_; ++w) {
    MakeRunnable(w, warps_[w].at_barrier);
    warps_[w].at_barrier = 0;
  }
  run_->NoteProgress();
}

Collective& Block::Join(const Thread& thread, const WarpOp& op, uint32_t mask, Site site) {
  Warp& warp = warps_[thread.warp];
  if ((mask & thread.bit()) == 0) {
    Fail("{} at {}: mask {:#010x} does not name lane {}, which calls it", op.name, Describe(site),
         mask, thread.lane);
  }
  if ((mask & warp.exited) != 0) {
    Fail("{} at {}: mask {:#010x} names lanes {:#010x} that have ended or do not exist", op.name,
         Describe(site), mask, mask & warp.exited);
  }
  for (int i = 0; i < warp.num_collectives; ++i) {
    Collective& c = warp.collectives[i];
    if (c.op == &op && c.mask == mask && c.site == site) return c;
    // Wrong only if each would wait for the other: parts of a warp may be in different places.
    if ((c.mask & thread.bit()) == 0 || (mask & c.arrived) == 0) continue;
    Fail(
        "divergent warp: {} at {} with mask {:#010x}, while lanes {:#010x} wait in {} at {} with "
        "mask {:#010x}",
        op.name, Describe(site), mask, c.arrived, c.op->name, Describe(c.site), c.mask);
  }
  if ((mask & warp.at_barrier) != 0) {
    Fail("divergent warp: {} at {} names lanes {:#010x}, which wait in {} at {}", op.name,
         Describe(site), mask & warp.at_barrier, kBarrierNames[static_cast<int>(barrier_kind_)],
         Describe(barrier_site_));
  }
  return warp.collectives[warp.num_collectives++] = {&op, site, mask, 0};
}

void Block::WarpCollective(const WarpOp& op, uint32_t mask, void* operand, Site site) {
  Thread& thread = *processor->current;
  Warp& warp = warps_[thread.warp];
  Collective& collective = Join(thread, op, mask, site);
  collective.arrived |= thread.bit();
  warp.operands[thread.lane] = operand;
  if (collective.arrived != mask) return Wait(thread, State::kWarp, op.name, site);
  op.compute(warp.operands, mask);
  collective = warp.collectives[--warp.num_collectives];
  MakeRunnable(thread.warp, mask);
  run_->NoteProgress();
  if (run_->options().policy == Policy::kRandom) run_->Yield();
}

void Block::SyncWarp(uint32_t mask, Site site) {
  static constexpr WarpOp kSync = {"__syncwarp", [](void* const* operands, uint32_t lanes) {
                                     ++*static_cast<unsigned*>(operands[std::countr_zero(lanes)]);
                                   }};
  Warp& warp = warps_[processor->current->warp];
  const int first = std::countr_zero(mask | 1u << 31);
  char* sync = &warp.syncs[first][warp.num_syncs[first] & 1];
  Release(sync);
  WarpCollective(kSync, mask, &warp.num_syncs[first], site);
  Acquire(sync);
}

void Block::Spin(Site site) {
  Thread& thread = *processor->current;
  warps_[thread.warp].spinning |= thread.bit();
  Wait(thread, State::kSpin, "SpinPause", site);
}

void Block::WaitForPrimary(Site site) {
  if (run_->primary_done()) return;
  Thread& thread = *processor->current;
  warps_[thread.warp].waiting_for_primary |= thread.bit();
  Wait(thread, State::kPrimary, "DependentLaunchWait", site);
  run_->SeePrimary();
}

void Block::Exit(Thread& thread) {
  Warp& warp = warps_[thread.warp];
  if (num_at_barrier_ > 0) {
    Fail("missing barrier: this thread ends, {} others wait in {} at {}", num_at_barrier_,
         kBarrierNames[static_cast<int>(barrier_kind_)], Describe(barrier_site_));
  }
  for (int i = 0; i < warp.num_collectives; ++i) {
    const Collective& c = warp.collectives[i];
    if ((c.mask & thread.bit()) == 0) continue;
    Fail("divergent warp: this lane ends, lanes {:#010x} wait for it in {} at {}", c.arrived,
         c.op->name, Describe(c.site));
  }
  thread.state = State::kExited;
  warp.exited |= thread.bit();
  warp.runnable &= ~thread.bit();
  if (warp.runnable == 0) runnable_warps_ &= ~(1u << thread.warp);
  ++num_exited_;
  run_->NoteProgress();
}

bool Block::WakeSpinning() {
  bool any = false;
  for (int w = 0; w < num_warps_; ++w) {
    any |= warps_[w].spinning != 0;
    MakeRunnable(w, warps_[w].spinning);
    warps_[w].spinning = 0;
  }
  return any;
}

bool Block::WakeWaitingForPrimary() {
  bool any = false;
  for (int w = 0; w < num_warps_; ++w) {
    any |= warps_[w].waiting_for_primary != 0;
    if (!run_->primary_done()) continue;
    MakeRunnable(w, warps_[w].waiting_for_primary);
    warps_[w].waiting_for_primary = 0;
  }
  return any;
}

Thread* Block::Any(uint64_t draw) {
  const int w = PickBit(runnable_warps_, draw & 0xFFFFFFFF);
  return &At(w, PickBit(warps_[w].runnable, draw >> 32));
}

std::string Block::DescribeWaits() const {
  std::map<std::string, int> waits;
  for (int i = 0; i < num_threads_; ++i) {
    const Thread& thread = threads_[i];
    if (thread.state == State::kNew) {
      ++waits["have not begun"];
    } else if (thread.state == State::kExited) {
      ++waits["have ended"];
    } else {
      ++waits[fmt::format("are in {} at {}", thread.op, Describe(thread.site))];
    }
  }
  std::string text = fmt::format("block ({},{},{})", index_.x, index_.y, index_.z);
  const char* separator = ": ";
  for (const auto& [what, count] : waits) {
    text += fmt::format("{}{} threads {}", separator, count, what);
    separator = ", ";
  }
  return text;
}

}  // namespace tandem::emulation
