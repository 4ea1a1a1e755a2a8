// SPDX-License-Identifier: Apache-2.0
// Sums of exponentials in one pass over memory: the largest term so far, and the sum relative to it.
#pragma once

#include <cmath>
#include <limits>

#include "local/cuda/reduction.h"

namespace dtensor::local::cuda {

/// sum(exp(x)) = sum * exp(reference()); total: sum(x).
template <class A>
struct ExpSum {
  A top = -std::numeric_limits<A>::infinity(), sum = 0, total = 0;

  /// An infinite largest term counts as 0, so that differences are numbers; NaN wins.
  DTENSOR_DEVICE static A reference(A top) { return std::isinf(top) ? A(0) : top; }
  DTENSOR_DEVICE A reference() const { return reference(top); }
  DTENSOR_DEVICE static A larger(A a, A b) { return b > a || b != b ? b : a; }
  DTENSOR_DEVICE void raise_to(A new_top) {
    const A was = reference(), now = reference(new_top);
    if (sum != 0 && was != now) sum *= std::exp(was - now);
    top = new_top;
  }
  DTENSOR_DEVICE void add(A x) {
    if (x > top || x != x) raise_to(x);
    sum += std::exp(x - reference());
  }
  DTENSOR_DEVICE static ExpSum merge(ExpSum a, ExpSum b) {
    const A top = larger(a.top, b.top);
    a.raise_to(top);
    b.raise_to(top);
    a.sum += b.sum;
    a.total += b.total;
    return a;
  }
  DTENSOR_DEVICE ExpSum exchange(const Block& b, int mask) const {
    ExpSum other;
    other.top = b.from_lane_xor(top, mask);
    other.sum = b.from_lane_xor(sum, mask);
    other.total = b.from_lane_xor(total, mask);
    return other;
  }
};

/// The Op of reduction.h; Finish: operator()(ExpSum, out).
template <class A, class Finish>
struct ExpSums {
  using State = ExpSum<A>;
  template <int kV>
  struct Lanes {
    State at[kV];
  };
  Finish result;

  template <int kV>
  DTENSOR_DEVICE void start(Lanes<kV>& lanes, std::int64_t /*out*/, std::int64_t /*step*/, int /*n*/) const {
    DTENSOR_UNROLL
    for (int j = 0; j < kV; ++j) lanes.at[j] = State{};
  }
  // The lanes of a row have their largest term in common: that of lane 0.
  template <int kV>
  DTENSOR_DEVICE void add(Lanes<kV>& lanes, const Numbers<A, kV>& v, int n, std::int64_t /*term*/, std::int64_t /*step*/) const {
    A top = lanes.at[0].top;
    DTENSOR_UNROLL
    for (int j = 0; j < kV; ++j)
      if (j < n) top = State::larger(top, v.x[j]);
    const A was = lanes.at[0].reference(), now = State::reference(top);
    lanes.at[0].top = top;
    if (was != now) {  // seldom after the first vectors
      const A factor = std::exp(was - now);
      DTENSOR_UNROLL
      for (int j = 0; j < kV; ++j)
        if (lanes.at[j].sum != 0) lanes.at[j].sum *= factor;
    }
    DTENSOR_UNROLL
    for (int j = 0; j < kV; ++j) {
      if (j >= n) break;
      lanes.at[j].sum += std::exp(v.x[j] - now);
      lanes.at[j].total += v.x[j];
    }
  }
  template <int kV>
  DTENSOR_DEVICE void add_columns(Lanes<kV>& lanes, const Numbers<A, kV>& v, std::int64_t /*term*/) const {
    DTENSOR_UNROLL
    for (int j = 0; j < kV; ++j) {
      lanes.at[j].add(v.x[j]);
      lanes.at[j].total += v.x[j];
    }
  }
  template <int kV>
  DTENSOR_DEVICE State fold(const Lanes<kV>& lanes) const {
    State s = lanes.at[0];
    DTENSOR_UNROLL
    for (int j = 1; j < kV; ++j) {
      s.sum += lanes.at[j].sum;
      s.total += lanes.at[j].total;
    }
    return s;
  }
  template <int kV>
  DTENSOR_DEVICE State lane(const Lanes<kV>& lanes, int j) const {
    return lanes.at[j];
  }
  DTENSOR_DEVICE State nothing() const { return State{}; }
  DTENSOR_DEVICE State merge(State a, State b) const { return State::merge(a, b); }
  DTENSOR_DEVICE State exchange(const Block& b, const State& s, int mask) const { return s.exchange(b, mask); }
  DTENSOR_DEVICE void finish(const State& s, std::int64_t out) const { result(s, out); }
};

}  // namespace dtensor::local::cuda
