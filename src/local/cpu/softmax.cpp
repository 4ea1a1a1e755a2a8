// SPDX-License-Identifier: Apache-2.0
#include "local/cpu/softmax.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "local/cpu/lanes.h"
#include "local/cpu/vector_math.h"
#include "local/parallel.h"

namespace dtensor::local::cpu {
namespace {

// A row-major tensor as rows along one dimension.
struct RowsAlong {
  std::int64_t n = 1, inner = 1, count = 1;
  RowsAlong(const Shape& shape, int dim) {
    if (shape.ndim() > 0) n = shape[dim];
    for (int d = dim + 1; d < shape.ndim(); ++d) inner *= shape[d];
    for (int d = 0; d < shape.ndim(); ++d) count *= d == dim ? 1 : shape[d];
  }
  std::int64_t offset(std::int64_t row) const { return row / inner * n * inner + row % inner; }
};

// The reduced dims moved to the end, each group of them one row.
struct LastRows {
  std::int64_t n = 1;
  Tensor data;
  LastRows(const Tensor& input, const Shape& dims) {
    Shape order;
    for (int d = 0; d < input.ndim(); ++d)
      if (std::find(dims.begin(), dims.end(), d) == dims.end()) order.push_back(d);
    for (std::int64_t d : dims) {
      order.push_back(d);
      n *= input.shape()[static_cast<int>(d)];
    }
    data = input.permute(order).contiguous();
  }
};

template <class F>
void in_float_type(Dtype dtype, const F& f) {
  if (dtype == Dtype::f64) f(double{});
  else f(float{});
}

// Replaces x by exp(x - shift), returns the sum. n: a multiple of kChunk, padding -inf.
template <class Acc>
Acc exponentials(Acc* x, std::int64_t n, Acc shift) {
  for (std::int64_t i = 0; i < n; i += kChunk)
    for (std::int64_t j = 0; j < kChunk; ++j) x[i + j] = vexp(x[i + j] - shift);
  return sum_terms<Acc>(n, [x](std::int64_t i) { return x[i]; });
}
template <class Acc>
Acc sum_of_exponentials(const Acc* x, std::int64_t n, Acc shift) {
  return sum_terms<Acc>(n, [x, shift](std::int64_t i) { return vexp(x[i] - shift); });
}

template <class Acc>
constexpr Acc kLowest = -std::numeric_limits<Acc>::infinity();

}  // namespace

void softmax(const Tensor& input, int dim, bool logarithm, const Tensor& output) {
  const RowsAlong rows(input.shape(), dim);
  if (rows.n == 0) return;
  in_float_type(input.dtype(), [&](auto acc) {
    using Acc = decltype(acc);
    const auto load = loader<Acc>(input.dtype());
    const auto put = storer<Acc>(output.dtype());
    const std::int64_t size = padded(rows.n);
    parallel_for(rows.count, row_grain(rows.n), [&](std::int64_t begin, std::int64_t end) {
      Scratch<Acc> scratch(size);
      Acc* x = scratch.data();
      for (std::int64_t r = begin; r < end; ++r) {
        const std::int64_t offset = rows.offset(r);
        load(input.raw(), offset, rows.inner, rows.n, x);
        std::fill(x + rows.n, x + size, kLowest<Acc>);
        const Acc top = max_of(x, size);
        if (logarithm) {
          const Acc log_sum = std::log(sum_of_exponentials(x, size, top));
          for (std::int64_t i = 0; i < size; ++i) x[i] = x[i] - top - log_sum;
        } else {
          const Acc sum = exponentials(x, size, top);
          for (std::int64_t i = 0; i < size; ++i) x[i] /= sum;
        }
        put(output.raw(), offset, rows.inner, rows.n, x);
      }
    });
  });
}

void softmax_backward(const Tensor& grad, const Tensor& result, int dim, bool logarithm, const Tensor& output) {
  const RowsAlong rows(grad.shape(), dim);
  if (rows.n == 0) return;
  in_float_type(output.dtype(), [&](auto acc) {
    using Acc = decltype(acc);
    const auto load_grad = loader<Acc>(grad.dtype()), load_result = loader<Acc>(result.dtype());
    const auto put = storer<Acc>(output.dtype());
    const std::int64_t size = padded(rows.n);
    parallel_for(rows.count, row_grain(rows.n), [&](std::int64_t begin, std::int64_t end) {
      Scratch<Acc> scratch_g(size), scratch_y(size);
      Acc *g = scratch_g.data(), *y = scratch_y.data();
      std::fill(g, g + size, Acc(0));
      for (std::int64_t r = begin; r < end; ++r) {
        const std::int64_t offset = rows.offset(r);
        load_grad(grad.raw(), offset, rows.inner, rows.n, g);
        load_result(result.raw(), offset, rows.inner, rows.n, y);
        std::fill(y + rows.n, y + size, Acc(0));  // a row that is not finite must not reach the next one through the padding
        if (logarithm) {
          const Acc sum = sum_terms<Acc>(size, [g](std::int64_t i) { return g[i]; });
          for (std::int64_t i = 0; i < size; i += kChunk)
            for (std::int64_t j = i; j < i + kChunk; ++j) y[j] = g[j] - vexp(y[j]) * sum;
        } else {
          const Acc sum = sum_terms<Acc>(size, [g, y](std::int64_t i) { return g[i] * y[i]; });
          for (std::int64_t i = 0; i < size; ++i) y[i] *= g[i] - sum;
        }
        put(output.raw(), offset, rows.inner, rows.n, y);
      }
    });
  });
}

void exp_sum(const Tensor& input, const Tensor& shift, const Shape& dims, const Tensor& output) {
  const LastRows rows(input, dims);
  const Tensor shifts = shift.contiguous();
  in_float_type(input.dtype(), [&](auto acc) {
    using Acc = decltype(acc);
    const auto load = loader<Acc>(input.dtype()), load_shift = loader<Acc>(shifts.dtype());
    const auto put = storer<Acc>(output.dtype());
    const std::int64_t size = padded(rows.n);
    Scratch<Acc> scratch(size);
    Acc* x = scratch.data();
    for (std::int64_t r = 0; r < output.numel(); ++r) {
      Acc top;
      load_shift(shifts.raw(), r, 1, 1, &top);
      if (std::isinf(top)) top = 0;
      load(rows.data.raw(), r * rows.n, 1, rows.n, x);
      std::fill(x + rows.n, x + size, kLowest<Acc>);
      const Acc sum = sum_of_exponentials(x, size, top);
      put(output.raw(), r, 1, 1, &sum);
    }
  });
}

void log_sum_exp(const Tensor& input, const Shape& dims, const Tensor& output) {
  const LastRows rows(input, dims);
  in_float_type(input.dtype(), [&](auto acc) {
    using Acc = decltype(acc);
    const auto load = loader<Acc>(input.dtype());
    const auto put = storer<Acc>(output.dtype());
    const std::int64_t size = padded(rows.n);
    Scratch<Acc> scratch(size);
    Acc* x = scratch.data();
    for (std::int64_t r = 0; r < output.numel(); ++r) {
      load(rows.data.raw(), r * rows.n, 1, rows.n, x);
      std::fill(x + rows.n, x + size, kLowest<Acc>);
      const Acc top = size == 0 ? kLowest<Acc> : max_of(x, size);
      const Acc shift = std::isinf(top) ? Acc(0) : top;
      const Acc value = std::log(sum_of_exponentials(x, size, shift)) + shift;
      put(output.raw(), r, 1, 1, &value);
    }
  });
}

}  // namespace dtensor::local::cpu
