#include "tests/bench/measure.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"

namespace signet::bench {

double CpuSeconds(pid_t pid) {
  std::ifstream file(absl::StrCat("/proc/", pid, "/stat"));
  std::string line;
  std::getline(file, line);
  const size_t close = line.rfind(')');  // comm may hold anything
  if (close == std::string::npos) return 0;
  std::istringstream rest(line.substr(close + 2));
  std::string field;
  double ticks = 0;
  for (int number = 3; rest >> field; ++number) {
    if (number == 14 || number == 15) ticks += std::stod(field);
  }
  return ticks / static_cast<double>(sysconf(_SC_CLK_TCK));
}

double RssMegabytes(pid_t pid) {
  std::ifstream file(absl::StrCat("/proc/", pid, "/statm"));
  double size = 0, resident = 0;
  file >> size >> resident;
  return resident * static_cast<double>(sysconf(_SC_PAGESIZE)) / 1e6;
}

absl::Duration Samples::Percentile(double p) const {
  if (seconds_.empty()) return absl::ZeroDuration();
  std::vector<double> sorted = seconds_;
  std::sort(sorted.begin(), sorted.end());
  const size_t index = std::min(sorted.size() - 1, static_cast<size_t>(p * static_cast<double>(sorted.size())));
  return absl::Seconds(sorted[index]);
}

void PrintRow(absl::string_view row, absl::string_view what, absl::string_view figure, absl::string_view budget) {
  absl::PrintF("%-4s %-52s %-56s budget %s\n", row, what, figure, budget);
  std::fflush(stdout);
}

std::string Micros(absl::Duration d) {
  const double us = absl::ToDoubleMicroseconds(d);
  return us < 1000 ? absl::StrFormat("%.0f us", us) : absl::StrFormat("%.2f ms", us / 1000);
}

Load Run(int callers, absl::Duration length, pid_t pid, const std::function<void(int caller)>& operation) {
  for (int caller = 0; caller < callers; ++caller) operation(caller);  // warm-up: one each
  std::vector<Samples> each(callers);
  const double cpu_before = CpuSeconds(pid);
  const absl::Time start = absl::Now();
  std::vector<std::thread> threads;
  for (int caller = 0; caller < callers; ++caller) {
    threads.emplace_back([&, caller] {
      while (absl::Now() - start < length) {
        const absl::Time before = absl::Now();
        operation(caller);
        each[caller].Add(absl::Now() - before);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const double elapsed = absl::ToDoubleSeconds(absl::Now() - start);
  Load load;
  for (const Samples& samples : each) load.samples.Append(samples);
  load.operations_per_second = static_cast<double>(load.samples.size()) / elapsed;
  load.cpu_seconds_per_operation = (CpuSeconds(pid) - cpu_before) / static_cast<double>(load.samples.size());
  return load;
}

}  // namespace signet::bench
