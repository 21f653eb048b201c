// The functions of nccl.h, on groups whose ranks are threads or processes of this machine.
#include <nccl.h>

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/cuda_emulation/capture.h"
#include "tests/cuda_emulation/nccl_group.h"
#include "tests/cuda_emulation/options.h"
#include "tests/cuda_emulation/report.h"
#include "tests/cuda_emulation/runtime.h"
#include "tests/cuda_emulation/stream.h"

using namespace tandem::emulation;  // NOLINT: this file defines the library's own names

// A communicator as its owner sees it. A nonblocking one gets on when it is asked for its state, so
// that a program that forgets to ask is found.
struct ncclComm {
  std::shared_ptr<Group> group;
  bool blocking = true;
  bool joined = false;
  ncclResult_t error = ncclSuccess;                // stays
  std::vector<std::function<ncclResult_t()>> due;  // what the next question sets going
  std::string last_error;
};

namespace {

std::mutex& Mutex() {
  static auto* mutex = new std::mutex;
  return *mutex;
}
std::map<ncclComm_t, std::shared_ptr<ncclComm>>& Communicators() {
  static auto* all = new std::map<ncclComm_t, std::shared_ptr<ncclComm>>;
  return *all;
}

std::shared_ptr<ncclComm> Find(ncclComm_t handle) {
  const std::lock_guard lock(Mutex());
  const auto it = Communicators().find(handle);
  if (it == Communicators().end()) Fail("NCCL: use of a communicator that was destroyed");
  return it->second;
}

std::shared_ptr<ncclComm> Take(ncclComm_t handle) {
  auto comm = Find(handle);
  const std::lock_guard lock(Mutex());
  Communicators().erase(handle);
  return comm;
}

ncclResult_t Refuse(ncclComm& comm, ncclResult_t result, std::string why) {
  comm.last_error = std::move(why);
  return result;
}

// Gets on with whatever the communicator is about.
ncclResult_t StateOf(ncclComm& comm) {
  if (comm.error != ncclSuccess) return comm.error;
  if (!comm.joined) {
    const ncclResult_t result = comm.group->Joined(comm.last_error);
    if (result != ncclSuccess && result != ncclInProgress) comm.error = result;
    comm.joined = result == ncclSuccess;
    return result;
  }
  for (const auto& action : std::exchange(comm.due, {})) {
    if (const ncclResult_t result = action(); result != ncclSuccess) comm.error = result;
  }
  return comm.error;
}

// As NCCL has it: a communicator takes no call while the one before is in progress.
ncclResult_t CheckReady(ncclComm& comm) {
  if (comm.error != ncclSuccess) return comm.error;
  if (comm.joined && comm.due.empty()) return ncclSuccess;
  return Refuse(comm, ncclInvalidArgument,
                "the communicator is used before the operation before has succeeded");
}

// A call within ncclGroupStart and ncclGroupEnd, or alone.
struct Pending {
  std::shared_ptr<ncclComm> comm;
  cudaStream_t stream;
  Collective call;
};
thread_local int group_depth = 0;
thread_local std::vector<Pending> group_calls;

ncclResult_t EnqueueCalls(const std::shared_ptr<Group>& group, cudaStream_t handle,
                          const std::vector<Collective>& calls) {
  const auto stream = FindStream(handle);
  if (stream == nullptr || stream->device != group->device()) return ncclInvalidArgument;
  Work work;
  work.name = "NCCL: " + Describe(calls.front());
  work.order = group.get();
  work.begin = [group, calls] { return Group::Begin(group, calls); };
  return EnqueueOrCapture(*stream, std::move(work)) == cudaSuccess ? ncclSuccess
                                                                   : ncclUnhandledCudaError;
}

// Enqueues what was collected: the calls of one communicator and stream together.
ncclResult_t Flush(std::vector<Pending> pending) {
  std::map<std::pair<ncclComm_t, cudaStream_t>, std::vector<Collective>> grouped;
  std::map<ncclComm_t, std::shared_ptr<ncclComm>> comms;
  for (const Pending& p : pending) {
    grouped[{p.comm.get(), p.stream}].push_back(p.call);
    comms[p.comm.get()] = p.comm;
  }
  ncclResult_t result = ncclSuccess;
  for (const auto& [key, calls] : grouped) {
    ncclComm& comm = *comms[key.first];
    const auto enqueue = [group = comm.group, stream = key.second, calls = calls] {
      return EnqueueCalls(group, stream, calls);
    };
    if (!comm.blocking && Draw(comm.group->device(), 2) == 0) {
      comm.due.emplace_back(enqueue);
      if (result == ncclSuccess) result = ncclInProgress;
    } else if (const ncclResult_t now = enqueue(); now != ncclSuccess) {
      result = now;
    }
  }
  return result;
}

// Memory that a call names must be the device's; NCCL itself would fail later and worse.
bool InDevice(const void* address, size_t bytes) {
  if (bytes == 0) return true;
  const auto found = FindRange(address, bytes);
  return found && found->kind == MemoryKind::kDevice;
}

ncclResult_t Call(ncclComm_t handle, cudaStream_t stream, const Collective& call) {
  const auto comm = Find(handle);
  const Group& group = *comm->group;
  if (const ncclResult_t result = CheckReady(*comm); result != ncclSuccess) return result;
  const size_t bytes = call.count * ElementBytes(call.type);
  if (ElementBytes(call.type) == 0 || (call.op == Op::kAllReduce && !CanSum(call.type))) {
    return Refuse(*comm, ncclInvalidArgument, "a type that is not emulated");
  }
  if (call.peer < 0 || call.peer >= group.size()) {
    return Refuse(*comm, ncclInvalidArgument, "no such rank");
  }
  const bool gives = call.op != Op::kBroadcast || call.peer == group.rank();
  const size_t out_bytes = call.op == Op::kAllGather ? bytes * group.size() : bytes;
  if ((call.op != Op::kRecv && gives && !InDevice(call.in, bytes)) ||
      (call.op != Op::kSend && !InDevice(call.out, out_bytes))) {
    return Refuse(*comm, ncclInvalidArgument, Describe(call) + ": not all in device memory");
  }
  group_calls.push_back({comm, stream, call});
  return group_depth > 0 ? ncclSuccess : Flush(std::exchange(group_calls, {}));
}

ncclResult_t WaitToJoin(ncclComm& comm) {
  const auto limit =
      std::chrono::steady_clock::now() + std::chrono::seconds(GetOptions().collective_seconds);
  ncclResult_t result = StateOf(comm);
  while (result == ncclInProgress && std::chrono::steady_clock::now() < limit) {
    std::this_thread::yield();
    result = StateOf(comm);
  }
  return result == ncclInProgress ? ncclSystemError : result;
}

}  // namespace

extern "C" {

ncclResult_t ncclGetVersion(int* version) {
  *version = NCCL_VERSION_CODE;
  return ncclSuccess;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  *id = Group::MakeId();
  return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* handle, int size, ncclUniqueId id, int rank,
                                    ncclConfig_t* config) {
  *handle = nullptr;
  if (size < 1 || size > Group::kMaxRanks || rank < 0 || rank >= size) return ncclInvalidArgument;
  if (Enter() != cudaSuccess) return ncclUnhandledCudaError;
  auto comm = std::make_shared<ncclComm>();
  comm->blocking = config == nullptr || config->blocking != 0;
  std::string error;
  comm->group = Group::Join(id, rank, size, CurrentDevice(), error);
  if (comm->group == nullptr) return ncclSystemError;
  *handle = comm.get();
  {
    const std::lock_guard lock(Mutex());
    Communicators().emplace(comm.get(), comm);
  }
  return comm->blocking ? WaitToJoin(*comm) : ncclInProgress;
}

ncclResult_t ncclCommInitRank(ncclComm_t* handle, int size, ncclUniqueId id, int rank) {
  return ncclCommInitRankConfig(handle, size, id, rank, nullptr);
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t handle, ncclResult_t* state) {
  *state = StateOf(*Find(handle));
  return ncclSuccess;
}

ncclResult_t ncclCommFinalize(ncclComm_t handle) {
  const auto comm = Find(handle);
  if (const ncclResult_t result = CheckReady(*comm); result != ncclSuccess) return result;
  if (comm->blocking) return ncclSuccess;
  comm->due.emplace_back([] { return ncclSuccess; });
  return ncclInProgress;
}

ncclResult_t ncclCommDestroy(ncclComm_t handle) {
  Take(handle);
  return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t handle) {
  Take(handle)->group->Abort();
  return ncclSuccess;
}

ncclResult_t ncclCommCount(const ncclComm_t handle, int* count) {
  *count = Find(handle)->group->size();
  return ncclSuccess;
}

ncclResult_t ncclCommUserRank(const ncclComm_t handle, int* rank) {
  *rank = Find(handle)->group->rank();
  return ncclSuccess;
}

ncclResult_t ncclCommCuDevice(const ncclComm_t handle, int* device) {
  *device = Find(handle)->group->device();
  return ncclSuccess;
}

const char* ncclGetErrorString(ncclResult_t result) {
  switch (result) {
    case ncclSuccess:
      return "no error";
    case ncclUnhandledCudaError:
      return "unhandled cuda error";
    case ncclSystemError:
      return "unhandled system error";
    case ncclInternalError:
      return "internal error";
    case ncclInvalidArgument:
      return "invalid argument";
    case ncclInvalidUsage:
      return "invalid usage";
    case ncclRemoteError:
      return "remote process exited or there was a network error";
    case ncclInProgress:
      return "NCCL operation in progress";
    default:
      return "unknown result code";
  }
}

const char* ncclGetLastError(ncclComm_t handle) {
  thread_local std::string text;
  text = handle == nullptr ? "" : Find(handle)->last_error;
  return text.c_str();
}

ncclResult_t ncclGroupStart() {
  ++group_depth;
  return ncclSuccess;
}

ncclResult_t ncclGroupEnd() {
  if (group_depth == 0) return ncclInvalidUsage;
  return --group_depth > 0 ? ncclSuccess : Flush(std::exchange(group_calls, {}));
}

ncclResult_t ncclAllReduce(const void* in, void* out, size_t count, ncclDataType_t type,
                           ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream) {
  if (op != ncclSum) return ncclInvalidArgument;  // no other is emulated
  return Call(comm, stream, {Op::kAllReduce, type, count, 0, in, out});
}

ncclResult_t ncclAllGather(const void* in, void* out, size_t count, ncclDataType_t type,
                           ncclComm_t comm, cudaStream_t stream) {
  return Call(comm, stream, {Op::kAllGather, type, count, 0, in, out});
}

ncclResult_t ncclBroadcast(const void* in, void* out, size_t count, ncclDataType_t type, int root,
                           ncclComm_t comm, cudaStream_t stream) {
  return Call(comm, stream, {Op::kBroadcast, type, count, root, in, out});
}

ncclResult_t ncclSend(const void* in, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  return Call(comm, stream, {Op::kSend, type, count, peer, in, nullptr});
}

ncclResult_t ncclRecv(void* out, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  return Call(comm, stream, {Op::kRecv, type, count, peer, nullptr, out});
}

}  // extern "C"
