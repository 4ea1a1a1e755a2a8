// SPDX-License-Identifier: Apache-2.0
// The formulas of local/cpu/pointwise.h: F::of(elements..., numbers). M has the elementary functions of the device that computes.
#pragma once

#include <cmath>
#include <limits>
#include <type_traits>

#include "local/formulas/integers.h"

namespace dtensor::local::formulas {

// clang-format off
struct Neg { template <class T> DTENSOR_DEVICE static T of(T x) { return minus(T(0), x); } };
struct NegFloat { template <class T> DTENSOR_DEVICE static T of(T x) { return -x; } };
struct Abs {
  template <class T> DTENSOR_DEVICE static T of(T x) {
    if constexpr (std::is_integral_v<T>) return x < 0 ? minus(T(0), x) : x;
    else return std::fabs(x);
  }
};
struct Sign { template <class T> DTENSOR_DEVICE static T of(T x) { return static_cast<T>((T(0) < x ? T(1) : T(0)) - (x < T(0) ? T(1) : T(0))); } };
template <class M> struct Exp { template <class T> DTENSOR_DEVICE static T of(T x) { return M::exp(x); } };
template <class M> struct Log { template <class T> DTENSOR_DEVICE static T of(T x) { return M::log(x); } };
template <class M> struct Log1p { template <class T> DTENSOR_DEVICE static T of(T x) { return M::log1p(x); } };
struct Log2 { static constexpr bool one_by_one = true; template <class T> DTENSOR_DEVICE static T of(T x) { return std::log2(x); } };
struct Expm1 { static constexpr bool one_by_one = true; template <class T> DTENSOR_DEVICE static T of(T x) { return std::expm1(x); } };
struct Sin { static constexpr bool one_by_one = true; template <class T> DTENSOR_DEVICE static T of(T x) { return std::sin(x); } };
struct Cos { static constexpr bool one_by_one = true; template <class T> DTENSOR_DEVICE static T of(T x) { return std::cos(x); } };
struct Tan { static constexpr bool one_by_one = true; template <class T> DTENSOR_DEVICE static T of(T x) { return std::tan(x); } };
struct Sqrt { template <class T> DTENSOR_DEVICE static T of(T x) { return std::sqrt(x); } };
struct Rsqrt { template <class T> DTENSOR_DEVICE static T of(T x) { return T(1) / std::sqrt(x); } };
struct Square { template <class T> DTENSOR_DEVICE static T of(T x) { return times(x, x); } };
struct Reciprocal { template <class T> DTENSOR_DEVICE static T of(T x) { return T(1) / x; } };
template <class M> struct Tanh { template <class T> DTENSOR_DEVICE static T of(T x) { return M::tanh(x); } };
template <class M> struct Sigmoid { template <class T> DTENSOR_DEVICE static T of(T x) { return M::sigmoid(x); } };
template <class M> struct Erf { template <class T> DTENSOR_DEVICE static T of(T x) { return M::erf(x); } };
struct Floor { template <class T> DTENSOR_DEVICE static T of(T x) { if constexpr (std::is_integral_v<T>) return x; else return std::floor(x); } };
struct Ceil { template <class T> DTENSOR_DEVICE static T of(T x) { if constexpr (std::is_integral_v<T>) return x; else return std::ceil(x); } };
struct Trunc { template <class T> DTENSOR_DEVICE static T of(T x) { if constexpr (std::is_integral_v<T>) return x; else return std::trunc(x); } };
struct Round { template <class T> DTENSOR_DEVICE static T of(T x) { if constexpr (std::is_integral_v<T>) return x; else return std::nearbyint(x); } };
struct Relu { template <class T> DTENSOR_DEVICE static T of(T x) { return x < T(0) ? T(0) : x; } };  // NaN stays
struct LogicalNot { template <class T> DTENSOR_DEVICE static bool of(T x) { return x == T(0); } };
struct IsNan { template <class T> DTENSOR_DEVICE static bool of(T x) { return x != x; } };
struct IsInf { template <class T> DTENSOR_DEVICE static bool of(T x) { if constexpr (std::is_integral_v<T>) return false; else return std::fabs(x) == std::numeric_limits<T>::infinity(); } };
struct IsFinite { template <class T> DTENSOR_DEVICE static bool of(T x) { if constexpr (std::is_integral_v<T>) return true; else return std::fabs(x) < std::numeric_limits<T>::infinity(); } };
// clang-format on

template <class T>
inline constexpr T kInvSqrtTwoPi = static_cast<T>(0.39894228040143267794);
template <class T>
inline constexpr T kGeluBeta = static_cast<T>(0.79788456080286535588);  // sqrt(2 / pi)
template <class T>
inline constexpr T kGeluKappa = static_cast<T>(0.044715);

template <class M>
struct Gelu {
  template <class T>
  DTENSOR_DEVICE static T of(T x) {
    return x * M::normal(x);
  }
};
template <class M>
struct GeluTanh {
  template <class T>
  DTENSOR_DEVICE static T of(T x) {
    return T(0.5) * x * (T(1) + M::tanh(kGeluBeta<T> * (x + kGeluKappa<T> * x * x * x)));
  }
};
template <class M>
struct Silu {
  template <class T>
  DTENSOR_DEVICE static T of(T x) {
    return x / (T(1) + M::exp(-x));
  }
};
template <class M>
struct Softplus {  // beta, threshold
  static constexpr int numbers = 2;
  template <class T>
  DTENSOR_DEVICE static T of(T x, const T* k) {
    // log(1 + e^z) = max(z, 0) + log(1 + e^-|z|): no overflow, and the threshold selects among cheap values, which keeps the loop free of branches.
    const T z = x * k[0];
    const bool straight = z > k[1];
    const T bend = M::log1p(M::exp_negative(straight ? -std::numeric_limits<T>::infinity() : -std::fabs(z)));
    const T line = z > T(0) ? z : T(0);
    return (straight ? x : line / k[0]) + bend / k[0];
  }
};

struct ReluBackward {
  template <class T>
  DTENSOR_DEVICE static T of(T g, T out) {
    return out <= T(0) ? T(0) : g;
  }
};
struct TanhBackward {
  template <class T>
  DTENSOR_DEVICE static T of(T g, T out) {
    return g * (T(1) - out * out);
  }
};
struct SigmoidBackward {
  template <class T>
  DTENSOR_DEVICE static T of(T g, T out) {
    return g * (T(1) - out) * out;
  }
};
template <class M>
struct GeluBackward {
  template <class T>
  DTENSOR_DEVICE static T of(T g, T x) {
    const T cdf = M::normal(x);
    const T pdf = M::exp_negative(x * x * T(-0.5)) * kInvSqrtTwoPi<T>;
    return g * (cdf + x * pdf);
  }
};
template <class M>
struct GeluTanhBackward {
  template <class T>
  DTENSOR_DEVICE static T of(T g, T x) {
    const T square = x * x;
    const T t = M::tanh(kGeluBeta<T> * (x + kGeluKappa<T> * square * x));
    const T inner = kGeluBeta<T> * (T(1) + T(3) * kGeluKappa<T> * square);
    return g * (T(0.5) * (T(1) + t) + T(0.5) * x * (T(1) - t * t) * inner);
  }
};
template <class M>
struct SiluBackward {
  template <class T>
  DTENSOR_DEVICE static T of(T g, T x) {
    const T s = M::sigmoid(x);
    return g * s * (T(1) + x * (T(1) - s));
  }
};
template <class M>
struct SoftplusBackward {
  static constexpr int numbers = 2;
  template <class T>
  DTENSOR_DEVICE static T of(T g, T x, const T* k) {
    const T z = x * k[0], soft = g * M::sigmoid(z);
    return z > k[1] ? g : soft;
  }
};
struct ClampBackward {
  static constexpr int numbers = 2;
  template <class T>
  DTENSOR_DEVICE static T of(T g, T x, const T* k) {
    constexpr T kNone = std::numeric_limits<T>::infinity();
    return (x > k[0] || k[0] == -kNone) && (x < k[1] || k[1] == kNone) && x == x ? g : T(0);
  }
};
template <class M>
struct Swiglu {
  template <class T>
  DTENSOR_DEVICE static T of(T gate, T up) {
    return gate / (T(1) + M::exp(-gate)) * up;
  }
};
template <class M>
struct SwigluGateBackward {
  template <class T>
  DTENSOR_DEVICE static T of(T g, T gate, T up) {
    return SiluBackward<M>::of(g * up, gate);
  }
};

}  // namespace dtensor::local::formulas
