// SPDX-License-Identifier: Apache-2.0
#include "local/kernels/pointwise.h"

#include "local/cpu/map.h"
#include "local/cuda/map.h"
#include "local/cuda/math.h"
#include "local/cuda/table.h"
#include "local/formulas/pointwise.h"
#include "local/kernels/losses.h"

namespace dtensor::local::cuda {
namespace {

using namespace formulas;
using M = DeviceMath;

// In the order of the enumerators.
constexpr Runner kUnary[] = {mixed<NegFloat, Neg, 1>,  number<Abs, 1>,       number<Sign, 1>,          floating<Exp<M>, 1>,
                             floating<Log<M>, 1>,      floating<Log2, 1>,    floating<Log1p<M>, 1>,    floating<Expm1, 1>,
                             floating<Sqrt, 1>,        floating<Rsqrt, 1>,   number<Square, 1>,        floating<Reciprocal, 1>,
                             floating<Sin, 1>,         floating<Cos, 1>,     floating<Tan, 1>,         floating<Tanh<M>, 1>,
                             floating<Sigmoid<M>, 1>,  floating<Erf<M>, 1>,  number<Floor, 1>,         number<Ceil, 1>,
                             number<Trunc, 1>,         number<Round, 1>,     number<Relu, 1>,          floating<Gelu<M>, 1>,
                             floating<GeluTanh<M>, 1>, floating<Silu<M>, 1>, floating<Softplus<M>, 1>, predicate<LogicalNot, 1>,
                             predicate<IsNan, 1>,      predicate<IsInf, 1>,  predicate<IsFinite, 1>};
constexpr Runner kUnaryBackward[] = {floating<ReluBackward, 2>,        floating<TanhBackward, 2>,        floating<SigmoidBackward, 2>,
                                     floating<GeluBackward<M>, 2>,     floating<GeluTanhBackward<M>, 2>, floating<SiluBackward<M>, 2>,
                                     floating<SoftplusBackward<M>, 2>, floating<ClampBackward, 2>};

struct SwigluBackward {
  template <class T>
  DTENSOR_DEVICE Several<T, 2> operator()(T g, T gate, T up) const {
    const T s = M::sigmoid(gate);
    return {{g * up * s * (T(1) + gate * (T(1) - s)), g * gate * s}};
  }
};

struct SquaredError {
  template <class T>
  DTENSOR_DEVICE static T of(T a, T b) {
    return (a - b) * (a - b);
  }
};

void unary(cpu::Unary op, const Tensor& input, const Tensor& out, const Scalar* numbers) {
  const bool is_predicate = op >= cpu::Unary::logical_not;
  const MapArgument inputs[] = {input};
  kUnary[static_cast<int>(op)]("unary", cpu::compute_type(is_predicate ? input.dtype() : out.dtype()), out, inputs, numbers);
}
void unary_backward(cpu::UnaryBackward op, const Tensor& grad, const Tensor& x, const Tensor& out, const Scalar* numbers) {
  const MapArgument inputs[] = {grad, x};
  kUnaryBackward[static_cast<int>(op)]("unary_backward", cpu::compute_type(out.dtype()), out, inputs, numbers);
}
void swiglu(const Tensor& gate, const Tensor& up, const Tensor& out) {
  const MapArgument inputs[] = {gate, up};
  floating<Swiglu<M>, 2>("swiglu", cpu::compute_type(out.dtype()), out, inputs, nullptr);
}
void swiglu_backward(const Tensor& grad, const Tensor& gate, const Tensor& up, const Tensor& grad_gate, const Tensor& grad_up) {
  const MapArgument results[] = {grad_gate, grad_up}, inputs[] = {grad, gate, up};
  if (grad_gate.dtype() == Dtype::f64) map<2, double, double, double, double>("swiglu_backward", SwigluBackward{}, results, inputs);
  else map<2, float, float, float, float>("swiglu_backward", SwigluBackward{}, results, inputs);
}
void squared_error(const Tensor& a, const Tensor& b, const Tensor& out) {
  const MapArgument inputs[] = {a, b};
  floating<SquaredError, 2>("squared_error", out.dtype() == Dtype::f64 ? Dtype::f64 : Dtype::f32, out, inputs, nullptr);
}

}  // namespace

void install_pointwise() {
  kernels::unary.cuda = unary;
  kernels::unary_backward.cuda = unary_backward;
  kernels::swiglu.cuda = swiglu;
  kernels::swiglu_backward.cuda = swiglu_backward;
  kernels::squared_error.cuda = squared_error;
}

}  // namespace dtensor::local::cuda
