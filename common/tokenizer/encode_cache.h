// The tokens of texts that came before: the messages of a conversation come again with each of its
// turns, and system messages with each conversation. What is kept is what Tokenizer::Encode reads
// between the added tokens that it finds in a text first (a chat template puts such tokens around
// every message), for what is there depends on nothing around it. So a prompt is as equal to one
// encoded anew as can be; texts are compared, not their hashes alone.
//
// Least recently used texts go first. Thread: any; readers of one shard (a hash chooses it) wait
// for each other for a look-up, not for a copy.
#pragma once

#include <array>
#include <cstdint>
#include <list>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "common/hash.h"
#include "common/ids.h"
#include "common/mutex.h"

namespace tandem::text {

class EncodeCache {
 public:
  // Shorter texts take a few microseconds to encode and are not kept.
  static constexpr size_t kMinBytes = 128;

  // Of texts and tokens together, about.
  explicit EncodeCache(int64_t max_bytes) : max_shard_bytes_(max_bytes / kShards) {}

  struct Key {
    std::string_view
        salt;  // texts of one are not found with another, lest times tell what was said
    std::string_view text;
    bool begins_text, allow_special;  // as Tokenizer::Encode has them
  };

  // Appends the tokens, or says that the text is not known.
  bool Find(const Key& key, std::vector<TokenId>& ids);
  void Add(const Key& key, std::span<const TokenId> ids);

 private:
  struct Entry {
    BlockHash hash;
    std::string salt, text;
    bool begins_text, allow_special;
    std::vector<TokenId> ids;

    bool Is(const Key& key) const;
    int64_t bytes() const;
  };
  using Entries = std::list<std::shared_ptr<const Entry>>;  // newest first

  struct alignas(64) Shard {
    Mutex mutex;
    Entries entries TANDEM_GUARDED_BY(mutex);
    absl::flat_hash_map<BlockHash, Entries::iterator, BlockHashHasher> places
        TANDEM_GUARDED_BY(mutex);
    int64_t bytes TANDEM_GUARDED_BY(mutex) = 0;
  };
  static constexpr size_t kShards = 8;

  Shard& ShardOf(const BlockHash& hash) { return shards_[hash.high % kShards]; }

  const int64_t max_shard_bytes_;
  std::array<Shard, kShards> shards_;
};

}  // namespace tandem::text
