#include "common/tokenizer/encode_cache.h"

#include <utility>

namespace tandem::text {
namespace {

BlockHash HashOf(const EncodeCache::Key& key) {
  BlockHash hash = HashBytes(key.text);
  if (!key.salt.empty()) {
    const BlockHash salt = HashBytes(key.salt);
    hash = {hash.low ^ salt.low, hash.high ^ salt.high};
  }
  hash.low += (key.begins_text ? 1 : 0) + (key.allow_special ? 2 : 0);
  return hash;
}

}  // namespace

bool EncodeCache::Entry::Is(const Key& key) const {
  return text == key.text && salt == key.salt && begins_text == key.begins_text &&
         allow_special == key.allow_special;
}

int64_t EncodeCache::Entry::bytes() const {
  constexpr int64_t kAround = 256;  // of the entry, its place in the list and in the table
  return kAround + static_cast<int64_t>(salt.size() + text.size() + ids.size() * sizeof(TokenId));
}

bool EncodeCache::Find(const Key& key, std::vector<TokenId>& ids) {
  const BlockHash hash = HashOf(key);
  Shard& shard = ShardOf(hash);
  std::shared_ptr<const Entry> entry;
  {
    const MutexLock lock(shard.mutex);
    const auto it = shard.places.find(hash);
    if (it == shard.places.end()) return false;
    shard.entries.splice(shard.entries.begin(), shard.entries, it->second);
    entry = *it->second;
  }
  if (!entry->Is(key)) return false;
  ids.insert(ids.end(), entry->ids.begin(), entry->ids.end());
  return true;
}

void EncodeCache::Add(const Key& key, std::span<const TokenId> ids) {
  auto entry = std::make_shared<const Entry>(
      Entry{HashOf(key), std::string(key.salt), std::string(key.text), key.begins_text,
            key.allow_special, std::vector<TokenId>(ids.begin(), ids.end())});
  if (entry->bytes() > max_shard_bytes_) return;
  Shard& shard = ShardOf(entry->hash);
  Entries gone;  // freed behind the lock
  const MutexLock lock(shard.mutex);
  const auto [it, is_new] = shard.places.try_emplace(entry->hash);
  if (!is_new) return;  // another thread was first; or, once in a long time, another text has it
  shard.bytes += entry->bytes();
  shard.entries.push_front(std::move(entry));
  it->second = shard.entries.begin();
  while (shard.bytes > max_shard_bytes_) {
    const Entry& oldest = *shard.entries.back();
    shard.bytes -= oldest.bytes();
    shard.places.erase(oldest.hash);
    gone.splice(gone.begin(), shard.entries, std::prev(shard.entries.end()));
  }
}

}  // namespace tandem::text
