// Memory shared by processes, and access to peers.
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <new>
#include <thread>

#include "tests/cuda_emulation/runtime_test_support.h"

namespace tandem::emulation {
namespace {

// What two processes tell each other.
struct Board {
  std::atomic<int> step = 0;
  cudaIpcMemHandle_t handle;

  void Reach(int s) { step = s; }
  void Await(int s) const {
    while (step < s) std::this_thread::yield();
  }
};

class ForkedIpcTest : public RuntimeTest {
 protected:
  ForkedIpcTest() {
    void* page =
        mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    board_ = new (page) Board;
  }
  ~ForkedIpcTest() override { munmap(board_, sizeof(Board)); }

  // Runs `function` in another process, which owns device 1.
  pid_t InChild(const std::function<void()>& function) {
    const pid_t child = fork();
    if (child != 0) return child;
    EXPECT_CUDA(cudaSetDevice(1));
    EXPECT_CUDA(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
    function();
    _exit(HasFailure() ? 1 : 0);
  }
  static void Join(pid_t child) {
    int status = -1;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
  }

  Board* board_ = nullptr;
};

TEST_F(ForkedIpcTest, ProcessesSeeEachOthersMemory) {
  const pid_t child = InChild([&] {
    int* own = DeviceArray<int>(100);
    ASSERT_CUDA(cudaMemsetAsync(own, 0, 400, stream_));
    ASSERT_CUDA(LaunchOne(stream_, [=] { own[99] = 7; }));
    ASSERT_CUDA(cudaStreamSynchronize(stream_));
    // The handle is of the allocation, whatever address in it is given.
    ASSERT_CUDA(cudaIpcGetMemHandle(&board_->handle, own + 50));
    board_->Reach(1);
    board_->Await(2);
    int out = 0;
    ASSERT_CUDA(cudaMemcpyAsync(&out, own + 99, 4, cudaMemcpyDeviceToHost, stream_));
    EXPECT_EQ(out, 8);
    ASSERT_CUDA(cudaFree(own));
  });
  board_->Await(1);
  void* memory = nullptr;
  ASSERT_CUDA(cudaIpcOpenMemHandle(&memory, board_->handle, cudaIpcMemLazyEnablePeerAccess));
  auto* peer = static_cast<int*>(memory);
  ASSERT_CUDA(LaunchOne(stream_, [=] { peer[99] += 1 + peer[0]; }));
  ASSERT_CUDA(cudaStreamSynchronize(stream_));
  EXPECT_EQ(cudaMemsetAsync(peer + 100, 0, 1, stream_), cudaErrorInvalidValue);
  EXPECT_EQ(cudaFree(memory), cudaErrorInvalidValue);
  EXPECT_CUDA(cudaIpcCloseMemHandle(memory));
  EXPECT_DEATH(
      {
        static_cast<void>(LaunchOne(stream_, [=] { peer[1] = 1; }));
        static_cast<void>(cudaStreamSynchronize(stream_));
      },
      "use after free: byte 4 of 400 of a peer's device memory");
  board_->Reach(2);
  Join(child);
}

TEST_F(ForkedIpcTest, HandlesOfTheDeadAndOfOneselfAreRefused) {
  Join(InChild([&] { ASSERT_CUDA(cudaIpcGetMemHandle(&board_->handle, DeviceArray<int>(1))); }));
  void* memory = nullptr;
  EXPECT_NE(cudaIpcOpenMemHandle(&memory, board_->handle, cudaIpcMemLazyEnablePeerAccess),
            cudaSuccess);
  int* own = DeviceArray<int>(1);
  cudaIpcMemHandle_t handle;
  ASSERT_CUDA(cudaIpcGetMemHandle(&handle, own));
  EXPECT_NE(cudaIpcOpenMemHandle(&memory, handle, cudaIpcMemLazyEnablePeerAccess), cudaSuccess);
  EXPECT_CUDA(cudaFree(own));
  int* pinned = PinnedArray<int>(1);
  EXPECT_EQ(cudaIpcGetMemHandle(&handle, pinned), cudaErrorInvalidValue);
  EXPECT_CUDA(cudaFreeHost(pinned));
}

TEST_F(ForkedIpcTest, PeersAreReachedAsTheMachineHasIt) {
  for (const bool access : {true, false}) {
    Options options = GetOptions();
    options.peer_access = access;
    SetOptions(options);
    int can = -1;
    ASSERT_CUDA(cudaDeviceCanAccessPeer(&can, 0, 1));
    EXPECT_EQ(can, access ? 1 : 0);
    ASSERT_CUDA(cudaDeviceCanAccessPeer(&can, 1, 1));
    EXPECT_EQ(can, 0);
    EXPECT_EQ(cudaDeviceEnablePeerAccess(1, 0),
              access ? cudaSuccess : cudaErrorPeerAccessUnsupported);
    EXPECT_EQ(cudaDeviceEnablePeerAccess(1, 0),
              access ? cudaErrorPeerAccessAlreadyEnabled : cudaErrorPeerAccessUnsupported);
    EXPECT_EQ(cudaDeviceEnablePeerAccess(99, 0), cudaErrorInvalidDevice);
  }
}

}  // namespace
}  // namespace tandem::emulation
