#include "kernels/comm/shm_communicator.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <climits>
#include <cstring>
#include <new>

#include "common/check.h"

namespace tandem::kernels {
namespace {

constexpr uint64_t kMagic = 0x31304d4f434d4454;  // "TDMCOM01"
constexpr size_t kLine = 128;                    // two cache lines: the prefetcher pairs them
constexpr int kSpins = 1000;
// From here on, and with more than two ranks, each rank sums a part only.
constexpr size_t kPartsFromBytes = 32 << 10;

enum Op : uint32_t { kAllReduce = 1, kGather, kBroadcast, kBarrier };
const char* OpName(uint32_t op) {
  constexpr const char* kNames[] = {"nothing", "AllReduceSum", "AllGather", "Broadcast", "Barrier"};
  return op <= kBarrier ? kNames[op] : "an unknown operation";
}

// Why the group was lost: cause << 16 | rank that said so.
enum Cause : uint32_t { kAborted = 1, kMismatch = 2 };

size_t RoundUp(size_t n) { return (n + kLine - 1) / kLine * kLine; }

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

struct ShmCommunicator::Call {
  uint32_t op = 0;
  uint32_t round_in_call = 0;
  uint64_t bytes = 0;
  uint64_t detail = 0;  // the root, or a hash of the sizes
  bool operator==(const Call&) const = default;
};

struct alignas(kLine) ShmCommunicator::Control {
  // Rounds published, times 2; the low bit is set once the group is lost. One word, so that a
  // waiter cannot miss an abort between looking at it and going to sleep.
  std::atomic<uint32_t> published;
  std::atomic<uint32_t> sleepers;
  Call calls[2];  // by round & 1; ordered by `published`
};

size_t ShmCommunicator::RequiredBytes(int size, size_t max_bytes) {
  return sizeof(Header) + size * (sizeof(Control) + 2 * RoundUp(max_bytes));
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
  header->slot_bytes = RoundUp(max_bytes);
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
    : header_(reinterpret_cast<Header*>(region.data())),
      controls_(reinterpret_cast<Control*>(region.data() + sizeof(Header))),
      slots_(region.data() + sizeof(Header) + header_->size * sizeof(Control)),
      slot_bytes_(header_->slot_bytes),
      rank_(rank),
      size_(header_->size) {}

std::byte* ShmCommunicator::Slot(int rank, uint32_t round) const {
  return slots_ + (2 * static_cast<size_t>(rank) + (round & 1)) * slot_bytes_;
}

bool ShmCommunicator::lost() const {
  return (controls_[rank_].published.load(std::memory_order_relaxed) & 1) != 0;
}

bool ShmCommunicator::Meet(const Call& call) {
  Control& self = controls_[rank_];
  ++round_;
  self.calls[round_ & 1] = call;
  // Sequentially consistent with `sleepers`: either we see a sleeper, or it sees our round.
  self.published.fetch_add(2, std::memory_order_seq_cst);
  if (self.sleepers.load(std::memory_order_seq_cst) != 0) FutexWakeAll(self.published);
  for (int peer = 0; peer < size_; ++peer) {
    if (peer != rank_ && !WaitFor(peer)) return false;
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

bool ShmCommunicator::AllAgree(const Call& call) {
  for (int peer = 0; peer < size_; ++peer) {
    const Call& theirs = controls_[peer].calls[round_ & 1];
    if (theirs == call) continue;
    mismatch_ =
        fmt::format("collectives differ: rank {} is in {} ({} bytes), rank {} in {} ({})", rank_,
                    OpName(call.op), call.bytes, peer, OpName(theirs.op), theirs.bytes);
    AbortBecause(kMismatch << 16 | static_cast<uint32_t>(rank_));
    return false;
  }
  return true;
}

void ShmCommunicator::AllReduceSum(std::span<float> data) {
  const size_t floats = slot_bytes_ / sizeof(float);
  Call call{kAllReduce, 0, data.size_bytes(), 0};
  for (size_t first = 0; first < data.size() && size_ > 1 && !lost(); first += floats) {
    const auto chunk = data.subspan(first, std::min(floats, data.size() - first));
    if (size_ > 2 && chunk.size_bytes() >= kPartsFromBytes) {
      ReduceParts(chunk, call);
    } else {
      ReduceAll(chunk, call);
    }
    call.round_in_call += 2;
  }
}

// out[i] = slot0[first + i] + slot1[first + i] + ..., always in this order.
void ShmCommunicator::AddSlots(float* out, size_t first, size_t count) const {
  const auto slot = [&](int r) { return reinterpret_cast<const float*>(SlotToRead(r)) + first; };
  const float* a = slot(0);
  const float* b = slot(1);
  for (size_t i = 0; i < count; ++i) out[i] = a[i] + b[i];
  for (int r = 2; r < size_; ++r) {
    const float* c = slot(r);
    for (size_t i = 0; i < count; ++i) out[i] += c[i];
  }
}

// One round; every rank sums everything.
void ShmCommunicator::ReduceAll(std::span<float> data, const Call& call) {
  std::memcpy(SlotToWrite(), data.data(), data.size_bytes());
  if (Meet(call)) AddSlots(data.data(), 0, data.size());
}

// Two rounds: rank r sums the r-th part, then all collect the parts. The sums are those of
// ReduceAll, bit for bit.
void ShmCommunicator::ReduceParts(std::span<float> data, const Call& call) {
  const auto begin = [&](int r) { return data.size() * r / size_; };
  std::memcpy(SlotToWrite(), data.data(), data.size_bytes());
  if (!Meet(call)) return;
  const size_t mine = begin(rank_);
  const size_t count = begin(rank_ + 1) - mine;
  AddSlots(data.data() + mine, mine, count);
  std::memcpy(SlotToWrite(), data.data() + mine, count * sizeof(float));
  Call second = call;
  ++second.round_in_call;
  if (!Meet(second)) return;
  for (int r = 0; r < size_; ++r) {
    if (r == rank_) continue;
    std::memcpy(data.data() + begin(r), SlotToRead(r), (begin(r + 1) - begin(r)) * sizeof(float));
  }
}

void ShmCommunicator::AllGather(std::span<const std::byte> in, std::span<const size_t> sizes,
                                std::span<std::byte> out) {
  TANDEM_CHECK(static_cast<int>(sizes.size()) == size_) << sizes.size() << " sizes";
  TANDEM_CHECK(in.size() == sizes[rank_]) << in.size() << " bytes, " << sizes[rank_] << " said";
  Call call{kGather, 0, 0, 1469598103934665603u};
  size_t largest = 0;
  for (const size_t size : sizes) {
    call.detail = (call.detail ^ size) * 1099511628211u;  // FNV-1a, a word at a time
    call.bytes += size;
    largest = std::max(largest, size);
  }
  TANDEM_CHECK(out.empty() || out.size() == call.bytes)
      << out.size() << " bytes out, sizes add up to " << call.bytes;
  for (size_t first = 0; first < largest && !lost(); first += slot_bytes_) {
    const auto count = [&](int r) {
      return sizes[r] <= first ? 0 : std::min(slot_bytes_, sizes[r] - first);
    };
    if (const size_t n = count(rank_); n > 0) std::memcpy(SlotToWrite(), in.data() + first, n);
    if (!Meet(call)) return;
    std::byte* to = out.data() + first;
    for (int r = 0; r < size_ && !out.empty(); ++r) {
      if (const size_t n = count(r); n > 0) std::memcpy(to, SlotToRead(r), n);
      to += sizes[r];
    }
    ++call.round_in_call;
  }
}

void ShmCommunicator::Broadcast(std::span<std::byte> data, int root) {
  TANDEM_CHECK(root >= 0 && root < size_) << "root " << root << " of " << size_;
  Call call{kBroadcast, 0, data.size(), static_cast<uint64_t>(root)};
  for (size_t first = 0; first < data.size() && !lost(); first += slot_bytes_) {
    const size_t n = std::min(slot_bytes_, data.size() - first);
    if (rank_ == root) std::memcpy(SlotToWrite(), data.data() + first, n);
    if (!Meet(call)) return;
    if (rank_ != root) std::memcpy(data.data() + first, SlotToRead(root), n);
    ++call.round_in_call;
  }
}

void ShmCommunicator::Barrier() {
  if (!lost()) Meet({kBarrier, 0, 0, 0});
}

void ShmCommunicator::AbortBecause(uint32_t code) {
  uint32_t none = 0;
  header_->lost.compare_exchange_strong(none, code, std::memory_order_acq_rel);
  for (int r = 0; r < size_; ++r) {
    controls_[r].published.fetch_or(1, std::memory_order_seq_cst);
    FutexWakeAll(controls_[r].published);
  }
}

void ShmCommunicator::Abort() { AbortBecause(kAborted << 16 | static_cast<uint32_t>(rank_)); }

Status ShmCommunicator::Poll() {
  const uint32_t code = header_->lost.load(std::memory_order_acquire);
  if (code == 0) return OkStatus();
  if (!mismatch_.empty()) return Internal("{}", mismatch_);
  if (code >> 16 == kMismatch) {
    return Internal("rank {} saw collectives that differ between ranks", code & 0xffff);
  }
  return Unavailable("rank {} aborted the group", code & 0xffff);
}

}  // namespace tandem::kernels
