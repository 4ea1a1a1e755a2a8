// SPDX-License-Identifier: Apache-2.0
#include "local/cpu/losses.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "local/cpu/lanes.h"
#include "local/cpu/vector_math.h"
#include "local/parallel.h"

namespace dtensor::local::cpu {
namespace {

struct ClassRows {
  std::int64_t n, inner = 1, count = 1;
  ClassRows(const Shape& shape, int dim) : n(shape[dim]) {
    for (int d = dim + 1; d < shape.ndim(); ++d) inner *= shape[d];
    for (int d = 0; d < shape.ndim(); ++d) count *= d == dim ? 1 : shape[d];
  }
  std::int64_t offset(std::int64_t row) const { return row / inner * n * inner + row % inner; }
};

template <class F>
void in_float_type(Dtype dtype, const F& f) {
  if (dtype == Dtype::f64) f(double{});
  else f(float{});
}

}  // namespace

std::optional<std::int64_t> cross_entropy_rows(const Tensor& logits, const Tensor& target, const LossOptions& options, const Tensor& loss,
                                               const Tensor& log_sum) {
  const ClassRows rows(logits.shape(), options.dim);
  const auto* targets = target.raw_as<const std::int64_t>();
  std::optional<std::int64_t> bad;
  in_float_type(logits.dtype(), [&](auto acc) {
    using Acc = decltype(acc);
    const auto load = loader<Acc>(logits.dtype());
    const auto put = storer<Acc>(loss.dtype());
    const std::int64_t n = rows.n, size = padded(n);
    const Acc smoothing = static_cast<Acc>(options.label_smoothing);
    Scratch<Acc> scratch(size);
    Acc* x = scratch.data();
    for (std::int64_t r = 0; r < rows.count; ++r) {
      load(logits.raw(), rows.offset(r), rows.inner, n, x);
      std::fill(x + n, x + size, -std::numeric_limits<Acc>::infinity());
      // An infinite maximum makes the row NaN, as log_softmax does.
      const Acc top = size == 0 ? Acc(0) : max_of(x, size);
      const Acc lse = std::log(sum_terms<Acc>(size, [x, top](std::int64_t i) { return vexp(x[i] - top); })) + top + (top - top);
      log_sum.raw_as<Acc>()[r] = lse;
      const std::int64_t t = targets[r];
      Acc value = 0;
      if (t != options.ignore_index) {
        if (t < 0 || t >= n) {
          bad = t;
        } else {
          value = (Acc(1) - smoothing) * (lse - x[t]);
          if (smoothing != 0) {
            std::fill(x + n, x + size, Acc(0));
            value += smoothing * (lse - sum_terms<Acc>(size, [x](std::int64_t i) { return x[i]; }) / static_cast<Acc>(n));
          }
        }
      }
      put(loss.raw(), r, 1, 1, &value);
    }
  });
  return bad;
}

void cross_entropy_backward(const Tensor& grad, const Tensor& logits, const Tensor& target, const Tensor* log_sum, const Classes& classes,
                            const LossOptions& options, const Tensor& grad_logits) {
  const ClassRows rows(logits.shape(), options.dim);
  const auto* targets = target.raw_as<const std::int64_t>();
  in_float_type(logits.dtype(), [&](auto acc) {
    using Acc = decltype(acc);
    const auto load = loader<Acc>(logits.dtype()), load_grad = loader<Acc>(grad.dtype());
    const auto put = storer<Acc>(grad_logits.dtype());
    const std::int64_t n = rows.n, size = padded(n);
    const Acc smoothing = static_cast<Acc>(options.label_smoothing), each = smoothing / static_cast<Acc>(classes.count);
    parallel_for(rows.count, row_grain(n), [&](std::int64_t begin, std::int64_t end) {
      Scratch<Acc> scratch(size);
      Acc* x = scratch.data();
      std::fill(x, x + size, Acc(0));
      for (std::int64_t r = begin; r < end; ++r) {
        const std::int64_t t = targets[r];
        if (t == options.ignore_index) {
          std::fill(x, x + size, Acc(0));
        } else {
          Acc g;
          load_grad(grad.raw(), r, 1, 1, &g);
          if (log_sum != nullptr) {
            const Acc lse = log_sum->raw_as<const Acc>()[r];
            load(logits.raw(), rows.offset(r), rows.inner, n, x);
            for (std::int64_t i = 0; i < size; i += kChunk)
              for (std::int64_t j = i; j < i + kChunk; ++j) x[j] = g * (vexp(x[j] - lse) - each);
          } else {
            std::fill(x, x + size, -g * each);
          }
          const std::int64_t here = classes.to_local(t);
          if (here >= 0) x[here] -= g * (Acc(1) - smoothing);
        }
        put(grad_logits.raw(), rows.offset(r), rows.inner, n, x);
      }
    });
  });
}

std::optional<std::int64_t> target_logit(const Tensor& logits, const Tensor& target, const Classes& classes, const LossOptions& options,
                                         const Tensor& out) {
  const ClassRows rows(logits.shape(), options.dim);
  const auto* targets = target.raw_as<const std::int64_t>();
  std::optional<std::int64_t> bad;
  in_float_type(logits.dtype(), [&](auto acc) {
    using Acc = decltype(acc);
    const auto load = loader<Acc>(logits.dtype());
    const auto put = storer<Acc>(out.dtype());
    const std::int64_t n = rows.n, size = padded(n);
    const Acc smoothing = static_cast<Acc>(options.label_smoothing);
    Scratch<Acc> scratch(size);
    Acc* x = scratch.data();
    std::fill(x, x + size, Acc(0));
    for (std::int64_t r = 0; r < rows.count; ++r) {
      const std::int64_t t = targets[r];
      Acc value = 0;
      if (t != options.ignore_index) {
        if (t < 0 || t >= classes.count) bad = t;
        const std::int64_t here = classes.to_local(t);
        if (here >= 0) {
          load(logits.raw(), rows.offset(r) + here * rows.inner, 1, 1, &value);
          value *= Acc(1) - smoothing;
        }
        if (smoothing != 0) {
          load(logits.raw(), rows.offset(r), rows.inner, n, x);
          value += smoothing / static_cast<Acc>(classes.count) * sum_terms<Acc>(size, [x](std::int64_t i) { return x[i]; });
        }
      }
      put(out.raw(), r, 1, 1, &value);
    }
  });
  return bad;
}

void squared_error(const Tensor& a, const Tensor& b, const Tensor& out) {
  in_float_type(out.dtype(), [&](auto acc) {
    using Acc = decltype(acc);
    const auto load_a = loader<Acc>(a.dtype()), load_b = loader<Acc>(b.dtype());
    const auto put = storer<Acc>(out.dtype());
    Acc x[kChunk] = {}, y[kChunk] = {};
    for (std::int64_t i = 0; i < out.numel(); i += kChunk) {
      const std::int64_t n = std::min(kChunk, out.numel() - i);
      load_a(a.raw(), i, 1, n, x);
      load_b(b.raw(), i, 1, n, y);
      for (std::int64_t j = 0; j < kChunk; ++j) x[j] = (x[j] - y[j]) * (x[j] - y[j]);
      put(out.raw(), i, 1, n, x);
    }
  });
}

}  // namespace dtensor::local::cpu
