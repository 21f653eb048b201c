// What the ranks of a group do together in a step: sums of activations after O and down, and the
// parts of the logits. Small sums go over peer memory in one kernel with the norm that follows,
// larger ones over peer memory in two, the largest over NCCL; from which size on is measured when
// the group starts, and all ranks take rank 0's word. Without peer access, or told not to use
// it, all goes over NCCL.
//
// Thread: the model thread, but Abort.
#pragma once

#include <cuda_runtime_api.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"
#include "kernels/comm/communicator.h"
#include "kernels/comm/nccl_communicator.h"
#include "kernels/cuda/ops.h"
#include "worker/model/cuda/device.h"

namespace tandem::model::cuda {

struct RankExchangeSpec {
  int max_rows = 0;  // T
  int hidden = 0;    // H
  kernels::cuda::ActivationType type = kernels::cuda::ActivationType::kBf16;
  bool use_peers = true;  // where there is peer access; false on one rank is false for all
  // For sums at start-up to come back. There the watchdog sees nothing amiss: no step has begun,
  // and to ask whether a sum has come back is work. In a step it is the watchdog that ends the
  // wait.
  std::chrono::milliseconds sum_limit = std::chrono::seconds(60);
  std::function<void(const std::string&)> say = {};
};

class RankExchange {
 public:
  // Collective: all ranks of `comm`, which is borrowed, each with its GPU `device` current.
  // kUnavailable: a rank is gone, or was silent for too long; the message says which. kInternal:
  // peer memory, or NCCL, does not carry what the driver says it does.
  static StatusOr<std::unique_ptr<RankExchange>> Make(const RankExchangeSpec& spec, int device,
                                                      kernels::Communicator& comm,
                                                      cudaStream_t stream);
  ~RankExchange();

  // All ranks, with equal shapes, as everything below. x += the sum of `partial` over the ranks,
  // out = RmsNorm(x).
  void SumAddRmsNorm(const kernels::cuda::Matrix& out, float* x,
                     const kernels::cuda::Matrix& partial, const float* weight, float eps,
                     cudaStream_t stream);
  // In place.
  void Sum(const kernels::cuda::Matrix& partial, cudaStream_t stream);
  // to = each rank's `count` values, in rank order.
  void Gather(float* to, const float* from, int64_t count, cudaStream_t stream);

  // At start-up: runs `steps`, which waits for sums of all ranks, and ends them if they are not
  // back within sum_limit, so that it gets on. Its status, or kInternal, which says what to set.
  Status WithinLimit(const std::function<Status()>& steps);

  // OK, or why the group is lost; from the first error on always.
  Status Poll();
  // Any thread: the stream gets on without the other ranks, and what it computes means nothing.
  void Abort();

 private:
  enum class Way : uint8_t { kOneKernel, kTwoShot, kNccl };
  struct PeerCard;  // what a rank tells the others of its exchange memory
  struct Trial;     // what sums are timed with

  RankExchange(const RankExchangeSpec& spec, kernels::Communicator& comm, cudaStream_t stream);
  Status OpenPeers(int device);
  Status MakeOwn(int device, PeerCard& own);
  // Empty: `device` reaches all of them.
  std::string WhyNoPeers(int device, std::span<const PeerCard> cards) const;
  bool OpenAll(std::span<const PeerCard> cards);
  Status MakeTrial(Trial& trial);
  Status Measure();
  StatusOr<float> Time(Way way, int rows, const Trial& trial);
  Status WaitFor(cudaEvent_t event, Way way);
  Status Late(std::string_view over) const;
  void SumAddRmsNormBy(Way way, const kernels::cuda::Matrix& out, float* x,
                       const kernels::cuda::Matrix& partial, const float* weight, float eps,
                       cudaStream_t stream);
  void SumBy(Way way, const kernels::cuda::Matrix& partial, cudaStream_t stream);
  Way WayOf(int64_t rows) const;

  const RankExchangeSpec spec_;
  kernels::Communicator& comm_;
  const cudaStream_t stream_;
  int max_peer_rows_ = 0;   // larger sums go over NCCL
  PinnedMemory abandoned_;  // of peers_; written before an abort of nccl_, which it must outlive
  std::unique_ptr<kernels::NcclCommunicator> nccl_;
  bool has_peers_ = false;
  kernels::cuda::PeerBuffers peers_;
  DeviceMemory data_, signals_;  // this rank's of peers_
  std::vector<void*> opened_;    // of the others
  std::vector<Way> ways_;        // [i]: of up to 2^i rows
};

}  // namespace tandem::model::cuda
