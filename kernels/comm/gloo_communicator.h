// The communicator of ranks on several hosts: Gloo's TCP transport, one connection for each pair of
// ranks, over addresses that its owner carries from rank to rank.
//
// Sums are added in rank order by whoever needs them, as ShmCommunicator does: equal, bit for bit.
//
//   slot = Call | payload, two a rank at its peers, by round & 1
//
// A round is one message to each peer, straight into its copy of this rank's slot; who has heard
// from all has met them. So slot n & 1 is free for round n + 2, as with shared memory.
//
// A peer whose connection ends is noticed by all that wait for it. One that is silent is not: there
// is no time limit here, whoever watches the steps calls Abort(). It ends the waits of this rank
// and those for it; a rank that waits for a third one has its own watchdog. Nothing is encrypted,
// and Gloo takes whoever connects first for the peer: for networks where everybody is trusted.
// REQUIRES: SIGPIPE is ignored.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "common/mutex.h"
#include "kernels/comm/round_communicator.h"

namespace tandem::kernels {

class GlooCommunicator final : public RoundCommunicator {
 public:
  // Listens on `address`, an IP address of this machine that the other ranks reach, at a free port
  // for each of them. Rounds carry up to `max_bytes`; larger payloads take several.
  // kInvalidArgument: no such address here. REQUIRES: 2 <= size <= kMaxRanks.
  static StatusOr<std::unique_ptr<GlooCommunicator>> Create(const std::string& address, int rank,
                                                            int size, size_t max_bytes);
  ~GlooCommunicator() override;

  // What the others need to find this rank: opaque, at most kMaxAddressBytes for each rank.
  static constexpr size_t kMaxAddressBytes = 192;
  std::string addresses() const;

  // Once: connects to all others, which do the same. `all[r]` are the addresses() of rank r. Waits
  // as long as it takes, until Abort().
  Status Connect(std::span<const std::string> all);

  Status Poll() override;
  void Abort() override;

 private:
  struct Mesh;  // what is Gloo's

  GlooCommunicator(std::unique_ptr<Mesh> mesh, int rank, int size, size_t max_bytes);
  bool Meet(const Call& call, size_t bytes, Share share) override;
  void SendTo(int peer, size_t bytes, Share share);
  bool AllAgree(const Call& call);
  bool lost() const override { return lost_.load(std::memory_order_acquire); }
  void Lose(Status why);
  std::byte* SlotToWrite() const override;
  const std::byte* SlotToRead(int rank) const override;

  std::unique_ptr<Mesh> mesh_;
  uint32_t round_ = 0;  // last begun
  std::atomic<bool> lost_{false};
  Mutex mutex_;
  Status why_ TANDEM_GUARDED_BY(mutex_);
};

}  // namespace tandem::kernels
