// SPDX-License-Identifier: Apache-2.0
#include "dtensor/ops/optimizer.h"
#include "local/kernels/optimizer.h"

#include "ops/elementwise.h"

namespace dtensor {
namespace {

namespace cpu = local::cpu;
namespace kernels = local::kernels;
using local::kernels::Together;

bool is_number_type(Dtype dtype) { return dtype == Dtype::f64 || dtype == Dtype::f32; }
// The last two inputs are numbers of the step.
void step_type(ShapeCall& s, int tensors) {
  for (int i = 1; i < tensors; ++i)
    if (s.has_input(i) && !(s.input(i).shape == s.input(0).shape))
      s.fail("shapes differ (" + s.describe(0) + ", " + s.describe(i) + "); gradient and state have the parameter's shape");
  for (int i = tensors; i < tensors + 2; ++i)
    if (s.has_input(i) && (s.input(i).shape.ndim() != 0 || !is_number_type(s.input(i).dtype)))
      s.fail("a number of the step is no number (" + s.describe(i) + "); give a 0-dimensional f64 or f32 tensor");
  s.output(0) = s.input(0);
}

Tensor given(const KernelCall& c, int i) { return c.has_input(i) ? c.input(i) : Tensor(); }

constexpr OpDef kAdamW{
    .name = "adamw_step_",
    .signature =
        "param!, grad, exp_avg!, exp_avg_sq!, max_exp_avg_sq!?, lr_tensor?, step_tensor!?, *, lr: float = 0.001, beta1: float = 0.9, beta2: float = "
        "0.999, eps: float = 1e-08, "
        "weight_decay: "
        "float = 0.01, "
        "step: float = 1.0, decoupled: bool = true, maximize: bool = false -> param",
    .rule = "..., ..., ..., ..., ..., (), () -> ...",
    .dtypes = "floating",
    .shape = [](ShapeCall& s) { step_type(s, 5); },
    .kernel =
        [](const KernelCall& c) {
          const auto number = [&](int i) { return c.attribute(i).as_double(); };
          Together::add(cpu::AdamCall{c.input(0),
                                      c.input(1),
                                      c.input(2),
                                      c.input(3),
                                      given(c, 4),
                                      {.lr = number(0),
                                       .beta1 = number(1),
                                       .beta2 = number(2),
                                       .eps = number(3),
                                       .weight_decay = number(4),
                                       .step = number(5),
                                       .decoupled = c.attribute(6).as_bool(),
                                       .maximize = c.attribute(7).as_bool()},
                                      {given(c, 5), given(c, 6)}});
        },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 7}, {5, 7}, {5, 7}, {5, 7}, {}}, .low = 0.1},
                                     {.shapes = {{5, 3}, {5, 3}, {5, 3}, {5, 3}, {5, 3}}, .low = 0.1},
                                     {.shapes = {{3}, {3}, {3}, {3}, {}}, .attributes = {{"decoupled", "false"}, {"step", "3"}}, .low = 0.1},
                                     {.shapes = {{0, 2}, {0, 2}, {0, 2}, {0, 2}, {}}}};
        },
};

constexpr OpDef kSgd{
    .name = "sgd_step_",
    .signature =
        "param!, grad, momentum_buffer!?, lr_tensor?, step_tensor!?, *, lr: float = 0.001, momentum: float = 0.0, dampening: float = 0.0, "
        "weight_decay: float = 0.0, nesterov: "
        "bool = false, "
        "maximize: bool = false, first_step: number = false -> param",
    .rule = "..., ..., ..., (), () -> ...",
    .dtypes = "floating",
    .shape =
        [](ShapeCall& s) {
          step_type(s, 3);
          if (s.attribute(4).as_bool() && !s.has_input(2)) s.fail("nesterov needs a momentum buffer (none given); give one and a momentum above 0");
        },
    .kernel =
        [](const KernelCall& c) {
          const auto number = [&](int i) { return c.attribute(i).as_double(); };
          Together::add(cpu::SgdCall{c.input(0),
                                     c.input(1),
                                     given(c, 2),
                                     {.lr = number(0),
                                      .momentum = number(1),
                                      .dampening = number(2),
                                      .weight_decay = number(3),
                                      .nesterov = c.attribute(4).as_bool(),
                                      .maximize = c.attribute(5).as_bool(),
                                      .first = c.attribute(6).as_bool()},
                                     {given(c, 3), given(c, 4)}});
        },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 7}, {5, 7}, {5, 7}}, .attributes = {{"momentum", "0.9"}, {"nesterov", "true"}}},
                                     {.shapes = {{0, 2}, {0, 2}, {0, 2}}}};
        },
};

constexpr OpDef kScaleBy{
    .name = "scale_by_",
    .signature = "self!, factor -> self",
    .rule = "..., () -> ...    linear 1",
    .dtypes = "floating",
    .shape =
        [](ShapeCall& s) {
          if (s.input(1).shape.ndim() != 0 || !is_number_type(s.input(1).dtype))
            s.fail("the factor is no number (" + s.describe(1) + "); give a 0-dimensional f64 or f32 tensor");
          s.output(0) = s.input(0);
        },
    .kernel =
        [](const KernelCall& c) {
          Together::add(cpu::ScaleCall{c.input(0), c.input(1)});
        },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 7}, {}}, .dtypes = {Dtype::f32, Dtype::f32}},
                                     {.shapes = {{0, 2}, {}}, .dtypes = {Dtype::f32, Dtype::f32}}};
        },
};

constexpr OpDef kSumNumbers{
    .name = "sum_numbers",
    .signature = "numbers[] -> out",
    .dtypes = "f64 f32",
    .shape =
        [](ShapeCall& s) {
          if (s.num_inputs() == 0) s.fail("the list of numbers is empty; give at least one");
          for (int i = 0; i < s.num_inputs(); ++i) {
            if (s.input(i).shape.ndim() != 0) s.fail("not a number (" + s.describe(i) + "); give 0-dimensional tensors");
            if (s.input(i).dtype != s.input(0).dtype) s.fail("dtypes differ (" + s.describe(0) + ", " + s.describe(i) + "); convert with to()");
          }
          s.output(0) = s.input(0);
        },
    .rule_for =
        [](const ShapeCall& s) {
          std::string rule = "()";
          for (int i = 1; i < s.num_inputs(); ++i) rule += ", ()";
          return rule + " -> ()    linear";
        },
    .kernel =
        [](const KernelCall& c) {
          kernels::sum_numbers({c.inputs_, static_cast<std::size_t>(c.num_inputs())}, c.output(0));
        },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{}, {}, {}}, .dtypes = {Dtype::f32, Dtype::f32, Dtype::f32}},
                                     {.shapes = {{}}, .dtypes = {Dtype::f32}}};
        },
};

constexpr const OpDef* kFamily[] = {&kAdamW, &kSgd, &kScaleBy, &kSumNumbers};

}  // namespace

namespace ops {
OpList optimizer_ops() { return kFamily; }
}  // namespace ops

namespace {
Input input(const DTensor& t) { return t ? Input(t) : Input(); }
}  // namespace

DTensor adamw_step_(const DTensor& param, const DTensor& grad, const DTensor& exp_avg, const DTensor& exp_avg_sq, const DTensor& max_exp_avg_sq,
                    const AdamWStepOptions& o, const StepTensors& tensors) {
  return call(kAdamW, {param, grad, exp_avg, exp_avg_sq, input(max_exp_avg_sq), input(tensors.lr), input(tensors.step)},
              {o.lr, o.beta1, o.beta2, o.eps, o.weight_decay, o.step, o.decoupled, o.maximize});
}
DTensor adamw_step_(const DTensor& param, const DTensor& grad, const DTensor& exp_avg, const DTensor& exp_avg_sq, const AdamWStepOptions& o) {
  return adamw_step_(param, grad, exp_avg, exp_avg_sq, {}, o);
}
DTensor sgd_step_(const DTensor& param, const DTensor& grad, const DTensor& momentum_buffer, const SgdStepOptions& o, const StepTensors& tensors) {
  return call(kSgd, {param, grad, input(momentum_buffer), input(tensors.lr), input(tensors.step)},
              {o.lr, o.momentum, o.dampening, o.weight_decay, o.nesterov, o.maximize, o.first_step});
}
DTensor scale_by_(const DTensor& self, const DTensor& factor) { return call(kScaleBy, {self, factor}); }
DTensor sum_numbers(std::span<const DTensor> numbers) {
  std::vector<Input> inputs(numbers.begin(), numbers.end());
  return call_all(kSumNumbers, inputs)[0];
}

}  // namespace dtensor
