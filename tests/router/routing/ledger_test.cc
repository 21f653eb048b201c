#include "router/routing/ledger.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

namespace tandem::routing {
namespace {

constexpr GroupId kA{0}, kB{1};

TEST(Ledger, CountsWhatIsOutstandingUntilItEnds) {
  Ledger ledger;
  ledger.Sent({{1, 0}, kA, 100, 100, 10});
  ledger.Sent({{2, 0}, kA, 50, 50, 20});
  EXPECT_EQ(ledger.Outstanding(kA).unreported_tokens, 150);
  ledger.Reported(kA, 1);
  EXPECT_EQ(ledger.Outstanding(kA).unreported_tokens, 50);
  EXPECT_EQ(ledger.Outstanding(kA).num_attempts, 2);
  EXPECT_TRUE(ledger.Progressed({2, 0}));
  EXPECT_EQ(ledger.Outstanding(kA).unreported_tokens, 0);
  EXPECT_TRUE(ledger.Finished({1, 0}, FinishReason::kStop));
  EXPECT_TRUE(ledger.Finished({2, 0}, FinishReason::kError));
  EXPECT_EQ(ledger.num_in_flight(), 0);
  EXPECT_EQ(ledger.counts().finished, 1);
  EXPECT_EQ(ledger.counts().failed, 1);
}

TEST(Ledger, ACancelledAttemptStaysUntilItsGroupSaysItEnded) {
  Ledger ledger;
  ledger.Sent({{1, 0}, kA, 8, 8, 0});
  EXPECT_TRUE(ledger.Cancelled({1, 0}));
  EXPECT_FALSE(ledger.Cancelled({1, 0}));
  EXPECT_EQ(ledger.Outstanding(kA).num_attempts, 1);
  EXPECT_TRUE(ledger.Finished({1, 0}, FinishReason::kStop));
  EXPECT_EQ(ledger.counts().cancelled, 1);
  EXPECT_EQ(ledger.counts().finished, 0);
}

TEST(Ledger, LateMessagesChangeNothing) {
  Ledger ledger;
  ledger.Sent({{1, 0}, kA, 8, 8, 0});
  EXPECT_EQ(ledger.GroupLost(kA).size(), 1u);
  EXPECT_FALSE(ledger.Finished({1, 0}, FinishReason::kStop));
  EXPECT_FALSE(ledger.Progressed({1, 0}));
  EXPECT_FALSE(ledger.Cancelled({1, 0}));
  ledger.Sent({{1, 1}, kB, 8, 8, 0});  // the retry elsewhere
  EXPECT_FALSE(ledger.Finished({1, 0}, FinishReason::kStop));
  EXPECT_EQ(ledger.num_in_flight(), 1);
  EXPECT_EQ(ledger.counts().retried, 1);
}

TEST(Ledger, ALostGroupGivesItsAttemptsInOrderOfSending) {
  Ledger ledger;
  ledger.Sent({{7, 0}, kA, 1, 1, 30});
  ledger.Sent({{5, 0}, kA, 1, 1, 20});
  ledger.Sent({{6, 0}, kB, 1, 1, 10});
  ledger.Sent({{4, 0}, kA, 1, 1, 30});
  const std::vector<Attempt> lost = ledger.GroupLost(kA);
  ASSERT_EQ(lost.size(), 3u);
  EXPECT_EQ(lost[0].key.request, 5u);
  EXPECT_EQ(lost[1].key.request, 4u);
  EXPECT_EQ(lost[2].key.request, 7u);
  EXPECT_EQ(ledger.num_in_flight(), 1);
}

TEST(LedgerDeathTest, SendingAnAttemptTwiceIsOurMistake) {
  Ledger ledger;
  ledger.Sent({{1, 0}, kA, 8, 8, 0});
  EXPECT_DEATH(ledger.Sent({{1, 0}, kB, 8, 8, 0}), "sent twice");
}

// Any history of sends, tokens, cancels, ends, losses, and of messages that come late or twice:
// the totals hold after each and everything returns to zero.
TEST(Ledger, PropertyReturnsToZeroOnEveryPath) {
  const uint64_t seed = std::random_device{}();
  RecordProperty("seed", std::to_string(seed));
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 rng(seed);
  const auto below = [&](int n) { return static_cast<int>(rng() % n); };
  Ledger ledger;
  std::map<RequestId, uint32_t> next_attempt;
  RequestId next_request = 1;
  for (int i = 0; i < 20000; ++i) {
    const RequestId request = 1 + rng() % next_request;
    const AttemptKey key{request, static_cast<uint32_t>(below(3))};
    switch (below(12)) {
      case 0:
      case 1:
      case 2:
      case 3:
        ledger.Sent({{next_request++, 0}, GroupId{below(4)}, below(500), below(500), i});
        break;
      case 4:
        ledger.Progressed(key);
        break;
      case 5:
        ledger.Cancelled(key);
        break;
      case 6:
        ledger.Reported(GroupId{below(4)}, request);
        break;
      case 7:
        if (below(50) != 0) break;
        for (const Attempt& lost : ledger.GroupLost(GroupId{below(4)})) {
          if (lost.key.attempt < 2) {  // resend elsewhere
            ledger.Sent({{lost.key.request, lost.key.attempt + 1}, GroupId{below(4)}, 9, 9, i});
          }
        }
        break;
      default:
        ledger.Finished(key, static_cast<FinishReason>(1 + below(5)));
    }
    if (i % 50 == 0) ledger.CheckInvariants();
  }
  for (int g = 0; g < 4; ++g) ledger.GroupLost(GroupId{g});
  ledger.CheckInvariants();
  EXPECT_EQ(ledger.num_in_flight(), 0);
  for (int g = 0; g < 4; ++g) {
    EXPECT_EQ(ledger.Outstanding(GroupId{g}).num_attempts, 0);
    EXPECT_EQ(ledger.Outstanding(GroupId{g}).unreported_tokens, 0);
  }
}

}  // namespace
}  // namespace tandem::routing
