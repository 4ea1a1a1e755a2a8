// SPDX-License-Identifier: Apache-2.0
#include "dtensor/ops/inplace.h"

#include <cstdint>
#include <limits>

#include "local/cpu/map.h"
#include "local/kernels/activations.h"
#include "local/kernels/binary.h"
#include "local/kernels/map.h"
#include "local/kernels/pointwise.h"
#include "ops/elementwise.h"

namespace dtensor {
namespace {

namespace cpu = local::cpu;
namespace kernels = local::kernels;
using cpu::Binary;
using cpu::Compare;
using cpu::Elementary;
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
void sum_kernel(const KernelCall& c) {
  const Scalar alpha = c.attribute(0).scalar();
  kernels::binary(op, c.input(0), apart(c.input(0), c.input(1)), c.input(0), &alpha);
}
template <Binary op>
void number_sum_kernel(const KernelCall& c) {
  const Scalar alpha = c.attribute(1).scalar();
  kernels::binary(op, c.input(0), c.attribute(0).scalar(), c.input(0), &alpha);
}
template <Binary op>
void two_kernel(const KernelCall& c) {
  kernels::binary(op, c.input(0), apart(c.input(0), c.input(1)), c.input(0));
}
template <Binary op>
void number_kernel(const KernelCall& c) {
  kernels::binary(op, c.input(0), c.attribute(0).scalar(), c.input(0));
}
template <Ternary op>
void value_kernel(const KernelCall& c) {
  const Scalar value = c.attribute(0).scalar();
  const Tensor& self = c.input(0);
  kernels::ternary(op, self, apart(self, c.input(1)), apart(self, c.input(2)), self, &value);
}
template <Unary op>
void unary_kernel(const KernelCall& c) {
  kernels::unary(op, c.input(0), c.input(0));
}

using Kernel = void (*)(const KernelCall&);
using Gradient = Gradients (*)(const GradientCall&);
constexpr OpDef sum_op(std::string_view name, Kernel kernel, Gradient gradient) {
  return {.name = name,
          .signature = "self!, other, *, alpha: number = 1 -> self",
          .rule = "..., ... -> ...    linear",
          .dtypes = "any",
          .shape = ops::written_type,
          .kernel = kernel,
          .gradient = gradient,
          .samples = two_samples};
}
constexpr OpDef number_sum_op(std::string_view name, Kernel kernel) {
  return {.name = name,
          .signature = "self!, *, other: number, alpha: number = 1 -> self",
          .rule = kOne,
          .dtypes = "any",
          .shape = number_type,
          .kernel = kernel,
          .gradient = [](const GradientCall& g) -> Gradients { return {g.grad_output(0)}; },
          .samples = other_samples};
}
constexpr OpDef unary_op(std::string_view name, std::string_view rule, Kernel kernel, void (*shape)(ShapeCall&)) {
  return {.name = name, .signature = "self! -> self", .rule = rule, .dtypes = "number", .shape = shape, .kernel = kernel, .samples = one_samples};
}

constexpr OpDef kAdd = sum_op("add_", sum_kernel<Binary::add>, [](const GradientCall& g) -> Gradients {
  return {g.grad_output(0), g.needs(1) ? gradient_for(g, 1, g.grad_output(0) * g.attribute(0).scalar()) : DTensor()};
});
constexpr OpDef kSub = sum_op("sub_", sum_kernel<Binary::sub>, [](const GradientCall& g) -> Gradients {
  return {g.grad_output(0), g.needs(1) ? gradient_for(g, 1, neg(g.grad_output(0) * g.attribute(0).scalar())) : DTensor()};
});
constexpr OpDef kAddScalar = number_sum_op("add_.scalar", number_sum_kernel<Binary::add>);
constexpr OpDef kSubScalar = number_sum_op("sub_.scalar", number_sum_kernel<Binary::sub>);
constexpr OpDef kMul{.name = "mul_",
                     .signature = "self!, other -> self",
                     .rule = "..., ... -> ...    linear 1",
                     .dtypes = "any",
                     .shape = ops::written_type,
                     .kernel = two_kernel<Binary::mul>,
                     .samples = two_samples};
constexpr OpDef kDiv{.name = "div_",
                     .signature = "self!, other -> self",
                     .rule = "..., ... -> ...    linear 1",
                     .dtypes = "any",
                     .shape = real_type,
                     .kernel = two_kernel<Binary::div>,
                     .samples = two_samples};
constexpr OpDef kMulScalar{.name = "mul_.scalar",
                           .signature = "self!, *, other: number -> self",
                           .rule = "... -> ...    linear",
                           .dtypes = "any",
                           .shape = number_type,
                           .kernel = number_kernel<Binary::mul>,
                           .gradient = [](const GradientCall& g) -> Gradients { return {g.grad_output(0) * g.attribute(0).scalar()}; },
                           .samples = other_samples};
constexpr OpDef kDivScalar{.name = "div_.scalar",
                           .signature = "self!, *, other: number -> self",
                           .rule = "... -> ...    linear",
                           .dtypes = "any",
                           .shape = real_type,
                           .kernel = number_kernel<Binary::div>,
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
    .kernel = [](const KernelCall& c) { kernels::convert(apart(c.input(0), c.input(1)), c.input(0)); },
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
                      .kernel = [](const KernelCall& c) { kernels::fill(c.input(0), c.attribute(0).scalar()); },
                      .gradient = ops::zero_gradient,
                      .samples = value_samples};
constexpr OpDef kZero{.name = "zero_",
                      .signature = "self! -> self",
                      .rule = "... -> ...    linear",
                      .dtypes = "any",
                      .shape = ops::same_type,
                      .kernel = [](const KernelCall& c) { kernels::fill(c.input(0), Scalar(0)); },
                      .gradient = ops::zero_gradient,
                      .samples = one_samples};
constexpr OpDef kAddcmul{.name = "addcmul_",
                         .signature = "self!, tensor1, tensor2, *, value: number = 1 -> self",
                         .rule = "..., ..., ... -> ...",
                         .dtypes = "number",
                         .shape = ops::written_type,
                         .kernel = value_kernel<Ternary::addcmul>,
                         .samples = three_samples};
constexpr OpDef kAddcdiv{.name = "addcdiv_",
                         .signature = "self!, tensor1, tensor2, *, value: number = 1 -> self",
                         .rule = "..., ..., ... -> ...",
                         .dtypes = "floating",
                         .shape = real_type,
                         .kernel = value_kernel<Ternary::addcdiv>,
                         .samples = three_samples};
constexpr OpDef kLerp{
    .name = "lerp_",
    .signature = "self!, end, *, weight: float -> self",
    .rule = "..., ... -> ...    linear",
    .dtypes = "floating",
    .shape = real_type,
    .kernel =
        [](const KernelCall& c) { kernels::ternary(Ternary::lerp, c.input(0), apart(c.input(0), c.input(1)), c.attribute(0).scalar(), c.input(0)); },
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
                       .kernel =
                           [](const KernelCall& c) {
                             const bool floating = info(c.input(0).dtype()).floating;
                             constexpr double kInfinity = std::numeric_limits<double>::infinity();
                             using Limits = std::numeric_limits<std::int64_t>;
                             const Attribute &min = c.attribute(0), &max = c.attribute(1);
                             const Scalar low = !min.is_none() ? min.scalar() : floating ? Scalar(-kInfinity) : Scalar(Limits::min());
                             const Scalar high = !max.is_none() ? max.scalar() : floating ? Scalar(kInfinity) : Scalar(Limits::max());
                             kernels::ternary(Ternary::clamp, c.input(0), low, high, c.input(0));
                           },
                       .samples =
                           [] {
                             return std::vector<Sample>{{.shapes = {{5, 7}}, .attributes = {{"min", "-0.5"}, {"max", "1"}}},
                                                        {.shapes = {{0}}, .attributes = {{"max", "0"}}}};
                           }};
constexpr OpDef kRelu = unary_op("relu_", "... -> ...    monotone", unary_kernel<Unary::relu>, ops::same_type);
constexpr OpDef kNeg = unary_op("neg_", "... -> ...    linear", unary_kernel<Unary::neg>, ops::same_type);
constexpr OpDef kSqrt = unary_op("sqrt_", kOne, unary_kernel<Unary::sqrt>, real_type);
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
    .kernel = [](const KernelCall& c) { kernels::where(apart(c.input(0), c.input(1)), c.attribute(0).scalar(), c.input(0), c.input(0)); },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 7}, {7}}, .attributes = {{"value", "10"}}, .dtypes = {Dtype::f32, Dtype::boolean}}};
        }};

// ---- forms of ops that have no gradient of their own here
constexpr std::string_view kIncreasing = "... -> ...    monotone";
template <Elementary op>
void elementary_kernel(const KernelCall& c) {
  kernels::elementary(op, c.input(0), c.input(0));
}
template <Binary op>
void checked_two_kernel(const KernelCall& c) {
  ops::run_checked(c, [&c] { two_kernel<op>(c); });
}
template <Binary op>
void checked_number_kernel(const KernelCall& c) {
  ops::run_checked(c, [&c] { number_kernel<op>(c); });
}
// 0 and 1 in self's dtype.
template <Compare op>
void flags_kernel(const KernelCall& c) {
  const Tensor &self = c.input(0), &other = c.input(1);
  const Tensor flags = Tensor::empty(self.shape(), Dtype::boolean, self.device());
  kernels::compare(op, self, other, cpu::compute_type(ops::promote_operands(self, other)), flags);
  kernels::convert(flags, self);
}
void flags_type(ShapeCall& s) {
  if (!(ops::broadcast_shape(s, 0, 2) == s.input(0).shape))
    s.fail("the operand does not broadcast to self (" + s.describe(0) + ", " + s.describe(1) + "); reshape or expand it");
  s.output(0) = s.input(0);
}
void whole_type(ShapeCall& s) {
  ops::written_type(s);
  for (int i = 0; i < 2; ++i)
    if (info(s.input(i).dtype).floating) s.fail("integers and bool have bits (" + s.describe(i) + "); convert with to()");
}
std::vector<Sample> whole_samples() {
  std::vector<Sample> samples = two_samples();
  for (Sample& s : samples) s.dtypes = {Dtype::i64, Dtype::i64};
  return samples;
}
std::vector<Sample> exponent_samples() { return with_number("exponent"); }
constexpr OpDef two_op(std::string_view name, std::string_view signature, Kernel kernel, void (*shape)(ShapeCall&), std::string_view dtypes) {
  return {.name = name,
          .signature = signature,
          .rule = kTwo,
          .dtypes = dtypes,
          .shape = shape,
          .kernel = kernel,
          .samples = shape == whole_type ? whole_samples : two_samples};
}
constexpr OpDef one_number_op(std::string_view name, std::string_view signature, Kernel kernel, std::vector<Sample> (*samples)()) {
  return {.name = name, .signature = signature, .rule = kOne, .dtypes = "number", .shape = number_type, .kernel = kernel, .samples = samples};
}
constexpr OpDef kAbs = unary_op("abs_", kOne, unary_kernel<Unary::abs>, ops::same_type);
constexpr OpDef kSign = unary_op("sign_", kIncreasing, unary_kernel<Unary::sign>, ops::same_type);
constexpr OpDef kSquare = unary_op("square_", kOne, unary_kernel<Unary::square>, ops::same_type);
constexpr OpDef kFloor = unary_op("floor_", kIncreasing, unary_kernel<Unary::floor>, ops::same_type);
constexpr OpDef kCeil = unary_op("ceil_", kIncreasing, unary_kernel<Unary::ceil>, ops::same_type);
constexpr OpDef kTrunc = unary_op("trunc_", kIncreasing, unary_kernel<Unary::trunc>, ops::same_type);
constexpr OpDef kRound = unary_op("round_", kIncreasing, unary_kernel<Unary::round>, ops::same_type);
constexpr OpDef kExp = unary_op("exp_", kIncreasing, unary_kernel<Unary::exp>, real_type);
constexpr OpDef kExpm1 = unary_op("expm1_", kIncreasing, unary_kernel<Unary::expm1>, real_type);
constexpr OpDef kLog = unary_op("log_", kOne, unary_kernel<Unary::log>, real_type);
constexpr OpDef kLog1p = unary_op("log1p_", kOne, unary_kernel<Unary::log1p>, real_type);
constexpr OpDef kLog2 = unary_op("log2_", kOne, unary_kernel<Unary::log2>, real_type);
constexpr OpDef kRsqrt = unary_op("rsqrt_", kOne, unary_kernel<Unary::rsqrt>, real_type);
constexpr OpDef kReciprocal = unary_op("reciprocal_", kOne, unary_kernel<Unary::reciprocal>, real_type);
constexpr OpDef kSin = unary_op("sin_", kOne, unary_kernel<Unary::sin>, real_type);
constexpr OpDef kCos = unary_op("cos_", kOne, unary_kernel<Unary::cos>, real_type);
constexpr OpDef kTan = unary_op("tan_", kOne, unary_kernel<Unary::tan>, real_type);
constexpr OpDef kTanh = unary_op("tanh_", kIncreasing, unary_kernel<Unary::tanh>, real_type);
constexpr OpDef kSigmoid = unary_op("sigmoid_", kIncreasing, unary_kernel<Unary::sigmoid>, real_type);
constexpr OpDef kErf = unary_op("erf_", kIncreasing, unary_kernel<Unary::erf>, real_type);
constexpr OpDef kSilu = unary_op("silu_", kOne, unary_kernel<Unary::silu>, real_type);
constexpr OpDef kAsin = unary_op("asin_", kOne, elementary_kernel<Elementary::asin>, real_type);
constexpr OpDef kAcos = unary_op("acos_", kOne, elementary_kernel<Elementary::acos>, real_type);
constexpr OpDef kAtan = unary_op("atan_", kIncreasing, elementary_kernel<Elementary::atan>, real_type);
constexpr OpDef kSinh = unary_op("sinh_", kIncreasing, elementary_kernel<Elementary::sinh>, real_type);
constexpr OpDef kCosh = unary_op("cosh_", kOne, elementary_kernel<Elementary::cosh>, real_type);
constexpr OpDef kAsinh = unary_op("asinh_", kIncreasing, elementary_kernel<Elementary::asinh>, real_type);
constexpr OpDef kAcosh = unary_op("acosh_", kOne, elementary_kernel<Elementary::acosh>, real_type);
constexpr OpDef kAtanh = unary_op("atanh_", kOne, elementary_kernel<Elementary::atanh>, real_type);
constexpr OpDef kErfc = unary_op("erfc_", kOne, elementary_kernel<Elementary::erfc>, real_type);
constexpr OpDef kErfinv = unary_op("erfinv_", kOne, elementary_kernel<Elementary::erfinv>, real_type);
constexpr OpDef kExp2 = unary_op("exp2_", kIncreasing, elementary_kernel<Elementary::exp2>, real_type);
constexpr OpDef kLog10 = unary_op("log10_", kOne, elementary_kernel<Elementary::log10>, real_type);
constexpr OpDef kFrac = unary_op("frac_", kOne, elementary_kernel<Elementary::frac>, real_type);
constexpr OpDef kSinc = unary_op("sinc_", kOne, elementary_kernel<Elementary::sinc>, real_type);
constexpr OpDef kLgamma = unary_op("lgamma_", kOne, elementary_kernel<Elementary::lgamma>, real_type);
constexpr OpDef kDigamma = unary_op("digamma_", kOne, elementary_kernel<Elementary::digamma>, real_type);
constexpr OpDef kPow = two_op("pow_", "self!, exponent -> self", checked_two_kernel<Binary::pow>, ops::written_type, "number");
constexpr OpDef kPowScalar = one_number_op("pow_.scalar", "self!, *, exponent: number -> self", checked_number_kernel<Binary::pow>, exponent_samples);
constexpr OpDef kRemainder = two_op("remainder_", "self!, other -> self", checked_two_kernel<Binary::remainder>, ops::written_type, "number");
constexpr OpDef kRemainderScalar =
    one_number_op("remainder_.scalar", "self!, *, other: number -> self", checked_number_kernel<Binary::remainder>, other_samples);
constexpr OpDef kFmod = two_op("fmod_", "self!, other -> self", checked_two_kernel<Binary::fmod>, ops::written_type, "number");
constexpr OpDef kFmodScalar = one_number_op("fmod_.scalar", "self!, *, other: number -> self", checked_number_kernel<Binary::fmod>, other_samples);
constexpr OpDef kFloorDivide = two_op("floor_divide_", "self!, other -> self", checked_two_kernel<Binary::div_floor>, ops::written_type, "number");
constexpr OpDef kFloorDivideScalar =
    one_number_op("floor_divide_.scalar", "self!, *, other: number -> self", checked_number_kernel<Binary::div_floor>, other_samples);
constexpr OpDef kAtan2 = two_op("atan2_", "self!, other -> self", checked_two_kernel<Binary::atan2>, real_type, "number");
constexpr OpDef kBitwiseAnd = two_op("bitwise_and_", "self!, other -> self", checked_two_kernel<Binary::bitwise_and>, whole_type, "any");
constexpr OpDef kBitwiseOr = two_op("bitwise_or_", "self!, other -> self", checked_two_kernel<Binary::bitwise_or>, whole_type, "any");
constexpr OpDef kBitwiseXor = two_op("bitwise_xor_", "self!, other -> self", checked_two_kernel<Binary::bitwise_xor>, whole_type, "any");
constexpr OpDef kEq = two_op("eq_", "self!, other -> self", flags_kernel<Compare::eq>, flags_type, "any");
constexpr OpDef kNe = two_op("ne_", "self!, other -> self", flags_kernel<Compare::ne>, flags_type, "any");
constexpr OpDef kLt = two_op("lt_", "self!, other -> self", flags_kernel<Compare::lt>, flags_type, "any");
constexpr OpDef kLe = two_op("le_", "self!, other -> self", flags_kernel<Compare::le>, flags_type, "any");
constexpr OpDef kGt = two_op("gt_", "self!, other -> self", flags_kernel<Compare::gt>, flags_type, "any");
constexpr OpDef kGe = two_op("ge_", "self!, other -> self", flags_kernel<Compare::ge>, flags_type, "any");
constexpr OpDef kLogicalAnd = two_op("logical_and_", "self!, other -> self", flags_kernel<Compare::logical_and>, flags_type, "any");
constexpr OpDef kLogicalOr = two_op("logical_or_", "self!, other -> self", flags_kernel<Compare::logical_or>, flags_type, "any");
constexpr OpDef kLogicalXor = two_op("logical_xor_", "self!, other -> self", flags_kernel<Compare::logical_xor>, flags_type, "any");

constexpr const OpDef* kFamily[] = {&kAbs,
                                    &kSign,
                                    &kSquare,
                                    &kFloor,
                                    &kCeil,
                                    &kTrunc,
                                    &kRound,
                                    &kExp,
                                    &kExpm1,
                                    &kLog,
                                    &kLog1p,
                                    &kLog2,
                                    &kRsqrt,
                                    &kReciprocal,
                                    &kSin,
                                    &kCos,
                                    &kTan,
                                    &kTanh,
                                    &kSigmoid,
                                    &kErf,
                                    &kSilu,
                                    &kAsin,
                                    &kAcos,
                                    &kAtan,
                                    &kSinh,
                                    &kCosh,
                                    &kAsinh,
                                    &kAcosh,
                                    &kAtanh,
                                    &kErfc,
                                    &kErfinv,
                                    &kExp2,
                                    &kLog10,
                                    &kFrac,
                                    &kSinc,
                                    &kLgamma,
                                    &kDigamma,
                                    &kPow,
                                    &kPowScalar,
                                    &kRemainder,
                                    &kRemainderScalar,
                                    &kFmod,
                                    &kFmodScalar,
                                    &kFloorDivide,
                                    &kFloorDivideScalar,
                                    &kAtan2,
                                    &kBitwiseAnd,
                                    &kBitwiseOr,
                                    &kBitwiseXor,
                                    &kEq,
                                    &kNe,
                                    &kLt,
                                    &kLe,
                                    &kGt,
                                    &kGe,
                                    &kLogicalAnd,
                                    &kLogicalOr,
                                    &kLogicalXor,
                                    &kAdd,
                                    &kSub,
                                    &kAddScalar,
                                    &kSubScalar,
                                    &kMul,
                                    &kDiv,
                                    &kMulScalar,
                                    &kDivScalar,
                                    &kCopy,
                                    &kFill,
                                    &kZero,
                                    &kAddcmul,
                                    &kAddcdiv,
                                    &kLerp,
                                    &kClamp,
                                    &kRelu,
                                    &kNeg,
                                    &kSqrt,
                                    &kMaskedFill};

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
DTensor abs_(const DTensor& self) { return call(kAbs, {self}); }
DTensor sign_(const DTensor& self) { return call(kSign, {self}); }
DTensor square_(const DTensor& self) { return call(kSquare, {self}); }
DTensor floor_(const DTensor& self) { return call(kFloor, {self}); }
DTensor ceil_(const DTensor& self) { return call(kCeil, {self}); }
DTensor trunc_(const DTensor& self) { return call(kTrunc, {self}); }
DTensor round_(const DTensor& self) { return call(kRound, {self}); }
DTensor exp_(const DTensor& self) { return call(kExp, {self}); }
DTensor expm1_(const DTensor& self) { return call(kExpm1, {self}); }
DTensor log_(const DTensor& self) { return call(kLog, {self}); }
DTensor log1p_(const DTensor& self) { return call(kLog1p, {self}); }
DTensor log2_(const DTensor& self) { return call(kLog2, {self}); }
DTensor rsqrt_(const DTensor& self) { return call(kRsqrt, {self}); }
DTensor reciprocal_(const DTensor& self) { return call(kReciprocal, {self}); }
DTensor sin_(const DTensor& self) { return call(kSin, {self}); }
DTensor cos_(const DTensor& self) { return call(kCos, {self}); }
DTensor tan_(const DTensor& self) { return call(kTan, {self}); }
DTensor tanh_(const DTensor& self) { return call(kTanh, {self}); }
DTensor sigmoid_(const DTensor& self) { return call(kSigmoid, {self}); }
DTensor erf_(const DTensor& self) { return call(kErf, {self}); }
DTensor silu_(const DTensor& self) { return call(kSilu, {self}); }
DTensor asin_(const DTensor& self) { return call(kAsin, {self}); }
DTensor acos_(const DTensor& self) { return call(kAcos, {self}); }
DTensor atan_(const DTensor& self) { return call(kAtan, {self}); }
DTensor sinh_(const DTensor& self) { return call(kSinh, {self}); }
DTensor cosh_(const DTensor& self) { return call(kCosh, {self}); }
DTensor asinh_(const DTensor& self) { return call(kAsinh, {self}); }
DTensor acosh_(const DTensor& self) { return call(kAcosh, {self}); }
DTensor atanh_(const DTensor& self) { return call(kAtanh, {self}); }
DTensor erfc_(const DTensor& self) { return call(kErfc, {self}); }
DTensor erfinv_(const DTensor& self) { return call(kErfinv, {self}); }
DTensor exp2_(const DTensor& self) { return call(kExp2, {self}); }
DTensor log10_(const DTensor& self) { return call(kLog10, {self}); }
DTensor frac_(const DTensor& self) { return call(kFrac, {self}); }
DTensor sinc_(const DTensor& self) { return call(kSinc, {self}); }
DTensor lgamma_(const DTensor& self) { return call(kLgamma, {self}); }
DTensor digamma_(const DTensor& self) { return call(kDigamma, {self}); }
DTensor pow_(const DTensor& self, const DTensor& exponent) { return call(kPow, {self, exponent}); }
DTensor pow_(const DTensor& self, const Scalar& exponent) { return call(kPowScalar, {self}, {exponent}); }
DTensor remainder_(const DTensor& self, const DTensor& other) { return call(kRemainder, {self, other}); }
DTensor remainder_(const DTensor& self, const Scalar& other) { return call(kRemainderScalar, {self}, {other}); }
DTensor fmod_(const DTensor& self, const DTensor& other) { return call(kFmod, {self, other}); }
DTensor fmod_(const DTensor& self, const Scalar& other) { return call(kFmodScalar, {self}, {other}); }
DTensor floor_divide_(const DTensor& self, const DTensor& other) { return call(kFloorDivide, {self, other}); }
DTensor floor_divide_(const DTensor& self, const Scalar& other) { return call(kFloorDivideScalar, {self}, {other}); }
DTensor atan2_(const DTensor& self, const DTensor& other) { return call(kAtan2, {self, other}); }
DTensor bitwise_and_(const DTensor& self, const DTensor& other) { return call(kBitwiseAnd, {self, other}); }
DTensor bitwise_or_(const DTensor& self, const DTensor& other) { return call(kBitwiseOr, {self, other}); }
DTensor bitwise_xor_(const DTensor& self, const DTensor& other) { return call(kBitwiseXor, {self, other}); }
DTensor eq_(const DTensor& self, const DTensor& other) { return call(kEq, {self, other}); }
DTensor ne_(const DTensor& self, const DTensor& other) { return call(kNe, {self, other}); }
DTensor lt_(const DTensor& self, const DTensor& other) { return call(kLt, {self, other}); }
DTensor le_(const DTensor& self, const DTensor& other) { return call(kLe, {self, other}); }
DTensor gt_(const DTensor& self, const DTensor& other) { return call(kGt, {self, other}); }
DTensor ge_(const DTensor& self, const DTensor& other) { return call(kGe, {self, other}); }
DTensor logical_and_(const DTensor& self, const DTensor& other) { return call(kLogicalAnd, {self, other}); }
DTensor logical_or_(const DTensor& self, const DTensor& other) { return call(kLogicalOr, {self, other}); }
DTensor logical_xor_(const DTensor& self, const DTensor& other) { return call(kLogicalXor, {self, other}); }
DTensor masked_fill_(const DTensor& self, const DTensor& mask, const Scalar& value) { return call(kMaskedFill, {self, mask}, {value}); }

}  // namespace dtensor
