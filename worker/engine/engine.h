// Chooses the work of each step and owns every sequence of a group: what comes in (inbox.h) becomes
// step plans, what the ranks sampled becomes outputs. Pure: no clock, thread, socket or log; `now`
// is an argument and never goes back, so the simulator and the tests run the code that serves.
//
//   loop:  Handle(arrivals)  Plan(n+1) while n runs  Commit(n)  TakeOutputs, TakeKvEvents, load
//
// Phases of a plan, each in its own .cc:
//   1 retire   end sequences whose deadline has passed
//   2 decode   every running sequence gets its next token
//   3 preempt  only if 2 ran out of blocks: lowest priority, then youngest
//   4 prefill  fill the rest of the token budget with chunks, shortest remaining first, ageing
//
// Guarantees (docs/engine.md): a running decode waits for no prefill longer than one token budget;
// a sequence gets the tokens it would get alone; every sequence ends with exactly one Output whose
// finish is set; nothing starves; nothing is freed while a plan in flight names it.
//
// Thread: one, the engine thread. Memory: buffers of fixed size and reused ones; a steady decode
// step does not allocate once the buffers handed back by TakeOutputs have grown.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "common/latency_model.h"
#include "worker/engine/block_manager.h"
#include "worker/engine/inbox.h"
#include "worker/engine/sequence.h"
#include "worker/engine/token_filter.h"
#include "worker/step_plan.h"

namespace tandem::engine {

struct EngineOptions {
  int num_blocks = 0;           // KV blocks of the group: the least of its ranks
  int block_size = 16;          // tokens
  int max_context = 0;          // tokens of prompt and reply together
  int vocab_size = 0;           // token ids are in [0, this)
  int max_seqs = 64;            // slots; no more than max_step_tokens are used
  int max_step_tokens = 256;    // bounds ITL: a step computes at most this many
  int max_chunk_tokens = 8192;  // of one prompt in one step
  // Bounds ITL in time: a step with decodes gets no more prompt tokens than are predicted to fit
  // into it, by a fit to the steps before, but always an eighth of max_step_tokens. 0: off.
  Nanos max_step_time = 0;
  // Prompts go in the order of common/prompt_order.h, but older ones before all others, by arrival.
  Nanos max_prompt_age = 60 * kSecond;
  bool penalties = true;   // the ranks compute them; else a request that has any: kError
  bool tokens = true;      // the model has an output matrix; else a request for tokens: kError
  bool embeddings = true;  // the ranks compute them; else a request for one: kError
  int max_queued = 4096;   // sequences waiting for a slot; beyond: kError
  std::string hash_seed;   // of the block hashes: the model's fingerprint
};

class Engine {
 public:
  // REQUIRES: every number of `options` is positive.
  explicit Engine(EngineOptions options);

  // What buffers for plans must hold; known before an Engine exists.
  static PlanLimits LimitsOf(const EngineOptions& options);
  // Tokens of prompt and reply together that this group can serve: max_context, or the whole pool.
  static int ContextOf(const EngineOptions& options);

  // Takes an arrival in. What cannot be served (empty prompt, one that does not fit, token ids out
  // of range, full queue) ends at once with kError. A Generate whose key is alive is dropped and
  // counted: an Output for it would end the one that runs. Cancel of an unknown key has no effect.
  // `filter`: of a Generate that has a grammar. `now` of a Generate is when it arrived: it may have
  // waited for its filter.
  void Handle(Inbound&& inbound, Nanos now, std::unique_ptr<TokenFilter> filter = nullptr);

  // Ends what never came in, as Handle ends what it cannot serve. REQUIRES: no such key is alive.
  void Reject(const SequenceKey& key, FinishReason reason, std::string error, ErrorKind kind);

  // The next step, or null if there is nothing to compute, or a token to wait for first: then call
  // again after a Commit or a Handle. Its spans live until the call after next of Plan or PlanIdle.
  // Null with no plan in flight means that no sequence is alive, or that those which are wait for
  // their masks. REQUIRES: num_in_flight() < 2.
  const StepPlan* Plan(Nanos now);

  // A numbered step without rows, to be committed like any other: ranks meet, nothing more.
  // REQUIRES: num_in_flight() < 2.
  const StepPlan& PlanIdle();

  // Takes the results of the oldest plan in flight: results[i] belongs to rows[i]. `step_start`:
  // when its compute began. `embeddings`: of its rows with kRowEmbed, one after the other, equally
  // long. REQUIRES: num_in_flight() > 0, results.size() >= rows.size().
  void Commit(std::span<const RowResult> results, Nanos step_start, Nanos now,
              std::span<const float> embeddings = {});

  // Replace `out` by what happened since the last call, reusing its memory. Tokens of a sequence
  // come in order; call after every Commit and after Handle.
  void TakeOutputs(std::vector<Output>& out);
  void TakeKvEvents(std::vector<KvEvent>& out);

  // All cached blocks as kStored events, parents before children, for a router that missed events:
  // replaces `out`, returns the number of the last event it includes. Their `number` is 0.
  uint64_t Snapshot(std::vector<KvEvent>& out) const;

  // Forgets the prefix cache (one kCleared event). Sequences in progress go on.
  void ClearCache();

  const Load& load(Nanos now);                                            // until the next call
  const StepTiming& last_step() const { return last_step_; }              // of the last Commit
  int num_in_flight() const { return num_in_flight_; }                    // plans, 0..2
  int num_sequences() const { return static_cast<int>(by_key_.size()); }  // that have not ended
  int num_masks_pending() const { return num_masks_pending_; }            // see TokenFilter::Fill
  uint64_t num_preemptions() const { return num_preemptions_; }
  uint64_t num_duplicates() const { return num_duplicates_; }  // Generates dropped

  // Aborts on a broken invariant of docs/engine.md. O(everything); tests only.
  void CheckInvariants() const;

 private:
  // One plan with the memory behind its spans. Two alternate.
  struct PlanBuffer {
    StepPlan plan;
    std::vector<PlanRow> rows;
    std::vector<TokenId> tokens;
    std::vector<int32_t> new_blocks;
    std::vector<TokenBias> biases;  // grows with the largest that were asked for
    std::vector<uint32_t> masks;    // too
    std::vector<Sequence*> seqs;    // of rows
    int64_t context_tokens = 0;     // of the decodes
    int64_t prefill_attention = 0;  // of the chunks
  };
  struct Candidate {
    int64_t score = 0;
    Sequence* seq = nullptr;
  };

  // admission.cc
  void Add(Generate&& request, std::unique_ptr<TokenFilter> filter, Nanos now);
  // Why it cannot be served, and whose fault that is; empty: it can.
  std::string Refusal(const Generate& request, const TokenFilter* filter, ErrorKind& kind) const;
  bool InVocabulary(std::span<const TokenId> tokens) const;
  bool IsInVocabulary(TokenId t) const { return t >= 0 && t < options_.vocab_size; }
  void CancelKey(const SequenceKey& key, Nanos now);
  void CancelRouter(Nonce router, Nanos now);

  // retire.cc
  void ExpireDeadlines(Nanos now);
  // Makes its last Output. `error`, `kind`: with kError.
  void End(Sequence& seq, FinishReason reason, Nanos now, std::string error = "",
           ErrorKind kind = ErrorKind::kInternal);
  void Finish(Sequence& seq, Output& last, FinishReason reason);
  void ReleaseIfIdle(Sequence& seq);  // frees what nothing in flight names; may destroy seq
  void GiveBack(Sequence& seq);       // slot and blocks

  // decode.cc
  void PlanDecodes();
  bool CanDecode(const Sequence& seq) const;
  bool GrowOrPreempt(Sequence& seq, int num_stalled);

  // preempt.cc
  bool MakeRoom(const Sequence& seq, int num_stalled);
  int BlocksComing() const;
  Sequence& Victim();
  void Preempt(Sequence& seq);
  void BackToWaiting(Sequence& seq);

  // prefill.cc
  void PlanPrefills(Nanos now);
  void RankCandidates(Nanos now);
  void DropWaitingCandidates();
  Sequence* NextCandidate();
  int64_t Score(const Sequence& seq, Nanos now) const;
  Sequence* ComputingSamePrefix(Sequence& seq);
  bool TryStart(Sequence& seq, Nanos now);
  void AddChunk(Sequence& seq, bool patient);
  int ChunkFor(const Sequence& seq, bool patient) const;

  // account.cc
  enum class Share : uint8_t { kQueue, kPrefill, kWaiting, kDecode, kPreempted };
  void Account(Sequence& seq, Share share, Nanos now);
  bool IsResuming(const Sequence& seq) const;
  Share IdleShare(const Sequence& seq) const;
  Share BusyShare(const Sequence& seq, bool decode) const;
  void AddToQueue(const Sequence& seq, int remaining, Nanos now);
  WorkInFlight InFlight(Nanos now) const;

  void CheckSequence(const Sequence& seq) const;  // invariants.cc

  // engine.cc
  bool AwaitsToken() const;
  void BeginPlan();
  const StepPlan& FinishPlan();
  // `last`: of what is known of it, so that it samples, or gives its embedding.
  void AddRow(Sequence& seq, int num_tokens, bool last);
  int BudgetLeft() const;
  static StepFeatures FeaturesOf(const PlanBuffer& buffer);
  bool InThisPlan(const Sequence& seq) const { return seq.last_step == last_step_number_ + 1; }
  PlanBuffer& oldest_in_flight();

  // commit.cc
  void CommitRow(Sequence& seq, const PlanRow& row, bool decode, const RowResult& result,
                 std::span<const float> embedding, Nanos now);
  void AppendToken(Sequence& seq, const RowResult& result);
  void GiveEmbedding(Sequence& seq, std::span<const float> embedding);
  FinishReason FinishOf(const Sequence& seq) const;
  // filter.cc
  TokenFilter::Filled FillMask(Sequence& seq);
  FinishReason Filter(Sequence& seq, FinishReason reason, Output& output);
  static FinishReason Continue(const Sequence& seq, TokenFilter::Filled filled, FinishReason reason,
                               Output& output);
  void FillPendingMasks(Nanos now);
  Output& NewOutput(const SequenceKey& key);

  const EngineOptions options_;
  const PlanLimits limits_;
  const int context_;
  BlockManager blocks_;

  std::vector<std::unique_ptr<Sequence>> sequences_;  // all, the ended ones in flight too
  absl::flat_hash_map<SequenceKey, Sequence*, SequenceKeyHasher>
      by_key_;                      // those that have not ended
  std::vector<Sequence*> waiting_;  // no slot; in order of arrival
  std::vector<Sequence*> running_;  // with a slot; most important first
  std::vector<int32_t> free_slots_;
  std::vector<Candidate> candidates_;  // a heap, within PlanPrefills

  PlanBuffer buffers_[2];
  PlanBuffer* building_ = nullptr;
  uint64_t last_step_number_ = 0;
  int num_in_flight_ = 0;
  Nanos in_flight_since_ = 0;  // when the oldest plan in flight that has rows began

  std::vector<Output> outputs_, spare_outputs_;
  Load load_;
  StepTiming last_step_;
  LatencyModel step_model_;
  SeqId last_seq_ = 0;
  uint64_t num_preemptions_ = 0;
  uint64_t num_duplicates_ = 0;
  int num_filtered_ = 0;  // sequences in sequences_ that have a filter
  int num_masks_pending_ = 0;
};

}  // namespace tandem::engine
