// The step plans of one group in memory that its ranks share, and how far each rank has come.
//
//   region = header | progress of each rank | kSlots slots of fixed size
//
// The leader's engine thread publishes plan n + 1 while n runs; each rank's model thread, rank 0's
// too, takes the plans in order and says when it is done with one. A slot is used again once all
// ranks are done with it. Counts wrap; only differences mean something.
//
// A PlanRing is a view: one for each thread that needs it, over memory that outlives it.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "common/ids.h"
#include "common/status.h"
#include "worker/link/bell.h"
#include "worker/step_plan.h"

namespace tandem::link {

class PlanRing {
 public:
  static constexpr int kSlots = 4;

  static size_t RequiredBytes(const PlanLimits& limits, int ranks);

  // Makes `region` ready, once. REQUIRES: aligned to 128 bytes, RequiredBytes long.
  static void Format(std::span<std::byte> region, const PlanLimits& limits, int ranks);

  // kInvalidArgument if the region was not formatted for `ranks` ranks.
  static StatusOr<PlanRing> Attach(std::span<std::byte> region, int ranks);

  // Leader's engine thread. Copies `plan` and shows it to the ranks; `limit` is how long the step
  // may take. Waits while the slot is still read. False: the group has ended.
  [[nodiscard]] bool Publish(const StepPlan& plan, Nanos limit);

  // Whether a plan is within the limits, and whether Publish would not wait.
  bool Fits(const StepPlan& plan) const;
  bool HasRoom() const { return SlotIsFree(num_published()); }

  enum class Next { kPlan, kShutdown, kAborted };

  // A rank's model thread: waits for the plan that follows the last one it was done with, and
  // `ahead` more that it was given since. The plan's spans are valid until it is done with it.
  Next WaitNext(int rank, StepPlan& plan, int ahead = 0);
  // Whether WaitNext would not wait for that plan.
  bool HasNext(int rank, int ahead) const;
  void Done(int rank);  // with the oldest plan it was given

  // How far a rank whose memory is another one has come; less than is known already changes
  // nothing.
  void CopyProgress(int rank, uint32_t started, uint32_t done);

  // Any thread. Shutdown: ranks return kShutdown after the plans published so far.
  void Shutdown();
  void Abort();
  bool aborted() const;
  bool shut_down() const;

  // Any rank asks the leader to finish what it has and shut the group down; the leader looks.
  void RequestDrain();
  bool drain_requested() const;

  // For the watchdog. `num_published` and `num_done(rank)` count plans.
  uint32_t num_published() const;
  uint32_t num_done(int rank) const;
  uint32_t num_started(int rank) const;
  // Of the plan `index`, counted from 0. REQUIRES: published, and not done by all ranks.
  Nanos limit(uint32_t index) const;

  int ranks() const;
  const PlanLimits& limits() const;

 private:
  struct Header;
  struct Progress;
  struct Slot;

  explicit PlanRing(std::span<std::byte> region);
  Progress& progress(int rank) const;
  Slot& slot(uint32_t index) const;
  bool SlotIsFree(uint32_t index) const;

  Header* header_;
  std::byte* progress_;
  std::byte* slots_;
};

}  // namespace tandem::link
