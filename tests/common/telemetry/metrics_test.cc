#include "common/telemetry/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/telemetry/health.h"

namespace signet::telemetry {
namespace {

using ::testing::HasSubstr;

TEST(MetricsTest, WritesThePrometheusTextFormat) {
  Metrics metrics;
  Counter counter = metrics.AddCounter("tests_total", "Tests", {{"kind", "unit"}});
  Gauge gauge = metrics.AddGauge("level", "Level");
  Histogram histogram = metrics.AddHistogram("wait_seconds", "Wait", {0.1, 1});
  counter.Add();
  counter.Add(2);
  gauge.Set(7);
  histogram.Observe(0.5);
  EXPECT_EQ(counter.value(), 3);
  EXPECT_EQ(gauge.value(), 7);
  const std::string text = metrics.Text();
  EXPECT_THAT(text, HasSubstr("# TYPE signet_tests_total counter\nsignet_tests_total{kind=\"unit\"} 3"));
  EXPECT_THAT(text, HasSubstr("signet_level 7"));
  EXPECT_THAT(text, HasSubstr("signet_wait_seconds_bucket{le=\"1\"} 1"));
}

TEST(MetricsTest, AHandleOfNothingCountsNothing) {
  Counter counter;
  counter.Add();
  EXPECT_EQ(counter.value(), 0);
}

TEST(HealthTest, SaysWhichPartIsNotReadyAndWhy) {
  Health health;
  EXPECT_TRUE(health.ready());
  health.SetUnready("sync", "server away; check \"server_address\"");
  health.SetDegraded("cache", "sealed cache off");
  EXPECT_FALSE(health.ready());
  EXPECT_EQ(health.Json(), R"({"ready":false,"parts":{"cache":{"state":"degraded","reason":"sealed cache off"},)"
                           R"("sync":{"state":"unready","reason":"server away; check \"server_address\""}}})");
  health.SetReady("sync");
  EXPECT_TRUE(health.ready());
}

}  // namespace
}  // namespace signet::telemetry
