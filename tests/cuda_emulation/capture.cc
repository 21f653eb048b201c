#include "tests/cuda_emulation/capture.h"

#include <algorithm>
#include <mutex>
#include <utility>

#include "tests/cuda_emulation/report.h"

namespace tandem::emulation {
namespace {

std::recursive_mutex& Mutex() {
  static auto* mutex = new std::recursive_mutex;
  return *mutex;
}

std::vector<std::shared_ptr<Capture>>& Captures() {
  static auto* captures = new std::vector<std::shared_ptr<Capture>>;
  return *captures;
}

thread_local cudaStreamCaptureMode thread_mode = cudaStreamCaptureModeGlobal;

// Whether a call that could synchronize, made by this thread, is forbidden by the capture.
bool Forbids(const Capture& capture) {
  if (thread_mode == cudaStreamCaptureModeRelaxed) return false;
  if (capture.mode() == cudaStreamCaptureModeRelaxed) return false;
  if (capture.thread() == std::this_thread::get_id()) return true;
  return thread_mode == cudaStreamCaptureModeGlobal &&
         capture.mode() == cudaStreamCaptureModeGlobal;
}

// One run of a graph: the nodes not done yet, stepped one at a time.
class Run {
 public:
  explicit Run(const CUgraphExec_st& exec)
      : device_(exec.device),
        graph_(exec.graph),
        running_(exec.running),
        done_(graph_->nodes.size()),
        steppers_(graph_->nodes.size()) {}

  Step operator()() {
    if (!begun_ && *running_) return Step::kBlocked;
    *running_ = begun_ = true;
    const Step step = remaining_ == 0 ? Step::kDone : StepOne();
    if (step == Step::kDone) *running_ = false;
    return step;
  }

 private:
  Step StepOne() {
    std::vector<int> ready = Ready();
    for (size_t left = ready.size(); left > 0; --left) {
      const size_t pick = Draw(device_, left);
      if (RunNode(ready[pick]) != Step::kBlocked) {
        return remaining_ == 0 ? Step::kDone : Step::kMore;
      }
      std::swap(ready[pick], ready[left - 1]);
    }
    return Step::kBlocked;
  }

  std::vector<int> Ready() const {
    std::vector<int> ready;
    for (size_t i = 0; i < done_.size(); ++i) {
      const auto& after = graph_->nodes[i].after;
      if (!done_[i] && std::all_of(after.begin(), after.end(), [&](int n) { return done_[n]; })) {
        ready.push_back(static_cast<int>(i));
      }
    }
    return ready;
  }

  // A launch that may begin before the node ends: it comes after that node alone.
  int DependentOf(int node) const {
    for (size_t i = static_cast<size_t>(node) + 1; i < done_.size(); ++i) {
      const auto& next = graph_->nodes[i];
      if (next.work.grid && next.work.grid->dependent && next.after == std::set<int>{node}) {
        return static_cast<int>(i);
      }
    }
    return -1;
  }

  Step RunNode(int index) {
    const Work& work = graph_->nodes[index].work;
    if (!work.grid) {
      if (!steppers_[index]) steppers_[index] = work.begin();
      const Step step = steppers_[index]();
      if (step == Step::kDone) Done(index);
      return step;
    }
    const int next = Draw(device_, 2) == 0 ? DependentOf(index) : -1;
    RunKernel(device_, *work.grid, next < 0 ? nullptr : &*graph_->nodes[next].work.grid);
    Done(index);
    if (next >= 0) Done(next);
    return Step::kDone;
  }

  void Done(int index) {
    done_[index] = true;
    --remaining_;
  }

  const int device_;
  const std::shared_ptr<const CUgraph_st> graph_;
  const std::shared_ptr<bool> running_;
  bool begun_ = false;
  std::vector<bool> done_;
  std::vector<Stepper> steppers_;
  size_t remaining_ = graph_->nodes.size();
};

}  // namespace

CaptureLock::CaptureLock() { Mutex().lock(); }
CaptureLock::~CaptureLock() { Mutex().unlock(); }

Capture::Capture(cudaStream_t origin, cudaStreamCaptureMode mode) : origin_(origin), mode_(mode) {
  frontiers_[origin] = {};
}

void Capture::Add(cudaStream_t stream, Work work) {
  std::set<int>& frontier = frontiers_[stream];
  const auto index = static_cast<int>(graph_->nodes.size());
  if (work.order != nullptr) {
    const auto [it, first] = last_of_order_.try_emplace(work.order, index);
    if (!first) frontier.insert(std::exchange(it->second, index));
  }
  graph_->nodes.push_back({std::move(work), frontier});
  frontier = {index};
}

void Capture::Join(cudaStream_t stream, const std::set<int>& nodes) {
  frontiers_[stream].insert(nodes.begin(), nodes.end());
}

bool Capture::AllJoined() const {
  std::vector<bool> reached(graph_->nodes.size());
  for (const int node : frontiers_.at(origin_)) reached[node] = true;
  for (int i = static_cast<int>(reached.size()) - 1; i >= 0; --i) {
    if (!reached[i]) continue;
    for (const int before : graph_->nodes[i].after) reached[before] = true;
  }
  return std::all_of(reached.begin(), reached.end(), [](bool r) { return r; });
}

cudaError_t Capture::Finish(std::unique_ptr<CUgraph_st>& graph) {
  for (const auto& [handle, frontier] : frontiers_) {
    if (const auto stream = FindStream(handle)) stream->capture = nullptr;
  }
  if (invalid_) return cudaErrorStreamCaptureInvalidated;
  if (!AllJoined()) return cudaErrorStreamCaptureUnjoined;
  graph = std::move(graph_);
  return cudaSuccess;
}

cudaError_t BeginCapture(const std::shared_ptr<CUstream_st>& stream, cudaStreamCaptureMode mode) {
  const CaptureLock lock;
  if (stream->capture != nullptr) return cudaErrorIllegalState;
  stream->capture = std::make_shared<Capture>(stream.get(), mode);
  Captures().push_back(stream->capture);
  return cudaSuccess;
}

cudaError_t EndCapture(CUstream_st& stream, std::unique_ptr<CUgraph_st>& graph) {
  const CaptureLock lock;
  const auto capture = stream.capture;
  if (capture == nullptr) return cudaErrorIllegalState;
  if (capture->mode() != cudaStreamCaptureModeRelaxed &&
      capture->thread() != std::this_thread::get_id()) {
    return cudaErrorStreamCaptureWrongThread;
  }
  if (capture->origin() != &stream) {
    capture->Invalidate();
    return cudaErrorStreamCaptureUnmatched;
  }
  std::erase(Captures(), capture);
  return capture->Finish(graph);
}

cudaStreamCaptureMode ExchangeCaptureMode(cudaStreamCaptureMode mode) {
  return std::exchange(thread_mode, mode);
}

cudaError_t CheckUnsafeCall() {
  const CaptureLock lock;
  cudaError_t error = cudaSuccess;
  for (const auto& capture : Captures()) {
    if (!Forbids(*capture)) continue;
    capture->Invalidate();
    error = cudaErrorStreamCaptureUnsupported;
  }
  return error;
}

cudaError_t CheckNotCaptured(CUstream_st& stream) {
  const CaptureLock lock;
  if (stream.capture == nullptr) return cudaSuccess;
  stream.capture->Invalidate();
  return cudaErrorStreamCaptureUnsupported;
}

cudaError_t EnqueueOrCapture(CUstream_st& stream, Work work) {
  {
    const CaptureLock lock;
    if (stream.capture != nullptr) {
      if (stream.capture->invalid()) return cudaErrorStreamCaptureInvalidated;
      stream.capture->Add(&stream, std::move(work));
      return cudaSuccess;
    }
  }
  Enqueue(stream, std::move(work));
  return cudaSuccess;
}

cudaError_t RecordOrCapture(CUstream_st& stream, CUevent_st& event) {
  {
    const CaptureLock lock;
    if (stream.capture != nullptr) {
      if (stream.capture->invalid()) return cudaErrorStreamCaptureInvalidated;
      event.capture = stream.capture;
      event.nodes = stream.capture->Frontier(&stream);
      return cudaSuccess;
    }
    event.capture = nullptr;
  }
  EnqueueRecord(stream, event);
  return cudaSuccess;
}

cudaError_t WaitOrCapture(const std::shared_ptr<CUstream_st>& stream, CUevent_st& event) {
  {
    const CaptureLock lock;
    const auto of_event = event.capture;
    if (stream->capture != nullptr && stream->capture->invalid()) {
      return cudaErrorStreamCaptureInvalidated;
    }
    if (stream->capture != of_event && stream->capture != nullptr) {
      if (of_event == nullptr && event.point == nullptr) return cudaSuccess;  // never recorded
      stream->capture->Invalidate();
      if (of_event == nullptr) return cudaErrorStreamCaptureIsolation;
      of_event->Invalidate();
      return cudaErrorStreamCaptureMerge;
    }
    if (of_event != nullptr) {
      // A capture that has ended left the event without anything to wait for.
      const auto& all = Captures();
      if (std::find(all.begin(), all.end(), of_event) == all.end()) {
        return cudaErrorCapturedEvent;
      }
      stream->capture = of_event;
      of_event->Join(stream.get(), event.nodes);
      return cudaSuccess;
    }
  }
  if (event.point != nullptr) EnqueueWait(*stream, event.point);
  return cudaSuccess;
}

Work GraphRun(const CUgraphExec_st& exec) {
  Work work;
  work.name = "a graph";
  work.begin = [exec]() -> Stepper {
    return [run = std::make_shared<Run>(exec)] { return (*run)(); };
  };
  return work;
}

bool SameShape(const CUgraph_st& from, const CUgraph_st& to) {
  return std::equal(from.nodes.begin(), from.nodes.end(), to.nodes.begin(), to.nodes.end(),
                    [](const CUgraph_st::Node& a, const CUgraph_st::Node& b) {
                      return a.after == b.after && a.work.name == b.work.name &&
                             a.work.grid.has_value() == b.work.grid.has_value() &&
                             (!a.work.grid || a.work.grid->kernel == b.work.grid->kernel);
                    });
}

}  // namespace tandem::emulation
