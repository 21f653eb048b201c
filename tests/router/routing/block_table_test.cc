#include "router/routing/block_table.h"

#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <random>
#include <vector>

namespace tandem::routing {
namespace {

struct Number {
  uint64_t value = 0;
  bool empty() const { return value == 0; }
};
using Table = BlockTable<Number>;

void ExpectEqual(const Table& table, const std::map<BlockHash, uint64_t>& want,
                 const std::vector<BlockHash>& hashes) {
  ASSERT_EQ(table.size(), static_cast<int64_t>(want.size()));
  for (const BlockHash& hash : hashes) {
    const Number* const found = table.Find(hash);
    const auto it = want.find(hash);
    ASSERT_EQ(found == nullptr, it == want.end());
    if (found == nullptr) continue;
    ASSERT_EQ(found->value, it->second);
  }
  size_t entries = 0;
  table.ForEach([&](const Number&) { ++entries; });
  ASSERT_EQ(entries, want.size());
}

// Fills and empties the table in turn, by single updates and by sweeps, against a plain map.
void RunProperty(const std::function<BlockHash(uint64_t)>& hash_of, uint64_t num_hashes) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 rng(seed);
  std::vector<BlockHash> hashes;
  for (uint64_t i = 0; i < num_hashes; ++i) hashes.push_back(hash_of(i));
  Table table;
  std::map<BlockHash, uint64_t> want;
  std::map<uint64_t, BlockHash> of_value;  // values are unique: a sweep tells what it saw by them
  uint64_t next_value = 1;
  const uint64_t operations = 12 * num_hashes;
  for (uint64_t i = 0; i < operations; ++i) {
    const BlockHash& hash = hashes[rng() % hashes.size()];
    if (rng() % 100 < (i * 4 / operations % 2 == 0 ? 75u : 20u)) {
      const auto [value, first] = table.TryEmplace(hash, Number{next_value});
      ASSERT_EQ(first, want.try_emplace(hash, next_value).second);
      ASSERT_EQ(value->value, want[hash]);
      if (first) of_value[next_value++] = hash;
    } else {
      bool seen = false;
      table.Update(hash, [&](Number& number) {
        seen = true;
        number.value = 0;
      });
      ASSERT_EQ(seen, want.erase(hash) == 1);
    }
    if (rng() % (num_hashes / 2) == 0) {
      table.Sweep(num_hashes / 8, [&](Number& number) {
        if (number.value % 8 != 0) return;
        ASSERT_EQ(want.erase(of_value[number.value]), 1u);
        number.value = 0;
      });
    }
    if (i % (num_hashes / 2) == 0) ExpectEqual(table, want, hashes);
  }
  for (const BlockHash& hash : hashes) {
    table.Update(hash, [](Number& number) { number.value = 0; });
  }
  EXPECT_EQ(table.size(), 0);
}

TEST(BlockTable, PropertyEqualsAMapForHashes) {
  std::mt19937_64 rng(1);
  RunProperty([&](uint64_t) { return BlockHash{rng(), rng()}; }, 3000);
}

TEST(BlockTable, PropertyEqualsAMapForSmallNumbers) {
  RunProperty([](uint64_t i) { return BlockHash{i, 0}; }, 3000);
}

TEST(BlockTable, PropertyEqualsAMapForHashesMadeToCollide) {
  RunProperty([](uint64_t i) { return BlockHash{i, ~i}; }, 300);  // all at home in the last place
}

// Large enough for memory that is mapped and given back in part.
TEST(BlockTable, GrowsLargeAndShrinksAgain) {
  constexpr uint64_t kEntries = 400'000;
  const auto hash_of = [](uint64_t i) { return BlockHash{i, i * i}; };
  Table table;
  for (uint64_t i = 0; i < kEntries; ++i) {
    ASSERT_TRUE(table.TryEmplace(hash_of(i), Number{i + 1}).second);
  }
  for (uint64_t i = 0; i < kEntries; ++i) ASSERT_EQ(table.Find(hash_of(i))->value, i + 1);
  for (uint64_t i = 0; i < kEntries - 10; ++i) {
    table.Update(hash_of(i), [](Number& number) { number.value = 0; });
  }
  ASSERT_EQ(table.size(), 10);
  for (uint64_t i = kEntries - 10; i < kEntries; ++i) {
    ASSERT_EQ(table.Find(hash_of(i))->value, i + 1);
  }
}

TEST(BlockTable, ASweepComesToEveryEntry) {
  Table table;
  for (uint64_t i = 0; i < 1000; ++i) table.TryEmplace({i, 0}, Number{i + 1});
  table.Sweep(1 << 20, [](Number& number) { number.value = 0; });
  EXPECT_EQ(table.size(), 0);
}

}  // namespace
}  // namespace tandem::routing
