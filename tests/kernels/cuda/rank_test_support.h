// Ranks as threads of one process, each with a device and exchange memory that all see.
#pragma once

#include <cuda_runtime_api.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <barrier>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "kernels/cuda/ops.h"
#include "tests/kernels/cuda/device_test_support.h"

namespace tandem::kernels::cuda::testing {

// Why the first `count` devices cannot be ranks; empty: they can.
inline std::string WhyNoRanks(int count) {
  int devices = 0;
  CheckCuda(cudaGetDeviceCount(&devices));
  if (devices < count) return fmt::format("needs {} devices, there are {}", count, devices);
  for (int device = 0; device < count; ++device) {
    for (int peer = 0; peer < count; ++peer) {
      int can = 1;
      if (peer != device) CheckCuda(cudaDeviceCanAccessPeer(&can, device, peer));
      if (can == 0) return fmt::format("device {} has no peer access to {}", device, peer);
    }
  }
  return "";
}

// The exchange memory of `size` ranks, each on the device of its number.
class Ranks {
 public:
  Ranks(int size, int64_t max_elements) : size_(size), meeting_(size) {
    for (int rank = 0; rank < size; ++rank) {
      CheckCuda(cudaSetDevice(rank));
      int multiprocessors = 0;
      CheckCuda(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, rank));
      peers_.max_blocks = std::min(peers_.max_blocks, multiprocessors);
      for (int peer = 0; peer < size; ++peer) {
        if (peer != rank) EnablePeer(peer);
      }
      CheckCuda(cudaMalloc(&peers_.data[rank], AllReduceBytes(max_elements)));
      CheckCuda(cudaMalloc(&peers_.signals[rank], kAllReduceSignalBytes));
      const Stream stream;
      CheckCuda(cudaMemsetAsync(peers_.signals[rank], 0, kAllReduceSignalBytes, stream));
      stream.Sync();
    }
    peers_.size = size;
  }
  ~Ranks() {
    for (int rank = 0; rank < size_; ++rank) {
      CheckCuda(cudaSetDevice(rank));
      CheckCuda(cudaFree(peers_.data[rank]));
      CheckCuda(cudaFree(peers_.signals[rank]));
    }
    CheckCuda(cudaSetDevice(0));
  }
  Ranks(const Ranks&) = delete;
  Ranks& operator=(const Ranks&) = delete;

  int size() const { return size_; }

  // In Run, by all ranks: before kernels that wait for each other. What allocates or frees may wait
  // for a peer's kernel, which would wait for this rank's.
  void Meet() const { meeting_.arrive_and_wait(); }

  // Calls f(peers of the rank) in a thread for each rank, with its device current.
  void Run(const std::function<void(const PeerBuffers&)>& f) const {
    std::vector<std::thread> threads;
    for (int rank = 0; rank < size_; ++rank) {
      threads.emplace_back([this, rank, &f] {
        CheckCuda(cudaSetDevice(rank));
        PeerBuffers peers = peers_;
        peers.rank = rank;
        f(peers);
      });
    }
    for (std::thread& thread : threads) thread.join();
  }

 private:
  static void EnablePeer(int peer) {
    const cudaError_t error = cudaDeviceEnablePeerAccess(peer, 0);
    if (error == cudaErrorPeerAccessAlreadyEnabled) {
      static_cast<void>(cudaGetLastError());
    } else {
      CheckCuda(error);
    }
  }

  int size_;
  mutable std::barrier<> meeting_;
  PeerBuffers peers_;
};

}  // namespace tandem::kernels::cuda::testing
