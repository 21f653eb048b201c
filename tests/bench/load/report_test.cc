#include "bench/load/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json.hpp>

#include "bench/load/chart.h"

namespace tandem::load {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing::Pair;

struct Made {
  Options options;
  RunResult result;
  Metrics metrics;
  Report report() const { return {options, result, metrics, 2, 1}; }
};

Made Make(bool detailed) {
  Made made;
  made.options.url = "http://h:1";
  made.options.request.model = "a<b>\"c\"";
  made.options.percentiles = {50, 99.9};
  made.options.detailed = detailed;
  made.result.started = kSecond;
  made.result.duration = 2 * kSecond;
  made.result.cpu_s = 0.5;
  Record record;
  record.outcome = Outcome::kOk;
  record.intended = record.sent = kSecond;
  record.first = record.first_text = kSecond + 100 * kMillisecond;
  record.gaps = {50 * kMillisecond};
  record.last = record.ended = kSecond + 150 * kMillisecond;
  record.completion_tokens = 2;
  record.text = R"(a\"b)";
  made.result.records.push_back(record);
  record.outcome = Outcome::kHttpStatus;
  record.http_status = 503;
  record.error = "status 503: \"<script>\"";
  made.result.records.push_back(record);
  made.metrics = ComputeMetrics(made.result.records, made.result.duration, made.options.percentiles,
                                {.ttft_ms = 100});
  return made;
}

TEST(Report, JsonHasTheFieldNamesThatOthersRead) {
  const Made made = Make(true);
  const boost::json::object json = boost::json::parse(JsonReport(made.report())).as_object();
  for (const char* name : {"date",
                           "backend",
                           "model_id",
                           "num_prompts",
                           "request_rate",
                           "burstiness",
                           "max_concurrency",
                           "duration",
                           "completed",
                           "failed",
                           "total_input_tokens",
                           "total_output_tokens",
                           "request_throughput",
                           "request_goodput",
                           "output_throughput",
                           "total_token_throughput",
                           "max_output_tokens_per_s",
                           "max_concurrent_requests",
                           "mean_ttft_ms",
                           "median_ttft_ms",
                           "std_ttft_ms",
                           "p50_ttft_ms",
                           "p99.9_ttft_ms",
                           "mean_tpot_ms",
                           "mean_itl_ms",
                           "p99.9_itl_ms",
                           "mean_e2el_ms",
                           "p50_e2el_ms"}) {
    EXPECT_TRUE(json.contains(name)) << name;
  }
  EXPECT_EQ(json.at("completed"), 1);
  EXPECT_EQ(json.at("mean_ttft_ms").to_number<double>(), 100);
  EXPECT_EQ(json.at("mean_tpot_ms").to_number<double>(), 50);
  EXPECT_EQ(json.at("request_goodput").to_number<double>(), 0.5);
  EXPECT_EQ(json.at("request_rate"), "inf");  // a closed loop has none
  EXPECT_EQ(json.at("max_concurrency"), 1);
  EXPECT_EQ(json.at("errors_by_kind").at("http_status"), 1);
  EXPECT_EQ(json.at("errors_by_status").at("503"), 1);
  EXPECT_EQ(json.at("client_cpu_share").to_number<double>(), 0.25);
  EXPECT_EQ(json.at("ttfts").at(0).to_number<double>(), 0.1);
  EXPECT_EQ(json.at("itls").at(0).at(0).to_number<double>(), 0.05);
  EXPECT_EQ(json.at("outcomes").at(1), "http_status");
  EXPECT_EQ(json.at("generated_texts").at(0), "a\"b");
  EXPECT_EQ(json.at("errors").at(1), "status 503: \"<script>\"");
}

TEST(Report, DetailsAreThereWhenAskedFor) {
  const Made made = Make(false);
  const boost::json::object json = boost::json::parse(JsonReport(made.report())).as_object();
  EXPECT_FALSE(json.contains("ttfts"));
}

TEST(Report, HtmlNeedsNothingBesideItAndTrustsNoText) {
  const Made made = Make(false);
  const std::string html = HtmlReport(made.report());
  EXPECT_THAT(html, HasSubstr("<svg"));
  EXPECT_THAT(html, HasSubstr("a&lt;b&gt;&quot;c&quot;"));
  EXPECT_THAT(html, Not(HasSubstr("<script")));
  EXPECT_THAT(html, Not(HasSubstr("src=")));
  EXPECT_THAT(html, Not(HasSubstr("href=")));
  EXPECT_THAT(html, Not(HasSubstr("nan")));
  EXPECT_THAT(html, Not(HasSubstr("inf\"")));
}

TEST(Report, TextNamesErrorsWithAnExample) {
  const Made made = Make(false);
  const std::string text = TextReport(made.report());
  EXPECT_THAT(text, HasSubstr("http_status"));
  EXPECT_THAT(text, HasSubstr("1, such as: status 503"));
  EXPECT_THAT(text, HasSubstr("p99.9"));
}

TEST(Chart, DrawsWithinItsFrame) {
  const std::string svg =
      Chart({"t", "x", "y", true, true},
            {{"a", {{0, 1}, {0.5, 3}, {2000, 70}}, false}, {"b", {{7, 7}}, true}});
  EXPECT_THAT(svg, HasSubstr("<polyline"));
  EXPECT_THAT(svg, HasSubstr("<circle"));
  EXPECT_THAT(svg, Not(HasSubstr("nan")));
  EXPECT_THAT(svg, Not(HasSubstr("inf")));
  EXPECT_THAT(Chart({"t", "x", "y"}, {{"a", {}, false}}), HasSubstr("nothing to show"));
  EXPECT_THAT(Chart({"t", "x", "y"}, {{"a", {{3, 3}}, false}}), Not(HasSubstr("nan")));
}

TEST(Chart, CdfEndsAtOne) {
  EXPECT_THAT(Cdf({3, 1, 2}), testing::ElementsAre(Pair(1, 1.0 / 3), Pair(2, 2.0 / 3), Pair(3, 1)));
  std::vector<double> many(1000);
  for (size_t i = 0; i < many.size(); ++i) many[i] = static_cast<double>(i);
  const auto cdf = Cdf(many, 10);
  ASSERT_EQ(cdf.size(), 10u);
  EXPECT_THAT(cdf.front(), Pair(99, 0.1));
  EXPECT_THAT(cdf.back(), Pair(999, 1));
  EXPECT_TRUE(Cdf({}).empty());
}

}  // namespace
}  // namespace tandem::load
