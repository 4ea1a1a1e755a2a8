// SPDX-License-Identifier: Apache-2.0
#include "dtensor/ops/inplace.h"

#include <cstdint>
#include <limits>

#include "local/cpu/binary.h"
#include "local/cpu/map.h"
#include "local/cpu/pointwise.h"
#include "ops/elementwise.h"

namespace dtensor {
namespace {

namespace cpu = local::cpu;
using cpu::Binary;
using cpu::Ternary;
using cpu::Unary;
using Gradients = std::vector<DTensor>;
using ops::gradient_for;

constexpr std::string_view kOne = "... -> ...";
constexpr std::string_view kTwo = "..., ... -> ...";

// An operand that shares self's memory in another arrangement is copied before self is written.
Tensor apart(const Tensor& self, const Tensor& other) {
  const bool same = other.offset() == self.offset() && other.shape() == self.shape() && other.strides() == self.strides();
  return other.shares_storage_with(self) && !same ? other.clone() : other;
}
void real_type(ShapeCall& s) {
  ops::written_type(s);
  if (!info(s.input(0).dtype).floating) s.fail("the result is real and self is " + to_string(s.input(0).dtype) + "; convert with to() first");
}
// Number at attribute 0.
void number_type(ShapeCall& s) {
  ops::written_type(s);
  const Dtype self = s.input(0).dtype;
  if (s.attribute(0).scalar().kind() == ScalarKind::floating && !info(self).floating)
    s.fail("a floating number does not fit the dtype written in place (" + s.describe(0) + ", " + to_string(s.attribute(0).scalar()) +
           "); convert with to() first");
}
std::vector<Sample> one_samples() { return {{.shapes = {{5, 7}}, .low = 0.3}, {.shapes = {{0, 3}}}, {.shapes = {{1}}, .low = 0.3}}; }
std::vector<Sample> two_samples() {
  return {{.shapes = {{5, 7}, {5, 7}}, .low = 0.3}, {.shapes = {{5, 7}, {7}}, .low = 0.3}, {.shapes = {{0, 3}, {3}}}};
}
std::vector<Sample> three_samples() { return {{.shapes = {{5, 7}, {5, 7}, {5, 7}}, .low = 0.3}, {.shapes = {{5, 7}, {7}, {5, 1}}, .low = 0.3}}; }
std::vector<Sample> with_number(std::string_view name) {
  const std::vector<std::pair<std::string, std::string>> attributes{{std::string(name), "1.5"}};
  return {{.shapes = {{5, 7}}, .attributes = attributes}, {.shapes = {{0, 3}}, .attributes = attributes}};
}
std::vector<Sample> other_samples() { return with_number("other"); }
std::vector<Sample> value_samples() { return with_number("value"); }

template <Binary op>
void sum_cpu(const KernelCall& c) {
  const Scalar alpha = c.attribute(0).scalar();
  cpu::binary(op, c.input(0), apart(c.input(0), c.input(1)), c.input(0), &alpha);
}
template <Binary op>
void number_sum_cpu(const KernelCall& c) {
  const Scalar alpha = c.attribute(1).scalar();
  cpu::binary(op, c.input(0), c.attribute(0).scalar(), c.input(0), &alpha);
}
template <Binary op>
void two_cpu(const KernelCall& c) {
  cpu::binary(op, c.input(0), apart(c.input(0), c.input(1)), c.input(0));
}
template <Binary op>
void number_cpu(const KernelCall& c) {
  cpu::binary(op, c.input(0), c.attribute(0).scalar(), c.input(0));
}
template <Ternary op>
void value_cpu(const KernelCall& c) {
  const Scalar value = c.attribute(0).scalar();
  const Tensor& self = c.input(0);
  cpu::ternary(op, self, apart(self, c.input(1)), apart(self, c.input(2)), self, &value);
}
template <Unary op>
void unary_cpu(const KernelCall& c) {
  cpu::unary(op, c.input(0), c.input(0));
}

using Kernel = void (*)(const KernelCall&);
using Gradient = Gradients (*)(const GradientCall&);
constexpr OpDef sum_op(std::string_view name, Kernel kernel, Gradient gradient) {
  return {.name = name,
          .signature = "self!, other, *, alpha: number = 1 -> self",
          .rule = "..., ... -> ...    linear",
          .dtypes = "any",
          .shape = ops::written_type,
          .cpu = kernel,
          .gradient = gradient,
          .samples = two_samples};
}
constexpr OpDef number_sum_op(std::string_view name, Kernel kernel) {
  return {.name = name,
          .signature = "self!, *, other: number, alpha: number = 1 -> self",
          .rule = kOne,
          .dtypes = "any",
          .shape = number_type,
          .cpu = kernel,
          .gradient = [](const GradientCall& g) -> Gradients { return {g.grad_output(0)}; },
          .samples = other_samples};
}
constexpr OpDef unary_op(std::string_view name, std::string_view rule, Kernel kernel, void (*shape)(ShapeCall&)) {
  return {.name = name, .signature = "self! -> self", .rule = rule, .dtypes = "number", .shape = shape, .cpu = kernel, .samples = one_samples};
}

constexpr OpDef kAdd = sum_op("add_", sum_cpu<Binary::add>, [](const GradientCall& g) -> Gradients {
  return {g.grad_output(0), g.needs(1) ? gradient_for(g, 1, g.grad_output(0) * g.attribute(0).scalar()) : DTensor()};
});
constexpr OpDef kSub = sum_op("sub_", sum_cpu<Binary::sub>, [](const GradientCall& g) -> Gradients {
  return {g.grad_output(0), g.needs(1) ? gradient_for(g, 1, neg(g.grad_output(0) * g.attribute(0).scalar())) : DTensor()};
});
constexpr OpDef kAddScalar = number_sum_op("add_.scalar", number_sum_cpu<Binary::add>);
constexpr OpDef kSubScalar = number_sum_op("sub_.scalar", number_sum_cpu<Binary::sub>);
constexpr OpDef kMul{.name = "mul_",
                     .signature = "self!, other -> self",
                     .rule = "..., ... -> ...    linear 1",
                     .dtypes = "any",
                     .shape = ops::written_type,
                     .cpu = two_cpu<Binary::mul>,
                     .samples = two_samples};
constexpr OpDef kDiv{.name = "div_",
                     .signature = "self!, other -> self",
                     .rule = "..., ... -> ...    linear 1",
                     .dtypes = "any",
                     .shape = real_type,
                     .cpu = two_cpu<Binary::div>,
                     .samples = two_samples};
constexpr OpDef kMulScalar{.name = "mul_.scalar",
                           .signature = "self!, *, other: number -> self",
                           .rule = "... -> ...    linear",
                           .dtypes = "any",
                           .shape = number_type,
                           .cpu = number_cpu<Binary::mul>,
                           .gradient = [](const GradientCall& g) -> Gradients { return {g.grad_output(0) * g.attribute(0).scalar()}; },
                           .samples = other_samples};
constexpr OpDef kDivScalar{.name = "div_.scalar",
                           .signature = "self!, *, other: number -> self",
                           .rule = "... -> ...    linear",
                           .dtypes = "any",
                           .shape = real_type,
                           .cpu = number_cpu<Binary::div>,
                           .gradient = [](const GradientCall& g) -> Gradients { return {g.grad_output(0) / g.attribute(0).scalar()}; },
                           .samples = other_samples};

constexpr OpDef kCopy{
    .name = "copy_",
    .signature = "self!, source -> self",
    .rule = "..., ... -> ...    linear",
    .dtypes = "any",
    .shape =
        [](ShapeCall& s) {
          if (!(ops::broadcast_shape(s, 0, 2) == s.input(0).shape))
            s.fail("the source does not broadcast to self (" + s.describe(0) + ", " + s.describe(1) + "); reshape or expand it");
          s.output(0) = s.input(0);
        },
    .cpu = [](const KernelCall& c) { cpu::convert(apart(c.input(0), c.input(1)), c.input(0)); },
    .gradient = [](const GradientCall& g) -> Gradients {
      return {g.needs(0) ? g.grad_output(0) * 0 : DTensor(), gradient_for(g, 1, g.grad_output(0))};
    },
    .samples = two_samples,
};
constexpr OpDef kFill{.name = "fill_",
                      .signature = "self!, *, value: number -> self",
                      .rule = kOne,
                      .dtypes = "any",
                      .shape = ops::same_type,
                      .cpu = [](const KernelCall& c) { cpu::fill(c.input(0), c.attribute(0).scalar()); },
                      .gradient = ops::zero_gradient,
                      .samples = value_samples};
constexpr OpDef kZero{.name = "zero_",
                      .signature = "self! -> self",
                      .rule = "... -> ...    linear",
                      .dtypes = "any",
                      .shape = ops::same_type,
                      .cpu = [](const KernelCall& c) { cpu::fill(c.input(0), Scalar(0)); },
                      .gradient = ops::zero_gradient,
                      .samples = one_samples};
constexpr OpDef kAddcmul{.name = "addcmul_",
                         .signature = "self!, tensor1, tensor2, *, value: number = 1 -> self",
                         .rule = "..., ..., ... -> ...",
                         .dtypes = "number",
                         .shape = ops::written_type,
                         .cpu = value_cpu<Ternary::addcmul>,
                         .samples = three_samples};
constexpr OpDef kAddcdiv{.name = "addcdiv_",
                         .signature = "self!, tensor1, tensor2, *, value: number = 1 -> self",
                         .rule = "..., ..., ... -> ...",
                         .dtypes = "floating",
                         .shape = real_type,
                         .cpu = value_cpu<Ternary::addcdiv>,
                         .samples = three_samples};
constexpr OpDef kLerp{
    .name = "lerp_",
    .signature = "self!, end, *, weight: float -> self",
    .rule = "..., ... -> ...    linear",
    .dtypes = "floating",
    .shape = real_type,
    .cpu = [](const KernelCall& c) { cpu::ternary(Ternary::lerp, c.input(0), apart(c.input(0), c.input(1)), c.attribute(0).scalar(), c.input(0)); },
    .gradient = [](const GradientCall& g) -> Gradients {
      const double w = g.attribute(0).as_double();
      return {g.needs(0) ? g.grad_output(0) * (1 - w) : DTensor(), g.needs(1) ? gradient_for(g, 1, g.grad_output(0) * w) : DTensor()};
    },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 7}, {5, 7}}, .attributes = {{"weight", "0.3"}}},
                                     {.shapes = {{5, 7}, {7}}, .attributes = {{"weight", "0.75"}}}};
        }};
constexpr OpDef kClamp{.name = "clamp_",
                       .signature = "self!, *, min: number? = none, max: number? = none -> self",
                       .rule = "... -> ...    monotone",
                       .dtypes = "number",
                       .shape = ops::same_type,
                       .cpu =
                           [](const KernelCall& c) {
                             const bool floating = info(c.input(0).dtype()).floating;
                             constexpr double kInfinity = std::numeric_limits<double>::infinity();
                             using Limits = std::numeric_limits<std::int64_t>;
                             const Attribute &min = c.attribute(0), &max = c.attribute(1);
                             const Scalar low = !min.is_none() ? min.scalar() : floating ? Scalar(-kInfinity) : Scalar(Limits::min());
                             const Scalar high = !max.is_none() ? max.scalar() : floating ? Scalar(kInfinity) : Scalar(Limits::max());
                             cpu::ternary(Ternary::clamp, c.input(0), low, high, c.input(0));
                           },
                       .samples =
                           [] {
                             return std::vector<Sample>{{.shapes = {{5, 7}}, .attributes = {{"min", "-0.5"}, {"max", "1"}}},
                                                        {.shapes = {{0}}, .attributes = {{"max", "0"}}}};
                           }};
constexpr OpDef kRelu = unary_op("relu_", "... -> ...    monotone", unary_cpu<Unary::relu>, ops::same_type);
constexpr OpDef kNeg = unary_op("neg_", "... -> ...    linear", unary_cpu<Unary::neg>, ops::same_type);
constexpr OpDef kSqrt = unary_op("sqrt_", kOne, unary_cpu<Unary::sqrt>, real_type);
constexpr OpDef kMaskedFill{
    .name = "masked_fill_",
    .signature = "self!, mask, *, value: number -> self",
    .rule = kTwo,
    .dtypes = "any",
    .shape =
        [](ShapeCall& s) {
          ops::written_type(s);
          if (s.input(1).dtype != Dtype::boolean) s.fail("the mask must be bool (" + s.describe(1) + "); compare first, or convert with to()");
        },
    .cpu = [](const KernelCall& c) { cpu::where(apart(c.input(0), c.input(1)), c.attribute(0).scalar(), c.input(0), c.input(0)); },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 7}, {7}}, .attributes = {{"value", "10"}}, .dtypes = {Dtype::f32, Dtype::boolean}}};
        }};

constexpr const OpDef* kFamily[] = {&kAdd,  &kSub,     &kAddScalar, &kSubScalar, &kMul,   &kDiv,  &kMulScalar, &kDivScalar, &kCopy,      &kFill,
                                    &kZero, &kAddcmul, &kAddcdiv,   &kLerp,      &kClamp, &kRelu, &kNeg,       &kSqrt,      &kMaskedFill};

}  // namespace

namespace ops {
OpList inplace_ops() { return kFamily; }
}  // namespace ops

DTensor add_(const DTensor& self, const DTensor& other, const AddOptions& o) { return call(kAdd, {self, other}, {o.alpha}); }
DTensor add_(const DTensor& self, const Scalar& other, const AddOptions& o) { return call(kAddScalar, {self}, {other, o.alpha}); }
DTensor sub_(const DTensor& self, const DTensor& other, const AddOptions& o) { return call(kSub, {self, other}, {o.alpha}); }
DTensor sub_(const DTensor& self, const Scalar& other, const AddOptions& o) { return call(kSubScalar, {self}, {other, o.alpha}); }
DTensor mul_(const DTensor& self, const DTensor& other) { return call(kMul, {self, other}); }
DTensor mul_(const DTensor& self, const Scalar& other) { return call(kMulScalar, {self}, {other}); }
DTensor div_(const DTensor& self, const DTensor& other) { return call(kDiv, {self, other}); }
DTensor div_(const DTensor& self, const Scalar& other) { return call(kDivScalar, {self}, {other}); }
DTensor copy_(const DTensor& self, const DTensor& source) { return call(kCopy, {self, source}); }
DTensor fill_(const DTensor& self, const Scalar& value) { return call(kFill, {self}, {value}); }
DTensor zero_(const DTensor& self) { return call(kZero, {self}); }
DTensor addcmul_(const DTensor& self, const DTensor& tensor1, const DTensor& tensor2, const ValueOptions& o) {
  return call(kAddcmul, {self, tensor1, tensor2}, {o.value});
}
DTensor addcdiv_(const DTensor& self, const DTensor& tensor1, const DTensor& tensor2, const ValueOptions& o) {
  return call(kAddcdiv, {self, tensor1, tensor2}, {o.value});
}
DTensor lerp_(const DTensor& self, const DTensor& end, const Scalar& weight) { return call(kLerp, {self, end}, {weight}); }
DTensor clamp_(const DTensor& self, const ClampOptions& o) { return call(kClamp, {self}, {o.min, o.max}); }
DTensor relu_(const DTensor& self) { return call(kRelu, {self}); }
DTensor neg_(const DTensor& self) { return call(kNeg, {self}); }
DTensor sqrt_(const DTensor& self) { return call(kSqrt, {self}); }
DTensor masked_fill_(const DTensor& self, const DTensor& mask, const Scalar& value) { return call(kMaskedFill, {self, mask}, {value}); }

}  // namespace dtensor
