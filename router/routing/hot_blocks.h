// Which prompt beginnings many requests have in common just now, so that one more group should hold
// them: counts of arrivals for each block, decaying over some seconds.
//
// Of a long prompt only every n-th block is counted, one for about 128 tokens: a request costs a
// hundred look-ups and not a thousand.
//
// Thread: the routing thread. Memory: fixed; a block that is seen once gives way to others, one
// that is seen often stays.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "common/hash.h"
#include "common/ids.h"

namespace tandem::routing {

class HotBlocks {
 public:
  HotBlocks();

  // A request with this chain came.
  void Arrived(std::span<const BlockHash> chain, int32_t block_size, Nanos now);

  // How much one more copy is worth, in [0, 1): the mean over the blocks of the last Arrived() from
  // `held` on of y / (1 + y). y is the part of a group's requests that a block brings to each
  // group that holds it, this one counted too, in eighths: a few busy copies take turns, many idle
  // ones only take room from other blocks. `depths`: blocks held, of all groups.
  void Count(std::span<const int32_t> depths);
  double Heat(int32_t held) const;  // as of the last Count()

 private:
  struct Entry {
    uint64_t tag = 0;
    float arrivals = 0;  // as of `at`
    Nanos at = 0;
  };
  void Prefetch(const BlockHash& hash) const;
  float Add(const BlockHash& hash, Nanos now);
  size_t SampleOf(int32_t block) const;  // the first one counted from there on

  std::vector<Entry> table_;
  float all_ = 0;  // requests, decaying, as of `all_at_`
  Nanos all_at_ = 0;
  int32_t stride_ = 1;
  std::vector<float> arrivals_;  // of the blocks counted of the last chain
  std::vector<int32_t> holders_;
  std::vector<double> heat_;  // sums from each on
};

}  // namespace tandem::routing
