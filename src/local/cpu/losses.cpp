// SPDX-License-Identifier: Apache-2.0
#include "local/cpu/losses.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "local/cpu/exponentials.h"
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

// g (exp(x - lse) - each)
template <class Acc>
[[gnu::noinline]] void row_slope(const Acc* __restrict__ x, std::int64_t n, Acc lse, Acc g, Acc each, Acc* __restrict__ out) {
  for (std::int64_t i = 0; i < n; i += kChunk)
    for (std::int64_t j = i; j < i + kChunk; ++j) out[j] = g * (vexp_negative(x[j] - lse) - each);
}

// The last target that is no class.
std::optional<std::int64_t> bad_target(const std::int64_t* targets, std::int64_t count, std::int64_t classes, std::int64_t ignored) {
  for (std::int64_t r = count; r-- > 0;)
    if (targets[r] != ignored && (targets[r] < 0 || targets[r] >= classes)) return targets[r];
  return {};
}

}  // namespace

std::optional<std::int64_t> cross_entropy_rows(const Tensor& logits, const Tensor& target, const LossOptions& options, const Tensor& loss,
                                               const Tensor& log_sum) {
  const ClassRows rows(logits.shape(), options.dim);
  const auto* targets = target.raw_as<const std::int64_t>();
  in_float_type(logits.dtype(), [&](auto acc) {
    using Acc = decltype(acc);
    const RowReader<Acc> in(logits);
    const auto put = storer<Acc>(loss.dtype());
    const std::int64_t n = rows.n, size = padded(n);
    const Acc smoothing = static_cast<Acc>(options.label_smoothing);
    parallel_for(rows.count, row_grain(n), [&](std::int64_t begin, std::int64_t end) {
      Scratch<Acc> scratch(size), spread(size);
      for (std::int64_t r = begin; r < end; ++r) {
        const Acc* x = in.read(rows.offset(r), rows.inner, n, -std::numeric_limits<Acc>::infinity(), scratch.data());
        const std::int64_t t = targets[r];
        const bool counts = t != options.ignore_index && t >= 0 && t < n;
        // An infinite maximum makes the row NaN, as log_softmax does.
        const Acc top = size == 0 ? Acc(0) : max_of(x, size);
        const Acc lse = std::log(exponentials(x, size, top, spread.data())) + top + (top - top);
        log_sum.raw_as<Acc>()[r] = lse;
        Acc value = counts ? (Acc(1) - smoothing) * (lse - x[t]) : Acc(0);
        if (counts && smoothing != 0) {
          const Acc* whole = in.read(rows.offset(r), rows.inner, n, Acc(0), scratch.data());
          value += smoothing * (lse - sum_terms<Acc>(size, [whole](std::int64_t i) { return whole[i]; }) / static_cast<Acc>(n));
        }
        put(loss.raw(), r, 1, 1, &value);
      }
    });
  });
  return bad_target(targets, rows.count, rows.n, options.ignore_index);
}

void cross_entropy_backward(const Tensor& grad, const Tensor& logits, const Tensor& target, const Tensor* log_sum, const Classes& classes,
                            const LossOptions& options, const Tensor& grad_logits) {
  const ClassRows rows(logits.shape(), options.dim);
  const auto* targets = target.raw_as<const std::int64_t>();
  in_float_type(logits.dtype(), [&](auto acc) {
    using Acc = decltype(acc);
    const auto load_grad = loader<Acc>(grad.dtype());
    const RowReader<Acc> in(logits);
    const RowWriter<Acc> out(grad_logits);
    const std::int64_t n = rows.n, size = padded(n);
    const Acc smoothing = static_cast<Acc>(options.label_smoothing), each = smoothing / static_cast<Acc>(classes.count);
    parallel_for(rows.count, row_grain(n), [&](std::int64_t begin, std::int64_t end) {
      Scratch<Acc> scratch(size), scratch_out(size);
      for (std::int64_t r = begin; r < end; ++r) {
        const std::int64_t t = targets[r];
        Acc* to = out.target(rows.offset(r), rows.inner, n, scratch_out.data());
        if (t == options.ignore_index) {
          std::fill(to, to + size, Acc(0));
        } else {
          Acc g;
          load_grad(grad.raw(), r, 1, 1, &g);
          if (log_sum != nullptr) {
            const Acc lse = log_sum->raw_as<const Acc>()[r];
            row_slope(in.read(rows.offset(r), rows.inner, n, Acc(0), scratch.data()), size, lse, g, each, to);
          } else {
            std::fill(to, to + size, -g * each);
          }
          const std::int64_t here = classes.to_local(t);
          if (here >= 0) to[here] -= g * (Acc(1) - smoothing);
        }
        out.write(rows.offset(r), rows.inner, n, to);
      }
    });
  });
}

std::optional<std::int64_t> target_logit(const Tensor& logits, const Tensor& target, const Classes& classes, const LossOptions& options, double scale,
                                         const Tensor& out) {
  const ClassRows rows(logits.shape(), options.dim);
  const auto* targets = target.raw_as<const std::int64_t>();
  in_float_type(logits.dtype(), [&](auto acc) {
    using Acc = decltype(acc);
    const auto load = loader<Acc>(logits.dtype());
    const auto put = storer<Acc>(out.dtype());
    const std::int64_t n = rows.n, size = padded(n);
    const Acc smoothing = static_cast<Acc>(options.label_smoothing);
    parallel_for(rows.count, smoothing != 0 ? row_grain(n) : kPointwiseGrain, [&](std::int64_t begin, std::int64_t end) {
      Scratch<Acc> scratch(smoothing != 0 ? size : 0);
      Acc* x = scratch.data();
      std::fill(x, x + (smoothing != 0 ? size : 0), Acc(0));
      for (std::int64_t r = begin; r < end; ++r) {
        const std::int64_t t = targets[r];
        Acc value = 0;
        if (t != options.ignore_index) {
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
        value *= static_cast<Acc>(scale);
        put(out.raw(), r, 1, 1, &value);
      }
    });
  });
  return bad_target(targets, rows.count, classes.count, options.ignore_index);
}

void count_targets(const Tensor& target, std::int64_t ignore_index, const Tensor& count) {
  const auto* t = target.raw_as<const std::int64_t>();
  count.fill_(static_cast<double>(target.numel() - std::count(t, t + target.numel(), ignore_index)));
}

std::string wrong_target(std::string_view op, std::int64_t target, std::int64_t classes) {
  return std::string(op) + ": target " + std::to_string(target) + " is out of range (" + std::to_string(classes) + " classes); give 0 .. " +
         std::to_string(classes - 1) + " or ignore_index";
}

void squared_error(const Tensor& a, const Tensor& b, const Tensor& out) {
  in_float_type(out.dtype(), [&](auto acc) {
    using Acc = decltype(acc);
    const auto load_a = loader<Acc>(a.dtype()), load_b = loader<Acc>(b.dtype());
    const auto put = storer<Acc>(out.dtype());
    parallel_for((out.numel() + kChunk - 1) / kChunk, kPointwiseGrain / kChunk, [&](std::int64_t begin, std::int64_t end) {
      Acc x[kChunk] = {}, y[kChunk] = {};
      for (std::int64_t i = begin * kChunk; i < std::min(end * kChunk, out.numel()); i += kChunk) {
        const std::int64_t n = std::min(kChunk, out.numel() - i);
        load_a(a.raw(), i, 1, n, x);
        load_b(b.raw(), i, 1, n, y);
        for (std::int64_t j = 0; j < kChunk; ++j) x[j] = (x[j] - y[j]) * (x[j] - y[j]);
        put(out.raw(), i, 1, n, x);
      }
    });
  });
}

}  // namespace dtensor::local::cpu
