#include "router/routing/holder_set.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>
#include <vector>

namespace tandem::routing {
namespace {

std::set<uint32_t> Members(const HolderSet& set, uint32_t slots) {
  const std::vector<uint64_t> all(slots / 64 + 1, ~uint64_t{0});
  std::set<uint32_t> members;
  set.ForEachIn(all, [&](uint32_t slot) { members.insert(slot); });
  return members;
}

TEST(HolderSet, FewLieInTheWordManyAsBitsOrList) {
  HolderSet set;
  EXPECT_TRUE(set.empty());
  for (const uint32_t slot : {0u, 9999u, HolderSet::kMaxSlots - 1}) EXPECT_TRUE(set.Add(slot));
  EXPECT_FALSE(set.Add(0));
  HolderSet::Inline buffer;
  EXPECT_EQ(set.list(buffer).data(), buffer.data());
  EXPECT_TRUE(set.Remove(HolderSet::kMaxSlots - 1));
  for (uint32_t slot = 100; slot < 104; ++slot) set.Add(slot);
  EXPECT_FALSE(set.is_bits()) << "6 of 10,000";
  EXPECT_NE(set.list(buffer).data(), buffer.data());
  for (uint32_t slot = 0; slot < 400; ++slot) set.Add(slot);
  EXPECT_TRUE(set.is_bits()) << "401 of 10,000";
  for (uint32_t slot = 0; slot < 400; ++slot) set.Remove(slot);
  EXPECT_FALSE(set.is_bits());
  EXPECT_EQ(Members(set, 10000), (std::set<uint32_t>{9999}));
  set.Free();
}

class HolderSetProperty : public testing::TestWithParam<uint32_t> {};

TEST_P(HolderSetProperty, EqualsAPlainSet) {
  const uint32_t slots = GetParam();
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 rng(seed);
  HolderSet set;
  std::set<uint32_t> want;
  std::vector<uint64_t> mask(slots / 128 + 1, 0x5555555555555555u);  // even ones of the lower half
  for (int i = 0; i < 20000; ++i) {
    const auto slot = static_cast<uint32_t>(rng() % slots);
    if (rng() % 1000 < (i / 4000 % 2 == 0 ? 700 : 300)) {  // grows and shrinks in turn
      ASSERT_EQ(set.Add(slot), want.insert(slot).second);
    } else {
      ASSERT_EQ(set.Remove(slot), want.erase(slot) == 1);
    }
    ASSERT_EQ(set.count(), static_cast<int>(want.size()));
    ASSERT_EQ(set.empty(), want.empty());
    ASSERT_EQ(set.Contains(slot), want.contains(slot));
    if (i % 50 != 0) continue;
    ASSERT_EQ(Members(set, slots), want) << "after " << i;
    size_t masked = 0;
    set.ForEachIn(mask,
                  [&](uint32_t s) { masked += s % 2 == 0 && want.contains(s) ? 1 : 1000000; });
    const size_t limit = mask.size() * 64;
    ASSERT_EQ(masked, static_cast<size_t>(std::count_if(want.begin(), want.end(), [&](uint32_t s) {
                return s % 2 == 0 && s < limit;
              })));
  }
  set.Free();
}

INSTANTIATE_TEST_SUITE_P(Slots, HolderSetProperty, testing::Values(3, 60, 500, 10000));

}  // namespace
}  // namespace tandem::routing
