// SPDX-License-Identifier: Apache-2.0
#include "local/cpu/activations.h"

#include <array>
#include <cmath>
#include <limits>

#include "local/cpu/map.h"
#include "local/cpu/rows.h"
#include "local/cpu/vector_math.h"

namespace dtensor::local::cpu {
namespace {

template <class T>
T softplus_of(T x) {
  return vlog1p(vexp_negative(-std::fabs(x))) + (x > T(0) ? x : T(0));
}

// value(x, k), slope(x, k), curve(x, k): the function and its derivatives.
struct Elu {
  static constexpr int numbers = 3;
  template <class T>
  static T value(T x, const T* k) {
    return x > T(0) ? k[1] * x : k[0] * std::expm1(x * k[2]);
  }
  template <class T>
  static T slope(T x, const T* k) {
    return x > T(0) ? k[1] : k[0] * k[2] * std::exp(x * k[2]);
  }
  template <class T>
  static T curve(T x, const T* k) {
    return x > T(0) ? T(0) : k[0] * k[2] * k[2] * std::exp(x * k[2]);
  }
};
template <class Self>
struct Straight {  // pieces of lines
  template <class T>
  static T curve(T, const T*) {
    return T(0);
  }
};
struct LeakyRelu : Straight<LeakyRelu> {
  static constexpr int numbers = 1;
  template <class T>
  static T value(T x, const T* k) {
    return x > T(0) ? x : x * k[0];
  }
  template <class T>
  static T slope(T x, const T* k) {
    return x > T(0) ? T(1) : k[0];
  }
};
struct Hardtanh : Straight<Hardtanh> {
  static constexpr int numbers = 2;
  template <class T>
  static T value(T x, const T* k) {
    const T raised = x < k[0] ? k[0] : x;
    return raised > k[1] ? k[1] : raised;
  }
  template <class T>
  static T slope(T x, const T* k) {
    return x <= k[0] || x >= k[1] ? T(0) : T(1);
  }
};
struct Mish {
  static constexpr int numbers = 0;
  template <class T>
  static T value(T x, const T*) {
    return x * vtanh(softplus_of(x));
  }
  template <class T>
  static T slope(T x, const T*) {
    const T t = vtanh(softplus_of(x));
    return t + x * (T(1) - t * t) * vsigmoid(x);
  }
  template <class T>
  static T curve(T x, const T*) {
    const T t = vtanh(softplus_of(x)), s = vsigmoid(x), flat = T(1) - t * t;
    return flat * s * (T(2) + x * (T(1) - s) - T(2) * x * t * s);
  }
};
struct Hardswish {
  static constexpr int numbers = 0;
  template <class T>
  static T value(T x, const T*) {
    const T inside = x * (x + T(3)) / T(6), bounded = x <= T(-3) ? T(0) : inside;
    return x >= T(3) ? x : bounded;
  }
  template <class T>
  static T slope(T x, const T*) {
    const T inside = x / T(3) + T(0.5), bounded = x < T(-3) ? T(0) : inside;
    return x > T(3) ? T(1) : bounded;
  }
  template <class T>
  static T curve(T x, const T*) {
    return x > T(-3) && x < T(3) ? T(1) / T(3) : T(0);
  }
};
struct Hardsigmoid : Straight<Hardsigmoid> {
  static constexpr int numbers = 0;
  template <class T>
  static T value(T x, const T*) {
    const T inside = x + T(3), raised = inside < T(0) ? T(0) : inside;
    return (raised > T(6) ? T(6) : raised) / T(6);
  }
  template <class T>
  static T slope(T x, const T*) {
    return x > T(-3) && x < T(3) ? T(1) / T(6) : T(0);
  }
};
struct LogSigmoid {
  static constexpr int numbers = 0;
  template <class T>
  static T value(T x, const T*) {
    return -softplus_of(-x);
  }
  template <class T>
  static T slope(T x, const T*) {
    return vsigmoid(-x);
  }
  template <class T>
  static T curve(T x, const T*) {
    const T s = vsigmoid(x);
    return -s * (T(1) - s);
  }
};
struct Softsign {
  static constexpr int numbers = 0;
  template <class T>
  static T value(T x, const T*) {
    return x / (T(1) + std::fabs(x));
  }
  template <class T>
  static T slope(T x, const T*) {
    const T d = T(1) + std::fabs(x);
    return T(1) / (d * d);
  }
  template <class T>
  static T curve(T x, const T*) {
    const T d = T(1) + std::fabs(x), c = T(-2) / (d * d * d);
    return x < T(0) ? -c : x > T(0) ? c : T(0);
  }
};
struct Softshrink : Straight<Softshrink> {
  static constexpr int numbers = 1;
  template <class T>
  static T value(T x, const T* k) {
    const T low = x < -k[0] ? x + k[0] : x * T(0);  // NaN stays
    return x > k[0] ? x - k[0] : low;
  }
  template <class T>
  static T slope(T x, const T* k) {
    return x >= -k[0] && x <= k[0] ? T(0) : T(1);
  }
};
struct Hardshrink : Straight<Hardshrink> {
  static constexpr int numbers = 1;
  template <class T>
  static T value(T x, const T* k) {
    return x >= -k[0] && x <= k[0] ? T(0) : x;
  }
  template <class T>
  static T slope(T x, const T* k) {
    return x >= -k[0] && x <= k[0] ? T(0) : T(1);
  }
};
struct Tanhshrink {
  static constexpr int numbers = 0;
  template <class T>
  static T value(T x, const T*) {
    return x - vtanh(x);
  }
  template <class T>
  static T slope(T x, const T*) {
    const T t = vtanh(x);
    return t * t;
  }
  template <class T>
  static T curve(T x, const T*) {
    const T t = vtanh(x);
    return T(2) * t * (T(1) - t * t);
  }
};
struct Threshold : Straight<Threshold> {
  static constexpr int numbers = 2;
  template <class T>
  static T value(T x, const T* k) {
    return x <= k[0] ? k[1] : x;
  }
  template <class T>
  static T slope(T x, const T* k) {
    return x <= k[0] ? T(0) : T(1);
  }
};

template <class F>
struct Forward {
  static constexpr int numbers = F::numbers;
  template <class T>
  static T of(T x, const T* k) {
    return F::value(x, k);
  }
};
template <class F, int order>
struct Backward {
  static constexpr int numbers = F::numbers;
  template <class T>
  static T of(T g, T x, const T* k) {
    if constexpr (order == 1) return g * F::slope(x, k);
    else return g * F::curve(x, k);
  }
};
struct Three {
  Rows order[3];
};
template <class F>
constexpr Three three() {
  return {{floating_rows<Forward<F>, 1>(), floating_rows<Backward<F, 1>, 2>(), floating_rows<Backward<F, 2>, 2>()}};
}
constexpr std::array<Three, 12> kActivations{three<Elu>(),        three<LeakyRelu>(),   three<Hardtanh>(),   three<Mish>(),
                                             three<Hardswish>(),  three<Hardsigmoid>(), three<LogSigmoid>(), three<Softsign>(),
                                             three<Softshrink>(), three<Hardshrink>(),  three<Tanhshrink>(), three<Threshold>()};
const Rows& rows_of(Activation op, int order) { return kActivations[static_cast<std::size_t>(op)].order[order]; }

}  // namespace

void activation(Activation op, const Tensor& x, const Tensor& out, const Scalar* numbers) {
  const Dtype type = compute_type(out.dtype());
  map(rows_of(op, 0).of(type), {{x, type}}, {{out, type}}, numbers);
}
void activation_backward(Activation op, int order, const Tensor& grad, const Tensor& x, const Tensor& out, const Scalar* numbers) {
  const Dtype type = compute_type(out.dtype());
  map(rows_of(op, order).of(type), {{grad, type}, {x, type}}, {{out, type}}, numbers);
}

}  // namespace dtensor::local::cpu
