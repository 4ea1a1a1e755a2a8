// SPDX-License-Identifier: Apache-2.0
#include "local/cpu/softmax.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "local/cpu/exponentials.h"
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

template <class Acc>
Acc sum_of_exponentials(const Acc* x, std::int64_t n, Acc shift) {
  return sum_terms<Acc>(n, [x, shift](std::int64_t i) { return vexp(x[i] - shift); });
}

template <class Acc>
[[gnu::noinline]] void shift_row(const Acc* __restrict__ x, std::int64_t n, Acc a, Acc b, Acc* __restrict__ out) {
  for (std::int64_t i = 0; i < n; i += kChunk)
    for (std::int64_t j = i; j < i + kChunk; ++j) out[j] = x[j] - a - b;
}
template <class Acc>
[[gnu::noinline]] void scale_row(Acc* x, std::int64_t n, Acc factor) {
  for (std::int64_t i = 0; i < n; i += kChunk)
    for (std::int64_t j = i; j < i + kChunk; ++j) x[j] *= factor;
}
// The gradient of (log) softmax: g - exp(y) sum, or y (g - sum).
template <class Acc>
[[gnu::noinline]] void row_gradient(const Acc* __restrict__ g, const Acc* __restrict__ y, std::int64_t n, bool logarithm, Acc sum,
                                    Acc* __restrict__ out) {
  if (logarithm) {
    for (std::int64_t i = 0; i < n; i += kChunk)
      for (std::int64_t j = i; j < i + kChunk; ++j) out[j] = g[j] - vexp_negative(y[j]) * sum;
  } else {
    for (std::int64_t i = 0; i < n; i += kChunk)
      for (std::int64_t j = i; j < i + kChunk; ++j) out[j] = y[j] * (g[j] - sum);
  }
}

template <class Acc>
constexpr Acc kLowest = -std::numeric_limits<Acc>::infinity();

}  // namespace

void softmax(const Tensor& input, int dim, bool logarithm, const Tensor& output) {
  const RowsAlong rows(input.shape(), dim);
  if (rows.n == 0) return;
  in_float_type(input.dtype(), [&](auto acc) {
    using Acc = decltype(acc);
    const RowReader<Acc> in(input);
    const RowWriter<Acc> out(output);
    const std::int64_t size = padded(rows.n);
    parallel_for(rows.count, row_grain(rows.n), [&](std::int64_t begin, std::int64_t end) {
      Scratch<Acc> scratch_x(size), scratch_y(size);
      for (std::int64_t r = begin; r < end; ++r) {
        const std::int64_t offset = rows.offset(r);
        const Acc* x = in.read(offset, rows.inner, rows.n, kLowest<Acc>, scratch_x.data());
        Acc* y = out.target(offset, rows.inner, rows.n, scratch_y.data());
        const Acc top = max_of(x, size), sum = exponentials(x, size, top, y);
        if (logarithm) shift_row(x, size, top, std::log(sum), y);
        else scale_row(y, size, Acc(1) / sum);
        out.write(offset, rows.inner, rows.n, y);
      }
    });
  });
}

void softmax_backward(const Tensor& grad, const Tensor& result, int dim, bool logarithm, const Tensor& output) {
  const RowsAlong rows(grad.shape(), dim);
  if (rows.n == 0) return;
  in_float_type(output.dtype(), [&](auto acc) {
    using Acc = decltype(acc);
    const RowReader<Acc> in_grad(grad), in_result(result);
    const RowWriter<Acc> out(output);
    const std::int64_t size = padded(rows.n);
    parallel_for(rows.count, row_grain(rows.n), [&](std::int64_t begin, std::int64_t end) {
      Scratch<Acc> scratch_g(size), scratch_y(size), scratch_out(size);
      for (std::int64_t r = begin; r < end; ++r) {
        const std::int64_t offset = rows.offset(r);
        const Acc* g = in_grad.read(offset, rows.inner, rows.n, Acc(0), scratch_g.data());
        const Acc* y = in_result.read(offset, rows.inner, rows.n, Acc(0), scratch_y.data());
        Acc* to = out.target(offset, rows.inner, rows.n, scratch_out.data());
        const Acc sum = logarithm ? sum_terms<Acc>(size, [g](std::int64_t i) { return g[i]; })
                                  : sum_terms<Acc>(size, [g, y](std::int64_t i) { return g[i] * y[i]; });
        row_gradient(g, y, size, logarithm, sum, to);
        out.write(offset, rows.inner, rows.n, to);
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
    parallel_for(output.numel(), row_grain(rows.n), [&](std::int64_t begin, std::int64_t end) {
      Scratch<Acc> scratch(size);
      Acc* x = scratch.data();
      for (std::int64_t r = begin; r < end; ++r) {
        Acc top;
        load_shift(shifts.raw(), r, 1, 1, &top);
        if (std::isinf(top)) top = 0;
        load(rows.data.raw(), r * rows.n, 1, rows.n, x);
        std::fill(x + rows.n, x + size, kLowest<Acc>);
        const Acc sum = sum_of_exponentials(x, size, top);
        put(output.raw(), r, 1, 1, &sum);
      }
    });
  });
}

void log_sum_exp(const Tensor& input, const Shape& dims, const Tensor& output) {
  const LastRows rows(input, dims);
  in_float_type(input.dtype(), [&](auto acc) {
    using Acc = decltype(acc);
    const auto load = loader<Acc>(input.dtype());
    const auto put = storer<Acc>(output.dtype());
    const std::int64_t size = padded(rows.n);
    parallel_for(output.numel(), row_grain(rows.n), [&](std::int64_t begin, std::int64_t end) {
      Scratch<Acc> scratch(size);
      Acc* x = scratch.data();
      for (std::int64_t r = begin; r < end; ++r) {
        load(rows.data.raw(), r * rows.n, 1, rows.n, x);
        std::fill(x + rows.n, x + size, kLowest<Acc>);
        const Acc top = max_of(x, size);
        const Acc shift = std::isinf(top) ? Acc(0) : top;
        const Acc value = std::log(sum_of_exponentials(x, size, shift)) + shift;
        put(output.raw(), r, 1, 1, &value);
      }
    });
  });
}

}  // namespace dtensor::local::cpu
