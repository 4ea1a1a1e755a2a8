// SPDX-License-Identifier: Apache-2.0
#include "local/cpu/norms.h"

#include <algorithm>
#include <cmath>

#include "local/cpu/lanes.h"
#include "local/parallel.h"

namespace dtensor::local::cpu {
namespace {

template <class F>
void in_float_type(Dtype dtype, const F& f) {
  if (dtype == Dtype::f64) f(double{});
  else f(float{});
}

// A parameter of the row as numbers; 1 or 0 when absent.
template <class Acc>
Scratch<Acc> parameter(const Tensor* tensor, std::int64_t n, Acc absent) {
  Scratch<Acc> row(padded(n));
  std::fill(row.data(), row.data() + padded(n), Acc(0));
  if (tensor == nullptr) std::fill(row.data(), row.data() + n, absent);
  else loader<Acc>(tensor->dtype())(tensor->raw(), 0, 1, n, row.data());
  return row;
}

// Rows go in groups of kGroup, whose column sums are taken row by row; these sums are then added pairwise. Groups are what threads share.
constexpr std::int64_t kGroup = 64;
constexpr std::int64_t groups_of(std::int64_t rows) { return (rows + kGroup - 1) / kGroup; }
std::int64_t group_grain(std::int64_t n) { return (row_grain(n) + kGroup - 1) / kGroup; }

template <class Acc>
class ColumnSums {
 public:
  ColumnSums(std::int64_t rows, std::int64_t size) : groups_(groups_of(rows)), size_(size), sums_(groups_ * size) {}
  /// Zeros; a group is one thread's.
  Acc* group(std::int64_t g) noexcept { return sums_.data() + g * size_; }
  /// Columns [0, n) of the total.
  void store_total(const Tensor& to, std::int64_t n) {
    if (groups_ > 0) {
      parallel_for(size_ / kChunk, std::max<std::int64_t>(1, kPointwiseGrain / (kChunk * groups_)), [this](std::int64_t begin, std::int64_t end) {
        for (std::int64_t step = 1; step < groups_; step *= 2)
          for (std::int64_t g = 0; g + step < groups_; g += 2 * step)
            for (std::int64_t i = begin * kChunk; i < end * kChunk; ++i) group(g)[i] += group(g + step)[i];
      });
      storer<Acc>(to.dtype())(to.raw(), 0, 1, n, sums_.data());
    } else {
      to.fill_(0);
    }
  }

 private:
  std::int64_t groups_, size_;
  Scratch<Acc> sums_;
};

// Loops over whole chunks; out of line, so that __restrict__ is not lost by inlining.
template <class Acc>
[[gnu::noinline]] void normalize(const Acc* __restrict__ x, std::int64_t n, Acc mean, Acc scale, const Acc* __restrict__ w, const Acc* __restrict__ b,
                                 Acc* __restrict__ out) {
  for (std::int64_t i = 0; i < n; i += kChunk)
    for (std::int64_t j = i; j < i + kChunk; ++j) out[j] = (x[j] - mean) * scale * w[j] + b[j];
}
template <class Acc>
[[gnu::noinline]] void normalize(const Acc* __restrict__ x, std::int64_t n, Acc scale, const Acc* __restrict__ w, Acc* __restrict__ out) {
  for (std::int64_t i = 0; i < n; i += kChunk)
    for (std::int64_t j = i; j < i + kChunk; ++j) out[j] = x[j] * scale * w[j];
}
// hat: the normalized row, gw: the gradient times the weight; both columns' sums go on.
template <class Acc>
[[gnu::noinline]] void add_columns(const Acc* __restrict__ g, const Acc* __restrict__ x, std::int64_t n, Acc mean, Acc scale,
                                   const Acc* __restrict__ w, Acc* __restrict__ hat, Acc* __restrict__ gw, Acc* __restrict__ sum_w,
                                   Acc* __restrict__ sum_b) {
  for (std::int64_t i = 0; i < n; i += kChunk)
    for (std::int64_t j = i; j < i + kChunk; ++j) {
      hat[j] = (x[j] - mean) * scale;
      sum_w[j] += g[j] * hat[j];
      sum_b[j] += g[j];
      gw[j] = g[j] * w[j];
    }
}
template <class Acc>
[[gnu::noinline]] void add_columns(const Acc* __restrict__ g, const Acc* __restrict__ x, std::int64_t n, Acc scale, const Acc* __restrict__ w,
                                   Acc* __restrict__ hat, Acc* __restrict__ gw, Acc* __restrict__ sum_w) {
  for (std::int64_t i = 0; i < n; i += kChunk)
    for (std::int64_t j = i; j < i + kChunk; ++j) {
      hat[j] = x[j] * scale;
      sum_w[j] += g[j] * hat[j];
      gw[j] = g[j] * w[j];
    }
}
template <class Acc>
[[gnu::noinline]] void input_gradient(const Acc* __restrict__ gw, const Acc* __restrict__ hat, std::int64_t n, Acc scale, Acc mean_g, Acc mean_gx,
                                      Acc* __restrict__ out) {
  for (std::int64_t i = 0; i < n; i += kChunk)
    for (std::int64_t j = i; j < i + kChunk; ++j) out[j] = scale * (gw[j] - mean_g - hat[j] * mean_gx);
}
template <class Acc>
Acc mean_of_product(const Acc* a, const Acc* b, std::int64_t size, std::int64_t n) {
  return sum_terms<Acc>(size, [a, b](std::int64_t i) { return a[i] * b[i]; }) / static_cast<Acc>(n);
}

std::int64_t row_count(const Tensor& t, std::int64_t n) { return n == 0 ? 0 : t.numel() / n; }

}  // namespace

void layer_norm(const Tensor& input, std::int64_t n, const Tensor* weight, const Tensor* bias, double eps, const Tensor& output, const Tensor& mean,
                const Tensor& rstd) {
  in_float_type(input.dtype(), [&](auto acc) {
    using Acc = decltype(acc);
    const RowReader<Acc> in(input);
    const RowWriter<Acc> out(output);
    const std::int64_t size = padded(n);
    parallel_for(row_count(input, n), row_grain(n), [&](std::int64_t begin, std::int64_t end) {
      Scratch<Acc> row(size), result(size), weights = parameter<Acc>(weight, n, Acc(1)), biases = parameter<Acc>(bias, n, Acc(0));
      for (std::int64_t r = begin; r < end; ++r) {
        const Acc* x = in.read(r * n, 1, n, Acc(0), row.data());
        const Acc m = sum_terms<Acc>(size, [x](std::int64_t i) { return x[i]; }) / static_cast<Acc>(n);
        std::fill(row.data() + n, row.data() + size, m);
        const Acc squares = sum_terms<Acc>(size, [x, m](std::int64_t i) { return (x[i] - m) * (x[i] - m); });
        const Acc scale = Acc(1) / std::sqrt(squares / static_cast<Acc>(n) + static_cast<Acc>(eps));
        Acc* y = out.target(r * n, 1, n, result.data());
        normalize(x, size, m, scale, weights.data(), biases.data(), y);
        out.write(r * n, 1, n, y);
        mean.raw_as<Acc>()[r] = m;
        rstd.raw_as<Acc>()[r] = scale;
      }
    });
  });
}

void layer_norm_backward(const Tensor& grad, const Tensor& input, std::int64_t n, const Tensor* weight, const Tensor& mean, const Tensor& rstd,
                         const Tensor& grad_input, const Tensor& grad_weight, const Tensor& grad_bias) {
  in_float_type(input.dtype(), [&](auto acc) {
    using Acc = decltype(acc);
    const RowReader<Acc> in_grad(grad), in(input);
    const RowWriter<Acc> out(grad_input);
    const std::int64_t size = padded(n), rows = row_count(input, n);
    ColumnSums<Acc> sums_w(rows, size), sums_b(rows, size);
    parallel_for(groups_of(rows), group_grain(n), [&](std::int64_t begin, std::int64_t end) {
      Scratch<Acc> row_x(size), row_g(size), row_hat(size), row_gw(size), weights = parameter<Acc>(weight, n, Acc(1));
      Acc *hat = row_hat.data(), *gw = row_gw.data();
      for (std::int64_t r = begin * kGroup; r < std::min(rows, end * kGroup); ++r) {
        const Acc m = mean.raw_as<const Acc>()[r], scale = rstd.raw_as<const Acc>()[r];
        const Acc* x = in.read(r * n, 1, n, m, row_x.data());
        const Acc* g = in_grad.read(r * n, 1, n, Acc(0), row_g.data());
        add_columns(g, x, size, m, scale, weights.data(), hat, gw, sums_w.group(r / kGroup), sums_b.group(r / kGroup));
        const Acc mean_g = sum_terms<Acc>(size, [gw](std::int64_t i) { return gw[i]; }) / static_cast<Acc>(n);
        Acc* to = out.target(r * n, 1, n, row_x.data());
        input_gradient(gw, hat, size, scale, mean_g, mean_of_product(gw, hat, size, n), to);
        out.write(r * n, 1, n, to);
      }
    });
    sums_w.store_total(grad_weight, n);
    sums_b.store_total(grad_bias, n);
  });
}

void rms_norm(const Tensor& input, std::int64_t n, const Tensor* weight, double eps, const Tensor& output, const Tensor& rstd) {
  in_float_type(input.dtype(), [&](auto acc) {
    using Acc = decltype(acc);
    const RowReader<Acc> in(input);
    const RowWriter<Acc> out(output);
    const std::int64_t size = padded(n);
    parallel_for(row_count(input, n), row_grain(n), [&](std::int64_t begin, std::int64_t end) {
      Scratch<Acc> row(size), result(size), weights = parameter<Acc>(weight, n, Acc(1));
      for (std::int64_t r = begin; r < end; ++r) {
        const Acc* x = in.read(r * n, 1, n, Acc(0), row.data());
        const Acc scale = Acc(1) / std::sqrt(mean_of_product(x, x, size, n) + static_cast<Acc>(eps));
        Acc* y = out.target(r * n, 1, n, result.data());
        normalize(x, size, scale, weights.data(), y);
        out.write(r * n, 1, n, y);
        rstd.raw_as<Acc>()[r] = scale;
      }
    });
  });
}

void rms_norm_backward(const Tensor& grad, const Tensor& input, std::int64_t n, const Tensor* weight, const Tensor& rstd, const Tensor& grad_input,
                       const Tensor& grad_weight) {
  in_float_type(input.dtype(), [&](auto acc) {
    using Acc = decltype(acc);
    const RowReader<Acc> in_grad(grad), in(input);
    const RowWriter<Acc> out(grad_input);
    const std::int64_t size = padded(n), rows = row_count(input, n);
    ColumnSums<Acc> sums_w(rows, size);
    parallel_for(groups_of(rows), group_grain(n), [&](std::int64_t begin, std::int64_t end) {
      Scratch<Acc> row_x(size), row_g(size), row_hat(size), row_gw(size), weights = parameter<Acc>(weight, n, Acc(1));
      Acc *hat = row_hat.data(), *gw = row_gw.data();
      for (std::int64_t r = begin * kGroup; r < std::min(rows, end * kGroup); ++r) {
        const Acc scale = rstd.raw_as<const Acc>()[r];
        const Acc* x = in.read(r * n, 1, n, Acc(0), row_x.data());
        const Acc* g = in_grad.read(r * n, 1, n, Acc(0), row_g.data());
        add_columns(g, x, size, scale, weights.data(), hat, gw, sums_w.group(r / kGroup));
        Acc* to = out.target(r * n, 1, n, row_x.data());
        input_gradient(gw, hat, size, scale, Acc(0), mean_of_product(gw, hat, size, n), to);
        out.write(r * n, 1, n, to);
      }
    });
    sums_w.store_total(grad_weight, n);
  });
}

}  // namespace dtensor::local::cpu
