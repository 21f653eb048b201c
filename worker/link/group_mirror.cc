#include "worker/link/group_mirror.h"

#include <cstring>
#include <type_traits>

namespace tandem::link {
namespace {

struct RankState {
  uint32_t beats = 0;
  uint32_t ready = 0;
  uint32_t started = 0;
  uint32_t done = 0;
};

// Followed by a RankState for each rank.
struct StateHeader {
  uint32_t aborted = 0;
  uint32_t shut_down = 0;
  uint32_t drain_requested = 0;
};

// After the state; followed by rows, tokens, blocks, biases and masks.
struct PlanHeader {
  uint64_t step = 0;
  Nanos limit = 0;
  int32_t num_decodes = 0;
  uint32_t num_rows = 0;
  uint32_t num_tokens = 0;
  uint32_t num_blocks = 0;
  uint32_t num_biases = 0;
  uint32_t num_mask_words = 0;
};

template <class T>
void Append(std::vector<std::byte>& to, std::span<const T> from) {
  static_assert(std::is_trivially_copyable_v<T>);
  const auto bytes = std::as_bytes(from);
  to.insert(to.end(), bytes.begin(), bytes.end());
}
template <class T>
void AppendOne(std::vector<std::byte>& to, const T& from) {
  Append(to, std::span<const T>(&from, 1));
}

// Moves what was copied out of `from`.
template <class T>
bool Copy(std::span<const std::byte>& from, std::span<T> to) {
  if (from.size() < to.size_bytes()) return false;
  if (!to.empty()) std::memcpy(to.data(), from.data(), to.size_bytes());
  from = from.subspan(to.size_bytes());
  return true;
}

template <class T>
bool CopyMany(std::span<const std::byte>& from, size_t count, std::vector<T>& to) {
  if (count > from.size() / sizeof(T)) return false;
  to.resize(count);
  return Copy(from, std::span(to));
}

}  // namespace

void GroupMirror::Keep(const RollCall& roll_call) {
  roll_call_ = roll_call;
  has_roll_call_.store(true, std::memory_order_release);
}

void GroupMirror::Keep(const PlanRing& ring) {
  ring_ = ring;
  has_ring_.store(true, std::memory_order_release);
}

size_t GroupMirror::StateBytes() const {
  return sizeof(StateHeader) + sizeof(RankState) * static_cast<size_t>(tp_);
}

std::vector<std::byte> GroupMirror::State() const {
  std::vector<std::byte> state;
  state.reserve(StateBytes());
  AppendState(state);
  return state;
}

void GroupMirror::AppendState(std::vector<std::byte>& state) const {
  StateHeader header;
  const bool ring = has_ring();
  if (ring) {
    header = {ring_->aborted() ? 1u : 0u, ring_->shut_down() ? 1u : 0u,
              ring_->drain_requested() ? 1u : 0u};
  }
  AppendOne(state, header);
  for (int r = 0; r < tp_; ++r) {
    RankState one;
    const bool told = rank_ == 0 || r == rank_;
    if (told) one.beats = roll_call_->beats(r);
    if (told) one.ready = roll_call_->ready(r) ? 1 : 0;
    if (told && ring) {
      one.started = ring_->num_started(r);
      one.done = ring_->num_done(r);
    }
    AppendOne(state, one);
  }
}

void GroupMirror::Plan(const StepPlan& plan, Nanos limit, std::vector<std::byte>& frame) const {
  frame.clear();
  AppendState(frame);
  PlanHeader header;
  header.step = plan.step;
  header.limit = limit;
  header.num_decodes = plan.num_decodes;
  header.num_rows = static_cast<uint32_t>(plan.rows.size());
  header.num_tokens = static_cast<uint32_t>(plan.tokens.size());
  header.num_blocks = static_cast<uint32_t>(plan.new_blocks.size());
  header.num_biases = static_cast<uint32_t>(plan.biases.size());
  header.num_mask_words = static_cast<uint32_t>(plan.masks.size());
  AppendOne(frame, header);
  Append(frame, plan.rows);
  Append(frame, plan.tokens);
  Append(frame, plan.new_blocks);
  Append(frame, plan.biases);
  Append(frame, plan.masks);
}

GroupMirror::Taken GroupMirror::TakeState(int from, std::span<const std::byte> state) {
  if (state.size() != StateBytes()) return Taken::kNonsense;
  if (!has_roll_call()) return Taken::kYes;  // the next one will do
  StateHeader header;
  Copy(state, std::span(&header, 1));
  const bool ring = has_ring();
  for (int r = 0; r < tp_; ++r) {
    RankState one;
    Copy(state, std::span(&one, 1));
    if (r == rank_ || (from != 0 && r != from)) continue;
    roll_call_->Copy(r, one.beats, one.ready != 0);
    if (ring) ring_->CopyProgress(r, one.started, one.done);
  }
  if (!ring) return Taken::kYes;
  if (header.aborted != 0) ring_->Abort();
  if (header.shut_down != 0 && from == 0) ring_->Shutdown();
  if (header.drain_requested != 0 && rank_ == 0) ring_->RequestDrain();
  return Taken::kYes;
}

GroupMirror::Taken GroupMirror::TakePlan(int from, std::span<const std::byte> plan) {
  if (from != 0 || plan.size() < StateBytes()) return Taken::kNonsense;
  if (!has_ring()) return Taken::kNotYet;
  if (TakeState(from, plan.first(StateBytes())) != Taken::kYes) return Taken::kNonsense;
  plan = plan.subspan(StateBytes());
  PlanHeader header;
  if (!Copy(plan, std::span(&header, 1)) || !CopyMany(plan, header.num_rows, rows_) ||
      !CopyMany(plan, header.num_tokens, tokens_) || !CopyMany(plan, header.num_blocks, blocks_) ||
      !CopyMany(plan, header.num_biases, biases_) ||
      !CopyMany(plan, header.num_mask_words, masks_) || !plan.empty()) {
    return Taken::kNonsense;
  }
  StepPlan step;
  step.step = header.step;
  step.num_decodes = header.num_decodes;
  step.rows = rows_;
  step.tokens = tokens_;
  step.new_blocks = blocks_;
  step.biases = biases_;
  step.masks = masks_;
  if (!ring_->Fits(step) || !ring_->HasRoom()) return Taken::kNonsense;
  (void)ring_->Publish(step, header.limit);  // false: aborted, and whoever waits will hear of it
  return Taken::kYes;
}

}  // namespace tandem::link
