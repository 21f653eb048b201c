// What ranks on several hosts tell each other instead of sharing memory: how far each has come
// (state) and the plans. Each process has a roll call and a plan ring of its own; this says what is
// in them and writes into them what the others say, so that whoever looks at them need not know.
//
// The leader tells all ranks of all ranks, the others tell the leader of themselves. A plan brings
// the leader's state along, from which follows that there is room for it.
//
// Thread: Keep, Plan and the rest may each be on a thread of their own.
#pragma once

#include <atomic>
#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "worker/link/plan_ring.h"
#include "worker/link/roll_call.h"

namespace tandem::link {

class GroupMirror {
 public:
  GroupMirror(int rank, int tp) : rank_(rank), tp_(tp) {}

  // Each once: from now on it is told of.
  void Keep(const RollCall& roll_call);
  void Keep(const PlanRing& ring);
  bool has_roll_call() const { return has_roll_call_.load(std::memory_order_acquire); }

  // REQUIRES: has_roll_call().
  std::vector<std::byte> State() const;
  // Written over `frame`, whose memory is used again. REQUIRES: the ring is there.
  void Plan(const StepPlan& plan, Nanos limit, std::vector<std::byte>& frame) const;

  enum class Taken { kYes, kNotYet, kNonsense };  // not yet: what it is about is not there
  Taken TakeState(int from, std::span<const std::byte> state);
  Taken TakePlan(int from, std::span<const std::byte> plan);

 private:
  size_t StateBytes() const;
  void AppendState(std::vector<std::byte>& state) const;
  bool has_ring() const { return has_ring_.load(std::memory_order_acquire); }

  const int rank_;
  const int tp_;
  std::optional<RollCall> roll_call_;
  std::optional<PlanRing> ring_;
  std::atomic<bool> has_roll_call_{false};
  std::atomic<bool> has_ring_{false};
  // Of the plan that is being taken.
  std::vector<PlanRow> rows_;
  std::vector<TokenId> tokens_;
  std::vector<int32_t> blocks_;
  std::vector<TokenBias> biases_;
  std::vector<uint32_t> masks_;
};

}  // namespace tandem::link
