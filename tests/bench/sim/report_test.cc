#include "bench/sim/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json.hpp>

namespace tandem::simulator {
namespace {

using testing::HasSubstr;
using testing::Not;

PolicyResult Example(const std::string& name, float scale) {
  PolicyResult result;
  result.name = name;
  result.requests = result.finished = 10;
  result.ttft = result.itl = result.e2e = {10, 2 * scale, 1 * scale, 3 * scale, 4 * scale};
  result.hit_rate = 0.5;
  result.goodput = 1.5;
  result.imbalance = 1.25;
  for (int i = 0; i <= 200; ++i) result.ttft_cdf_ms.push_back(scale * static_cast<float>(i + 1));
  result.load = {{0.1, 0.2}, {0.3, 0.4}};
  result.load_window_s = 5;
  return result;
}

TEST(ReportTest, JsonHasTheFieldsThatOthersRead) {
  const PolicyResult results[] = {Example("a", 1), Example("b", 2)};
  const boost::json::value json = boost::json::parse(Json(results));
  const auto& policies = json.at("policies").as_array();
  ASSERT_EQ(policies.size(), 2U);
  EXPECT_EQ(policies[1].at("name").as_string(), "b");
  EXPECT_EQ(policies[1].at("requests").as_int64(), 10);
  for (const char* key : {"ttft_ms", "itl_ms", "e2e_ms"}) {
    EXPECT_EQ(policies[1].at(key).at("mean").as_double(), 4);
    EXPECT_EQ(policies[1].at(key).at("p50").as_double(), 2);
    EXPECT_EQ(policies[1].at(key).at("p95").as_double(), 6);
    EXPECT_EQ(policies[1].at(key).at("p99").as_double(), 8);
  }
  EXPECT_EQ(policies[0].at("hit_rate").as_double(), 0.5);
  EXPECT_EQ(policies[0].at("goodput").as_double(), 1.5);
  EXPECT_EQ(policies[0].at("imbalance").as_double(), 1.25);
}

TEST(ReportTest, HtmlStandsAlone) {
  const PolicyResult results[] = {Example("a<b", 1), Example("c", 2000)};
  const std::string html = Html({"trace&.jsonl", "cluster.yaml", "2 groups"}, results);
  EXPECT_THAT(html, HasSubstr("a&lt;b"));
  EXPECT_THAT(html, HasSubstr("trace&amp;.jsonl"));
  EXPECT_THAT(html, Not(HasSubstr("a<b")));
  for (const char* outside : {"http:", "https:", "src=", "<script", "<link", "@import", "url("}) {
    EXPECT_THAT(html, Not(HasSubstr(outside)));
  }
  EXPECT_THAT(html, Not(HasSubstr("nan")));
  EXPECT_THAT(html, Not(HasSubstr("inf")));
  EXPECT_THAT(html, HasSubstr("Time to first token: share of requests"));
  EXPECT_THAT(html, HasSubstr("Busy share of the groups over time"));
}

TEST(ReportTest, HtmlOfARunInWhichNothingFinished) {
  PolicyResult empty;
  empty.name = "a";
  const std::string html = Html({}, std::span(&empty, 1));
  EXPECT_THAT(html, Not(HasSubstr("nan")));
  EXPECT_THAT(html, Not(HasSubstr("inf")));
  EXPECT_THAT(html, HasSubstr("</html>"));
}

TEST(ReportTest, TableHasALineForEachPolicy) {
  const PolicyResult results[] = {Example("first", 1), Example("second", 2)};
  const std::string table = TextTable(results);
  EXPECT_EQ(std::count(table.begin(), table.end(), '\n'), 3);
  EXPECT_THAT(table, HasSubstr("second"));
}

TEST(ReportTest, SaysWhereItCannotWrite) {
  const Status status = WriteFile("/nonexistent/folder/file", "text");
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(std::string(Message(status)), HasSubstr("/nonexistent/folder/file"));
}

}  // namespace
}  // namespace tandem::simulator
