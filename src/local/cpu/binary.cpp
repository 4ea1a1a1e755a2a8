// SPDX-License-Identifier: Apache-2.0
#include "local/cpu/binary.h"

#include <cstdint>
#include <stdexcept>

#include "local/cpu/map.h"
#include "local/cpu/rows.h"
#include "local/formulas/binary.h"

namespace dtensor::local::cpu {
namespace {

Operand operand(const Value& v, Dtype type) { return v.tensor != nullptr ? Operand(*v.tensor, type) : Operand(v.number, type); }

using namespace formulas;

template <class F>
struct Checked {
  static constexpr bool one_by_one = true;
  static std::int64_t of(std::int64_t a, std::int64_t b) {
    if (b == 0) throw std::domain_error("an integer is divided by zero");
    return F::of(a, b);
  }
};

using I64 = std::int64_t;
template <class F>
constexpr Row kIntegerRow = RowOf<F, I64, I64, I64, I64>::run;
template <class Real, class Integer>
constexpr Rows mixed_rows() {
  Rows rows = floating_rows<Real, 2>();
  rows.i64 = kIntegerRow<Checked<Integer>>;
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
      return mixed_rows<Remainder, Remainder>();
    case Binary::fmod:
      return mixed_rows<Fmod, Fmod>();
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
