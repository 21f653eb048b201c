#include "common/config/values.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace tandem::config {
namespace {

TEST(Values, ReadsSizesWithUnits) {
  EXPECT_EQ(ParseBytes("0B").value(), 0);
  EXPECT_EQ(ParseBytes("16KiB").value(), 16 << 10);
  EXPECT_EQ(ParseBytes("256MiB").value(), 256 << 20);
  EXPECT_EQ(ParseBytes("1 GiB").value(), 1 << 30);
  EXPECT_EQ(ParseBytes("-1GiB").value(), -(1 << 30));
}

TEST(Values, ReadsDurationsWithUnits) {
  EXPECT_EQ(ParseDuration("250ms").value(), 250 * kMillisecond);
  EXPECT_EQ(ParseDuration("5s").value(), 5 * kSecond);
  EXPECT_EQ(ParseDuration("2m").value(), 120 * kSecond);
  EXPECT_EQ(ParseDuration("1h").value(), 3600 * kSecond);
}

struct Wrong {
  std::string text;
  std::string message;
};

TEST(Values, SaysWhatIsWrongWithASize) {
  const std::string right = "; a whole number of B, KiB, MiB, GiB or TiB";
  for (const Wrong& wrong : {
           Wrong{"256", "'256' has no unit"},
           Wrong{"256MB", "'256MB' has the unknown unit 'MB'"},
           Wrong{"", "'' is not a size"},
           Wrong{"MiB", "'MiB' is not a size"},
           Wrong{"1.5GiB", "'1.5GiB' has the unknown unit '.5GiB'"},
           Wrong{"9999999999TiB", "'9999999999TiB' is too large"},
           Wrong{"99999999999999999999B", "'99999999999999999999B' is too large"},
       }) {
    EXPECT_EQ(Message(ParseBytes(wrong.text).status()), wrong.message + right);
  }
}

TEST(Values, SaysWhatIsWrongWithADuration) {
  EXPECT_EQ(Message(ParseDuration("5").status()),
            "'5' has no unit; a whole number of ms, s, m or h");
  EXPECT_EQ(Message(ParseDuration("5 days").status()),
            "'5 days' has the unknown unit 'days'; a whole number of ms, s, m or h");
}

TEST(Values, ReadsWholeNumbersOnly) {
  EXPECT_EQ(ParseInteger("-7").value(), -7);
  for (const char* wrong : {"", "two", "2.0", "0x10", "1e3", "+1", "99999999999999999999"}) {
    EXPECT_FALSE(ParseInteger(wrong).ok()) << wrong;
  }
}

TEST(Values, FormatsInTheLargestExactUnit) {
  EXPECT_EQ(FormatBytes(0), "0B");
  EXPECT_EQ(FormatBytes(1025), "1025B");
  EXPECT_EQ(FormatBytes(256 << 20), "256MiB");
  EXPECT_EQ(FormatDuration(0), "0ms");
  EXPECT_EQ(FormatDuration(90 * kSecond), "90s");
  EXPECT_EQ(FormatDuration(7200 * kSecond), "2h");
}

TEST(Values, ReadsAddresses) {
  EXPECT_EQ(ParseAddress("127.0.0.1:8000")->host, "127.0.0.1");
  EXPECT_EQ(ParseAddress("127.0.0.1:8000")->port, 8000);
  EXPECT_EQ(ParseAddress("localhost:0")->host, "127.0.0.1");
  EXPECT_EQ(ParseAddress("[::1]:65535")->host, "::1");
  EXPECT_EQ(FormatAddress(ParseAddress("[::1]:65535").value()), "[::1]:65535");
  for (const char* wrong :
       {"", "8000", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:80x",
        "::1:8000", "[127.0.0.1]:8000", "example.org:80", "[::1]8000"}) {
    EXPECT_THAT(std::string(Message(ParseAddress(wrong).status())), testing::HasSubstr("; "))
        << wrong;
  }
}

TEST(Values, ChecksEndpoints) {
  for (const char* fine : {"tcp://127.0.0.1:8100", "tcp://router-1.lan:8100",
                           "tcp://[fe80::1]:8100", "ipc:///tmp/x/router.sock"}) {
    EXPECT_TRUE(CheckEndpoint(fine).ok()) << fine;
  }
  const std::string long_path = "ipc:///" + std::string(100, 'a');
  for (const char* wrong :
       {"", "127.0.0.1:8100", "udp://127.0.0.1:8100", "tcp://127.0.0.1", "tcp://127.0.0.1:0",
        "tcp://127.0.0.1:*", "tcp://127.0.0.1:65536", "tcp://:8100", "tcp://a b:8100",
        "tcp://[x]:8100", "ipc://relative", long_path.c_str()}) {
    EXPECT_THAT(std::string(Message(CheckEndpoint(wrong))), testing::HasSubstr("; ")) << wrong;
  }
}

TEST(Values, ChecksNames) {
  for (const char* fine : {"g0", "A.b_c-9", "0"}) EXPECT_TRUE(CheckName(fine).ok()) << fine;
  for (const char* wrong :
       {"", ".", "../x", "a b", "a/b", "-g", "ünicode", "abcdefghijklmnopqrstuvwxyz0123456789"}) {
    EXPECT_FALSE(CheckName(wrong).ok()) << wrong;
  }
}

TEST(Values, FindsTheNearestWord) {
  const std::vector<std::string> words = {"threads", "tp", "max_seqs", "max_step_tokens"};
  EXPECT_EQ(Nearest("thread", words), "threads");
  EXPECT_EQ(Nearest("max_seq", words), "max_seqs");
  EXPECT_EQ(Nearest("max-step-tokens", words), "max_step_tokens");
  EXPECT_EQ(Nearest("temperature", words), "");
  EXPECT_EQ(Nearest(std::string(100'000, 'a'), words), "");
}

}  // namespace
}  // namespace tandem::config
