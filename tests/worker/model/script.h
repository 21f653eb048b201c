// Step plans for tests of the forward pass: sequences as a test thinks of them (prompt, chunks, how
// many tokens, when it starts) become the plans of a whole run. What a sequence samples is not
// known beforehand and need not be: decodes say kLastSampled.
#pragma once

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "common/check.h"
#include "tests/support/spawn_ranks.h"
#include "worker/model/model_runner.h"

namespace tandem::model {

inline constexpr int kTestBlockSize = 16;

struct TestSequence {
  std::vector<TokenId> prompt;
  int num_new = 1;  // tokens to sample
  // num_prompt_tokens 0: those of `prompt`.
  SamplingSpec sampling = {};
  std::vector<TokenId> forced = {};
  int first_step = 0;
  int chunk = 1 << 20;               // most prompt tokens a step
  std::vector<int32_t> blocks = {};  // of all its tokens; filled by MakeScript if empty
  int num_cached = 0;                // leading tokens that `blocks` hold already
  int slot = -1;                     // -1: its number; else nobody else's at that time
  uint32_t pool = 0;  // kRowEmbed, with kRowAddToMean or not: instead of a sample; num_new is 1
};

// One step of one sequence.
struct TestRow {
  PlanRow row;
  std::vector<TokenId> tokens;
  std::vector<int32_t> blocks;
  int sequence = 0;  // index into the script's sequences
};

struct TestPlan {
  std::vector<PlanRow> rows;
  std::vector<TokenId> tokens;
  std::vector<int32_t> blocks;
  std::vector<int> sequences;  // of rows
  int num_decodes = 0;

  void Add(const TestRow& r) {
    PlanRow row = r.row;
    row.num_tokens = static_cast<int32_t>(r.tokens.size());
    row.first_token = static_cast<int32_t>(tokens.size());
    row.num_blocks = static_cast<int32_t>(r.blocks.size());
    row.first_block = static_cast<int32_t>(blocks.size());
    rows.push_back(row);
    tokens.insert(tokens.end(), r.tokens.begin(), r.tokens.end());
    blocks.insert(blocks.end(), r.blocks.begin(), r.blocks.end());
    sequences.push_back(r.sequence);
  }
  StepPlan View(uint64_t step) const {
    StepPlan plan;
    plan.step = step;
    plan.num_decodes = num_decodes;
    plan.rows = rows;
    plan.tokens = tokens;
    plan.new_blocks = blocks;
    return plan;
  }
};

// The rows of one sequence, in order.
inline std::vector<TestRow> RowsOf(const TestSequence& s, int index) {
  std::vector<TestRow> rows;
  const int prompt = static_cast<int>(s.prompt.size());
  int length = s.num_cached;
  int num_blocks = 0;
  const auto add = [&](std::vector<TokenId> tokens, bool samples) {
    TestRow r;
    r.sequence = index;
    r.row.slot = s.slot >= 0 ? s.slot : index;
    if (rows.empty()) r.row.flags |= kRowStart;
    if (samples) r.row.flags |= s.pool == 0 ? kRowSample : kRowEmbed;
    r.row.flags |= s.pool & kRowAddToMean;
    r.row.start = rows.empty() ? s.num_cached : 0;
    r.row.sampling = s.sampling;
    if (s.sampling.num_prompt_tokens == 0) r.row.sampling.num_prompt_tokens = prompt;
    r.tokens = std::move(tokens);
    length += static_cast<int>(r.tokens.size());
    while (num_blocks * kTestBlockSize < length) r.blocks.push_back(s.blocks.at(num_blocks++));
    const int output = length - prompt;
    if (samples && output < static_cast<int>(s.forced.size())) {
      r.row.forced_token = s.forced[output];
    }
    rows.push_back(std::move(r));
  };
  while (length < prompt) {
    const int end = std::min(length + s.chunk, prompt);
    add({s.prompt.begin() + length, s.prompt.begin() + end}, end == prompt);
  }
  for (int i = 1; i < s.num_new; ++i) add({kLastSampled}, true);
  return rows;
}

// Gives sequences without blocks their own, from `next_block` on.
inline std::vector<TestPlan> MakeScript(std::vector<TestSequence> sequences, int next_block = 0) {
  std::vector<TestPlan> plans;
  std::vector<std::vector<TestRow>> chunks;
  const auto at = [&](size_t step) -> TestPlan& {
    if (plans.size() <= step) plans.resize(step + 1), chunks.resize(step + 1);
    return plans[step];
  };
  for (size_t i = 0; i < sequences.size(); ++i) {
    TestSequence& s = sequences[i];
    if (s.blocks.empty()) {
      const int tokens = static_cast<int>(s.prompt.size()) + s.num_new;
      for (int t = 0; t < tokens; t += kTestBlockSize) s.blocks.push_back(next_block++);
    }
    size_t step = s.first_step;
    for (TestRow& row : RowsOf(s, static_cast<int>(i))) {
      at(step);
      if (row.tokens[0] == kLastSampled) {
        plans[step].Add(row);
        ++plans[step].num_decodes;
      } else {
        chunks[step].push_back(std::move(row));
      }
      ++step;
    }
  }
  for (size_t step = 0; step < plans.size(); ++step) {
    for (const TestRow& row : chunks[step]) plans[step].Add(row);
  }
  return plans;
}

// What each sequence sampled, in order.
using ScriptResults = std::vector<std::vector<RowResult>>;

inline bool SameBits(const RowResult& a, const RowResult& b) {
  return a.token == b.token && std::memcmp(&a.logprob, &b.logprob, sizeof(float)) == 0 &&
         a.num_top == b.num_top && std::equal(a.top_ids, a.top_ids + a.num_top, b.top_ids) &&
         std::memcmp(a.top_logprobs, b.top_logprobs, a.num_top * sizeof(float)) == 0;
}

// Appends what a step sampled to its sequences' results.
inline void TakeStep(const TestPlan& plan, const std::vector<RowResult>& step,
                     ScriptResults& results) {
  for (size_t r = 0; r < plan.rows.size(); ++r) {
    const size_t sequence = plan.sequences[r];
    if (results.size() <= sequence) results.resize(sequence + 1);
    if (plan.rows[r].flags & kRowSample) {
      results[sequence].push_back(step[r]);
    } else {
      TANDEM_CHECK(step[r].token == -1) << "a row that does not sample has a token";
    }
  }
}

// Runs the plans on `runner` from step `first_step` on. Aborts on an error.
inline ScriptResults RunPlans(ModelRunner& runner, const std::vector<TestPlan>& plans,
                              uint64_t first_step = 1) {
  ScriptResults results;
  std::vector<RowResult> step(256);
  for (size_t i = 0; i < plans.size(); ++i) {
    const Status status = runner.Run(plans[i].View(first_step + i), step);
    TANDEM_CHECK(status.ok()) << Message(status);
    TakeStep(plans[i], step, results);
  }
  return results;
}

// As the rank loop does it: step n + 1 is begun before n is finished.
inline ScriptResults RunPlansAhead(ModelRunner& runner, const std::vector<TestPlan>& plans) {
  TANDEM_CHECK(runner.max_in_flight() >= 2) << runner.max_in_flight();
  ScriptResults results;
  std::vector<RowResult> step(256);
  for (size_t i = 0; i <= plans.size(); ++i) {
    if (i < plans.size()) {
      const Status begun = runner.Begin(plans[i].View(i + 1));
      TANDEM_CHECK(begun.ok()) << Message(begun);
    }
    if (i == 0) continue;
    const Status finished = runner.Finish(step);
    TANDEM_CHECK(finished.ok()) << Message(finished);
    TakeStep(plans[i - 1], step, results);
  }
  return results;
}

// The same on every rank of a group of `tp` threads; aborts unless all ranks have the same bits.
inline ScriptResults RunScript(const ShardOptions& options, int tp,
                               const std::vector<TestPlan>& plans, int num_blocks) {
  std::vector<ScriptResults> by_rank(tp);
  tandem::testing::SpawnRanks(tp, [&](kernels::Communicator& comm) {
    auto runner = ModelRunner::Load(options, comm);
    TANDEM_CHECK(runner.ok()) << Message(runner.status());
    const Status prepared = (*runner)->Prepare(num_blocks);
    TANDEM_CHECK(prepared.ok()) << Message(prepared);
    by_rank[comm.rank()] = RunPlans(**runner, plans);
  });
  for (int r = 1; r < tp; ++r) {
    for (size_t s = 0; s < by_rank[0].size(); ++s) {
      TANDEM_CHECK(std::equal(by_rank[0][s].begin(), by_rank[0][s].end(), by_rank[r][s].begin(),
                              by_rank[r][s].end(), SameBits))
          << "ranks 0 and " << r << " differ in sequence " << s;
    }
  }
  return by_rank[0];
}

}  // namespace tandem::model
