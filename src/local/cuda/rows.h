// SPDX-License-Identifier: Apache-2.0
// Kernels over the rows of row-major tensors: one pass over memory with each row in the registers of a group of threads, or, for rows that are longer or not
// of neighbouring elements, a reduction and a second look at every element.
#pragma once

#include <algorithm>
#include <cstdint>

#include "local/cuda/launch.h"
#include "local/cuda/reduction.h"
#include "local/strided.h"

namespace dtensor::local::cuda {

/// A row-major tensor as [outer, n, inner], rows along the middle.
struct RowShape {
  std::int64_t outer = 1, n = 1, inner = 1;
  RowShape(const Shape& shape, int dim) {
    for (int d = 0; d < shape.ndim(); ++d) (d < dim ? outer : d == dim ? n : inner) *= shape[d];
  }
  RowShape(std::int64_t rows, std::int64_t length) : outer(rows), n(length) {}
  std::int64_t count() const { return outer * inner; }
  std::int64_t numel() const { return outer * n * inner; }
  /// Each row one output.
  ReductionAxes axes() const { return {Shape{outer, n, inner}, Shape{n * inner, inner, 1}, Shape{1}, true}; }
};

/// Most threads that share a row, and vectors that each of them holds at most.
inline constexpr int kRowThreads = 512, kRowVectors = 4;

/// How rows of neighbouring elements are shared out. Vectors of a row lie k * group + thread.
struct HeldRows {
  std::int64_t n = 0, count = 0;
  int group = 1, threads = 0;
  template <class T>
  static bool fit(const RowShape& s, int vectors = kRowVectors) {
    return s.inner == 1 && s.n <= static_cast<std::int64_t>(kRowThreads) * vectors * kVectorOf<T>;
  }
  HeldRows(const RowShape& s, int vector, int held = kRowVectors) : n(s.n), count(s.outer) {
    const std::int64_t vectors = (n + vector - 1) / vector;
    while (group * held < vectors || (group < 4 && group < vectors)) group *= 2;
    threads = std::max(group, 128);
  }
  DTENSOR_DEVICE int rows_per_block() const { return threads / group; }
  std::int64_t blocks() const { return (count + rows_per_block() - 1) / rows_per_block(); }
};

/// combine() of the values of a group's threads in a fixed order, known to all of them. All threads of the block call it. `memory`: one value per warp.
template <class State, class Combine, class Exchange>
DTENSOR_DEVICE State reduce_group(const Block& b, int group, State value, const Combine& combine, const Exchange& exchange) {
  const int width = group < kWarp ? group : kWarp;
  for (int mask = width / 2; mask > 0; mask /= 2) value = combine(value, exchange(b, value, mask));
  if (group <= kWarp) return value;
  const int warps = group / kWarp, first = b.warp() / warps * warps;
  State* of_warps = b.shared<State>();
  b.sync();
  if (b.lane() == 0) of_warps[b.warp()] = value;
  b.sync();
  value = of_warps[first + b.lane() % warps];
  for (int mask = warps / 2; mask > 0; mask /= 2) value = combine(value, exchange(b, value, mask));
  return value;
}
template <class A, class Combine>
DTENSOR_DEVICE A reduce_group(const Block& b, int group, A value, const Combine& combine) {
  return reduce_group(b, group, value, combine, [](const Block& block, A v, int mask) { return block.from_lane_xor(v, mask); });
}
template <class A>
DTENSOR_DEVICE A sum_group(const Block& b, int group, A value) {
  return reduce_group(b, group, value, [](A x, A y) { return x + y; });
}

template <class T>
DTENSOR_DEVICE Vector<T> load_vector(const T* from, int n, bool aligned) {
  if (aligned && n >= kVectorOf<T>) {
    as_vector(sizeof(Vector<T>));
    return *reinterpret_cast<const Vector<T>*>(from);
  }
  Vector<T> v;
  DTENSOR_UNROLL
  for (int j = 0; j < kVectorOf<T>; ++j) v.at[j] = j < n ? from[j] : T{};
  return v;
}
template <class T>
DTENSOR_DEVICE void store_vector(T* to, const Vector<T>& v, int n, bool aligned) {
  if (aligned && n >= kVectorOf<T>) {
    as_vector(sizeof v);
    *reinterpret_cast<Vector<T>*>(to) = v;
    return;
  }
  DTENSOR_UNROLL
  for (int j = 0; j < kVectorOf<T>; ++j)
    if (j < n) to[j] = v.at[j];
}

template <class T>
struct PairOf {
  Vector<T> a, b;
};
template <class T>
DTENSOR_DEVICE PairOf<T> load_pair(const T* a, const T* b, int n, bool aligned) {
  return {load_vector(a, n, aligned), load_vector(b, n, aligned)};
}

/// A thread's part of a row.
template <class T, int kHeld = kRowVectors>
struct RowTile {
  static constexpr int kV = kVectorOf<T>;
  using A = Accumulate<T>;
  Vector<T> raw[kHeld];

  /// The thread's vector k is elements [column(k), column(k) + kV) of the row.
  DTENSOR_DEVICE static int column(int k, int group, int thread) { return (k * group + thread) * kV; }
  DTENSOR_DEVICE void read(const T* row, int n, int group, int thread, bool aligned) {
    DTENSOR_UNROLL
    for (int k = 0; k < kHeld; ++k) {
      const int c = column(k, group, thread);
      raw[k] = load_vector(row + (c < n ? c : 0), n - c, aligned);
    }
  }
  DTENSOR_DEVICE A get(int k, int j) const { return load(raw[k].at[j]); }
};

/// A row of weights, in the type of the elements or in that of the computation.
template <class T>
struct Parameter {
  static constexpr int kV = kVectorOf<T>;
  using A = Accumulate<T>;
  const T* same = nullptr;
  const A* wide = nullptr;
  DTENSOR_DEVICE A at(std::int64_t i, A absent) const { return wide != nullptr ? wide[i] : same != nullptr ? load(same[i]) : absent; }
  DTENSOR_DEVICE void read(int c, int n, bool aligned, A absent, A (&values)[kV]) const {
    if (wide != nullptr) {
      struct alignas(16) Wide {
        A at[kV];
      };
      if (aligned && n >= kV) {
        const Wide w = *reinterpret_cast<const Wide*>(wide + c);
        DTENSOR_UNROLL
        for (int j = 0; j < kV; ++j) values[j] = w.at[j];
        return;
      }
    } else if (same != nullptr) {
      const Vector<T> w = load_vector(same + c, n, aligned);
      DTENSOR_UNROLL
      for (int j = 0; j < kV; ++j) values[j] = load(w.at[j]);
      return;
    }
    DTENSOR_UNROLL
    for (int j = 0; j < kV; ++j) values[j] = j < n ? at(c + j, absent) : A(0);
  }
};
/// A tensor whose elements a Parameter<T> can read, made by a conversion where it must be; none stays none.
class ParameterTensor {
 public:
  ParameterTensor(const Tensor* t, Dtype elements, Dtype computed) {
    if (t != nullptr) tensor_ = t->dtype() == elements || t->dtype() == computed ? *t : t->to(computed);
  }
  template <class T>
  Parameter<T> as() const {
    if (!tensor_) return {};
    if (tensor_.dtype() == dtype_of<Accumulate<T>>()) return {nullptr, tensor_.raw_as<const Accumulate<T>>()};
    return {tensor_.raw_as<const T>(), nullptr};
  }
  bool aligned() const { return !tensor_ || is_aligned(tensor_.raw()); }

 private:
  Tensor tensor_;
};

/// All elements in vectors of neighbours. F: load(at, n, aligned) -> Values; row(r) -> what all elements of a row share; change(values, j, shared, c) for the
/// element that is lane j and lies at c in its row; store(at, values, n, aligned).
template <class F>
struct ForRowElements {
  static constexpr int kV = F::kV;
  F f;
  std::int64_t n, inner, numel;
  bool aligned;
  DTENSOR_DEVICE void operator()(std::int64_t vector) const {
    const std::int64_t at = vector * kV, line = quotient(at, inner);
    std::int64_t i = at - line * inner, outer = quotient(line, n), c = line - outer * n;
    const int here = numel - at < kV ? static_cast<int>(numel - at) : kV;
    auto values = f.load(at, here, aligned);
    auto shared = f.row(outer * inner + i);
    DTENSOR_UNROLL
    for (int j = 0; j < kV; ++j) {
      if (j >= here) break;
      if (j > 0) {
        bool other = inner > 1;
        if (++i == inner) {
          i = 0;
          if (++c == n) c = 0, ++outer, other = true;
        }
        if (other) shared = f.row(outer * inner + i);
      }
      f.change(values, j, shared, c);
    }
    f.store(at, values, here, aligned);
  }
};
template <class F>
void for_row_elements(const char* name, RankDevice& d, const RowShape& s, bool aligned, const F& f) {
  launch_elements(name, (s.numel() + F::kV - 1) / F::kV, d.current, ForRowElements<F>{f, s.n, s.inner, s.numel(), aligned});
}

/// The dtype in which tensors of a dtype are computed.
inline Dtype computed_dtype(Dtype dtype) { return dtype == Dtype::f64 ? Dtype::f64 : Dtype::f32; }

}  // namespace dtensor::local::cuda
