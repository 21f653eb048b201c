#include "worker/link/plan_ring.h"

#include <cstring>
#include <new>

#include "common/check.h"

namespace tandem::link {
namespace {

constexpr uint64_t kMagic = 0x33304e4c504d4454;  // "TDMPLN03"
constexpr size_t kLine = 128;                    // two cache lines: the prefetcher pairs them
constexpr int kSpins = 1000;
constexpr Nanos kWaitSlice = kSecond;

enum End : uint32_t { kRunning, kShutdownEnd, kAbortedEnd };

size_t RoundUp(size_t n) { return (n + kLine - 1) / kLine * kLine; }

size_t MaxTokens(const PlanLimits& limits) {
  return static_cast<size_t>(limits.max_step_tokens) + limits.max_rows;
}
// One more a row than a full context takes: a step planned ahead may run past its end.
size_t MaxBlocks(const PlanLimits& limits) {
  return static_cast<size_t>(limits.max_rows) * (limits.max_blocks_per_seq + 1);
}

size_t MaxBiases(const PlanLimits& limits) {
  return static_cast<size_t>(limits.max_rows) * kMaxTokenBiases;
}

size_t MaxMaskWords(const PlanLimits& limits) {
  return static_cast<size_t>(limits.max_rows) * limits.mask_words;
}

template <class T>
void Copy(std::byte* to, std::span<const T> from) {
  if (!from.empty()) std::memcpy(to, from.data(), from.size_bytes());
}

}  // namespace

struct PlanRing::Header {
  uint64_t magic;
  PlanLimits limits;
  int32_t ranks;
  uint64_t slot_bytes;
  alignas(kLine) std::atomic<uint32_t> published;
  std::atomic<uint32_t> end;
  std::atomic<uint32_t> drain_requested;
  Bell bell;                 // published or end changed
  alignas(kLine) Bell left;  // some rank is done with a plan
};

struct alignas(kLine) PlanRing::Progress {
  std::atomic<uint32_t> started;
  std::atomic<uint32_t> done;
};

// Followed by rows, tokens, new blocks, biases and masks at their greatest sizes.
struct PlanRing::Slot {
  uint64_t step = 0;
  std::atomic<Nanos> limit{0};  // the watchdog may look at a slot that was just used again
  int32_t num_decodes = 0;
  int32_t num_rows = 0;
  int32_t num_tokens = 0;
  int32_t num_blocks = 0;
  int32_t num_biases = 0;
  int32_t num_mask_words = 0;

  std::byte* rows() { return reinterpret_cast<std::byte*>(this) + RoundUp(sizeof(Slot)); }
  std::byte* tokens(const PlanLimits& l) {
    return rows() + RoundUp(sizeof(PlanRow) * static_cast<size_t>(l.max_rows));
  }
  std::byte* blocks(const PlanLimits& l) {
    return tokens(l) + RoundUp(sizeof(TokenId) * MaxTokens(l));
  }
  std::byte* biases(const PlanLimits& l) {
    return blocks(l) + RoundUp(sizeof(int32_t) * MaxBlocks(l));
  }
  std::byte* masks(const PlanLimits& l) {
    return biases(l) + RoundUp(sizeof(TokenBias) * MaxBiases(l));
  }
  static size_t Bytes(const PlanLimits& l) {
    return RoundUp(sizeof(Slot)) + RoundUp(sizeof(PlanRow) * static_cast<size_t>(l.max_rows)) +
           RoundUp(sizeof(TokenId) * MaxTokens(l)) + RoundUp(sizeof(int32_t) * MaxBlocks(l)) +
           RoundUp(sizeof(TokenBias) * MaxBiases(l)) + RoundUp(sizeof(uint32_t) * MaxMaskWords(l));
  }
};

size_t PlanRing::RequiredBytes(const PlanLimits& limits, int ranks) {
  return sizeof(Header) + sizeof(Progress) * ranks + Slot::Bytes(limits) * kSlots;
}

void PlanRing::Format(std::span<std::byte> region, const PlanLimits& limits, int ranks) {
  static_assert(sizeof(Header) % kLine == 0 && sizeof(Progress) == kLine);
  static_assert(std::atomic<uint32_t>::is_always_lock_free);
  TANDEM_CHECK(ranks >= 1 && limits.max_rows >= 1) << ranks << " ranks, " << limits.max_rows;
  TANDEM_CHECK(region.size() >= RequiredBytes(limits, ranks)) << region.size() << " bytes";
  TANDEM_CHECK(reinterpret_cast<uintptr_t>(region.data()) % kLine == 0) << "region not aligned";
  auto* header = new (region.data()) Header{};
  header->limits = limits;
  header->ranks = ranks;
  header->slot_bytes = Slot::Bytes(limits);
  for (int r = 0; r < ranks; ++r) {
    new (region.data() + sizeof(Header) + sizeof(Progress) * r) Progress{};
  }
  std::byte* slots = region.data() + sizeof(Header) + sizeof(Progress) * ranks;
  for (int i = 0; i < kSlots; ++i) new (slots + header->slot_bytes * i) Slot{};
  header->magic = kMagic;
}

StatusOr<PlanRing> PlanRing::Attach(std::span<std::byte> region, int ranks) {
  const auto* header = reinterpret_cast<const Header*>(region.data());
  if (region.size() < sizeof(Header) || header->magic != kMagic || header->ranks != ranks) {
    return InvalidArgument("the plan ring is not one for {} ranks", ranks);
  }
  if (region.size() < RequiredBytes(header->limits, ranks)) {
    return InvalidArgument("the plan ring has {} bytes, {} needed", region.size(),
                           RequiredBytes(header->limits, ranks));
  }
  return PlanRing(region);
}

PlanRing::PlanRing(std::span<std::byte> region)
    : header_(reinterpret_cast<Header*>(region.data())),
      progress_(region.data() + sizeof(Header)),
      slots_(progress_ + sizeof(Progress) * header_->ranks) {}

PlanRing::Progress& PlanRing::progress(int rank) const {
  return *reinterpret_cast<Progress*>(progress_ + sizeof(Progress) * rank);
}

PlanRing::Slot& PlanRing::slot(uint32_t index) const {
  return *reinterpret_cast<Slot*>(slots_ + header_->slot_bytes * (index % kSlots));
}

bool PlanRing::SlotIsFree(uint32_t index) const {
  for (int r = 0; r < header_->ranks; ++r) {
    const uint32_t done = progress(r).done.load(std::memory_order_acquire);
    // Signed: a rank of another host may have the plan, and be done with it, before this one.
    if (static_cast<int32_t>(index - done) >= kSlots) return false;
  }
  return true;
}

bool PlanRing::Fits(const StepPlan& plan) const {
  const PlanLimits& limits = header_->limits;
  return plan.rows.size() <= static_cast<size_t>(limits.max_rows) &&
         plan.tokens.size() <= MaxTokens(limits) && plan.new_blocks.size() <= MaxBlocks(limits) &&
         plan.biases.size() <= MaxBiases(limits) && plan.masks.size() <= MaxMaskWords(limits);
}

bool PlanRing::Publish(const StepPlan& plan, Nanos limit) {
  const PlanLimits& limits = header_->limits;
  TANDEM_CHECK(Fits(plan)) << "plan of " << plan.rows.size() << " rows, " << plan.tokens.size()
                           << " tokens, " << plan.new_blocks.size() << " blocks, "
                           << plan.biases.size() << " biases, " << plan.masks.size()
                           << " words of masks";
  const uint32_t index = header_->published.load(std::memory_order_relaxed);
  for (;;) {
    const uint32_t seen = header_->left.count();
    if (aborted()) return false;
    if (SlotIsFree(index)) break;
    header_->left.Wait(seen, kWaitSlice, kSpins);
  }
  Slot& to = slot(index);
  to.step = plan.step;
  to.limit.store(limit, std::memory_order_relaxed);
  to.num_decodes = plan.num_decodes;
  to.num_rows = static_cast<int32_t>(plan.rows.size());
  to.num_tokens = static_cast<int32_t>(plan.tokens.size());
  to.num_blocks = static_cast<int32_t>(plan.new_blocks.size());
  to.num_biases = static_cast<int32_t>(plan.biases.size());
  to.num_mask_words = static_cast<int32_t>(plan.masks.size());
  Copy(to.rows(), plan.rows);
  Copy(to.tokens(limits), plan.tokens);
  Copy(to.blocks(limits), plan.new_blocks);
  Copy(to.biases(limits), plan.biases);
  Copy(to.masks(limits), plan.masks);
  header_->published.store(index + 1, std::memory_order_release);
  header_->bell.Ring();
  return true;
}

bool PlanRing::HasNext(int rank, int ahead) const {
  const uint32_t index = progress(rank).done.load(std::memory_order_relaxed) + ahead;
  return header_->published.load(std::memory_order_acquire) != index;
}

PlanRing::Next PlanRing::WaitNext(int rank, StepPlan& plan, int ahead) {
  Progress& mine = progress(rank);
  const uint32_t index = mine.done.load(std::memory_order_relaxed) + ahead;
  for (;;) {
    const uint32_t seen = header_->bell.count();
    // Read before `published`: what was published before a shutdown is still run.
    const uint32_t end = header_->end.load(std::memory_order_acquire);
    if (end == kAbortedEnd) return Next::kAborted;
    if (header_->published.load(std::memory_order_acquire) != index) break;
    if (end == kShutdownEnd) return Next::kShutdown;
    header_->bell.Wait(seen, kWaitSlice, kSpins);
  }
  mine.started.store(index + 1, std::memory_order_release);
  Slot& from = slot(index);
  const PlanLimits& limits = header_->limits;
  plan.step = from.step;
  plan.num_decodes = from.num_decodes;
  plan.rows = {reinterpret_cast<const PlanRow*>(from.rows()), static_cast<size_t>(from.num_rows)};
  plan.tokens = {reinterpret_cast<const TokenId*>(from.tokens(limits)),
                 static_cast<size_t>(from.num_tokens)};
  plan.new_blocks = {reinterpret_cast<const int32_t*>(from.blocks(limits)),
                     static_cast<size_t>(from.num_blocks)};
  plan.biases = {reinterpret_cast<const TokenBias*>(from.biases(limits)),
                 static_cast<size_t>(from.num_biases)};
  plan.masks = {reinterpret_cast<const uint32_t*>(from.masks(limits)),
                static_cast<size_t>(from.num_mask_words)};
  return Next::kPlan;
}

void PlanRing::Done(int rank) {
  progress(rank).done.fetch_add(1, std::memory_order_release);
  header_->left.Ring();
}

void PlanRing::CopyProgress(int rank, uint32_t started, uint32_t done) {
  const auto raise = [](std::atomic<uint32_t>& known, uint32_t said) {
    uint32_t before = known.load(std::memory_order_relaxed);
    while (static_cast<int32_t>(said - before) > 0 &&
           !known.compare_exchange_weak(before, said, std::memory_order_acq_rel)) {
    }
  };
  raise(progress(rank).started, started);
  raise(progress(rank).done, done);
  header_->left.Ring();
}

void PlanRing::Shutdown() {
  uint32_t running = kRunning;
  header_->end.compare_exchange_strong(running, kShutdownEnd, std::memory_order_acq_rel);
  header_->bell.Ring();
  header_->left.Ring();
}

void PlanRing::Abort() {
  header_->end.store(kAbortedEnd, std::memory_order_release);
  header_->bell.Ring();
  header_->left.Ring();
}

bool PlanRing::aborted() const {
  return header_->end.load(std::memory_order_acquire) == kAbortedEnd;
}

bool PlanRing::shut_down() const {
  return header_->end.load(std::memory_order_acquire) == kShutdownEnd;
}

void PlanRing::RequestDrain() { header_->drain_requested.store(1, std::memory_order_release); }
bool PlanRing::drain_requested() const {
  return header_->drain_requested.load(std::memory_order_acquire) != 0;
}

uint32_t PlanRing::num_published() const {
  return header_->published.load(std::memory_order_acquire);
}
uint32_t PlanRing::num_done(int rank) const {
  return progress(rank).done.load(std::memory_order_acquire);
}
uint32_t PlanRing::num_started(int rank) const {
  return progress(rank).started.load(std::memory_order_acquire);
}
Nanos PlanRing::limit(uint32_t index) const {
  return slot(index).limit.load(std::memory_order_relaxed);
}
int PlanRing::ranks() const { return header_->ranks; }
const PlanLimits& PlanRing::limits() const { return header_->limits; }

}  // namespace tandem::link
