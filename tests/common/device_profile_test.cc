#include "common/device_profile.h"

#include <gtest/gtest.h>

namespace tandem {
namespace {

// Round numbers, so that the sums below can be done by hand.
DeviceProfile Example() {
  DeviceProfile profile;
  profile.launch_ns = 1e5;
  profile.weights_read_ns = 5e6;
  profile.gemm_ns_per_token = 25'000;  // 200 tokens take as long as reading the weights
  profile.attention_ns_per_pair = 0.5;
  profile.kv_read_ns_per_token = 50;
  return profile;
}

TEST(DeviceProfile, AStepWithoutTokensTakesNoTime) { EXPECT_EQ(StepTime(Example(), {}), 0); }

TEST(DeviceProfile, FewTokensTakeAsLongAsReadingTheWeights) {
  StepWork work;
  work.num_decodes = 1;
  EXPECT_EQ(StepTime(Example(), work), 100'000 + 5'000'000);
  work.num_decodes = 200;
  EXPECT_EQ(StepTime(Example(), work), 100'000 + 5'000'000);
  work.num_decodes = 201;
  EXPECT_EQ(StepTime(Example(), work), 100'000 + 5'025'000);
}

TEST(DeviceProfile, ContextIsReadByDecodes) {
  StepWork work;
  work.num_decodes = 8;
  work.context_tokens = 100'000;
  EXPECT_EQ(StepTime(Example(), work), 100'000 + 5'000'000 + 100'000 * 50);
}

TEST(DeviceProfile, AChunkLooksAtWhatIsBeforeItAndAtHalfOfItself) {
  StepWork work;
  AddChunk(work, 3000, 1000);
  EXPECT_EQ(work.prefill_tokens, 1000);
  EXPECT_DOUBLE_EQ(work.prefill_attention, 3000.0 * 1000 + 1000.0 * 1000 / 2);
  EXPECT_EQ(StepTime(Example(), work), 100'000 + 1000 * 25'000 + 3'500'000 / 2);
}

// However a prompt is cut, its attention is the same work.
TEST(DeviceProfile, ChunksOfAPromptAddUp) {
  StepWork whole, chunks;
  AddChunk(whole, 0, 4096);
  for (int at = 0; at < 4096; at += 512) AddChunk(chunks, at, 512);
  EXPECT_DOUBLE_EQ(whole.prefill_attention, chunks.prefill_attention);
  EXPECT_EQ(whole.prefill_tokens, chunks.prefill_tokens);
}

TEST(DeviceProfile, DecodesAndChunksShareTheMatrixProducts) {
  StepWork work;
  work.num_decodes = 100;
  work.context_tokens = 1000;
  AddChunk(work, 0, 100);
  EXPECT_EQ(StepTime(Example(), work), 100'000 + 5'000'000 + 1000 * 50 + 5000 / 2);
}

TEST(DeviceProfile, RanksWaitForTheirSums) {
  DeviceProfile profile = Example();
  profile.ranks = 4;
  profile.all_reduce_ns = 1e6;
  profile.all_reduce_ns_per_token = 1000;
  StepWork work;
  work.num_decodes = 10;
  EXPECT_EQ(StepTime(profile, work), 100'000 + 5'000'000 + 1'000'000 + 10 * 1000);
}

TEST(DeviceProfile, FractionsOfNanosecondsAreKeptUntilTheEnd) {
  DeviceProfile profile;
  profile.gemm_ns_per_token = 0.4;
  StepWork work;
  work.num_decodes = 1;
  EXPECT_EQ(StepTime(profile, work), 0);
  work.num_decodes = 10;
  EXPECT_EQ(StepTime(profile, work), 4);
}

}  // namespace
}  // namespace tandem
