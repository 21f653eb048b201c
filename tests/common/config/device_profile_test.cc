#include "common/config/device_profile.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

namespace tandem::config {
namespace {

using testing::HasSubstr;

constexpr char kOneDevice[] = R"(kv_tokens: 450000
launch: 500us
weights_read: 5.46ms
gemm_per_token: 26.8us
attention_per_pair: 1.31ns
kv_read_per_token: 43.7 ns
)";

std::string MistakesOf(const std::string& yaml) {
  const auto profile = ParseDeviceProfile(yaml, "d.yaml");
  return profile.ok() ? "none" : std::string(Message(profile.status()));
}

// kOneDevice with the line that begins with `key` replaced.
std::string With(const std::string& key, const std::string& line) {
  std::string yaml = kOneDevice;
  const size_t at = yaml.find(key);
  return yaml.replace(at, yaml.find('\n', at) - at, line);
}

TEST(DeviceProfileFile, EveryKeyIsRead) {
  const auto profile = ParseDeviceProfile(
      std::string(kOneDevice) + "ranks: 4\nall_reduce: 1.5 ms\nall_reduce_per_token: 2us\n",
      "/some/where/fast-one.yaml");
  ASSERT_TRUE(profile.ok()) << Message(profile.status());
  EXPECT_EQ(profile->name, "fast-one");
  EXPECT_EQ(profile->ranks, 4);
  EXPECT_EQ(profile->kv_tokens, 450000);
  EXPECT_DOUBLE_EQ(profile->launch_ns, 500e3);
  EXPECT_DOUBLE_EQ(profile->weights_read_ns, 5.46e6);
  EXPECT_DOUBLE_EQ(profile->gemm_ns_per_token, 26.8e3);
  EXPECT_DOUBLE_EQ(profile->attention_ns_per_pair, 1.31);
  EXPECT_DOUBLE_EQ(profile->kv_read_ns_per_token, 43.7);
  EXPECT_DOUBLE_EQ(profile->all_reduce_ns, 1.5e6);
  EXPECT_DOUBLE_EQ(profile->all_reduce_ns_per_token, 2e3);
}

TEST(DeviceProfileFile, OneDeviceNeedsNoAllReduce) {
  const auto profile = ParseDeviceProfile(kOneDevice, "d.yaml");
  ASSERT_TRUE(profile.ok()) << Message(profile.status());
  EXPECT_EQ(profile->ranks, 1);
  EXPECT_EQ(MistakesOf(std::string(kOneDevice) + "all_reduce: 1ms\n"),
            "d.yaml:7:13: 'all_reduce' of a device alone; take it out, or say how many ranks");
}

TEST(DeviceProfileFile, SeveralRanksNeedAllReduces) {
  EXPECT_EQ(MistakesOf(std::string(kOneDevice) + "ranks: 2\n"),
            "d.yaml:1:1: 'all_reduce' is missing; time, 0ns to 1h\n"
            "d.yaml:1:1: 'all_reduce_per_token' is missing; time, 0ns to 1h");
}

TEST(DeviceProfileFile, MistakesAreNamedWithTheirPlace) {
  EXPECT_EQ(MistakesOf(With("weights_read", "weight_read: 5.46ms")),
            "d.yaml:1:1: 'weights_read' is missing; time, 0ns to 1h\n"
            "d.yaml:3:1: unknown key 'weight_read' at the top; did you mean 'weights_read'?");
  EXPECT_EQ(MistakesOf(With("launch", "launch: 500")),
            "d.yaml:2:9: 'launch': '500' is not a time; a number of ns, us, ms or s, like 26.8us");
  EXPECT_EQ(MistakesOf(With("launch", "launch: -1us")),
            "d.yaml:2:9: 'launch': '-1us' is out of range; time, 0ns to 1h");
  EXPECT_THAT(MistakesOf(With("launch", "launch: nans")), HasSubstr("out of range"));
  EXPECT_THAT(MistakesOf(With("launch", "launch: 1e3us")), HasSubstr("not a time"));
  EXPECT_EQ(MistakesOf(With("launch", "launch: [1us]")),
            "d.yaml:2:9: 'launch' is a list; a single value");
  EXPECT_EQ(MistakesOf(With("kv_tokens", "kv_tokens: 0")),
            "d.yaml:1:12: 'kv_tokens': 0 is out of range; integer, 1 to 1000000000");
  EXPECT_EQ(MistakesOf(With("kv_tokens", "kv_tokens: 45k")),
            "d.yaml:1:12: 'kv_tokens': '45k' is not a whole number; integer, 1 to 1000000000");
  EXPECT_EQ(MistakesOf(std::string(kOneDevice) + "launch: 1us\n"),
            "d.yaml:7:1: 'launch' stands here a second time; keep one");
  EXPECT_THAT(MistakesOf("- 1\n"), HasSubstr("the file is a list; a map with the keys ranks, "));
  EXPECT_THAT(MistakesOf("a: [\n"), HasSubstr("not YAML"));
}

TEST(DeviceProfileFile, OneThatIsNotThereIsNamed) {
  const auto profile = LoadDeviceProfile("no/such/profile.yaml");
  ASSERT_FALSE(profile.ok());
  EXPECT_THAT(std::string(Message(profile.status())),
              HasSubstr("no/such/profile.yaml:1:1: cannot be read: "));
}

StepWork Prefill(int tokens) {
  StepWork work;
  AddChunk(work, 0, tokens);
  return work;
}

TEST(DeviceProfileFile, EveryFileThatIsShippedIsValid) {
  int seen = 0;
  for (const auto& entry : std::filesystem::directory_iterator("configs/devices")) {
    const auto profile = LoadDeviceProfile(entry.path());
    ASSERT_TRUE(profile.ok()) << Message(profile.status());
    EXPECT_EQ(profile->name, entry.path().stem());
    if (profile->name == "instant") {
      EXPECT_EQ(StepTime(*profile, Prefill(8192)), 0);
    } else {
      EXPECT_GT(StepTime(*profile, Prefill(1)), kMillisecond) << profile->name;
    }
    ++seen;
  }
  EXPECT_EQ(seen, 5);
}

// The devices in their order: a slip by a power of ten in one of the files shows here.
TEST(DeviceProfileFile, AnH100IsTwoToThreeTimesAnA100) {
  for (const std::string model : {"llama3-8b", "llama3-70b"}) {
    const auto h100 = LoadDeviceProfile("configs/devices/h100-" + model + ".yaml");
    const auto a100 = LoadDeviceProfile("configs/devices/a100-" + model + ".yaml");
    ASSERT_TRUE(h100.ok() && a100.ok());
    const auto ratio = [&](const StepWork& work) {
      return static_cast<double>(StepTime(*a100, work)) /
             static_cast<double>(StepTime(*h100, work));
    };
    StepWork decodes;
    decodes.num_decodes = 64;
    decodes.context_tokens = 64 * 2000;
    EXPECT_GT(ratio(decodes), 1.3) << model;
    EXPECT_LT(ratio(decodes), 1.8) << model;
    EXPECT_GT(ratio(Prefill(2048)), 2) << model;
    EXPECT_LT(ratio(Prefill(2048)), 3) << model;
  }
}

// 600 and 400 TFLOPS, 3 TB/s and a floor of 5.5 ms are what routing policies were first studied
// with.
TEST(DeviceProfileFile, TheH100HasTheStudiedConstants) {
  const auto profile = LoadDeviceProfile("configs/devices/h100-llama3-8b.yaml");
  ASSERT_TRUE(profile.ok());
  StepWork one;
  one.num_decodes = 1;
  EXPECT_NEAR(static_cast<double>(StepTime(*profile, one)), 0.5e6 + 5.5e6, 0.1e6);
  // 35,000 tokens in chunks of 2,048: 18 launches, 16.06 GFLOP a token at 600 TFLOPS, and
  // 524,288 FLOP a pair at 400 TFLOPS.
  Nanos whole = 0;
  for (int at = 0; at < 35'000; at += 2048) {
    StepWork chunk;
    AddChunk(chunk, at, std::min(2048, 35'000 - at));
    whole += StepTime(*profile, chunk);
  }
  const double expected = 18 * 0.5e-3 + 35e3 * 16.06e9 / 600e12 + 35e3 * 35e3 / 2 * 524288 / 400e12;
  EXPECT_NEAR(static_cast<double>(whole) / 1e9, expected, 0.01 * expected);
}

TEST(DeviceProfileFile, TheDocumentHasTheTable) {
  std::ifstream in("docs/cluster_file.md");
  std::ostringstream text;
  text << in.rdbuf();
  EXPECT_THAT(text.str(), HasSubstr(DeviceProfileReference()));
}

}  // namespace
}  // namespace tandem::config
