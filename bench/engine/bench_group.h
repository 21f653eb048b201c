// One group of ranks for benchmarks: the engine, the forward pass and the shared-memory
// communicator that serve, without links to routers. Rank 0 is the caller, the others are forked.
#pragma once

#include <sys/types.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/status.h"
#include "kernels/comm/communicator.h"
#include "worker/engine/engine.h"
#include "worker/link/plan_ring.h"
#include "worker/link/shared_region.h"
#include "worker/model/model_runner.h"

namespace tandem::bench {

class BenchGroup {
 public:
  // Forks tp - 1 processes and loads the model in all. REQUIRES: no other thread runs.
  // `shard.kv_memory_bytes` is the whole group's.
  static StatusOr<std::unique_ptr<BenchGroup>> Start(const model::ShardOptions& shard, int tp);
  ~BenchGroup();  // ends the processes
  BenchGroup(const BenchGroup&) = delete;
  BenchGroup& operator=(const BenchGroup&) = delete;

  engine::Engine& engine() { return *engine_; }
  const model::ModelInfo& info() const { return runner_->info(); }

  // Plans, runs on all ranks and commits one step. False: nothing was left to do.
  StatusOr<bool> Step();

 private:
  BenchGroup() = default;
  Status MapMemory(const model::ShardOptions& shard, int tp);
  void ForkRanks(const model::ShardOptions& shard, int tp);
  [[noreturn]] void ServeRank(const model::ShardOptions& shard, int rank, int tp);
  StatusOr<int> LoadRank(const model::ShardOptions& shard, int rank, int tp);
  engine::EngineOptions engine_options(const model::ShardOptions& shard, int num_blocks) const;

  link::SharedRegion comm_memory_, ring_memory_;
  std::vector<pid_t> ranks_;
  std::unique_ptr<kernels::Communicator> comm_;
  std::unique_ptr<model::ModelRunner> runner_;
  std::optional<link::PlanRing> ring_;
  std::optional<engine::Engine> engine_;
  std::vector<RowResult> results_;
};

}  // namespace tandem::bench
