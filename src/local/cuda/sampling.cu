// SPDX-License-Identifier: Apache-2.0
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>

#include "local/cuda/axes.h"
#include "local/cuda/launch.h"
#include "local/cuda/rank_device.h"
#include "local/cuda/table.h"
#include "local/kernels/reduce.h"
#include "local/kernels/sampling.h"
#include "local/kernels/sorting.h"

namespace dtensor::local::cuda {
namespace {

struct Choose {
  const double *p, *numbers;
  double* chosen;
  Fault* fault;
  DTENSOR_DEVICE void operator()(std::int64_t i) const {
    if (!(p[i] >= 0 && p[i] <= 1)) raise(fault, std::bit_cast<std::int64_t>(p[i]));
    chosen[i] = numbers[i] < p[i] ? 1 : 0;
  }
};
void choose(const Tensor& p, const Tensor& numbers, std::string_view op, const Tensor& chosen) {
  RankDevice& device = rank_device(p);
  Fault* fault = device.faults.expect(device.current,
                                      [op = std::string(op)](std::int64_t bits) { return cpu::not_a_probability(op, std::bit_cast<double>(bits)); });
  launch_elements("choose", p.numel(), device.current,
                  Choose{p.raw_as<const double>(), numbers.raw_as<const double>(), chosen.raw_as<double>(), fault});
}

struct CheckWeights {
  const double* weights;
  std::int64_t n, needed;
  Fault *wrong, *few;
  DTENSOR_DEVICE void operator()(const Block& b) const {
    const double* w = weights + b.index * n;
    std::int64_t positive = 0;
    for (std::int64_t c = b.thread; c < n; c += b.threads) {
      if (!(w[c] >= 0 && w[c] <= std::numeric_limits<double>::max())) raise(wrong, std::bit_cast<std::int64_t>(w[c]));
      positive += w[c] > 0 ? 1 : 0;
    }
    positive = reduce_block(b, positive, std::int64_t{0}, [](std::int64_t x, std::int64_t y) { return x + y; });
    if (b.thread == 0 && positive < needed) raise(few, positive);
  }
};

struct FindClasses {
  const double *weights, *sums, *numbers;
  std::int64_t n, samples;
  std::int64_t* classes;
  DTENSOR_DEVICE void operator()(std::int64_t i) const {
    const std::int64_t row = quotient(i, samples);
    const double *w = weights + row * n, *s = sums + row * n;
    const double at = numbers[i] * s[n - 1];
    std::int64_t low = 0, high = n;
    while (low < high) {
      const std::int64_t middle = (low + high) / 2;
      if (at < s[middle]) high = middle;
      else low = middle + 1;
    }
    // A row without weights has raised its fault.
    for (std::int64_t steps = 0; steps < 2 * n && (low == n || w[low] == 0); ++steps) low = low == 0 ? n - 1 : low - 1;
    classes[i] = low < n ? low : 0;
  }
};
struct Times {
  const double *weights, *numbers;
  double* times;
  DTENSOR_DEVICE void operator()(std::int64_t i) const {
    times[i] = weights[i] > 0 ? -std::log1p(-numbers[i]) / weights[i] : std::numeric_limits<double>::infinity();
  }
};
void choose_classes(const Tensor& weights, const Tensor& numbers, bool replacement, std::string_view op, const Tensor& classes) {
  if (weights.numel() == 0 || classes.numel() == 0) return;
  RankDevice& device = rank_device(weights);
  const int last = weights.ndim() - 1;
  const std::int64_t n = weights.shape()[last], samples = classes.shape()[last], rows = weights.numel() / n, needed = replacement ? 1 : samples;
  const std::string name(op);
  Fault* wrong = device.faults.expect(device.current, [name](std::int64_t bits) { return cpu::not_a_weight(name, std::bit_cast<double>(bits)); });
  Fault* few = device.faults.expect(device.current, [name, needed](std::int64_t positive) { return cpu::too_few_classes(name, needed, positive); });
  const auto *w = weights.raw_as<const double>(), *u = numbers.raw_as<const double>();
  launch_blocks("check weights", rows, 256, kWarp * sizeof(std::int64_t), device.current, CheckWeights{w, n, needed, wrong, few});
  const Tensor work = Tensor::empty(weights.shape(), Dtype::f64, weights.device());
  auto* const f = work.raw_as<double>();
  if (replacement) {
    kernels::cumulative_sum(weights, last, false, work);
    return launch_elements("find classes", classes.numel(), device.current, FindClasses{w, f, u, n, samples, classes.raw_as<std::int64_t>()});
  }
  launch_elements("times", weights.numel(), device.current, Times{w, u, f});
  const Tensor first = Tensor::empty(classes.shape(), Dtype::f64, weights.device());
  kernels::order_lines({.dim = last, .first = 0, .count = samples, .descending = false, .nan_first = false}, work, first, classes);
}

}  // namespace

void install_sampling() {
  kernels::choose.cuda = choose;
  kernels::choose_classes.cuda = choose_classes;
}

}  // namespace dtensor::local::cuda
