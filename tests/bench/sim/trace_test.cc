#include "bench/sim/trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include <algorithm>
#include <filesystem>
#include <set>

namespace tandem::simulator {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

constexpr int kVocab = 1000;

Trace Parsed(const std::string& text) {
  StatusOr<Trace> trace = ParseTrace(text, "t");
  EXPECT_TRUE(trace.ok()) << Message(trace.status());
  return trace.ok() ? std::move(*trace) : Trace{};
}

std::vector<TokenId> Prompt(const Trace& trace, size_t index) {
  std::vector<TokenId> prompt;
  MakePrompt(trace, index, kVocab, prompt);
  return prompt;
}

TEST(TraceTest, ReadsMooncake) {
  const Trace trace = Parsed(
      "{\"timestamp\": 3000, \"input_length\": 600, \"output_length\": 7, \"hash_ids\": [4, 9]}\n"
      "{\"timestamp\": 5000.5, \"input_length\": 512, \"output_length\": 1, \"hash_ids\": [4]}\n");
  ASSERT_EQ(trace.requests.size(), 2U);
  EXPECT_EQ(trace.hash_tokens, 512);
  EXPECT_EQ(trace.requests[0].arrival, 0);  // since the first
  EXPECT_EQ(trace.requests[1].arrival, 2'000'500 * kMicrosecond);
  EXPECT_EQ(trace.requests[0].prompt_tokens, 600);
  EXPECT_EQ(trace.requests[0].output_tokens, 7);
  EXPECT_THAT(trace.HashesOf(trace.requests[0]), ElementsAre(4, 9));
  EXPECT_THAT(trace.HashesOf(trace.requests[1]), ElementsAre(4));
}

TEST(TraceTest, ReadsRecordedTracesAndSortsThem) {
  const Trace trace = Parsed(
      "{\"tandem_trace\": 1, \"block_size\": 16}\n"
      "{\"timestamp\": 9, \"input_length\": 33, \"output_length\": 2, \"hash_ids\": [1, 2]}\n\n"
      "{\"timestamp\": 8, \"input_length\": 15, \"output_length\": 2, "
      "\"hash_ids\": [], \"client\": 3}\n"
      "{\"timestamp\": 9, \"input_length\": 33, \"output_length\": 3, "
      "\"hash_ids\": [1, 18446744073709551615, 3]}\r\n");
  ASSERT_EQ(trace.requests.size(), 3U);
  EXPECT_EQ(trace.hash_tokens, 16);
  EXPECT_EQ(trace.requests[0].prompt_tokens, 15);
  EXPECT_EQ(trace.requests[1].output_tokens, 2);  // equal times: in the file's order
  EXPECT_THAT(trace.HashesOf(trace.requests[2]), ElementsAre(1, ~uint64_t{0}, 3));
}

TEST(TraceTest, ReadsAzure) {
  const Trace trace = Parsed(
      "TIMESTAMP,ContextTokens,GeneratedTokens\r\n"
      "2023-11-16 23:59:59.5000000,374,44\r\n"
      "2023-11-17 00:00:01.2500000+00:00,396,109\r\n");
  ASSERT_EQ(trace.requests.size(), 2U);
  EXPECT_EQ(trace.hash_tokens, 0);
  EXPECT_EQ(trace.requests[1].arrival, 1750 * kMillisecond);
  EXPECT_EQ(trace.requests[1].prompt_tokens, 396);
  EXPECT_EQ(trace.requests[1].output_tokens, 109);
}

TEST(TraceTest, ReadsGzippedFiles) {
  const std::string path = testing::TempDir() + "/trace_test.csv.gz";
  const std::string text = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46,374,44\n";
  gzFile file = gzopen(path.c_str(), "wb");
  ASSERT_NE(file, nullptr);
  ASSERT_EQ(gzwrite(file, text.data(), static_cast<unsigned>(text.size())),
            static_cast<int>(text.size()));
  ASSERT_EQ(gzclose(file), Z_OK);
  const StatusOr<Trace> trace = ReadTrace(path);
  ASSERT_TRUE(trace.ok()) << Message(trace.status());
  EXPECT_EQ(trace->requests.size(), 1U);

  std::filesystem::resize_file(path, std::filesystem::file_size(path) - 9);
  EXPECT_THAT(std::string(Message(ReadTrace(path).status())), HasSubstr("cannot be read"));
  std::filesystem::remove(path);
  EXPECT_THAT(std::string(Message(ReadTrace(path).status())), HasSubstr("No such file"));
}

TEST(TraceTest, NamesTheLineThatIsWrong) {
  const std::string good =
      "{\"timestamp\": 1, \"input_length\": 600, \"output_length\": 7, \"hash_ids\": [4, 9]}\n";
  const std::string azure = "TIMESTAMP,ContextTokens,GeneratedTokens\n";
  const struct {
    std::string text, starts, has;
  } cases[] = {
      {"", "t:1: ", "neither a JSON line"},
      {"hello\n", "t:1: ", "neither a JSON line"},
      {"{\"tandem_trace\": 1, \"block_size\": 16}\n", "t:1: ", "no request"},
      {"{\"tandem_trace\": 2, \"block_size\": 16}\n" + good, "t:1: ", "'tandem_trace' is 2"},
      {"{\"tandem_trace\": 1}\n" + good, "t:1: ", "'block_size' is missing"},
      {good + "{\"timestamp\": 1\n", "t:2: ", "not a JSON object"},
      {good + good + "[]\n", "t:3: ", "not a JSON object"},
      {"{\"timestamp\": -1, \"input_length\": 1, \"output_length\": 1, \"hash_ids\": [1]}\n",
       "t:1: ", "'timestamp' is -1; milliseconds"},
      {"{\"timestamp\": \"1\", \"input_length\": 1, \"output_length\": 1, \"hash_ids\": [1]}\n",
       "t:1: ", "'timestamp' is \"1\"; milliseconds"},
      {"{\"timestamp\": 1, \"input_length\": 0, \"output_length\": 1, \"hash_ids\": []}\n",
       "t:1: ", "'input_length' is 0; a whole number, 1 to"},
      {"{\"timestamp\": 1, \"input_length\": 1, \"output_length\": 1.5, \"hash_ids\": [1]}\n",
       "t:1: ", "'output_length' is 1.5"},
      {"{\"timestamp\": 1, \"input_length\": 1, \"output_length\": 1}\n", "t:1: ", "no 'hash_ids'"},
      {"{\"timestamp\": 1, \"input_length\": 600, \"output_length\": 1, \"hash_ids\": [1, 2, 3]}\n",
       "t:1: ", "3 hash_ids for 600 tokens; 512 tokens an id make 1, or 2"},
      {"{\"timestamp\": 1, \"input_length\": 6, \"output_length\": 1, \"hash_ids\": [-1.5]}\n",
       "t:1: ", "the hash id -1.5E0 is not a whole number"},
      {azure, "t:1: ", "no request"},
      {azure + "2023-11-16 18:15:46,374,44\n2023-11-16 18:15:46,374\n", "t:3: ", "is no request"},
      {azure + "2023-13-16 18:15:46,374,44\n", "t:2: ", "is no request"},
      {azure + "2023-11-16 18:15:46,374,44,5\n", "t:2: ", "is no request"},
      {azure + "2023-11-16 18:15:46,0,44\n", "t:2: ", "is no request"},
      {azure + ",,\n", "t:2: ", "is no request"},
  };
  for (const auto& c : cases) {
    const StatusOr<Trace> trace = ParseTrace(c.text, "t");
    ASSERT_FALSE(trace.ok()) << c.text;
    EXPECT_THAT(std::string(Message(trace.status())), StartsWith(c.starts)) << c.text;
    EXPECT_THAT(std::string(Message(trace.status())), HasSubstr(c.has)) << c.text;
  }
}

TEST(TraceTest, PromptsShareWhatTheirIdsShare) {
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

TEST(TraceTest, RetimesWithinTheJitterAndInOrder) {
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
