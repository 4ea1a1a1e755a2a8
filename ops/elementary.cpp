// SPDX-License-Identifier: Apache-2.0
#include "dtensor/ops/elementary.h"

#include <array>
#include <limits>

#include "dtensor/op.h"
#include "dtensor/ops/compare.h"
#include "dtensor/ops/pointwise.h"
#include "local/cpu/map.h"
#include "local/kernels/activations.h"
#include "local/kernels/map.h"
#include "ops/composite.h"
#include "ops/elementwise.h"

namespace dtensor {
namespace {

namespace cpu = local::cpu;
namespace kernels = local::kernels;
using cpu::Elementary;
using cpu::Pair;
using Gradients = std::vector<DTensor>;
using ops::gradient_for;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kLog2 = 0.69314718055994530942, kLog10 = 2.30258509299404568402, kPi = 3.14159265358979323846;
constexpr double kTwoOverRootPi = 1.12837916709551257390;

std::vector<Sample> between(double low, double high) {
  return {{.shapes = {{5, 7}}, .low = low, .high = high},
          {.shapes = {{0, 3}}, .low = low, .high = high},
          {.shapes = {{1}}, .low = low, .high = high},
          {.shapes = {{}}, .low = low, .high = high},
          {.shapes = {{4, 2, 3}}, .dtypes = {Dtype::f64}, .low = low, .high = high}};
}
std::vector<Sample> any_samples() { return between(-2, 2); }
std::vector<Sample> inside_samples() { return between(-0.9, 0.9); }
std::vector<Sample> positive_samples() { return between(0.2, 3); }
std::vector<Sample> share_samples() { return between(0.05, 0.95); }

// One number to one number; the gradient times `slope` of (input, result).
template <Elementary kind, DTensor (*slope)(const DTensor& input, const DTensor& out)>
constexpr OpDef unary_op(std::string_view name, std::string_view saves, bool increasing, std::vector<Sample> (*samples)()) {
  return {.name = name,
          .signature = "input -> out",
          .rule = increasing ? "... -> ...    monotone" : "... -> ...",
          .saves = saves,
          .dtypes = "any",
          .shape = ops::floating_type,
          .kernel = [](const KernelCall& c) { kernels::elementary(kind, c.input(0), c.output(0)); },
          .gradient = [](const GradientCall& g) -> Gradients {
            const DTensor none;
            const bool has_input = !g.inputs_.empty() && g.inputs_[0], has_output = !g.outputs_.empty() && g.outputs_[0];
            return {mul(g.grad_output(0), slope(has_input ? g.input(0) : none, has_output ? g.output(0) : none))};
          },
          .samples = samples};
}
using T = const DTensor&;
DTensor asin_slope(T x, T) { return rsqrt(1 - square(x)); }
DTensor acos_slope(T x, T) { return neg(rsqrt(1 - square(x))); }
DTensor atan_slope(T x, T) { return reciprocal(square(x) + 1); }
DTensor sinh_slope(T x, T) { return cosh(x); }
DTensor cosh_slope(T x, T) { return sinh(x); }
DTensor asinh_slope(T x, T) { return rsqrt(square(x) + 1); }
DTensor acosh_slope(T x, T) { return rsqrt(square(x) - 1); }
DTensor atanh_slope(T x, T) { return reciprocal(1 - square(x)); }
DTensor erfc_slope(T x, T) { return exp(neg(square(x))) * -kTwoOverRootPi; }
DTensor erfinv_slope(T, T y) { return exp(square(y)) / kTwoOverRootPi; }
DTensor exp2_slope(T, T y) { return y * kLog2; }
DTensor log10_slope(T x, T) { return reciprocal(x * kLog10); }
DTensor sinc_slope(T x, T y) { return where(eq(x, 0), 0, (cos(x * kPi) - y) / x); }
DTensor lgamma_slope(T x, T) { return digamma(x); }
DTensor digamma_slope(T x, T) { return polygamma(1, x); }

constexpr OpDef kAsin = unary_op<Elementary::asin, asin_slope>("asin", "input", false, inside_samples);
constexpr OpDef kAcos = unary_op<Elementary::acos, acos_slope>("acos", "input", false, inside_samples);
constexpr OpDef kAtan = unary_op<Elementary::atan, atan_slope>("atan", "input", true, any_samples);
constexpr OpDef kSinh = unary_op<Elementary::sinh, sinh_slope>("sinh", "input", true, any_samples);
constexpr OpDef kCosh = unary_op<Elementary::cosh, cosh_slope>("cosh", "input", false, any_samples);
constexpr OpDef kAsinh = unary_op<Elementary::asinh, asinh_slope>("asinh", "input", true, any_samples);
constexpr OpDef kAcosh = unary_op<Elementary::acosh, acosh_slope>("acosh", "input", false, [] { return between(1.2, 4); });
constexpr OpDef kAtanh = unary_op<Elementary::atanh, atanh_slope>("atanh", "input", false, inside_samples);
constexpr OpDef kErfc = unary_op<Elementary::erfc, erfc_slope>("erfc", "input", false, any_samples);
constexpr OpDef kErfinv = unary_op<Elementary::erfinv, erfinv_slope>("erfinv", "out", false, inside_samples);
constexpr OpDef kExp2 = unary_op<Elementary::exp2, exp2_slope>("exp2", "out", true, any_samples);
constexpr OpDef kLog10Op = unary_op<Elementary::log10, log10_slope>("log10", "input", false, positive_samples);
constexpr OpDef kSinc = unary_op<Elementary::sinc, sinc_slope>("sinc", "input, out", false, [] { return between(0.3, 2); });
constexpr OpDef kLgamma = unary_op<Elementary::lgamma, lgamma_slope>("lgamma", "input", false, positive_samples);
constexpr OpDef kDigamma = unary_op<Elementary::digamma, digamma_slope>("digamma", "input", false, positive_samples);
constexpr OpDef kPolygamma{
    .name = "polygamma",
    .signature = "input, *, n: int -> out",
    .rule = "... -> ...",
    .saves = "input",
    .dtypes = "any",
    .shape =
        [](ShapeCall& s) {
          if (s.attribute(0).as_int() < 0) s.fail("n is negative (" + std::to_string(s.attribute(0).as_int()) + "); give 0, 1, 2, ...");
          ops::floating_type(s);
        },
    .kernel =
        [](const KernelCall& c) {
          const Scalar n = c.attribute(0).scalar();
          kernels::elementary(Elementary::polygamma, c.input(0), c.output(0), &n);
        },
    .gradient = [](const GradientCall& g) -> Gradients {
      return {mul(g.grad_output(0), polygamma(static_cast<int>(g.attribute(0).as_int()) + 1, g.input(0)))};
    },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 7}}, .attributes = {{"n", "1"}}, .low = 0.3},
                                     {.shapes = {{3}}, .attributes = {{"n", "0"}}, .low = 0.3},
                                     {.shapes = {{0, 2}}, .attributes = {{"n", "2"}}, .low = 0.3},
                                     {.shapes = {{4}}, .attributes = {{"n", "3"}}, .low = 0.5}};
        },
};
constexpr OpDef kFrac{
    .name = "frac",
    .signature = "input -> out",
    .rule = "... -> ...",
    .dtypes = "floating",
    .shape = ops::same_type,
    .kernel = [](const KernelCall& c) { kernels::elementary(Elementary::frac, c.input(0), c.output(0)); },
    .gradient = [](const GradientCall& g) -> Gradients { return {g.grad_output(0)}; },
    .samples = any_samples,
};
constexpr OpDef kLogit{
    .name = "logit",
    .signature = "input, *, eps: float? = none -> out",
    .rule = "... -> ...",
    .saves = "input",
    .dtypes = "any",
    .shape = ops::floating_type,
    .kernel =
        [](const KernelCall& c) {
          const bool free = c.attribute(0).is_none();
          const Scalar numbers[2] = {free ? -kInfinity : c.attribute(0).as_double(), free ? kInfinity : 1 - c.attribute(0).as_double()};
          kernels::elementary(Elementary::logit, c.input(0), c.output(0), numbers);
        },
    .gradient = [](const GradientCall& g) -> Gradients {
      const DTensor& x = g.input(0);
      const DTensor grad = g.grad_output(0) / (x * (1 - x));
      if (g.attribute(0).is_none()) return {grad};
      const double eps = g.attribute(0).as_double();
      return {masked_fill(grad, logical_or(lt(x, eps), gt(x, 1 - eps)), 0)};
    },
    .samples =
        [] {
          std::vector<Sample> samples = share_samples();
          samples.push_back({.shapes = {{4, 3}}, .attributes = {{"eps", "0.2"}}, .low = 0.05, .high = 0.95});
          return samples;
        },
};
double largest_of(Dtype dtype) {
  return dtype == Dtype::f64   ? std::numeric_limits<double>::max()
         : dtype == Dtype::f32 ? static_cast<double>(std::numeric_limits<float>::max())
         : dtype == Dtype::f16 ? 65504.0
                               : 3.3895313892515355e38;
}
constexpr OpDef kNanToNum{
    .name = "nan_to_num",
    .signature = "input, *, nan: float = 0.0, posinf: float? = none, neginf: float? = none -> out",
    .rule = "... -> ...",
    .saves = "input",
    .dtypes = "any",
    .shape = ops::same_type,
    .kernel =
        [](const KernelCall& c) {
          const Dtype dtype = c.output(0).dtype();
          if (!info(dtype).floating) {
            kernels::convert(c.input(0), c.output(0));
            return;
          }
          const auto or_else = [&](int i, double other) { return c.attribute(i).is_none() ? Scalar(other) : c.attribute(i).scalar(); };
          const Scalar numbers[3] = {c.attribute(0).scalar(), or_else(1, largest_of(dtype)), or_else(2, -largest_of(dtype))};
          kernels::elementary(Elementary::nan_to_num, c.input(0), c.output(0), numbers);
        },
    .gradient = [](const GradientCall& g) -> Gradients { return {where(isfinite(g.input(0)), g.grad_output(0), 0)}; },
    .samples = any_samples,
    .reasons = "a Partial part may be infinite where the whole is not",
};

// Two numbers to one.
void pair_type(ShapeCall& s) { s.output(0) = {ops::broadcast_shape(s, 0, 2), ops::promote_operands(s.input(0), s.input(1))}; }
void floating_pair_type(ShapeCall& s) {
  pair_type(s);
  s.output(0).dtype = ops::floating_dtype(s.output(0).dtype);
}
void integer_pair_type(ShapeCall& s) {
  pair_type(s);
  if (!info(s.output(0).dtype).integral) s.fail("integers are wanted (" + s.describe(0) + ", " + s.describe(1) + "); convert with to()");
}
std::vector<Sample> pairs() {
  return {{.shapes = {{5, 7}, {5, 7}}, .low = 0.3},
          {.shapes = {{5, 7}, {7}}, .low = 0.3},
          {.shapes = {{4, 1, 3}, {2, 1}}, .low = 0.3},
          {.shapes = {{0, 3}, {3}}, .low = 0.3},
          {.shapes = {{3}, {}}, .low = 0.3}};
}
std::vector<Sample> integer_pairs() {
  return {{.shapes = {{5, 7}, {5, 7}}, .dtypes = {Dtype::i64, Dtype::i64}, .index_limit = 6},
          {.shapes = {{4, 1}, {3}}, .dtypes = {Dtype::i32, Dtype::u8}, .index_limit = 5}};
}
/// The derivatives by both, times the incoming gradient.
struct Slopes {
  DTensor to_input, to_other;
};
template <Pair kind, Slopes (*slopes)(const GradientCall& g, const DTensor& u)>
constexpr OpDef pair_op(std::string_view name, std::string_view saves, void (*shape)(ShapeCall&), std::string_view rule = "..., ... -> ...") {
  return {.name = name,
          .signature = "input, other -> out",
          .rule = rule,
          .saves = saves,
          .dtypes = "any",
          .shape = shape,
          .kernel = [](const KernelCall& c) { kernels::pair(kind, c.input(0), c.input(1), c.output(0)); },
          .gradient = [](const GradientCall& g) -> Gradients {
            const Slopes s = slopes(g, g.grad_output(0));
            return {gradient_for(g, 0, s.to_input), gradient_for(g, 1, s.to_other)};
          },
          .samples = pairs,
          .reasons = "the sign of a Partial operand, or which of two is larger, is not that of its parts"};
}
Slopes xlogy_slopes(const GradientCall& g, T u) {
  const DTensor &a = g.input(0), &b = g.input(1);
  return {g.needs(0) ? u * where(logical_and(eq(a, 0), le(b, 0)), 0, log(b)) : DTensor(), g.needs(1) ? u * a / b : DTensor()};
}
Slopes logaddexp_slopes(const GradientCall& g, T u) {
  return {g.needs(0) ? u * exp(g.input(0) - g.output(0)) : DTensor(), g.needs(1) ? u * exp(g.input(1) - g.output(0)) : DTensor()};
}
Slopes logaddexp2_slopes(const GradientCall& g, T u) {
  return {g.needs(0) ? u * exp2(g.input(0) - g.output(0)) : DTensor(), g.needs(1) ? u * exp2(g.input(1) - g.output(0)) : DTensor()};
}
Slopes hypot_slopes(const GradientCall& g, T u) {
  return {g.needs(0) ? u * (g.input(0) / g.output(0)) : DTensor(), g.needs(1) ? u * (g.input(1) / g.output(0)) : DTensor()};
}
Slopes copysign_slopes(const GradientCall& g, T u) {
  return {g.needs(0) ? where(eq(g.input(0), 0), 0, u * (g.output(0) / g.input(0))) : DTensor(), g.needs(1) ? u * 0 : DTensor()};
}
template <bool larger>
Slopes extreme_slopes(const GradientCall& g, T u) {
  const DTensor &a = g.input(0), &b = g.input(1);
  const DTensor first = logical_or(larger ? ge(a, b) : le(a, b), isnan(b));
  return {where(first, u, 0), where(first, 0, u)};
}
constexpr OpDef kXlogy = pair_op<Pair::xlogy, xlogy_slopes>("xlogy", "input, other", floating_pair_type, "..., ... -> ...    linear 1");
constexpr OpDef kLogaddexp = pair_op<Pair::logaddexp, logaddexp_slopes>("logaddexp", "input, other, out", floating_pair_type);
constexpr OpDef kLogaddexp2 = pair_op<Pair::logaddexp2, logaddexp2_slopes>("logaddexp2", "input, other, out", floating_pair_type);
constexpr OpDef kHypot = pair_op<Pair::hypot, hypot_slopes>("hypot", "input, other, out", floating_pair_type);
constexpr OpDef kCopysign = pair_op<Pair::copysign, copysign_slopes>("copysign", "input, out", floating_pair_type);
constexpr OpDef kFmax = pair_op<Pair::fmax, extreme_slopes<true>>("fmax", "input, other", pair_type);
constexpr OpDef kFmin = pair_op<Pair::fmin, extreme_slopes<false>>("fmin", "input, other", pair_type);

template <Pair kind>
constexpr OpDef integer_op(std::string_view name) {
  return {.name = name,
          .signature = "input, other -> out",
          .rule = "..., ... -> ...",
          .dtypes = "integral",
          .shape = integer_pair_type,
          .kernel = [](const KernelCall& c) { kernels::pair(kind, c.input(0), c.input(1), c.output(0)); },
          .samples = integer_pairs,
          .reasons = "products of Partial integers that happen to agree"};
}
constexpr OpDef kLeftShift = integer_op<Pair::left_shift>("bitwise_left_shift");
constexpr OpDef kRightShift = integer_op<Pair::right_shift>("bitwise_right_shift");
constexpr OpDef kGcd = integer_op<Pair::gcd>("gcd");
constexpr OpDef kLcm = integer_op<Pair::lcm>("lcm");
constexpr OpDef kHeaviside{
    .name = "heaviside",
    .signature = "input, values -> out",
    .rule = "..., ... -> ...",
    .dtypes = "any",
    .shape =
        [](ShapeCall& s) {
          if (s.input(0).dtype != s.input(1).dtype) s.fail("dtypes differ (" + s.describe(0) + ", " + s.describe(1) + "); convert one with to()");
          pair_type(s);
        },
    .kernel = [](const KernelCall& c) { kernels::pair(Pair::heaviside, c.input(0), c.input(1), c.output(0)); },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 7}, {7}}}, {.shapes = {{0}, {1}}}};
        },
    .reasons = "of a Partial `values` a part may be right where no element of input is 0",
};

// Expressions of others.
constexpr OpDef kDeg2rad = ops::composite(
    "deg2rad", "input -> out", "any", ops::floating_type, [](const DecomposeCall& c) -> Results { return {c.input(0) * (kPi / 180)}; }, any_samples);
constexpr OpDef kRad2deg = ops::composite(
    "rad2deg", "input -> out", "any", ops::floating_type, [](const DecomposeCall& c) -> Results { return {c.input(0) * (180 / kPi)}; }, any_samples);
constexpr OpDef kIsposinf = ops::composite(
    "isposinf", "input -> out", "any", ops::boolean_type, [](const DecomposeCall& c) -> Results { return {eq(c.input(0), kInfinity)}; }, any_samples);
constexpr OpDef kIsneginf = ops::composite(
    "isneginf", "input -> out", "any", ops::boolean_type, [](const DecomposeCall& c) -> Results { return {eq(c.input(0), -kInfinity)}; },
    any_samples);
constexpr OpDef kBitwiseNot = ops::composite(
    "bitwise_not", "input -> out", "any",
    [](ShapeCall& s) {
      if (info(s.input(0).dtype).floating) s.fail("bits of floating numbers are not turned (" + s.describe(0) + "); use integers or bool");
      ops::same_type(s);
    },
    [](const DecomposeCall& c) -> Results { return {c.input(0).dtype() == Dtype::boolean ? logical_not(c.input(0)) : rsub(c.input(0), -1)}; },
    [] {
      return std::vector<Sample>{
          {.shapes = {{5, 7}}, .dtypes = {Dtype::i64}}, {.shapes = {{0, 3}}, .dtypes = {Dtype::u8}}, {.shapes = {{4}}, .dtypes = {Dtype::boolean}}};
    });
constexpr OpDef kFloorDivide = ops::composite(
    "floor_divide", "input, other -> out", "number", pair_type,
    [](const DecomposeCall& c) -> Results { return {div(c.input(0), c.input(1), {.rounding_mode = "floor"})}; }, pairs);
constexpr OpDef kTrueDivide = ops::composite(
    "true_divide", "input, other -> out", "any", floating_pair_type, [](const DecomposeCall& c) -> Results { return {div(c.input(0), c.input(1))}; },
    pairs);

constexpr const OpDef* kFamily[] = {&kAsin,    &kAcos,     &kAtan,      &kSinh,       &kCosh,        &kAsinh,      &kAcosh,     &kAtanh,
                                    &kErfc,    &kErfinv,   &kExp2,      &kLog10Op,    &kSinc,        &kLgamma,     &kDigamma,   &kPolygamma,
                                    &kFrac,    &kLogit,    &kNanToNum,  &kXlogy,      &kLogaddexp,   &kLogaddexp2, &kHypot,     &kCopysign,
                                    &kFmax,    &kFmin,     &kLeftShift, &kRightShift, &kGcd,         &kLcm,        &kHeaviside, &kDeg2rad,
                                    &kRad2deg, &kIsposinf, &kIsneginf,  &kBitwiseNot, &kFloorDivide, &kTrueDivide};

}  // namespace

namespace ops {
OpList elementary_ops() { return kFamily; }
}  // namespace ops

DTensor asin(const DTensor& input) { return call(kAsin, {input}); }
DTensor acos(const DTensor& input) { return call(kAcos, {input}); }
DTensor atan(const DTensor& input) { return call(kAtan, {input}); }
DTensor sinh(const DTensor& input) { return call(kSinh, {input}); }
DTensor cosh(const DTensor& input) { return call(kCosh, {input}); }
DTensor asinh(const DTensor& input) { return call(kAsinh, {input}); }
DTensor acosh(const DTensor& input) { return call(kAcosh, {input}); }
DTensor atanh(const DTensor& input) { return call(kAtanh, {input}); }
DTensor erfc(const DTensor& input) { return call(kErfc, {input}); }
DTensor erfinv(const DTensor& input) { return call(kErfinv, {input}); }
DTensor exp2(const DTensor& input) { return call(kExp2, {input}); }
DTensor log10(const DTensor& input) { return call(kLog10Op, {input}); }
DTensor round(const DTensor& input, int decimals) { return call(find_op("round"), {input}, {decimals}); }
DTensor frac(const DTensor& input) { return call(kFrac, {input}); }
DTensor sinc(const DTensor& input) { return call(kSinc, {input}); }
DTensor lgamma(const DTensor& input) { return call(kLgamma, {input}); }
DTensor digamma(const DTensor& input) { return call(kDigamma, {input}); }
DTensor polygamma(int n, const DTensor& input) { return call(kPolygamma, {input}, {n}); }
DTensor logit(const DTensor& input, const LogitOptions& o) { return call(kLogit, {input}, {o.eps}); }
DTensor nan_to_num(const DTensor& input, const NanToNumOptions& o) { return call(kNanToNum, {input}, {o.nan, o.posinf, o.neginf}); }
DTensor deg2rad(const DTensor& input) { return call(kDeg2rad, {input}); }
DTensor rad2deg(const DTensor& input) { return call(kRad2deg, {input}); }
DTensor isposinf(const DTensor& input) { return call(kIsposinf, {input}); }
DTensor isneginf(const DTensor& input) { return call(kIsneginf, {input}); }
DTensor bitwise_not(const DTensor& input) { return call(kBitwiseNot, {input}); }
DTensor xlogy(const DTensor& input, const DTensor& other) { return call(kXlogy, {input, other}); }
DTensor logaddexp(const DTensor& input, const DTensor& other) { return call(kLogaddexp, {input, other}); }
DTensor logaddexp2(const DTensor& input, const DTensor& other) { return call(kLogaddexp2, {input, other}); }
DTensor hypot(const DTensor& input, const DTensor& other) { return call(kHypot, {input, other}); }
DTensor copysign(const DTensor& input, const DTensor& other) { return call(kCopysign, {input, other}); }
DTensor fmax(const DTensor& input, const DTensor& other) { return call(kFmax, {input, other}); }
DTensor fmin(const DTensor& input, const DTensor& other) { return call(kFmin, {input, other}); }
DTensor heaviside(const DTensor& input, const DTensor& values) { return call(kHeaviside, {input, values}); }
DTensor floor_divide(const DTensor& input, const DTensor& other) { return call(kFloorDivide, {input, other}); }
DTensor true_divide(const DTensor& input, const DTensor& other) { return call(kTrueDivide, {input, other}); }
DTensor bitwise_left_shift(const DTensor& input, const DTensor& other) { return call(kLeftShift, {input, other}); }
DTensor bitwise_right_shift(const DTensor& input, const DTensor& other) { return call(kRightShift, {input, other}); }
DTensor gcd(const DTensor& input, const DTensor& other) { return call(kGcd, {input, other}); }
DTensor lcm(const DTensor& input, const DTensor& other) { return call(kLcm, {input, other}); }

}  // namespace dtensor
