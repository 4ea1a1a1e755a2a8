// SPDX-License-Identifier: Apache-2.0
#include "dtensor/ops/activations.h"

#include <array>

#include "dtensor/error.h"
#include "dtensor/op.h"
#include "dtensor/ops/binary.h"
#include "dtensor/ops/compare.h"
#include "dtensor/ops/pointwise.h"
#include "dtensor/ops/views.h"
#include "local/kernels/activations.h"
#include "local/kernels/binary.h"
#include "ops/composite.h"
#include "ops/elementwise.h"

namespace dtensor {
namespace {

namespace cpu = local::cpu;
namespace kernels = local::kernels;
using cpu::Activation;
using Gradients = std::vector<DTensor>;
using Attributes = std::span<const Attribute>;
using Numbers = std::array<Scalar, 3>;

// The derivatives of all activations: attribute 0 says which, 1 the order, 2 to 4 are its numbers.
void derivative_type(ShapeCall& s) {
  if (s.input(0).shape != s.input(1).shape) s.fail("shapes differ (" + s.describe(0) + ", " + s.describe(1) + "); both are those of the result");
  s.output(0) = {s.input(0).shape, promote(s.input(0).dtype, s.input(1).dtype)};
}
Gradients derivative_gradient(const GradientCall& g);
constexpr OpDef kDerivative{
    .name = "activation_backward",
    .signature = "grad_output, input, *, kind: int, order: int, a: float = 0.0, b: float = 0.0, c: float = 0.0 -> out",
    .rule = "..., ... -> ...    linear 1",
    .saves = "grad_output, input",
    .dtypes = "floating",
    .shape = derivative_type,
    .kernel =
        [](const KernelCall& c) {
          const Numbers numbers{c.attribute(2).scalar(), c.attribute(3).scalar(), c.attribute(4).scalar()};
          kernels::activation_backward(static_cast<Activation>(c.attribute(0).as_int()), static_cast<int>(c.attribute(1).as_int()), c.input(0),
                                       c.input(1), c.output(0), numbers.data());
        },
    .gradient = derivative_gradient,
    .samples =
        [] {
          std::vector<Sample> samples{{.shapes = {{0, 3}, {0, 3}}, .attributes = {{"kind", "3"}, {"order", "1"}}}};
          for (int kind = 0; kind < 12; ++kind)
            samples.push_back({.shapes = {{5, 3}, {5, 3}},
                               .attributes = {{"kind", std::to_string(kind)}, {"order", "1"}, {"a", "0.25"}, {"b", "1.5"}, {"c", "0.5"}},
                               .low = 0.3,
                               .high = 1.4});
          return samples;
        },
    .reasons = "of a Partial input the parts may lie on the same piece of a straight function",
};
DTensor derivative(const DTensor& grad, const DTensor& input, int kind, int order, const Numbers& n) {
  return call(kDerivative, {grad, input}, {kind, order, n[0], n[1], n[2]});
}
Gradients derivative_gradient(const GradientCall& g) {
  const int kind = static_cast<int>(g.attribute(0).as_int()), order = static_cast<int>(g.attribute(1).as_int());
  const Numbers n{g.attribute(2).scalar(), g.attribute(3).scalar(), g.attribute(4).scalar()};
  if (g.needs(1) && order == 2) throw Unsupported("activation_backward: a third derivative is not written; detach the second");
  const DTensor& u = g.grad_output(0);
  return {g.needs(0) ? derivative(u, g.input(1), kind, order, n) : DTensor(),
          g.needs(1) ? derivative(u * g.input(0), g.input(1), kind, order + 1, n) : DTensor()};
}

/// A kind and how its numbers come from the attributes.
template <Activation kind, Numbers (*numbers)(Attributes)>
constexpr OpDef activation(std::string_view name, std::string_view signature, bool increasing, std::vector<Sample> (*samples)()) {
  return {.name = name,
          .signature = signature,
          .rule = increasing ? "... -> ...    monotone" : "... -> ...",
          .saves = "input",
          .dtypes = kind == Activation::hardtanh ? "number" : "floating",
          .shape = ops::same_type,
          .kernel =
              [](const KernelCall& c) {
                const Numbers n = numbers(c.attributes_);
                if (info(c.output(0).dtype()).floating) kernels::activation(kind, c.input(0), c.output(0), n.data());
                else kernels::ternary(cpu::Ternary::clamp, c.input(0), n[0], n[1], c.output(0));
              },
          .gradient = [](const GradientCall& g) -> Gradients {
            return {derivative(g.grad_output(0), g.input(0), static_cast<int>(kind), 1, numbers(g.attributes_))};
          },
          .samples = samples};
}
std::vector<Sample> samples_of(const std::vector<std::pair<std::string, std::string>>& attributes) {
  return {{.shapes = {{5, 7}}, .low = -4, .high = 4},
          {.shapes = {{0, 3}}},
          {.shapes = {{1}}, .attributes = attributes},
          {.shapes = {{}}},
          {.shapes = {{4, 3}}, .attributes = attributes, .low = -4, .high = 4}};
}
std::vector<Sample> plain_samples() { return samples_of({}); }

Numbers no_numbers(Attributes) { return {}; }
Numbers given(Attributes a) { return {a[0].scalar(), a.size() > 1 ? a[1].scalar() : Scalar(0.0), Scalar(0.0)}; }
Numbers elu_numbers(Attributes a) { return {a[0].scalar(), 1.0, 1.0}; }
Numbers celu_numbers(Attributes a) { return {a[0].scalar(), 1.0, 1 / a[0].as_double()}; }
Numbers selu_numbers(Attributes) { return {1.6732632423543772848 * 1.0507009873554804934, 1.0507009873554804934, 1.0}; }
Numbers six(Attributes) { return {0.0, 6.0, 0.0}; }

constexpr OpDef kElu = activation<Activation::elu, elu_numbers>("elu", "input, *, alpha: float = 1.0 -> out", false, [] {
  return samples_of({{"alpha", "0.5"}});
});
constexpr OpDef kCelu = activation<Activation::elu, celu_numbers>("celu", "input, *, alpha: float = 1.0 -> out", false, [] {
  return samples_of({{"alpha", "0.5"}});
});
constexpr OpDef kSelu = activation<Activation::elu, selu_numbers>("selu", "input -> out", true, plain_samples);
constexpr OpDef kLeakyRelu = activation<Activation::leaky_relu, given>("leaky_relu", "input, *, negative_slope: float = 0.01 -> out", false, [] {
  return samples_of({{"negative_slope", "0.2"}});
});
constexpr OpDef kHardtanh =
    activation<Activation::hardtanh, given>("hardtanh", "input, *, min_val: float = -1.0, max_val: float = 1.0 -> out", true, [] {
      return samples_of({{"min_val", "-0.5"}, {"max_val", "2"}});
    });
constexpr OpDef kRelu6 = activation<Activation::hardtanh, six>("relu6", "input -> out", true, plain_samples);
constexpr OpDef kMish = activation<Activation::mish, no_numbers>("mish", "input -> out", false, plain_samples);
constexpr OpDef kHardswish = activation<Activation::hardswish, no_numbers>("hardswish", "input -> out", false, plain_samples);
constexpr OpDef kHardsigmoid = activation<Activation::hardsigmoid, no_numbers>("hardsigmoid", "input -> out", true, plain_samples);
constexpr OpDef kLogsigmoid = activation<Activation::log_sigmoid, no_numbers>("logsigmoid", "input -> out", true, plain_samples);
constexpr OpDef kSoftsign = activation<Activation::softsign, no_numbers>("softsign", "input -> out", true, plain_samples);
constexpr OpDef kTanhshrink = activation<Activation::tanhshrink, no_numbers>("tanhshrink", "input -> out", true, plain_samples);
constexpr OpDef kSoftshrink = activation<Activation::softshrink, given>("softshrink", "input, *, lambd: float = 0.5 -> out", false, [] {
  return samples_of({{"lambd", "1.25"}});
});
constexpr OpDef kHardshrink = activation<Activation::hardshrink, given>("hardshrink", "input, *, lambd: float = 0.5 -> out", false, [] {
  return samples_of({{"lambd", "1.25"}});
});
constexpr OpDef kThreshold = activation<Activation::threshold, given>("threshold", "input, *, threshold: float, value: float -> out", false, [] {
  return std::vector<Sample>{{.shapes = {{5, 7}}, .attributes = {{"threshold", "0.5"}, {"value", "-1"}}},
                             {.shapes = {{0}}, .attributes = {{"threshold", "0.5"}, {"value", "-1"}}}};
});

// glu
int half_dim(const ShapeCall& s) {
  const int ndim = s.input(0).shape.ndim();
  const auto dim = s.attribute(0).as_int();
  if (dim < -ndim || dim >= ndim) s.fail("dim " + std::to_string(dim) + " is out of range (" + s.describe(0) + "); give -ndim .. ndim-1");
  return static_cast<int>(dim < 0 ? dim + ndim : dim);
}
constexpr OpDef kGlu = ops::composite(
    "glu", "input, dim: int = -1 -> out", "floating",
    [](ShapeCall& s) {
      TensorType out = s.input(0);
      const int dim = half_dim(s);
      if (out.shape[dim] % 2 != 0) s.fail("dim " + std::to_string(dim) + " has an odd size (" + s.describe(0) + "); halves are wanted");
      out.shape[dim] /= 2;
      s.output(0) = out;
    },
    [](const DecomposeCall& c) -> Results {
      const int dim = static_cast<int>(c.attribute(0).as_int());
      const DTensor& x = c.input(0);
      const std::int64_t half = x.shape()[dim < 0 ? dim + x.ndim() : dim] / 2;
      return {mul(narrow(x, dim, 0, half), sigmoid(narrow(x, dim, half, half)))};
    },
    [] {
      return std::vector<Sample>{{.shapes = {{5, 6}}}, {.shapes = {{4, 3}}, .attributes = {{"dim", "0"}}}, {.shapes = {{0, 4}}}};
    });

// prelu
constexpr OpDef kPrelu = ops::composite(
    "prelu", "input, weight -> out", "floating",
    [](ShapeCall& s) {
      const Shape &x = s.input(0).shape, &w = s.input(1).shape;
      const std::int64_t channels = x.ndim() > 1 ? x[1] : 1;
      if (w.ndim() > 1 || (w.numel() != 1 && w.numel() != channels))
        s.fail("weight has the wrong size (" + s.describe(0) + ", " + s.describe(1) + "); one element or one for each index of dim 1");
      if (s.input(0).dtype != s.input(1).dtype) s.fail("dtypes differ (" + s.describe(0) + ", " + s.describe(1) + "); convert one with to()");
      s.output(0) = s.input(0);
    },
    [](const DecomposeCall& c) -> Results {
      const DTensor &x = c.input(0), &w = c.input(1);
      const DTensor slope = w.numel() == 1  ? reshape(w, {})
                            : x.ndim() == 2 ? w
                                            : reshape(w, [&] {
                                                Shape shape = Shape::filled(x.ndim() - 1, 1);
                                                shape[0] = w.numel();
                                                return shape;
                                              }());
      return {where(gt(x, 0), x, mul(x, slope))};
    },
    [] {
      return std::vector<Sample>{{.shapes = {{5, 7}, {1}}}, {.shapes = {{5, 4}, {4}}}, {.shapes = {{2, 3, 4}, {3}}}, {.shapes = {{0, 3}, {3}}}};
    });

constexpr const OpDef* kFamily[] = {&kDerivative, &kElu,        &kCelu,       &kSelu,        &kLeakyRelu,  &kHardtanh,
                                    &kRelu6,      &kMish,       &kHardswish,  &kHardsigmoid, &kLogsigmoid, &kSoftsign,
                                    &kTanhshrink, &kSoftshrink, &kHardshrink, &kThreshold,   &kGlu,        &kPrelu};

}  // namespace

namespace ops {
OpList activation_ops() { return kFamily; }
}  // namespace ops

DTensor elu(const DTensor& input, const EluOptions& o) { return call(kElu, {input}, {o.alpha}); }
DTensor celu(const DTensor& input, const EluOptions& o) { return call(kCelu, {input}, {o.alpha}); }
DTensor selu(const DTensor& input) { return call(kSelu, {input}); }
DTensor leaky_relu(const DTensor& input, const LeakyReluOptions& o) { return call(kLeakyRelu, {input}, {o.negative_slope}); }
DTensor hardtanh(const DTensor& input, const HardtanhOptions& o) { return call(kHardtanh, {input}, {o.min_val, o.max_val}); }
DTensor relu6(const DTensor& input) { return call(kRelu6, {input}); }
DTensor mish(const DTensor& input) { return call(kMish, {input}); }
DTensor hardswish(const DTensor& input) { return call(kHardswish, {input}); }
DTensor hardsigmoid(const DTensor& input) { return call(kHardsigmoid, {input}); }
DTensor logsigmoid(const DTensor& input) { return call(kLogsigmoid, {input}); }
DTensor softsign(const DTensor& input) { return call(kSoftsign, {input}); }
DTensor tanhshrink(const DTensor& input) { return call(kTanhshrink, {input}); }
DTensor softshrink(const DTensor& input, const ShrinkOptions& o) { return call(kSoftshrink, {input}, {o.lambd}); }
DTensor hardshrink(const DTensor& input, const ShrinkOptions& o) { return call(kHardshrink, {input}, {o.lambd}); }
DTensor threshold(const DTensor& input, double threshold, double value) { return call(kThreshold, {input}, {threshold, value}); }
DTensor glu(const DTensor& input, int dim) { return call(kGlu, {input}, {dim}); }
DTensor prelu(const DTensor& input, const DTensor& weight) { return call(kPrelu, {input, weight}); }

}  // namespace dtensor
