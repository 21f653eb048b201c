// Exchanges tensors between the ranks of one group. One per rank and process; no globals, so a test
// may hold four ranks in four threads.
//
// Collective: every rank calls the same operations in the same order with equal sizes. Sums are
// added in rank order, so a result never depends on timing.
// Thread: the rank's model thread, except Abort().
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "common/status.h"

namespace tandem::kernels {

class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;

  // In place, float32. An error of a peer does not surface here but at the next Poll(): the hot
  // path has no return to check, and after an error the contents are undefined.
  virtual void AllReduceSum(std::span<float> data) = 0;

  // out = every rank's `in`, in rank order. Ranks may pass different sizes: sizes[r] bytes each,
  // equal on all ranks; in.size() == sizes[rank()], out.size() == their sum, or 0 on a rank that
  // gives but does not want the result.
  virtual void AllGather(std::span<const std::byte> in, std::span<const size_t> sizes,
                         std::span<std::byte> out) = 0;

  // Root's bytes to all.
  virtual void Broadcast(std::span<std::byte> data, int root) = 0;

  virtual void Barrier() = 0;

  // OK, or why the group is lost. After the first error every call returns it: a group never
  // heals, it is rebuilt.
  virtual Status Poll() = 0;

  // Frees ranks that wait for a peer that is gone. Any thread; idempotent.
  virtual void Abort() = 0;
};

// Every rank's `own`, by rank; T is copied as bytes. Errors are AllGather's.
template <class T>
std::vector<T> GatherAll(Communicator& comm, const T& own) {
  std::vector<T> all(static_cast<size_t>(comm.size()));
  const std::vector<size_t> sizes(all.size(), sizeof(T));
  comm.AllGather(std::as_bytes(std::span(&own, 1)), sizes, std::as_writable_bytes(std::span(all)));
  return all;
}

}  // namespace tandem::kernels
