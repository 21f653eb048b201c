#include "bench/load/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "bench/load/target.h"

namespace tandem::load {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::Pair;

StatusOr<std::optional<Options>> Parse(std::vector<std::string> words) {
  if (std::find(words.begin(), words.end(), "--url") == words.end()) {
    words.insert(words.begin(), {"--url", "http://host:8000"});
  }
  words.insert(words.begin(), "tandem-bench");
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  return ParseOptions(static_cast<int>(argv.size()), argv.data());
}

Options Good(const std::vector<std::string>& words) {
  auto parsed = Parse(words);
  EXPECT_TRUE(parsed.ok()) << parsed.status();
  return parsed.ok() ? **parsed : Options();
}

TEST(Options, DefaultsAreAClosedLoopOfOne) {
  const Options options = Good({});
  EXPECT_EQ(options.driver.mode, Mode::kClosed);
  EXPECT_EQ(options.driver.concurrency, 1);
  EXPECT_EQ(options.driver.num_requests, 1000);
  EXPECT_THAT(options.percentiles, ElementsAre(50, 90, 95, 99));
  EXPECT_TRUE(options.slo.empty());
  EXPECT_EQ(options.request.endpoint, Endpoint::kChat);
}

TEST(Options, FlagsReachWhatTheySet) {
  const Options options = Good({"--rate",
                                "2.5",
                                "--burstiness",
                                "0.5",
                                "--max-outstanding",
                                "9",
                                "--duration",
                                "1.5",
                                "--input",
                                "10:20",
                                "--output",
                                "7",
                                "--prefixes",
                                "3",
                                "--prefix-tokens",
                                "50",
                                "--turns",
                                "4",
                                "--seed",
                                "11",
                                "--slo",
                                "ttft=500,itl=50ms,e2e=2s,tpot=1.5",
                                "--percentiles",
                                "25,99.9",
                                "--header",
                                "X-A: b: c",
                                "--extra-body",
                                "{\"ignore_eos\": true, \"temperature\": 0}",
                                "--endpoint",
                                "completions",
                                "--timeout",
                                "0.25",
                                "--warmup",
                                "3"});
  EXPECT_EQ(options.driver.mode, Mode::kOpen);
  EXPECT_EQ(options.driver.rate, 2.5);
  EXPECT_EQ(options.driver.burstiness, 0.5);
  EXPECT_EQ(options.driver.max_outstanding, 9);
  EXPECT_EQ(options.driver.duration, 1500 * kMillisecond);
  EXPECT_EQ(options.driver.num_requests, DriverOptions().num_requests);
  EXPECT_EQ(options.driver.seed, 11u);
  EXPECT_EQ(options.workload.seed, 11u);
  EXPECT_EQ(options.workload.input.low, 10);
  EXPECT_EQ(options.workload.input.high, 20);
  EXPECT_EQ(options.workload.output.high, 7);
  EXPECT_EQ(options.workload.num_prefixes, 3);
  EXPECT_EQ(options.workload.turns, 4);
  EXPECT_EQ(options.slo.ttft_ms, 500);
  EXPECT_EQ(options.slo.itl_ms, 50);
  EXPECT_EQ(options.slo.e2el_ms, 2000);
  EXPECT_EQ(options.slo.tpot_ms, 1.5);
  EXPECT_THAT(options.percentiles, ElementsAre(25, 99.9));
  EXPECT_THAT(options.request.headers, ElementsAre(Pair("X-A", "b: c")));
  EXPECT_EQ(options.request.extra_members, "\"ignore_eos\":true,\"temperature\":0");
  EXPECT_EQ(options.request.endpoint, Endpoint::kCompletions);
  EXPECT_EQ(options.timeout, 250 * kMillisecond);
  EXPECT_EQ(options.warmup, 3);
}

TEST(Options, AReplayTakesAllOfItsTrace) {
  const Options options = Good({"--trace", "file", "--replay", "--rate-scale", "3"});
  EXPECT_EQ(options.driver.mode, Mode::kReplay);
  EXPECT_EQ(options.driver.rate_scale, 3);
  EXPECT_EQ(options.driver.num_requests, DriverOptions().num_requests);
  EXPECT_EQ(options.workload.dataset, Dataset::kTrace);
  EXPECT_EQ(options.workload.file, "file");
}

TEST(Options, RatesMayBeInfinite) {
  const Options options = Good({"--rate", "inf", "--burstiness", "inf"});
  EXPECT_TRUE(std::isinf(options.driver.rate));
  EXPECT_TRUE(std::isinf(options.driver.burstiness));
}

TEST(Options, MistakesAreOneLine) {
  const std::vector<std::vector<std::string>> mistakes = {
      {"--nonsense"},
      {"word"},
      {"--concurrency", "0"},
      {"--concurrency", "2", "--rate", "1"},
      {"--rate", "-1"},
      {"--rate", "nan"},
      {"--burstiness", "2"},
      {"--rate-scale", "2"},
      {"--replay"},
      {"--replay", "--trace", "f", "--rate", "1"},
      {"--max-outstanding", "3"},
      {"--max-outstanding", "3", "--concurrency", "3"},
      {"--trace", "a", "--sharegpt", "b"},
      {"--trace", "a", "--turns", "2"},
      {"--trace", "a", "--input", "5"},
      {"--sharegpt", "a", "--prefixes", "2", "--prefix-tokens", "3"},
      {"--prefixes", "3"},
      {"--max-input", "10"},
      {"--input", "5:4"},
      {"--input", "0"},
      {"--output", "1.5"},
      {"--output", "a:b"},
      {"--percentiles", "101"},
      {"--percentiles", "50,"},
      {"--slo", "ttft"},
      {"--slo", "ttft=fast"},
      {"--slo", "throughput=1"},
      {"--header", "no colon"},
      {"--header", "A: b\r\nC: d"},
      {"--extra-body", "[]"},
      {"--extra-body", "{\"stream\": false}"},
      {"--detailed"},
      {"--url", "ftp://host"},
      {"--insecure"},
      {"--ca-file", "ca.pem"},
      {"--url", "https://host", "--ca-file", "ca.pem", "--insecure"},
      {"--endpoint", "embeddings"},
      {"--num-requests", "0"},
      {"--timeout", "0"},
      {"--warmup"}};
  for (const auto& words : mistakes) {
    const auto parsed = Parse(words);
    ASSERT_FALSE(parsed.ok()) << testing::PrintToString(words);
    const std::string text(Message(parsed.status()));
    EXPECT_FALSE(text.empty());
    EXPECT_THAT(text, Not(HasSubstr("\n"))) << text;
  }
}

TEST(Target, ReadsUrls) {
  const auto authority = [](const char* url) {
    const auto target = ParseUrl(url);
    return target.ok() ? target->authority() + target->base_path
                       : std::string(Message(target.status()));
  };
  EXPECT_EQ(authority("http://localhost:8000"), "localhost:8000");
  EXPECT_EQ(authority("http://localhost:8000/v1/"), "localhost:8000");
  EXPECT_EQ(authority("http://10.0.0.1/llm/v1"), "10.0.0.1:80/llm");
  EXPECT_EQ(authority("http://[::1]:81/"), "[::1]:81");
  EXPECT_EQ(authority("https://h/v1"), "h:443");
  EXPECT_TRUE(ParseUrl("https://h")->https);
  EXPECT_FALSE(ParseUrl("http://h")->https);
  for (const char* bad :
       {"ftp://h", "//h", "h:80", "https://", "http://", "http://:80", "http://h:0", "http://h:x",
        "http://[::1", "http://[::1]x", "http://h:65536"}) {
    EXPECT_FALSE(ParseUrl(bad).ok()) << bad;
  }
}

}  // namespace
}  // namespace tandem::load
