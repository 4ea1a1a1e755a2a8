// SPDX-License-Identifier: Apache-2.0
// What train_llama shows: a progress bar on rank 0 and the loss curve as SVG.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include <dtensor/dtensor.h>

namespace train {

struct Point {
  std::int64_t step;
  double loss;
};

class Progress {
 public:
  Progress(dtensor::World& world, std::int64_t first, std::int64_t last, std::int64_t tokens_per_step);
  /// After step number `step` (from 1): redraws the bar on a terminal, else prints a line now and then. Writes on rank 0 only.
  void show(std::int64_t step, double loss, std::int64_t bytes_received);
  /// Ends the bar. Mean tokens per second.
  double finish();

 private:
  double seconds() const;
  dtensor::World& world_;
  std::int64_t first_, last_, tokens_, done_ = 0;
  bool terminal_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

/// "1.5 MiB".
std::string bytes_text(std::int64_t bytes);
/// A curve with axes and labels, self-contained. Empty points give an empty frame.
std::string loss_svg(const std::vector<Point>& points, double validation);

}  // namespace train
