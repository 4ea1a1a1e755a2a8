// SPDX-License-Identifier: Apache-2.0
#include "dtensor/ops/pointwise.h"

#include <cmath>
#include <limits>

#include "dtensor/ops/binary.h"
#include "dtensor/ops/compare.h"
#include "local/kernels/binary.h"
#include "local/kernels/pointwise.h"
#include "ops/elementwise.h"

namespace dtensor {
namespace {

namespace cpu = local::cpu;
namespace kernels = local::kernels;
using cpu::Unary;
using cpu::UnaryBackward;
using Gradients = std::vector<DTensor>;

constexpr std::string_view kPass = "... -> ...";
constexpr std::string_view kIncreasing = "... -> ...    monotone";

template <Unary op>
void unary_kernel(const KernelCall& c) {
  kernels::unary(op, c.input(0), c.output(0));
}
template <UnaryBackward op>
void backward_kernel(const KernelCall& c) {
  kernels::unary_backward(op, c.input(0), c.input(1), c.output(0));
}

void backward_type(ShapeCall& s) {
  if (!(s.input(0).shape == s.input(1).shape)) s.fail("shapes differ (" + s.describe(0) + ", " + s.describe(1) + "); both are those of the result");
  s.output(0) = {s.input(0).shape, ops::promote_operands(s.input(0), s.input(1))};
}
std::string_view attribute_text(const Attribute& a, std::string_view fallback) { return a.is_none() ? fallback : a.as_text(); }

std::vector<Sample> any_samples() {
  return {{.shapes = {{5, 7}}}, {.shapes = {{0, 3}}}, {.shapes = {{1}}}, {.shapes = {{}}}, {.shapes = {{4, 2, 3}}, .dtypes = {Dtype::f64}}};
}
std::vector<Sample> positive_samples() {
  return {{.shapes = {{5, 7}}, .low = 0.2, .high = 3},
          {.shapes = {{0, 3}}, .low = 0.2},
          {.shapes = {{1}}, .low = 0.2},
          {.shapes = {{3, 2}}, .dtypes = {Dtype::f64}, .low = 0.2}};
}
std::vector<Sample> backward_samples() { return {{.shapes = {{5, 7}, {5, 7}}}, {.shapes = {{0, 3}, {0, 3}}}, {.shapes = {{1}, {1}}}}; }
std::vector<Sample> swiglu_samples() { return backward_samples(); }

using Kernel = void (*)(const KernelCall&);
using Gradient = Gradients (*)(const GradientCall&);

constexpr OpDef real_op(std::string_view name, std::string_view rule, Kernel kernel, std::string_view saves, Gradient gradient,
                        std::vector<Sample> (*samples)() = any_samples) {
  return {.name = name,
          .signature = "input -> out",
          .rule = rule,
          .saves = saves,
          .dtypes = "any",
          .shape = ops::floating_type,
          .kernel = kernel,
          .gradient = gradient,
          .samples = samples};
}
constexpr OpDef number_op(std::string_view name, std::string_view rule, Kernel kernel, std::string_view saves, Gradient gradient,
                          std::string_view dtypes = "number", void (*shape)(ShapeCall&) = ops::same_type) {
  return {.name = name,
          .signature = "input -> out",
          .rule = rule,
          .saves = saves,
          .dtypes = dtypes,
          .shape = shape,
          .kernel = kernel,
          .gradient = gradient,
          .samples = any_samples};
}
// Powers of bool count in i64.
void square_type(ShapeCall& s) { s.output(0) = {s.input(0).shape, s.input(0).dtype == Dtype::boolean ? Dtype::i64 : s.input(0).dtype}; }
constexpr OpDef predicate_op(std::string_view name, Kernel kernel) {
  return {.name = name,
          .signature = "input -> out",
          .rule = kPass,
          .dtypes = "any",
          .shape = ops::boolean_type,
          .kernel = kernel,
          .samples = any_samples};
}
constexpr OpDef backward_op(std::string_view name, std::string_view signature, Kernel kernel, std::string_view saves, Gradient gradient) {
  return {.name = name,
          .signature = signature,
          .rule = "..., ... -> ...    linear 1",
          .saves = saves,
          .dtypes = "floating",
          .shape = backward_type,
          .kernel = kernel,
          .gradient = gradient,
          .samples = backward_samples};
}
// The gradient of a backward op: of grad_output it is the op itself, of x it is given.
template <class First, class Second>
Gradients twice(const GradientCall& g, First first, Second second) {
  return {g.needs(0) ? first(g.grad_output(0)) : DTensor(), g.needs(1) ? second(g.grad_output(0)) : DTensor()};
}

constexpr OpDef kNeg = number_op("neg", "... -> ...    linear", unary_kernel<Unary::neg>, "",
                                 [](const GradientCall& g) -> Gradients { return {neg(g.grad_output(0))}; });
constexpr OpDef kAbs = number_op("abs", kPass, unary_kernel<Unary::abs>, "input",
                                 [](const GradientCall& g) -> Gradients { return {g.grad_output(0) * sign(g.input(0))}; });
constexpr OpDef kSign = number_op("sign", kIncreasing, unary_kernel<Unary::sign>, "", ops::zero_gradient, "any");
constexpr OpDef kSquare = number_op(
    "square", kPass, unary_kernel<Unary::square>, "input", [](const GradientCall& g) -> Gradients { return {g.grad_output(0) * (g.input(0) * 2)}; },
    "any", square_type);
constexpr OpDef kRelu = number_op("relu", kIncreasing, unary_kernel<Unary::relu>, "out",
                                  [](const GradientCall& g) -> Gradients { return {relu_backward(g.grad_output(0), g.output(0))}; });
constexpr OpDef kFloor = number_op("floor", kIncreasing, unary_kernel<Unary::floor>, "", ops::zero_gradient);
constexpr OpDef kCeil = number_op("ceil", kIncreasing, unary_kernel<Unary::ceil>, "", ops::zero_gradient);
constexpr OpDef kTrunc = number_op("trunc", kIncreasing, unary_kernel<Unary::trunc>, "", ops::zero_gradient);
// With decimals the steps are taken in the type of computation, so that bf16 is rounded once more only at the end.
void round_kernel(const KernelCall& c) {
  const std::int64_t decimals = c.attribute(0).as_int();
  const Tensor &x = c.input(0), &out = c.output(0);
  if (decimals == 0 || !info(out.dtype()).floating) {
    kernels::unary(Unary::round, x, out);
    return;
  }
  const Scalar power = std::pow(10.0, std::abs(static_cast<double>(decimals)));
  const Tensor scaled = Tensor::empty(out.shape(), out.dtype() == Dtype::f64 ? Dtype::f64 : Dtype::f32, out.device());
  kernels::binary(decimals > 0 ? cpu::Binary::mul : cpu::Binary::div, x, power, scaled);
  kernels::unary(Unary::round, scaled, scaled);
  kernels::binary(decimals > 0 ? cpu::Binary::div : cpu::Binary::mul, scaled, power, out);
}
constexpr OpDef kRound{
    .name = "round",
    .signature = "input, *, decimals: int = 0 -> out",
    .rule = kIncreasing,
    .dtypes = "number",
    .shape = ops::same_type,
    .kernel = round_kernel,
    .gradient = ops::zero_gradient,
    .samples =
        [] {
          std::vector<Sample> samples = any_samples();
          samples[0].attributes = {{"decimals", "1"}};
          samples.push_back({.shapes = {{5}}, .attributes = {{"decimals", "-1"}}, .low = -40, .high = 40});
          return samples;
        },
    .reasons = "Partial parts that are multiples already round like their sum",
};

constexpr OpDef kExp =
    real_op("exp", kIncreasing, unary_kernel<Unary::exp>, "out", [](const GradientCall& g) -> Gradients { return {g.grad_output(0) * g.output(0)}; });
constexpr OpDef kLog = real_op(
    "log", kPass, unary_kernel<Unary::log>, "input", [](const GradientCall& g) -> Gradients { return {g.grad_output(0) / g.input(0)}; },
    positive_samples);
constexpr OpDef kLog2 = real_op(
    "log2", kPass, unary_kernel<Unary::log2>, "input",
    [](const GradientCall& g) -> Gradients { return {g.grad_output(0) / (g.input(0) * 0.69314718055994530942)}; }, positive_samples);
constexpr OpDef kLog1p = real_op(
    "log1p", kPass, unary_kernel<Unary::log1p>, "input", [](const GradientCall& g) -> Gradients { return {g.grad_output(0) / (g.input(0) + 1)}; },
    positive_samples);
constexpr OpDef kExpm1 = real_op("expm1", kIncreasing, unary_kernel<Unary::expm1>, "out",
                                 [](const GradientCall& g) -> Gradients { return {g.grad_output(0) * (g.output(0) + 1)}; });
constexpr OpDef kSqrt = real_op(
    "sqrt", kPass, unary_kernel<Unary::sqrt>, "out", [](const GradientCall& g) -> Gradients { return {g.grad_output(0) / (g.output(0) * 2)}; },
    positive_samples);
constexpr OpDef kRsqrt = real_op(
    "rsqrt", kPass, unary_kernel<Unary::rsqrt>, "out",
    [](const GradientCall& g) -> Gradients { return {g.grad_output(0) * (pow(g.output(0), 3) * -0.5)}; }, positive_samples);
constexpr OpDef kReciprocal = real_op(
    "reciprocal", kPass, unary_kernel<Unary::reciprocal>, "out",
    [](const GradientCall& g) -> Gradients { return {neg(g.grad_output(0)) * square(g.output(0))}; }, positive_samples);
constexpr OpDef kSin =
    real_op("sin", kPass, unary_kernel<Unary::sin>, "input", [](const GradientCall& g) -> Gradients { return {g.grad_output(0) * cos(g.input(0))}; });
constexpr OpDef kCos = real_op("cos", kPass, unary_kernel<Unary::cos>, "input",
                               [](const GradientCall& g) -> Gradients { return {neg(g.grad_output(0)) * sin(g.input(0))}; });
constexpr OpDef kTan = real_op(
    "tan", kPass, unary_kernel<Unary::tan>, "out", [](const GradientCall& g) -> Gradients { return {g.grad_output(0) * (square(g.output(0)) + 1)}; },
    [] {
      return std::vector<Sample>{{.shapes = {{5, 7}}, .low = -1, .high = 1}, {.shapes = {{0}}}};
    });
constexpr OpDef kTanh = real_op("tanh", kIncreasing, unary_kernel<Unary::tanh>, "out",
                                [](const GradientCall& g) -> Gradients { return {tanh_backward(g.grad_output(0), g.output(0))}; });
constexpr OpDef kSigmoid = real_op("sigmoid", kIncreasing, unary_kernel<Unary::sigmoid>, "out",
                                   [](const GradientCall& g) -> Gradients { return {sigmoid_backward(g.grad_output(0), g.output(0))}; });
constexpr OpDef kErf = real_op("erf", kIncreasing, unary_kernel<Unary::erf>, "input", [](const GradientCall& g) -> Gradients {
  return {g.grad_output(0) * (exp(neg(square(g.input(0)))) * 1.1283791670955125739)};
});
constexpr OpDef kSilu = real_op("silu", kPass, unary_kernel<Unary::silu>, "input",
                                [](const GradientCall& g) -> Gradients { return {silu_backward(g.grad_output(0), g.input(0))}; });
constexpr OpDef kLogicalNot = predicate_op("logical_not", unary_kernel<Unary::logical_not>);
constexpr OpDef kIsNan = predicate_op("isnan", unary_kernel<Unary::isnan>);
constexpr OpDef kIsInf = predicate_op("isinf", unary_kernel<Unary::isinf>);
constexpr OpDef kIsFinite = predicate_op("isfinite", unary_kernel<Unary::isfinite>);

constexpr OpDef kReluBackward = backward_op(
    "relu_backward", "grad_output, result -> out", backward_kernel<UnaryBackward::relu>, "result", [](const GradientCall& g) -> Gradients {
      return twice(
          g, [&](const DTensor& u) { return relu_backward(u, g.input(1)); }, [](const DTensor& u) { return u * 0; });
    });
constexpr OpDef kTanhBackward = backward_op("tanh_backward", "grad_output, result -> out", backward_kernel<UnaryBackward::tanh>,
                                            "grad_output, result", [](const GradientCall& g) -> Gradients {
                                              return twice(
                                                  g, [&](const DTensor& u) { return tanh_backward(u, g.input(1)); },
                                                  [&](const DTensor& u) { return u * g.input(0) * (g.input(1) * -2); });
                                            });
constexpr OpDef kSigmoidBackward = backward_op("sigmoid_backward", "grad_output, result -> out", backward_kernel<UnaryBackward::sigmoid>,
                                               "grad_output, result", [](const GradientCall& g) -> Gradients {
                                                 return twice(
                                                     g, [&](const DTensor& u) { return sigmoid_backward(u, g.input(1)); },
                                                     [&](const DTensor& u) { return u * g.input(0) * (1 - g.input(1) * 2); });
                                               });
constexpr OpDef kSiluBackward = backward_op("silu_backward", "grad_output, input -> out", backward_kernel<UnaryBackward::silu>, "grad_output, input",
                                            [](const GradientCall& g) -> Gradients {
                                              return twice(
                                                  g, [&](const DTensor& u) { return silu_backward(u, g.input(1)); },
                                                  [&](const DTensor& u) {
                                                    const DTensor s = sigmoid(g.input(1));
                                                    return u * g.input(0) * (s * (1 - s) * (g.input(1) * (1 - s * 2) + 2));
                                                  });
                                            });

// gelu
bool tanh_form(std::string_view text) { return text == "tanh"; }
template <class Call>
void check_approximate(Call& s, int attribute) {
  const std::string_view text = attribute_text(s.attribute(attribute), "none");
  if (text != "none" && !tanh_form(text)) s.fail("approximate is none or tanh ('" + std::string(text) + "' given)");
}
bool tanh_form(const Attribute& a) { return tanh_form(attribute_text(a, "none")); }
// Second derivative of x * Phi(x): phi(x) * (2 - x^2); of the tanh form by the product rule.
DTensor gelu_second(const DTensor& x, bool approximate) {
  if (!approximate) return exp(square(x) * -0.5) * 0.39894228040143267794 * (2 - square(x));
  constexpr double kBeta = 0.79788456080286535588, kKappa = 0.044715;
  const DTensor x2 = square(x);
  const DTensor t = tanh((x + x * x2 * kKappa) * kBeta);
  const DTensor slope = (x2 * (3 * kKappa) + 1) * kBeta, curvature = x * (6 * kKappa * kBeta), flat = 1 - square(t);
  return flat * slope + x * 0.5 * flat * (curvature - t * square(slope) * 2);
}
std::vector<Sample> gelu_samples(std::vector<Sample> samples) {
  for (std::size_t i = 0; i < samples.size(); i += 2) samples[i].attributes = {{"approximate", "tanh"}};
  return samples;
}
constexpr OpDef kGelu{
    .name = "gelu",
    .signature = "input, *, approximate: text = none -> out",
    .rule = kPass,
    .saves = "input",
    .dtypes = "floating",
    .shape =
        [](ShapeCall& s) {
          check_approximate(s, 0);
          ops::same_type(s);
        },
    .kernel = [](const KernelCall& c) { kernels::unary(tanh_form(c.attribute(0)) ? Unary::gelu_tanh : Unary::gelu, c.input(0), c.output(0)); },
    .gradient = [](const GradientCall& g) -> Gradients {
      return {gelu_backward(g.grad_output(0), g.input(0), {.approximate = attribute_text(g.attribute(0), "none")})};
    },
    .samples = [] { return gelu_samples(any_samples()); },
};
constexpr OpDef kGeluBackward{
    .name = "gelu_backward",
    .signature = "grad_output, input, *, approximate: text = none -> out",
    .rule = "..., ... -> ...    linear 1",
    .saves = "grad_output, input",
    .dtypes = "floating",
    .shape =
        [](ShapeCall& s) {
          check_approximate(s, 0);
          backward_type(s);
        },
    .kernel =
        [](const KernelCall& c) {
          kernels::unary_backward(tanh_form(c.attribute(0)) ? UnaryBackward::gelu_tanh : UnaryBackward::gelu, c.input(0), c.input(1), c.output(0));
        },
    .gradient = [](const GradientCall& g) -> Gradients {
      return twice(
          g, [&](const DTensor& u) { return gelu_backward(u, g.input(1), {.approximate = attribute_text(g.attribute(0), "none")}); },
          [&](const DTensor& u) { return u * g.input(0) * gelu_second(g.input(1), tanh_form(g.attribute(0))); });
    },
    .samples = [] { return gelu_samples(backward_samples()); },
};

// softplus
constexpr OpDef kSoftplus{
    .name = "softplus",
    .signature = "input, *, beta: float = 1.0, threshold: float = 20.0 -> out",
    .rule = kPass,
    .saves = "input",
    .dtypes = "floating",
    .shape = ops::same_type,
    .kernel =
        [](const KernelCall& c) {
          const Scalar numbers[2] = {c.attribute(0).scalar(), c.attribute(1).scalar()};
          kernels::unary(Unary::softplus, c.input(0), c.output(0), numbers);
        },
    .gradient = [](const GradientCall& g) -> Gradients {
      return {softplus_backward(g.grad_output(0), g.input(0), {.beta = g.attribute(0).as_double(), .threshold = g.attribute(1).as_double()})};
    },
    .samples = any_samples,
};
constexpr OpDef kSoftplusBackward{
    .name = "softplus_backward",
    .signature = "grad_output, input, *, beta: float = 1.0, threshold: float = 20.0 -> out",
    .rule = "..., ... -> ...    linear 1",
    .saves = "grad_output, input",
    .dtypes = "floating",
    .shape = backward_type,
    .kernel =
        [](const KernelCall& c) {
          const Scalar numbers[2] = {c.attribute(0).scalar(), c.attribute(1).scalar()};
          kernels::unary_backward(UnaryBackward::softplus, c.input(0), c.input(1), c.output(0), numbers);
        },
    .gradient = [](const GradientCall& g) -> Gradients {
      const double beta = g.attribute(0).as_double(), threshold = g.attribute(1).as_double();
      return twice(
          g, [&](const DTensor& u) { return softplus_backward(u, g.input(1), {.beta = beta, .threshold = threshold}); },
          [&](const DTensor& u) {
            const DTensor z = g.input(1) * beta, s = sigmoid(z);
            return masked_fill(u * g.input(0) * (s * (1 - s) * beta), gt(z, threshold), 0);
          });
    },
    .samples = backward_samples,
};

// clamp
struct Bounds {
  Scalar numbers[2];
  Bounds(const Attribute& min, const Attribute& max, bool floating)
      : numbers{min.is_none() ? lowest(floating) : min.scalar(), max.is_none() ? highest(floating) : max.scalar()} {}
  static Scalar lowest(bool floating) {
    return floating ? Scalar(-std::numeric_limits<double>::infinity()) : Scalar(std::numeric_limits<std::int64_t>::min());
  }
  static Scalar highest(bool floating) {
    return floating ? Scalar(std::numeric_limits<double>::infinity()) : Scalar(std::numeric_limits<std::int64_t>::max());
  }
};
ClampOptions clamp_options(const Attribute& min, const Attribute& max) {
  ClampOptions o;
  if (!min.is_none()) o.min = min.scalar();
  if (!max.is_none()) o.max = max.scalar();
  return o;
}
void clamp_type(ShapeCall& s) {
  Dtype dtype = s.input(0).dtype;
  for (int i : {0, 1})
    if (!s.attribute(i).is_none()) dtype = promote(dtype, s.attribute(i).scalar().kind());
  if (s.attribute(0).is_none() && s.attribute(1).is_none()) s.fail("neither min nor max is given; give at least one");
  s.output(0) = {s.input(0).shape, dtype};
}
std::vector<Sample> clamp_samples(const std::vector<Shape>& whole, const std::vector<Shape>& none) {
  return {{.shapes = whole, .attributes = {{"min", "-0.5"}, {"max", "1"}}},
          {.shapes = whole, .attributes = {{"min", "0.25"}}},
          {.shapes = none, .attributes = {{"max", "0"}}}};
}
constexpr OpDef kClamp{
    .name = "clamp",
    .signature = "input, *, min: number? = none, max: number? = none -> out",
    .rule = kIncreasing,
    .saves = "input",
    .dtypes = "any",
    .shape = clamp_type,
    .kernel =
        [](const KernelCall& c) {
          const Bounds b(c.attribute(0), c.attribute(1), info(c.output(0).dtype()).floating);
          kernels::ternary(cpu::Ternary::clamp, c.input(0), b.numbers[0], b.numbers[1], c.output(0));
        },
    .gradient = [](const GradientCall& g) -> Gradients {
      return {ops::gradient_for(g, 0, clamp_backward(g.grad_output(0), g.input(0), clamp_options(g.attribute(0), g.attribute(1))))};
    },
    .samples =
        [] {
          return clamp_samples({{5, 7}}, {{0, 3}});
        },
};
constexpr OpDef kClampBackward{
    .name = "clamp_backward",
    .signature = "grad_output, input, *, min: number? = none, max: number? = none -> out",
    .rule = "..., ... -> ...    linear 1",
    .saves = "input",
    .dtypes = "floating",
    .shape = backward_type,
    .kernel =
        [](const KernelCall& c) {
          const Bounds b(c.attribute(0), c.attribute(1), true);
          kernels::unary_backward(UnaryBackward::clamp, c.input(0), c.input(1), c.output(0), b.numbers);
        },
    .gradient = [](const GradientCall& g) -> Gradients {
      const ClampOptions o = clamp_options(g.attribute(0), g.attribute(1));
      return twice(
          g, [&](const DTensor& u) { return clamp_backward(u, g.input(1), o); }, [](const DTensor& u) { return u * 0; });
    },
    .samples =
        [] {
          return clamp_samples({{5, 7}, {5, 7}}, {{0, 3}, {0, 3}});
        },
};

// swiglu
constexpr OpDef kSwigluBackward{
    .name = "swiglu_backward",
    .signature = "grad_output, gate, up -> grad_gate, grad_up",
    .rule = "..., ..., ... -> ..., ...    linear 1",
    .saves = "grad_output, gate, up",
    .dtypes = "floating",
    .shape =
        [](ShapeCall& s) {
          s.output(0) = s.input(1);
          s.output(1) = s.input(2);
        },
    .kernel = [](const KernelCall& c) { kernels::swiglu_backward(c.input(0), c.input(1), c.input(2), c.output(0), c.output(1)); },
    .gradient = [](const GradientCall& g) -> Gradients {  // grad_gate = g up silu'(gate), grad_up = g silu(gate)
      const DTensor &u = g.grad_output(0), &v = g.grad_output(1), &grad = g.input(0), &gate = g.input(1), &up = g.input(2);
      const auto both = [](const DTensor& a, const DTensor& b) { return a && b ? a + b : a ? a : b; };
      DTensor to_grad, to_gate, to_up;
      if (u) {
        if (g.needs(0)) to_grad = silu_backward(u * up, gate);
        if (g.needs(1)) {
          const DTensor s = sigmoid(gate);
          to_gate = u * grad * up * (s * (1 - s) * (gate * (1 - s * 2) + 2));
        }
        if (g.needs(2)) to_up = silu_backward(u * grad, gate);
      }
      if (v) {
        if (g.needs(0)) to_grad = both(to_grad, v * silu(gate));
        if (g.needs(1)) to_gate = both(to_gate, silu_backward(v * grad, gate));
      }
      return {to_grad, to_gate, to_up};
    },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 7}, {5, 7}, {5, 7}}}, {.shapes = {{0, 3}, {0, 3}, {0, 3}}}};
        },
};
constexpr OpDef kSwiglu{
    .name = "swiglu",
    .signature = "gate, up -> out",
    .rule = "..., ... -> ...    linear 2",
    .saves = "gate, up",
    .dtypes = "floating",
    .shape =
        [](ShapeCall& s) {
          if (!(s.input(0).shape == s.input(1).shape))
            s.fail("shapes differ (" + s.describe(0) + ", " + s.describe(1) + "); gate and up have one shape");
          s.output(0) = {s.input(0).shape, promote(s.input(0).dtype, s.input(1).dtype)};
        },
    .kernel = [](const KernelCall& c) { kernels::swiglu(c.input(0), c.input(1), c.output(0)); },
    .gradient = [](const GradientCall& g) -> Gradients {
      if (!g.needs(0)) return {DTensor(), ops::gradient_for(g, 1, g.grad_output(0) * silu(g.input(0)))};
      const Input inputs[3] = {g.grad_output(0), g.input(0), g.input(1)};
      Results r = call_all(kSwigluBackward, inputs);
      return {r[0], g.needs(1) ? r[1] : DTensor()};
    },
    .samples = swiglu_samples,
};

constexpr const OpDef* kFamily[] = {&kNeg,
                                    &kAbs,
                                    &kSign,
                                    &kSquare,
                                    &kRelu,
                                    &kFloor,
                                    &kCeil,
                                    &kTrunc,
                                    &kRound,
                                    &kExp,
                                    &kLog,
                                    &kLog2,
                                    &kLog1p,
                                    &kExpm1,
                                    &kSqrt,
                                    &kRsqrt,
                                    &kReciprocal,
                                    &kSin,
                                    &kCos,
                                    &kTan,
                                    &kTanh,
                                    &kSigmoid,
                                    &kErf,
                                    &kSilu,
                                    &kLogicalNot,
                                    &kIsNan,
                                    &kIsInf,
                                    &kIsFinite,
                                    &kGelu,
                                    &kSoftplus,
                                    &kSwiglu,
                                    &kClamp,
                                    &kReluBackward,
                                    &kTanhBackward,
                                    &kSigmoidBackward,
                                    &kSiluBackward,
                                    &kGeluBackward,
                                    &kSoftplusBackward,
                                    &kClampBackward,
                                    &kSwigluBackward};

}  // namespace

namespace ops {
OpList pointwise_ops() { return kFamily; }
}  // namespace ops

DTensor neg(const DTensor& input) { return call(kNeg, {input}); }
DTensor abs(const DTensor& input) { return call(kAbs, {input}); }
DTensor sign(const DTensor& input) { return call(kSign, {input}); }
DTensor square(const DTensor& input) { return call(kSquare, {input}); }
DTensor relu(const DTensor& input) { return call(kRelu, {input}); }
DTensor floor(const DTensor& input) { return call(kFloor, {input}); }
DTensor ceil(const DTensor& input) { return call(kCeil, {input}); }
DTensor trunc(const DTensor& input) { return call(kTrunc, {input}); }
DTensor round(const DTensor& input) { return call(kRound, {input}); }
DTensor exp(const DTensor& input) { return call(kExp, {input}); }
DTensor log(const DTensor& input) { return call(kLog, {input}); }
DTensor log2(const DTensor& input) { return call(kLog2, {input}); }
DTensor log1p(const DTensor& input) { return call(kLog1p, {input}); }
DTensor expm1(const DTensor& input) { return call(kExpm1, {input}); }
DTensor sqrt(const DTensor& input) { return call(kSqrt, {input}); }
DTensor rsqrt(const DTensor& input) { return call(kRsqrt, {input}); }
DTensor reciprocal(const DTensor& input) { return call(kReciprocal, {input}); }
DTensor sin(const DTensor& input) { return call(kSin, {input}); }
DTensor cos(const DTensor& input) { return call(kCos, {input}); }
DTensor tan(const DTensor& input) { return call(kTan, {input}); }
DTensor tanh(const DTensor& input) { return call(kTanh, {input}); }
DTensor sigmoid(const DTensor& input) { return call(kSigmoid, {input}); }
DTensor erf(const DTensor& input) { return call(kErf, {input}); }
DTensor silu(const DTensor& input) { return call(kSilu, {input}); }
DTensor gelu(const DTensor& input, const GeluOptions& options) { return call(kGelu, {input}, {options.approximate}); }
DTensor softplus(const DTensor& input, const SoftplusOptions& options) { return call(kSoftplus, {input}, {options.beta, options.threshold}); }
DTensor swiglu(const DTensor& gate, const DTensor& up) { return call(kSwiglu, {gate, up}); }
DTensor clamp(const DTensor& input, const ClampOptions& options) { return call(kClamp, {input}, {options.min, options.max}); }
DTensor logical_not(const DTensor& input) { return call(kLogicalNot, {input}); }
DTensor isnan(const DTensor& input) { return call(kIsNan, {input}); }
DTensor isinf(const DTensor& input) { return call(kIsInf, {input}); }
DTensor isfinite(const DTensor& input) { return call(kIsFinite, {input}); }
DTensor relu_backward(const DTensor& grad_output, const DTensor& result) { return call(kReluBackward, {grad_output, result}); }
DTensor tanh_backward(const DTensor& grad_output, const DTensor& result) { return call(kTanhBackward, {grad_output, result}); }
DTensor sigmoid_backward(const DTensor& grad_output, const DTensor& result) { return call(kSigmoidBackward, {grad_output, result}); }
DTensor gelu_backward(const DTensor& grad_output, const DTensor& input, const GeluOptions& options) {
  return call(kGeluBackward, {grad_output, input}, {options.approximate});
}
DTensor silu_backward(const DTensor& grad_output, const DTensor& input) { return call(kSiluBackward, {grad_output, input}); }
DTensor softplus_backward(const DTensor& grad_output, const DTensor& input, const SoftplusOptions& options) {
  return call(kSoftplusBackward, {grad_output, input}, {options.beta, options.threshold});
}
DTensor clamp_backward(const DTensor& grad_output, const DTensor& input, const ClampOptions& options) {
  return call(kClampBackward, {grad_output, input}, {options.min, options.max});
}

}  // namespace dtensor
