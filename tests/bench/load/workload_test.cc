#include "bench/load/workload.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>

namespace tandem::load {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

int64_t NumWords(const std::string& text) {
  return text.empty() ? 0 : std::count(text.begin(), text.end(), ' ') + 1;
}

std::string AllText(const Conversation& conversation) {
  std::string all;
  for (const Turn& turn : conversation.turns)
    all += fmt::format("{}|{}\n", turn.text, turn.max_tokens);
  return all;
}

class WorkloadTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ =
        std::filesystem::path(testing::TempDir()) /
        ("load_" + std::string(testing::UnitTest::GetInstance()->current_test_info()->name()));
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string Write(const std::string& name, const std::string& text) const {
    std::ofstream(folder_ / name, std::ios::binary) << text;
    return folder_ / name;
  }
  static LoadedWorkload Load(const WorkloadOptions& options) {
    auto loaded = LoadWorkload(options);
    EXPECT_TRUE(loaded.ok()) << loaded.status();
    return std::move(*loaded);
  }
  static std::string Mistake(const WorkloadOptions& options) {
    return std::string(Message(LoadWorkload(options).status()));
  }

  std::filesystem::path folder_;
};

TEST_F(WorkloadTest, RandomLengthsFillTheirRanges) {
  WorkloadOptions options;
  options.input = {3, 6};
  options.output = {1, 4};
  const LoadedWorkload loaded = Load(options);
  std::set<int64_t> inputs, outputs;
  for (int64_t i = 0; i < 200; ++i) {
    const Conversation conversation = loaded.workload->Make(i);
    ASSERT_EQ(conversation.turns.size(), 1u);
    EXPECT_EQ(NumWords(conversation.turns[0].text), conversation.turns[0].num_tokens);
    inputs.insert(conversation.turns[0].num_tokens);
    outputs.insert(conversation.turns[0].max_tokens);
  }
  EXPECT_THAT(inputs, ElementsAre(3, 4, 5, 6));
  EXPECT_THAT(outputs, ElementsAre(1, 2, 3, 4));
  EXPECT_TRUE(loaded.times.empty());
}

TEST_F(WorkloadTest, AConversationIsAFunctionOfSeedAndIndex) {
  WorkloadOptions options;
  options.input = {5, 50};
  options.turns = 3;
  options.num_prefixes = 4;
  options.prefix_tokens = 10;
  const LoadedWorkload one = Load(options), again = Load(options);
  std::set<std::string> all;
  for (int64_t i = 99; i >= 0; --i) all.insert(AllText(one.workload->Make(i)));
  EXPECT_EQ(all.size(), 100u);  // no two alike
  for (int64_t i = 0; i < 100; ++i) {
    EXPECT_EQ(AllText(one.workload->Make(i)), AllText(again.workload->Make(i)));
  }
  options.seed = 1;
  EXPECT_NE(AllText(Load(options).workload->Make(0)), AllText(one.workload->Make(0)));
}

TEST_F(WorkloadTest, PrefixesAreSharedAndDiffer) {
  WorkloadOptions options;
  options.input = {4, 4};
  options.num_prefixes = 3;
  options.prefix_tokens = 20;
  options.turns = 2;
  const LoadedWorkload loaded = Load(options);
  std::set<std::string> prefixes;
  for (int64_t i = 0; i < 60; ++i) {
    const Conversation conversation = loaded.workload->Make(i);
    const std::string& text = conversation.turns[0].text;
    EXPECT_EQ(NumWords(text), 24);
    size_t end = 0;
    for (int word = 0; word < 20; ++word) end = text.find(' ', end) + 1;
    prefixes.insert(text.substr(0, end));
    EXPECT_EQ(NumWords(conversation.turns[1].text), 4);
  }
  EXPECT_EQ(prefixes.size(), 3u);
}

TEST_F(WorkloadTest, EqualHashIdsAreEqualText) {
  WorkloadOptions options;
  options.dataset = Dataset::kTrace;
  options.file =
      Write("trace.jsonl",
            R"({"timestamp": 3000, "input_length": 600, "output_length": 7, "hash_ids": [5, 9]}
{"timestamp": 1000, "input_length": 1024, "output_length": 1, "hash_ids": [5, 6]}
{"timestamp": 5500, "input_length": 0, "output_length": 0, "hash_ids": []}
)");
  const LoadedWorkload loaded = Load(options);
  EXPECT_THAT(loaded.times, ElementsAre(0, 2 * kSecond, 4500 * kMillisecond));
  const Turn first = loaded.workload->Make(0).turns[0];
  const Turn second = loaded.workload->Make(1).turns[0];
  EXPECT_EQ(NumWords(first.text), 1024);
  EXPECT_EQ(NumWords(second.text), 600);
  EXPECT_EQ(second.max_tokens, 7);
  size_t block = 0;
  for (int word = 0; word < 512; ++word) block = first.text.find(' ', block) + 1;
  EXPECT_EQ(first.text.substr(0, block), second.text.substr(0, block));
  EXPECT_NE(first.text.substr(block, 200), second.text.substr(block, 200));
  const Turn empty = loaded.workload->Make(2).turns[0];  // what cannot be sent is one token
  EXPECT_EQ(empty.max_tokens, 1);
  options.max_input = 100;
  options.max_output = 5;
  const Turn cut = Load(options).workload->Make(1).turns[0];
  EXPECT_EQ(cut.text, second.text.substr(0, cut.text.size()));
  EXPECT_EQ(NumWords(cut.text), 100);
  EXPECT_EQ(cut.max_tokens, 5);
}

TEST_F(WorkloadTest, AzureRowsHaveTimesAndLengths) {
  WorkloadOptions options;
  options.dataset = Dataset::kTrace;
  const std::string rows =
      "TIMESTAMP,ContextTokens,GeneratedTokens\r\n"
      "2023-11-30 23:59:59.5000000,374,44\r\n"
      "2023-12-01 00:00:01.2500000,5,1\r\n";
  options.file = Write("trace.csv", rows);
  const LoadedWorkload loaded = Load(options);
  EXPECT_THAT(loaded.times, ElementsAre(0, 1750 * kMillisecond));
  EXPECT_EQ(NumWords(loaded.workload->Make(0).turns[0].text), 374);
  EXPECT_EQ(loaded.workload->Make(0).turns[0].max_tokens, 44);
}

// As `router.record_trace` writes them: ids for full blocks alone.
TEST_F(WorkloadTest, ARecordedTraceIsATraceToo) {
  WorkloadOptions options;
  options.dataset = Dataset::kTrace;
  options.file = Write("recorded", R"({"tandem_trace":1,"block_size":16}
{"timestamp":7.5,"input_length":40,"output_length":3,"hash_ids":[11,12],"model":"m"}
{"timestamp":9,"input_length":40,"output_length":3,"hash_ids":[11,12],"model":"m"}
)");
  const LoadedWorkload loaded = Load(options);
  EXPECT_THAT(loaded.times, ElementsAre(0, 1500 * kMicrosecond));
  const std::string first = loaded.workload->Make(0).turns[0].text;
  const std::string second = loaded.workload->Make(1).turns[0].text;
  EXPECT_EQ(NumWords(first), 40);
  size_t end = 0;
  for (int word = 0; word < 32; ++word) end = first.find(' ', end) + 1;
  EXPECT_EQ(first.substr(0, end), second.substr(0, end));
  EXPECT_NE(first, second);  // nobody says that the rest is equal
}

TEST_F(WorkloadTest, ShareGptConversationsAreEscapedAndCut) {
  WorkloadOptions options;
  options.dataset = Dataset::kShareGpt;
  options.turns = 2;
  options.file = Write("chat.json", R"([
    {"id": "a", "conversations": [
      {"from": "human", "value": "say \"hi\"\n"}, {"from": "gpt", "value": "0123456789"},
      {"from": "human", "value": "and?"}, {"from": "gpt", "value": "x"},
      {"from": "human", "value": "third"}, {"from": "gpt", "value": "y"}]},
    {"id": "b", "conversations": [{"from": "gpt", "value": "no question"}]}])");
  const LoadedWorkload loaded = Load(options);
  ASSERT_EQ(loaded.workload->num_conversations(), 1);
  const Conversation conversation = loaded.workload->Make(0);
  ASSERT_EQ(conversation.turns.size(), 2u);
  EXPECT_EQ(conversation.turns[0].text, R"(say \"hi\"\n)");
  EXPECT_EQ(conversation.turns[0].max_tokens, 3);  // ten bytes
  EXPECT_EQ(conversation.turns[1].text, "and?");
  options.max_input = 1;  // "say..." is too long to begin with
  EXPECT_THAT(Mistake(options), HasSubstr("no conversation in it"));
}

TEST_F(WorkloadTest, MistakesInFilesAreNamedWithTheirLine) {
  WorkloadOptions options;
  options.dataset = Dataset::kTrace;
  options.file = Write("a", R"({"timestamp":0,"input_length":1,"output_length":1,"hash_ids":[1]}
{"timestamp":0})");
  EXPECT_THAT(Mistake(options), HasSubstr(options.file + ":2: 'input_length' is missing"));
  options.file = folder_ / "absent";
  EXPECT_THAT(Mistake(options), HasSubstr("No such file"));
  options.dataset = Dataset::kShareGpt;
  options.file = Write("g", "{}");
  EXPECT_THAT(Mistake(options), HasSubstr("not a JSON array"));
}

}  // namespace
}  // namespace tandem::load
