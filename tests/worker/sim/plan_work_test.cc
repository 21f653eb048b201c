#include "worker/sim/plan_work.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <ctime>
#include <random>
#include <string>

#include "worker/engine/engine.h"

namespace tandem::sim {
namespace {

PlanRow Start(int slot, int cached, int num_tokens) {
  PlanRow row;
  row.slot = slot;
  row.flags = kRowStart;
  row.start = cached;
  row.num_tokens = num_tokens;
  return row;
}

TEST(PlanWork, FollowsLengthsFromTheCachedOneOn) {
  PlanWork ranks(2);
  PlanRow rows[2];
  rows[0] = Start(/*slot=*/1, /*cached=*/32, 100);
  StepPlan plan;
  plan.rows = {rows, 1};
  StepWork work = ranks.Apply(plan);
  EXPECT_EQ(work.prefill_tokens, 100);
  EXPECT_DOUBLE_EQ(work.prefill_attention, 32 * 100 + 100 * 100 / 2);
  EXPECT_EQ(work.num_decodes, 0);
  EXPECT_EQ(ranks.length(1), 132);

  rows[0] = {};
  rows[0].slot = rows[0].num_tokens = 1;
  rows[1] = Start(/*slot=*/0, /*cached=*/0, 8);
  plan.rows = {rows, 2};
  plan.num_decodes = 1;
  work = ranks.Apply(plan);
  EXPECT_EQ(work.num_decodes, 1);
  EXPECT_EQ(work.context_tokens, 133);
  EXPECT_EQ(work.prefill_tokens, 8);
  EXPECT_DOUBLE_EQ(work.prefill_attention, 32);
}

// What ranks work out from plans is what the engine says of its steps.
TEST(PlanWork, AgreesWithTheEngine) {
  const char* given = std::getenv("TANDEM_SEED");
  const auto seed =
      given != nullptr ? std::stoul(given) : static_cast<unsigned long>(time(nullptr));
  SCOPED_TRACE("TANDEM_SEED=" + std::to_string(seed));
  std::mt19937_64 rng(seed);
  engine::EngineOptions options;
  options.num_blocks = 40;  // few, so that some are preempted
  options.max_context = 400;
  options.vocab_size = 1000;
  options.max_seqs = 6;
  options.max_step_tokens = 48;
  engine::Engine engine(options);
  PlanWork ranks(engine::Engine::LimitsOf(options).max_rows);
  std::vector<RowResult> results(static_cast<size_t>(options.max_seqs));
  Nanos now = 1;
  RequestId last = 0;
  int steps = 0;
  for (int turn = 0; turn < 3000; ++turn) {
    if (last < 60 && rng() % 8 == 0) {
      engine::Generate request;
      request.key = {1, ++last, 0, 0};
      request.prompt.assign(1 + rng() % 200, static_cast<TokenId>(rng() % 3));
      request.max_tokens = static_cast<int32_t>(1 + rng() % 40);
      engine.Handle(std::move(request), now);
    }
    const StepPlan* plan = engine.Plan(++now);
    if (plan == nullptr) continue;
    const StepWork work = ranks.Apply(*plan);
    for (RowResult& result : results) result.token = static_cast<TokenId>(rng() % 1000);
    engine.Commit(results, now, now + 1);
    const engine::StepTiming& timing = engine.last_step();
    ASSERT_EQ(work.prefill_tokens, timing.prefill_tokens);
    ASSERT_EQ(work.num_decodes, timing.num_decodes);
    ASSERT_EQ(work.context_tokens, timing.context_tokens);
    ++steps;
  }
  EXPECT_GT(steps, 100);
}

}  // namespace
}  // namespace tandem::sim
