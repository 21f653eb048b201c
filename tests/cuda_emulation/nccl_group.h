// What the ranks of an emulated NCCL communicator share, and the operations on it as steps: none of
// them waits, each says whether it could get on.
//
//   segment = header | one cell a rank | a channel for each ordered pair of ranks
//
// The segment is a memfd of the process that made the unique id: ranks may be threads or processes,
// and nothing is left behind. Data is read from the ranks' device memory, which is a memfd too.
//
// A collective: post what I think we do; when all have posted, compare, read everybody's input;
// when all have read, write my output. Sums are added in rank order in float32.
//
// Thread: one at a time for each Group, and Abort() from any.
#pragma once

#include <nccl.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tests/cuda_emulation/memory.h"
#include "tests/cuda_emulation/stream.h"

namespace tandem::emulation {

enum class Op : uint32_t { kAllReduce, kAllGather, kBroadcast, kSend, kRecv };

// One call of a rank.
struct Collective {
  Op op = Op::kAllReduce;
  ncclDataType_t type = ncclFloat32;
  uint64_t count = 0;
  int32_t peer = 0;  // the root, or the other side
  const void* in = nullptr;
  void* out = nullptr;
};

size_t ElementBytes(ncclDataType_t type);  // 0: not emulated
bool CanSum(ncclDataType_t type);
std::string Describe(const Collective& call);  // "all-reduce of 1024 bf16"

class Group {
 public:
  static constexpr int kMaxRanks = 64;

  // For ncclGetUniqueId.
  static ncclUniqueId MakeId();

  // Takes part as `rank`; null if the maker of the id is gone or did not mean us.
  static std::shared_ptr<Group> Join(const ncclUniqueId& id, int rank, int size, int device,
                                     std::string& error);
  ~Group();

  int rank() const { return rank_; }
  int size() const { return size_; }
  int device() const { return device_; }

  // Whether all ranks have joined; an error if what they say cannot be.
  ncclResult_t Joined(std::string& error) const;

  // From now on all operations are over at once, with undefined results.
  void Abort() { aborted_ = true; }
  bool aborted() const { return aborted_; }

  // Begins operations that go on together: collectives one after the other, sends and receives at
  // the same time.
  static Stepper Begin(std::shared_ptr<Group> group, std::vector<Collective> calls);

 private:
  struct Segment;
  class Transfer;
  class Run;

  Group(Segment* segment, int rank, int size, int device);

  Segment* const segment_;
  const int rank_;
  const int size_;
  const int device_;
  std::atomic<bool> aborted_ = false;
  uint64_t sequence_ = 0;  // collectives begun
};

}  // namespace tandem::emulation
