// SPDX-License-Identifier: Apache-2.0
#include "dtensor/ops/linear_gelu.h"

#include <array>

#include "dtensor/op.h"
#include "dtensor/ops/binary.h"
#include "dtensor/ops/matmul.h"
#include "dtensor/ops/pointwise.h"
#include "local/kernels/gemm.h"
#include "ops/families.h"
#include "ops/linear_call.h"
#include "ops/reduction_rules.h"
#include "tensor/state.h"

namespace dtensor {
namespace {

DTensor tanh_gelu(const DTensor& sum) { return gelu(sum, {.approximate = "tanh"}); }

void type_of(ShapeCall& s) {
  if (s.input(1).shape.ndim() != 2) s.fail("weight must be [out, in] (" + s.describe(1) + ")");
  ops::linear_shape(s);
}
void types_of(ShapeCall& s) {
  type_of(s);
  s.output(1) = s.output(0);
}
DTensor reduced_sum(const DecomposeCall& c) { return ops::without_partial(linear(c.input(0), c.input(1), c.has_input(2) ? c.input(2) : DTensor())); }
DTensor sum_again(const GradientCall& g) { return linear(g.input(0), g.input(1), g.inputs_[2]); }  // the bias is empty when absent
std::vector<Sample> samples() {
  return {{.shapes = {{5, 7}, {4, 7}, {4}}}, {.shapes = {{2, 3, 5}, {8, 5}, {8}}}, {.shapes = {{2, 3, 5}, {4, 5}, {}}},
          {.shapes = {{3}, {2, 3}, {2}}},    {.shapes = {{0, 3}, {2, 3}, {2}}},    {.shapes = {{2, 0}, {3, 0}, {3}}}};
}

constexpr OpDef kLinearGelu{
    .name = "linear_gelu",
    .signature = "input, weight, bias? -> out",
    .saves = "input, weight, bias",
    .dtypes = "floating",
    .shape = type_of,
    .rule_for = [](const ShapeCall& s) -> std::string {
      return s.has_input(2) ? "... k, n k, n -> ... n  k: whole" : "... k, n k, () -> ... n  k: whole";
    },
    .kernel = [](const KernelCall& c) { local::kernels::linear_gelu(ops::linear_call(c), c.output(0)); },
    .gradient = [](const GradientCall& g) -> std::vector<DTensor> {
      return ops::linear_gradients(g, gelu_backward(g.grad_output(0), sum_again(g), {.approximate = "tanh"}));
    },
    .decompose = [](const DecomposeCall& c) -> std::vector<DTensor> { return {tanh_gelu(reduced_sum(c))}; },
    .samples = samples,
};

// The sum is there; a gradient of the gradient wants to know where it comes from.
std::vector<DTensor> gradient_by_sum(const GradientCall& g) {
  const DTensor &up = g.grad_output(0), &more = g.grad_output(1);
  if (!up) return ops::linear_gradients(g, more);
  const DTensor before = gelu_backward(up, tensor::call_state().grad_enabled ? sum_again(g) : g.output(1), {.approximate = "tanh"});
  return ops::linear_gradients(g, more ? add(before, more) : before);
}
constexpr OpDef kWithSum{
    .name = "linear_gelu_with_sum",
    .signature = "input, weight, bias? -> out, sum",
    .saves = "input, weight, bias, sum",
    .dtypes = "floating",
    .shape = types_of,
    .rule_for = [](const ShapeCall& s) -> std::string {
      return s.has_input(2) ? "... k, n k, n -> ... n, ... n  k: whole" : "... k, n k, () -> ... n, ... n  k: whole";
    },
    .kernel = [](const KernelCall& c) { local::kernels::linear_gelu(ops::linear_call(c), c.output(0), &c.output(1)); },
    .gradient = gradient_by_sum,
    .decompose = [](const DecomposeCall& c) -> std::vector<DTensor> {
      const DTensor sum = reduced_sum(c);
      return {tanh_gelu(sum), sum};
    },
    .samples = samples,
};

constexpr std::array<const OpDef*, 2> kOps{&kLinearGelu, &kWithSum};

}  // namespace

namespace ops {
OpList linear_gelu_ops() { return kOps; }
}  // namespace ops

DTensor linear_gelu(const DTensor& input, const DTensor& weight, const DTensor& bias) {
  const bool recorded = tensor::call_state().grad_enabled && (input.requires_grad() || weight.requires_grad() || (bias && bias.requires_grad()));
  return call(recorded ? kWithSum : kLinearGelu, {input, weight, bias});
}

}  // namespace dtensor
