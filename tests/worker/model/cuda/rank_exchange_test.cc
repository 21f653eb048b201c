// How ranks on GPUs agree to use each other's memory, and what becomes of one whose kernels wait
// for a rank that is gone: they must end, or nothing could be freed. On the emulation a kernel that
// waits for ever ends the process.
#include <gtest/gtest.h>

#include <cstdlib>
#include <functional>
#include <memory>
#include <string>

#include "kernels/comm/shm_communicator.h"
#include "tests/support/fork_rank.h"
#include "tests/support/shared_memory.h"
#include "tests/worker/model/tiny_sequences.h"
#include "worker/model/cuda/backend.h"
#include "worker/model/cuda/rank_exchange.h"

namespace tandem::model::cuda {
namespace {

using tandem::testing::ForkedRank;
using tandem::testing::SharedMemory;
using tandem::testing::TinyModelOptions;

constexpr size_t kCommBytes = 256 << 10;

// Ends the process once all ranks have come to its barrier number `last`.
class LeavesAtBarrier : public kernels::Communicator {
 public:
  LeavesAtBarrier(kernels::Communicator& comm, int last, bool aborts)
      : comm_(comm), left_(last), aborts_(aborts) {}
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
    if (--left_ > 0) return;
    if (aborts_) comm_.Abort();  // as its watchdog would
    std::_Exit(0);
  }
  Status Poll() override { return comm_.Poll(); }
  void Abort() override { comm_.Abort(); }

 private:
  kernels::Communicator& comm_;
  int left_;
  const bool aborts_;
};

constexpr int kNever = 1 << 30;
struct Leaving {
  int at_barrier = kNever;  // of rank 1
  bool aborts = false;      // the group, before it goes
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
    LeavesAtBarrier leaver(*comm, leaving.at_barrier, leaving.aborts);
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

TEST(RankExchange, OneRankThatMayNotUsePeerMemoryIsEnough) {
  const std::string said = SaidOf([](int rank) {
    RankExchangeSpec spec = SmallSpec();
    spec.use_peers = rank == 0;
    return spec;
  });
  EXPECT_EQ(said, "the ranks' GPUs do not reach each other's memory; all sums go over NCCL");
}

TEST(RankExchange, ASumAtStartUpHasALimit) {
  const auto run = [](kernels::Communicator& comm) {
    RankExchangeSpec spec = SmallSpec();
    spec.sum_limit = std::chrono::milliseconds(300);
    return MakeExchange(spec, comm);
  };
  const std::string said = Rank0Says({.at_barrier = 1}, run);
  EXPECT_EQ(said.substr(0, said.find(',')), "a sum of all ranks over peer memory") << said;
  EXPECT_NE(said.find("did not come back to rank 0 within 300 ms"), std::string::npos) << said;
}

TEST(RankExchange, AStepThatWaitsForItIsEnded) {
  TinyModelOptions tiny;
  tiny.head_dim = 64;
  tiny.num_heads = 4;
  tiny.num_kv_heads = 2;
  tiny.hidden = 128;
  const ModelFile model(tiny);
  ShardOptions options;
  options.model_path = model.path();
  options.activation_dtype = options.kv_cache_dtype = "bf16";
  options.kv_memory_bytes = 16 << 20;
  options.max_seqs = 4;
  options.max_step_tokens = 16;
  options.gpu = &Backend();
  const std::string said =
      Rank0Says({.at_barrier = 2, .aborts = true}, [&](kernels::Communicator& comm) -> Status {
        TANDEM_ASSIGN_OR_RETURN(const auto runner, ModelRunner::Load(options, comm));
        return runner->Prepare(8);
      });
  EXPECT_NE(said, "");
}

}  // namespace
}  // namespace tandem::model::cuda
