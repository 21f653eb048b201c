// Streams, events and graphs of the emulated CUDA runtime.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <utility>

#include "tests/cuda_emulation/capture.h"
#include "tests/cuda_emulation/runtime.h"
#include "tests/cuda_emulation/stream.h"

using namespace tandem::emulation;  // NOLINT: this file defines the runtime's own names

namespace {

cudaError_t CreateStream(cudaStream_t* stream, unsigned flags, int priority) {
  if (const cudaError_t error = Enter(); error != cudaSuccess) return error;
  if ((flags & ~cudaStreamNonBlocking) != 0) return cudaErrorInvalidValue;
  *stream = MakeStream(CurrentDevice(), flags, std::clamp(priority, -5, 0));
  return cudaSuccess;
}

// The checks of every call on a stream, then `call`.
template <class Call>
cudaError_t OnStream(cudaStream_t handle, const Call& call) {
  if (const cudaError_t error = Enter(); error != cudaSuccess) return error;
  const auto stream = FindStream(handle);
  return stream == nullptr ? cudaErrorInvalidResourceHandle : call(stream);
}

template <class Call>
cudaError_t OnEvent(cudaEvent_t handle, const Call& call) {
  if (const cudaError_t error = Enter(); error != cudaSuccess) return error;
  const auto event = FindEvent(handle);
  return event == nullptr ? cudaErrorInvalidResourceHandle : call(event);
}

// Calls that ask for an event's state may not be made while it belongs to a capture.
cudaError_t CheckNotCaptured(const CUevent_st& event) {
  const CaptureLock lock;
  if (event.capture == nullptr) return cudaSuccess;
  event.capture->Invalidate();
  return cudaErrorCapturedEvent;
}

Work HostFunction(cudaHostFn_t function, void* argument) {
  Work work;
  work.name = "a host function";
  work.begin = [=]() -> Stepper {
    return [=] {
      InHostFunction() = true;
      function(argument);
      InHostFunction() = false;
      return Step::kDone;
    };
  };
  return work;
}

cudaError_t Elapsed(float* ms, cudaEvent_t from_handle, cudaEvent_t to_handle) {
  const auto from = FindEvent(from_handle);
  const auto to = FindEvent(to_handle);
  if (from == nullptr || to == nullptr) return cudaErrorInvalidResourceHandle;
  if (((from->flags | to->flags) & cudaEventDisableTiming) != 0 || from->point == nullptr ||
      to->point == nullptr) {
    return cudaErrorInvalidResourceHandle;
  }
  if (!QueryPoint(from->device, from->point) || !QueryPoint(to->device, to->point)) {
    return cudaErrorNotReady;
  }
  *ms = std::chrono::duration<float, std::milli>(to->point->at - from->point->at).count();
  return cudaSuccess;
}

// Graphs and what was instantiated of them.
template <class T>
class Handles {
 public:
  T* Add(std::unique_ptr<T> object) {
    const std::lock_guard lock(mutex_);
    T* handle = object.get();
    objects_.emplace(handle, std::move(object));
    return handle;
  }
  T* Find(T* handle) {
    const std::lock_guard lock(mutex_);
    return objects_.contains(handle) ? handle : nullptr;
  }
  bool Drop(T* handle) {
    const std::lock_guard lock(mutex_);
    return objects_.erase(handle) > 0;
  }

 private:
  std::mutex mutex_;
  std::unordered_map<T*, std::unique_ptr<T>> objects_;
};

Handles<CUgraph_st>& Graphs() {
  static auto* graphs = new Handles<CUgraph_st>;
  return *graphs;
}
Handles<CUgraphExec_st>& GraphExecs() {
  static auto* execs = new Handles<CUgraphExec_st>;
  return *execs;
}

cudaError_t Instantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long flags) {
  if (const cudaError_t error = Enter(); error != cudaSuccess) return error;
  if (flags != 0 || Graphs().Find(graph) == nullptr) return cudaErrorInvalidValue;
  auto made = std::make_unique<CUgraphExec_st>();
  made->device = CurrentDevice();
  made->graph = std::make_shared<const CUgraph_st>(*graph);
  *exec = GraphExecs().Add(std::move(made));
  return cudaSuccess;
}

cudaError_t Update(cudaGraphExec_t exec, cudaGraph_t graph, cudaGraphExecUpdateResultInfo* result) {
  if (const cudaError_t error = Enter(); error != cudaSuccess) return error;
  if (GraphExecs().Find(exec) == nullptr || Graphs().Find(graph) == nullptr) {
    return cudaErrorInvalidValue;
  }
  *result = {};
  if (!SameShape(*exec->graph, *graph)) {
    result->result = cudaGraphExecUpdateErrorTopologyChanged;
    return cudaErrorGraphExecUpdateFailure;
  }
  exec->graph = std::make_shared<const CUgraph_st>(*graph);
  result->result = cudaGraphExecUpdateSuccess;
  return cudaSuccess;
}

}  // namespace

extern "C" {

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned int flags, int priority) {
  return Return(CreateStream(stream, flags, priority));
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned int flags) {
  return Return(CreateStream(stream, flags, 0));
}

cudaError_t cudaStreamCreate(cudaStream_t* stream) { return Return(CreateStream(stream, 0, 0)); }

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  return Return(DropStream(stream) ? cudaSuccess : cudaErrorInvalidResourceHandle);
}

cudaError_t cudaStreamSynchronize(cudaStream_t handle) {
  return Return(OnStream(handle, [](const auto& stream) {
    const cudaError_t error = CheckNotCaptured(*stream);
    return error != cudaSuccess ? error : WaitStream(*stream);
  }));
}

cudaError_t cudaStreamQuery(cudaStream_t handle) {
  return Return(OnStream(handle, [](const auto& stream) {
    const cudaError_t error = CheckNotCaptured(*stream);
    if (error != cudaSuccess) return error;
    return QueryStream(*stream) ? cudaSuccess : cudaErrorNotReady;
  }));
}

cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t event_handle, unsigned int flags) {
  return Return(OnStream(handle, [=](const auto& stream) {
    const auto event = FindEvent(event_handle);
    if (event == nullptr) return cudaErrorInvalidResourceHandle;
    return flags != 0 ? cudaErrorInvalidValue : WaitOrCapture(stream, *event);
  }));
}

cudaError_t cudaLaunchHostFunc(cudaStream_t handle, cudaHostFn_t function, void* argument) {
  return Return(OnStream(handle, [=](const auto& stream) {
    return EnqueueOrCapture(*stream, HostFunction(function, argument));
  }));
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned int flags) {
  if (const cudaError_t error = Enter(); error != cudaSuccess) return Return(error);
  constexpr unsigned kKnown = cudaEventBlockingSync | cudaEventDisableTiming;
  if ((flags & ~kKnown) != 0) return Return(cudaErrorInvalidValue);
  *event = MakeEvent(CurrentDevice(), flags);
  return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, 0); }

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  return Return(DropEvent(event) ? cudaSuccess : cudaErrorInvalidResourceHandle);
}

cudaError_t cudaEventRecord(cudaEvent_t handle, cudaStream_t stream_handle) {
  return Return(OnStream(stream_handle, [=](const auto& stream) {
    const auto event = FindEvent(handle);
    if (event == nullptr || event->device != stream->device) return cudaErrorInvalidResourceHandle;
    return RecordOrCapture(*stream, *event);
  }));
}

cudaError_t cudaEventQuery(cudaEvent_t handle) {
  return Return(OnEvent(handle, [](const auto& event) {
    if (const cudaError_t error = CheckNotCaptured(*event); error != cudaSuccess) return error;
    if (event->point == nullptr || QueryPoint(event->device, event->point)) return cudaSuccess;
    return cudaErrorNotReady;
  }));
}

cudaError_t cudaEventSynchronize(cudaEvent_t handle) {
  return Return(OnEvent(handle, [](const auto& event) {
    if (const cudaError_t error = CheckNotCaptured(*event); error != cudaSuccess) return error;
    return event->point == nullptr ? cudaSuccess : WaitPoint(event->device, event->point);
  }));
}

cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t from, cudaEvent_t to) {
  if (const cudaError_t error = Enter(); error != cudaSuccess) return Return(error);
  return Return(Elapsed(ms, from, to));
}

cudaError_t cudaStreamBeginCapture(cudaStream_t handle, cudaStreamCaptureMode mode) {
  return Return(OnStream(handle, [=](const auto& stream) { return BeginCapture(stream, mode); }));
}

cudaError_t cudaStreamEndCapture(cudaStream_t handle, cudaGraph_t* graph) {
  *graph = nullptr;
  return Return(OnStream(handle, [=](const auto& stream) {
    std::unique_ptr<CUgraph_st> captured;
    const cudaError_t error = EndCapture(*stream, captured);
    if (error == cudaSuccess) *graph = Graphs().Add(std::move(captured));
    return error;
  }));
}

cudaError_t cudaStreamIsCapturing(cudaStream_t handle, cudaStreamCaptureStatus* status) {
  return Return(OnStream(handle, [=](const auto& stream) {
    const CaptureLock lock;
    *status = stream->capture == nullptr   ? cudaStreamCaptureStatusNone
              : stream->capture->invalid() ? cudaStreamCaptureStatusInvalidated
                                           : cudaStreamCaptureStatusActive;
    return cudaSuccess;
  }));
}

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  *mode = ExchangeCaptureMode(*mode);
  return cudaSuccess;
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* count) {
  if (Graphs().Find(graph) == nullptr || nodes != nullptr) return Return(cudaErrorInvalidValue);
  *count = graph->nodes.size();
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph,
                                 unsigned long long flags) {
  return Return(Instantiate(exec, graph, flags));
}

cudaError_t cudaGraphExecUpdate(cudaGraphExec_t exec, cudaGraph_t graph,
                                cudaGraphExecUpdateResultInfo* result) {
  return Return(Update(exec, graph, result));
}

cudaError_t cudaGraphUpload(cudaGraphExec_t exec, cudaStream_t handle) {
  return Return(OnStream(handle, [=](const auto&) {
    return GraphExecs().Find(exec) == nullptr ? cudaErrorInvalidValue : cudaSuccess;
  }));
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t handle) {
  return Return(OnStream(handle, [=](const auto& stream) {
    if (GraphExecs().Find(exec) == nullptr) return cudaErrorInvalidValue;
    if (const cudaError_t error = CheckNotCaptured(*stream); error != cudaSuccess) return error;
    Enqueue(*stream, GraphRun(*exec));
    return cudaSuccess;
  }));
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  return Return(GraphExecs().Drop(exec) ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  return Return(Graphs().Drop(graph) ? cudaSuccess : cudaErrorInvalidValue);
}

}  // extern "C"
