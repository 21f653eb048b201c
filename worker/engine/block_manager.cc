#include "worker/engine/block_manager.h"

#include <algorithm>
#include <utility>

#include "common/check.h"
#include "common/prefetch.h"

namespace tandem::engine {
namespace {

// Blocks ahead of their use: a look-up that misses the caches takes as long as several that do not.
constexpr int kAhead = 8;

}  // namespace

BlockManager::BlockManager(int num_blocks, int block_size)
    : block_size_(block_size),
      blocks_(static_cast<size_t>(num_blocks)),
      tokens_(static_cast<size_t>(num_blocks) * static_cast<size_t>(block_size)),
      lru_(static_cast<size_t>(num_blocks) + 1) {
  TANDEM_CHECK(num_blocks >= 1 && block_size >= 1) << num_blocks << " x " << block_size;
  for (int32_t b = num_blocks - 1; b >= 0; --b) free_.push_back(b);  // lowest id goes first
  lru_.back() = {num_blocks, num_blocks};
  index_.reserve(blocks_.size());
}

std::span<TokenId> BlockManager::tokens_of(int32_t block) {
  const auto size = static_cast<size_t>(block_size_);
  return {tokens_.data() + static_cast<size_t>(block) * size, size};
}

std::span<const TokenId> BlockManager::tokens_of(int32_t block) const {
  return const_cast<BlockManager*>(this)->tokens_of(block);
}

// Parent and tokens are compared because XXH3 is not collision-proof (engine.invariants.content):
// equal tokens under an equal parent, block after block, is an equal prefix.
bool BlockManager::Holds(int32_t block, const Sequence& seq, int index) const {
  const Block& b = blocks_[static_cast<size_t>(block)];
  const auto begin = seq.tokens.begin() + static_cast<ptrdiff_t>(index) * block_size_;
  return b.parent == seq.parent_hash(index) &&
         std::equal(begin, begin + block_size_, tokens_of(block).begin());
}

int BlockManager::MatchPrefix(const Sequence& seq) const {
  const int limit = seq.max_cached_blocks(block_size_);
  int found = 0;
  while (found < limit) {
    if (found + kAhead < limit) {
      index_.prefetch(seq.block_hashes[static_cast<size_t>(found + kAhead)]);
    }
    const auto it = index_.find(seq.block_hashes[static_cast<size_t>(found)]);
    if (it == index_.end() || !Holds(it->second, seq, found)) break;
    ++found;
  }
  return found;
}

bool BlockManager::Start(Sequence& seq, int num_tokens, int reserve) {
  TANDEM_CHECK(seq.block_table.empty()) << "sequence " << seq.id << " has a block table";
  const int matched = MatchPrefix(seq);
  int matched_cached = 0;
  for (int i = 0; i < matched; ++i) {
    const int32_t b = index_.find(seq.block_hashes[static_cast<size_t>(i)])->second;
    matched_cached += blocks_[static_cast<size_t>(b)].ref_count == 0;
    seq.block_table.push_back({b});
  }
  const int fresh = BlocksFor(num_tokens) - matched;
  if (fresh + reserve > num_free() - matched_cached) {
    seq.block_table.clear();
    return false;
  }
  for (const BlockId b : seq.block_table) Ref(b.value);  // before Take() could evict one of them
  for (int i = 0; i < fresh; ++i) seq.block_table.push_back({Take()});
  seq.num_published = matched;
  seq.publish_stopped = false;
  return true;
}

bool BlockManager::Grow(Sequence& seq, int num_tokens) {
  const int missing = BlocksFor(num_tokens) - static_cast<int>(seq.block_table.size());
  if (missing > num_free()) return false;
  for (int i = 0; i < missing; ++i) seq.block_table.push_back({Take()});
  return true;
}

void BlockManager::Publish(Sequence& seq) {
  const int full = std::min(seq.num_computed / block_size_,
                            static_cast<int>(std::min(seq.block_hashes.size(),  //
                                                      seq.block_table.size())));
  for (int i = seq.num_published; i < std::min(full, seq.num_published + kAhead); ++i) {
    Prefetch(seq, i);
  }
  while (!seq.publish_stopped && seq.num_published < full) {
    if (seq.num_published + kAhead < full) Prefetch(seq, seq.num_published + kAhead);
    PublishNext(seq);
  }
}

// The parent must be the very block that seq holds, or the tree would not be held upwards
// (engine.invariants.tree). It is not after Clear().
bool BlockManager::HoldsParentOfNext(const Sequence& seq) const {
  const auto i = static_cast<size_t>(seq.num_published);
  return i == 0 || blocks_[static_cast<size_t>(seq.block_table[i - 1].value)].published;
}

// Brings nearer what PublishNext() will touch for block i of seq.
void BlockManager::Prefetch(const Sequence& seq, int i) const {
  const auto block = static_cast<size_t>(seq.block_table[static_cast<size_t>(i)].value);
  index_.prefetch(seq.block_hashes[static_cast<size_t>(i)]);
  PrefetchLine(&blocks_[block]);
  PrefetchLine(&tokens_[block * static_cast<size_t>(block_size_)]);
}

void BlockManager::PublishNext(Sequence& seq) {
  const auto i = static_cast<size_t>(seq.num_published);
  const int32_t id = seq.block_table[i].value;
  if (!HoldsParentOfNext(seq) || !index_.try_emplace(seq.block_hashes[i], id).second) {
    seq.publish_stopped = true;
    return;
  }
  Block& b = blocks_[static_cast<size_t>(id)];
  b.published = true;
  b.depth = seq.num_published;
  b.hash = seq.block_hashes[i];
  b.parent = seq.parent_hash(seq.num_published);
  const auto begin = seq.tokens.begin() + static_cast<ptrdiff_t>(seq.num_published) * block_size_;
  std::copy_n(begin, block_size_, tokens_of(id).begin());
  Emit(KvEvent::Kind::kStored, b.hash, b.parent);
  ++seq.num_published;
}

void BlockManager::Release(Sequence& seq) {
  // Last block first: the order of eviction, leaves before parents.
  for (size_t i = seq.block_table.size(); i-- > 0;) Unref(seq.block_table[i].value);
  seq.block_table.clear();
  seq.num_published = 0;
  seq.publish_stopped = false;
}

void BlockManager::Clear() {
  while (num_cached_ > 0) {
    const int32_t b = lru_.back().next;
    LruRemove(b);
    free_.push_back(b);
  }
  for (Block& b : blocks_) b.published = false;
  index_.clear();
  Emit(KvEvent::Kind::kCleared, {}, {});
}

int BlockManager::CountExclusive(const Sequence& seq) const {
  return static_cast<int>(std::count_if(
      seq.block_table.begin(), seq.block_table.end(),
      [this](BlockId b) { return blocks_[static_cast<size_t>(b.value)].ref_count == 1; }));
}

void BlockManager::Ref(int32_t block) {
  Block& b = blocks_[static_cast<size_t>(block)];
  if (b.ref_count++ == 0) LruRemove(block);
}

void BlockManager::Unref(int32_t block) {
  Block& b = blocks_[static_cast<size_t>(block)];
  TANDEM_CHECK(b.ref_count > 0) << "block " << block << " is released once too often";
  if (--b.ref_count > 0) return;
  if (b.published) {
    LruAppend(block);
  } else {
    free_.push_back(block);
  }
}

int32_t BlockManager::Take() {
  int32_t block = -1;
  if (!free_.empty()) {
    block = free_.back();
    free_.pop_back();
  } else {
    TANDEM_CHECK(num_cached_ > 0) << "no block left: callers ask num_free() first";
    block = lru_.back().next;
    LruRemove(block);
    // The one evicted after the next.
    const int32_t next = lru_[static_cast<size_t>(lru_.back().next)].next;
    if (next != num_blocks()) index_.prefetch(blocks_[static_cast<size_t>(next)].hash);
    Unpublish(block);
  }
  blocks_[static_cast<size_t>(block)].ref_count = 1;
  return block;
}

void BlockManager::Unpublish(int32_t block) {
  Block& b = blocks_[static_cast<size_t>(block)];
  b.published = false;
  index_.erase(b.hash);
  Emit(KvEvent::Kind::kRemoved, b.hash, {});
}

void BlockManager::LruAppend(int32_t block) {
  const auto head = static_cast<int32_t>(lru_.size() - 1);
  const int32_t last = lru_.back().prev;
  lru_[static_cast<size_t>(block)] = {last, head};
  lru_[static_cast<size_t>(last)].next = block;
  lru_.back().prev = block;
  ++num_cached_;
}

void BlockManager::LruRemove(int32_t block) {
  const Link link = lru_[static_cast<size_t>(block)];
  lru_[static_cast<size_t>(link.prev)].next = link.next;
  lru_[static_cast<size_t>(link.next)].prev = link.prev;
  --num_cached_;
}

void BlockManager::Emit(KvEvent::Kind kind, const BlockHash& hash, const BlockHash& parent) {
  events_.push_back({++last_event_, kind, hash, parent});
}

void BlockManager::TakeEvents(std::vector<KvEvent>& out) {
  out.clear();
  std::swap(out, events_);
  events_.reserve(out.capacity());  // no more growing once the memory handed back is this large
}

uint64_t BlockManager::Snapshot(std::vector<KvEvent>& out) const {
  std::vector<const Block*> found;
  for (const Block& b : blocks_) {
    if (b.published) found.push_back(&b);
  }
  std::stable_sort(found.begin(), found.end(),
                   [](const Block* a, const Block* b) { return a->depth < b->depth; });
  out.clear();
  for (const Block* b : found) out.push_back({0, KvEvent::Kind::kStored, b->hash, b->parent});
  return last_event_;
}

void BlockManager::CheckInvariants(std::span<const Sequence* const> live) const {
  std::vector<int> refs(blocks_.size()), states(blocks_.size()), order(blocks_.size(), -1);
  for (const Sequence* seq : live) {
    for (const BlockId b : seq->block_table) ++refs[static_cast<size_t>(b.value)];
  }
  for (const int32_t b : free_) {
    ++states[static_cast<size_t>(b)];
    TANDEM_CHECK(!blocks_[static_cast<size_t>(b)].published) << "free block " << b << " published";
  }
  int position = 0;
  for (int32_t b = lru_.back().next; b != num_blocks(); b = lru_[static_cast<size_t>(b)].next) {
    ++states[static_cast<size_t>(b)];
    order[static_cast<size_t>(b)] = position++;
    TANDEM_CHECK(blocks_[static_cast<size_t>(b)].published) << "cached block " << b << " is not";
  }
  TANDEM_CHECK(position == num_cached_) << position << " cached, counted " << num_cached_;
  size_t published = 0;
  for (size_t i = 0; i < blocks_.size(); ++i) {
    const Block& b = blocks_[i];
    TANDEM_CHECK(b.ref_count == refs[i]) << "block " << i << ": " << b.ref_count << " refs, named "
                                         << refs[i] << " times (engine.invariants.refs)";
    TANDEM_CHECK(states[i] + (b.ref_count > 0) == 1)
        << "block " << i << " is in " << states[i] + (b.ref_count > 0) << " states";
    if (!b.published) continue;
    ++published;
    const auto self = index_.find(b.hash);
    TANDEM_CHECK(self != index_.end() && self->second == static_cast<int32_t>(i)) << i;
    if (b.depth == 0) continue;
    const auto parent = index_.find(b.parent);
    TANDEM_CHECK(parent != index_.end()) << "block " << i << " outlived its parent";
    const auto p = static_cast<size_t>(parent->second);
    TANDEM_CHECK(blocks_[p].ref_count >= b.ref_count)
        << "parent " << p << " of block " << i << " is not held (engine.invariants.tree)";
    TANDEM_CHECK(blocks_[p].ref_count > 0 || order[i] < order[p])
        << "parent " << p << " would be evicted before block " << i;
  }
  TANDEM_CHECK(published == index_.size()) << published << " published, " << index_.size();
}

}  // namespace tandem::engine
