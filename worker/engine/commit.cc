// What a step gave: KV that now exists is published, sampled tokens become outputs, and what was
// only waiting for this step to be over is freed.
#include <algorithm>

#include "common/check.h"
#include "worker/engine/engine.h"

namespace tandem::engine {
namespace {

// Floats of each embedding of a step.
size_t WidthOf(std::span<const PlanRow> rows, std::span<const float> embeddings) {
  const auto count = static_cast<size_t>(std::count_if(
      rows.begin(), rows.end(), [](const PlanRow& row) { return (row.flags & kRowEmbed) != 0; }));
  TANDEM_CHECK(count > 0 && !embeddings.empty() && embeddings.size() % count == 0)
      << embeddings.size() << " floats for " << count << " embeddings";
  return embeddings.size() / count;
}

}  // namespace

void Engine::Commit(std::span<const RowResult> results, Nanos step_start, Nanos now,
                    std::span<const float> embeddings) {
  PlanBuffer& buffer = oldest_in_flight();
  --num_in_flight_;
  const size_t num_rows = buffer.rows.size();
  TANDEM_CHECK(results.size() >= num_rows) << results.size() << " results, " << num_rows << " rows";
  const auto num_decodes = static_cast<size_t>(buffer.plan.num_decodes);
  size_t width = 0;  // of an embedding; 0: not looked at yet
  for (size_t i = 0; i < num_rows; ++i) {
    if (i + 2 < num_rows) Prefetch(*buffer.seqs[i + 2]);
    const PlanRow& row = buffer.rows[i];
    std::span<const float> embedding;
    if ((row.flags & kRowEmbed) != 0) {
      if (width == 0) width = WidthOf(buffer.rows, embeddings);
      embedding = embeddings.first(width);
      embeddings = embeddings.subspan(width);
    }
    CommitRow(*buffer.seqs[i], row, i < num_decodes, results[i], embedding, now);
  }
  for (Sequence* seq : running_) Account(*seq, IdleShare(*seq), now);  // those without a row
  in_flight_since_ = now;
  step_model_.Observe(FeaturesOf(buffer), now - step_start);
  last_step_ = {.step = buffer.plan.step,
                .duration = now - step_start,
                .prefill_tokens = static_cast<int32_t>(buffer.tokens.size() - num_decodes),
                .num_decodes = buffer.plan.num_decodes,
                .prefill_attention = buffer.prefill_attention,
                .context_tokens = buffer.context_tokens};
}

void Engine::CommitRow(Sequence& seq, const PlanRow& row, bool decode, const RowResult& result,
                       std::span<const float> embedding, Nanos now) {
  --seq.num_in_flight;
  seq.num_sampling_in_flight -= (row.flags & (kRowSample | kRowEmbed)) != 0;
  if (!seq.ended()) {  // else an overrun: neither its token nor its KV counts
    Account(seq, BusyShare(seq, decode), now);
    if (!decode) seq.timings.num_computed_tokens += row.num_tokens;
    seq.num_computed += row.num_tokens;
    if ((row.flags & kRowSample) != 0) {
      AppendToken(seq, result);
    } else {
      blocks_.Publish(seq);
      if ((row.flags & kRowEmbed) != 0) GiveEmbedding(seq, embedding);
    }
  }
  ReleaseIfIdle(seq);
}

void Engine::AppendToken(Sequence& seq, const RowResult& result) {
  TANDEM_CHECK(result.token >= 0 && result.token < options_.vocab_size)
      << "sampled " << result.token << " of a vocabulary of " << options_.vocab_size;
  Output& output = NewOutput(seq.key);
  output.first_index = seq.num_output_tokens();
  output.tokens.push_back(result.token);
  if (seq.sampling.num_logprobs >= 0) output.logprobs.push_back(result);
  output.timings = seq.timings;
  seq.tokens.push_back(result.token);
  ExtendHashes(seq, limits_.block_size);
  blocks_.Publish(seq);
  FinishReason reason = FinishOf(seq);
  if (seq.filter != nullptr) reason = Filter(seq, reason, output);
  if (reason != FinishReason::kNone) Finish(seq, output, reason);
}

void Engine::GiveEmbedding(Sequence& seq, std::span<const float> embedding) {
  Output& output = NewOutput(seq.key);
  output.embedding.assign(embedding.begin(), embedding.end());
  output.timings = seq.timings;
  Finish(seq, output, FinishReason::kStop);
}

FinishReason Engine::FinishOf(const Sequence& seq) const {
  const auto& stops = seq.stop_ids;
  // None is drawn too early, but a forced one may come.
  if (seq.num_output_tokens() > seq.min_output_tokens &&
      std::find(stops.begin(), stops.end(), seq.tokens.back()) != stops.end()) {
    return FinishReason::kStop;
  }
  return seq.num_output_tokens() >= seq.max_output_tokens ? FinishReason::kLength
                                                          : FinishReason::kNone;
}

Output& Engine::NewOutput(const SequenceKey& key) {
  if (spare_outputs_.empty()) {
    outputs_.emplace_back();
  } else {
    outputs_.push_back(std::move(spare_outputs_.back()));
    spare_outputs_.pop_back();
  }
  Output& output = outputs_.back();
  output.key = key;
  output.first_index = 0;
  output.tokens.clear();
  output.logprobs.clear();
  output.embedding.clear();
  output.finish = FinishReason::kNone;
  output.timings = {};
  output.error.clear();
  output.error_kind = ErrorKind::kInternal;
  return output;
}

}  // namespace tandem::engine
