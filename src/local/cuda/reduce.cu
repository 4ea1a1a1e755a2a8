// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstdlib>
#include <limits>

#include "local/cuda/reduction.h"
#include "local/cuda/table.h"
#include "local/kernels/reduce.h"

namespace dtensor::local::cuda {
namespace {

using cpu::Reduction;

struct Keep {
  template <class A>
  DTENSOR_DEVICE static A of(A x) {
    return x;
  }
};
struct Magnitude {
  template <class A>
  DTENSOR_DEVICE static A of(A x) {
    if constexpr (std::is_integral_v<A>) return x < 0 ? static_cast<A>(0 - static_cast<std::uint64_t>(x)) : x;
    else return std::abs(x);
  }
};
struct Square {
  template <class A>
  DTENSOR_DEVICE static A of(A x) {
    return x * x;
  }
};
struct NonZero {
  template <class A>
  DTENSOR_DEVICE static A of(A x) {
    return x != A(0) ? A(1) : A(0);
  }
};
struct Plus {
  template <class A>
  DTENSOR_DEVICE static A of(A a, A b) {
    if constexpr (std::is_integral_v<A>) return static_cast<A>(static_cast<std::uint64_t>(a) + static_cast<std::uint64_t>(b));
    else return a + b;
  }
};
struct Times {
  template <class A>
  DTENSOR_DEVICE static A of(A a, A b) {
    if constexpr (std::is_integral_v<A>) return static_cast<A>(static_cast<std::uint64_t>(a) * static_cast<std::uint64_t>(b));
    else return a * b;
  }
};
struct Larger {
  template <class A>
  DTENSOR_DEVICE static A of(A a, A b) {
    return b > a || b != b ? b : a;
  }
};
struct Smaller {
  template <class A>
  DTENSOR_DEVICE static A of(A a, A b) {
    return b < a || b != b ? b : a;
  }
};

// The kind is a branch that all threads take alike, once per vector: one kernel for all kinds.
template <class Acc>
struct Fold {
  using State = Acc;
  template <int kV>
  using Lanes = Numbers<Acc, kV>;
  Reduction kind;
  Acc neutral;
  bool divide, root;
  Acc divisor;
  const void* count;
  Dtype count_dtype;
  void* output;
  Dtype dtype;

  template <int kV>
  DTENSOR_DEVICE void start(Numbers<Acc, kV>& lanes, std::int64_t /*out*/, std::int64_t /*step*/, int /*n*/) const {
    DTENSOR_UNROLL
    for (int j = 0; j < kV; ++j) lanes.x[j] = neutral;
  }
  template <int kV>
  DTENSOR_DEVICE void add(Numbers<Acc, kV>& lanes, const Numbers<Acc, kV>& v, int n, std::int64_t /*term*/, std::int64_t /*step*/) const {
    switch (kind) {
      case Reduction::sum:
        return add_as<Keep, Plus>(lanes, v, n);
      case Reduction::product:
        return add_as<Keep, Times>(lanes, v, n);
      case Reduction::max:
        return add_as<Keep, Larger>(lanes, v, n);
      case Reduction::min:
        return add_as<Keep, Smaller>(lanes, v, n);
      case Reduction::absolute_sum:
        return add_as<Magnitude, Plus>(lanes, v, n);
      case Reduction::absolute_max:
        return add_as<Magnitude, Larger>(lanes, v, n);
      case Reduction::absolute_min:
        return add_as<Magnitude, Smaller>(lanes, v, n);
      case Reduction::square_sum:
        return add_as<Square, Plus>(lanes, v, n);
      case Reduction::all:
        return add_as<NonZero, Smaller>(lanes, v, n);
      case Reduction::any:
        return add_as<NonZero, Larger>(lanes, v, n);
    }
  }
  template <int kV>
  DTENSOR_DEVICE void add_columns(Numbers<Acc, kV>& lanes, const Numbers<Acc, kV>& v, std::int64_t term) const {
    add(lanes, v, kV, term, 0);
  }
  template <int kV>
  DTENSOR_DEVICE State fold(const Numbers<Acc, kV>& lanes) const {
    Acc total = lanes.x[0];
    DTENSOR_UNROLL
    for (int j = 1; j < kV; ++j) total = merge(total, lanes.x[j]);
    return total;
  }
  template <int kV>
  DTENSOR_DEVICE State lane(const Numbers<Acc, kV>& lanes, int j) const {
    return lanes.x[j];
  }
  DTENSOR_DEVICE State nothing() const { return neutral; }
  DTENSOR_DEVICE State merge(Acc a, Acc b) const {
    switch (kind) {
      case Reduction::product:
        return Times::of(a, b);
      case Reduction::max:
      case Reduction::absolute_max:
      case Reduction::any:
        return Larger::of(a, b);
      case Reduction::min:
      case Reduction::absolute_min:
      case Reduction::all:
        return Smaller::of(a, b);
      default:
        return Plus::of(a, b);
    }
  }
  DTENSOR_DEVICE State exchange(const Block& b, Acc state, int mask) const { return b.from_lane_xor(state, mask); }
  DTENSOR_DEVICE void finish(Acc value, std::int64_t out) const {
    if constexpr (!std::is_integral_v<Acc>) {
      if (divide) value /= divisor;
      if (count != nullptr) value /= element<Acc>(count, count_dtype, 0);
      if (root) value = std::sqrt(value);
    }
    put_element(output, dtype, out, value);
  }

 private:
  template <class Map, class Combine, int kV>
  DTENSOR_DEVICE static void add_as(Numbers<Acc, kV>& lanes, const Numbers<Acc, kV>& v, int n) {
    DTENSOR_UNROLL
    for (int j = 0; j < kV; ++j)
      if (j < n) lanes.x[j] = Combine::of(lanes.x[j], Map::of(v.x[j]));
  }
};

// Of the dtype of the result, which may be narrower than Acc.
template <class Acc>
Acc neutral_of(Reduction kind, Dtype dtype) {
  Acc least{}, most{};
  visit_dtype(dtype, [&]<class T>(std::type_identity<T>) {
    if constexpr (!kIsFloating<T>) {
      most = static_cast<Acc>(std::numeric_limits<T>::max());
      least = static_cast<Acc>(std::numeric_limits<T>::lowest());
    } else if constexpr (std::is_floating_point_v<Acc>) {
      most = std::numeric_limits<Acc>::infinity();
      least = -most;
    }
  });
  switch (kind) {
    case Reduction::product:
    case Reduction::all:
      return Acc(1);
    case Reduction::max:
      return least;
    case Reduction::min:
    case Reduction::absolute_min:
      return most;
    default:
      return Acc(0);
  }
}

void reduce(Reduction kind, const Tensor& input, const Shape& dims, const Tensor& output, const cpu::ReduceOptions& options) {
  RankDevice& d = rank_device(input);
  const ReductionAxes axes(input.shape(), input.strides(), dims, false);
  const bool logical = kind == Reduction::all || kind == Reduction::any;
  in_accumulation_type(logical ? input.dtype() : output.dtype(), [&]<class Acc>(Acc) {
    const Fold<Acc> op{.kind = kind,
                       .neutral = neutral_of<Acc>(kind, output.dtype()),
                       .divide = options.divisor.has_value(),
                       .root = options.root,
                       .divisor = static_cast<Acc>(options.divisor.value_or(1)),
                       .count = options.count != nullptr ? options.count->raw() : nullptr,
                       .count_dtype = options.count != nullptr ? options.count->dtype() : Dtype::f32,
                       .output = output.raw(),
                       .dtype = output.dtype()};
    with_source<Acc>(input, [&](const auto& source) { run_reduction("reduce", d, axes, source, op); });
  });
}

}  // namespace

void install_reduce() { kernels::reduce.cuda = reduce; }

}  // namespace dtensor::local::cuda
