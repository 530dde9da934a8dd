// Typed handles over a Prometheus registry. A daemon names all its metrics in one struct (server/metrics.h,
// agent/metrics.h). Thread-safe; an increment is one atomic operation.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace prometheus {
class Counter;
class Gauge;
class Histogram;
class Registry;
}  // namespace prometheus

namespace signet::telemetry {

class Counter {
 public:
  void Add(double n = 1);
  double value() const;

 private:
  friend class Metrics;
  prometheus::Counter* counter_ = nullptr;
};
class Gauge {
 public:
  void Set(double v);
  double value() const;

 private:
  friend class Metrics;
  prometheus::Gauge* gauge_ = nullptr;
};
class Histogram {
 public:
  void Observe(double v);

 private:
  friend class Metrics;
  prometheus::Histogram* histogram_ = nullptr;
};

using Labels = std::vector<std::pair<std::string, std::string>>;

class Metrics {
 public:
  Metrics();
  ~Metrics();
  // `name` without prefix; "signet_" is put before it. Counters end in _total. Handles live as long as the Metrics.
  Counter AddCounter(absl::string_view name, absl::string_view help, const Labels& labels = {});
  Gauge AddGauge(absl::string_view name, absl::string_view help, const Labels& labels = {});
  Histogram AddHistogram(absl::string_view name, absl::string_view help, std::vector<double> bounds,
                         const Labels& labels = {});
  std::string Text() const;  // Prometheus text exposition format 0.0.4

 private:
  std::shared_ptr<prometheus::Registry> registry_;
};

}  // namespace signet::telemetry
