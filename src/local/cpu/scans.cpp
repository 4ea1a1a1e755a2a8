// SPDX-License-Identifier: Apache-2.0
#include "local/cpu/scans.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <type_traits>
#include <vector>

#include "local/cpu/lanes.h"

namespace dtensor::local::cpu {
namespace {

// One line along the dimension at a time, read from any tensor of the shape.
struct Lines {
  std::int64_t n = 1, inner = 1, count = 0;
  Lines(const Shape& shape, int dim) {
    n = shape.ndim() == 0 ? 1 : shape[dim];
    for (int d = dim + 1; d < shape.ndim(); ++d) inner *= shape[d];
    count = n == 0 ? 0 : shape.numel() / n;
  }
  std::int64_t offset(std::int64_t line) const noexcept { return line / inner * n * inner + line % inner; }
  template <class T>
  std::vector<T> row() const {
    return std::vector<T>(static_cast<std::size_t>(n));
  }
  template <class T>
  void load(const Tensor& t, std::int64_t line, std::vector<T>& row) const {
    loader<T>(t.dtype())(t.raw(), offset(line), inner, n, row.data());
  }
  template <class T>
  void store(const Tensor& t, std::int64_t line, const std::vector<T>& row) const {
    storer<T>(t.dtype())(t.raw(), offset(line), inner, n, row.data());
  }
};

template <class F>
void in_scan_type(Dtype dtype, F&& f) {
  if (info(dtype).floating) f(double{});
  else f(std::int64_t{});
}

template <class T>
T product(T a, T b) {
  if constexpr (std::is_integral_v<T>) return static_cast<T>(static_cast<std::uint64_t>(a) * static_cast<std::uint64_t>(b));
  else return a * b;
}

// The sum of grad * product from i on, over x_i: with infinities and NaN every gradient before them shows them, as the products do.
void product_backward_by_quotients(std::vector<double>& g, const std::vector<double>& x) {
  double y = 1;
  for (std::size_t i = 0; i < g.size(); ++i) g[i] *= (y *= x[i]);
  double sum = 0;
  for (std::size_t i = g.size(); i-- > 0;) g[i] = (sum += g[i]) / x[i];
}

}  // namespace

void cumulative_product(const Tensor& input, int dim, const Tensor& output) {
  const Lines lines(input.shape(), dim);
  in_scan_type(output.dtype(), [&](auto type) {
    auto row = lines.row<decltype(type)>();
    for (std::int64_t l = 0; l < lines.count; ++l) {
      lines.load(input, l, row);
      for (std::size_t i = 1; i < row.size(); ++i) row[i] = product(row[i - 1], row[i]);
      lines.store(output, l, row);
    }
  });
}

void cumulative_product_backward(const Tensor& grad, const Tensor& input, int dim, const Tensor& output) {
  const Lines lines(input.shape(), dim);
  auto g = lines.row<double>(), x = g;
  for (std::int64_t l = 0; l < lines.count; ++l) {
    lines.load(grad, l, g);
    lines.load(input, l, x);
    if (!std::all_of(x.begin(), x.end(), [](double v) { return std::isfinite(v); })) {
      product_backward_by_quotients(g, x);
      lines.store(output, l, g);
      continue;
    }
    for (std::size_t i = g.size() - 1; i-- > 0;) g[i] += x[i + 1] * g[i + 1];  // what reaches the product that ends at i
    double before = 1;
    for (std::size_t i = 0; i < g.size(); ++i) {
      g[i] *= before;
      before *= x[i];
    }
    lines.store(output, l, g);
  }
}

void cumulative_extreme(const Tensor& input, int dim, bool largest, const Tensor& values, const Tensor& indices) {
  const Lines lines(input.shape(), dim);
  in_scan_type(input.dtype(), [&](auto type) {
    auto row = lines.row<decltype(type)>();
    auto at = lines.row<std::int64_t>();
    for (std::int64_t l = 0; l < lines.count; ++l) {
      lines.load(input, l, row);
      std::size_t best = 0;
      for (std::size_t i = 0; i < row.size(); ++i) {
        if (row[i] != row[i] || (largest ? row[i] >= row[best] : row[i] <= row[best])) best = i;
        at[i] = static_cast<std::int64_t>(best);
        row[i] = row[best];
      }
      lines.store(values, l, row);
      lines.store(indices, l, at);
    }
  });
}

void cumulative_extreme_backward(const Tensor& grad, const Tensor& indices, int dim, const Tensor& output) {
  const Lines lines(grad.shape(), dim);
  auto g = lines.row<double>(), sum = g;
  auto at = lines.row<std::int64_t>();
  for (std::int64_t l = 0; l < lines.count; ++l) {
    lines.load(grad, l, g);
    lines.load(indices, l, at);
    std::fill(sum.begin(), sum.end(), 0.0);
    for (std::size_t i = 0; i < g.size(); ++i) {
      if (at[i] < 0 || at[i] >= lines.n) throw std::domain_error("an index is out of range");
      sum[static_cast<std::size_t>(at[i])] += g[i];
    }
    lines.store(output, l, sum);
  }
}

void cumulative_log_sum(const Tensor& input, int dim, const Tensor& output) {
  const Lines lines(input.shape(), dim);
  auto row = lines.row<double>();
  for (std::int64_t l = 0; l < lines.count; ++l) {
    lines.load(input, l, row);
    for (std::size_t i = 1; i < row.size(); ++i) {
      const double high = std::max(row[i - 1], row[i]), low = std::min(row[i - 1], row[i]);
      if (row[i - 1] != row[i - 1]) row[i] = row[i - 1];
      else if (row[i] == row[i]) row[i] = std::isinf(high) ? high : high + std::log1p(std::exp(low - high));
    }
    lines.store(output, l, row);
  }
}

void cumulative_log_sum_backward(const Tensor& grad, const Tensor& input, const Tensor& result, int dim, const Tensor& output) {
  const Lines lines(input.shape(), dim);
  auto g = lines.row<double>(), x = g, y = g;
  for (std::int64_t l = 0; l < lines.count; ++l) {
    lines.load(grad, l, g);
    lines.load(input, l, x);
    lines.load(result, l, y);
    // Results never fall, so that no exponential is above 1.
    for (std::size_t i = g.size() - 1; i-- > 0;) g[i] += y[i] == -std::numeric_limits<double>::infinity() ? 0 : g[i + 1] * std::exp(y[i] - y[i + 1]);
    for (std::size_t i = 0; i < g.size(); ++i) g[i] *= x[i] == -std::numeric_limits<double>::infinity() ? 0 : std::exp(x[i] - y[i]);
    lines.store(output, l, g);
  }
}

}  // namespace dtensor::local::cpu
