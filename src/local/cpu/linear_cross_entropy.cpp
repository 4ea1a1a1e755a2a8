// SPDX-License-Identifier: Apache-2.0
#include "local/cpu/linear_cross_entropy.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

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
template <class F>
void for_rows_of(std::int64_t count, std::int64_t classes, F&& f) {
  parallel_for(count, std::max<std::int64_t>(1, 4096 / std::max<std::int64_t>(1, classes)), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) f(r);
  });
}

template <class T>
Accumulate<T> largest(const T* x, std::int64_t n) {
  using A = Accumulate<T>;
  A top = -std::numeric_limits<A>::infinity();
  for (std::int64_t i = 0; i < n; ++i) {
    const A v = load(x[i]);
    top = v > top || v != v ? v : top;
  }
  return top;
}
// Lane by lane, lanes in order: neither the threads nor the address matter.
template <class T>
Accumulate<T> exponentials(const T* x, std::int64_t n, Accumulate<T> shift) {
  using A = Accumulate<T>;
  constexpr std::int64_t kLanes = 8;
  A lanes[kLanes] = {};
  const std::int64_t even = n / kLanes * kLanes;
  for (std::int64_t i = 0; i < even; i += kLanes)
    for (std::int64_t j = 0; j < kLanes; ++j) lanes[j] += std::exp(load(x[i + j]) - shift);
  for (std::int64_t i = even; i < n; ++i) lanes[i - even] += std::exp(load(x[i]) - shift);
  A total = 0;
  for (const A lane : lanes) total += lane;
  return total;
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
      for_rows_of(count, s.classes, [&](std::int64_t r) { to[first + r] = largest(logits + r * s.classes, s.classes); });
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
      for_rows_of(count, s.classes, [&](std::int64_t r) {
        const std::int64_t row = first + r, at = position(c, target.raw_as<const std::int64_t>()[row]);
        sums.raw_as<A>()[row] = exponentials(logits + r * s.classes, s.classes, top.raw_as<const A>()[row]);
        logit.raw_as<A>()[row] = at >= 0 ? load(logits[r * s.classes + at]) : A(0);
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
      for_rows_of(count, s.classes, [&](std::int64_t r) {
        const T* x = logits + r * s.classes;
        const std::int64_t row = first + r, at = position(c, target.raw_as<const std::int64_t>()[row]);
        const A top = largest(x, s.classes), total = top + std::log(exponentials(x, s.classes, top));
        lse.raw_as<A>()[row] = total;
        loss.raw_as<A>()[row] = at >= 0 ? total - load(x[at]) : A(0);
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
      for_rows_of(count, s.classes, [&](std::int64_t r) {
        T* row = logits + r * s.classes;
        const std::int64_t label = target.raw_as<const std::int64_t>()[first + r], at = position(c, label);
        const A up = label == c.ignore_index ? A(0) : grad.raw_as<const A>()[first + r], shift = lse.raw_as<const A>()[first + r];
        const A here = at >= 0 ? std::exp(load(row[at]) - shift) : A(0);
        for (std::int64_t i = 0; i < s.classes; ++i) row[i] = store<T>(up == 0 ? A(0) : up * std::exp(load(row[i]) - shift));
        if (at >= 0) row[at] = store<T>(up * (here - 1));
      });
      multiply(count, s.width, s.classes, matrix(logits, s.classes), matrix(w, s.width), grad_input.raw_as<T>() + first * s.width);
      multiply(s.classes, s.width, count, matrix(logits, s.classes).transposed(), matrix(x + first * s.width, s.width), part.data());
      for (std::size_t i = 0; i < size; ++i) total[i] += load(part[i]);
    });
    for (std::size_t i = 0; i < size; ++i) grad_weight.raw_as<T>()[i] = store<T>(total[i]);
  });
}

}  // namespace dtensor::local::cpu
