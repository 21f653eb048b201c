#include "tests/worker/engine/rank_simulator.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace tandem::engine {
namespace {

uint64_t Mix(uint64_t a, uint64_t b) {
  uint64_t x = a * 0x9e3779b97f4a7c15ULL + b + 0x632be59bd9b4e019ULL;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

// Of the last token of `prefix`: exact in a float, and so are sums of some.
float StateOf(std::span<const TokenId> prefix) {
  uint64_t state = prefix.size();
  for (const TokenId t : prefix) state = Mix(state, static_cast<uint64_t>(t));
  return static_cast<float>(state >> 48);
}

float MeanOf(double sum, int count) { return static_cast<float>(sum / count); }

}  // namespace

std::vector<float> Pooled(std::span<const TokenId> tokens, bool mean) {
  if (!mean) return {StateOf(tokens), 1};
  double sum = 0;
  for (size_t i = 1; i <= tokens.size(); ++i) sum += StateOf(tokens.first(i));
  return {MeanOf(sum, static_cast<int>(tokens.size())), 1};
}

TokenId SampleAfter(std::span<const TokenId> prefix, const SamplingSpec& sampling, int vocab_size,
                    std::span<const TokenBias> biases, std::span<const uint32_t> mask) {
  uint64_t state = Mix(sampling.seed, sampling.sequence_index);
  state = Mix(state, static_cast<uint64_t>(sampling.num_prompt_tokens));  // as penalties do
  for (const TokenId t : prefix) state = Mix(state, static_cast<uint64_t>(t));
  const uint64_t drawn = Mix(state, prefix.size());
  const auto vocab = static_cast<uint64_t>(vocab_size);
  for (uint64_t i = 0; i < vocab; ++i) {
    const auto token = static_cast<TokenId>((drawn + i) % vocab);
    const bool held = std::ranges::any_of(biases, [&](const TokenBias& b) {
      return b.token == token && static_cast<int>(prefix.size()) < b.until;
    });
    const bool masked =
        !mask.empty() && (mask[static_cast<size_t>(token) / 32] >> (token % 32) & 1) == 0;
    if (!held && !masked) return token;
  }
  return 0;
}

RankSimulator::RankSimulator(const PlanLimits& limits, int num_blocks, int vocab_size)
    : limits_(limits),
      vocab_size_(vocab_size),
      kv_(static_cast<size_t>(num_blocks) * static_cast<size_t>(limits.block_size)),
      slots_(static_cast<size_t>(limits.max_rows)) {}

void RankSimulator::Run(const StepPlan& plan, std::vector<RowResult>& results) {
  CheckShape(plan);
  results.assign(plan.rows.size(), {});
  embeddings_.clear();
  for (const PlanRow& row : plan.rows) ApplyDelta(plan, row);
  for (const PlanRow& row : plan.rows) Write(plan, row);
  for (size_t i = 0; i < plan.rows.size(); ++i) results[i] = Attend(plan, plan.rows[i]);
}

void RankSimulator::CheckShape(const StepPlan& plan) {
  EXPECT_EQ(plan.step, ++step_) << "a gap is a protocol error";
  EXPECT_LE(plan.rows.size(), static_cast<size_t>(limits_.max_rows));
  EXPECT_LE(plan.tokens.size(), static_cast<size_t>(limits_.max_step_tokens));
  std::vector<int> seen(slots_.size());
  int32_t tokens = 0, blocks = 0, biases = 0, masks = 0;
  for (size_t i = 0; i < plan.rows.size(); ++i) {
    const PlanRow& row = plan.rows[i];
    EXPECT_EQ(seen.at(static_cast<size_t>(row.slot))++, 0) << "slot " << row.slot << " twice";
    EXPECT_GE(row.num_tokens, 1);
    EXPECT_EQ(row.first_token, tokens);
    EXPECT_EQ(row.first_block, blocks);
    tokens += row.num_tokens;
    blocks += row.num_blocks;
    if (row.mask >= 0) {
      EXPECT_EQ(row.mask, masks++);
      EXPECT_TRUE(row.flags & kRowSample);
    }
    if (row.flags & kRowStart) {
      EXPECT_EQ(row.first_bias, biases);
      biases += row.num_biases;
    }
    if (i < static_cast<size_t>(plan.num_decodes)) {
      EXPECT_EQ(row.num_tokens, 1) << "decodes are one token";
      EXPECT_EQ(row.flags, kRowSample) << "decodes sample and do not start";
    }
  }
  EXPECT_EQ(static_cast<size_t>(tokens), plan.tokens.size());
  EXPECT_EQ(static_cast<size_t>(blocks), plan.new_blocks.size());
  EXPECT_EQ(static_cast<size_t>(biases), plan.biases.size());
  EXPECT_EQ(static_cast<size_t>(masks * limits_.mask_words), plan.masks.size());
}

void RankSimulator::ApplyDelta(const StepPlan& plan, const PlanRow& row) {
  Slot& slot = slots_.at(static_cast<size_t>(row.slot));
  if (row.flags & kRowStart) {
    slot = {};
    slot.live = true;
    slot.length = row.start;
    const auto first = plan.biases.begin() + row.first_bias;
    slot.biases.assign(first, first + row.num_biases);
    EXPECT_TRUE(std::ranges::is_sorted(slot.biases, {}, &TokenBias::token));
    EXPECT_EQ(row.start % limits_.block_size, 0) << "only full blocks are shared";
  }
  EXPECT_TRUE(slot.live) << "slot " << row.slot << " never started";
  EXPECT_EQ(static_cast<size_t>(row.num_biases), slot.biases.size());
  for (int i = 0; i < row.num_blocks; ++i) {
    const int32_t block = plan.new_blocks[static_cast<size_t>(row.first_block + i)];
    const int first = static_cast<int>(slot.block_table.size()) * limits_.block_size;
    slot.block_table.push_back(block);
    if (first < slot.length) continue;  // found in the prefix cache
    for (int p = first; p < first + limits_.block_size; ++p) At(slot, p) = {};
  }
  EXPECT_LE(slot.block_table.size(), static_cast<size_t>(limits_.max_blocks_per_seq));
  EXPECT_GE(slot.block_table.size() * static_cast<size_t>(limits_.block_size),
            static_cast<size_t>(slot.length + row.num_tokens))
      << "slot " << row.slot << " has no block for its last token";
}

void RankSimulator::Write(const StepPlan& plan, const PlanRow& row) {
  Slot& slot = slots_[static_cast<size_t>(row.slot)];
  for (int i = 0; i < row.num_tokens; ++i) {
    TokenId token = plan.tokens[static_cast<size_t>(row.first_token + i)];
    if (token == kLastSampled) {
      EXPECT_EQ(slot.sampled_step + 1, plan.step) << "kLastSampled is of the step before";
      token = slot.last_sampled;
    }
    EXPECT_TRUE(token >= 0 && token < vocab_size_) << token;
    KvEntry& entry = At(slot, slot.length);
    EXPECT_EQ(entry.token, -1) << "slot " << row.slot << " overwrites position " << slot.length;
    entry = {token, slot.length++, plan.step, row.slot};
    ++num_tokens_computed_;
  }
}

RowResult RankSimulator::Attend(const StepPlan& plan, const PlanRow& row) {
  Slot& slot = slots_[static_cast<size_t>(row.slot)];
  std::vector<TokenId> prefix;
  for (int p = 0; p < slot.length; ++p) {
    const KvEntry& entry = At(slot, p);
    EXPECT_NE(entry.token, -1) << "slot " << row.slot << " attends poison at " << p;
    EXPECT_EQ(entry.position, p) << "slot " << row.slot;
    EXPECT_TRUE(entry.step < plan.step || entry.slot == row.slot)
        << "slot " << row.slot << " attends what another row computes in the same step, at " << p;
    prefix.push_back(entry.token);
  }
  Pool(row, prefix);
  RowResult result;
  if (!(row.flags & kRowSample)) return result;
  std::span<const uint32_t> mask;
  if (row.mask >= 0) {
    const auto words = static_cast<size_t>(limits_.mask_words);
    mask = plan.masks.subspan(static_cast<size_t>(row.mask) * words, words);
  }
  result.token = row.forced_token >= 0
                     ? row.forced_token
                     : SampleAfter(prefix, row.sampling, vocab_size_, slot.biases, mask);
  result.logprob = -static_cast<float>(slot.length);
  slot.last_sampled = result.token;
  slot.sampled_step = plan.step;
  return result;
}

void RankSimulator::Pool(const PlanRow& row, std::span<const TokenId> prefix) {
  Slot& slot = slots_[static_cast<size_t>(row.slot)];
  const bool mean = (row.flags & kRowAddToMean) != 0;
  if (mean) {
    for (size_t n = prefix.size() - static_cast<size_t>(row.num_tokens) + 1; n <= prefix.size();
         ++n) {
      slot.sum += StateOf(prefix.first(n));
      ++slot.num_summed;
    }
  }
  if ((row.flags & kRowEmbed) == 0) return;
  EXPECT_EQ(row.flags & kRowSample, 0u) << "a row samples or embeds";
  if (mean) {
    EXPECT_EQ(slot.num_summed, slot.length) << "a state of slot " << row.slot << " is missing";
  }
  const std::vector<float> pooled =
      mean ? std::vector<float>{MeanOf(slot.sum, slot.num_summed), 1} : Pooled(prefix, false);
  embeddings_.insert(embeddings_.end(), pooled.begin(), pooled.end());
}

RankSimulator::KvEntry& RankSimulator::At(const Slot& slot, int position) {
  const int32_t block = slot.block_table.at(static_cast<size_t>(position / limits_.block_size));
  return kv_.at(static_cast<size_t>(block * limits_.block_size + position % limits_.block_size));
}

}  // namespace tandem::engine
