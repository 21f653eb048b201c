// The communicator of ranks that share memory: processes of one machine (over a memfd or a shared
// mapping) or threads (over plain memory). It is given the region, it does not create it.
//
//   region = header | one control block a rank | two slots a rank
//
// Two slots make one wait a round enough: a rank that writes its slot n & 1 for round n + 2 has
// seen everybody publish n + 1, after reading n.
//
// A wait spins for some microseconds, then sleeps in a futex: spinning alone loses milliseconds
// when the peer is descheduled, sleeping alone costs 60 us a time. A rank that dies is not noticed
// here: whoever notices calls Abort() on any rank.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "kernels/comm/round_communicator.h"

namespace tandem::kernels {

class ShmCommunicator final : public RoundCommunicator {
 public:
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

  Status Poll() override;
  void Abort() override;

 private:
  struct Header;
  struct Control;

  ShmCommunicator(std::span<std::byte> region, int rank);

  bool Meet(const Call& call, size_t bytes, Share share) override;
  bool WaitFor(int peer);
  int FirstMissing() const;  // the lowest rank that has not published this round, or -1
  bool AllAgree(const Call& call);
  void AbortBecause(uint32_t code);
  bool lost() const override;

  std::byte* SlotToWrite() const override { return Slot(rank(), round_ + 1); }
  const std::byte* SlotToRead(int rank) const override { return Slot(rank, round_); }
  std::byte* Slot(int rank, uint32_t round) const;

  Header* header_;
  Control* controls_;
  std::byte* slots_;
  uint32_t round_ = 0;    // last published
  std::string mismatch_;  // if this rank saw one
  int missing_ = -1;      // the rank that this one waited for when the group was lost
};

}  // namespace tandem::kernels
