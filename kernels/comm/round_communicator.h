// Collectives made of *rounds*. In a round every rank has written bytes into its slot, all meet,
// and then each reads the slots of the others. How the bytes get there is what subclasses are
// about: memory that all of them see, or connections.
//
// A slot is written before Meet() and may be read until the Meet() after it.
//
// Collectives that differ between ranks (operation or size) end the group with a message, not with
// a hang.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "kernels/comm/communicator.h"

namespace tandem::kernels {

class RoundCommunicator : public Communicator {
 public:
  static constexpr int kMaxRanks = 64;

  int rank() const final { return rank_; }
  int size() const final { return size_; }
  void AllReduceSum(std::span<float> data) final;
  void AllGather(std::span<const std::byte> in, std::span<const size_t> sizes,
                 std::span<std::byte> out) final;
  void Broadcast(std::span<std::byte> data, int root) final;
  void Barrier() final;

 protected:
  // What a rank believes to take part in.
  struct Call {
    uint32_t op = 0;
    uint32_t round_in_call = 0;
    uint64_t bytes = 0;
    uint64_t detail = 0;  // the root, or a hash of the sizes
    bool operator==(const Call&) const = default;
  };

  // Which of the bytes in this rank's slot a peer will read.
  enum class Share {
    kAll,
    kParts,  // floats; each peer the part that it sums, see PartBegin
  };

  RoundCommunicator(int rank, int size, size_t slot_bytes);

  // Waits for all ranks; false once the group is lost. `bytes` are in this rank's slot; equal calls
  // of different ranks may bring different numbers of them.
  virtual bool Meet(const Call& call, size_t bytes, Share share) = 0;
  virtual bool lost() const = 0;

  // The slot for the next Meet, and those of the last one.
  virtual std::byte* SlotToWrite() const = 0;
  virtual const std::byte* SlotToRead(int rank) const = 0;

  size_t slot_bytes() const { return slot_bytes_; }
  // Of `floats`, rank r sums [PartBegin(floats, r), PartBegin(floats, r + 1)).
  size_t PartBegin(size_t floats, int rank) const { return floats * rank / size_; }
  // One line for calls that are not equal.
  std::string Mismatch(const Call& mine, int peer, const Call& theirs) const;

 private:
  void ReduceAll(std::span<float> data, const Call& call);
  void ReduceParts(std::span<float> data, const Call& call);
  void AddSlots(float* out, size_t first, size_t count) const;

  const int rank_;
  const int size_;
  const size_t slot_bytes_;
};

}  // namespace tandem::kernels
