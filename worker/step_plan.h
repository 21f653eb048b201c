// What every rank computes in one step. The same bytes on every rank: ranks that follow equal plans
// cannot diverge. Built by engine::Engine, carried by link/, read by model/.
//
// Ranks hold state by *slot* (one per running sequence): its block table, its length (tokens whose
// KV exists) and the token it sampled last. A plan only says what changes, so that it stays small
// and can be made while the step before still runs: positions follow from the length a rank holds,
// and kLastSampled stands for a token that is not known yet.
//
// A plan lives in a buffer of fixed size (PlanLayout), so it can be copied into shared memory as it
// is. Thread: the engine writes, then publishes; readers only read.
#pragma once

#include <cstdint>
#include <span>

#include "common/ids.h"
#include "common/token_bias.h"

namespace tandem {

// In StepPlan::tokens: what this row's slot sampled in the step before.
inline constexpr TokenId kLastSampled = -1;

// How one sequence draws its tokens. Plain bytes: it crosses processes.
struct SamplingSpec {
  float temperature = 0;  // 0: greedy, ties to the lowest id
  float top_p = 1;        // (0, 1]
  float min_p = 0;        // [0, 1)
  int32_t top_k = 0;      // 0: off
  uint64_t seed = 0;      // the generator's key is (seed, sequence_index, position)
  uint32_t sequence_index = 0;
  int32_t num_logprobs = -1;  // -1: none; n >= 0: of the token and of the n most likely (<= 20)
  // Over the sequence's tokens so far; see kernels/sampling.h.
  float repetition_penalty = 1;   // > 0; 1: off
  float presence_penalty = 0;     // 0: off
  float frequency_penalty = 0;    // 0: off
  int32_t num_prompt_tokens = 0;  // tokens of the sequence before this are not output

  bool penalized() const {
    return repetition_penalty != 1 || presence_penalty != 0 || frequency_penalty != 0;
  }
};

inline constexpr int kMaxLogprobs = 20;

enum RowFlags : uint32_t {
  kRowStart = 1,   // slot begins anew: empty block table, length = PlanRow::start
  kRowSample = 2,  // the last query token's logits are sampled (always so for a decode)
  // Pooling of hidden states, as they are after the last norm.
  kRowAddToMean = 4,  // those of all query tokens go into the slot's mean, which kRowStart empties
  kRowEmbed = 8,  // gives an embedding: the mean, or without kRowAddToMean the last token's state
};

struct PlanRow {
  int32_t slot = 0;
  uint32_t flags = 0;
  int32_t start = 0;          // with kRowStart: cached tokens that need no computing, else unused
  int32_t num_tokens = 0;     // query tokens, >= 1; their positions are length, length + 1, ...
  int32_t first_token = 0;    // offset into StepPlan::tokens
  int32_t first_block = 0;    // offset into StepPlan::new_blocks
  int32_t num_blocks = 0;     // appended to the slot's block table before computing
  int32_t first_bias = 0;     // offset into StepPlan::biases, with kRowStart: the slot keeps them
  int32_t num_biases = 0;     // of the slot, in every row
  int32_t forced_token = -1;  // >= 0: taken instead of the sampled one (logprobs are the model's)
  int32_t mask = -1;          // of structured output: index into StepPlan::masks; -1: none
  int32_t num_drafts = 0;     // place for speculation: the last n tokens are drafts to verify
  SamplingSpec sampling;      // read when kRowSample is set
};

// Decodes come first, then prefill chunks. After the step a slot's length has grown by the row's
// num_tokens, on every rank.
struct StepPlan {
  uint64_t step = 0;    // increases by one; a gap is a protocol error
  int num_decodes = 0;  // rows [0, this) are decodes
  std::span<const PlanRow> rows;
  std::span<const TokenId> tokens;            // of all rows, concatenated; or kLastSampled
  std::span<const int32_t> new_blocks;        // of all rows, concatenated
  std::span<const TokenBias> biases;          // of the rows that start; each row's by token
  std::span<const uint32_t> masks;            // PlanLimits::mask_words each; see SamplingParams
  bool idle() const { return rows.empty(); }  // a no-op step: ranks meet at a barrier, no more
};

// The most a plan of this group can hold; every buffer is sized from it once.
struct PlanLimits {
  int max_rows = 0;  // max_seqs
  int max_step_tokens = 0;
  int max_blocks_per_seq = 0;
  int block_size = 0;
  int mask_words = 0;  // of one token mask: a bit a token of the vocabulary
};

inline constexpr int MaskWords(int vocab_size) { return (vocab_size + 31) / 32; }

// What one sampled row of a step gave.
struct RowResult {
  TokenId token = -1;  // -1: the row did not sample
  float logprob = 0;   // of `token`, under the model's full distribution; if num_logprobs >= 0
  int32_t num_top = 0;
  TokenId top_ids[kMaxLogprobs];     // most likely first, ties to the lowest id
  float top_logprobs[kMaxLogprobs];  // natural logarithm, temperature 1, before any truncation
};

}  // namespace tandem
