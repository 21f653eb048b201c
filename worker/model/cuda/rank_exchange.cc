#include "worker/model/cuda/rank_exchange.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <span>
#include <thread>

#include "common/alarm.h"
#include "common/check.h"
#include "common/round.h"

namespace tandem::model::cuda {
namespace {

using kernels::NcclCommunicator;
using kernels::cuda::AllReduceAlgorithm;
using kernels::cuda::Matrix;

constexpr std::chrono::seconds kConnectLimit(60);  // a large machine's links take a while
// Peer memory is for sums that are latency; NCCL is as fast long before this.
constexpr int64_t kMostPeerBytes = 4 << 20;
constexpr int kTimedSums = 5;
constexpr std::chrono::microseconds kPause(100);

// Of memory whose handle others open: smaller allocations share a block with what is not for them.
int64_t WholeBlocks(int64_t bytes) { return RoundUp(bytes, 2 << 20); }

NcclCommunicator::Element ElementOf(kernels::cuda::ActivationType type) {
  return type == kernels::cuda::ActivationType::kBf16 ? NcclCommunicator::Element::kBf16
                                                      : NcclCommunicator::Element::kF16;
}

// This process's number of the GPU; -1: it is hidden from it.
int DeviceAt(std::string_view bus_id) {
  int count = 0;
  static_cast<void>(cudaGetDeviceCount(&count));
  for (int i = 0; i < count; ++i) {
    char own[16] = {};
    if (cudaDeviceGetPCIBusId(own, sizeof(own), i) == cudaSuccess && bus_id == own) return i;
  }
  return -1;
}

StatusOr<Event> MakeTimedEvent() {
  cudaEvent_t event = nullptr;
  TANDEM_RETURN_IF_ERROR(FromCuda(cudaEventCreate(&event), "making an event"));
  return Event(event);
}

std::atomic_ref<uint32_t> Abandoned(const PinnedMemory& word) {
  return std::atomic_ref<uint32_t>(*static_cast<uint32_t*>(word.get()));
}

}  // namespace

struct RankExchange::PeerCard {
  bool reaches_all = false;  // this rank's GPU can read and write the memory of all others
  int32_t device = -1;
  int32_t multiprocessors = 0;
  char bus_id[16] = {};  // of the GPU; the same name on two hosts is no peer, see host
  char host[64] = {};
  cudaIpcMemHandle_t data = {}, signals = {};
};

struct RankExchange::Trial {
  DeviceMemory x, out, partial;
  Event begin, end;
};

StatusOr<std::unique_ptr<RankExchange>> RankExchange::Make(const RankExchangeSpec& spec, int device,
                                                           kernels::Communicator& comm,
                                                           cudaStream_t stream) {
  std::unique_ptr<RankExchange> exchange(new RankExchange(spec, comm, stream));
  TANDEM_ASSIGN_OR_RETURN(exchange->abandoned_, AllocatePinned(sizeof(uint32_t)));
  Abandoned(exchange->abandoned_).store(0);
  TANDEM_ASSIGN_OR_RETURN(exchange->nccl_,
                          NcclCommunicator::Connect(comm, kConnectLimit, [self = exchange.get()] {
                            Abandoned(self->abandoned_).store(1);
                          }));
  TANDEM_RETURN_IF_ERROR(exchange->OpenPeers(device));
  TANDEM_RETURN_IF_ERROR(exchange->Measure());
  return exchange;
}

RankExchange::RankExchange(const RankExchangeSpec& spec, kernels::Communicator& comm,
                           cudaStream_t stream)
    : spec_(spec), comm_(comm), stream_(stream) {
  const int64_t rows = kMostPeerBytes / (2 * spec.hidden);
  max_peer_rows_ = static_cast<int>(std::min<int64_t>(spec.max_rows, rows));
}

RankExchange::~RankExchange() {
  for (void* const memory : opened_) static_cast<void>(cudaIpcCloseMemHandle(memory));
}

// All ranks take part in every exchange, whatever they found: an early return would leave the
// others waiting.
Status RankExchange::OpenPeers(int device) {
  PeerCard own;
  TANDEM_RETURN_IF_ERROR(MakeOwn(device, own));
  std::vector<PeerCard> cards = GatherAll(comm_, own);
  const std::string why_not = WhyNoPeers(device, cards);
  own.reaches_all = why_not.empty() && OpenAll(cards);
  cards = GatherAll(comm_, own);
  TANDEM_RETURN_IF_ERROR(comm_.Poll());
  has_peers_ = std::all_of(cards.begin(), cards.end(),
                           [](const PeerCard& card) { return card.reaches_all; });
  if (has_peers_ || !spec_.say) return OkStatus();
  spec_.say(fmt::format("the ranks' GPUs do not reach each other's memory{}; all sums go over NCCL",
                        why_not.empty() ? "" : " (" + why_not + ")"));
  return OkStatus();
}

Status RankExchange::MakeOwn(int device, PeerCard& own) {
  own.device = device;
  ::gethostname(own.host, sizeof(own.host) - 1);
  TANDEM_RETURN_IF_ERROR(FromCuda(cudaDeviceGetPCIBusId(own.bus_id, sizeof(own.bus_id), device),
                                  "asking for a GPU's place"));
  TANDEM_RETURN_IF_ERROR(
      FromCuda(cudaDeviceGetAttribute(&own.multiprocessors, cudaDevAttrMultiProcessorCount, device),
               "asking for a GPU's multiprocessors"));
  TANDEM_ASSIGN_OR_RETURN(data_, AllocateDevice(WholeBlocks(kernels::cuda::AllReduceBytes(
                                     int64_t{max_peer_rows_} * spec_.hidden))));
  TANDEM_ASSIGN_OR_RETURN(signals_,
                          AllocateDevice(WholeBlocks(kernels::cuda::kAllReduceSignalBytes)));
  TANDEM_RETURN_IF_ERROR(
      FromCuda(cudaMemsetAsync(signals_.get(), 0, kernels::cuda::kAllReduceSignalBytes, stream_),
               "clearing flags"));
  TANDEM_RETURN_IF_ERROR(FromCuda(cudaStreamSynchronize(stream_), "clearing flags"));
  // Where there is no IPC the handle stays empty, and OpenAll of the others fails.
  if (cudaIpcGetMemHandle(&own.data, data_.get()) != cudaSuccess ||
      cudaIpcGetMemHandle(&own.signals, signals_.get()) != cudaSuccess) {
    static_cast<void>(cudaGetLastError());
  }
  return OkStatus();
}

std::string RankExchange::WhyNoPeers(int device, std::span<const PeerCard> cards) const {
  if (!spec_.use_peers) return "peer_memory is false";
  if (static_cast<int>(cards.size()) > kernels::cuda::kMaxPeers) {
    return fmt::format("more than {} ranks", kernels::cuda::kMaxPeers);
  }
  const PeerCard& own = cards[static_cast<size_t>(comm_.rank())];
  for (const PeerCard& card : cards) {
    if (std::string_view(card.host) != own.host) return "they are on several hosts";
    if (std::string_view(card.bus_id) == own.bus_id) continue;
    const int peer = DeviceAt(card.bus_id);
    int can = 0;
    if (peer < 0 || cudaDeviceCanAccessPeer(&can, device, peer) != cudaSuccess) {
      static_cast<void>(cudaGetLastError());  // not an error of the steps to come
      return fmt::format("GPU {} does not see that of rank {}", device, &card - cards.data());
    }
    if (can == 0) {
      return fmt::format("GPU {} has no peer access to GPU {}", device, card.device);
    }
  }
  return "";
}

bool RankExchange::OpenAll(std::span<const PeerCard> cards) {
  peers_.rank = comm_.rank();
  peers_.size = comm_.size();
  peers_.abandoned = static_cast<const uint32_t*>(abandoned_.get());
  for (int r = 0; r < comm_.size(); ++r) {
    const PeerCard& card = cards[static_cast<size_t>(r)];
    peers_.max_blocks = std::min(peers_.max_blocks, card.multiprocessors);
    if (r == comm_.rank()) {
      peers_.data[r] = data_.get();
      peers_.signals[r] = signals_.get();
      continue;
    }
    for (const auto& [handle, to] :
         {std::pair(&card.data, &peers_.data[r]), std::pair(&card.signals, &peers_.signals[r])}) {
      if (cudaIpcOpenMemHandle(to, *handle, cudaIpcMemLazyEnablePeerAccess) != cudaSuccess) {
        static_cast<void>(cudaGetLastError());
        return false;
      }
      opened_.push_back(*to);
    }
  }
  return true;
}

// All that allocates comes before the first kernel that waits for a peer, on all ranks: memory may
// only be had when such a kernel has ended, and it waits for what this rank has yet to launch.
Status RankExchange::MakeTrial(Trial& trial) {
  const char* const what = "preparing to time sums";
  const int64_t elements = int64_t{max_peer_rows_} * spec_.hidden;
  TANDEM_ASSIGN_OR_RETURN(trial.x, AllocateDevice(4 * elements));
  TANDEM_ASSIGN_OR_RETURN(trial.out, AllocateDevice(2 * elements));
  TANDEM_ASSIGN_OR_RETURN(trial.partial, AllocateDevice(2 * elements));
  TANDEM_ASSIGN_OR_RETURN(trial.begin, MakeTimedEvent());
  TANDEM_ASSIGN_OR_RETURN(trial.end, MakeTimedEvent());
  for (const auto& [memory, bytes] :
       {std::pair(trial.x.get(), 4 * elements), std::pair(trial.partial.get(), 2 * elements)}) {
    TANDEM_RETURN_IF_ERROR(
        FromCuda(cudaMemsetAsync(memory, 0, static_cast<size_t>(bytes), stream_), what));
  }
  TANDEM_RETURN_IF_ERROR(FromCuda(cudaStreamSynchronize(stream_), what));
  comm_.Barrier();
  return comm_.Poll();
}

// Sizes are powers of two; what lies between is summed as the next one. Where there is no choice
// one sum finds out whether NCCL works.
Status RankExchange::Measure() {
  const int sizes = std::bit_width(static_cast<unsigned>(spec_.max_rows - 1)) + 1;
  ways_.assign(static_cast<size_t>(sizes), Way::kNccl);
  Trial trial;
  TANDEM_RETURN_IF_ERROR(MakeTrial(trial));
  if (!has_peers_) return Time(Way::kNccl, 1, trial).status();
  int first_nccl = spec_.max_rows + 1;
  for (int i = 0; i < sizes && (1 << i) <= max_peer_rows_; ++i) {
    float best = 0;
    for (const Way way : {Way::kOneKernel, Way::kTwoShot, Way::kNccl}) {
      TANDEM_ASSIGN_OR_RETURN(const float time, Time(way, 1 << i, trial));
      if (way == Way::kOneKernel || time < best) {
        best = time;
        ways_[static_cast<size_t>(i)] = way;
      }
    }
    if (ways_[static_cast<size_t>(i)] == Way::kNccl && first_nccl > (1 << i)) first_nccl = 1 << i;
  }
  comm_.Broadcast(std::as_writable_bytes(std::span(ways_)), 0);
  TANDEM_RETURN_IF_ERROR(comm_.Poll());
  if (spec_.say && comm_.rank() == 0) {
    spec_.say(first_nccl <= spec_.max_rows
                  ? fmt::format("sums of fewer than {} rows go over peer memory", first_nccl)
                  : fmt::format("sums of up to {} rows go over peer memory", max_peer_rows_));
  }
  return OkStatus();
}

// Milliseconds of one sum with the norm that follows, the mean of a few.
StatusOr<float> RankExchange::Time(Way way, int rows, const Trial& trial) {
  const Matrix out = {trial.out.get(), rows, spec_.hidden, spec_.hidden, spec_.type};
  const Matrix partial = {trial.partial.get(), rows, spec_.hidden, spec_.hidden, spec_.type};
  auto* const x = static_cast<float*>(trial.x.get());
  for (int i = 0; i <= kTimedSums; ++i) {
    if (i == 1) {  // the first one warms up
      static_cast<void>(cudaEventRecord(trial.begin.get(), stream_));
    }
    SumAddRmsNormBy(way, out, x, partial, /*weight=*/x, 1e-5f, stream_);
  }
  // Else a way that a rank cannot launch is the fastest.
  const Status launched = FromCuda(cudaPeekAtLastError(), "timing sums");
  if (!launched.ok()) {
    Abort();
    static_cast<void>(cudaStreamSynchronize(stream_));
    return launched;
  }
  static_cast<void>(cudaEventRecord(trial.end.get(), stream_));
  TANDEM_RETURN_IF_ERROR(WaitFor(trial.end.get(), way));
  float time = 0;
  TANDEM_RETURN_IF_ERROR(
      FromCuda(cudaEventElapsedTime(&time, trial.begin.get(), trial.end.get()), "timing sums"));
  return time / kTimedSums;
}

// Where it gives up, kernels still wait: they must end, or nothing here could be freed.
Status RankExchange::WaitFor(cudaEvent_t event, Way way) {
  const auto until = std::chrono::steady_clock::now() + spec_.sum_limit;
  for (;;) {
    const cudaError_t error = cudaEventQuery(event);
    if (error != cudaErrorNotReady) return FromCuda(error, "timing sums");
    Status lost = comm_.Poll();
    if (lost.ok()) lost = Poll();
    if (lost.ok() && std::chrono::steady_clock::now() < until) {
      std::this_thread::sleep_for(kPause);
      continue;
    }
    Abort();
    static_cast<void>(cudaStreamSynchronize(stream_));
    TANDEM_RETURN_IF_ERROR(lost);
    return Late(way == Way::kNccl ? "NCCL" : "peer memory");
  }
}

// From a thread of its own: `steps` may stand in a call that waits for the stream.
Status RankExchange::WithinLimit(const std::function<Status()>& steps) {
  Alarm alarm(spec_.sum_limit, [this] { Abort(); });
  const Status ended = steps();
  return alarm.Stop() ? Late(has_peers_ ? "peer memory or NCCL" : "NCCL") : ended;
}

Status RankExchange::Late(std::string_view over) const {
  return Internal(
      "a sum of all ranks over {} did not come back to rank {} within {} ms; if GPUs do not reach "
      "each other's memory although the driver says so (is there an IOMMU, or ACS in a virtual "
      "machine?), groups[].peer_memory: false does without it, and NCCL_P2P_DISABLE=1 in the "
      "worker's environment makes NCCL do so, too",
      over, comm_.rank(), spec_.sum_limit.count());
}

RankExchange::Way RankExchange::WayOf(int64_t rows) const {
  if (rows > max_peer_rows_) return Way::kNccl;
  return ways_[static_cast<size_t>(std::bit_width(static_cast<uint64_t>(rows - 1)))];
}

void RankExchange::SumAddRmsNorm(const Matrix& out, float* x, const Matrix& partial,
                                 const float* weight, float eps, cudaStream_t stream) {
  SumAddRmsNormBy(WayOf(partial.rows), out, x, partial, weight, eps, stream);
}

void RankExchange::SumAddRmsNormBy(Way way, const Matrix& out, float* x, const Matrix& partial,
                                   const float* weight, float eps, cudaStream_t stream) {
  if (way == Way::kOneKernel) {
    kernels::cuda::AllReduceAddRmsNorm(out, x, partial, weight, eps, peers_, stream);
    return;
  }
  SumBy(way, partial, stream);
  kernels::cuda::AddRmsNorm(out, x, partial, weight, eps, stream);
}

void RankExchange::Sum(const Matrix& partial, cudaStream_t stream) {
  SumBy(WayOf(partial.rows), partial, stream);
}

void RankExchange::SumBy(Way way, const Matrix& partial, cudaStream_t stream) {
  TANDEM_CHECK(partial.stride == partial.cols) << partial.stride << " for " << partial.cols;
  if (way == Way::kNccl) {
    nccl_->AllReduceSum(partial.data, static_cast<size_t>(partial.rows * partial.cols),
                        ElementOf(spec_.type), stream);
  } else {
    kernels::cuda::AllReduce(
        partial,
        way == Way::kOneKernel ? AllReduceAlgorithm::kOneShot : AllReduceAlgorithm::kTwoShot,
        peers_, stream);
  }
}

void RankExchange::Gather(float* to, const float* from, int64_t count, cudaStream_t stream) {
  nccl_->AllGather(from, to, static_cast<size_t>(count), NcclCommunicator::Element::kF32, stream);
}

// NCCL says why; in the middle of an abort it does not yet, and sums mean nothing already.
Status RankExchange::Poll() {
  TANDEM_RETURN_IF_ERROR(nccl_->Poll());
  if (Abandoned(abandoned_).load() == 0) return OkStatus();
  return Unavailable("rank {} goes on without the others", comm_.rank());
}

void RankExchange::Abort() { nccl_->Abort(); }

}  // namespace tandem::model::cuda
