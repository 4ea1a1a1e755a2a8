// SPDX-License-Identifier: Apache-2.0
#include "local/cpu/pointwise.h"

#include "local/cpu/map.h"
#include "local/cpu/rows.h"
#include "local/cpu/vector_math.h"
#include "local/formulas/pointwise.h"

namespace dtensor::local::cpu {
namespace {

using namespace formulas;

Rows real_rows(Unary op) {
  switch (op) {
    case Unary::exp:
      return floating_rows<Exp<VectorMath>, 1>();
    case Unary::log:
      return floating_rows<Log<VectorMath>, 1>();
    case Unary::log2:
      return floating_rows<Log2, 1>();
    case Unary::log1p:
      return floating_rows<Log1p<VectorMath>, 1>();
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
      return floating_rows<Tanh<VectorMath>, 1>();
    case Unary::sigmoid:
      return floating_rows<Sigmoid<VectorMath>, 1>();
    case Unary::erf:
      return floating_rows<Erf<VectorMath>, 1>();
    case Unary::gelu:
      return floating_rows<Gelu<VectorMath>, 1>();
    case Unary::gelu_tanh:
      return floating_rows<GeluTanh<VectorMath>, 1>();
    case Unary::silu:
      return floating_rows<Silu<VectorMath>, 1>();
    default:
      return floating_rows<Softplus<VectorMath>, 1>();
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
      return floating_rows<GeluBackward<VectorMath>, 2>();
    case UnaryBackward::gelu_tanh:
      return floating_rows<GeluTanhBackward<VectorMath>, 2>();
    case UnaryBackward::silu:
      return floating_rows<SiluBackward<VectorMath>, 2>();
    case UnaryBackward::softplus:
      return floating_rows<SoftplusBackward<VectorMath>, 2>();
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
  map(floating_rows<Swiglu<VectorMath>, 2>().of(type), {{gate, type}, {up, type}}, {{out, type}});
}

void swiglu_backward(const Tensor& grad, const Tensor& gate, const Tensor& up, const Tensor& grad_gate, const Tensor& grad_up) {
  const Dtype type = compute_type(grad_gate.dtype());
  map(floating_rows<SwigluGateBackward<VectorMath>, 3>().of(type), {{grad, type}, {gate, type}, {up, type}}, {{grad_gate, type}});
  map(floating_rows<Swiglu<VectorMath>, 2>().of(type), {{gate, type}, {grad, type}}, {{grad_up, type}});
}

}  // namespace dtensor::local::cpu
