// SPDX-License-Identifier: Apache-2.0
#include "local/cpu/pointwise.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "local/cpu/map.h"
#include "local/cpu/rows.h"
#include "local/cpu/vector_math.h"

namespace dtensor::local::cpu {
namespace {

// clang-format off
struct Neg { template <class T> static T of(T x) { return minus(T(0), x); } };
struct NegFloat { template <class T> static T of(T x) { return -x; } };
struct Abs {
  template <class T> static T of(T x) {
    if constexpr (std::is_integral_v<T>) return x < 0 ? minus(T(0), x) : x;
    else return std::fabs(x);
  }
};
struct Sign { template <class T> static T of(T x) { return static_cast<T>((T(0) < x ? T(1) : T(0)) - (x < T(0) ? T(1) : T(0))); } };
struct Exp { template <class T> static T of(T x) { return vexp(x); } };
struct Log { template <class T> static T of(T x) { return vlog(x); } };
struct Log1p { template <class T> static T of(T x) { return vlog1p(x); } };
struct Log2 { static constexpr bool one_by_one = true; template <class T> static T of(T x) { return std::log2(x); } };
struct Expm1 { static constexpr bool one_by_one = true; template <class T> static T of(T x) { return std::expm1(x); } };
struct Sin { static constexpr bool one_by_one = true; template <class T> static T of(T x) { return std::sin(x); } };
struct Cos { static constexpr bool one_by_one = true; template <class T> static T of(T x) { return std::cos(x); } };
struct Tan { static constexpr bool one_by_one = true; template <class T> static T of(T x) { return std::tan(x); } };
struct Sqrt { template <class T> static T of(T x) { return std::sqrt(x); } };
struct Rsqrt { template <class T> static T of(T x) { return T(1) / std::sqrt(x); } };
struct Square { template <class T> static T of(T x) { return times(x, x); } };
struct Reciprocal { template <class T> static T of(T x) { return T(1) / x; } };
struct Tanh { template <class T> static T of(T x) { return vtanh(x); } };
struct Sigmoid { template <class T> static T of(T x) { return vsigmoid(x); } };
struct Erf { template <class T> static T of(T x) { return verf(x); } };
struct Floor { template <class T> static T of(T x) { if constexpr (std::is_integral_v<T>) return x; else return std::floor(x); } };
struct Ceil { template <class T> static T of(T x) { if constexpr (std::is_integral_v<T>) return x; else return std::ceil(x); } };
struct Trunc { template <class T> static T of(T x) { if constexpr (std::is_integral_v<T>) return x; else return std::trunc(x); } };
struct Round { template <class T> static T of(T x) { if constexpr (std::is_integral_v<T>) return x; else return std::nearbyint(x); } };
struct Relu { template <class T> static T of(T x) { return x < T(0) ? T(0) : x; } };  // NaN stays
struct LogicalNot { template <class T> static bool of(T x) { return x == T(0); } };
struct IsNan { template <class T> static bool of(T x) { return x != x; } };
struct IsInf { template <class T> static bool of(T x) { if constexpr (std::is_integral_v<T>) return false; else return std::fabs(x) == std::numeric_limits<T>::infinity(); } };
struct IsFinite { template <class T> static bool of(T x) { if constexpr (std::is_integral_v<T>) return true; else return std::fabs(x) < std::numeric_limits<T>::infinity(); } };
// clang-format on

template <class T>
constexpr T kInvSqrtTwoPi = static_cast<T>(0.39894228040143267794);
template <class T>
constexpr T kGeluBeta = static_cast<T>(0.79788456080286535588);  // sqrt(2 / pi)
template <class T>
constexpr T kGeluKappa = static_cast<T>(0.044715);

struct Gelu {
  template <class T>
  static T of(T x) {
    return x * vnormal(x);
  }
};
struct GeluTanh {
  template <class T>
  static T of(T x) {
    return T(0.5) * x * (T(1) + vtanh(kGeluBeta<T> * (x + kGeluKappa<T> * x * x * x)));
  }
};
struct Silu {
  template <class T>
  static T of(T x) {
    return x / (T(1) + vexp(-x));
  }
};
struct Softplus {  // beta, threshold
  static constexpr int numbers = 2;
  template <class T>
  static T of(T x, const T* k) {
    // log(1 + e^z) = max(z, 0) + log(1 + e^-|z|): no overflow, and the threshold selects among cheap values, which keeps the loop free of branches.
    const T z = x * k[0];
    const bool straight = z > k[1];
    const T bend = vlog1p(vexp_negative(straight ? -std::numeric_limits<T>::infinity() : -std::fabs(z)));
    const T line = z > T(0) ? z : T(0);
    return (straight ? x : line / k[0]) + bend / k[0];
  }
};

struct ReluBackward {
  template <class T>
  static T of(T g, T out) {
    return out <= T(0) ? T(0) : g;
  }
};
struct TanhBackward {
  template <class T>
  static T of(T g, T out) {
    return g * (T(1) - out * out);
  }
};
struct SigmoidBackward {
  template <class T>
  static T of(T g, T out) {
    return g * (T(1) - out) * out;
  }
};
struct GeluBackward {
  template <class T>
  static T of(T g, T x) {
    const T cdf = vnormal(x);
    const T pdf = vexp_negative(x * x * T(-0.5)) * kInvSqrtTwoPi<T>;
    return g * (cdf + x * pdf);
  }
};
struct GeluTanhBackward {
  template <class T>
  static T of(T g, T x) {
    const T square = x * x;
    const T t = vtanh(kGeluBeta<T> * (x + kGeluKappa<T> * square * x));
    const T inner = kGeluBeta<T> * (T(1) + T(3) * kGeluKappa<T> * square);
    return g * (T(0.5) * (T(1) + t) + T(0.5) * x * (T(1) - t * t) * inner);
  }
};
struct SiluBackward {
  template <class T>
  static T of(T g, T x) {
    const T s = vsigmoid(x);
    return g * s * (T(1) + x * (T(1) - s));
  }
};
struct SoftplusBackward {
  static constexpr int numbers = 2;
  template <class T>
  static T of(T g, T x, const T* k) {
    const T z = x * k[0], soft = g * vsigmoid(z);
    return z > k[1] ? g : soft;
  }
};
struct ClampBackward {
  static constexpr int numbers = 2;
  template <class T>
  static T of(T g, T x, const T* k) {
    constexpr T kNone = std::numeric_limits<T>::infinity();
    return (x > k[0] || k[0] == -kNone) && (x < k[1] || k[1] == kNone) && x == x ? g : T(0);
  }
};
struct Swiglu {
  template <class T>
  static T of(T gate, T up) {
    return gate / (T(1) + vexp(-gate)) * up;
  }
};
struct SwigluGateBackward {
  template <class T>
  static T of(T g, T gate, T up) {
    return SiluBackward::of(g * up, gate);
  }
};

Rows real_rows(Unary op) {
  switch (op) {
    case Unary::exp:
      return floating_rows<Exp, 1>();
    case Unary::log:
      return floating_rows<Log, 1>();
    case Unary::log2:
      return floating_rows<Log2, 1>();
    case Unary::log1p:
      return floating_rows<Log1p, 1>();
    case Unary::expm1:
      return floating_rows<Expm1, 1>();
    case Unary::sqrt:
      return floating_rows<Sqrt, 1>();
    case Unary::rsqrt:
      return floating_rows<Rsqrt, 1>();
    case Unary::reciprocal:
      return floating_rows<Reciprocal, 1>();
    case Unary::sin:
      return floating_rows<Sin, 1>();
    case Unary::cos:
      return floating_rows<Cos, 1>();
    case Unary::tan:
      return floating_rows<Tan, 1>();
    case Unary::tanh:
      return floating_rows<Tanh, 1>();
    case Unary::sigmoid:
      return floating_rows<Sigmoid, 1>();
    case Unary::erf:
      return floating_rows<Erf, 1>();
    case Unary::gelu:
      return floating_rows<Gelu, 1>();
    case Unary::gelu_tanh:
      return floating_rows<GeluTanh, 1>();
    case Unary::silu:
      return floating_rows<Silu, 1>();
    default:
      return floating_rows<Softplus, 1>();
  }
}

Rows unary_rows(Unary op) {
  switch (op) {
    case Unary::neg: {
      Rows rows = floating_rows<NegFloat, 1>();
      rows.i64 = number_rows<Neg, 1>().i64;
      return rows;
    }
    case Unary::abs:
      return number_rows<Abs, 1>();
    case Unary::sign:
      return number_rows<Sign, 1>();
    case Unary::square:
      return number_rows<Square, 1>();
    case Unary::floor:
      return number_rows<Floor, 1>();
    case Unary::ceil:
      return number_rows<Ceil, 1>();
    case Unary::trunc:
      return number_rows<Trunc, 1>();
    case Unary::round:
      return number_rows<Round, 1>();
    case Unary::relu:
      return number_rows<Relu, 1>();
    case Unary::logical_not:
      return predicate_rows<LogicalNot, 1>();
    case Unary::isnan:
      return predicate_rows<IsNan, 1>();
    case Unary::isinf:
      return predicate_rows<IsInf, 1>();
    case Unary::isfinite:
      return predicate_rows<IsFinite, 1>();
    default:
      return real_rows(op);
  }
}

Rows backward_rows(UnaryBackward op) {
  switch (op) {
    case UnaryBackward::relu:
      return floating_rows<ReluBackward, 2>();
    case UnaryBackward::tanh:
      return floating_rows<TanhBackward, 2>();
    case UnaryBackward::sigmoid:
      return floating_rows<SigmoidBackward, 2>();
    case UnaryBackward::gelu:
      return floating_rows<GeluBackward, 2>();
    case UnaryBackward::gelu_tanh:
      return floating_rows<GeluTanhBackward, 2>();
    case UnaryBackward::silu:
      return floating_rows<SiluBackward, 2>();
    case UnaryBackward::softplus:
      return floating_rows<SoftplusBackward, 2>();
    case UnaryBackward::clamp:
      break;
  }
  return floating_rows<ClampBackward, 2>();
}

}  // namespace

void unary(Unary op, const Tensor& input, const Tensor& out, const Scalar* numbers) {
  const bool predicate = op >= Unary::logical_not;
  const Dtype type = compute_type(predicate ? input.dtype() : out.dtype());
  map(unary_rows(op).of(type), {{input, type}}, {{out, predicate ? Dtype::boolean : type}}, numbers);
}

void unary_backward(UnaryBackward op, const Tensor& grad, const Tensor& x, const Tensor& out, const Scalar* numbers) {
  const Dtype type = compute_type(out.dtype());
  map(backward_rows(op).of(type), {{grad, type}, {x, type}}, {{out, type}}, numbers);
}

void swiglu(const Tensor& gate, const Tensor& up, const Tensor& out) {
  const Dtype type = compute_type(out.dtype());
  map(floating_rows<Swiglu, 2>().of(type), {{gate, type}, {up, type}}, {{out, type}});
}

void swiglu_backward(const Tensor& grad, const Tensor& gate, const Tensor& up, const Tensor& grad_gate, const Tensor& grad_up) {
  const Dtype type = compute_type(grad_gate.dtype());
  map(floating_rows<SwigluGateBackward, 3>().of(type), {{grad, type}, {gate, type}, {up, type}}, {{grad_gate, type}});
  map(floating_rows<Swiglu, 2>().of(type), {{gate, type}, {grad, type}}, {{grad_up, type}});
}

}  // namespace dtensor::local::cpu
