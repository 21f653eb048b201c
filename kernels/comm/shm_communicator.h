// The communicator of ranks that share memory: processes of one machine (over a memfd or a shared
// mapping) or threads (over plain memory). It is given the region, it does not create it.
//
//   region = header | one control block a rank | two slots a rank
//
// Every collective is one or more *rounds*. In round n a rank writes its bytes into its slot n & 1,
// publishes n, waits until all ranks published n and reads their slots. Two slots make one wait a
// round enough: who writes round n + 2 has seen everybody publish n + 1, after reading n.
// A wait spins for some microseconds, then sleeps in a futex: spinning alone loses milliseconds
// when the peer is descheduled, sleeping alone costs 60 us a time.
//
// Collectives that differ between ranks (operation or size) end the group with a message, not with
// a hang. A rank that dies is not noticed here: whoever notices calls Abort() on any rank.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "kernels/comm/communicator.h"

namespace tandem::kernels {

class ShmCommunicator final : public Communicator {
 public:
  static constexpr int kMaxRanks = 64;

  // Bytes of a region for `size` ranks whose rounds carry up to `max_bytes`; larger payloads take
  // several rounds.
  static size_t RequiredBytes(int size, size_t max_bytes);

  // Makes `region` ready, once, before any Attach. REQUIRES: region aligned to 128 bytes and at
  // least RequiredBytes; 1 <= size <= kMaxRanks; max_bytes > 0.
  static void Format(std::span<std::byte> region, int size, size_t max_bytes);

  // Takes part as `rank`. `region` is borrowed and must outlive this. kInvalidArgument if it was
  // not formatted for `size` ranks.
  static StatusOr<std::unique_ptr<ShmCommunicator>> Attach(std::span<std::byte> region, int rank,
                                                           int size);

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  void AllReduceSum(std::span<float> data) override;
  void AllGather(std::span<const std::byte> in, std::span<const size_t> sizes,
                 std::span<std::byte> out) override;
  void Broadcast(std::span<std::byte> data, int root) override;
  void Barrier() override;
  Status Poll() override;
  void Abort() override;

 private:
  struct Header;
  struct Call;
  struct Control;

  ShmCommunicator(std::span<std::byte> region, int rank);

  // Publishes this round and waits for all ranks' publication of it; false once the group is lost.
  // `call` is what this rank believes to take part in.
  bool Meet(const Call& call);
  bool WaitFor(int peer);
  bool AllAgree(const Call& call);
  void AbortBecause(uint32_t code);
  bool lost() const;

  // The slot of `rank` in the round that the next Meet() publishes, or that the last one did.
  std::byte* SlotToWrite() const { return Slot(rank_, round_ + 1); }
  const std::byte* SlotToRead(int rank) const { return Slot(rank, round_); }
  std::byte* Slot(int rank, uint32_t round) const;

  void ReduceAll(std::span<float> data, const Call& call);
  void ReduceParts(std::span<float> data, const Call& call);
  void AddSlots(float* out, size_t first, size_t count) const;

  Header* header_;
  Control* controls_;
  std::byte* slots_;
  size_t slot_bytes_;
  int rank_;
  int size_;
  uint32_t round_ = 0;    // last published
  std::string mismatch_;  // if this rank saw one
};

}  // namespace tandem::kernels
