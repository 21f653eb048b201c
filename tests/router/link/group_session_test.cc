#include "router/link/group_session.h"

#include <gtest/gtest.h>

#include <vector>

#include "proto/tandem.pb.h"

namespace tandem::link {
namespace {

using Kind = routing::KvEvent::Kind;

wire::KvEvents Stored(uint64_t number, uint64_t block) {
  wire::KvEvents events;
  events.set_first_number(number);
  events.set_kinds(std::string(1, static_cast<char>(Kind::kStored)));
  for (const uint64_t word : {block, block, block - 1, block - 1}) events.add_words(word);
  return events;
}

wire::SnapshotChunk Snapshot(uint64_t as_of, std::vector<uint64_t> blocks) {
  wire::SnapshotChunk chunk;
  chunk.set_as_of(as_of);
  chunk.set_last(true);
  for (const uint64_t block : blocks) {
    for (const uint64_t word : {block, block, block - 1, block - 1}) chunk.add_words(word);
  }
  return chunk;
}

// Kinds and blocks of what was delivered since the last call; the numbers must go on by one.
class Delivered {
 public:
  std::vector<routing::KvEvent> out;

  std::vector<std::pair<Kind, uint64_t>> Take() {
    std::vector<std::pair<Kind, uint64_t>> events;
    for (const routing::KvEvent& event : out) {
      EXPECT_EQ(event.number, ++last_);
      events.emplace_back(event.kind, event.hash.low);
    }
    out.clear();
    return events;
  }

 private:
  uint64_t last_ = 0;
};

using Events = std::vector<std::pair<Kind, uint64_t>>;

TEST(KvEventStream, AGapClearsAtOnceAndTheSnapshotFollows) {
  KvEventStream stream(0);
  Delivered delivered;
  ASSERT_TRUE(stream.Take(Stored(1, 11), delivered.out));
  EXPECT_EQ(delivered.Take(), (Events{{Kind::kStored, 11}}));
  EXPECT_FALSE(stream.TakeSnapshotRequest());

  ASSERT_TRUE(stream.Take(Stored(3, 13), delivered.out));  // 2 is missing
  EXPECT_EQ(delivered.Take(), (Events{{Kind::kCleared, 0}})) << "unknown from here on, not held";
  EXPECT_TRUE(stream.TakeSnapshotRequest());
  ASSERT_TRUE(stream.Take(Stored(4, 14), delivered.out));
  EXPECT_EQ(delivered.Take(), Events{}) << "held back, and not cleared twice";

  ASSERT_TRUE(stream.Take(Snapshot(3, {11, 12, 13}), delivered.out));
  EXPECT_EQ(
      delivered.Take(),
      (Events{{Kind::kStored, 11}, {Kind::kStored, 12}, {Kind::kStored, 13}, {Kind::kStored, 14}}));
  EXPECT_FALSE(stream.TakeSnapshotRequest());
}

TEST(KvEventStream, AReportWithoutEventsTellsOfAGapToo) {
  KvEventStream stream(0);
  Delivered delivered;
  ASSERT_TRUE(stream.Take(Stored(1, 11), delivered.out));
  wire::KvEvents none;
  none.set_first_number(3);  // the next one: 2 is missing
  ASSERT_TRUE(stream.Take(none, delivered.out));
  EXPECT_EQ(delivered.Take(), (Events{{Kind::kStored, 11}, {Kind::kCleared, 0}}));
  EXPECT_TRUE(stream.TakeSnapshotRequest());
}

TEST(KvEventStream, AGapBehindTheSnapshotClearsAgain) {
  KvEventStream stream(5);  // the group had events before this session: nothing is known yet
  Delivered delivered;
  EXPECT_TRUE(stream.TakeSnapshotRequest());
  ASSERT_TRUE(stream.Take(Stored(8, 18), delivered.out));
  EXPECT_EQ(delivered.Take(), Events{});
  ASSERT_TRUE(stream.Take(Snapshot(6, {15}), delivered.out));  // 7 is missing
  EXPECT_EQ(delivered.Take(), (Events{{Kind::kStored, 15}, {Kind::kCleared, 0}}));
  EXPECT_TRUE(stream.TakeSnapshotRequest());
  ASSERT_TRUE(stream.Take(Snapshot(8, {17, 18}), delivered.out));
  EXPECT_EQ(delivered.Take(), (Events{{Kind::kStored, 17}, {Kind::kStored, 18}}));
}

}  // namespace
}  // namespace tandem::link
