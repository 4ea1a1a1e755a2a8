// SPDX-License-Identifier: Apache-2.0
#include "local/cpu/norms.h"

#include <algorithm>
#include <cmath>
#include <vector>

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

// Column sums over rows: 64 rows one after the other, then pairwise.
template <class Acc>
class ColumnSums {
 public:
  explicit ColumnSums(std::int64_t size) : size_(static_cast<std::size_t>(size)), tile_(size_) {}
  Acc* tile() noexcept { return tile_.data(); }
  void next_row() {
    if (++rows_ % 64 == 0) push();
  }
  Acc* take() {
    if (rows_ % 64 != 0) push();
    std::vector<Acc> total(size_);
    std::uint64_t n = pushed_;
    for (std::size_t level = 0; n != 0; n >>= 1, ++level)
      if ((n & 1u) != 0) add(levels_[level], total);
    tile_ = std::move(total);
    return tile_.data();
  }

 private:
  static void add(const std::vector<Acc>& from, std::vector<Acc>& to) {
    for (std::size_t i = 0; i < to.size(); ++i) to[i] = from[i] + to[i];
  }
  void push() {
    std::vector<Acc> value(size_);
    value.swap(tile_);
    std::size_t level = 0;
    for (std::uint64_t n = pushed_++; (n & 1u) != 0; n >>= 1) add(levels_[level++], value);
    if (levels_.size() <= level) levels_.resize(level + 1);
    levels_[level] = std::move(value);
  }
  std::size_t size_;
  std::vector<Acc> tile_;
  std::vector<std::vector<Acc>> levels_;
  std::uint64_t rows_ = 0, pushed_ = 0;
};

std::int64_t row_count(const Tensor& t, std::int64_t n) { return n == 0 ? 0 : t.numel() / n; }

}  // namespace

void layer_norm(const Tensor& input, std::int64_t n, const Tensor* weight, const Tensor* bias, double eps, const Tensor& output, const Tensor& mean,
                const Tensor& rstd) {
  in_float_type(input.dtype(), [&](auto acc) {
    using Acc = decltype(acc);
    const auto load = loader<Acc>(input.dtype());
    const auto put = storer<Acc>(output.dtype());
    const std::int64_t size = padded(n);
    parallel_for(row_count(input, n), row_grain(n), [&](std::int64_t begin, std::int64_t end) {
      Scratch<Acc> row(size), weights = parameter<Acc>(weight, n, Acc(1)), biases = parameter<Acc>(bias, n, Acc(0));
      Acc* x = row.data();
      const Acc *w = weights.data(), *b = biases.data();
      for (std::int64_t r = begin; r < end; ++r) {
        load(input.raw(), r * n, 1, n, x);
        std::fill(x + n, x + size, Acc(0));
        const Acc m = sum_terms<Acc>(size, [x](std::int64_t i) { return x[i]; }) / static_cast<Acc>(n);
        std::fill(x + n, x + size, m);
        const Acc squares = sum_terms<Acc>(size, [x, m](std::int64_t i) { return (x[i] - m) * (x[i] - m); });
        const Acc scale = Acc(1) / std::sqrt(squares / static_cast<Acc>(n) + static_cast<Acc>(eps));
        for (std::int64_t i = 0; i < size; ++i) x[i] = (x[i] - m) * scale * w[i] + b[i];
        put(output.raw(), r * n, 1, n, x);
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
    const auto load_grad = loader<Acc>(grad.dtype()), load_input = loader<Acc>(input.dtype());
    const auto put = storer<Acc>(grad_input.dtype());
    const std::int64_t size = padded(n);
    Scratch<Acc> row_x(size), row_g(size), weights = parameter<Acc>(weight, n, Acc(1));
    Acc *x = row_x.data(), *g = row_g.data();
    const Acc* w = weights.data();
    ColumnSums<Acc> sums_w(size), sums_b(size);
    std::fill(g, g + size, Acc(0));
    for (std::int64_t r = 0; r < row_count(input, n); ++r) {
      const Acc m = mean.raw_as<const Acc>()[r], scale = rstd.raw_as<const Acc>()[r];
      load_input(input.raw(), r * n, 1, n, x);
      load_grad(grad.raw(), r * n, 1, n, g);
      std::fill(x + n, x + size, m);
      std::fill(g + n, g + size, Acc(0));
      Acc *sw = sums_w.tile(), *sb = sums_b.tile();
      for (std::int64_t i = 0; i < size; ++i) {
        x[i] = (x[i] - m) * scale;
        sw[i] += g[i] * x[i];
        sb[i] += g[i];
        g[i] *= w[i];
      }
      sums_w.next_row();
      sums_b.next_row();
      const Acc mean_g = sum_terms<Acc>(size, [g](std::int64_t i) { return g[i]; }) / static_cast<Acc>(n);
      const Acc mean_gx = sum_terms<Acc>(size, [g, x](std::int64_t i) { return g[i] * x[i]; }) / static_cast<Acc>(n);
      for (std::int64_t i = 0; i < size; ++i) g[i] = scale * (g[i] - mean_g - x[i] * mean_gx);
      put(grad_input.raw(), r * n, 1, n, g);
    }
    storer<Acc>(grad_weight.dtype())(grad_weight.raw(), 0, 1, n, sums_w.take());
    storer<Acc>(grad_bias.dtype())(grad_bias.raw(), 0, 1, n, sums_b.take());
  });
}

void rms_norm(const Tensor& input, std::int64_t n, const Tensor* weight, double eps, const Tensor& output, const Tensor& rstd) {
  in_float_type(input.dtype(), [&](auto acc) {
    using Acc = decltype(acc);
    const auto load = loader<Acc>(input.dtype());
    const auto put = storer<Acc>(output.dtype());
    const std::int64_t size = padded(n);
    parallel_for(row_count(input, n), row_grain(n), [&](std::int64_t begin, std::int64_t end) {
      Scratch<Acc> row(size), weights = parameter<Acc>(weight, n, Acc(1));
      Acc* x = row.data();
      const Acc* w = weights.data();
      for (std::int64_t r = begin; r < end; ++r) {
        load(input.raw(), r * n, 1, n, x);
        std::fill(x + n, x + size, Acc(0));  // a row that is not finite must not reach the next one through the padding
        const Acc squares = sum_terms<Acc>(size, [x](std::int64_t i) { return x[i] * x[i]; });
        const Acc scale = Acc(1) / std::sqrt(squares / static_cast<Acc>(n) + static_cast<Acc>(eps));
        for (std::int64_t i = 0; i < size; ++i) x[i] = x[i] * scale * w[i];
        put(output.raw(), r * n, 1, n, x);
        rstd.raw_as<Acc>()[r] = scale;
      }
    });
  });
}

void rms_norm_backward(const Tensor& grad, const Tensor& input, std::int64_t n, const Tensor* weight, const Tensor& rstd, const Tensor& grad_input,
                       const Tensor& grad_weight) {
  in_float_type(input.dtype(), [&](auto acc) {
    using Acc = decltype(acc);
    const auto load_grad = loader<Acc>(grad.dtype()), load_input = loader<Acc>(input.dtype());
    const auto put = storer<Acc>(grad_input.dtype());
    const std::int64_t size = padded(n);
    Scratch<Acc> row_x(size), row_g(size), weights = parameter<Acc>(weight, n, Acc(1));
    Acc *x = row_x.data(), *g = row_g.data();
    const Acc* w = weights.data();
    ColumnSums<Acc> sums_w(size);
    for (std::int64_t r = 0; r < row_count(input, n); ++r) {
      const Acc scale = rstd.raw_as<const Acc>()[r];
      load_input(input.raw(), r * n, 1, n, x);
      load_grad(grad.raw(), r * n, 1, n, g);
      std::fill(x + n, x + size, Acc(0));
      std::fill(g + n, g + size, Acc(0));
      Acc* sw = sums_w.tile();
      for (std::int64_t i = 0; i < size; ++i) {
        x[i] *= scale;
        sw[i] += g[i] * x[i];
        g[i] *= w[i];
      }
      sums_w.next_row();
      const Acc mean_gx = sum_terms<Acc>(size, [g, x](std::int64_t i) { return g[i] * x[i]; }) / static_cast<Acc>(n);
      for (std::int64_t i = 0; i < size; ++i) g[i] = scale * (g[i] - x[i] * mean_gx);
      put(grad_input.raw(), r * n, 1, n, g);
    }
    storer<Acc>(grad_weight.dtype())(grad_weight.raw(), 0, 1, n, sums_w.take());
  });
}

}  // namespace dtensor::local::cpu
