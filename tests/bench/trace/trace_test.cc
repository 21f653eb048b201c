#include "bench/trace/trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include <filesystem>
#include <string>

namespace tandem::trace {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

Trace Parsed(const std::string& text) {
  StatusOr<Trace> trace = ParseTrace(text, "t");
  EXPECT_TRUE(trace.ok()) << Message(trace.status());
  return trace.ok() ? std::move(*trace) : Trace{};
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

TEST(TraceTest, ALengthOfNoneIsOne) {
  const Trace mooncake =
      Parsed("{\"timestamp\": 1, \"input_length\": 0, \"output_length\": 0, \"hash_ids\": []}\n");
  const Trace azure = Parsed("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46,0,0\n");
  for (const Trace* trace : {&mooncake, &azure}) {
    EXPECT_EQ(trace->requests[0].prompt_tokens, 1);
    EXPECT_EQ(trace->requests[0].output_tokens, 1);
    EXPECT_EQ(trace->requests[0].num_hashes, 0);
  }
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
      {"{\"timestamp\": 1, \"input_length\": -1, \"output_length\": 1, \"hash_ids\": []}\n",
       "t:1: ", "'input_length' is -1; a whole number, 0 to"},
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
      {azure + "2023-11-16 18:15:46,-1,44\n", "t:2: ", "is no request"},
      {azure + ",,\n", "t:2: ", "is no request"},
  };
  for (const auto& c : cases) {
    const StatusOr<Trace> trace = ParseTrace(c.text, "t");
    ASSERT_FALSE(trace.ok()) << c.text;
    EXPECT_THAT(std::string(Message(trace.status())), StartsWith(c.starts)) << c.text;
    EXPECT_THAT(std::string(Message(trace.status())), HasSubstr(c.has)) << c.text;
  }
}

}  // namespace
}  // namespace tandem::trace
