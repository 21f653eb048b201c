#include "kernels/comm/shm_communicator.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <climits>
#include <cstring>
#include <new>

#include "common/check.h"
#include "common/round.h"

namespace tandem::kernels {
namespace {

constexpr uint64_t kMagic = 0x31304d4f434d4454;  // "TDMCOM01"
constexpr size_t kLine = 128;                    // two cache lines: the prefetcher pairs them
constexpr int kSpins = 1000;

// Why the group was lost: cause << 16 | rank that said so.
enum Cause : uint32_t { kAborted = 1, kMismatch = 2 };

void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// Not FUTEX_PRIVATE: the word may be shared by processes.
void FutexWait(std::atomic<uint32_t>& word, uint32_t expected) {
  syscall(SYS_futex, &word, FUTEX_WAIT, expected, nullptr, nullptr, 0);
}
void FutexWakeAll(std::atomic<uint32_t>& word) {
  syscall(SYS_futex, &word, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

}  // namespace

struct ShmCommunicator::Header {
  uint64_t magic;
  int32_t size;
  uint64_t slot_bytes;
  alignas(kLine) std::atomic<uint32_t> lost;  // 0: not lost
};

struct alignas(kLine) ShmCommunicator::Control {
  // Rounds published, times 2; the low bit is set once the group is lost. One word, so that a
  // waiter cannot miss an abort between looking at it and going to sleep.
  std::atomic<uint32_t> published;
  std::atomic<uint32_t> sleepers;
  Call calls[2];  // by round & 1; ordered by `published`
};

size_t ShmCommunicator::RequiredBytes(int size, size_t max_bytes) {
  return sizeof(Header) + size * (sizeof(Control) + 2 * RoundUp(max_bytes, kLine));
}

void ShmCommunicator::Format(std::span<std::byte> region, int size, size_t max_bytes) {
  static_assert(sizeof(Header) % kLine == 0 && sizeof(Control) == kLine);
  static_assert(std::atomic<uint32_t>::is_always_lock_free);
  TANDEM_CHECK(size >= 1 && size <= kMaxRanks) << size << " ranks";
  TANDEM_CHECK(max_bytes > 0 && region.size() >= RequiredBytes(size, max_bytes))
      << region.size() << " bytes, " << RequiredBytes(size, max_bytes) << " needed";
  TANDEM_CHECK(reinterpret_cast<uintptr_t>(region.data()) % kLine == 0) << "region not aligned";
  auto* header = new (region.data()) Header{};
  header->size = size;
  header->slot_bytes = RoundUp(max_bytes, kLine);
  for (int r = 0; r < size; ++r) {
    new (region.data() + sizeof(Header) + r * sizeof(Control)) Control{};
  }
  header->magic = kMagic;
}

StatusOr<std::unique_ptr<ShmCommunicator>> ShmCommunicator::Attach(std::span<std::byte> region,
                                                                   int rank, int size) {
  const auto* header = reinterpret_cast<const Header*>(region.data());
  if (region.size() < sizeof(Header) || header->magic != kMagic) {
    return InvalidArgument("shared memory of the group is not formatted ({} bytes)", region.size());
  }
  if (header->size != size || rank < 0 || rank >= size) {
    return InvalidArgument("shared memory is for {} ranks; this is rank {} of {}", header->size,
                           rank, size);
  }
  if (region.size() < RequiredBytes(size, header->slot_bytes)) {
    return InvalidArgument("shared memory of the group has {} bytes, {} needed", region.size(),
                           RequiredBytes(size, header->slot_bytes));
  }
  return std::unique_ptr<ShmCommunicator>(new ShmCommunicator(region, rank));
}

ShmCommunicator::ShmCommunicator(std::span<std::byte> region, int rank)
    : RoundCommunicator(rank, reinterpret_cast<const Header*>(region.data())->size,
                        reinterpret_cast<const Header*>(region.data())->slot_bytes),
      header_(reinterpret_cast<Header*>(region.data())),
      controls_(reinterpret_cast<Control*>(region.data() + sizeof(Header))),
      slots_(region.data() + sizeof(Header) + size() * sizeof(Control)) {}

std::byte* ShmCommunicator::Slot(int rank, uint32_t round) const {
  return slots_ + (2 * static_cast<size_t>(rank) + (round & 1)) * slot_bytes();
}

bool ShmCommunicator::lost() const {
  return (controls_[rank()].published.load(std::memory_order_relaxed) & 1) != 0;
}

bool ShmCommunicator::Meet(const Call& call, size_t, Share) {
  Control& self = controls_[rank()];
  ++round_;
  self.calls[round_ & 1] = call;
  // Sequentially consistent with `sleepers`: either we see a sleeper, or it sees our round.
  self.published.fetch_add(2, std::memory_order_seq_cst);
  if (self.sleepers.load(std::memory_order_seq_cst) != 0) FutexWakeAll(self.published);
  for (int peer = 0; peer < size(); ++peer) {
    if (peer == rank() || WaitFor(peer)) continue;
    missing_ = FirstMissing();
    return false;
  }
  return !lost() && AllAgree(call);
}

bool ShmCommunicator::WaitFor(int peer) {
  Control& control = controls_[peer];
  const uint32_t wanted = 2 * round_;
  // A peer is at most one round ahead, so the difference is small and survives wrapping.
  const auto arrived = [&](uint32_t v) { return static_cast<int32_t>((v & ~1u) - wanted) >= 0; };
  uint32_t value = control.published.load(std::memory_order_acquire);
  for (int i = 0; i < kSpins && !arrived(value) && !(value & 1); ++i) {
    Pause();
    value = control.published.load(std::memory_order_acquire);
  }
  if (!arrived(value) && !(value & 1)) {
    control.sleepers.fetch_add(1, std::memory_order_seq_cst);
    value = control.published.load(std::memory_order_seq_cst);
    while (!arrived(value) && !(value & 1)) {
      FutexWait(control.published, value);
      value = control.published.load(std::memory_order_acquire);
    }
    control.sleepers.fetch_sub(1, std::memory_order_relaxed);
  }
  return (value & 1) == 0;
}

int ShmCommunicator::FirstMissing() const {
  for (int r = 0; r < size(); ++r) {
    const uint32_t value = controls_[r].published.load(std::memory_order_acquire);
    if (static_cast<int32_t>((value & ~1u) - 2 * round_) < 0) return r;
  }
  return -1;
}

bool ShmCommunicator::AllAgree(const Call& call) {
  for (int peer = 0; peer < size(); ++peer) {
    const Call& theirs = controls_[peer].calls[round_ & 1];
    if (theirs == call) continue;
    mismatch_ = Mismatch(call, peer, theirs);
    AbortBecause(kMismatch << 16 | static_cast<uint32_t>(rank()));
    return false;
  }
  return true;
}

void ShmCommunicator::AbortBecause(uint32_t code) {
  uint32_t none = 0;
  header_->lost.compare_exchange_strong(none, code, std::memory_order_acq_rel);
  for (int r = 0; r < size(); ++r) {
    controls_[r].published.fetch_or(1, std::memory_order_seq_cst);
    FutexWakeAll(controls_[r].published);
  }
}

void ShmCommunicator::Abort() { AbortBecause(kAborted << 16 | static_cast<uint32_t>(rank())); }

Status ShmCommunicator::Poll() {
  const uint32_t code = header_->lost.load(std::memory_order_acquire);
  if (code == 0) return OkStatus();
  if (!mismatch_.empty()) return Internal("{}", mismatch_);
  if (code >> 16 == kMismatch) {
    return Internal("rank {} saw collectives that differ between ranks", code & 0xffff);
  }
  const auto by = static_cast<int>(code & 0xffff);
  if (missing_ < 0 || missing_ == by) return Unavailable("rank {} aborted the group", by);
  return Unavailable("rank {} aborted the group; rank {} had not come", by, missing_);
}

}  // namespace tandem::kernels
