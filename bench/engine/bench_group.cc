#include "bench/engine/bench_group.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "common/clock.h"
#include "kernels/comm/local_communicator.h"
#include "kernels/comm/shm_communicator.h"

namespace tandem::bench {
namespace {

constexpr size_t kRoundBytes = 1 << 20;

template <class T>
std::span<std::byte> Bytes(std::vector<T>& values) {
  return std::as_writable_bytes(std::span(values));
}

}  // namespace

engine::EngineOptions BenchGroup::engine_options(const model::ShardOptions& shard,
                                                 int num_blocks) const {
  engine::EngineOptions options;
  options.num_blocks = num_blocks;
  options.block_size = shard.block_size;
  options.max_context = shard.max_context;
  options.max_seqs = shard.max_seqs;
  options.max_step_tokens = shard.max_step_tokens;
  if (runner_ != nullptr) {
    options.max_context = runner_->info().max_context;
    options.vocab_size = runner_->info().vocab_size;
    options.hash_seed = runner_->info().fingerprint;
  }
  return options;
}

StatusOr<std::unique_ptr<BenchGroup>> BenchGroup::Start(const model::ShardOptions& shard, int tp) {
  std::unique_ptr<BenchGroup> group(new BenchGroup());
  TANDEM_RETURN_IF_ERROR(group->MapMemory(shard, tp));
  group->ForkRanks(shard, tp);
  TANDEM_ASSIGN_OR_RETURN(const int num_blocks, group->LoadRank(shard, 0, tp));
  group->engine_.emplace(group->engine_options(shard, num_blocks));
  return group;
}

Status BenchGroup::MapMemory(const model::ShardOptions& shard, int tp) {
  const size_t comm_bytes = kernels::ShmCommunicator::RequiredBytes(tp, kRoundBytes);
  TANDEM_ASSIGN_OR_RETURN(comm_memory_, link::SharedRegion::Create(comm_bytes));
  kernels::ShmCommunicator::Format(comm_memory_.bytes(), tp, kRoundBytes);
  // How many blocks there are is known after loading, too late to share the ring's memory: room
  // for plans of as many as a sequence can have.
  const int most_blocks = (shard.max_context + shard.block_size - 1) / shard.block_size;
  const PlanLimits limits = engine::Engine::LimitsOf(engine_options(shard, most_blocks));
  TANDEM_ASSIGN_OR_RETURN(ring_memory_,
                          link::SharedRegion::Create(link::PlanRing::RequiredBytes(limits, tp)));
  link::PlanRing::Format(ring_memory_.bytes(), limits, tp);
  return OkStatus();
}

void BenchGroup::ForkRanks(const model::ShardOptions& shard, int tp) {
  const pid_t parent = getpid();
  for (int rank = 1; rank < tp; ++rank) {
    const pid_t pid = fork();
    if (pid == 0) {
      ranks_.clear();
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (getppid() != parent) _exit(1);
      ServeRank(shard, rank, tp);
    }
    ranks_.push_back(pid);
  }
}

// Loads this rank's shard; the number of blocks is the least of all ranks'.
StatusOr<int> BenchGroup::LoadRank(const model::ShardOptions& shard, int rank, int tp) {
  if (tp == 1) {
    comm_ = std::make_unique<kernels::LocalCommunicator>();
  } else {
    TANDEM_ASSIGN_OR_RETURN(comm_,
                            kernels::ShmCommunicator::Attach(comm_memory_.bytes(), rank, tp));
  }
  TANDEM_ASSIGN_OR_RETURN(link::PlanRing ring, link::PlanRing::Attach(ring_memory_.bytes(), tp));
  ring_.emplace(ring);
  auto runner = model::ModelRunner::Load(shard, *comm_);
  if (!runner.ok()) {
    comm_->Abort();
    return runner.status();
  }
  runner_ = std::move(runner).value();
  std::vector<int> mine = {runner_->info().num_blocks}, all(tp);
  const std::vector<size_t> sizes(tp, sizeof(int));
  comm_->AllGather(Bytes(mine), sizes, Bytes(all));
  TANDEM_RETURN_IF_ERROR(comm_->Poll());
  const int num_blocks = *std::min_element(all.begin(), all.end());
  results_.resize(shard.max_seqs);
  TANDEM_RETURN_IF_ERROR(runner_->Prepare(num_blocks));
  return num_blocks;
}

void BenchGroup::ServeRank(const model::ShardOptions& shard, int rank, int tp) {
  Status status = LoadRank(shard, rank, tp).status();
  StepPlan plan;
  while (status.ok() && ring_->WaitNext(rank, plan) == link::PlanRing::Next::kPlan) {
    status = runner_->Run(plan, results_);
    ring_->Done(rank);
  }
  if (!status.ok()) {
    std::fprintf(stderr, "rank %d: %s\n", rank, std::string(Message(status)).c_str());
    if (comm_ != nullptr) comm_->Abort();
  }
  _exit(status.ok() ? 0 : 1);
}

BenchGroup::~BenchGroup() {
  if (ring_) ring_->Shutdown();
  if (comm_ != nullptr && !engine_) comm_->Abort();  // Start failed half-way
  for (const pid_t pid : ranks_) waitpid(pid, nullptr, 0);
}

StatusOr<bool> BenchGroup::Step() {
  const StepPlan* next = engine_->Plan(MonotonicNow());
  if (next == nullptr) return false;
  if (!ring_->Publish(*next, kSecond * 60)) return Unavailable("a rank is gone");
  const Nanos start = MonotonicNow();
  StepPlan plan;
  if (ring_->WaitNext(0, plan) != link::PlanRing::Next::kPlan) {
    return Unavailable("a rank is gone");
  }
  TANDEM_RETURN_IF_ERROR(runner_->Run(plan, results_));
  ring_->Done(0);
  engine_->Commit(results_, start, MonotonicNow());
  return true;
}

}  // namespace tandem::bench
