// SPDX-License-Identifier: Apache-2.0
#include "dtensor/ops/binary.h"

#include <cmath>
#include <cstdint>

#include "dtensor/ops/compare.h"
#include "dtensor/ops/pointwise.h"
#include "local/cpu/map.h"
#include "local/kernels/binary.h"
#include "local/kernels/map.h"
#include "local/kernels/pointwise.h"
#include "ops/elementwise.h"

namespace dtensor {
namespace {

namespace cpu = local::cpu;
namespace kernels = local::kernels;
using cpu::Binary;
using cpu::Ternary;
using Gradients = std::vector<DTensor>;
using ops::gradient_for;

constexpr std::string_view kTwo = "..., ... -> ...";
constexpr std::string_view kTwoLinear = "..., ... -> ...    linear";
constexpr std::string_view kOne = "... -> ...";
constexpr std::string_view kOneLinear = "... -> ...    linear";

// Shape rules: two tensors, or a tensor and the number at attribute 0.
void two_type(ShapeCall& s) { s.output(0) = {ops::broadcast_shape(s, 0, 2), ops::promote_operands(s.input(0), s.input(1))}; }
void number_type(ShapeCall& s) { s.output(0) = {s.input(0).shape, promote(s.input(0).dtype, s.attribute(0).scalar().kind())}; }
void refuse_bool(ShapeCall& s) {
  if (s.output(0).dtype == Dtype::boolean) s.fail("bool has no difference (" + s.describe(0) + "); use logical_xor or logical_not");
}
void refuse_bool_rest(ShapeCall& s) {
  if (s.output(0).dtype == Dtype::boolean) s.fail("bool has no remainder (" + s.describe(0) + "); convert with to()");
}
void to_floating(ShapeCall& s) { s.output(0).dtype = ops::floating_dtype(s.output(0).dtype); }
void check_alpha(ShapeCall& s, int attribute) {
  if (s.attribute(attribute).scalar().kind() == ScalarKind::floating && !info(s.output(0).dtype).floating)
    s.fail("alpha is a floating number and the result " + to_string(s.output(0).dtype) + " is not; give an integer or convert with to()");
}

std::vector<Sample> pairs(double low = -2, double high = 2) {
  return {{.shapes = {{5, 7}, {5, 7}}, .low = low, .high = high},
          {.shapes = {{5, 7}, {7}}, .low = low, .high = high},
          {.shapes = {{4, 1, 3}, {2, 1}}, .low = low, .high = high},
          {.shapes = {{0, 3}, {3}}, .low = low, .high = high},
          {.shapes = {{3}, {}}, .low = low, .high = high}};
}
std::vector<Sample> arithmetic_samples() { return pairs(); }
std::vector<Sample> positive_samples() { return pairs(0.3, 2); }
std::vector<Sample> integer_samples() {
  return {{.shapes = {{5, 7}, {5, 7}}, .dtypes = {Dtype::i64, Dtype::i64}},
          {.shapes = {{4, 1}, {3}}, .dtypes = {Dtype::i32, Dtype::u8}, .index_limit = 8}};
}
std::vector<Sample> with_number(std::string_view name) {
  const auto of = [&](std::string_view v) { return std::vector<std::pair<std::string, std::string>>{{std::string(name), std::string(v)}}; };
  return {{.shapes = {{5, 7}}, .attributes = of("1.5"), .low = 0.3},
          {.shapes = {{0, 3}}, .attributes = of("2")},
          {.shapes = {{1}}, .attributes = of("3"), .low = 0.3},
          {.shapes = {{4}}, .attributes = of("2"), .dtypes = {Dtype::i64}}};
}
std::vector<Sample> other_samples() { return with_number("other"); }

// Kernels.
template <Binary op>
void two_kernel(const KernelCall& c) {
  ops::run_checked(c, [&] { kernels::binary(op, c.input(0), c.input(1), c.output(0)); });
}
template <Binary op>
void number_kernel(const KernelCall& c) {
  ops::run_checked(c, [&] { kernels::binary(op, c.input(0), c.attribute(0).scalar(), c.output(0)); });
}

// add, sub, rsub: alpha is the last attribute
template <Binary op>
constexpr OpDef sum_op(std::string_view name, Gradients (*gradient)(const GradientCall&)) {
  return {.name = name,
          .signature = "input, other, *, alpha: number = 1 -> out",
          .rule = kTwoLinear,
          .dtypes = "any",
          .shape =
              [](ShapeCall& s) {
                two_type(s);
                check_alpha(s, 0);
                if (op == Binary::sub) refuse_bool(s);
              },
          .kernel =
              [](const KernelCall& c) {
                const Scalar alpha = c.attribute(0).scalar();
                kernels::binary(op, c.input(0), c.input(1), c.output(0), &alpha);
              },
          .gradient = gradient,
          .samples =
              [] {
                std::vector<Sample> s = pairs();
                s[1].attributes = {{"alpha", "-2"}};
                return s;
              }};
}
constexpr OpDef kAdd = sum_op<Binary::add>("add", [](const GradientCall& g) -> Gradients {
  const DTensor& u = g.grad_output(0);
  const Scalar alpha = g.attribute(0).scalar();
  return {gradient_for(g, 0, u), g.needs(1) ? gradient_for(g, 1, alpha == Scalar(1) ? u : u * alpha) : DTensor()};
});
constexpr OpDef kSub = sum_op<Binary::sub>("sub", [](const GradientCall& g) -> Gradients {
  const DTensor& u = g.grad_output(0);
  const Scalar alpha = g.attribute(0).scalar();
  return {gradient_for(g, 0, u), g.needs(1) ? gradient_for(g, 1, alpha == Scalar(1) ? neg(u) : neg(u * alpha)) : DTensor()};
});

void number_sum_type(ShapeCall& s) {
  number_type(s);
  check_alpha(s, 1);
}
Scalar minus_one(const Scalar& alpha) { return alpha.kind() == ScalarKind::floating ? Scalar(-alpha.as_double()) : Scalar(-alpha.as_int()); }
template <Binary op, bool reversed>
constexpr OpDef number_sum_op(std::string_view name, Gradients (*gradient)(const GradientCall&)) {
  return {.name = name,
          .signature = "input, *, other: number, alpha: number = 1 -> out",
          .rule = kOne,
          .dtypes = "any",
          .shape =
              [](ShapeCall& s) {
                number_sum_type(s);
                if (op == Binary::sub) refuse_bool(s);
              },
          .kernel =
              [](const KernelCall& c) {
                const Scalar alpha = c.attribute(1).scalar(), other = c.attribute(0).scalar();
                if (reversed) kernels::binary(op, other, c.input(0), c.output(0), &alpha);
                else kernels::binary(op, c.input(0), other, c.output(0), &alpha);
              },
          .gradient = gradient,
          .samples = other_samples,
          .reasons = "Partial(max, min) could pass, but an empty integer part holds the extreme of the type and would wrap around"};
}
constexpr OpDef kAddScalar =
    number_sum_op<Binary::add, false>("add.scalar", [](const GradientCall& g) -> Gradients { return {gradient_for(g, 0, g.grad_output(0))}; });
constexpr OpDef kSubScalar =
    number_sum_op<Binary::sub, false>("sub.scalar", [](const GradientCall& g) -> Gradients { return {gradient_for(g, 0, g.grad_output(0))}; });
constexpr OpDef kRsubScalar = number_sum_op<Binary::sub, true>(
    "rsub.scalar", [](const GradientCall& g) -> Gradients { return {gradient_for(g, 0, g.grad_output(0) * minus_one(g.attribute(1).scalar()))}; });

// mul
constexpr OpDef kMul{
    .name = "mul",
    .signature = "input, other -> out",
    .rule = "..., ... -> ...    bilinear",
    .saves = "input, other",
    .dtypes = "any",
    .shape = two_type,
    .kernel = two_kernel<Binary::mul>,
    .gradient = [](const GradientCall& g) -> Gradients {
      const DTensor& u = g.grad_output(0);
      return {g.needs(0) ? gradient_for(g, 0, u * g.input(1)) : DTensor(), g.needs(1) ? gradient_for(g, 1, u * g.input(0)) : DTensor()};
    },
    .samples = arithmetic_samples,
};
constexpr OpDef kMulScalar{
    .name = "mul.scalar",
    .signature = "input, *, other: number -> out",
    .rule = kOneLinear,
    .dtypes = "any",
    .shape = number_type,
    .kernel = number_kernel<Binary::mul>,
    .gradient = [](const GradientCall& g) -> Gradients { return {gradient_for(g, 0, g.grad_output(0) * g.attribute(0).scalar())}; },
    .samples = other_samples,
};

// div
std::string_view mode_of(const Attribute& a) { return a.is_none() || a.as_text() == "none" ? std::string_view() : a.as_text(); }
Binary div_kind(const Attribute& mode) {
  const std::string_view text = mode_of(mode);
  return text.empty() ? Binary::div : text == "floor" ? Binary::div_floor : Binary::div_trunc;
}
void check_mode(ShapeCall& s, int attribute) {
  const std::string_view text = mode_of(s.attribute(attribute));
  if (!text.empty() && text != "floor" && text != "trunc") s.fail("rounding_mode is none, trunc or floor ('" + std::string(text) + "' given)");
  if (text.empty()) to_floating(s);
  else if (s.output(0).dtype == Dtype::boolean) s.output(0).dtype = Dtype::i64;
}
std::vector<Sample> div_samples() {
  std::vector<Sample> s = pairs(0.3, 2);
  s.push_back({.shapes = {{5, 7}, {7}}, .attributes = {{"rounding_mode", "floor"}}, .low = 0.3});
  s.push_back({.shapes = {{5}, {5}}, .attributes = {{"rounding_mode", "trunc"}}, .low = 0.3});
  return s;
}
constexpr OpDef kDiv{
    .name = "div",
    .signature = "input, other, *, rounding_mode: text = none -> out",
    .saves = "other, out",
    .dtypes = "any",
    .shape =
        [](ShapeCall& s) {
          two_type(s);
          check_mode(s, 0);
        },
    .rule_for = [](const ShapeCall& s) -> std::string { return mode_of(s.attribute(0)).empty() ? "..., ... -> ...    linear 1" : std::string(kTwo); },
    .kernel =
        [](const KernelCall& c) { ops::run_checked(c, [&] { kernels::binary(div_kind(c.attribute(0)), c.input(0), c.input(1), c.output(0)); }); },
    .gradient = [](const GradientCall& g) -> Gradients {
      if (!mode_of(g.attribute(0)).empty()) return ops::zero_gradient(g);
      const DTensor quotient = g.grad_output(0) / g.input(1);
      return {gradient_for(g, 0, quotient), g.needs(1) ? gradient_for(g, 1, neg(quotient * g.output(0))) : DTensor()};
    },
    .samples = div_samples,
};
constexpr OpDef kDivScalar{
    .name = "div.scalar",
    .signature = "input, *, other: number, rounding_mode: text = none -> out",
    .dtypes = "any",
    .shape =
        [](ShapeCall& s) {
          number_type(s);
          check_mode(s, 1);
        },
    .rule_for = [](const ShapeCall& s) -> std::string { return std::string(mode_of(s.attribute(1)).empty() ? kOneLinear : kOne); },
    .kernel =
        [](const KernelCall& c) {
          ops::run_checked(c, [&] { kernels::binary(div_kind(c.attribute(1)), c.input(0), c.attribute(0).scalar(), c.output(0)); });
        },
    .gradient = [](const GradientCall& g) -> Gradients {
      if (!mode_of(g.attribute(1)).empty()) return ops::zero_gradient(g);
      return {gradient_for(g, 0, g.grad_output(0) / g.attribute(0).scalar())};
    },
    .samples = other_samples,
};
constexpr OpDef kRdivScalar{
    .name = "rdiv.scalar",
    .signature = "input, *, other: number -> out",
    .rule = kOne,
    .saves = "input, out",
    .dtypes = "any",
    .shape =
        [](ShapeCall& s) {
          number_type(s);
          to_floating(s);
        },
    .kernel = [](const KernelCall& c) { kernels::binary(Binary::div, c.attribute(0).scalar(), c.input(0), c.output(0)); },
    .gradient = [](const GradientCall& g) -> Gradients { return {gradient_for(g, 0, neg(g.grad_output(0) * (g.output(0) / g.input(0))))}; },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 7}}, .attributes = {{"other", "1.5"}}, .low = 0.3},
                                     {.shapes = {{0}}, .attributes = {{"other", "2"}}}};
        },
};

// maximum, minimum
Gradients extreme_gradient(const GradientCall& g, bool maximum_wanted) {
  const DTensor &u = g.grad_output(0), &a = g.input(0), &b = g.input(1);
  const DTensor shared = where(eq(a, b), u * 0.5, u);
  const DTensor first_loses = maximum_wanted ? lt(a, b) : gt(a, b), second_loses = maximum_wanted ? gt(a, b) : lt(a, b);
  return {g.needs(0) ? gradient_for(g, 0, masked_fill(shared, first_loses, 0)) : DTensor(),
          g.needs(1) ? gradient_for(g, 1, masked_fill(shared, second_loses, 0)) : DTensor()};
}
constexpr OpDef kMaximum{.name = "maximum",
                         .signature = "input, other -> out",
                         .rule = kTwo,
                         .saves = "input, other",
                         .dtypes = "any",
                         .shape = two_type,
                         .kernel = two_kernel<Binary::maximum>,
                         .gradient = [](const GradientCall& g) { return extreme_gradient(g, true); },
                         .samples = arithmetic_samples};
constexpr OpDef kMinimum{.name = "minimum",
                         .signature = "input, other -> out",
                         .rule = kTwo,
                         .saves = "input, other",
                         .dtypes = "any",
                         .shape = two_type,
                         .kernel = two_kernel<Binary::minimum>,
                         .gradient = [](const GradientCall& g) { return extreme_gradient(g, false); },
                         .samples = arithmetic_samples};

// pow
void pow_scalar_kernel(const KernelCall& c) {
  const Scalar e = c.attribute(0).scalar();
  const Tensor &x = c.input(0), &out = c.output(0);
  const bool floating = info(out.dtype()).floating;
  const double value = e.as_double();
  // The value of a number is in no key: a cached plan sees it here first.
  if (!floating && value < 0)
    c.fail("integers to a negative integer power are not integers (exponent " + to_string(e) + "); give a floating exponent");
  if (value == 1) kernels::convert(x, out);
  else if (value == 2) kernels::unary(cpu::Unary::square, x, out);
  else if (floating && value == 0.5) kernels::unary(cpu::Unary::sqrt, x, out);
  else if (floating && value == -0.5) kernels::unary(cpu::Unary::rsqrt, x, out);
  else if (floating && value == -1) kernels::unary(cpu::Unary::reciprocal, x, out);
  else ops::run_checked(c, [&] { kernels::binary(Binary::pow, x, e, out); });
}
Scalar less_one(const Scalar& e) { return e.kind() == ScalarKind::floating ? Scalar(e.as_double() - 1) : Scalar(e.as_int() - 1); }
constexpr OpDef kPow{
    .name = "pow",
    .signature = "input, exponent -> out",
    .rule = kTwo,
    .saves = "input, exponent, out",
    .dtypes = "any",
    .shape = two_type,
    .kernel = two_kernel<Binary::pow>,
    .gradient = [](const GradientCall& g) -> Gradients {
      const DTensor &u = g.grad_output(0), &x = g.input(0), &e = g.input(1);
      DTensor to_x, to_e;
      if (g.needs(0)) to_x = gradient_for(g, 0, where(eq(e, 0), 0, u * (e * pow(x, e - 1))));
      if (g.needs(1)) to_e = gradient_for(g, 1, u * where(logical_and(eq(x, 0), ge(e, 0)), 0, g.output(0) * log(x)));
      return {to_x, to_e};
    },
    .samples = positive_samples,
};
constexpr OpDef kPowScalar{
    .name = "pow.scalar",
    .signature = "input, *, exponent: number -> out",
    .rule = kOne,
    .saves = "input",
    .dtypes = "any",
    .shape =
        [](ShapeCall& s) {
          number_type(s);
          const Scalar& e = s.attribute(0).scalar();
          if (!info(s.output(0).dtype).floating && e.as_int() < 0 && e.kind() == ScalarKind::integer)
            s.fail("integers to a negative integer power are not integers (" + s.describe(0) + ", exponent " + to_string(e) +
                   "); give a floating exponent");
        },
    .kernel = pow_scalar_kernel,
    .gradient = [](const GradientCall& g) -> Gradients {
      const Scalar e = g.attribute(0).scalar();
      if (e.as_double() == 0) return ops::zero_gradient(g);
      return {gradient_for(g, 0, g.grad_output(0) * (pow(g.input(0), less_one(e)) * e))};
    },
    .samples = [] { return with_number("exponent"); },
};
constexpr OpDef kPowBase{
    .name = "pow.base",
    .signature = "exponent, *, input: number -> out",
    .rule = kOne,
    .saves = "out",
    .dtypes = "any",
    .shape = number_type,
    .kernel =
        [](const KernelCall& c) { ops::run_checked(c, [&] { kernels::binary(Binary::pow, c.attribute(0).scalar(), c.input(0), c.output(0)); }); },
    .gradient = [](const GradientCall& g) -> Gradients {
      const double base = g.attribute(0).as_double();
      if (base == 0) return ops::zero_gradient(g);
      return {gradient_for(g, 0, g.grad_output(0) * (g.output(0) * std::log(base)))};
    },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 7}}, .attributes = {{"input", "1.5"}}}, {.shapes = {{0}}, .attributes = {{"input", "2"}}}};
        },
};

// atan2, remainder, fmod
constexpr OpDef kAtan2{
    .name = "atan2",
    .signature = "input, other -> out",
    .rule = kTwo,
    .saves = "input, other",
    .dtypes = "any",
    .shape =
        [](ShapeCall& s) {
          two_type(s);
          to_floating(s);
        },
    .kernel = two_kernel<Binary::atan2>,
    .gradient = [](const GradientCall& g) -> Gradients {
      const DTensor &a = g.input(0), &b = g.input(1);
      const DTensor squares = square(a) + square(b);
      const DTensor u = where(eq(squares, 0), 0, g.grad_output(0) / squares);  // the origin has no angle
      return {g.needs(0) ? gradient_for(g, 0, u * b) : DTensor(), g.needs(1) ? gradient_for(g, 1, neg(u * a)) : DTensor()};
    },
    .samples = positive_samples,
};
template <Binary op>
Gradients rest_gradient(const GradientCall& g) {
  DTensor to_other;
  if (g.needs(1))
    to_other =
        gradient_for(g, 1, neg(g.grad_output(0) * div(g.input(0), g.input(1), {.rounding_mode = op == Binary::remainder ? "floor" : "trunc"})));
  return {gradient_for(g, 0, g.grad_output(0)), to_other};
}
template <Binary op>
constexpr OpDef rest_op(std::string_view name) {
  return {.name = name,
          .signature = "input, other -> out",
          .rule = kTwo,
          .saves = "input, other",
          .dtypes = "any",
          .shape =
              [](ShapeCall& s) {
                two_type(s);
                refuse_bool_rest(s);
              },
          .kernel = two_kernel<op>,
          .gradient = rest_gradient<op>,
          .samples = positive_samples};
}
template <Binary op>
constexpr OpDef rest_number_op(std::string_view name) {
  return {.name = name,
          .signature = "input, *, other: number -> out",
          .rule = kOne,
          .dtypes = "any",
          .shape =
              [](ShapeCall& s) {
                number_type(s);
                refuse_bool_rest(s);
              },
          .kernel = number_kernel<op>,
          .gradient = [](const GradientCall& g) -> Gradients { return {gradient_for(g, 0, g.grad_output(0))}; },
          .samples = other_samples};
}
constexpr OpDef kRemainder = rest_op<Binary::remainder>("remainder");
constexpr OpDef kFmod = rest_op<Binary::fmod>("fmod");
constexpr OpDef kRemainderScalar = rest_number_op<Binary::remainder>("remainder.scalar");
constexpr OpDef kFmodScalar = rest_number_op<Binary::fmod>("fmod.scalar");

template <Binary op>
constexpr OpDef bitwise_op(std::string_view name) {
  return {.name = name,
          .signature = "input, other -> out",
          .rule = kTwo,
          .dtypes = "any",
          .shape =
              [](ShapeCall& s) {
                two_type(s);
                if (info(s.output(0).dtype).floating)
                  s.fail("bits of floating numbers are not combined (" + s.describe(0) + ", " + s.describe(1) + "); use integers or bool");
              },
          .kernel = two_kernel<op>,
          .samples = integer_samples};
}
constexpr OpDef kBitwiseAnd = bitwise_op<Binary::bitwise_and>("bitwise_and");
constexpr OpDef kBitwiseOr = bitwise_op<Binary::bitwise_or>("bitwise_or");
constexpr OpDef kBitwiseXor = bitwise_op<Binary::bitwise_xor>("bitwise_xor");

// addcmul, addcdiv, lerp
void three_type(ShapeCall& s) {
  const Dtype first = ops::promote_operands(s.input(0), s.input(1));
  s.output(0) = {ops::broadcast_shape(s, 0, 3), promote(first, s.input(2).dtype)};
}
std::vector<Sample> three_samples() {
  return {{.shapes = {{5, 7}, {5, 7}, {5, 7}}, .low = 0.3}, {.shapes = {{5, 7}, {7}, {5, 1}}, .low = 0.3}, {.shapes = {{0, 3}, {3}, {3}}}};
}
template <Ternary op>
void value_kernel(const KernelCall& c) {
  const Scalar value = c.attribute(0).scalar();
  kernels::ternary(op, c.input(0), c.input(1), c.input(2), c.output(0), &value);
}
constexpr OpDef kAddcmul{
    .name = "addcmul",
    .signature = "input, tensor1, tensor2, *, value: number = 1 -> out",
    .rule = "..., ..., ... -> ...",
    .saves = "tensor1, tensor2",
    .dtypes = "any",
    .shape =
        [](ShapeCall& s) {
          three_type(s);
          if (s.output(0).dtype == Dtype::boolean) s.fail("bool has no sum of products (" + s.describe(0) + "); convert with to()");
        },
    .kernel = value_kernel<Ternary::addcmul>,
    .gradient = [](const GradientCall& g) -> Gradients {
      const DTensor& u = g.grad_output(0);
      const Scalar value = g.attribute(0).scalar();
      return {gradient_for(g, 0, u), g.needs(1) ? gradient_for(g, 1, u * g.input(2) * value) : DTensor(),
              g.needs(2) ? gradient_for(g, 2, u * g.input(1) * value) : DTensor()};
    },
    .samples = three_samples,
};
constexpr OpDef kAddcdiv{
    .name = "addcdiv",
    .signature = "input, tensor1, tensor2, *, value: number = 1 -> out",
    .rule = "..., ..., ... -> ...",
    .saves = "tensor1, tensor2",
    .dtypes = "any",
    .shape =
        [](ShapeCall& s) {
          if (!info(s.input(1).dtype).floating && !info(s.input(2).dtype).floating)
            s.fail("integers do not divide (" + s.describe(1) + ", " + s.describe(2) + "); convert one with to()");
          three_type(s);
        },
    .kernel = value_kernel<Ternary::addcdiv>,
    .gradient = [](const GradientCall& g) -> Gradients {
      const DTensor& u = g.grad_output(0);
      const Scalar value = g.attribute(0).scalar();
      return {gradient_for(g, 0, u), g.needs(1) ? gradient_for(g, 1, u * value / g.input(2)) : DTensor(),
              g.needs(2) ? gradient_for(g, 2, neg(u * value * (g.input(1) / square(g.input(2))))) : DTensor()};
    },
    .samples = three_samples,
};
constexpr OpDef kLerp{
    .name = "lerp",
    .signature = "input, end, weight -> out",
    .rule = "..., ..., ... -> ...    linear 1 2",
    .saves = "input, end, weight",
    .dtypes = "floating",
    .shape = three_type,
    .kernel = [](const KernelCall& c) { kernels::ternary(Ternary::lerp, c.input(0), c.input(1), c.input(2), c.output(0)); },
    .gradient = [](const GradientCall& g) -> Gradients {
      const DTensor &u = g.grad_output(0), &w = g.input(2);
      return {g.needs(0) ? gradient_for(g, 0, u * (1 - w)) : DTensor(), g.needs(1) ? gradient_for(g, 1, u * w) : DTensor(),
              g.needs(2) ? gradient_for(g, 2, u * (g.input(1) - g.input(0))) : DTensor()};
    },
    .samples = three_samples,
};
constexpr OpDef kLerpScalar{
    .name = "lerp.scalar",
    .signature = "input, end, *, weight: float -> out",
    .rule = kTwoLinear,
    .dtypes = "floating",
    .shape = two_type,
    .kernel = [](const KernelCall& c) { kernels::ternary(Ternary::lerp, c.input(0), c.input(1), c.attribute(0).scalar(), c.output(0)); },
    .gradient = [](const GradientCall& g) -> Gradients {
      const double w = g.attribute(0).as_double();
      return {g.needs(0) ? gradient_for(g, 0, g.grad_output(0) * (1 - w)) : DTensor(),
              g.needs(1) ? gradient_for(g, 1, g.grad_output(0) * w) : DTensor()};
    },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 7}, {5, 7}}, .attributes = {{"weight", "0.3"}}},
                                     {.shapes = {{0, 3}, {3}}, .attributes = {{"weight", "0.75"}}}};
        },
};

constexpr const OpDef* kFamily[] = {&kAdd,       &kSub,        &kAddScalar,       &kSubScalar,  &kRsubScalar, &kMul,       &kMulScalar,  &kDiv,
                                    &kDivScalar, &kRdivScalar, &kMaximum,         &kMinimum,    &kPow,        &kPowScalar, &kPowBase,    &kAtan2,
                                    &kRemainder, &kFmod,       &kRemainderScalar, &kFmodScalar, &kBitwiseAnd, &kBitwiseOr, &kBitwiseXor, &kAddcmul,
                                    &kAddcdiv,   &kLerp,       &kLerpScalar};

}  // namespace

namespace ops {
OpList binary_ops() { return kFamily; }
}  // namespace ops

DTensor add(const DTensor& input, const DTensor& other, const AddOptions& o) { return call(kAdd, {input, other}, {o.alpha}); }
DTensor add(const DTensor& input, const Scalar& other, const AddOptions& o) { return call(kAddScalar, {input}, {other, o.alpha}); }
DTensor sub(const DTensor& input, const DTensor& other, const AddOptions& o) { return call(kSub, {input, other}, {o.alpha}); }
DTensor sub(const DTensor& input, const Scalar& other, const AddOptions& o) { return call(kSubScalar, {input}, {other, o.alpha}); }
DTensor rsub(const DTensor& input, const DTensor& other, const AddOptions& o) { return call(kSub, {other, input}, {o.alpha}); }
DTensor rsub(const DTensor& input, const Scalar& other, const AddOptions& o) { return call(kRsubScalar, {input}, {other, o.alpha}); }
DTensor mul(const DTensor& input, const DTensor& other) { return call(kMul, {input, other}); }
DTensor mul(const DTensor& input, const Scalar& other) { return call(kMulScalar, {input}, {other}); }
DTensor div(const DTensor& input, const DTensor& other, const DivOptions& o) { return call(kDiv, {input, other}, {o.rounding_mode}); }
DTensor div(const DTensor& input, const Scalar& other, const DivOptions& o) { return call(kDivScalar, {input}, {other, o.rounding_mode}); }
DTensor div(const Scalar& input, const DTensor& other) { return call(kRdivScalar, {other}, {input}); }
DTensor maximum(const DTensor& input, const DTensor& other) { return call(kMaximum, {input, other}); }
DTensor minimum(const DTensor& input, const DTensor& other) { return call(kMinimum, {input, other}); }
DTensor pow(const DTensor& input, const DTensor& exponent) { return call(kPow, {input, exponent}); }
DTensor pow(const DTensor& input, const Scalar& exponent) { return call(kPowScalar, {input}, {exponent}); }
DTensor pow(const Scalar& input, const DTensor& exponent) { return call(kPowBase, {exponent}, {input}); }
DTensor atan2(const DTensor& input, const DTensor& other) { return call(kAtan2, {input, other}); }
DTensor remainder(const DTensor& input, const DTensor& other) { return call(kRemainder, {input, other}); }
DTensor remainder(const DTensor& input, const Scalar& other) { return call(kRemainderScalar, {input}, {other}); }
DTensor fmod(const DTensor& input, const DTensor& other) { return call(kFmod, {input, other}); }
DTensor fmod(const DTensor& input, const Scalar& other) { return call(kFmodScalar, {input}, {other}); }
DTensor bitwise_and(const DTensor& input, const DTensor& other) { return call(kBitwiseAnd, {input, other}); }
DTensor bitwise_or(const DTensor& input, const DTensor& other) { return call(kBitwiseOr, {input, other}); }
DTensor bitwise_xor(const DTensor& input, const DTensor& other) { return call(kBitwiseXor, {input, other}); }
DTensor addcmul(const DTensor& input, const DTensor& tensor1, const DTensor& tensor2, const ValueOptions& o) {
  return call(kAddcmul, {input, tensor1, tensor2}, {o.value});
}
DTensor addcdiv(const DTensor& input, const DTensor& tensor1, const DTensor& tensor2, const ValueOptions& o) {
  return call(kAddcdiv, {input, tensor1, tensor2}, {o.value});
}
DTensor lerp(const DTensor& input, const DTensor& end, const DTensor& weight) { return call(kLerp, {input, end, weight}); }
DTensor lerp(const DTensor& input, const DTensor& end, const Scalar& weight) { return call(kLerpScalar, {input, end}, {weight}); }
DTensor operator-(const DTensor& a) { return neg(a); }

}  // namespace dtensor
