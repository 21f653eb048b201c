#include "kernels/comm/nccl_communicator.h"

#include <nccl.h>

#include <cstring>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "common/alarm.h"
#include "common/check.h"

namespace tandem::kernels {
namespace {

using Clock = std::chrono::steady_clock;
constexpr int kSpins = 100;  // questions to NCCL before sleeping between them
constexpr auto kBetweenQuestions = std::chrono::microseconds(50);

// What rank 0 sends: the id, or why there is none.
struct Invitation {
  ncclResult_t result = ncclInternalError;
  ncclUniqueId id = {};
};

// How a rank's joining went, for all ranks; empty: well.
struct Outcome {
  char text[200] = {};
};

ncclDataType_t TypeOf(NcclCommunicator::Element element) {
  switch (element) {
    case NcclCommunicator::Element::kF32:
      return ncclFloat32;
    case NcclCommunicator::Element::kF16:
      return ncclFloat16;
    case NcclCommunicator::Element::kBf16:
      return ncclBfloat16;
    case NcclCommunicator::Element::kByte:
      break;
  }
  return ncclUint8;
}

std::string Describe(ncclResult_t result, ncclComm_t comm) {
  const char* detail = ncclGetLastError(comm);
  std::string text = ncclGetErrorString(result);
  if (detail != nullptr && *detail != '\0') text += std::string(": ") + detail;
  return text;
}

template <class T>
std::span<std::byte> BytesOf(T& value) {
  return std::as_writable_bytes(std::span(&value, 1));
}

// All ranks' outcomes as one status, the same on every rank.
Status Verdict(std::span<const Outcome> outcomes) {
  std::string text;
  for (size_t r = 0; r < outcomes.size(); ++r) {
    if (outcomes[r].text[0] != '\0') text += fmt::format("; rank {}: {}", r, outcomes[r].text);
  }
  return text.empty() ? OkStatus() : Unavailable("NCCL does not connect the ranks{}", text);
}

}  // namespace

StatusOr<std::unique_ptr<NcclCommunicator>> NcclCommunicator::Connect(
    Communicator& link, std::chrono::milliseconds limit, std::function<void()> before_abort) {
  // What waits for a silent rank ends then.
  const Alarm alarm(3 * limit, [&link] { link.Abort(); });
  Invitation invitation;
  if (link.rank() == 0) invitation.result = ncclGetUniqueId(&invitation.id);
  link.Broadcast(BytesOf(invitation), 0);
  TANDEM_RETURN_IF_ERROR(link.Poll());
  if (invitation.result != ncclSuccess) {
    return Unavailable("NCCL makes no id on rank 0: {}", ncclGetErrorString(invitation.result));
  }
  std::unique_ptr<NcclCommunicator> comm(
      new NcclCommunicator(link.rank(), link.size(), limit, std::move(before_abort)));
  const Status joined = comm->Join(std::as_bytes(std::span(&invitation.id, 1)));
  Outcome mine;
  if (!joined.ok()) fmt::format_to_n(mine.text, sizeof(mine.text) - 1, "{}", Message(joined));

  const std::vector<Outcome> outcomes = GatherAll(link, mine);
  Status verdict = link.Poll();
  if (verdict.ok()) verdict = Verdict(outcomes);
  if (verdict.ok()) return comm;
  comm->Abort();
  return verdict;
}

NcclCommunicator::NcclCommunicator(int rank, int size, std::chrono::milliseconds limit,
                                   std::function<void()> before_abort)
    : rank_(rank), size_(size), limit_(limit), before_abort_(std::move(before_abort)) {}

NcclCommunicator::~NcclCommunicator() {
  Enqueue("ncclCommFinalize", [&] { return ncclCommFinalize(comm_); });
  const std::lock_guard lock(mutex_);
  if (comm_ != nullptr) static_cast<void>(ncclCommDestroy(comm_));
}

Status NcclCommunicator::Join(std::span<const std::byte> id) {
  ncclUniqueId unique;
  std::memcpy(&unique, id.data(), sizeof(unique));
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  {
    const std::lock_guard lock(mutex_);
    const ncclResult_t result = ncclCommInitRankConfig(&comm_, size_, unique, rank_, &config);
    if (result != ncclSuccess && result != ncclInProgress) {
      lost_ = Unavailable("{}", Describe(result, comm_));
      if (comm_ != nullptr) static_cast<void>(ncclCommAbort(comm_));
      comm_ = nullptr;
    }
  }
  Settle("ncclCommInitRankConfig");
  return Poll();
}

template <class Call>
void NcclCommunicator::Enqueue(const char* what, const Call& call) {
  {
    const std::lock_guard lock(mutex_);
    if (comm_ == nullptr) return;
    const ncclResult_t result = call();
    if (result == ncclSuccess) return;
    if (result != ncclInProgress) {
      Lose(Internal("NCCL: {}: {}", what, Describe(result, comm_)));
      return;
    }
  }
  Settle(what);
}

void NcclCommunicator::Settle(const char* what) {
  const Clock::time_point deadline = Clock::now() + limit_;
  for (int i = 0;; ++i) {
    {
      const std::lock_guard lock(mutex_);
      if (comm_ == nullptr) return;
      ncclResult_t state = ncclSuccess;
      const ncclResult_t result = ncclCommGetAsyncError(comm_, &state);
      if (result == ncclSuccess && state == ncclSuccess) return;
      if (result != ncclSuccess || state != ncclInProgress) {
        const ncclResult_t failed = result != ncclSuccess ? result : state;
        Lose(Internal("NCCL: {}: {}", what, Describe(failed, comm_)));
        return;
      }
      if (Clock::now() >= deadline) {
        Lose(Unavailable("NCCL: {} is not done after {} ms", what, limit_.count()));
        return;
      }
    }
    if (i < kSpins) {
      std::this_thread::yield();
    } else {
      std::this_thread::sleep_for(kBetweenQuestions);
    }
  }
}

void NcclCommunicator::Lose(Status why) {
  if (comm_ == nullptr) return;
  lost_ = std::move(why);
  if (before_abort_) before_abort_();
  static_cast<void>(ncclCommAbort(comm_));
  comm_ = nullptr;
}

void NcclCommunicator::AllReduceSum(void* data, size_t count, Element element,
                                    CUstream_st* stream) {
  TANDEM_CHECK(element != Element::kByte) << "bytes are not summed";
  Enqueue("ncclAllReduce", [&] {
    return ncclAllReduce(data, data, count, TypeOf(element), ncclSum, comm_, stream);
  });
}

void NcclCommunicator::AllGather(const void* in, void* out, size_t count, Element element,
                                 CUstream_st* stream) {
  Enqueue("ncclAllGather",
          [&] { return ncclAllGather(in, out, count, TypeOf(element), comm_, stream); });
}

void NcclCommunicator::Broadcast(void* data, size_t count, Element element, int root,
                                 CUstream_st* stream) {
  TANDEM_CHECK(root >= 0 && root < size_) << "root " << root << " of " << size_;
  Enqueue("ncclBroadcast",
          [&] { return ncclBroadcast(data, data, count, TypeOf(element), root, comm_, stream); });
}

Status NcclCommunicator::Poll() {
  const std::lock_guard lock(mutex_);
  if (comm_ == nullptr) return lost_;
  ncclResult_t state = ncclSuccess;
  const ncclResult_t result = ncclCommGetAsyncError(comm_, &state);
  const ncclResult_t failed = result != ncclSuccess ? result : state;
  if (failed != ncclSuccess && failed != ncclInProgress) {
    Lose(Unavailable("NCCL: {}", Describe(failed, comm_)));
  }
  return comm_ == nullptr ? lost_ : OkStatus();
}

// Not only in Lose: a call of NCCL that holds the mutex may itself be held up by such a kernel.
void NcclCommunicator::Abort() {
  if (before_abort_) before_abort_();
  const std::lock_guard lock(mutex_);
  Lose(Unavailable("NCCL: rank {} ended the group", rank_));
}

}  // namespace tandem::kernels
