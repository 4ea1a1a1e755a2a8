// SPDX-License-Identifier: Apache-2.0
#include "local/cpu/linear_cross_entropy.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "local/cpu/exponentials.h"
#include "local/cpu/gemm.h"
#include "local/parallel.h"
#include "local/strided.h"

namespace dtensor::local::cpu {
namespace {

struct Sizes {
  std::int64_t rows, classes, width;
  /// Rows whose logits exist together.
  std::int64_t chunk() const { return std::clamp<std::int64_t>((1 << 22) / std::max<std::int64_t>(1, classes), 32, 1024); }
};
Sizes sizes_of(const Tensor& input, const Tensor& weight) {
  const std::int64_t width = weight.shape()[1];
  std::int64_t rows = 1;
  for (int d = 0; d + 1 < input.ndim(); ++d) rows *= input.shape()[d];
  return {rows, weight.shape()[0], width};
}
MatrixOperand matrix(const void* data, std::int64_t row) { return {.data = data, .row = row, .column = 1, .batch = {}}; }
template <class T>
void multiply(std::int64_t m, std::int64_t n, std::int64_t k, MatrixOperand a, MatrixOperand b, T* out) {
  gemm({.dtype = dtype_of<T>(), .m = m, .n = n, .k = k, .a = a, .b = b, .addend = {}, .out = out});
}

// f(first row, number of rows, logits [rows, classes])
template <class T, class F>
void for_chunks(const Sizes& s, const T* input, const T* weight, F&& f) {
  std::vector<T> logits(static_cast<std::size_t>(std::min(s.chunk(), s.rows) * s.classes));
  for (std::int64_t first = 0; first < s.rows; first += s.chunk()) {
    const std::int64_t count = std::min(s.chunk(), s.rows - first);
    multiply(count, s.classes, s.width, matrix(input + first * s.width, s.width), matrix(weight, s.width).transposed(), logits.data());
    f(first, count, logits.data());
  }
}
// f(row, room for its numbers)
template <class A, class F>
void for_rows_of(std::int64_t count, std::int64_t classes, F&& f) {
  parallel_for(count, std::max<std::int64_t>(1, 4096 / std::max<std::int64_t>(1, classes)), [&](std::int64_t begin, std::int64_t end) {
    Scratch<A> row(padded(classes));
    for (std::int64_t r = begin; r < end; ++r) f(r, row.data());
  });
}

// n numbers, filled up with -inf.
template <class T>
void take(const T* x, std::int64_t n, Accumulate<T>* row) {
  loader<Accumulate<T>>(dtype_of<T>())(x, 0, 1, n, row);
  std::fill(row + n, row + padded(n), -std::numeric_limits<Accumulate<T>>::infinity());
}

// Position of the target among the classes here; -1: elsewhere or ignored.
std::int64_t position(const LinearClasses& c, std::int64_t target) { return target == c.ignore_index ? -1 : c.classes.to_local(target); }
std::optional<std::int64_t> bad_target(const LinearClasses& c, const Tensor& target) {
  const auto* t = target.raw_as<const std::int64_t>();
  for (std::int64_t i = 0; i < target.numel(); ++i)
    if (t[i] != c.ignore_index && (t[i] < 0 || t[i] >= c.classes.count)) return t[i];
  return {};
}

}  // namespace

void linear_row_max(const Tensor& input, const Tensor& weight, const Tensor& top) {
  const Sizes s = sizes_of(input, weight);
  visit_floating(input.dtype(), [&]<class T>(std::type_identity<T>) {
    auto* to = top.raw_as<Accumulate<T>>();
    for_chunks(s, input.raw_as<const T>(), weight.raw_as<const T>(), [&](std::int64_t first, std::int64_t count, const T* logits) {
      for_rows_of<Accumulate<T>>(count, s.classes, [&](std::int64_t r, Accumulate<T>* x) {
        take(logits + r * s.classes, s.classes, x);
        to[first + r] = max_of(x, padded(s.classes));
      });
    });
  });
}

std::optional<std::int64_t> linear_exp_sum(const LinearClasses& c, const Tensor& input, const Tensor& weight, const Tensor& target, const Tensor& top,
                                           const Tensor& sums, const Tensor& logit) {
  if (const auto bad = bad_target(c, target)) return bad;
  const Sizes s = sizes_of(input, weight);
  visit_floating(input.dtype(), [&]<class T>(std::type_identity<T>) {
    using A = Accumulate<T>;
    for_chunks(s, input.raw_as<const T>(), weight.raw_as<const T>(), [&](std::int64_t first, std::int64_t count, const T* logits) {
      for_rows_of<A>(count, s.classes, [&](std::int64_t r, A* x) {
        const std::int64_t row = first + r, at = position(c, target.raw_as<const std::int64_t>()[row]);
        take(logits + r * s.classes, s.classes, x);
        logit.raw_as<A>()[row] = at >= 0 ? x[at] : A(0);
        sums.raw_as<A>()[row] = exponentials(x, padded(s.classes), top.raw_as<const A>()[row], x);
      });
    });
  });
  return {};
}

std::optional<std::int64_t> linear_cross_entropy(const LinearClasses& c, const Tensor& input, const Tensor& weight, const Tensor& target,
                                                 const Tensor& loss, const Tensor& lse) {
  if (const auto bad = bad_target(c, target)) return bad;
  const Sizes s = sizes_of(input, weight);
  visit_floating(input.dtype(), [&]<class T>(std::type_identity<T>) {
    using A = Accumulate<T>;
    for_chunks(s, input.raw_as<const T>(), weight.raw_as<const T>(), [&](std::int64_t first, std::int64_t count, const T* logits) {
      for_rows_of<A>(count, s.classes, [&](std::int64_t r, A* x) {
        const std::int64_t row = first + r, at = position(c, target.raw_as<const std::int64_t>()[row]);
        take(logits + r * s.classes, s.classes, x);
        const A logit = at >= 0 ? x[at] : A(0), top = max_of(x, padded(s.classes));
        const A total = top + std::log(exponentials(x, padded(s.classes), top, x));
        lse.raw_as<A>()[row] = total;
        loss.raw_as<A>()[row] = at >= 0 ? total - logit : A(0);
      });
    });
  });
  return {};
}

void linear_cross_entropy_backward(const LinearClasses& c, const Tensor& grad, const Tensor& input, const Tensor& weight, const Tensor& target,
                                   const Tensor& lse, const Tensor& grad_input, const Tensor& grad_weight) {
  const Sizes s = sizes_of(input, weight);
  visit_floating(input.dtype(), [&]<class T>(std::type_identity<T>) {
    using A = Accumulate<T>;
    const T *x = input.raw_as<const T>(), *w = weight.raw_as<const T>();
    const auto size = static_cast<std::size_t>(s.classes * s.width);
    std::vector<A> total(size);
    std::vector<T> part(size);
    for_chunks(s, x, w, [&](std::int64_t first, std::int64_t count, T* logits) {
      for_rows_of<A>(count, s.classes, [&](std::int64_t r, A* slope) {
        T* row = logits + r * s.classes;
        const std::int64_t label = target.raw_as<const std::int64_t>()[first + r], at = position(c, label);
        const A up = label == c.ignore_index ? A(0) : grad.raw_as<const A>()[first + r], shift = lse.raw_as<const A>()[first + r];
        if (up == 0) return static_cast<void>(std::fill_n(row, s.classes, T{}));
        take(row, s.classes, slope);
        exponentials(slope, padded(s.classes), shift, slope);
        if (at >= 0) slope[at] -= 1;
        for (std::int64_t i = 0; i < s.classes; ++i) row[i] = store<T>(up * slope[i]);
      });
      multiply(count, s.width, s.classes, matrix(logits, s.classes), matrix(w, s.width), grad_input.raw_as<T>() + first * s.width);
      multiply(s.classes, s.width, count, matrix(logits, s.classes).transposed(), matrix(x + first * s.width, s.width), part.data());
      for (std::size_t i = 0; i < size; ++i) total[i] += load(part[i]);
    });
    for (std::size_t i = 0; i < size; ++i) grad_weight.raw_as<T>()[i] = store<T>(total[i]);
  });
}

}  // namespace dtensor::local::cpu
