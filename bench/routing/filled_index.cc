#include "bench/routing/filled_index.h"

#include <malloc.h>
#include <time.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <iostream>
#include <numeric>

namespace tandem::bench {
namespace {

double MallocBytes() {
  const struct mallinfo2 info = mallinfo2();
  return static_cast<double>(info.uordblks) + static_cast<double>(info.hblkhd);
}

double ResidentBytes() {
  int64_t total = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> total >> resident;
  return static_cast<double>(resident) * static_cast<double>(sysconf(_SC_PAGESIZE));
}

}  // namespace

double ThreadSeconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

std::vector<TokenId> PromptOf(int64_t chain, int tokens) {
  std::vector<TokenId> prompt(static_cast<size_t>(tokens));
  std::iota(prompt.begin(), prompt.end(), static_cast<TokenId>(chain));
  return prompt;
}

std::vector<BlockHash> ChainOf(int64_t chain, int blocks) {
  const std::vector<TokenId> prompt = PromptOf(chain, blocks * kBlockTokens);
  std::vector<BlockHash> hashes;
  hashes.reserve(static_cast<size_t>(blocks));
  BlockHash hash = RootHash("bench", "");
  for (int i = 0; i < blocks; ++i) {
    hash = HashBlock(hash, {prompt.data() + i * kBlockTokens, kBlockTokens});
    hashes.push_back(hash);
  }
  return hashes;
}

FilledIndex::FilledIndex(const Filling& filling) : filling_(filling) {
  for (int g = 0; g < filling.groups; ++g) groups_.push_back(GroupId{g});
  last_event_.resize(groups_.size());
  malloc_trim(0);
  const double malloc_before = MallocBytes(), resident_before = ResidentBytes();
  double took = 0;
  for (int64_t chain = 0; chain < filling.num_chains(); ++chain) {
    const std::vector<BlockHash> hashes = ChainOf(chain);
    const double start = ThreadSeconds();
    for (int nth = 0; nth < filling.holders; ++nth) {
      for (const BlockHash& hash : hashes) Store(HolderOf(chain, nth), hash);
    }
    took += ThreadSeconds() - start;
  }
  const auto pairs = static_cast<double>(filling.pairs());
  fill_ns_per_event_ = took * 1e9 / pairs;
  malloc_bytes_per_pair_ = (MallocBytes() - malloc_before) / pairs;
  resident_bytes_per_pair_ = (ResidentBytes() - resident_before) / pairs;
}

GroupId FilledIndex::HolderOf(int64_t chain, int nth) const {
  // Holders lie apart, as they do when a router spreads a prefix.
  const int64_t step = std::max(1, filling_.groups / filling_.holders);
  return groups_[static_cast<size_t>((chain + nth * step) % filling_.groups)];
}

void FilledIndex::Apply(GroupId group, const BlockHash& hash, bool stored) {
  using Kind = routing::KvEvent::Kind;
  const routing::KvEvent event{.number = ++last_event_[static_cast<size_t>(group.value)],
                               .kind = stored ? Kind::kStored : Kind::kRemoved,
                               .hash = hash,
                               .parent = {}};
  if (index_.Apply(group, event)) return;
  std::cerr << "an event was refused\n";
  std::abort();
}

}  // namespace tandem::bench
