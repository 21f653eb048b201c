#include "bench/sim/prompt.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

namespace tandem::simulator {
namespace {

constexpr int kVocab = 1000;

Trace Parsed(const std::string& text) {
  StatusOr<Trace> trace = trace::ParseTrace(text, "t");
  EXPECT_TRUE(trace.ok()) << Message(trace.status());
  return trace.ok() ? std::move(*trace) : Trace{};
}

std::vector<TokenId> Prompt(const Trace& trace, size_t index) {
  std::vector<TokenId> prompt;
  MakePrompt(trace, index, kVocab, prompt);
  return prompt;
}

TEST(PromptTest, PromptsShareWhatTheirIdsShare) {
  const Trace trace = Parsed(
      "{\"tandem_trace\": 1, \"block_size\": 16}\n"
      "{\"timestamp\": 0, \"input_length\": 40, \"output_length\": 1, \"hash_ids\": [1, 2]}\n"
      "{\"timestamp\": 0, \"input_length\": 40, \"output_length\": 1, \"hash_ids\": [1, 3]}\n"
      "{\"timestamp\": 0, \"input_length\": 40, \"output_length\": 1, \"hash_ids\": [1, 2]}\n"
      "{\"timestamp\": 0, \"input_length\": 21, \"output_length\": 1, \"hash_ids\": [1, 2]}\n");
  const auto a = Prompt(trace, 0), b = Prompt(trace, 1), c = Prompt(trace, 2), d = Prompt(trace, 3);
  ASSERT_EQ(a.size(), 40U);
  ASSERT_EQ(d.size(), 21U);
  EXPECT_TRUE(std::equal(a.begin(), a.begin() + 16, b.begin()));
  EXPECT_FALSE(std::equal(a.begin() + 16, a.begin() + 32, b.begin() + 16));
  EXPECT_TRUE(std::equal(a.begin(), a.begin() + 32, c.begin()));
  EXPECT_FALSE(std::equal(a.begin() + 32, a.end(), c.begin() + 32));  // no id says they are equal
  EXPECT_TRUE(std::equal(d.begin(), d.end(), a.begin()));  // part of a block has its first tokens
  EXPECT_EQ(a, Prompt(trace, 0));
  for (const TokenId token : a) {
    EXPECT_GE(token, 0);
    EXPECT_LT(token, kVocab);
  }
}

TEST(PromptTest, RetimesWithinTheJitterAndInOrder) {
  std::string text = "{\"tandem_trace\": 1, \"block_size\": 16}\n";
  for (int i = 0; i < 100; ++i) {
    text += "{\"timestamp\": 3000, \"input_length\": 1, \"output_length\": 1, \"hash_ids\": []}\n";
  }
  Trace once = Parsed(text), twice = once, other = once;
  Retime(once, 3 * kSecond, 2, 7);
  Retime(twice, 3 * kSecond, 2, 7);
  Retime(other, 3 * kSecond, 2, 8);
  std::set<Nanos> arrivals;
  int differ = 0;
  for (size_t i = 0; i < once.requests.size(); ++i) {
    const Nanos at = once.requests[i].arrival;
    EXPECT_EQ(at, twice.requests[i].arrival);
    differ += at != other.requests[i].arrival;
    EXPECT_GE(at, arrivals.empty() ? 0 : *arrivals.rbegin());
    EXPECT_LT(at, 1500 * kMillisecond);
    arrivals.insert(at);
  }
  EXPECT_GT(arrivals.size(), 90U);
  EXPECT_GT(differ, 90);
}

}  // namespace
}  // namespace tandem::simulator
