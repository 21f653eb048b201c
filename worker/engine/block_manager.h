// Decides which KV block belongs to which sequence or cached prefix. Moves no bytes: a BlockId
// indexes the KV tensors that every rank allocated at start.
//
// A block is always in exactly one state:
//   free    nothing in it is worth keeping
//   held    ref_count > 0: named by at least one block table; findable by hash if published
//   cached  ref_count == 0 and published: what eviction may take
//
// Published blocks form a tree by (hash, parent hash). Who holds a published block holds its parent
// (engine.invariants.tree); hence every cached block can be evicted, and in the order in which
// Release() gives them back, last block first, leaves always come before parents.
//
// Every change of what is findable is a numbered KvEvent, 1, 2, 3, ...
//
// Thread: engine. Memory: O(num_blocks * block_size) in the constructor.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "common/hash.h"
#include "common/ids.h"
#include "worker/engine/inbox.h"
#include "worker/engine/sequence.h"

namespace tandem::engine {

class BlockManager {
 public:
  // REQUIRES: num_blocks >= 1, block_size >= 1.
  BlockManager(int num_blocks, int block_size);

  // Leading blocks of seq.tokens present now, at most (tokens - 1) / block_size so that at least
  // one token is left to compute. Compares hash, parent and token ids. Takes no reference, so the
  // answer is stale after any call that is not const. O(blocks found).
  int MatchPrefix(const Sequence& seq) const;

  // Gives seq a block table for its first `num_tokens` tokens: the blocks MatchPrefix finds (so
  // many tokens are seq.num_published * block_size), then fresh ones. All or nothing: false, and
  // nothing changed, if fewer than `reserve` blocks would stay free.
  // REQUIRES: seq.block_table is empty.
  [[nodiscard]] bool Start(Sequence& seq, int num_tokens, int reserve);

  // Grows seq.block_table to cover `num_tokens`, evicting cached blocks at need, least recently
  // used first. All or nothing: false leaves everything as it was.
  [[nodiscard]] bool Grow(Sequence& seq, int num_tokens);

  // Makes blocks that are full and computed (seq.num_computed, seq.block_hashes) findable.
  // Idempotent. If an equal block was published by another sequence meanwhile, or the parent is no
  // longer findable, seq publishes nothing more until it starts anew: its blocks would have a
  // parent it does not hold.
  void Publish(Sequence& seq);

  // Drops seq's references; published blocks stay cached, others become free. Empties block_table.
  void Release(Sequence& seq);

  // Forgets every published block, held or not (held ones stay with their holders).
  void Clear();

  int num_blocks() const { return static_cast<int>(blocks_.size()); }
  int num_free() const { return static_cast<int>(free_.size()) + num_cached_; }  // Grow can give
  int num_cached() const { return num_cached_; }
  int num_published() const { return static_cast<int>(index_.size()); }
  int CountExclusive(const Sequence& seq) const;  // blocks that Release(seq) would make available

  // Replaces `out` by the events since the last call, reusing its memory.
  void TakeEvents(std::vector<KvEvent>& out);
  // Replaces `out` by all that is findable now, parents before children; returns the number of the
  // last event that the list includes, whether taken or not.
  uint64_t Snapshot(std::vector<KvEvent>& out) const;

  // Aborts if a block is in no or in two states, a count is wrong, or a parent precedes a child in
  // eviction order. `live`: every sequence with a block table. O(blocks); tests and idle time only.
  void CheckInvariants(std::span<const Sequence* const> live) const;

 private:
  struct Block {
    int32_t ref_count = 0;
    int32_t depth = 0;  // position in its chain, if published
    bool published = false;
    BlockHash hash, parent;
  };

  struct Link {
    int32_t prev = 0, next = 0;
  };

  int BlocksFor(int num_tokens) const { return (num_tokens + block_size_ - 1) / block_size_; }
  std::span<TokenId> tokens_of(int32_t block);
  std::span<const TokenId> tokens_of(int32_t block) const;
  bool Holds(int32_t block, const Sequence& seq, int index) const;
  bool HoldsParentOfNext(const Sequence& seq) const;
  void PublishNext(Sequence& seq);
  void Prefetch(const Sequence& seq, int i) const;
  void Ref(int32_t block);
  void Unref(int32_t block);
  int32_t Take();  // a free block, or the least recently used cached one
  void LruAppend(int32_t block);
  void LruRemove(int32_t block);
  void Unpublish(int32_t block);
  void Emit(KvEvent::Kind kind, const BlockHash& hash, const BlockHash& parent);

  const int block_size_;
  std::vector<Block> blocks_;
  std::vector<TokenId> tokens_;  // [num_blocks, block_size], of published blocks
  std::vector<int32_t> free_;
  std::vector<Link> lru_;  // ring of cached blocks; the last element is its head, and
                           // lru_.back().next is evicted first
  int num_cached_ = 0;
  absl::flat_hash_map<BlockHash, int32_t, BlockHashHasher> index_;
  std::vector<KvEvent> events_;
  uint64_t last_event_ = 0;
};

}  // namespace tandem::engine
