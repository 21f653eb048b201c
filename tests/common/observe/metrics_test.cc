#include "common/observe/metrics.h"

#include <gtest/gtest.h>

namespace tandem::observe {
namespace {

TEST(Metrics, TextHasEverySeries) {
  Metrics metrics;
  Counter errors = metrics.AddCounter("tandem_test_errors_total", "Errors.", {{"kind", "client"}});
  metrics.AddCounter("tandem_test_errors_total", "Errors.", {{"kind", "world"}}).Add(2);
  Gauge depth = metrics.AddGauge("tandem_test_depth", "Depth.");
  Histogram ttft = metrics.AddHistogram("tandem_test_ttft_seconds", "TTFT.", LatencyBuckets());
  errors.Add();
  depth.Set(7);
  ttft.Observe(0.003);
  const std::string text = metrics.Text();
  for (const char* line :
       {"# TYPE tandem_test_errors_total counter", "tandem_test_errors_total{kind=\"client\"} 1",
        "tandem_test_errors_total{kind=\"world\"} 2", "tandem_test_depth 7",
        "tandem_test_ttft_seconds_bucket{le=\"0.002\"} 0",
        "tandem_test_ttft_seconds_bucket{le=\"0.005\"} 1", "tandem_test_ttft_seconds_count 1"}) {
    EXPECT_NE(text.find(line), std::string::npos) << line << "\nis not in\n" << text;
  }
}

TEST(Metrics, ADefaultHandleCountsNowhere) {
  Counter().Add();
  Gauge().Set(1);
  Histogram().Observe(1);
  EXPECT_EQ(Counter().value(), 0);
}

}  // namespace
}  // namespace tandem::observe
