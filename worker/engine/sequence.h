// One generation in progress on this group. Plain state: beside each field stands who may change
// it, and the engine thread is the only one that may.
//
//   kWaiting ──▶ kPrefill ──▶ kDecode ──▶ kFinished
//      ▲            │            │           (from any state: cancelled, expired)
//      └────────────┴────────────┘ preempted: blocks and slot given away
//
// *Finished* is not *may be freed*: a plan in flight may still name the sequence, so its slot and
// blocks go back only when num_in_flight is 0 (engine.ownership.in_flight).
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "common/hash.h"
#include "common/ids.h"
#include "common/prefetch.h"
#include "worker/engine/inbox.h"
#include "worker/engine/token_filter.h"
#include "worker/step_plan.h"

namespace tandem::engine {

enum class SeqState : uint8_t { kWaiting, kPrefill, kDecode, kFinished };

struct Sequence {
  SeqId id = 0;      // in order of arrival
  size_t index = 0;  // in the engine's list of all sequences
  SequenceKey key;
  SeqState state = SeqState::kWaiting;

  // Fixed at admission.
  SamplingSpec sampling;
  std::vector<TokenId> stop_ids;
  std::vector<TokenBias> biases;        // by token; those of min_tokens too
  std::vector<TokenId> forced;          // the i-th output token is forced[i], if present
  std::unique_ptr<TokenFilter> filter;  // has accepted the output of `tokens`; null: none
  std::vector<uint32_t> mask;           // of the next token; empty: no filter
  bool mask_pending = false;            // it is not known: nothing is sampled
  Pooling pooling = Pooling::kNone;     // else it ends with its prompt, and has no output tokens
  BlockHash root;                       // parent of the first block's hash
  int num_prompt_tokens = 0;
  int max_output_tokens = 0;  // clamped to the context
  int min_output_tokens = 0;  // no stop id ends it before
  int32_t priority = 0;
  Nanos arrival = 0;
  Nanos deadline = 0;  // 0: none

  // Commit(): what is known.
  std::vector<TokenId> tokens;          // prompt, then output
  std::vector<BlockHash> block_hashes;  // of full blocks of `tokens`; kMean: none, ever
  int num_computed = 0;                 // KV exists for tokens [0, this)

  // Plan(): what is known plus what is in flight.
  int num_planned = 0;             // KV exists for tokens [0, this) once all plans have run
  int num_in_flight = 0;           // plans not yet committed that have a row of this sequence
  int num_sampling_in_flight = 0;  // those of them that sample, or give the embedding
  int prefill_target = 0;          // tokens known when it got its slot: computed by chunks
  uint64_t last_step = 0;          // newest plan that has a row of it
  bool preempting = false;         // gives its blocks away once nothing is in flight

  // BlockManager.
  std::vector<BlockId> block_table;  // entry i covers [i*B, (i+1)*B)
  int num_published = 0;             // leading blocks that are findable by hash
  bool publish_stopped = false;      // an equal block was published by another: see Publish()

  int32_t slot = -1;           // on the ranks; -1: none
  bool started = false;        // its kRowStart was planned since it got the slot
  int num_blocks_planned = 0;  // leading blocks of the table that plans have told the ranks

  // Accounting.
  int cached_estimate = 0;   // tokens found in the cache when last looked up
  int recompute_until = 0;   // tokens below this were computed before a preemption
  bool was_started = false;  // has ever had a slot
  Nanos accounted = 0;       // `timings` cover [arrival, accounted)
  SequenceTimings timings;

  int num_tokens() const { return static_cast<int>(tokens.size()); }
  int num_output_tokens() const { return num_tokens() - num_prompt_tokens; }
  bool ended() const { return state == SeqState::kFinished; }
  bool has_slot() const { return slot >= 0; }
  // Leading blocks that may be found in the cache: at least one token is computed.
  int max_cached_blocks(int block_size) const {
    return std::min((num_tokens() - 1) / block_size, static_cast<int>(block_hashes.size()));
  }
  const BlockHash& parent_hash(int block) const {
    return block == 0 ? root : block_hashes[static_cast<size_t>(block) - 1];
  }
};

struct SequenceKeyHasher {
  size_t operator()(const SequenceKey& key) const {
    const uint64_t low = key.request * 0x9e3779b97f4a7c15ULL + key.index;
    return static_cast<size_t>((low ^ (low >> 32) ^ key.router) * 0xbf58476d1ce4e5b9ULL +
                               key.attempt);
  }
};

// Asks for what a step reads and writes of it: loops over running sequences are slow only where
// many engines share a core's caches, as in the simulator.
inline void Prefetch(const Sequence& seq) {
  const char* const bytes = reinterpret_cast<const char*>(&seq);
  for (size_t line = 0; line < sizeof(Sequence); line += 64) PrefetchLine(bytes + line);
}

// Hashes the blocks of seq.tokens that have become full.
void ExtendHashes(Sequence& seq, int block_size);

}  // namespace tandem::engine
