// The communicator of ranks on GPUs: NCCL's collectives on device memory, in the order of a stream.
// Not a Communicator: that one moves host memory, and is what this one is brought up over.
//
// Collective: every rank calls the same operations in the same order with equal sizes. All return
// when the operation is enqueued, allocate nothing after the first few, and can be captured by a
// graph.
//
// Thread: one at a time, with the rank's device current, except Abort().
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>

#include "common/status.h"
#include "kernels/comm/communicator.h"

struct CUstream_st;  // cudaStream_t
struct ncclComm;     // ncclComm_t

namespace tandem::kernels {

class NcclCommunicator {
 public:
  enum class Element : uint8_t { kF32, kF16, kBf16, kByte };

  // All ranks of `link` at once; this rank's device is current. Rank 0's id goes to the others over
  // `link`, which also tells all of them how it went: either all connect, or all have the same
  // error. kUnavailable: a rank did not connect within `limit`, or failed; it is named. For a rank
  // that is silent altogether the others wait 3 * limit and then abort `link`, whose error this is.
  //
  // `before_abort` is for kernels of this rank that wait for others without NCCL: its abort waits
  // for what stands before its own kernels, so they are told first. Called by any thread, maybe
  // more than once, as long as this lives; it calls nothing of this.
  static StatusOr<std::unique_ptr<NcclCommunicator>> Connect(
      Communicator& link, std::chrono::milliseconds limit, std::function<void()> before_abort = {});
  ~NcclCommunicator();
  NcclCommunicator(const NcclCommunicator&) = delete;
  NcclCommunicator& operator=(const NcclCommunicator&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }

  // In place: the sum over the ranks, rounded in whatever order NCCL likes, but equal on all ranks.
  // Not kByte.
  void AllReduceSum(void* data, size_t count, Element element, CUstream_st* stream);

  // `count` elements of every rank, in rank order; `in` may be its own place in `out`.
  void AllGather(const void* in, void* out, size_t count, Element element, CUstream_st* stream);

  // Root's elements to all, in place.
  void Broadcast(void* data, size_t count, Element element, int root, CUstream_st* stream);

  // OK, or why the group is lost: NCCL's error, a call of it that did not end within `limit`, or
  // Abort(). After the first error every operation does nothing and every Poll returns it. A peer
  // that is silent in a collective is no error of NCCL's: the stream just does not get on, and
  // whoever sees that calls Abort().
  Status Poll();

  // Ends what is enqueued, so that the stream gets on (with undefined results), and the group. Any
  // thread; idempotent.
  void Abort();

 private:
  NcclCommunicator(int rank, int size, std::chrono::milliseconds limit,
                   std::function<void()> before_abort);

  // Begins to join the group of `id`, then waits for it. Errors end the group.
  Status Join(std::span<const std::byte> id);
  // Runs `call` (which returns an ncclResult_t) unless the group is lost, and waits until NCCL took
  // it in.
  template <class Call>
  void Enqueue(const char* what, const Call& call);
  // Until NCCL has done in the background what it was told, within the limit.
  void Settle(const char* what);
  // Ends the group for this rank, unless it has ended already. REQUIRES: mutex_ held.
  void Lose(Status why);

  const int rank_;
  const int size_;
  const std::chrono::milliseconds limit_;
  const std::function<void()> before_abort_;  // may be empty
  std::mutex mutex_;          // of the two below; held for calls of NCCL, none of which waits
  ncclComm* comm_ = nullptr;  // null: lost
  Status lost_;
};

}  // namespace tandem::kernels
