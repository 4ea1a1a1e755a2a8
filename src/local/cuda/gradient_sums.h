// SPDX-License-Identifier: Apache-2.0
// Sums of a gradient and of its product with normalised elements, per row, per column or per channel.
#pragma once

#include <cmath>

#include "local/cuda/reduction.h"
#include "local/cuda/rows.h"

namespace dtensor::local::cuda {

template <class A, int kN>
struct PairNumbers {
  A x[kN], g[kN];
};
/// Elements and the gradient at the same places, in A.
template <class T, class A>
struct PairSource {
  static constexpr int kV = kVectorOf<T>;
  using Values = PairNumbers<A, kV>;
  using Raw = PairOf<T>;
  const T *x, *g;
  bool aligned() const { return is_aligned(x) && is_aligned(g); }
  DTENSOR_DEVICE Raw load_whole(std::int64_t at) const { return load_pair(x + at, g + at, kV, true); }
  DTENSOR_DEVICE Values values(const Raw& raw) const {
    Values v;
    DTENSOR_UNROLL
    for (int j = 0; j < kV; ++j) v.x[j] = static_cast<A>(load(raw.a.at[j])), v.g[j] = static_cast<A>(load(raw.b.at[j]));
    return v;
  }
  DTENSOR_DEVICE Values load_some(std::int64_t at, std::int64_t stride, int n) const {
    Values v;
    DTENSOR_UNROLL
    for (int j = 0; j < kV; ++j) {
      v.x[j] = j < n ? static_cast<A>(load(x[at + j * stride])) : A(0);
      v.g[j] = j < n ? static_cast<A>(load(g[at + j * stride])) : A(0);
    }
    return v;
  }
};

/// Mean and deviation of elements, or what takes their place; kept as S, used as A.
template <class A, class S = A>
struct Statistics {
  const S* mean = nullptr;    ///< none: 0
  const S* spread = nullptr;  ///< 1 / deviation, or with is_variance that of which it is the root
  bool is_variance = false;
  double eps = 0;  ///< added to the variance
  DTENSOR_DEVICE A mean_of(std::int64_t i) const { return mean != nullptr ? static_cast<A>(mean[i]) : A(0); }
  DTENSOR_DEVICE A rstd_of(std::int64_t i) const {
    return is_variance ? static_cast<A>(1 / std::sqrt(static_cast<double>(spread[i]) + eps)) : static_cast<A>(spread[i]);
  }
};

template <class A>
struct GradientSum {
  A grad = 0, product = 0;
};

/// The Op of reduction.h: sums of g w and of g w (x - mean) / deviation. The statistics are numbered by the output, divided by `share`, and the weights by the
/// term; with `by_term` the statistics by the term, and there are no weights. Finish: operator()(GradientSum, out).
template <class A, class Finish, class S = A>
struct GradientSums {
  using State = GradientSum<A>;
  template <int kV>
  struct Lanes {
    A grad[kV], product[kV], mean[kV], rstd[kV];
  };
  Statistics<A, S> statistics;
  const A* weight;  ///< none: 1
  bool by_term;
  std::int64_t share;
  Finish result;

  template <int kV>
  DTENSOR_DEVICE void start(Lanes<kV>& lanes, std::int64_t out, std::int64_t step, int n) const {
    DTENSOR_UNROLL
    for (int j = 0; j < kV; ++j) {
      lanes.grad[j] = lanes.product[j] = 0;
      const bool own = !by_term && j < n;
      lanes.mean[j] = own && (j == 0 || step != 0) ? statistics.mean_of(quotient(out + j * step, share)) : lanes.mean[0];
      lanes.rstd[j] = own && (j == 0 || step != 0) ? statistics.rstd_of(quotient(out + j * step, share)) : lanes.rstd[0];
    }
  }
  template <int kV>
  DTENSOR_DEVICE void add(Lanes<kV>& lanes, const PairNumbers<A, kV>& v, int n, std::int64_t term, std::int64_t step) const {
    A mean = 0, rstd = 0, w = 1;
    DTENSOR_UNROLL
    for (int j = 0; j < kV; ++j) {
      if (j >= n) break;
      if (j == 0 || step != 0) {
        const std::int64_t t = term + j * step;
        if (by_term) mean = statistics.mean_of(t), rstd = statistics.rstd_of(t);
        else w = weight != nullptr ? weight[t] : A(1);
      }
      const A g = v.g[j] * w;
      lanes.grad[j] += g;
      lanes.product[j] += g * ((v.x[j] - (by_term ? mean : lanes.mean[j])) * (by_term ? rstd : lanes.rstd[j]));
    }
  }
  template <int kV>
  DTENSOR_DEVICE void add_columns(Lanes<kV>& lanes, const PairNumbers<A, kV>& v, std::int64_t term) const {
    add(lanes, v, kV, term, 0);
  }
  template <int kV>
  DTENSOR_DEVICE State fold(const Lanes<kV>& lanes) const {
    State s = lane(lanes, 0);
    DTENSOR_UNROLL
    for (int j = 1; j < kV; ++j) s = merge(s, lane(lanes, j));
    return s;
  }
  template <int kV>
  DTENSOR_DEVICE State lane(const Lanes<kV>& lanes, int j) const {
    return {lanes.grad[j], lanes.product[j]};
  }
  DTENSOR_DEVICE State nothing() const { return State{}; }
  DTENSOR_DEVICE State merge(const State& a, const State& b) const { return {a.grad + b.grad, a.product + b.product}; }
  DTENSOR_DEVICE State exchange(const Block& b, const State& s, int mask) const {
    return {b.from_lane_xor(s.grad, mask), b.from_lane_xor(s.product, mask)};
  }
  DTENSOR_DEVICE void finish(const State& s, std::int64_t out) const { result(s, out); }
};

/// Writes both sums.
struct PutGradientSums {
  void *grad, *product;  ///< null: not wanted
  Dtype grad_dtype, product_dtype;
  template <class A>
  DTENSOR_DEVICE void operator()(const GradientSum<A>& s, std::int64_t out) const {
    if (grad != nullptr) put_element(grad, grad_dtype, out, s.grad);
    if (product != nullptr) put_element(product, product_dtype, out, s.product);
  }
};

}  // namespace dtensor::local::cuda
