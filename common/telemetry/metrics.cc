#include "common/telemetry/metrics.h"

#include <map>

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include "absl/strings/str_cat.h"

namespace signet::telemetry {
namespace {

std::map<std::string, std::string> ToMap(const Labels& labels) { return {labels.begin(), labels.end()}; }

}  // namespace

void Counter::Add(double n) {
  if (counter_ != nullptr) counter_->Increment(n);
}
double Counter::value() const { return counter_ == nullptr ? 0 : counter_->Value(); }

void Gauge::Set(double v) {
  if (gauge_ != nullptr) gauge_->Set(v);
}
double Gauge::value() const { return gauge_ == nullptr ? 0 : gauge_->Value(); }

void Histogram::Observe(double v) {
  if (histogram_ != nullptr) histogram_->Observe(v);
}

Metrics::Metrics() : registry_(std::make_shared<prometheus::Registry>()) {}
Metrics::~Metrics() = default;

Counter Metrics::AddCounter(absl::string_view name, absl::string_view help, const Labels& labels) {
  Counter handle;
  handle.counter_ = &prometheus::BuildCounter()
                         .Name(absl::StrCat("signet_", name))
                         .Help(std::string(help))
                         .Register(*registry_)
                         .Add(ToMap(labels));
  return handle;
}

Gauge Metrics::AddGauge(absl::string_view name, absl::string_view help, const Labels& labels) {
  Gauge handle;
  handle.gauge_ = &prometheus::BuildGauge()
                       .Name(absl::StrCat("signet_", name))
                       .Help(std::string(help))
                       .Register(*registry_)
                       .Add(ToMap(labels));
  return handle;
}

Histogram Metrics::AddHistogram(absl::string_view name, absl::string_view help, std::vector<double> bounds,
                                const Labels& labels) {
  Histogram handle;
  handle.histogram_ = &prometheus::BuildHistogram()
                           .Name(absl::StrCat("signet_", name))
                           .Help(std::string(help))
                           .Register(*registry_)
                           .Add(ToMap(labels), prometheus::Histogram::BucketBoundaries(std::move(bounds)));
  return handle;
}

std::string Metrics::Text() const { return prometheus::TextSerializer().Serialize(registry_->Collect()); }

}  // namespace signet::telemetry
