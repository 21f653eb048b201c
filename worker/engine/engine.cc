#include "worker/engine/engine.h"

#include <algorithm>

#include "common/check.h"

namespace tandem::engine {

int Engine::ContextOf(const EngineOptions& options) {
  const int64_t pool = int64_t{options.num_blocks} * options.block_size;
  return static_cast<int>(std::min<int64_t>(options.max_context, pool));
}

PlanLimits Engine::LimitsOf(const EngineOptions& options) {
  return {.max_rows = std::min(options.max_seqs, options.max_step_tokens),
          .max_step_tokens = options.max_step_tokens,
          .max_blocks_per_seq = (ContextOf(options) + options.block_size - 1) / options.block_size,
          .block_size = options.block_size,
          .mask_words = MaskWords(options.vocab_size)};
}

Engine::Engine(EngineOptions options)
    : options_(std::move(options)),
      limits_(LimitsOf(options_)),
      context_(ContextOf(options_)),
      blocks_(options_.num_blocks, options_.block_size) {
  TANDEM_CHECK(context_ > 0 && limits_.max_rows > 0 && options_.vocab_size > 0)
      << "context " << context_ << ", rows " << limits_.max_rows << ", vocabulary "
      << options_.vocab_size;
  for (int32_t slot = limits_.max_rows - 1; slot >= 0; --slot) free_slots_.push_back(slot);
  const auto rows = static_cast<size_t>(limits_.max_rows);
  running_.reserve(rows);
  for (PlanBuffer& buffer : buffers_) {
    buffer.rows.reserve(rows);
    buffer.seqs.reserve(rows);
    buffer.tokens.reserve(static_cast<size_t>(limits_.max_step_tokens));
    buffer.new_blocks.reserve(rows * static_cast<size_t>(limits_.max_blocks_per_seq));
  }
  load_.queue.reserve(kMaxQueueEntries);
}

void Engine::Handle(Inbound&& inbound, Nanos now, std::unique_ptr<TokenFilter> filter) {
  if (auto* generate = std::get_if<Generate>(&inbound)) {
    Add(std::move(*generate), std::move(filter), now);
  } else if (const auto* cancel = std::get_if<Cancel>(&inbound)) {
    CancelKey(cancel->key, now);
  } else {
    CancelRouter(std::get<RouterLost>(inbound).router, now);
  }
}

const StepPlan* Engine::Plan(Nanos now) {
  if (AwaitsToken()) return nullptr;
  BeginPlan();
  ExpireDeadlines(now);
  if (num_masks_pending_ > 0) FillPendingMasks(now);
  PlanDecodes();
  PlanPrefills(now);
  if (building_->rows.empty()) return nullptr;
  if (num_in_flight_ == 0 || oldest_in_flight().rows.empty()) in_flight_since_ = now;
  return &FinishPlan();
}

// What a filtered sequence may draw next depends on the token that it is drawing now. The whole
// plan waits for that, and not the sequence alone: it would else get a token every other step.
bool Engine::AwaitsToken() const {
  return num_filtered_ > 0 && std::any_of(running_.begin(), running_.end(), [](const Sequence* s) {
           return s->filter != nullptr && s->num_sampling_in_flight > 0 && !s->ended();
         });
}

const StepPlan& Engine::PlanIdle() {
  BeginPlan();
  return FinishPlan();
}

void Engine::BeginPlan() {
  TANDEM_CHECK(num_in_flight_ < 2) << "two plans are in flight already";
  building_ = &buffers_[(last_step_number_ + 1) % 2];
  building_->rows.clear();
  building_->seqs.clear();
  building_->tokens.clear();
  building_->new_blocks.clear();
  building_->biases.clear();
  building_->masks.clear();
  building_->context_tokens = 0;
  building_->prefill_attention = 0;
  building_->plan = {};
}

const StepPlan& Engine::FinishPlan() {
  StepPlan& plan = building_->plan;
  plan.step = ++last_step_number_;
  plan.rows = building_->rows;
  plan.tokens = building_->tokens;
  plan.new_blocks = building_->new_blocks;
  plan.biases = building_->biases;
  plan.masks = building_->masks;
  ++num_in_flight_;
  return plan;
}

Engine::PlanBuffer& Engine::oldest_in_flight() {
  TANDEM_CHECK(num_in_flight_ > 0) << "no plan is in flight";
  return buffers_[(last_step_number_ + 1 - static_cast<uint64_t>(num_in_flight_)) % 2];
}

int Engine::BudgetLeft() const {
  return limits_.max_step_tokens - static_cast<int>(building_->tokens.size());
}

StepFeatures Engine::FeaturesOf(const PlanBuffer& buffer) {
  const double decodes = buffer.plan.num_decodes;
  return {.prefill_tokens = static_cast<double>(buffer.tokens.size()) - decodes,
          .attention = static_cast<double>(buffer.prefill_attention),
          .decodes = decodes,
          .context_tokens = static_cast<double>(buffer.context_tokens)};
}

// The caller has made sure that the block table covers the tokens.
void Engine::AddRow(Sequence& seq, int num_tokens, bool last) {
  PlanRow row;
  row.slot = seq.slot;
  row.num_tokens = num_tokens;
  row.first_token = static_cast<int32_t>(building_->tokens.size());
  row.first_block = static_cast<int32_t>(building_->new_blocks.size());
  row.num_blocks = static_cast<int32_t>(seq.block_table.size()) - seq.num_blocks_planned;
  row.num_biases = static_cast<int32_t>(seq.biases.size());
  row.sampling = seq.sampling;
  if (!seq.started) {
    row.flags |= kRowStart;
    row.start = seq.num_planned;
    row.first_bias = static_cast<int32_t>(building_->biases.size());
    building_->biases.insert(building_->biases.end(), seq.biases.begin(), seq.biases.end());
    seq.started = true;
  }
  if (seq.pooling == Pooling::kMean) row.flags |= kRowAddToMean;
  if (last) {
    row.flags |= seq.pooling == Pooling::kNone ? kRowSample : kRowEmbed;
    if (seq.filter != nullptr) {
      row.mask = static_cast<int32_t>(building_->masks.size()) / limits_.mask_words;
      building_->masks.insert(building_->masks.end(), seq.mask.begin(), seq.mask.end());
    }
    const auto output = static_cast<size_t>(seq.num_output_tokens() + seq.num_sampling_in_flight++);
    if (output < seq.forced.size()) row.forced_token = seq.forced[output];
  }
  for (int p = seq.num_planned; p < seq.num_planned + num_tokens; ++p) {
    building_->tokens.push_back(p < seq.num_tokens() ? seq.tokens[static_cast<size_t>(p)]
                                                     : kLastSampled);
  }
  for (; seq.num_blocks_planned < static_cast<int>(seq.block_table.size());
       ++seq.num_blocks_planned) {
    building_->new_blocks.push_back(
        seq.block_table[static_cast<size_t>(seq.num_blocks_planned)].value);
  }
  building_->rows.push_back(row);
  building_->seqs.push_back(&seq);
  seq.num_planned += num_tokens;
  seq.last_step = last_step_number_ + 1;
  ++seq.num_in_flight;
}

void Engine::TakeOutputs(std::vector<Output>& out) {
  for (Output& used : out) {
    if (spare_outputs_.size() < 2 * running_.capacity()) spare_outputs_.push_back(std::move(used));
  }
  out.clear();
  std::swap(out, outputs_);
  outputs_.reserve(out.capacity());
}

void Engine::TakeKvEvents(std::vector<KvEvent>& out) { blocks_.TakeEvents(out); }

uint64_t Engine::Snapshot(std::vector<KvEvent>& out) const { return blocks_.Snapshot(out); }

void Engine::ClearCache() { blocks_.Clear(); }

}  // namespace tandem::engine
