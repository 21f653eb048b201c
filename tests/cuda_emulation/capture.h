// CUDA graphs: what a stream's capture collects, and how an instantiated graph runs: nodes in an
// order drawn at random among those that the edges allow.
//
// A capture follows the rules of the real runtime: streams join it by waiting for an event that was
// recorded in it, and must have been waited for by the first stream at its end; calls that are
// not allowed meanwhile fail and spoil it.
//
// Thread: any.
#pragma once

#include <driver_types.h>

#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "tests/cuda_emulation/stream.h"

struct CUgraph_st {
  struct Node {
    tandem::emulation::Work work;
    std::set<int> after;  // nodes, all of smaller index
  };
  std::vector<Node> nodes;
};

struct CUgraphExec_st {
  int device = 0;
  std::shared_ptr<const CUgraph_st> graph;
  // Runs of one graph never overlap, whatever their streams.
  std::shared_ptr<bool> running = std::make_shared<bool>(false);
};

namespace tandem::emulation {

class Capture {
 public:
  Capture(cudaStream_t origin, cudaStreamCaptureMode mode);

  cudaStream_t origin() const { return origin_; }
  cudaStreamCaptureMode mode() const { return mode_; }
  bool invalid() const { return invalid_; }
  void Invalidate() { invalid_ = true; }
  std::thread::id thread() const { return thread_; }

  void Add(cudaStream_t stream, Work work);
  const std::set<int>& Frontier(cudaStream_t stream) { return frontiers_[stream]; }
  void Join(cudaStream_t stream, const std::set<int>& nodes);

  // The graph, or the error of cudaStreamEndCapture. Streams that took part are free again.
  cudaError_t Finish(std::unique_ptr<CUgraph_st>& graph);

 private:
  bool AllJoined() const;

  const cudaStream_t origin_;
  const cudaStreamCaptureMode mode_;
  const std::thread::id thread_ = std::this_thread::get_id();
  bool invalid_ = false;
  std::unique_ptr<CUgraph_st> graph_ = std::make_unique<CUgraph_st>();
  std::map<cudaStream_t, std::set<int>> frontiers_;  // what new work of a stream comes after
  std::map<const void*, int> last_of_order_;
};

// The lock of all captures; held for the checks below and the calls that change a capture.
class CaptureLock {
 public:
  CaptureLock();
  ~CaptureLock();
};

cudaError_t BeginCapture(const std::shared_ptr<CUstream_st>& stream, cudaStreamCaptureMode mode);
cudaError_t EndCapture(CUstream_st& stream, std::unique_ptr<CUgraph_st>& graph);
cudaStreamCaptureMode ExchangeCaptureMode(cudaStreamCaptureMode mode);

// Called by every call that a capture forbids whatever it is about (allocation, synchronization of
// the device): cudaErrorStreamCaptureUnsupported if a capture is going on that concerns this
// thread, which is then spoilt.
cudaError_t CheckUnsafeCall();
// By calls that may not be made on a stream that is captured.
cudaError_t CheckNotCaptured(CUstream_st& stream);

// Enqueues, or adds to the capture that the stream takes part in.
cudaError_t EnqueueOrCapture(CUstream_st& stream, Work work);
cudaError_t RecordOrCapture(CUstream_st& stream, CUevent_st& event);
cudaError_t WaitOrCapture(const std::shared_ptr<CUstream_st>& stream, CUevent_st& event);

// One run of the graph.
Work GraphRun(const CUgraphExec_st& exec);
// Whether `to` has the nodes of `from`, so that a graph of the one can take the other's arguments.
bool SameShape(const CUgraph_st& from, const CUgraph_st& to);

}  // namespace tandem::emulation
