#include "worker/link/group_mirror.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "tests/support/group_in_a_folder.h"
#include "worker/link/shared_region.h"

namespace tandem::link {
namespace {

using testing::kSmallLimits;

// The memory of one process of a group of three, and what mirrors it.
struct Memory {
  explicit Memory(int rank) : mirror(rank, 3) {
    PlanRing::Format(ring_region.bytes(), kSmallLimits, 3);
    ring.emplace(*PlanRing::Attach(ring_region.bytes(), 3));
    mirror.Keep(roll_call);
    mirror.Keep(*ring);
  }

  SharedRegion roll_region = *SharedRegion::Create(RollCall::RequiredBytes(3));
  SharedRegion ring_region = *SharedRegion::Create(PlanRing::RequiredBytes(kSmallLimits, 3));
  RollCall roll_call{roll_region.bytes()};
  std::optional<PlanRing> ring;
  GroupMirror mirror;
};

std::vector<std::byte> PlanOf(const GroupMirror& mirror, const StepPlan& plan, Nanos limit) {
  std::vector<std::byte> frame(3);  // of what was sent before
  mirror.Plan(plan, limit, frame);
  return frame;
}

struct Step {
  std::vector<PlanRow> rows{3};
  std::vector<TokenId> tokens{5, 6, 7, kLastSampled};
  std::vector<int32_t> blocks{9, 8};
  std::vector<TokenBias> biases{{7, -2.5f, 40}, {9, 1}};
  std::vector<uint32_t> masks{5, 6, 7, 8};
  StepPlan plan;
  Step() {
    rows[1].slot = 2;
    rows[2].sampling.seed = 77;
    plan.step = 1;
    plan.num_decodes = 2;
    plan.rows = rows;
    plan.tokens = tokens;
    plan.new_blocks = blocks;
    plan.biases = biases;
    plan.masks = masks;
  }
};

TEST(GroupMirror, APlanIsTheSameOnAnotherHost) {
  Memory leader(0), rank(1);
  const Step step;
  ASSERT_TRUE(leader.ring->Publish(step.plan, 5 * kSecond));
  const auto bytes = PlanOf(leader.mirror, step.plan, 5 * kSecond);
  ASSERT_EQ(rank.mirror.TakePlan(0, bytes), GroupMirror::Taken::kYes);
  StepPlan there;
  ASSERT_EQ(rank.ring->WaitNext(1, there), PlanRing::Next::kPlan);
  EXPECT_EQ(there.step, 1u);
  EXPECT_EQ(there.num_decodes, 2);
  ASSERT_EQ(there.rows.size(), 3u);
  EXPECT_EQ(there.rows[1].slot, 2);
  EXPECT_EQ(there.rows[2].sampling.seed, 77u);
  EXPECT_TRUE(std::equal(there.tokens.begin(), there.tokens.end(), step.tokens.begin()));
  EXPECT_TRUE(std::equal(there.new_blocks.begin(), there.new_blocks.end(), step.blocks.begin()));
  ASSERT_EQ(there.biases.size(), 2u);
  EXPECT_EQ(there.biases[0].bias, -2.5f);
  EXPECT_EQ(there.biases[0].until, 40);
  EXPECT_TRUE(
      std::equal(there.masks.begin(), there.masks.end(), step.masks.begin(), step.masks.end()));
  EXPECT_EQ(rank.ring->limit(0), 5 * kSecond);
}

TEST(GroupMirror, ProgressGoesToTheLeaderAndFromItToAll) {
  Memory leader(0), one(1), two(2);
  const Step step;
  ASSERT_TRUE(leader.ring->Publish(step.plan, kSecond));
  ASSERT_EQ(one.mirror.TakePlan(0, PlanOf(leader.mirror, step.plan, kSecond)),
            GroupMirror::Taken::kYes);
  StepPlan taken;
  ASSERT_EQ(one.ring->WaitNext(1, taken), PlanRing::Next::kPlan);
  one.ring->Done(1);
  one.roll_call.Beat(1);
  one.roll_call.SetReady(1);
  ASSERT_EQ(leader.mirror.TakeState(1, one.mirror.State()), GroupMirror::Taken::kYes);
  ASSERT_EQ(two.mirror.TakeState(0, leader.mirror.State()), GroupMirror::Taken::kYes);
  for (const Memory* memory : {&leader, &two}) {
    EXPECT_EQ(memory->ring->num_started(1), 1u);
    EXPECT_EQ(memory->ring->num_done(1), 1u);
    EXPECT_EQ(memory->roll_call.beats(1), 1u);
    EXPECT_TRUE(memory->roll_call.ready(1));
    EXPECT_EQ(memory->ring->num_done(2), 0u);
  }
  // A state that was overtaken takes nothing back.
  ASSERT_EQ(two.mirror.TakeState(0, Memory(0).mirror.State()), GroupMirror::Taken::kYes);
  EXPECT_EQ(two.ring->num_done(1), 1u);
}

TEST(GroupMirror, EndsAndDrains) {
  Memory leader(0), rank(1);
  rank.ring->RequestDrain();
  rank.ring->Shutdown();  // is the leader's to say
  ASSERT_EQ(leader.mirror.TakeState(1, rank.mirror.State()), GroupMirror::Taken::kYes);
  EXPECT_TRUE(leader.ring->drain_requested());
  EXPECT_FALSE(leader.ring->shut_down());
  Memory other(2);
  leader.ring->Shutdown();
  ASSERT_EQ(other.mirror.TakeState(0, leader.mirror.State()), GroupMirror::Taken::kYes);
  EXPECT_TRUE(other.ring->shut_down());
  rank.ring->Abort();
  ASSERT_EQ(leader.mirror.TakeState(1, rank.mirror.State()), GroupMirror::Taken::kYes);
  EXPECT_TRUE(leader.ring->aborted());
}

TEST(GroupMirror, APlanBeforeTheRingIsForLaterAndAStateForTheNext) {
  Memory leader(0);
  GroupMirror early(1, 3);
  EXPECT_EQ(early.TakeState(0, leader.mirror.State()), GroupMirror::Taken::kYes);
  EXPECT_EQ(early.TakePlan(0, PlanOf(leader.mirror, Step().plan, kSecond)),
            GroupMirror::Taken::kNotYet);
}

TEST(GroupMirror, WhatMakesNoSenseIsNotTaken) {
  using Taken = GroupMirror::Taken;
  Memory leader(0), rank(1);
  const Step step;
  const std::vector<std::byte> good = PlanOf(leader.mirror, step.plan, kSecond);
  for (size_t size = 0; size < good.size(); ++size) {
    EXPECT_EQ(rank.mirror.TakePlan(0, std::span(good).first(size)), Taken::kNonsense) << size;
  }
  std::vector<std::byte> longer = good;
  longer.push_back({});
  EXPECT_EQ(rank.mirror.TakePlan(0, longer), Taken::kNonsense);
  EXPECT_EQ(leader.mirror.TakePlan(1, good), Taken::kNonsense);  // plans are the leader's
  EXPECT_EQ(rank.mirror.TakeState(0, longer), Taken::kNonsense);
  Step large;
  large.rows.resize(5);  // one more than there may be
  large.plan.rows = large.rows;
  EXPECT_EQ(rank.mirror.TakePlan(0, PlanOf(leader.mirror, large.plan, kSecond)), Taken::kNonsense);
  for (int i = 0; i < PlanRing::kSlots; ++i) EXPECT_EQ(rank.mirror.TakePlan(0, good), Taken::kYes);
  EXPECT_EQ(rank.mirror.TakePlan(0, good), Taken::kNonsense);  // nobody is done with any
}

}  // namespace
}  // namespace tandem::link
