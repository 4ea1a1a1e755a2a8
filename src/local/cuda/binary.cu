// SPDX-License-Identifier: Apache-2.0
#include "local/kernels/binary.h"

#include <string>

#include "local/cpu/map.h"
#include "local/cuda/map.h"
#include "local/cuda/table.h"
#include "local/formulas/binary.h"
#include "local/op_name.h"

namespace dtensor::local::cuda {
namespace {

using namespace formulas;
using I64 = std::int64_t;

template <class F>
struct Checked {
  Fault* fault;
  DTENSOR_DEVICE I64 operator()(I64 a, I64 b) const {
    if (b != 0) return F::of(a, b);
    raise(fault, a);
    return 0;
  }
};
template <class Real, class Integer>
void division(const char* name, Dtype type, const Tensor& out, const MapArgument* inputs, const Scalar* numbers) {
  if (type != Dtype::i64) return floating<Real, 2>(name, type, out, inputs, numbers);
  RankDevice& device = rank_device(out);
  const auto text = [op = std::string(OpName::current())](I64 /*value*/) { return op + (op.empty() ? "" : ": ") + "an integer is divided by zero"; };
  Fault* fault = device.faults.expect(device.current, text);
  const MapArgument result(out);
  map<1, I64, I64, I64>(name, Checked<Integer>{fault}, &result, inputs);
}

// In the order of the enumerators.
constexpr Runner kBinary[] = {
    number<Add, 2>,     number<Sub, 2>,     number<Mul, 2>, floating<Div, 2>,   division<DivFloorReal, DivFloor>, division<DivTruncReal, DivTrunc>,
    number<Maximum, 2>, number<Minimum, 2>, number<Pow, 2>, floating<Atan2, 2>, division<Remainder, Remainder>,   division<Fmod, Fmod>,
    integer<And, 2>,    integer<Or, 2>,     integer<Xor, 2>};
// The numbers are floating: there is no form for integers.
void is_close(const char* name, Dtype type, const Tensor& out, const MapArgument* inputs, const Scalar* numbers) {
  constexpr std::make_index_sequence<2> kInputs;
  if (type == Dtype::f64) detail::map_formula<IsClose, bool, double>(name, out, inputs, numbers, kInputs);
  else detail::map_formula<IsClose, bool, float>(name, out, inputs, numbers, kInputs);
}

// Greater is less with the sides exchanged.
constexpr Runner kCompare[] = {predicate<Eq, 2>, predicate<Ne, 2>,         predicate<Lt, 2>,        predicate<Le, 2>,         predicate<Lt, 2>,
                               predicate<Le, 2>, predicate<LogicalAnd, 2>, predicate<LogicalOr, 2>, predicate<LogicalXor, 2>, is_close};
constexpr Runner kTernary[] = {number<Clamp, 3>, floating<Lerp, 3>, number<Addcmul, 3>, floating<Addcdiv, 3>};

void binary(cpu::Binary op, const cpu::Value& a, const cpu::Value& b, const Tensor& out, const Scalar* numbers) {
  const MapArgument inputs[] = {a, b};
  kBinary[static_cast<int>(op)]("binary", cpu::compute_type(out.dtype()), out, inputs, numbers);
}
void compare(cpu::Compare op, const cpu::Value& a, const cpu::Value& b, Dtype type, const Tensor& out, const Scalar* numbers) {
  const bool swapped = op == cpu::Compare::gt || op == cpu::Compare::ge;
  const MapArgument inputs[] = {swapped ? b : a, swapped ? a : b};
  kCompare[static_cast<int>(op)]("compare", op == cpu::Compare::isclose && type == Dtype::i64 ? Dtype::f64 : type, out, inputs, numbers);
}
void where(const Tensor& condition, const cpu::Value& a, const cpu::Value& b, const Tensor& out) {
  const Dtype type = cpu::compute_type(out.dtype());
  const MapArgument result(out), inputs[] = {condition, a, b};
  const auto run = [&]<class T>(std::type_identity<T>) { map<1, T, bool, T, T>("where", Formula<Select, T>(nullptr), &result, inputs); };
  if (type == Dtype::f64) run(std::type_identity<double>());
  else if (type == Dtype::f32) run(std::type_identity<float>());
  else run(std::type_identity<I64>());
}
void ternary(cpu::Ternary op, const cpu::Value& a, const cpu::Value& b, const cpu::Value& c, const Tensor& out, const Scalar* numbers) {
  const MapArgument inputs[] = {a, b, c};
  kTernary[static_cast<int>(op)]("ternary", cpu::compute_type(out.dtype()), out, inputs, numbers);
}

}  // namespace

void install_binary() {
  kernels::binary.cuda = binary;
  kernels::compare.cuda = compare;
  kernels::where.cuda = where;
  kernels::ternary.cuda = ternary;
}

}  // namespace dtensor::local::cuda
