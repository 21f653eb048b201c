#include "bench/kernels/gpu_sums.h"

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <functional>
#include <memory>
#include <new>
#include <span>
#include <string>
#include <thread>
#include <utility>

#include "common/check.h"
#include "kernels/comm/nccl_communicator.h"
#include "kernels/comm/shm_communicator.h"
#include "kernels/cuda/ops.h"
#include "worker/model/cuda/device.h"

namespace tandem::bench {
namespace {

using kernels::Communicator;
using kernels::NcclCommunicator;
using kernels::ShmCommunicator;
using kernels::cuda::ActivationType;
using kernels::cuda::AllReduceAlgorithm;
using kernels::cuda::Matrix;
using kernels::cuda::PeerBuffers;
using model::cuda::DeviceMemory;

constexpr std::chrono::seconds kConnectLimit(60);
constexpr size_t kLinkBytes = 4096;

void Check(cudaError_t error) { TANDEM_CHECK(error == cudaSuccess) << cudaGetErrorString(error); }

DeviceMemory Zeros(int64_t bytes, cudaStream_t stream) {
  auto memory = model::cuda::AllocateDevice(bytes);
  TANDEM_CHECK(memory.ok()) << Message(memory.status());
  Check(cudaMemsetAsync(memory->get(), 0, static_cast<size_t>(bytes), stream));
  return std::move(memory).value();
}

model::cuda::Stream NewStream() {
  auto stream = model::cuda::MakeStream();
  TANDEM_CHECK(stream.ok()) << Message(stream.status());
  return std::move(stream).value();
}

// How many of the first devices reach each other's memory.
int NumTogether(int most) {
  int devices = 0;
  Check(cudaGetDeviceCount(&devices));
  for (int count = std::min(devices, most); count > 1; --count) {
    bool all = true;
    for (int i = 0; i < count * count; ++i) {
      int can = 1;
      if (i / count != i % count) Check(cudaDeviceCanAccessPeer(&can, i / count, i % count));
      all = all && can != 0;
    }
    if (all) return count;
  }
  return 1;
}

// The exchange memory of all ranks, each on the device of its number.
class PeerMemory {
 public:
  PeerMemory(int size, int64_t max_elements) {
    peers_.size = size;
    for (int rank = 0; rank < size; ++rank) {
      Check(cudaSetDevice(rank));
      int multiprocessors = 0;
      Check(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, rank));
      peers_.max_blocks = std::min(peers_.max_blocks, multiprocessors);
      for (int peer = 0; peer < size; ++peer) {
        if (peer != rank) Check(cudaDeviceEnablePeerAccess(peer, 0));
      }
      const model::cuda::Stream stream = NewStream();
      memory_.push_back(Zeros(kernels::cuda::AllReduceBytes(max_elements), stream.get()));
      peers_.data[rank] = memory_.back().get();
      memory_.push_back(Zeros(kernels::cuda::kAllReduceSignalBytes, stream.get()));
      peers_.signals[rank] = memory_.back().get();
      Check(cudaStreamSynchronize(stream.get()));
    }
  }
  PeerBuffers OfRank(int rank) const {
    PeerBuffers peers = peers_;
    peers.rank = rank;
    return peers;
  }

 private:
  std::vector<DeviceMemory> memory_;
  PeerBuffers peers_;
};

// One rank, in a thread of its own. What allocates comes before the first kernel that waits for
// another rank, or it would wait for that one.
class Rank {
 public:
  Rank(const SumShapes& shapes, const PeerBuffers& peers, Communicator& link)
      : shapes_(shapes), peers_(peers), link_(link) {
    Check(cudaSetDevice(peers.rank));
    stream_ = NewStream();
    const int64_t most = *std::max_element(shapes.rows.begin(), shapes.rows.end()) * shapes.hidden;
    partial_ = Zeros(2 * most, stream_.get());
    out_ = Zeros(2 * most, stream_.get());
    x_ = Zeros(4 * most, stream_.get());
    part_ = Zeros(4 * shapes.sampled.back() * PartCols(), stream_.get());
    logits_ = Zeros(4 * shapes.sampled.back() * PartCols() * peers.size, stream_.get());
    weight_ = Zeros(4 * shapes.hidden, stream_.get());
    for (model::cuda::Event* const event : {&begin_, &end_}) {
      cudaEvent_t made = nullptr;
      Check(cudaEventCreate(&made));
      event->reset(made);
    }
    auto nccl = NcclCommunicator::Connect(link, kConnectLimit);
    TANDEM_CHECK(nccl.ok()) << Message(nccl.status());
    nccl_ = std::move(nccl).value();
    Check(cudaStreamSynchronize(stream_.get()));
  }

  void Run() {
    for (const int rows : shapes_.rows) Sums(rows);
    for (const int rows : shapes_.sampled) Gather(rows);
  }

 private:
  void Sums(int rows) {
    cudaStream_t const stream = stream_.get();
    const int64_t h = shapes_.hidden;
    const Matrix partial = {partial_.get(), rows, h, h, ActivationType::kBf16};
    const Matrix out = {out_.get(), rows, h, h, ActivationType::kBf16};
    auto* const x = static_cast<float*>(x_.get());
    const auto* const weight = static_cast<const float*>(weight_.get());
    const auto nccl = [&] {
      nccl_->AllReduceSum(partial.data, static_cast<size_t>(rows * h),
                          NcclCommunicator::Element::kBf16, stream);
    };
    const auto over_peers = [&](AllReduceAlgorithm algorithm) {
      return [&, algorithm] { AllReduce(partial, algorithm, peers_, stream); };
    };
    Compare(rows, "", nccl,
            {{"one shot", over_peers(AllReduceAlgorithm::kOneShot)},
             {"two shot", over_peers(AllReduceAlgorithm::kTwoShot)}});
    Compare(rows, " with norm",
            [&] {
              nccl();
              AddRmsNorm(out, x, partial, weight, 1e-5f, stream);
            },
            {{"one kernel",
              [&] { AllReduceAddRmsNorm(out, x, partial, weight, 1e-5f, peers_, stream); }}});
  }

  // Logits in float32, a part of the vocabulary from each rank: NCCL is the only way.
  void Gather(int rows) {
    const int64_t part = rows * PartCols();
    const double seconds = Time([&] {
      nccl_->AllGather(part_.get(), logits_.get(), static_cast<size_t>(part),
                       NcclCommunicator::Element::kF32, stream_.get());
    });
    Print(fmt::format("gather of logits, {} rows", rows),
          4.0 * static_cast<double>(part * (peers_.size - 1)), seconds, seconds);
  }
  int64_t PartCols() const { return (shapes_.vocab + peers_.size - 1) / peers_.size; }

  using Sum = std::function<void()>;
  void Compare(int rows, const char* with, const Sum& nccl,
               const std::vector<std::pair<const char*, Sum>>& ours) {
    const double by_nccl = Time(nccl);
    const double moved = 4.0 * static_cast<double>(rows * shapes_.hidden * (peers_.size - 1)) /
                         static_cast<double>(peers_.size);
    Print(fmt::format("NCCL{}, {} rows", with, rows), moved, by_nccl, by_nccl);
    for (const auto& [name, sum] : ours) {
      Print(fmt::format("{}{}, {} rows", name, with, rows), moved, Time(sum), by_nccl);
    }
  }

  // Seconds of one sum: the best of a few, each the mean of some behind each other.
  double Time(const Sum& sum) {
    float best = 0;
    for (int repeat = 0; repeat < 3; ++repeat) {
      link_.Barrier();
      sum();  // until all ranks have come
      Check(cudaEventRecord(begin_.get(), stream_.get()));
      for (int i = 0; i < shapes_.runs; ++i) sum();
      Check(cudaEventRecord(end_.get(), stream_.get()));
      Check(cudaEventSynchronize(end_.get()));
      float ms = 0;
      Check(cudaEventElapsedTime(&ms, begin_.get(), end_.get()));
      if (repeat == 0 || ms < best) best = ms;
    }
    Check(cudaGetLastError());
    const Status lost = nccl_->Poll();
    TANDEM_CHECK(lost.ok()) << Message(lost);
    return best / 1e3 / shapes_.runs;
  }

  // `moved`: bytes that each rank receives at least.
  void Print(const std::string& name, double moved, double seconds, double by_nccl) const {
    if (peers_.rank != 0) return;
    std::printf("%-34s %10.1f %9.1f %6.2fx\n", name.c_str(), seconds * 1e6, moved / seconds / 1e9,
                by_nccl / seconds);
    std::fflush(stdout);
  }

  const SumShapes& shapes_;
  const PeerBuffers peers_;
  Communicator& link_;
  model::cuda::Stream stream_;
  DeviceMemory partial_, out_, x_, weight_, part_, logits_;
  model::cuda::Event begin_, end_;
  std::unique_ptr<NcclCommunicator> nccl_;
};

}  // namespace

SumShapes SmallSums() {
  SumShapes shapes;
  shapes.hidden = 256;
  shapes.rows = {1, 20};
  shapes.vocab = 500;
  shapes.sampled = {1, 3};
  shapes.max_ranks = 2;
  shapes.runs = 1;
  return shapes;
}

void BenchSums(const SumShapes& shapes) {
  const int size = NumTogether(std::min(shapes.max_ranks, kernels::cuda::kMaxPeers));
  if (size < 2) {
    std::printf("\nsums over GPUs: there are no two that reach each other's memory\n");
    return;
  }
  std::printf("\n%-34s %10s %9s %7s\n",
              fmt::format("sum over {} GPUs, {} columns", size, shapes.hidden).c_str(), "us",
              "GB/s", "of NCCL");
  const int64_t most = *std::max_element(shapes.rows.begin(), shapes.rows.end());
  const PeerMemory memory(size, most * shapes.hidden);
  constexpr std::align_val_t kAlign{128};
  const size_t bytes = ShmCommunicator::RequiredBytes(size, kLinkBytes);
  const std::span<std::byte> region(static_cast<std::byte*>(::operator new(bytes, kAlign)), bytes);
  ShmCommunicator::Format(region, size, kLinkBytes);
  std::vector<std::thread> threads;
  threads.reserve(static_cast<size_t>(size));
  for (int rank = 0; rank < size; ++rank) {
    threads.emplace_back([&, rank] {
      auto link = ShmCommunicator::Attach(region, rank, size);
      TANDEM_CHECK(link.ok()) << Message(link.status());
      Rank(shapes, memory.OfRank(rank), **link).Run();
    });
  }
  for (std::thread& thread : threads) thread.join();
  ::operator delete(region.data(), kAlign);
}

}  // namespace tandem::bench
