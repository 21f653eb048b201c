#include "kernels/comm/round_communicator.h"

#include <algorithm>
#include <cstring>

#include "common/check.h"

namespace tandem::kernels {
namespace {

// From here on, and with more than two ranks, each rank sums a part only.
constexpr size_t kPartsFromBytes = 32 << 10;

enum Op : uint32_t { kAllReduce = 1, kGather, kBroadcast, kBarrier };
const char* OpName(uint32_t op) {
  constexpr const char* kNames[] = {"nothing", "AllReduceSum", "AllGather", "Broadcast", "Barrier"};
  return op <= kBarrier ? kNames[op] : "an unknown operation";
}

}  // namespace

RoundCommunicator::RoundCommunicator(int rank, int size, size_t slot_bytes)
    : rank_(rank), size_(size), slot_bytes_(slot_bytes) {}

std::string RoundCommunicator::Mismatch(const Call& mine, int peer, const Call& theirs) const {
  return fmt::format("collectives differ: rank {} is in {} ({} bytes), rank {} in {} ({})", rank_,
                     OpName(mine.op), mine.bytes, peer, OpName(theirs.op), theirs.bytes);
}

void RoundCommunicator::AllReduceSum(std::span<float> data) {
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
void RoundCommunicator::AddSlots(float* out, size_t first, size_t count) const {
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
void RoundCommunicator::ReduceAll(std::span<float> data, const Call& call) {
  std::memcpy(SlotToWrite(), data.data(), data.size_bytes());
  if (Meet(call, data.size_bytes(), Share::kAll)) AddSlots(data.data(), 0, data.size());
}

// Two rounds: rank r sums the r-th part, then all collect the parts. The sums are those of
// ReduceAll, bit for bit.
void RoundCommunicator::ReduceParts(std::span<float> data, const Call& call) {
  const auto begin = [&](int r) { return PartBegin(data.size(), r); };
  std::memcpy(SlotToWrite(), data.data(), data.size_bytes());
  if (!Meet(call, data.size_bytes(), Share::kParts)) return;
  const size_t mine = begin(rank_);
  const size_t count = begin(rank_ + 1) - mine;
  AddSlots(data.data() + mine, mine, count);
  std::memcpy(SlotToWrite(), data.data() + mine, count * sizeof(float));
  Call second = call;
  ++second.round_in_call;
  if (!Meet(second, count * sizeof(float), Share::kAll)) return;
  for (int r = 0; r < size_; ++r) {
    if (r == rank_) continue;
    std::memcpy(data.data() + begin(r), SlotToRead(r), (begin(r + 1) - begin(r)) * sizeof(float));
  }
}

void RoundCommunicator::AllGather(std::span<const std::byte> in, std::span<const size_t> sizes,
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
    const size_t own = count(rank_);
    if (own > 0) std::memcpy(SlotToWrite(), in.data() + first, own);
    if (!Meet(call, own, Share::kAll)) return;
    std::byte* to = out.data() + first;
    for (int r = 0; r < size_ && !out.empty(); ++r) {
      if (const size_t n = count(r); n > 0) std::memcpy(to, SlotToRead(r), n);
      to += sizes[r];
    }
    ++call.round_in_call;
  }
}

void RoundCommunicator::Broadcast(std::span<std::byte> data, int root) {
  TANDEM_CHECK(root >= 0 && root < size_) << "root " << root << " of " << size_;
  Call call{kBroadcast, 0, data.size(), static_cast<uint64_t>(root)};
  for (size_t first = 0; first < data.size() && !lost(); first += slot_bytes_) {
    const size_t n = std::min(slot_bytes_, data.size() - first);
    if (rank_ == root) std::memcpy(SlotToWrite(), data.data() + first, n);
    if (!Meet(call, rank_ == root ? n : 0, Share::kAll)) return;
    if (rank_ != root) std::memcpy(data.data() + first, SlotToRead(root), n);
    ++call.round_in_call;
  }
}

void RoundCommunicator::Barrier() {
  if (!lost()) Meet({kBarrier, 0, 0, 0}, 0, Share::kAll);
}

}  // namespace tandem::kernels
