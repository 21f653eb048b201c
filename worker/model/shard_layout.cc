#include "worker/model/shard_layout.h"

#include <algorithm>
#include <cstdint>

#include "common/check.h"
#include "common/round.h"

namespace tandem::model {
namespace {

// `total` units over `parts`, the larger shares first.
std::vector<int> EvenShares(int total, int parts) {
  std::vector<int> shares(parts, total / parts);
  for (int i = 0; i < total % parts; ++i) ++shares[i];
  return shares;
}

// Hands `units` out one by one, each to the rank that would then have the least work (the lowest
// rank on a tie), so that the most loaded rank is as light as it can be. At least one unit a rank.
std::vector<int> LevelShares(int units, std::vector<int64_t> work, int64_t unit_work) {
  std::vector<int> shares(work.size(), 0);
  const auto give = [&](size_t rank) {
    ++shares[rank];
    work[rank] += unit_work;
  };
  for (size_t r = 0; r < work.size(); ++r) give(r);
  for (int left = units - static_cast<int>(work.size()); left > 0; --left) {
    give(std::min_element(work.begin(), work.end()) - work.begin());
  }
  return shares;
}

// The next range of `share` units, not past `limit`.
Range Next(int begin, int share, int unit, int limit) {
  return {begin, std::min(begin + share * unit, limit)};
}

}  // namespace

StatusOr<std::vector<RankShard>> MakeShardLayout(const ModelConfig& config, int tp) {
  TANDEM_CHECK(tp >= 1) << tp << " ranks";
  if (tp > config.num_kv_heads) {
    return InvalidArgument(
        "tp {} is more than the model's {} KV heads; the most that is supported is tp {}", tp,
        config.num_kv_heads, config.num_kv_heads);
  }
  const int ffn_units = config.ffn / kFfnUnit;
  if (ffn_units < tp) {
    return InvalidArgument("tp {} is too much for a feed-forward length of {}", tp, config.ffn);
  }
  const int group = config.heads_per_kv();
  const std::vector<int> kv_shares = EvenShares(config.num_kv_heads, tp);
  const std::vector<int> vocab_shares = EvenShares(CeilDiv(config.vocab, kVocabUnit), tp);
  // Work in weights read, divided by `hidden`: Q, O and K, V of a KV head's group; gate, up, down.
  const int64_t kv_head_work = static_cast<int64_t>(2 * group + 2) * config.head_dim;
  std::vector<int64_t> work;
  work.reserve(kv_shares.size());
  for (const int share : kv_shares) work.push_back(share * kv_head_work);
  const int64_t ffn_work = int64_t{3} * kFfnUnit * std::max(1, config.experts_per_token);
  const std::vector<int> ffn_shares = LevelShares(ffn_units, work, ffn_work);

  std::vector<RankShard> shards;
  RankShard last;
  for (int r = 0; r < tp; ++r) {
    RankShard shard;
    shard.kv_heads = Next(last.kv_heads.end, kv_shares[r], 1, config.num_kv_heads);
    shard.heads = {shard.kv_heads.begin * group, shard.kv_heads.end * group};
    shard.ffn = Next(last.ffn.end, ffn_shares[r], kFfnUnit, config.ffn);
    shard.vocab = Next(last.vocab.end, vocab_shares[r], kVocabUnit, config.vocab);
    shards.push_back(shard);
    last = shard;
  }
  return shards;
}

}  // namespace tandem::model
