#include "router/routing/hot_blocks.h"

#include <algorithm>
#include <cmath>

#include "common/prefetch.h"

namespace tandem::routing {
namespace {

constexpr double kMemorySeconds = 10;
// A copy is worth half of what it costs while each brings its group this part of its requests.
constexpr double kCopyAt = 0.125;
constexpr int32_t kTokensPerSample = 128;
constexpr size_t kEntries = size_t{1} << 16;
constexpr size_t kAhead = 8;

float Decayed(float arrivals, Nanos at, Nanos now) {
  const double passed = static_cast<double>(now - at) / kSecond;
  return arrivals * static_cast<float>(std::exp(-passed / kMemorySeconds));
}

}  // namespace

HotBlocks::HotBlocks() : table_(kEntries) {}

size_t HotBlocks::SampleOf(int32_t block) const {
  return static_cast<size_t>((block + stride_ - 1) / stride_);
}

void HotBlocks::Arrived(std::span<const BlockHash> chain, int32_t block_size, Nanos now) {
  stride_ = std::max(1, kTokensPerSample / std::max(1, block_size));
  all_ = Decayed(all_, all_at_, now) + 1;
  all_at_ = now;
  arrivals_.clear();
  const auto stride = static_cast<size_t>(stride_);
  for (size_t i = 0; i < chain.size(); i += stride) {
    if (i + kAhead * stride < chain.size()) Prefetch(chain[i + kAhead * stride]);
    arrivals_.push_back(Add(chain[i], now));
  }
}

void HotBlocks::Prefetch(const BlockHash& hash) const {
  PrefetchLine(&table_[hash.low % kEntries]);
  PrefetchLine(&table_[hash.high % kEntries]);
}

// Two places for each block; a new one takes the colder of them.
float HotBlocks::Add(const BlockHash& hash, Nanos now) {
  Entry* const places[] = {&table_[hash.low % kEntries], &table_[hash.high % kEntries]};
  for (Entry* entry : places) {
    if (entry->tag != hash.low) continue;
    entry->arrivals = Decayed(entry->arrivals, entry->at, now) + 1;
    entry->at = now;
    return entry->arrivals;
  }
  const float heat[] = {Decayed(places[0]->arrivals, places[0]->at, now),
                        Decayed(places[1]->arrivals, places[1]->at, now)};
  const int colder = heat[1] < heat[0] ? 1 : 0;
  if (heat[colder] <= 1) *places[colder] = {.tag = hash.low, .arrivals = 1, .at = now};
  return 1;
}

void HotBlocks::Count(std::span<const int32_t> depths) {
  const size_t samples = arrivals_.size();
  holders_.assign(samples + 1, 0);
  for (const int32_t depth : depths) ++holders_[std::min(SampleOf(depth), samples)];
  heat_.assign(samples + 1, 0);
  const double a_group = std::max(1.0, all_ / static_cast<double>(depths.size()));
  int32_t holders = holders_[samples];
  for (size_t i = samples; i-- > 0;) {
    // The request at hand has it to compute anyway: those before it say how many more come.
    const double part = std::max(0.0F, arrivals_[i] - 1) / (holders + 1.0) / a_group;
    const double y = part / kCopyAt;
    heat_[i] = heat_[i + 1] + y / (1 + y);
    holders += holders_[i];
  }
}

double HotBlocks::Heat(int32_t held) const {
  const size_t samples = arrivals_.size(), first = SampleOf(held);
  return first < samples ? heat_[first] / static_cast<double>(samples - first) : 0;
}

}  // namespace tandem::routing
