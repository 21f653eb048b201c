// Phase 4: what is left of the token budget goes to prompts, in chunks.
#include <algorithm>
#include <cmath>
#include <limits>

#include "common/check.h"
#include "common/prompt_order.h"
#include "worker/engine/engine.h"

namespace tandem::engine {
namespace {

// Steps seen before the fit may shorten others.
constexpr int64_t kStepsToTrust = 50;
// Of max_step_tokens: what prompts get in a step however little time there is.
constexpr int kLeastShare = 8;

constexpr int64_t kOverdue = std::numeric_limits<int64_t>::min();

// For a heap whose top is served first: the least score, then the earliest arrival.
constexpr auto kServedLater = [](const auto& a, const auto& b) {
  return a.score != b.score ? a.score > b.score : a.seq->id > b.seq->id;
};

bool IsPatient(const Sequence& seq) { return seq.priority < 0; }

}  // namespace

void Engine::PlanPrefills(Nanos now) {
  if (BudgetLeft() == 0) return;
  RankCandidates(now);
  while (BudgetLeft() > 0) {
    Sequence* seq = NextCandidate();
    if (seq == nullptr) return;
    if (ChunkFor(*seq, IsPatient(*seq)) == 0) {
      if (IsPatient(*seq)) continue;  // others may go on
      return;
    }
    if (InThisPlan(*seq)) continue;
    if (!seq->has_slot()) {
      if (Sequence* ahead = ComputingSamePrefix(*seq)) {
        // Held, not computed twice; the one ahead is served in its place, so that a patient
        // sequence does not keep an urgent one waiting.
        if (ahead->state == SeqState::kPrefill && !InThisPlan(*ahead)) {
          AddChunk(*ahead, IsPatient(*ahead) && IsPatient(*seq));
        }
        continue;
      }
      if (!TryStart(*seq, now)) {
        // Smaller ones behind it may not take the blocks that it waits for, or it would starve.
        DropWaitingCandidates();
        continue;
      }
    }
    AddChunk(*seq, IsPatient(*seq));
  }
}

void Engine::RankCandidates(Nanos now) {
  candidates_.clear();
  for (Sequence* seq : running_) {
    if (seq->state == SeqState::kPrefill && !seq->preempting) {
      candidates_.push_back({Score(*seq, now), seq});
    }
  }
  if (!free_slots_.empty()) {
    for (Sequence* seq : waiting_) {
      if (!seq->mask_pending) candidates_.push_back({Score(*seq, now), seq});
    }
  }
  std::make_heap(candidates_.begin(), candidates_.end(), kServedLater);
}

void Engine::DropWaitingCandidates() {
  std::erase_if(candidates_, [](const Candidate& c) { return !c.seq->has_slot(); });
  std::make_heap(candidates_.begin(), candidates_.end(), kServedLater);
}

Sequence* Engine::NextCandidate() {
  if (candidates_.empty()) return nullptr;
  std::pop_heap(candidates_.begin(), candidates_.end(), kServedLater);
  Sequence* seq = candidates_.back().seq;
  candidates_.pop_back();
  return seq;
}

// engine.planning.ageing
int64_t Engine::Score(const Sequence& seq, Nanos now) const {
  const int remaining = seq.has_slot() ? seq.prefill_target - seq.num_planned
                                       : seq.num_tokens() - seq.cached_estimate;
  if (now - seq.arrival >= options_.max_prompt_age) return kOverdue;  // ties go by arrival
  return PromptScore(remaining, now - seq.arrival, seq.priority);
}

// The running sequence that is about to publish the first block that `seq` lacks, or null. It ends:
// that sequence publishes the block, stops publishing, or loses its slot (engine.planning.hold).
Sequence* Engine::ComputingSamePrefix(Sequence& seq) {
  const int matched = blocks_.MatchPrefix(seq);
  seq.cached_estimate = matched * limits_.block_size;
  if (matched == seq.max_cached_blocks(limits_.block_size)) return nullptr;
  const auto missing = static_cast<size_t>(matched);
  const int covered = (matched + 1) * limits_.block_size;
  for (Sequence* other : running_) {
    if (other->ended() || other->preempting || other->publish_stopped) continue;
    if (other->num_computed >= covered || other->prefill_target < covered) continue;
    if (other->pooling == Pooling::kMean) continue;  // publishes nothing
    if (other->block_hashes[missing] == seq.block_hashes[missing]) return other;
  }
  return nullptr;
}

// Blocks for all known tokens at once, so that a prefill never runs short half-way; and one spare
// block for each that runs, or the next decodes would preempt what was just started.
bool Engine::TryStart(Sequence& seq, Nanos now) {
  if (free_slots_.empty()) return false;
  if (!blocks_.Start(seq, seq.num_tokens(), static_cast<int>(running_.size()))) return false;
  Account(seq, IdleShare(seq), now);
  const int cached = seq.num_published * limits_.block_size;
  if (!seq.was_started) {
    seq.timings.num_cached_tokens = cached;
    seq.tokens.reserve(static_cast<size_t>(seq.num_prompt_tokens + seq.max_output_tokens));
    seq.block_table.reserve(static_cast<size_t>(limits_.max_blocks_per_seq));
    seq.was_started = true;
  }
  seq.state = SeqState::kPrefill;
  seq.num_computed = seq.num_planned = cached;
  seq.prefill_target = seq.num_tokens();
  seq.num_blocks_planned = 0;
  seq.started = false;
  seq.slot = free_slots_.back();
  free_slots_.pop_back();
  waiting_.erase(std::find(waiting_.begin(), waiting_.end(), &seq));
  const auto more_important = [](const Sequence* a, const Sequence* b) {
    return a->priority != b->priority ? a->priority > b->priority : a->id < b->id;
  };
  running_.insert(std::upper_bound(running_.begin(), running_.end(), &seq, more_important), &seq);
  return true;
}

void Engine::AddChunk(Sequence& seq, bool patient) {
  const int remaining = seq.prefill_target - seq.num_planned;
  const int num_tokens = std::min(remaining, ChunkFor(seq, patient));
  if (num_tokens == 0) return;
  const bool last = num_tokens == remaining;
  building_->prefill_attention += static_cast<int64_t>(AttentionWork(seq.num_planned, num_tokens));
  AddRow(seq, num_tokens, last);
  if (last) seq.state = SeqState::kDecode;
}

// Tokens of seq that this step still has room and time for (engine.planning.chunks, .patient).
int Engine::ChunkFor(const Sequence& seq, bool patient) const {
  const int planned = static_cast<int>(building_->tokens.size()) - building_->plan.num_decodes;
  int most = std::min(BudgetLeft(), options_.max_chunk_tokens);
  Nanos time = options_.max_step_time;
  if (patient) {
    most = std::clamp(std::max(1, limits_.max_step_tokens / kPatientPart) - planned, 0, most);
    time /= kPatientPart;
  }
  if (options_.max_step_time == 0 || building_->plan.num_decodes == 0 ||
      step_model_.num_observed() < kStepsToTrust) {
    return most;
  }
  const LatencyModel::Coefficients& cost = step_model_.coefficients();
  const double left =
      static_cast<double>(time) / kSecond - step_model_.Seconds(FeaturesOf(*building_));
  // c tokens after s cost c * token + (s * c + c * c / 2) * pair.
  const double linear = cost.prefill_token + cost.attention * seq.num_planned;
  const double root = std::sqrt(linear * linear + 2 * cost.attention * std::max(0.0, left));
  const double fits = linear + root > 0 ? 2 * std::max(0.0, left) / (linear + root) : most;
  // Whatever the fit says, prompts go on.
  const int least = std::max(1, limits_.max_step_tokens / kLeastShare) - planned;
  return std::clamp(static_cast<int>(std::min<double>(fits, most)), std::clamp(least, 0, most),
                    most);
}

}  // namespace tandem::engine
