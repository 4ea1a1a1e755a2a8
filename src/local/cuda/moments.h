// SPDX-License-Identifier: Apache-2.0
// Mean and squared deviations in one pass over memory.
#pragma once

#include "local/cuda/reduction.h"

namespace dtensor::local::cuda {

template <class A>
struct Moments {
  A count = 0, mean = 0, squares = 0;  ///< squares: the sum of (x - mean)^2

  DTENSOR_DEVICE void add(A x) {
    count += 1;
    const A d = x - mean;
    mean += d / count;
    squares += d * (x - mean);
  }
  DTENSOR_DEVICE static Moments merge(const Moments& a, const Moments& b) {
    if (b.count == 0) return a;
    if (a.count == 0) return b;
    const A count = a.count + b.count, d = b.mean - a.mean, share = b.count / count;
    return {count, a.mean + d * share, a.squares + b.squares + d * d * (a.count * share)};
  }
  DTENSOR_DEVICE Moments exchange(const Block& b, int mask) const {
    return {b.from_lane_xor(count, mask), b.from_lane_xor(mean, mask), b.from_lane_xor(squares, mask)};
  }
};

/// The Op of reduction.h; Finish: operator()(Moments, out).
template <class A, class Finish>
struct MomentsOp {
  using State = Moments<A>;
  // All lanes have had equally many terms; those of a vector that is not whole are apart.
  template <int kV>
  struct Lanes {
    A count, mean[kV], squares[kV];
    State rest;
  };
  Finish result;

  template <int kV>
  DTENSOR_DEVICE void start(Lanes<kV>& lanes, std::int64_t /*out*/, std::int64_t /*step*/, int /*n*/) const {
    lanes.count = 0;
    DTENSOR_UNROLL
    for (int j = 0; j < kV; ++j) lanes.mean[j] = lanes.squares[j] = 0;
    lanes.rest = State{};
  }
  template <int kV>
  DTENSOR_DEVICE void add(Lanes<kV>& lanes, const Numbers<A, kV>& v, int n, std::int64_t term, std::int64_t /*step*/) const {
    if (n == kV) return add_columns(lanes, v, term);
    DTENSOR_UNROLL
    for (int j = 0; j < kV; ++j)
      if (j < n) lanes.rest.add(v.x[j]);
  }
  template <int kV>
  DTENSOR_DEVICE void add_columns(Lanes<kV>& lanes, const Numbers<A, kV>& v, std::int64_t /*term*/) const {
    lanes.count += 1;
    const A share = A(1) / lanes.count;
    DTENSOR_UNROLL
    for (int j = 0; j < kV; ++j) {
      const A d = v.x[j] - lanes.mean[j];
      lanes.mean[j] += d * share;
      lanes.squares[j] += d * (v.x[j] - lanes.mean[j]);
    }
  }
  template <int kV>
  DTENSOR_DEVICE State fold(const Lanes<kV>& lanes) const {
    State s = lanes.rest;
    DTENSOR_UNROLL
    for (int j = 0; j < kV; ++j) s = State::merge(s, lane(lanes, j));
    return s;
  }
  template <int kV>
  DTENSOR_DEVICE State lane(const Lanes<kV>& lanes, int j) const {
    return {lanes.count, lanes.mean[j], lanes.squares[j]};
  }
  DTENSOR_DEVICE State nothing() const { return State{}; }
  DTENSOR_DEVICE State merge(const State& a, const State& b) const { return State::merge(a, b); }
  DTENSOR_DEVICE State exchange(const Block& b, const State& s, int mask) const { return s.exchange(b, mask); }
  DTENSOR_DEVICE void finish(const State& s, std::int64_t out) const { result(s, out); }
};

}  // namespace dtensor::local::cuda
