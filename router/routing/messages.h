// What a router says to groups and hears from them, as plain types: router/link translates them to
// and from the wire, router/http acts on them. GroupPort and GroupListener are the two ends of that
// meeting, so that link and http need not know each other.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "common/grammar_spec.h"
#include "common/hash.h"
#include "common/ids.h"

namespace tandem::routing {

// What a sequence is for: tokens, or one embedding of its prompt, made of the hidden state of its
// last token or of the mean of all.
enum class Pooling : uint8_t { kNone, kLast, kMean };

struct GenerateRequest {
  RequestId request = 0;  // of this router; the link adds the router's nonce
  uint32_t attempt = 0;
  uint32_t index = 0;  // which of the request's n sequences
  std::vector<TokenId> prompt;
  int32_t max_tokens = 0;
  float temperature = 1, top_p = 1, min_p = 0;
  int32_t top_k = 0;  // 0: off
  float repetition_penalty = 1, presence_penalty = 0, frequency_penalty = 0;
  uint64_t seed = 0;  // always set: the router draws absent ones
  int32_t num_logprobs = -1;
  std::vector<TokenId> stop_ids;
  int32_t min_tokens = 0;  // before them no stop id is drawn
  std::vector<std::pair<TokenId, float>> logit_bias;
  std::vector<TokenId> forced;       // internal hook of tests
  grammar::GrammarSpec grammar;      // of the reply's text
  Pooling pooling = Pooling::kNone;  // else max_tokens is 0
  std::string cache_salt;
  int32_t priority = 0;
  Nanos deadline_in = 0;
};

// What a group says of itself when it comes up.
struct GroupInfo {
  GroupId id;
  std::string name;
  Nonce incarnation = 0;
  std::string model;        // name in the cluster file
  std::string fingerprint;  // of model + tokenizer
  std::string hash_seed;
  int block_size = 0;
  int tp = 0;
  std::string dtype;         // "int8/bf16": activations / KV
  std::string device_class;  // "cpu/avx512_vnni"
  int max_context = 0;
  int max_seqs = 0;
  int max_step_tokens = 0;
  int num_blocks = 0;
  int embedding_size = 0;  // floats; 0: it computes none
  Nanos watchdog = 0;      // how long a step may take
};

enum class FinishReason : uint8_t { kNone, kStop, kLength, kCancelled, kDeadline, kError };

// Whose fault a kError is: the group's, the client's (its grammar's), or nobody's (the queue is
// full).
enum class ErrorKind : uint8_t { kInternal, kInvalid, kGrammar, kBusy };

// Worker-side part of the latency account; see docs/architecture.md.
struct WorkerTimings {
  Nanos queue = 0, prefill = 0, waiting = 0, decode = 0, preempted = 0;
  Nanos inbox = 0;   // received from the wire to drained by the engine
  Nanos outbox = 0;  // committed to handed to the wire
  int32_t num_preemptions = 0, num_cached_tokens = 0, num_computed_tokens = 0;
};

struct TopLogprob {
  TokenId token = 0;
  float logprob = 0;
};
struct TokenLogprob {
  float logprob = 0;
  std::vector<TopLogprob> top;
};

// New tokens of one sequence.
struct SequenceTokens {
  RequestId request = 0;
  uint32_t attempt = 0, index = 0;
  int32_t first_index = 0;
  std::vector<TokenId> tokens;
  std::vector<TokenLogprob> logprobs;  // empty, or parallel to tokens
  std::vector<float> embedding;        // of a pooled one, with kStop
  FinishReason finish = FinishReason::kNone;
  WorkerTimings timings;
  std::string error;  // one line, with kError
  ErrorKind error_kind = ErrorKind::kInternal;
};

// Numbered 1, 2, 3, ... for each GroupId by the link, which repairs gaps itself: a kCleared as soon
// as there is one, later a kStored for each block the group holds, parents before children.
struct KvEvent {
  enum class Kind : uint8_t { kStored, kRemoved, kCleared };
  uint64_t number = 0;
  Kind kind = Kind::kStored;
  BlockHash hash, parent;
};

struct QueueEntry {
  int32_t remaining_tokens = 0;  // in no step yet
  int32_t prompt_tokens = 0;
  Nanos age = 0;
  int32_t priority = 0;
};

// What the steps that a group had begun or planned, but not finished, when it reported have in
// them. While they are fewer than two it plans another one at once.
struct WorkInFlight {
  int32_t num_steps = 0;
  Nanos elapsed = 0;  // since the oldest began
  int32_t prefill_tokens = 0, num_decodes = 0;
  int64_t prefill_attention = 0, context_tokens = 0;
};

struct GroupLoad {
  int32_t num_running = 0, num_waiting = 0;
  int64_t queued_tokens = 0, context_tokens = 0;
  int32_t free_blocks = 0, total_blocks = 0;
  std::vector<QueueEntry> queue;
  RequestId last_request_seen = 0;  // of this router, in the order in which they arrived there
  uint64_t step = 0;                // 0: no step ended since the report before; no timing either
  Nanos step_duration = 0;
  int32_t step_prefill_tokens = 0, step_decodes = 0;
  int64_t step_prefill_attention = 0;  // (query, key) pairs of its prefill, see latency_model.h
  int64_t step_context_tokens = 0;
  WorkInFlight in_flight;  // `queue` and `queued_tokens` leave it out
};

// One step of one group, as this router is told of it.
struct StepReport {
  GroupId group;
  std::vector<SequenceTokens> sequences;
  std::vector<KvEvent> kv_events;
  GroupLoad load;
  Nanos received_at = 0;  // router's clock, when it left the socket
};

// Implemented by whoever serves requests; called within the link's work: hand over, do not act.
class GroupListener {
 public:
  virtual ~GroupListener() = default;
  virtual void OnGroupUp(const GroupInfo& info) = 0;
  virtual void OnStep(StepReport report) = 0;
  // Every sequence sent there and not finished is lost; nothing more comes from this GroupId.
  virtual void OnGroupLost(GroupId group, const std::string& reason) = 0;
  // The group takes nothing new but finishes what it holds.
  virtual void OnGroupDraining(GroupId group) = 0;
};

// Implemented by router/link. Its thread; never blocks. Messages to a group keep their order; those
// to a group that is gone are dropped (OnGroupLost tells).
class GroupPort {
 public:
  virtual ~GroupPort() = default;
  virtual void Send(GroupId group, GenerateRequest request) = 0;
  virtual void Cancel(GroupId group, RequestId request, uint32_t attempt, uint32_t index) = 0;
};

}  // namespace tandem::routing
