// How ranks on GPUs agree to use each other's memory, and what becomes of one whose kernels wait
// for a rank that is gone: they must end, or nothing could be freed. On the emulation a kernel that
// waits for ever ends the process.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <functional>
#include <memory>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "kernels/comm/shm_communicator.h"
#include "tests/cuda_emulation/options.h"
#include "tests/support/fork_rank.h"
#include "tests/support/shared_memory.h"
#include "tests/worker/model/cuda/gpu_options.h"
#include "tests/worker/model/tiny_sequences.h"
#include "worker/model/cuda/rank_exchange.h"

namespace tandem::model::cuda {
namespace {

using tandem::testing::ForkedRank;
using tandem::testing::SharedMemory;
using tandem::testing::TinyModelOptions;

constexpr size_t kCommBytes = 256 << 10;

constexpr int kNever = 1 << 30;
struct Leaving {
  int at_barrier = kNever;                // of rank 1, from 1
  std::atomic<int>* aborts_at = nullptr;  // it waits until this is not 0, and ends the group
};

// Ends the process once all ranks have come to its barrier.
class LeavesAtBarrier : public kernels::Communicator {
 public:
  LeavesAtBarrier(kernels::Communicator& comm, const Leaving& leaving)
      : comm_(comm), leaving_(leaving) {}
  int rank() const override { return comm_.rank(); }
  int size() const override { return comm_.size(); }
  void AllReduceSum(std::span<float> data) override { comm_.AllReduceSum(data); }
  void AllGather(std::span<const std::byte> in, std::span<const size_t> sizes,
                 std::span<std::byte> out) override {
    comm_.AllGather(in, sizes, out);
  }
  void Broadcast(std::span<std::byte> data, int root) override { comm_.Broadcast(data, root); }
  void Barrier() override {
    comm_.Barrier();
    if (++barriers_ < leaving_.at_barrier) return;
    if (leaving_.aborts_at != nullptr) {
      while (leaving_.aborts_at->load() == 0) std::this_thread::yield();
      comm_.Abort();  // as its watchdog would
    }
    std::_Exit(0);
  }
  Status Poll() override { return comm_.Poll(); }
  void Abort() override { comm_.Abort(); }

 private:
  kernels::Communicator& comm_;
  const Leaving leaving_;
  int barriers_ = 0;
};

RankExchangeSpec SmallSpec() {
  RankExchangeSpec spec;
  spec.max_rows = 4;
  spec.hidden = 64;
  return spec;
}

Status MakeExchange(const RankExchangeSpec& spec, kernels::Communicator& comm) {
  TANDEM_RETURN_IF_ERROR(UseDevice(comm.rank()).status());
  TANDEM_ASSIGN_OR_RETURN(const Stream stream, MakeStream());
  return RankExchange::Make(spec, comm.rank(), comm, stream.get()).status();
}

// What rank 0's `run` says while rank 1 runs it, too, and may leave.
std::string Rank0Says(const Leaving& leaving,
                      const std::function<Status(kernels::Communicator&)>& run) {
  constexpr int kRanks = 2;
  const SharedMemory region(kernels::ShmCommunicator::RequiredBytes(kRanks, kCommBytes));
  kernels::ShmCommunicator::Format(region.span(), kRanks, kCommBytes);
  const SharedMemory said(4096);
  const auto attach = [&](int rank) {
    auto comm = kernels::ShmCommunicator::Attach(region.span(), rank, kRanks);
    TANDEM_CHECK(comm.ok()) << Message(comm.status());
    return std::move(comm).value();
  };
  ForkedRank leaves([&] {
    const auto comm = attach(1);
    LeavesAtBarrier leaver(*comm, leaving);
    static_cast<void>(run(leaver));
    return leaving.at_barrier == kNever ? 0 : 1;
  });
  ForkedRank stays([&] {
    const auto comm = attach(0);
    const std::string text(Message(run(*comm)));
    std::copy_n(text.c_str(), text.size() + 1, reinterpret_cast<char*>(said.span().data()));
    return 0;
  });
  EXPECT_EQ(leaves.Wait(), 0);
  EXPECT_EQ(stays.Wait(), 0);
  return reinterpret_cast<const char*>(said.span().data());
}

// The last line that rank 0 says while it makes an exchange; `spec` of its number.
std::string SaidOf(const std::function<RankExchangeSpec(int)>& spec_of) {
  return Rank0Says({}, [&](kernels::Communicator& comm) -> Status {
    std::string said;
    RankExchangeSpec spec = spec_of(comm.rank());
    spec.say = [&](const std::string& line) { said = line; };
    TANDEM_RETURN_IF_ERROR(MakeExchange(spec, comm));
    return Internal("{}", said);
  });
}

TEST(RankExchange, SumsOverPeerMemoryWhereThereIsSome) {
  const std::string said = SaidOf([](int) { return SmallSpec(); });
  EXPECT_NE(said.find("rows go over peer memory"), std::string::npos) << said;
}

// For the ranks that are forked while it lives.
class WithOptions {
 public:
  explicit WithOptions(void (*change)(emulation::Options&)) : before_(emulation::GetOptions()) {
    emulation::Options options = before_;
    change(options);
    emulation::SetOptions(options);
  }
  ~WithOptions() { emulation::SetOptions(before_); }

 private:
  const emulation::Options before_;
};

// Blocks of a sum wait for each other, and a small GPU holds ten of 1024 threads at once.
TEST(RankExchange, SumsOverPeerMemoryOnASmallGpu) {
  const WithOptions small([](emulation::Options& options) { options.arch = 86; });
  const std::string said = SaidOf([](int) {
    RankExchangeSpec spec = SmallSpec();
    spec.max_rows = 32;
    spec.hidden = 8192;
    return spec;
  });
  EXPECT_NE(said.find("rows go over peer memory"), std::string::npos) << said;
}

TEST(RankExchange, OneRankThatMayNotUsePeerMemoryIsEnough) {
  const std::string said = SaidOf([](int rank) {
    RankExchangeSpec spec = SmallSpec();
    spec.use_peers = rank == 0;
    return spec;
  });
  EXPECT_EQ(said, "the ranks' GPUs do not reach each other's memory; all sums go over NCCL");
}

// What is said of a sum that does not come back over `over`, and what to do about it.
void ExpectLate(const std::string& said, const std::string& over, std::chrono::milliseconds limit) {
  const std::string begin = fmt::format(
      "a sum of all ranks over {} did not come back to rank 0 within {} ms; ", over, limit.count());
  EXPECT_EQ(said.substr(0, begin.size()), begin);
  EXPECT_NE(said.find("groups[].peer_memory: false"), std::string::npos) << said;
  EXPECT_NE(said.find("NCCL_P2P_DISABLE=1"), std::string::npos) << said;
}

class RankExchangeSums : public ::testing::TestWithParam<bool> {};

TEST_P(RankExchangeSums, HaveALimitAtStartUp) {
  constexpr std::chrono::milliseconds kLimit(300);
  const auto run = [&](kernels::Communicator& comm) {
    RankExchangeSpec spec = SmallSpec();
    spec.use_peers = GetParam();
    spec.sum_limit = kLimit;
    return MakeExchange(spec, comm);
  };
  ExpectLate(Rank0Says({.at_barrier = 1}, run), GetParam() ? "peer memory" : "NCCL", kLimit);
}

TinyModelOptions Tiny() {
  TinyModelOptions tiny;
  tiny.head_dim = 64;
  tiny.num_heads = 4;
  tiny.num_kv_heads = 2;
  tiny.hidden = 128;
  return tiny;
}

// Rank 1 is there until all have made their exchange, and prepares no step.
TEST_P(RankExchangeSums, HaveALimitInStepsOfPadding) {
  constexpr std::chrono::milliseconds kLimit(3000);  // the sums before come back well within it
  const ModelFile model(Tiny());
  ShardOptions options = GpuOptions(model);
  options.max_step_tokens = 16;
  options.peer_memory = GetParam();
  options.sum_limit = kLimit;
  const auto run = [&](kernels::Communicator& comm) -> Status {
    TANDEM_ASSIGN_OR_RETURN(const auto runner, ModelRunner::Load(options, comm));
    return runner->Prepare(8);
  };
  ExpectLate(Rank0Says({.at_barrier = 2}, run), GetParam() ? "peer memory or NCCL" : "NCCL",
             kLimit);
}
INSTANTIATE_TEST_SUITE_P(, RankExchangeSums, ::testing::Bool(),
                         [](const auto& info) { return info.param ? "OverPeers" : "OverNccl"; });

TEST(RankExchange, AStepThatWaitsForItIsEnded) {
  const ModelFile model(Tiny());
  ShardOptions options = GpuOptions(model);
  options.cuda_graphs = false;  // or steps of padding wait for it first
  const SharedMemory memory(sizeof(std::atomic<int>));
  auto* const launched = new (memory.span().data()) std::atomic<int>(0);
  const auto run = [&](kernels::Communicator& comm) -> Status {
    TANDEM_ASSIGN_OR_RETURN(const auto runner, ModelRunner::Load(options, comm));
    TANDEM_RETURN_IF_ERROR(runner->Prepare(8));
    // It samples nothing: to choose a product for the logits waits, too.
    const std::vector<TestPlan> plans =
        MakeScript({{.prompt = RandomTokens(6, 1), .num_new = 1, .chunk = 3}});
    TANDEM_RETURN_IF_ERROR(runner->Begin(plans[0].View(1)));
    if (runner->Finished()) return Internal("the step did not wait");
    launched->store(1);
    std::vector<RowResult> results(4);
    return runner->Finish(results);
  };
  EXPECT_EQ(Rank0Says({.at_barrier = 2, .aborts_at = launched}, run), "rank 1 aborted the group");
}

// NCCL's own error is an abort, too, and of what waits without NCCL nobody else would know.
TEST(RankExchange, AnErrorOfNcclTellsWhatElseWaitsBeforeItAborts) {
  const auto run = [](kernels::Communicator& comm) -> Status {
    TANDEM_RETURN_IF_ERROR(UseDevice(comm.rank()).status());
    TANDEM_ASSIGN_OR_RETURN(const Stream stream, MakeStream());
    TANDEM_ASSIGN_OR_RETURN(const DeviceMemory memory, AllocateDevice(4));
    cudaError_t told = cudaSuccess;
    TANDEM_ASSIGN_OR_RETURN(const auto nccl,
                            kernels::NcclCommunicator::Connect(comm, std::chrono::seconds(60), [&] {
                              if (told == cudaSuccess) told = cudaStreamQuery(stream.get());
                            }));
    if (comm.rank() == 0) {
      float host = 0;
      using Element = kernels::NcclCommunicator::Element;
      nccl->AllReduceSum(memory.get(), 1, Element::kF32, stream.get());  // waits for rank 1
      nccl->AllReduceSum(&host, 1, Element::kF32, stream.get());         // is refused
    }
    static_cast<void>(cudaStreamSynchronize(stream.get()));
    comm.Barrier();
    return Internal("{}; {}", cudaGetErrorName(told), Message(nccl->Poll()));
  };
  const std::string said = Rank0Says({}, run);
  EXPECT_EQ(said.substr(0, said.find(": ")), "cudaErrorNotReady; NCCL") << said;
}

// What sums take comes on top of what was found to fit; with NCCL that is a lot.
TEST(RankExchange, WhatDoesNotFitBesideItSaysWhatLowersIt) {
  const WithOptions small([](emulation::Options& options) { options.memory = 36 << 20; });
  const ModelFile model(Tiny());
  const std::string said = Rank0Says({}, [&](kernels::Communicator& comm) -> Status {
    return ModelRunner::Load(GpuOptions(model), comm).status();
  });
  EXPECT_TRUE(said.starts_with("rank 0 of 2 on GPU 0: ")) << said;
  EXPECT_NE(said.find("lower max_step_tokens or max_seqs, or raise groups[].tp"), std::string::npos)
      << said;
}

// All weights are there before the first word to another rank that has a limit.
TEST(RankExchange, RanksThatHaveLoadedMeetBeforeTheyConnect) {
  const ModelFile model(Tiny());
  const auto run = [&](kernels::Communicator& comm) -> Status {
    ShardOptions options = GpuOptions(model);
    std::string loaded;
    options.say = [&](const std::string& line) { loaded = line; };
    options.meet = [&] { return Unavailable("rank 1 is gone, after {}", loaded); };
    return ModelRunner::Load(options, comm).status();
  };
  const std::string said = Rank0Says({}, run);
  EXPECT_EQ(said.substr(0, said.find(':')), "rank 1 is gone, after weights") << said;
}

}  // namespace
}  // namespace tandem::model::cuda
