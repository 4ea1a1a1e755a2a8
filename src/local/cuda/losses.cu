// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <string>

#include "local/cuda/classes.h"
#include "local/cuda/exponentials.h"
#include "local/cuda/reduction.h"
#include "local/cuda/rows.h"
#include "local/cuda/table.h"
#include "local/kernels/losses.h"
#include "local/kernels/reduce.h"

namespace dtensor::local::cuda {
namespace {

using cpu::Classes;
using cpu::LossOptions;

// Numbers of a dtype that is known when it runs.
struct LooseNumbers {
  void* base;
  Dtype dtype;
  explicit LooseNumbers(const Tensor& t) : base(t.raw()), dtype(t.dtype()) {}
  template <class A>
  DTENSOR_DEVICE A at(std::int64_t i) const {
    return element<A>(base, dtype, i);
  }
  template <class A>
  DTENSOR_DEVICE void put(std::int64_t i, A value) const {
    put_element(base, dtype, i, value);
  }
};

// Targets of rows, and what says that one is no class.
struct Targets {
  const std::int64_t* at;
  std::int64_t ignored, classes;
  Fault* fault;
  Targets(RankDevice& d, const Tensor& target, const LossOptions& options, std::int64_t count, bool check)
      : at(target.raw_as<const std::int64_t>()), ignored(options.ignore_index), classes(count), fault(nullptr) {
    if (!check) return;
    fault = d.faults.expect(d.current, [op = std::string(options.op), count](std::int64_t value) { return cpu::wrong_target(op, value, count); });
  }
  // Whether the row counts.
  DTENSOR_DEVICE bool counts(std::int64_t target) const {
    if (target == ignored) return false;
    if (target >= 0 && target < classes) return true;
    if (fault != nullptr) raise(fault, target);
    return false;
  }
};

// ---- cross_entropy_rows: one reduction that ends with the target's logit

template <class T>
struct PutLoss {
  using A = Accumulate<T>;
  const T* logits;
  std::int64_t n, inner;
  Targets targets;
  A smoothing;
  LooseNumbers loss;
  A* log_sum;
  DTENSOR_DEVICE void operator()(const ExpSum<A>& s, std::int64_t row) const {
    // An infinite maximum makes the row NaN, as log_softmax does.
    const A lse = n == 0 ? std::log(s.sum) : std::log(s.sum) + s.top + (s.top - s.top);
    log_sum[row] = lse;
    const std::int64_t t = targets.at[row], outer = quotient(row, inner);
    A value = 0;
    if (targets.counts(t)) {
      value = (A(1) - smoothing) * (lse - load(logits[outer * n * inner + (row - outer * inner) + t * inner]));
      if (smoothing != 0) value += smoothing * (lse - s.total / static_cast<A>(n));
    }
    loss.put(row, value);
  }
};

std::optional<std::int64_t> cross_entropy_rows(const Tensor& logits, const Tensor& target, const LossOptions& options, const Tensor& loss,
                                               const Tensor& log_sum) {
  const RowShape s(logits.shape(), options.dim);
  if (s.count() == 0) return {};
  RankDevice& d = rank_device(logits);
  const Targets targets(d, target, options, s.n, true);
  visit_floating(logits.dtype(), [&]<class T>(std::type_identity<T>) {
    using A = Accumulate<T>;
    const T* in = logits.raw_as<const T>();
    const PutLoss<T> put{in, s.n, s.inner, targets, static_cast<A>(options.label_smoothing), LooseNumbers(loss), log_sum.raw_as<A>()};
    run_reduction("cross_entropy_rows", d, s.axes(), TypedSource<T, A>{in}, ExpSums<A, PutLoss<T>>{put});
  });
  return {};
}

// ---- cross_entropy_backward: every element once

template <class T>
struct LossSlopes {
  static constexpr int kV = kVectorOf<T>;
  using A = Accumulate<T>;
  const T* logits;
  const std::int64_t* targets;
  std::int64_t ignored;
  ClassesOnDevice classes;
  LooseNumbers grad;
  const A* log_sum;  // none: no exponential
  A smoothing, each;
  T* out;
  struct Row {
    std::int64_t here;
    A grad, log_sum;
    bool counts;
  };
  DTENSOR_DEVICE Vector<T> load(std::int64_t at, int n, bool aligned) const {
    return log_sum != nullptr ? load_vector(logits + at, n, aligned) : Vector<T>{};
  }
  DTENSOR_DEVICE Row row(std::int64_t r) const {
    const std::int64_t t = targets[r];
    if (t == ignored) return {-1, A(0), A(0), false};
    return {classes.to_local(t), grad.at<A>(r), log_sum != nullptr ? log_sum[r] : A(0), true};
  }
  DTENSOR_DEVICE void change(Vector<T>& v, int j, const Row& r, std::int64_t c) const {
    A slope = 0;
    if (r.counts) {
      slope = r.grad * ((log_sum != nullptr ? std::exp(local::load(v.at[j]) - r.log_sum) : A(0)) - each);
      if (c == r.here) slope -= r.grad * (A(1) - smoothing);
    }
    v.at[j] = local::store<T>(slope);
  }
  DTENSOR_DEVICE void store(std::int64_t at, const Vector<T>& v, int n, bool aligned) const { store_vector(out + at, v, n, aligned); }
};

void cross_entropy_backward(const Tensor& grad, const Tensor& logits, const Tensor& target, const Tensor* log_sum, const Classes& classes,
                            const LossOptions& options, const Tensor& grad_logits) {
  if (logits.dtype() != grad_logits.dtype()) {
    const Tensor same = logits.to(computed_dtype(logits.dtype())), slope = Tensor::empty(logits.shape(), same.dtype(), same.device());
    kernels::cross_entropy_backward(grad, same, target, log_sum, classes, options, slope);
    return grad_logits.copy_(slope);
  }
  const RowShape s(logits.shape(), options.dim);
  if (s.numel() == 0) return;
  RankDevice& d = rank_device(logits);
  const ClassRuns runs(d, classes);
  visit_floating(logits.dtype(), [&]<class T>(std::type_identity<T>) {
    using A = Accumulate<T>;
    const T* in = logits.raw_as<const T>();
    T* out = grad_logits.raw_as<T>();
    const A smoothing = static_cast<A>(options.label_smoothing);
    const LossSlopes<T> slopes{in,
                               target.raw_as<const std::int64_t>(),
                               options.ignore_index,
                               runs.on_device(),
                               LooseNumbers(grad),
                               log_sum != nullptr ? log_sum->raw_as<const A>() : nullptr,
                               smoothing,
                               smoothing / static_cast<A>(classes.count),
                               out};
    for_row_elements("cross_entropy_backward", d, s, is_aligned(in) && is_aligned(out), slopes);
  });
}

// ---- target_logit

template <class T>
struct TargetLogit {
  using A = Accumulate<T>;
  const T* logits;
  std::int64_t n, inner;
  Targets targets;
  ClassesOnDevice classes;
  A smoothing, each, scale;
  const A* sums;  // of all logits of a row; none: not wanted
  LooseNumbers out;
  DTENSOR_DEVICE void operator()(std::int64_t row) const {
    const std::int64_t t = targets.at[row], outer = quotient(row, inner);
    A value = 0;
    if (targets.counts(t)) {
      const std::int64_t here = classes.to_local(t);
      if (here >= 0) value = (A(1) - smoothing) * load(logits[outer * n * inner + (row - outer * inner) + here * inner]);
      if (sums != nullptr) value += each * sums[row];
    }
    out.put(row, value * scale);
  }
};

std::optional<std::int64_t> target_logit(const Tensor& logits, const Tensor& target, const Classes& classes, const LossOptions& options, double scale,
                                         const Tensor& out) {
  const RowShape s(logits.shape(), options.dim);
  if (s.count() == 0) return {};
  RankDevice& d = rank_device(logits);
  const Targets targets(d, target, options, classes.count, true);
  const ClassRuns runs(d, classes);
  // As [outer, inner], so that the reduction is over one dim.
  const Tensor sums = options.label_smoothing != 0 ? Tensor::empty({s.outer, s.inner}, computed_dtype(logits.dtype()), logits.device()) : Tensor();
  if (sums) kernels::reduce(cpu::Reduction::sum, logits.view({s.outer, s.n, s.inner}), Shape{1}, sums);
  visit_floating(logits.dtype(), [&]<class T>(std::type_identity<T>) {
    using A = Accumulate<T>;
    const A smoothing = static_cast<A>(options.label_smoothing);
    launch_elements(
        "target_logit", s.count(), d.current,
        TargetLogit<T>{logits.raw_as<const T>(), s.n, s.inner, targets, runs.on_device(), smoothing, smoothing / static_cast<A>(classes.count),
                       static_cast<A>(scale), sums ? sums.raw_as<const A>() : nullptr, LooseNumbers(out)});
  });
  return {};
}

// ---- count_targets

// Each target as 1 or 0.
struct CountedSource {
  static constexpr int kV = kVectorOf<std::int64_t>;
  using Values = Numbers<std::int64_t, kV>;
  using Raw = Vector<std::int64_t>;
  const std::int64_t* targets;
  std::int64_t ignored;
  bool aligned() const { return is_aligned(targets); }
  DTENSOR_DEVICE Raw load_whole(std::int64_t at) const { return load_vector(targets + at, kV, true); }
  DTENSOR_DEVICE Values values(const Raw& raw) const {
    Values v;
    DTENSOR_UNROLL
    for (int j = 0; j < kV; ++j) v.x[j] = raw.at[j] != ignored ? 1 : 0;
    return v;
  }
  DTENSOR_DEVICE Values load_some(std::int64_t at, std::int64_t stride, int n) const {
    Values v;
    DTENSOR_UNROLL
    for (int j = 0; j < kV; ++j) v.x[j] = j < n && targets[at + j * stride] != ignored ? 1 : 0;
    return v;
  }
};
struct PutCount {
  LooseNumbers count;
  DTENSOR_DEVICE void operator()(std::int64_t value, std::int64_t out) const { count.put(out, value); }
};

void count_targets(const Tensor& target, std::int64_t ignore_index, const Tensor& count) {
  RankDevice& d = rank_device(target);
  run_reduction("count_targets", d, ReductionAxes({target.numel()}, Shape{1}, Shape{0}, false),
                CountedSource{target.raw_as<const std::int64_t>(), ignore_index}, SumOp<std::int64_t, PutCount>{PutCount{LooseNumbers(count)}});
}

}  // namespace

void install_losses() {
  kernels::cross_entropy_rows.cuda = cross_entropy_rows;
  kernels::cross_entropy_backward.cuda = cross_entropy_backward;
  kernels::target_logit.cuda = target_logit;
  kernels::count_targets.cuda = count_targets;
}

}  // namespace dtensor::local::cuda
