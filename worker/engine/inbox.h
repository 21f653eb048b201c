// What may enter and leave the engine, as plain types: link/ translates messages into these, so
// that engine/ never sees Protobuf and tests or the simulator can feed it directly.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "common/grammar_spec.h"
#include "common/hash.h"
#include "common/ids.h"
#include "common/token_bias.h"
#include "worker/step_plan.h"

namespace tandem::engine {

enum class FinishReason : uint8_t {
  kNone,       // still running
  kStop,       // sampled one of the stop ids (the id is the last token)
  kLength,     // max_tokens or the context limit
  kCancelled,  // the client went away, or a router was lost
  kDeadline,   // its deadline passed before the first token
  kError,      // see Output::error
};

// Whose fault a kError is.
enum class ErrorKind : uint8_t {
  kInternal,  // the group's, or its router's
  kInvalid,   // the client's: nobody can serve this
  kGrammar,   // the client's: what it says of the reply's form
  kBusy,      // the queue is full: later, or elsewhere
};

// What a sequence is for: tokens, or one embedding made of its prompt's hidden states.
enum class Pooling : uint8_t {
  kNone,  // tokens
  kLast,  // that of the last token
  kMean,  // their mean, for which every token is computed: no cached block is used
};

struct Generate {
  SequenceKey key;
  std::vector<TokenId> prompt;  // >= 1 token
  SamplingSpec sampling;
  int32_t max_tokens = 0;         // >= 1
  std::vector<TokenId> stop_ids;  // end the sequence when sampled
  int32_t min_tokens = 0;         // output tokens before which no stop id is drawn
  std::vector<TokenBias> biases;  // with those that min_tokens needs: at most kMaxTokenBiases
  std::vector<TokenId> forced;    // internal hook: the i-th output token is forced[i], if present
  grammar::GrammarSpec grammar;   // of the reply's text; kNone: any
  std::string cache_salt;         // sequences share KV blocks only under equal salts
  int32_t priority = 0;           // higher runs first; ties by arrival
  Nanos deadline_in = 0;          // from arrival; 0: none
  Pooling pooling = Pooling::kNone;  // else nothing above that is about output means anything
};

struct Cancel {
  SequenceKey key;
};

// A router is gone: cancel all it sent.
struct RouterLost {
  Nonce router = 0;
};

using Inbound = std::variant<Generate, Cancel, RouterLost>;

// Where one sequence's time on the worker went. All durations; queue + prefill + waiting + decode +
// preempted = time since arrival, up to the last commit.
struct SequenceTimings {
  Nanos queue = 0;      // arrival to the first plan that has it
  Nanos prefill = 0;    // steps in which its prompt was computed
  Nanos waiting = 0;    // admitted, but the step computed others' tokens only
  Nanos decode = 0;     // steps in which it decoded
  Nanos preempted = 0;  // blocks taken away, until recomputed
  int32_t num_preemptions = 0;
  int32_t num_cached_tokens = 0;    // prompt tokens found in the prefix cache at admission
  int32_t num_computed_tokens = 0;  // prompt tokens computed (chunks; recomputation counted too)
};

// New tokens of one sequence in one step. Every sequence ends with exactly one Output whose finish
// is not kNone, a cancelled one too.
struct Output {
  SequenceKey key;
  int32_t first_index = 0;          // of tokens[0] among the sequence's output tokens
  std::vector<TokenId> tokens;      // may be empty when finish is set
  std::vector<RowResult> logprobs;  // parallel to tokens if asked for, else empty
  std::vector<float> embedding;     // of a pooled sequence, with finish == kStop
  FinishReason finish = FinishReason::kNone;
  SequenceTimings timings;  // as of this step
  std::string error;        // one line, with finish == kError
  ErrorKind error_kind = ErrorKind::kInternal;
};

// One numbered change of the prefix cache: Stored after the block is computed, Removed when its
// contents go, Cleared when all do.
struct KvEvent {
  enum class Kind : uint8_t { kStored, kRemoved, kCleared };
  uint64_t number = 0;  // 1, 2, 3, ... in one incarnation
  Kind kind = Kind::kStored;
  BlockHash hash;    // kStored, kRemoved
  BlockHash parent;  // kStored: hash before it (the root hash for a first block)
};

// The group's load as of the end of a step. Lengths of queued prompts beyond kMaxQueueEntries are
// counted in the totals only.
struct QueueEntry {
  int32_t remaining_tokens = 0;  // prompt tokens in no plan yet
  int32_t prompt_tokens = 0;
  Nanos age = 0;
  int32_t priority = 0;
};
inline constexpr int kMaxQueueEntries = 64;

// What the plans in flight have in them: what must be over before anything else is computed.
struct WorkInFlight {
  int32_t num_steps = 0;  // that have rows
  Nanos elapsed = 0;      // since the oldest of them began
  int32_t prefill_tokens = 0;
  int32_t num_decodes = 0;
  int64_t prefill_attention = 0;  // see StepTiming
  int64_t context_tokens = 0;
};

struct Load {
  int32_t num_running = 0;     // decoding, or about to: the rest of the prompt is in flight
  int32_t num_waiting = 0;     // with prompt tokens that are in no plan yet
  int64_t queued_tokens = 0;   // these tokens
  int64_t context_tokens = 0;  // KV tokens of the running ones
  int32_t free_blocks = 0;
  int32_t total_blocks = 0;
  std::vector<QueueEntry> queue;
  WorkInFlight in_flight;
};

// What a step took and had in it: what a router fits its latency model to.
struct StepTiming {
  uint64_t step = 0;
  Nanos duration = 0;  // start of compute to sampled
  int32_t prefill_tokens = 0;
  int32_t num_decodes = 0;
  int64_t prefill_attention = 0;  // sum over chunks of c tokens after s: s * c + c * c / 2
  int64_t context_tokens = 0;     // KV tokens that the decodes read
};

}  // namespace tandem::engine
