// A prefix index filled to a stated size, and what that took. Chains are computed when they are
// needed, so that the index is all that lies in memory.
#pragma once

#include <compare>
#include <cstdint>
#include <memory>
#include <vector>

#include "router/routing/prefix_index.h"

namespace tandem::bench {

inline constexpr int kChainBlocks = 256;
inline constexpr int kBlockTokens = 16;

struct Filling {
  int groups = 256;
  int64_t blocks = 4 << 20;
  int holders = 1;  // groups that hold each block
  auto operator<=>(const Filling&) const = default;
  int64_t num_chains() const { return blocks / kChainBlocks; }
  int64_t pairs() const { return num_chains() * kChainBlocks * holders; }
};

class FilledIndex {
 public:
  explicit FilledIndex(const Filling& filling);

  routing::PrefixIndex& index() { return index_; }
  const std::vector<GroupId>& groups() const { return groups_; }
  // The `nth` holder of a chain.
  GroupId HolderOf(int64_t chain, int nth) const;
  void Store(GroupId group, const BlockHash& hash) { Apply(group, hash, true); }
  void Remove(GroupId group, const BlockHash& hash) { Apply(group, hash, false); }

  double fill_ns_per_event() const { return fill_ns_per_event_; }
  double malloc_bytes_per_pair() const { return malloc_bytes_per_pair_; }
  double resident_bytes_per_pair() const { return resident_bytes_per_pair_; }

 private:
  void Apply(GroupId group, const BlockHash& hash, bool stored);

  const Filling filling_;
  routing::PrefixIndex index_;
  std::vector<GroupId> groups_;
  std::vector<uint64_t> last_event_;  // by group
  double fill_ns_per_event_ = 0, malloc_bytes_per_pair_ = 0, resident_bytes_per_pair_ = 0;
};

double ThreadSeconds();  // CPU time of this thread

// Hashes of the blocks of prompt number `chain`.
std::vector<BlockHash> ChainOf(int64_t chain, int blocks = kChainBlocks);
std::vector<TokenId> PromptOf(int64_t chain, int tokens);

}  // namespace tandem::bench
