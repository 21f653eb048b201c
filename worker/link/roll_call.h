// Whether the ranks of one group run at all, in memory that they share from the moment they join: a
// process that was stopped, or hangs in the kernel, no longer beats. Says nothing of progress.
//
// A RollCall is a view, over memory that is zero at first and outlives it.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

namespace tandem::link {

class RollCall {
 public:
  static size_t RequiredBytes(int ranks);

  RollCall() = default;
  // REQUIRES: aligned to 128 bytes, RequiredBytes long.
  explicit RollCall(std::span<std::byte> region) : region_(region) {}

  // Any thread of that rank's process, several times a second.
  void Beat(int rank) { entry(rank).beats.fetch_add(1, std::memory_order_relaxed); }
  uint32_t beats(int rank) const { return entry(rank).beats.load(std::memory_order_relaxed); }

  // Has all that it needs for the first step.
  void SetReady(int rank) { entry(rank).ready.store(1, std::memory_order_release); }
  bool ready(int rank) const { return entry(rank).ready.load(std::memory_order_acquire) != 0; }

  // What a rank whose memory is another one said there.
  void Copy(int rank, uint32_t beats, bool ready);

  // For a process that takes the place of one that died.
  void Forget(int rank);

 private:
  struct alignas(128) Entry {
    std::atomic<uint32_t> beats;
    std::atomic<uint32_t> ready;
  };
  Entry& entry(int rank) const;

  std::span<std::byte> region_;
};

inline size_t RollCall::RequiredBytes(int ranks) {
  return sizeof(Entry) * static_cast<size_t>(ranks);
}

inline RollCall::Entry& RollCall::entry(int rank) const {
  return reinterpret_cast<Entry*>(region_.data())[rank];
}

inline void RollCall::Copy(int rank, uint32_t beats, bool ready) {
  entry(rank).beats.store(beats, std::memory_order_relaxed);
  if (ready) SetReady(rank);
}

inline void RollCall::Forget(int rank) {
  entry(rank).beats.store(0, std::memory_order_relaxed);
  entry(rank).ready.store(0, std::memory_order_relaxed);
}

}  // namespace tandem::link
