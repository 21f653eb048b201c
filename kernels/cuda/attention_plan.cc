#include "kernels/cuda/attention_plan.h"

#include <algorithm>

#include "common/check.h"
#include "common/round.h"

namespace tandem::kernels::cuda {
namespace {

constexpr int32_t kTilesPerBlock = kAttentionWarps;
// More query tokens than this many narrow tiles hold share keys in wide ones.
constexpr int32_t kMaxNarrowTiles = 2;
// Partial results of one long sequence, or of many shorter ones. Where they do not suffice, a
// sequence stays in one piece.
constexpr int32_t kMinPartials = 2048;

}  // namespace

AttentionPlan::AttentionPlan(const AttentionPlanSpec& spec) : spec_(spec) {
  TANDEM_CHECK(spec.num_kv_heads > 0 && spec.num_heads % spec.num_kv_heads == 0)
      << spec.num_heads << " heads, " << spec.num_kv_heads << " KV heads";
  const int32_t group = spec.num_heads / spec.num_kv_heads;
  TANDEM_CHECK(group >= 1 && group <= kAttentionTileRows) << group;
  TANDEM_CHECK(spec.max_tokens > 0 && spec.max_seqs > 0 && spec.max_context > 0 &&
               spec.window >= 0 && spec.blocks_at_once > 0 && spec.min_piece_units > 0);
  tile_tokens_ = kAttentionTileRows / group;
  max_partials_ = std::max(static_cast<int32_t>(CeilDiv<int64_t>(spec.max_context, kAttentionUnit)),
                           kMinPartials);
  items_.reserve(MaxItems(spec.max_tokens, spec.max_seqs));
  merges_.reserve(MaxMerges(spec.max_tokens));
}

int32_t AttentionPlan::ExtraPieces() const { return spec_.blocks_at_once / spec_.num_kv_heads; }

// A sequence of n tokens has at most two tiles, or n / (4 tile_tokens) rounded up.
int32_t AttentionPlan::MaxItems(int32_t num_tokens, int32_t num_seqs) const {
  const int64_t tiles =
      std::min<int64_t>(num_tokens, int64_t{kMaxNarrowTiles} * num_seqs +
                                        num_tokens / (kTilesPerBlock * tile_tokens_));
  return static_cast<int32_t>(tiles) + ExtraPieces();
}

// A tile that is merged has at least two pieces.
int32_t AttentionPlan::MaxMerges(int32_t num_tokens) const {
  return static_cast<int32_t>(
      std::min<int64_t>(num_tokens, int64_t{ExtraPieces() / 2} * tile_tokens_));
}

int64_t AttentionPlan::PartialBytes(int32_t head_dim) const {
  return AttentionPartialFloats(max_partials_, spec_.num_heads, head_dim) *
         static_cast<int64_t>(sizeof(float));
}

template <class F>
void AttentionPlan::ForEachTile(std::span<const int32_t> query_start,
                                std::span<const int32_t> context_len, F f) const {
  for (size_t s = 0; s < context_len.size(); ++s) {
    const int32_t tokens = query_start[s + 1] - query_start[s];
    const bool narrow = tokens <= kMaxNarrowTiles * tile_tokens_;
    const int32_t step = narrow ? tile_tokens_ : kTilesPerBlock * tile_tokens_;
    // The last tile first: it sees the most keys, and the longest piece should not start last.
    for (int32_t i = (CeilDiv(tokens, step) - 1) * step; i >= 0 && tokens > 0; i -= step) {
      Tile tile;
      tile.sequence = static_cast<int32_t>(s);
      tile.first_row = query_start[s] + i;
      tile.num_tokens = std::min(step, tokens - i);
      tile.first_position = context_len[s] - tokens + i;
      const int32_t first_key =
          spec_.window > 0 ? std::max(0, tile.first_position - spec_.window + 1) : 0;
      tile.first_unit = first_key / kAttentionUnit;
      tile.end_unit = CeilDiv(tile.first_position + tile.num_tokens, kAttentionUnit);
      tile.narrow = narrow;
      f(tile);
    }
  }
}

int32_t AttentionPlan::PieceUnits(int64_t total_units) const {
  return std::max(
      spec_.min_piece_units,
      static_cast<int32_t>(CeilDiv(total_units * spec_.num_kv_heads, spec_.blocks_at_once)));
}

void AttentionPlan::Make(std::span<const int32_t> query_start,
                         std::span<const int32_t> context_len) {
  TANDEM_CHECK(query_start.size() == context_len.size() + 1 && query_start[0] == 0 &&
               query_start.back() <= spec_.max_tokens &&
               static_cast<int32_t>(context_len.size()) <= spec_.max_seqs)
      << query_start.size() << " " << context_len.size();
  items_.clear();
  merges_.clear();
  num_partials_ = 0;
  int64_t total_units = 0;
  ForEachTile(query_start, context_len, [&](const Tile& tile) {
    TANDEM_CHECK(tile.first_position >= 0 &&
                 tile.first_position + tile.num_tokens <= spec_.max_context)
        << tile.first_position << " + " << tile.num_tokens;
    total_units += tile.units();
  });
  const int32_t piece_units = PieceUnits(total_units);
  for (const bool narrow : {false, true}) {  // chunks, the longest pieces, begin first
    ForEachTile(query_start, context_len, [&](const Tile& tile) {
      if (tile.narrow == narrow) AddTile(tile, piece_units);
    });
  }
}

void AttentionPlan::AddTile(const Tile& tile, int32_t piece_units) {
  const int32_t pieces = tile.units() / piece_units;
  const bool room = num_partials_ + tile.units() * tile.num_tokens <= max_partials_;
  if (tile.narrow && pieces > 1 && room) {
    AddPieces(tile, pieces);
    AddMerges(tile);
    num_partials_ += tile.units() * tile.num_tokens;
  } else {
    items_.push_back({tile.sequence, tile.first_row, tile.num_tokens, tile.first_position,
                      tile.first_unit, tile.end_unit, -1});
  }
}

void AttentionPlan::AddPieces(const Tile& tile, int32_t pieces) {
  for (int32_t i = 0; i < pieces; ++i) {
    const auto begin = static_cast<int32_t>(int64_t{tile.units()} * i / pieces);
    const auto end = static_cast<int32_t>(int64_t{tile.units()} * (i + 1) / pieces);
    items_.push_back({tile.sequence, tile.first_row, tile.num_tokens, tile.first_position,
                      tile.first_unit + begin, tile.first_unit + end,
                      num_partials_ + begin * tile.num_tokens});
  }
}

void AttentionPlan::AddMerges(const Tile& tile) {
  for (int32_t i = 0; i < tile.num_tokens; ++i) {
    merges_.push_back({tile.first_row + i, num_partials_ + i, tile.units(), tile.num_tokens});
  }
}

}  // namespace tandem::kernels::cuda
