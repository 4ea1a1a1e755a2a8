// SPDX-License-Identifier: Apache-2.0
#include "local/cpu/binary.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <type_traits>

#include "local/cpu/map.h"
#include "local/cpu/rows.h"

namespace dtensor::local::cpu {
namespace {

Operand operand(const Value& v, Dtype type) { return v.tensor != nullptr ? Operand(*v.tensor, type) : Operand(v.number, type); }

struct Add {
  static constexpr int numbers = 1;
  template <class T>
  static T of(T a, T b, const T* k) {
    return plus(a, times(k[0], b));
  }
};
struct Sub {
  static constexpr int numbers = 1;
  template <class T>
  static T of(T a, T b, const T* k) {
    return minus(a, times(k[0], b));
  }
};
struct Mul {
  template <class T>
  static T of(T a, T b) {
    return times(a, b);
  }
};

void check_divisor(std::int64_t b) {
  if (b == 0) throw std::domain_error("an integer is divided by zero");
}
struct DivTrunc {
  static constexpr bool one_by_one = true;
  static std::int64_t of(std::int64_t a, std::int64_t b) {
    check_divisor(b);
    return b == -1 ? minus(std::int64_t{0}, a) : a / b;
  }
};
struct DivFloor {
  static constexpr bool one_by_one = true;
  static std::int64_t of(std::int64_t a, std::int64_t b) {
    const std::int64_t q = DivTrunc::of(a, b);
    return b != -1 && a % b != 0 && (a < 0) != (b < 0) ? q - 1 : q;
  }
};
struct Fmod {
  static constexpr bool one_by_one = true;
  static std::int64_t of(std::int64_t a, std::int64_t b) {
    check_divisor(b);
    return b == -1 ? 0 : a % b;
  }
  template <class T>
  static T of(T a, T b) {
    return std::fmod(a, b);
  }
};
struct Remainder {
  static constexpr bool one_by_one = true;
  static std::int64_t of(std::int64_t a, std::int64_t b) {
    const std::int64_t r = Fmod::of(a, b);
    return r != 0 && (r < 0) != (b < 0) ? r + b : r;
  }
  template <class T>
  static T of(T a, T b) {
    const T r = std::fmod(a, b);
    return r != T(0) && (r < T(0)) != (b < T(0)) ? r + b : r;
  }
};
struct Div {
  template <class T>
  static T of(T a, T b) {
    return a / b;
  }
};
struct DivTruncReal {
  template <class T>
  static T of(T a, T b) {
    return std::trunc(a / b);
  }
};
// Python's floor division: exact where a / b rounds up to an integer.
struct DivFloorReal {
  static constexpr bool one_by_one = true;
  template <class T>
  static T of(T a, T b) {
    if (b == T(0)) return a / b;
    const T rest = std::fmod(a, b);
    T q = (a - rest) / b;
    if (rest != T(0) && (b < T(0)) != (rest < T(0))) q -= T(1);
    if (q == T(0)) return std::copysign(T(0), a / b);
    const T floored = std::floor(q);
    return q - floored > T(0.5) ? floored + T(1) : floored;
  }
};
struct Maximum {
  template <class T>
  static T of(T a, T b) {
    const T greater = a < b ? b : a;
    return b != b ? b : greater;
  }
};
struct Minimum {
  template <class T>
  static T of(T a, T b) {
    const T less = b < a ? b : a;
    return b != b ? b : less;
  }
};
struct Pow {
  static constexpr bool one_by_one = true;
  template <class T>
  static T of(T a, T b) {
    return std::pow(a, b);
  }
  static std::int64_t of(std::int64_t a, std::int64_t b) {
    if (b < 0) {  // as 1 / a^-b, truncated; of zero, zero
      return a == 1 ? 1 : a == -1 ? (b % 2 == 0 ? 1 : -1) : 0;
    }
    std::int64_t result = 1;
    for (; b != 0; b >>= 1, a = times(a, a))
      if ((b & 1) != 0) result = times(result, a);
    return result;
  }
};
struct Atan2 {
  static constexpr bool one_by_one = true;
  template <class T>
  static T of(T a, T b) {
    return std::atan2(a, b);
  }
};
// clang-format off
struct And { static std::int64_t of(std::int64_t a, std::int64_t b) { return a & b; } };
struct Or { static std::int64_t of(std::int64_t a, std::int64_t b) { return a | b; } };
struct Xor { static std::int64_t of(std::int64_t a, std::int64_t b) { return a ^ b; } };

struct Eq { template <class T> static bool of(T a, T b) { return a == b; } };
struct Ne { template <class T> static bool of(T a, T b) { return a != b; } };
struct Lt { template <class T> static bool of(T a, T b) { return a < b; } };
struct Le { template <class T> static bool of(T a, T b) { return a <= b; } };
struct LogicalAnd { template <class T> static bool of(T a, T b) { return (a != T(0)) & (b != T(0)); } };
struct LogicalOr { template <class T> static bool of(T a, T b) { return (a != T(0)) | (b != T(0)); } };
struct LogicalXor { template <class T> static bool of(T a, T b) { return (a != T(0)) != (b != T(0)); } };
// clang-format on
struct IsClose {
  static constexpr int numbers = 3;
  template <class T>
  static bool of(T a, T b, const T* k) {
    const T distance = std::fabs(a - b), bound = k[1] + k[0] * std::fabs(b);
    const bool near = distance <= bound && distance < std::numeric_limits<T>::infinity();
    return a == b || near || (k[2] != T(0) && a != a && b != b);
  }
};

struct Select {
  template <class T>
  static T of(bool condition, T a, T b) {
    return condition ? a : b;
  }
};
struct Clamp {
  template <class T>
  static T of(T x, T low, T high) {
    const T raised = x < low || low != low ? low : x;
    return raised > high || high != high ? high : raised;
  }
};
struct Lerp {  // exact at both ends
  template <class T>
  static T of(T start, T end, T weight) {
    const T distance = end - start;
    return std::fabs(weight) < T(0.5) ? start + weight * distance : end - distance * (T(1) - weight);
  }
};
struct Addcmul {
  static constexpr int numbers = 1;
  template <class T>
  static T of(T a, T b, T c, const T* k) {
    return plus(a, times(times(k[0], b), c));
  }
};
struct Addcdiv {
  static constexpr int numbers = 1;
  template <class T>
  static T of(T a, T b, T c, const T* k) {
    return a + k[0] * b / c;
  }
};

using I64 = std::int64_t;
template <class F>
constexpr Row kIntegerRow = RowOf<F, I64, I64, I64, I64>::run;
template <class Real, class Integer>
constexpr Rows mixed_rows() {
  Rows rows = floating_rows<Real, 2>();
  rows.i64 = kIntegerRow<Integer>;
  return rows;
}

Rows binary_rows(Binary op) {
  switch (op) {
    case Binary::add:
      return number_rows<Add, 2>();
    case Binary::sub:
      return number_rows<Sub, 2>();
    case Binary::mul:
      return number_rows<Mul, 2>();
    case Binary::div:
      return floating_rows<Div, 2>();
    case Binary::div_floor:
      return mixed_rows<DivFloorReal, DivFloor>();
    case Binary::div_trunc:
      return mixed_rows<DivTruncReal, DivTrunc>();
    case Binary::maximum:
      return number_rows<Maximum, 2>();
    case Binary::minimum:
      return number_rows<Minimum, 2>();
    case Binary::pow:
      return number_rows<Pow, 2>();
    case Binary::atan2:
      return floating_rows<Atan2, 2>();
    case Binary::remainder:
      return number_rows<Remainder, 2>();
    case Binary::fmod:
      return number_rows<Fmod, 2>();
    case Binary::bitwise_and:
      return {nullptr, nullptr, kIntegerRow<And>};
    case Binary::bitwise_or:
      return {nullptr, nullptr, kIntegerRow<Or>};
    case Binary::bitwise_xor:
      break;
  }
  return {nullptr, nullptr, kIntegerRow<Xor>};
}

Rows compare_rows(Compare op) {
  switch (op) {
    case Compare::eq:
      return predicate_rows<Eq, 2>();
    case Compare::ne:
      return predicate_rows<Ne, 2>();
    case Compare::lt:
    case Compare::gt:
      return predicate_rows<Lt, 2>();
    case Compare::le:
    case Compare::ge:
      return predicate_rows<Le, 2>();
    case Compare::logical_and:
      return predicate_rows<LogicalAnd, 2>();
    case Compare::logical_or:
      return predicate_rows<LogicalOr, 2>();
    case Compare::logical_xor:
      return predicate_rows<LogicalXor, 2>();
    case Compare::isclose:
      break;
  }
  return {RowOf<IsClose, float, bool, float, float>::run, RowOf<IsClose, double, bool, double, double>::run, nullptr};
}

}  // namespace

void binary(Binary op, const Value& a, const Value& b, const Tensor& out, const Scalar* numbers) {
  const Dtype type = compute_type(out.dtype());
  map(binary_rows(op).of(type), {operand(a, type), operand(b, type)}, {{out, type}}, numbers);
}

void compare(Compare op, const Value& a, const Value& b, Dtype type, const Tensor& out, const Scalar* numbers) {
  if (op == Compare::isclose && type == Dtype::i64) type = Dtype::f64;
  const bool swapped = op == Compare::gt || op == Compare::ge;
  const Operand first = operand(swapped ? b : a, type), second = operand(swapped ? a : b, type);
  map(compare_rows(op).of(type), {first, second}, {{out, Dtype::boolean}}, numbers);
}

void where(const Tensor& condition, const Value& a, const Value& b, const Tensor& out) {
  const Dtype type = compute_type(out.dtype());
  const Rows rows{RowOf<Select, float, float, bool, float, float>::run, RowOf<Select, double, double, bool, double, double>::run,
                  RowOf<Select, I64, I64, bool, I64, I64>::run};
  map(rows.of(type), {{condition, Dtype::boolean}, operand(a, type), operand(b, type)}, {{out, type}});
}

void ternary(Ternary op, const Value& a, const Value& b, const Value& c, const Tensor& out, const Scalar* numbers) {
  const Dtype type = compute_type(out.dtype());
  Rows rows;
  switch (op) {
    case Ternary::clamp:
      rows = number_rows<Clamp, 3>();
      break;
    case Ternary::lerp:
      rows = floating_rows<Lerp, 3>();
      break;
    case Ternary::addcmul:
      rows = number_rows<Addcmul, 3>();
      break;
    case Ternary::addcdiv:
      rows = floating_rows<Addcdiv, 3>();
      break;
  }
  map(rows.of(type), {operand(a, type), operand(b, type), operand(c, type)}, {{out, type}}, numbers);
}

}  // namespace dtensor::local::cpu
