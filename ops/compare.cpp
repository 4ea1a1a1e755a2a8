// SPDX-License-Identifier: Apache-2.0
#include "dtensor/ops/compare.h"

#include <algorithm>

#include "dtensor/error.h"
#include "dtensor/ops/binary.h"
#include "local/cpu/map.h"
#include "local/kernels/binary.h"
#include "ops/composite.h"
#include "ops/elementwise.h"

namespace dtensor {
namespace {

namespace cpu = local::cpu;
namespace kernels = local::kernels;
using cpu::Compare;
using Gradients = std::vector<DTensor>;
using ops::gradient_for;

void two_boolean(ShapeCall& s) { s.output(0) = {ops::broadcast_shape(s, 0, 2), Dtype::boolean}; }

std::vector<Sample> pairs() {
  return {{.shapes = {{5, 7}, {5, 7}}},
          {.shapes = {{4, 1}, {3}}, .dtypes = {Dtype::i64, Dtype::i64}},
          {.shapes = {{0, 3}, {3}}},
          {.shapes = {{2}, {2}}, .dtypes = {Dtype::i64, Dtype::f32}}};
}
std::vector<Sample> with_number() {
  return {{.shapes = {{5, 7}}, .attributes = {{"other", "0.5"}}},
          {.shapes = {{5}}, .attributes = {{"other", "1"}}, .dtypes = {Dtype::i64}},
          {.shapes = {{0}}, .attributes = {{"other", "0"}}}};
}

template <Compare op>
void two_kernel(const KernelCall& c) {
  kernels::compare(op, c.input(0), c.input(1), cpu::compute_type(ops::promote_operands(c.input(0), c.input(1))), c.output(0));
}
template <Compare op>
void number_kernel(const KernelCall& c) {
  const Scalar other = c.attribute(0).scalar();
  kernels::compare(op, c.input(0), other, cpu::compute_type(promote(c.input(0).dtype(), other.kind())), c.output(0));
}
template <Compare op>
constexpr OpDef two_op(std::string_view name) {
  return {.name = name,
          .signature = "input, other -> out",
          .rule = "..., ... -> ...",
          .dtypes = "any",
          .shape = two_boolean,
          .kernel = two_kernel<op>,
          .samples = pairs};
}
template <Compare op>
constexpr OpDef number_op(std::string_view name) {
  return {.name = name,
          .signature = "input, *, other: number -> out",
          .rule = "... -> ...",
          .dtypes = "any",
          .shape = ops::boolean_type,
          .kernel = number_kernel<op>,
          .samples = with_number};
}

constexpr OpDef kEq = two_op<Compare::eq>("eq");
constexpr OpDef kNe = two_op<Compare::ne>("ne");
constexpr OpDef kLt = two_op<Compare::lt>("lt");
constexpr OpDef kLe = two_op<Compare::le>("le");
constexpr OpDef kGt = two_op<Compare::gt>("gt");
constexpr OpDef kGe = two_op<Compare::ge>("ge");
constexpr OpDef kLogicalAnd = two_op<Compare::logical_and>("logical_and");
constexpr OpDef kLogicalOr = two_op<Compare::logical_or>("logical_or");
constexpr OpDef kLogicalXor = two_op<Compare::logical_xor>("logical_xor");
constexpr OpDef kEqScalar = number_op<Compare::eq>("eq.scalar");
constexpr OpDef kNeScalar = number_op<Compare::ne>("ne.scalar");
constexpr OpDef kLtScalar = number_op<Compare::lt>("lt.scalar");
constexpr OpDef kLeScalar = number_op<Compare::le>("le.scalar");
constexpr OpDef kGtScalar = number_op<Compare::gt>("gt.scalar");
constexpr OpDef kGeScalar = number_op<Compare::ge>("ge.scalar");

constexpr OpDef kIsClose{
    .name = "isclose",
    .signature = "input, other, *, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = false -> out",
    .rule = "..., ... -> ...",
    .dtypes = "any",
    .shape = two_boolean,
    .kernel =
        [](const KernelCall& c) {
          const Scalar numbers[3] = {c.attribute(0).scalar(), c.attribute(1).scalar(), c.attribute(2).as_bool() ? 1.0 : 0.0};
          kernels::compare(Compare::isclose, c.input(0), c.input(1), cpu::compute_type(ops::promote_operands(c.input(0), c.input(1))), c.output(0),
                           numbers);
        },
    .samples = pairs,
};

// where: input and other are tensors or numbers (attributes input_value, other_value)
void check_mask(const ShapeCall& s, int i, std::string_view what) {
  if (s.input(i).dtype != Dtype::boolean) s.fail(std::string(what) + " must be bool (" + s.describe(i) + "); compare first, or convert with to()");
}
Dtype where_dtype(const ShapeCall& s) {
  const bool a = s.has_input(1), b = s.has_input(2);
  if (a && b) return ops::promote_operands(s.input(1), s.input(2));
  if (a) return promote(s.input(1).dtype, s.attribute(1).scalar().kind());
  if (b) return promote(s.input(2).dtype, s.attribute(0).scalar().kind());
  const auto kind = std::max(s.attribute(0).scalar().kind(), s.attribute(1).scalar().kind());
  return kind == ScalarKind::floating ? Dtype::f32 : kind == ScalarKind::integer ? Dtype::i64 : Dtype::boolean;
}
void where_type(ShapeCall& s) {
  check_mask(s, 0, "the condition");
  for (int i : {1, 2})
    if (s.has_input(i) != s.attribute(i - 1).is_none())
      s.fail(std::string(i == 1 ? "input" : "other") + " is a tensor or a number, one of them (" + (s.has_input(i) ? "both" : "none") + " given)");
  s.output(0) = {ops::broadcast_shape(s, 0, 3), where_dtype(s)};
}
Gradients where_gradient(const GradientCall& g) {
  const DTensor& u = g.grad_output(0);
  return {DTensor(), g.needs(1) ? gradient_for(g, 1, where(g.input(0), u, 0)) : DTensor(),
          g.needs(2) ? gradient_for(g, 2, where(g.input(0), 0, u)) : DTensor()};
}
constexpr OpDef kWhere{
    .name = "where",
    .signature = "condition, input?, other?, *, input_value: number? = none, other_value: number? = none -> out",
    .saves = "condition",
    .dtypes = "any",
    .shape = where_type,
    .rule_for = [](const ShapeCall& s) -> std::string {
      return s.has_input(1) && s.has_input(2) ? "..., ..., ... -> ...    linear 2 3" : "..., ..., ... -> ...";
    },
    .kernel =
        [](const KernelCall& c) {
          const auto value = [&](int i) -> cpu::Value { return c.has_input(i) ? cpu::Value(c.input(i)) : cpu::Value(c.attribute(i - 1).scalar()); };
          kernels::where(c.input(0), value(1), value(2), c.output(0));
        },
    .gradient = where_gradient,
    .samples =
        [] {
          const std::vector<Dtype> dtypes{Dtype::boolean, Dtype::f32, Dtype::f32};
          return std::vector<Sample>{{.shapes = {{5, 7}, {5, 7}, {5, 7}}, .dtypes = dtypes},
                                     {.shapes = {{5, 1}, {7}, {1, 7}}, .dtypes = dtypes},
                                     {.shapes = {{0, 3}, {3}, {1}}, .dtypes = dtypes}};
        },
};

constexpr OpDef kMaskedFill{
    .name = "masked_fill",
    .signature = "input, mask, *, value: number -> out",
    .rule = "..., ... -> ...",
    .saves = "mask",
    .dtypes = "any",
    .shape =
        [](ShapeCall& s) {
          check_mask(s, 1, "the mask");
          s.output(0) = {ops::broadcast_shape(s, 0, 2), s.input(0).dtype};
        },
    .kernel =
        [](const KernelCall& c) {
          const Scalar value = c.attribute(0).scalar();
          // As a bool 0.5 is true; as the integer that bool is computed in it would be 0.
          kernels::where(c.input(1), c.output(0).dtype() == Dtype::boolean ? Scalar(value.as_bool()) : value, c.input(0), c.output(0));
        },
    .gradient = [](const GradientCall& g) -> Gradients {
      return {gradient_for(g, 0, masked_fill(g.grad_output(0), g.input(1), 0)), DTensor()};
    },
    .samples =
        [] {
          const std::vector<Dtype> dtypes{Dtype::f32, Dtype::boolean};
          return std::vector<Sample>{{.shapes = {{5, 7}, {5, 7}}, .attributes = {{"value", "10"}}, .dtypes = dtypes},
                                     {.shapes = {{5, 7}, {7}}, .attributes = {{"value", "-1.5"}}, .dtypes = dtypes},
                                     {.shapes = {{0, 3}, {3}}, .attributes = {{"value", "0"}}, .dtypes = dtypes}};
        },
};

// The forms whose number is a tensor.
constexpr OpDef kMaskedFillTensor = ops::composite(
    "masked_fill.tensor", "input, mask, value -> out", "any",
    [](ShapeCall& s) {
      check_mask(s, 1, "the mask");
      if (s.input(2).shape.ndim() != 0) s.fail("value has dimensions (" + s.describe(2) + "); give a number or a tensor of shape []");
      s.output(0) = {ops::broadcast_shape(s, 0, 2), s.input(0).dtype};
    },
    [](const DecomposeCall& c) -> Results { return {masked_fill(c.input(0), c.input(1), c.input(2))}; },
    [] {
      const std::vector<Dtype> dtypes{Dtype::f32, Dtype::boolean, Dtype::f32};
      return std::vector<Sample>{{.shapes = {{5, 7}, {7}, {}}, .dtypes = dtypes}, {.shapes = {{0, 3}, {3}, {}}, .dtypes = dtypes}};
    });
Gradients clamp_gradient(const GradientCall& g) {
  const DTensor &u = g.grad_output(0), &x = g.input(0), &min = g.inputs_[1], &max = g.inputs_[2];  // empty when absent
  if (!min || !max) {                                                                              // maximum or minimum: equal elements share
    const DTensor& bound = min ? min : max;
    const DTensor shared = where(eq(x, bound), u * 0.5, u);
    const DTensor to_input = gradient_for(g, 0, masked_fill(shared, min ? lt(x, bound) : gt(x, bound), 0));
    const DTensor to_bound = masked_fill(shared, min ? gt(x, bound) : lt(x, bound), 0);
    return {to_input, min ? gradient_for(g, 1, to_bound) : DTensor(), max ? gradient_for(g, 2, to_bound) : DTensor()};
  }
  // A bound that the input touches has half, unless both meet there; of bounds that are crossed the upper one counts.
  const DTensor low = lt(x, min), high = gt(x, max), apart = lt(min, max), half = u * 0.5;
  const DTensor at_low = logical_and(eq(x, min), apart), at_high = logical_and(eq(x, max), apart);
  const DTensor inside = where(logical_or(at_low, at_high), half, u);
  return {gradient_for(g, 0, masked_fill(inside, logical_or(low, high), 0)),
          gradient_for(g, 1, where(logical_and(low, apart), u, where(at_low, half, 0))),
          gradient_for(g, 2, where(logical_or(high, lt(max, min)), u, where(at_high, half, 0)))};
}
constexpr OpDef kClampTensor{
    .name = "clamp.tensor",
    .signature = "input, min?, max? -> out",
    .rule = "..., ..., ... -> ...",
    .saves = "input, min, max",
    .dtypes = "any",
    .shape =
        [](ShapeCall& s) {
          if (!s.has_input(1) && !s.has_input(2)) s.fail("neither min nor max is given; give at least one");
          Dtype dtype = s.input(0).dtype;
          for (int i : {1, 2})
            if (s.has_input(i)) dtype = ops::promote_operands({s.input(0).shape, dtype}, s.input(i));
          s.output(0) = {ops::broadcast_shape(s, 0, 3), dtype};
        },
    .kernel =
        [](const KernelCall& c) {
          const Tensor* value = &c.input(0);
          if (c.has_input(1)) kernels::binary(cpu::Binary::maximum, *value, c.input(1), c.output(0)), value = &c.output(0);
          if (c.has_input(2)) kernels::binary(cpu::Binary::minimum, *value, c.input(2), c.output(0));
        },
    .gradient = clamp_gradient,
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 7}, {5, 7}, {7}}}, {.shapes = {{5, 3}, {3}, {}}}, {.shapes = {{0, 3}, {}, {3}}}};
        },
};

constexpr const OpDef* kFamily[] = {
    &kEq,       &kNe,       &kLt,         &kLe,        &kGt,         &kGe,      &kEqScalar, &kNeScalar,   &kLtScalar,         &kLeScalar,
    &kGtScalar, &kGeScalar, &kLogicalAnd, &kLogicalOr, &kLogicalXor, &kIsClose, &kWhere,    &kMaskedFill, &kMaskedFillTensor, &kClampTensor};

DTensor select(const DTensor& condition, const DTensor* input, const DTensor* other, Attribute input_value, Attribute other_value) {
  const Input inputs[3] = {condition, input, other};
  const Attribute attributes[2] = {input_value, other_value};
  return call_all(kWhere, inputs, attributes)[0];
}

}  // namespace

namespace ops {
OpList compare_ops() { return kFamily; }
}  // namespace ops

DTensor clamp(const DTensor& input, const DTensor& min, const DTensor& max) {
  if (!min && !max) return input;
  const Input inputs[3] = {input, min, max};
  return call_all(kClampTensor, inputs)[0];
}
DTensor eq(const DTensor& input, const DTensor& other) { return call(kEq, {input, other}); }
DTensor eq(const DTensor& input, const Scalar& other) { return call(kEqScalar, {input}, {other}); }
DTensor ne(const DTensor& input, const DTensor& other) { return call(kNe, {input, other}); }
DTensor ne(const DTensor& input, const Scalar& other) { return call(kNeScalar, {input}, {other}); }
DTensor lt(const DTensor& input, const DTensor& other) { return call(kLt, {input, other}); }
DTensor lt(const DTensor& input, const Scalar& other) { return call(kLtScalar, {input}, {other}); }
DTensor le(const DTensor& input, const DTensor& other) { return call(kLe, {input, other}); }
DTensor le(const DTensor& input, const Scalar& other) { return call(kLeScalar, {input}, {other}); }
DTensor gt(const DTensor& input, const DTensor& other) { return call(kGt, {input, other}); }
DTensor gt(const DTensor& input, const Scalar& other) { return call(kGtScalar, {input}, {other}); }
DTensor ge(const DTensor& input, const DTensor& other) { return call(kGe, {input, other}); }
DTensor ge(const DTensor& input, const Scalar& other) { return call(kGeScalar, {input}, {other}); }
DTensor logical_and(const DTensor& input, const DTensor& other) { return call(kLogicalAnd, {input, other}); }
DTensor logical_or(const DTensor& input, const DTensor& other) { return call(kLogicalOr, {input, other}); }
DTensor logical_xor(const DTensor& input, const DTensor& other) { return call(kLogicalXor, {input, other}); }
DTensor isclose(const DTensor& input, const DTensor& other, const IsCloseOptions& o) {
  return call(kIsClose, {input, other}, {o.rtol, o.atol, o.equal_nan});
}
DTensor where(const DTensor& condition, const DTensor& input, const DTensor& other) { return select(condition, &input, &other, {}, {}); }
DTensor where(const DTensor& condition, const DTensor& input, const Scalar& other) { return select(condition, &input, nullptr, {}, other); }
DTensor where(const DTensor& condition, const Scalar& input, const DTensor& other) { return select(condition, nullptr, &other, input, {}); }
DTensor where(const DTensor& condition, const Scalar& input, const Scalar& other) { return select(condition, nullptr, nullptr, input, other); }
DTensor masked_fill(const DTensor& input, const DTensor& mask, const Scalar& value) { return call(kMaskedFill, {input, mask}, {value}); }
DTensor masked_fill(const DTensor& input, const DTensor& mask, const DTensor& value) {
  if (value.ndim() != 0) throw InvalidArgument("masked_fill: value has dimensions (" + to_string(value) + "); give a number or a tensor of shape []");
  return where(mask, value.dtype() == input.dtype() ? value : value.to(input.dtype()), input);
}

}  // namespace dtensor
