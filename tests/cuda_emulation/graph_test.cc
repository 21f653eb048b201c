#include <thread>
#include <vector>

#include "tests/cuda_emulation/capture.h"
#include "tests/cuda_emulation/runtime_test_support.h"

namespace tandem::emulation {
namespace {

class GraphTest : public RuntimeTest {
 protected:
  GraphTest() {
    EXPECT_CUDA(cudaEventCreateWithFlags(&fork_, cudaEventDisableTiming));
    EXPECT_CUDA(cudaEventCreateWithFlags(&join_, cudaEventDisableTiming));
  }
  ~GraphTest() override {
    EXPECT_CUDA(cudaEventDestroy(fork_));
    EXPECT_CUDA(cudaEventDestroy(join_));
  }

  void Begin() { ASSERT_CUDA(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal)); }
  void Fork() {
    ASSERT_CUDA(cudaEventRecord(fork_, stream_));
    ASSERT_CUDA(cudaStreamWaitEvent(other_, fork_, 0));
  }
  void Join() {
    ASSERT_CUDA(cudaEventRecord(join_, other_));
    ASSERT_CUDA(cudaStreamWaitEvent(stream_, join_, 0));
  }
  cudaError_t End() {
    cudaGraph_t graph = nullptr;
    const cudaError_t error = cudaStreamEndCapture(stream_, &graph);
    if (error != cudaSuccess) {
      EXPECT_EQ(graph, nullptr);
      return error;
    }
    EXPECT_CUDA(cudaGraphInstantiate(&exec_, graph, 0));
    EXPECT_CUDA(cudaGraphDestroy(graph));
    return error;
  }
  // Runs the graph that End made `times` and drops it.
  void Run(int times, const std::function<void()>& check) {
    for (int i = 0; i < times; ++i) {
      ASSERT_CUDA(cudaGraphLaunch(exec_, stream_));
      ASSERT_CUDA(cudaStreamSynchronize(stream_));
      check();
    }
    ASSERT_CUDA(cudaGraphExecDestroy(exec_));
  }

  cudaEvent_t fork_ = nullptr;
  cudaEvent_t join_ = nullptr;
  cudaGraphExec_t exec_ = nullptr;
};

TEST_F(GraphTest, RunsInAnOrderThatTheEdgesAllow) {
  std::vector<int> order;
  Begin();
  ASSERT_CUDA(LaunchOne(stream_, [&] { order.push_back(0); }));
  Fork();
  ASSERT_CUDA(LaunchOne(stream_, [&] { order.push_back(1); }));
  ASSERT_CUDA(LaunchOne(other_, [&] { order.push_back(2); }));
  Join();
  ASSERT_CUDA(LaunchOne(stream_, [&] { order.push_back(3); }));
  EXPECT_TRUE(order.empty());
  ASSERT_CUDA(End());
  int swapped = 0;
  Run(40, [&] {
    swapped += order == std::vector<int>{0, 2, 1, 3};
    EXPECT_TRUE((order == std::vector<int>{0, 1, 2, 3}) || (order == std::vector<int>{0, 2, 1, 3}));
    order.clear();
  });
  EXPECT_GT(swapped, 5);
  EXPECT_LT(swapped, 35);
}

TEST_F(GraphTest, EdgesThatWereForgottenAreSeen) {
  int* device = DeviceArray<int>(2);
  Begin();
  Fork();
  ASSERT_CUDA(LaunchOne(stream_, [=] { device[0] = 7; }));
  // Planted: should have been ordered after the kernel that writes.
  ASSERT_CUDA(LaunchOne(other_, [=] { device[1] = device[0]; }));
  Join();
  ASSERT_CUDA(cudaMemsetAsync(device, 0, 4, stream_));
  ASSERT_CUDA(End());
  int wrong = 0;
  Run(40, [&] {
    int out = 0;
    ASSERT_CUDA(cudaMemcpyAsync(&out, device + 1, 4, cudaMemcpyDeviceToHost, stream_));
    wrong += out != 7;
  });
  EXPECT_GT(wrong, 5);
  EXPECT_CUDA(cudaFree(device));
}

TEST_F(GraphTest, UnjoinedForkFails) {
  Begin();
  Fork();
  ASSERT_CUDA(LaunchOne(other_, [] {}));
  EXPECT_EQ(End(), cudaErrorStreamCaptureUnjoined);
  // Both streams are free again.
  EXPECT_CUDA(cudaStreamSynchronize(stream_));
  EXPECT_CUDA(cudaStreamSynchronize(other_));
}

TEST_F(GraphTest, ForbiddenCallsFailAndSpoilTheCapture) {
  int* device = DeviceArray<int>(1);
  int* pinned = PinnedArray<int>(1);
  cudaEvent_t event = nullptr;
  ASSERT_CUDA(cudaEventCreate(&event));
  void* memory = nullptr;
  int pageable = 0;
  const std::vector<std::pair<std::function<cudaError_t()>, cudaError_t>> calls = {
      {[&] { return cudaMalloc(&memory, 4); }, cudaErrorStreamCaptureUnsupported},
      {[&] { return cudaFree(device); }, cudaErrorStreamCaptureUnsupported},
      {[&] { return cudaMallocHost(&memory, 4); }, cudaErrorStreamCaptureUnsupported},
      {[&] { return cudaFreeHost(pinned); }, cudaErrorStreamCaptureUnsupported},
      {[&] { return cudaDeviceSynchronize(); }, cudaErrorStreamCaptureUnsupported},
      {[&] { return cudaStreamSynchronize(stream_); }, cudaErrorStreamCaptureUnsupported},
      {[&] { return cudaStreamQuery(stream_); }, cudaErrorStreamCaptureUnsupported},
      {[&] { return cudaMemcpy(device, pinned, 4, cudaMemcpyHostToDevice); },
       cudaErrorStreamCaptureUnsupported},
      {[&] { return cudaMemcpyAsync(&pageable, device, 4, cudaMemcpyDeviceToHost, stream_); },
       cudaErrorStreamCaptureUnsupported},
      {[&] {
         EXPECT_CUDA(cudaEventRecord(event, stream_));
         return cudaEventSynchronize(event);
       },
       cudaErrorCapturedEvent},
  };
  for (size_t i = 0; i < calls.size(); ++i) {
    Begin();
    EXPECT_EQ(calls[i].first(), calls[i].second) << "call " << i;
    EXPECT_EQ(LaunchOne(stream_, [] {}), cudaErrorStreamCaptureInvalidated) << "call " << i;
    EXPECT_EQ(End(), cudaErrorStreamCaptureInvalidated) << "call " << i;
    EXPECT_CUDA(cudaStreamSynchronize(stream_));
  }
  ASSERT_CUDA(cudaEventDestroy(event));
  EXPECT_CUDA(cudaFree(device));
  EXPECT_CUDA(cudaFreeHost(pinned));
}

TEST_F(GraphTest, OtherThreadsAreForbiddenWhatTheModeSays) {
  for (const auto& [mode, expected] :
       {std::pair(cudaStreamCaptureModeGlobal, cudaErrorStreamCaptureUnsupported),
        {cudaStreamCaptureModeThreadLocal, cudaSuccess},
        {cudaStreamCaptureModeRelaxed, cudaSuccess}}) {
    ASSERT_CUDA(cudaStreamBeginCapture(stream_, mode));
    cudaError_t error = cudaSuccess;
    std::thread([&] {
      void* memory = nullptr;
      error = cudaMalloc(&memory, 4);
    }).join();
    EXPECT_EQ(error, expected);
    cudaGraph_t graph = nullptr;
    EXPECT_EQ(cudaStreamEndCapture(stream_, &graph),
              expected == cudaSuccess ? cudaSuccess : cudaErrorStreamCaptureInvalidated);
    EXPECT_EQ(graph == nullptr, expected != cudaSuccess);
    if (graph != nullptr) static_cast<void>(cudaGraphDestroy(graph));
  }
}

TEST_F(GraphTest, EventsOfOutsideAreRefused) {
  ASSERT_CUDA(cudaEventRecord(fork_, other_));
  Begin();
  EXPECT_EQ(cudaStreamWaitEvent(stream_, fork_, 0), cudaErrorStreamCaptureIsolation);
  EXPECT_EQ(End(), cudaErrorStreamCaptureInvalidated);
}

TEST_F(GraphTest, PinnedCopiesAndHostFunctionsAreNodes) {
  int* pinned = PinnedArray<int>(2);
  int* device = DeviceArray<int>(1);
  Begin();
  ASSERT_CUDA(cudaMemcpyAsync(device, pinned, 4, cudaMemcpyHostToDevice, stream_));
  ASSERT_CUDA(LaunchOne(stream_, [=] { *device *= 2; }));
  ASSERT_CUDA(cudaMemcpyAsync(pinned + 1, device, 4, cudaMemcpyDeviceToHost, stream_));
  ASSERT_CUDA(cudaLaunchHostFunc(
      stream_, [](void* p) { *static_cast<int*>(p) += 1; }, pinned + 1));
  ASSERT_CUDA(End());
  *pinned = 21;
  Run(3, [&] { EXPECT_EQ(pinned[1], 43); });
  EXPECT_CUDA(cudaFree(device));
  EXPECT_CUDA(cudaFreeHost(pinned));
}

TEST_F(GraphTest, UpdateKeepsTheShape) {
  int value = 0;
  const auto capture = [&](int add, int kernels) {
    Begin();
    for (int i = 0; i < kernels; ++i) EXPECT_CUDA(LaunchOne(stream_, [&, add] { value += add; }));
    cudaGraph_t graph = nullptr;
    EXPECT_CUDA(cudaStreamEndCapture(stream_, &graph));
    return graph;
  };
  const cudaGraph_t one = capture(1, 2);
  const cudaGraph_t ten = capture(10, 2);
  const cudaGraph_t longer = capture(1, 3);
  size_t nodes = 0;
  ASSERT_CUDA(cudaGraphGetNodes(longer, nullptr, &nodes));
  EXPECT_EQ(nodes, 3u);
  ASSERT_CUDA(cudaGraphInstantiate(&exec_, one, 0));
  cudaGraphExecUpdateResultInfo info;
  EXPECT_EQ(cudaGraphExecUpdate(exec_, longer, &info), cudaErrorGraphExecUpdateFailure);
  EXPECT_EQ(info.result, cudaGraphExecUpdateErrorTopologyChanged);
  EXPECT_CUDA(cudaGraphExecUpdate(exec_, ten, &info));
  Run(1, [&] { EXPECT_EQ(value, 20); });
  for (const cudaGraph_t graph : {one, ten, longer}) EXPECT_CUDA(cudaGraphDestroy(graph));
}

TEST_F(GraphTest, WrongEndsAreRefused) {
  cudaGraph_t graph = nullptr;
  EXPECT_EQ(cudaStreamEndCapture(stream_, &graph), cudaErrorIllegalState);
  Begin();
  EXPECT_EQ(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeGlobal), cudaErrorIllegalState);
  Fork();
  EXPECT_EQ(cudaStreamEndCapture(other_, &graph), cudaErrorStreamCaptureUnmatched);
  EXPECT_EQ(End(), cudaErrorStreamCaptureInvalidated);
}

}  // namespace
}  // namespace tandem::emulation
