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
  const std::vector<int> ffn_shares = EvenShares(ffn_units, tp);
  const std::vector<int> vocab_shares = EvenShares(CeilDiv(config.vocab, kVocabUnit), tp);

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
