// SPDX-License-Identifier: Apache-2.0
// The formulas of local/cpu/activations.h: value(x, k), slope(x, k), curve(x, k) are the function and its derivatives.
// M has the elementary functions of the device that computes.
#pragma once

#include <cmath>

#include "local/device_code.h"

namespace dtensor::local::formulas {

template <class M, class T>
DTENSOR_DEVICE T softplus_of(T x) {
  return M::log1p(M::exp_negative(-std::fabs(x))) + (x > T(0) ? x : T(0));
}

// value(x, k), slope(x, k), curve(x, k): the function and its derivatives.
struct Elu {
  static constexpr int numbers = 3;
  template <class T>
  DTENSOR_DEVICE static T value(T x, const T* k) {
    return x > T(0) ? k[1] * x : k[0] * std::expm1(x * k[2]);
  }
  template <class T>
  DTENSOR_DEVICE static T slope(T x, const T* k) {
    return x > T(0) ? k[1] : k[0] * k[2] * std::exp(x * k[2]);
  }
  template <class T>
  DTENSOR_DEVICE static T curve(T x, const T* k) {
    return x > T(0) ? T(0) : k[0] * k[2] * k[2] * std::exp(x * k[2]);
  }
};
template <class Self>
struct Straight {  // pieces of lines
  template <class T>
  DTENSOR_DEVICE static T curve(T, const T*) {
    return T(0);
  }
};
struct LeakyRelu : Straight<LeakyRelu> {
  static constexpr int numbers = 1;
  template <class T>
  DTENSOR_DEVICE static T value(T x, const T* k) {
    return x > T(0) ? x : x * k[0];
  }
  template <class T>
  DTENSOR_DEVICE static T slope(T x, const T* k) {
    return x > T(0) ? T(1) : k[0];
  }
};
struct Hardtanh : Straight<Hardtanh> {
  static constexpr int numbers = 2;
  template <class T>
  DTENSOR_DEVICE static T value(T x, const T* k) {
    const T raised = x < k[0] ? k[0] : x;
    return raised > k[1] ? k[1] : raised;
  }
  template <class T>
  DTENSOR_DEVICE static T slope(T x, const T* k) {
    return x <= k[0] || x >= k[1] ? T(0) : T(1);
  }
};
template <class M>
struct Mish {
  static constexpr int numbers = 0;
  template <class T>
  DTENSOR_DEVICE static T value(T x, const T*) {
    return x * M::tanh(softplus_of<M>(x));
  }
  template <class T>
  DTENSOR_DEVICE static T slope(T x, const T*) {
    const T t = M::tanh(softplus_of<M>(x));
    return t + x * (T(1) - t * t) * M::sigmoid(x);
  }
  template <class T>
  DTENSOR_DEVICE static T curve(T x, const T*) {
    const T t = M::tanh(softplus_of<M>(x)), s = M::sigmoid(x), flat = T(1) - t * t;
    return flat * s * (T(2) + x * (T(1) - s) - T(2) * x * t * s);
  }
};
struct Hardswish {
  static constexpr int numbers = 0;
  template <class T>
  DTENSOR_DEVICE static T value(T x, const T*) {
    const T inside = x * (x + T(3)) / T(6), bounded = x <= T(-3) ? T(0) : inside;
    return x >= T(3) ? x : bounded;
  }
  template <class T>
  DTENSOR_DEVICE static T slope(T x, const T*) {
    const T inside = x / T(3) + T(0.5), bounded = x < T(-3) ? T(0) : inside;
    return x > T(3) ? T(1) : bounded;
  }
  template <class T>
  DTENSOR_DEVICE static T curve(T x, const T*) {
    return x > T(-3) && x < T(3) ? T(1) / T(3) : T(0);
  }
};
struct Hardsigmoid : Straight<Hardsigmoid> {
  static constexpr int numbers = 0;
  template <class T>
  DTENSOR_DEVICE static T value(T x, const T*) {
    const T inside = x + T(3), raised = inside < T(0) ? T(0) : inside;
    return (raised > T(6) ? T(6) : raised) / T(6);
  }
  template <class T>
  DTENSOR_DEVICE static T slope(T x, const T*) {
    return x > T(-3) && x < T(3) ? T(1) / T(6) : T(0);
  }
};
template <class M>
struct LogSigmoid {
  static constexpr int numbers = 0;
  template <class T>
  DTENSOR_DEVICE static T value(T x, const T*) {
    return -softplus_of<M>(-x);
  }
  template <class T>
  DTENSOR_DEVICE static T slope(T x, const T*) {
    return M::sigmoid(-x);
  }
  template <class T>
  DTENSOR_DEVICE static T curve(T x, const T*) {
    const T s = M::sigmoid(x);
    return -s * (T(1) - s);
  }
};
struct Softsign {
  static constexpr int numbers = 0;
  template <class T>
  DTENSOR_DEVICE static T value(T x, const T*) {
    return x / (T(1) + std::fabs(x));
  }
  template <class T>
  DTENSOR_DEVICE static T slope(T x, const T*) {
    const T d = T(1) + std::fabs(x);
    return T(1) / (d * d);
  }
  template <class T>
  DTENSOR_DEVICE static T curve(T x, const T*) {
    const T d = T(1) + std::fabs(x), c = T(-2) / (d * d * d);
    return x < T(0) ? -c : x > T(0) ? c : T(0);
  }
};
struct Softshrink : Straight<Softshrink> {
  static constexpr int numbers = 1;
  template <class T>
  DTENSOR_DEVICE static T value(T x, const T* k) {
    const T low = x < -k[0] ? x + k[0] : x * T(0);  // NaN stays
    return x > k[0] ? x - k[0] : low;
  }
  template <class T>
  DTENSOR_DEVICE static T slope(T x, const T* k) {
    return x >= -k[0] && x <= k[0] ? T(0) : T(1);
  }
};
struct Hardshrink : Straight<Hardshrink> {
  static constexpr int numbers = 1;
  template <class T>
  DTENSOR_DEVICE static T value(T x, const T* k) {
    return x >= -k[0] && x <= k[0] ? T(0) : x;
  }
  template <class T>
  DTENSOR_DEVICE static T slope(T x, const T* k) {
    return x >= -k[0] && x <= k[0] ? T(0) : T(1);
  }
};
template <class M>
struct Tanhshrink {
  static constexpr int numbers = 0;
  template <class T>
  DTENSOR_DEVICE static T value(T x, const T*) {
    return x - M::tanh(x);
  }
  template <class T>
  DTENSOR_DEVICE static T slope(T x, const T*) {
    const T t = M::tanh(x);
    return t * t;
  }
  template <class T>
  DTENSOR_DEVICE static T curve(T x, const T*) {
    const T t = M::tanh(x);
    return T(2) * t * (T(1) - t * t);
  }
};
struct Threshold : Straight<Threshold> {
  static constexpr int numbers = 2;
  template <class T>
  DTENSOR_DEVICE static T value(T x, const T* k) {
    return x <= k[0] ? k[1] : x;
  }
  template <class T>
  DTENSOR_DEVICE static T slope(T x, const T* k) {
    return x <= k[0] ? T(0) : T(1);
  }
};

template <class F>
struct Forward {
  static constexpr int numbers = F::numbers;
  template <class T>
  DTENSOR_DEVICE static T of(T x, const T* k) {
    return F::value(x, k);
  }
};
template <class F, int order>
struct Backward {
  static constexpr int numbers = F::numbers;
  template <class T>
  DTENSOR_DEVICE static T of(T g, T x, const T* k) {
    if constexpr (order == 1) return g * F::slope(x, k);
    else return g * F::curve(x, k);
  }
};

}  // namespace dtensor::local::formulas
