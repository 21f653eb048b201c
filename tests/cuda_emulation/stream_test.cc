#include "tests/cuda_emulation/stream.h"

#include <thread>
#include <vector>

#include "tests/cuda_emulation/runtime_test_support.h"

namespace tandem::emulation {
namespace {

class StreamTest : public RuntimeTest {
 protected:
  // What a reader on another stream sees of what a writer wrote, `tries` times. With the event that
  // orders them, or with it forgotten.
  std::vector<int> Read(int tries, bool with_event) {
    int* device = DeviceArray<int>(1);
    std::vector<int> seen;
    cudaEvent_t written = nullptr;
    EXPECT_CUDA(cudaEventCreateWithFlags(&written, cudaEventDisableTiming));
    for (int i = 0; i < tries; ++i) {
      EXPECT_CUDA(LaunchOne(stream_, [=] { *device = i; }));
      EXPECT_CUDA(cudaEventRecord(written, stream_));
      if (with_event) {
        EXPECT_CUDA(cudaStreamWaitEvent(other_, written, 0));
      }
      int out = -1;
      EXPECT_CUDA(cudaMemcpyAsync(&out, device, 4, cudaMemcpyDeviceToHost, other_));
      seen.push_back(out);
      EXPECT_CUDA(cudaStreamSynchronize(stream_));
    }
    EXPECT_CUDA(cudaEventDestroy(written));
    EXPECT_CUDA(cudaFree(device));
    return seen;
  }
};

int CountWrong(const std::vector<int>& seen) {
  int wrong = 0;
  for (size_t i = 0; i < seen.size(); ++i) wrong += seen[i] != static_cast<int>(i);
  return wrong;
}

TEST_F(StreamTest, EventsOrderStreams) { EXPECT_EQ(CountWrong(Read(40, true)), 0); }

TEST_F(StreamTest, MissingEventDependencyIsSeen) {
  const int wrong = CountWrong(Read(40, false));
  EXPECT_GT(wrong, 5);
  EXPECT_LT(wrong, 35);  // and the right order comes up too
}

TEST_F(StreamTest, NothingRunsBeforeItIsWaitedFor) {
  bool ran = false;
  ASSERT_CUDA(LaunchOne(stream_, [&] { ran = true; }));
  EXPECT_FALSE(ran);
  ASSERT_CUDA(cudaStreamSynchronize(stream_));
  EXPECT_TRUE(ran);
}

TEST_F(StreamTest, SyncModeRunsInTheCall) {
  Options options = GetOptions();
  options.streams = Streams::kSync;
  SetOptions(options);
  bool ran = false;
  ASSERT_CUDA(LaunchOne(stream_, [&] { ran = true; }));
  EXPECT_TRUE(ran);
}

TEST_F(StreamTest, QueriesMakeProgress) {
  cudaEvent_t event = nullptr;
  ASSERT_CUDA(cudaEventCreate(&event));
  EXPECT_CUDA(cudaEventQuery(event));  // never recorded
  int ran = 0;
  for (int i = 0; i < 3; ++i) ASSERT_CUDA(LaunchOne(stream_, [&] { ++ran; }));
  ASSERT_CUDA(cudaEventRecord(event, stream_));
  ASSERT_CUDA(LaunchOne(stream_, [&] { ++ran; }));
  EXPECT_EQ(cudaStreamQuery(stream_), cudaErrorNotReady);
  EXPECT_CUDA(cudaPeekAtLastError());
  while (cudaEventQuery(event) == cudaErrorNotReady) {
  }
  EXPECT_EQ(ran, 3);
  ASSERT_CUDA(cudaDeviceSynchronize());
  EXPECT_EQ(ran, 4);
  EXPECT_CUDA(cudaEventDestroy(event));
}

TEST_F(StreamTest, ForgottenWorkRunsByItself) {
  Options options = GetOptions();
  options.progress_ms = 1;
  SetOptions(options);
  ASSERT_CUDA(cudaSetDevice(2));  // whose thread is not there yet
  cudaStream_t stream = nullptr;
  ASSERT_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  std::atomic<bool> ran = false;
  ASSERT_CUDA(LaunchOne(stream, [&] { ran = true; }));
  while (!ran) std::this_thread::yield();
  ASSERT_CUDA(cudaStreamSynchronize(stream));
  ASSERT_CUDA(cudaStreamDestroy(stream));
}

TEST_F(StreamTest, ElapsedTimeNeedsTimingAndBothEvents) {
  cudaEvent_t from = nullptr;
  cudaEvent_t to = nullptr;
  cudaEvent_t untimed = nullptr;
  ASSERT_CUDA(cudaEventCreate(&from));
  ASSERT_CUDA(cudaEventCreate(&to));
  ASSERT_CUDA(cudaEventCreateWithFlags(&untimed, cudaEventDisableTiming));
  float ms = -1;
  EXPECT_EQ(cudaEventElapsedTime(&ms, from, to), cudaErrorInvalidResourceHandle);
  for (const cudaEvent_t event : {from, untimed, to}) ASSERT_CUDA(cudaEventRecord(event, stream_));
  EXPECT_EQ(cudaEventElapsedTime(&ms, from, untimed), cudaErrorInvalidResourceHandle);
  EXPECT_EQ(cudaEventElapsedTime(&ms, from, to), cudaErrorNotReady);
  ASSERT_CUDA(cudaEventSynchronize(to));
  EXPECT_CUDA(cudaEventElapsedTime(&ms, from, to));
  EXPECT_GE(ms, 0);
  for (const cudaEvent_t event : {from, untimed, to}) EXPECT_CUDA(cudaEventDestroy(event));
}

TEST_F(StreamTest, HostFunctionsRunInOrderAndMayNotCallCuda) {
  struct State {
    bool kernel = false;
    bool in_order = false;
    cudaError_t error = cudaSuccess;
  } state;
  ASSERT_CUDA(LaunchOne(stream_, [&] { state.kernel = true; }));
  ASSERT_CUDA(cudaLaunchHostFunc(
      stream_,
      [](void* p) {
        auto* s = static_cast<State*>(p);
        s->in_order = s->kernel;
        void* memory = nullptr;
        s->error = cudaMalloc(&memory, 1);
      },
      &state));
  ASSERT_CUDA(cudaStreamSynchronize(stream_));
  EXPECT_TRUE(state.in_order);
  EXPECT_EQ(state.error, cudaErrorNotPermitted);
}

TEST_F(StreamTest, DestroyedStreamsAreRefusedButFinishTheirWork) {
  cudaStream_t stream = nullptr;
  ASSERT_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  bool ran = false;
  ASSERT_CUDA(LaunchOne(stream, [&] { ran = true; }));
  ASSERT_CUDA(cudaStreamDestroy(stream));
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaErrorInvalidResourceHandle);
  ASSERT_CUDA(cudaDeviceSynchronize());
  EXPECT_TRUE(ran);
}

TEST_F(StreamTest, AFailedKernelStays) {
  ASSERT_CUDA(cudaSetDevice(3));
  cudaStream_t stream = nullptr;
  ASSERT_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  Options options = GetOptions();
  options.fail_launch = 2;
  SetOptions(options);
  int ran = 0;
  for (int i = 0; i < 3; ++i) ASSERT_CUDA(LaunchOne(stream, [&] { ++ran; }));
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaErrorLaunchFailure);
  EXPECT_EQ(ran, 1);
  void* memory = nullptr;
  EXPECT_EQ(cudaMalloc(&memory, 4), cudaErrorLaunchFailure);
  EXPECT_EQ(cudaGetLastError(), cudaErrorLaunchFailure);
  EXPECT_EQ(cudaGetLastError(), cudaErrorLaunchFailure);
}

TEST_F(StreamTest, StreamsOfAnotherDeviceTakeNoLaunch) {
  ASSERT_CUDA(cudaSetDevice(1));
  EXPECT_EQ(LaunchOne(stream_, [] {}), cudaErrorInvalidResourceHandle);
}

using StreamDeathTest = StreamTest;

TEST_F(StreamDeathTest, TheDefaultStreamIsRefused) {
  EXPECT_DEATH(static_cast<void>(LaunchOne(nullptr, [] {})), "default stream");
  EXPECT_DEATH(static_cast<void>(cudaStreamSynchronize(cudaStreamPerThread)), "default stream");
}

}  // namespace
}  // namespace tandem::emulation
