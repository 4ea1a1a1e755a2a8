// SPDX-License-Identifier: Apache-2.0
#include "dtensor/ops/optimizer.h"
#include "local/kernels/optimizer.h"

#include "ops/elementwise.h"

namespace dtensor {
namespace {

namespace cpu = local::cpu;
namespace kernels = local::kernels;

void step_type(ShapeCall& s) {
  for (int i = 1; i < s.num_inputs(); ++i)
    if (s.has_input(i) && !(s.input(i).shape == s.input(0).shape))
      s.fail("shapes differ (" + s.describe(0) + ", " + s.describe(i) + "); gradient and state have the parameter's shape");
  s.output(0) = s.input(0);
}

constexpr OpDef kAdamW{
    .name = "adamw_step_",
    .signature =
        "param!, grad, exp_avg!, exp_avg_sq!, max_exp_avg_sq!?, *, lr: float = 0.001, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-08, "
        "weight_decay: "
        "float = 0.01, "
        "step: float = 1.0, decoupled: bool = true, maximize: bool = false -> param",
    .rule = "..., ..., ..., ..., ... -> ...",
    .dtypes = "floating",
    .shape = step_type,
    .kernel =
        [](const KernelCall& c) {
          const auto number = [&](int i) { return c.attribute(i).as_double(); };
          kernels::adam_step(c.input(0), c.input(1), c.input(2), c.input(3), c.has_input(4) ? c.input(4) : Tensor(),
                             {.lr = number(0),
                              .beta1 = number(1),
                              .beta2 = number(2),
                              .eps = number(3),
                              .weight_decay = number(4),
                              .step = number(5),
                              .decoupled = c.attribute(6).as_bool(),
                              .maximize = c.attribute(7).as_bool()});
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
        "param!, grad, momentum_buffer!?, *, lr: float = 0.001, momentum: float = 0.0, dampening: float = 0.0, weight_decay: float = 0.0, nesterov: "
        "bool = false, "
        "maximize: bool = false, first_step: number = false -> param",
    .rule = "..., ..., ... -> ...",
    .dtypes = "floating",
    .shape =
        [](ShapeCall& s) {
          step_type(s);
          if (s.attribute(4).as_bool() && !s.has_input(2)) s.fail("nesterov needs a momentum buffer (none given); give one and a momentum above 0");
        },
    .kernel =
        [](const KernelCall& c) {
          const auto number = [&](int i) { return c.attribute(i).as_double(); };
          kernels::sgd_step(c.input(0), c.input(1), c.has_input(2) ? c.input(2) : Tensor(),
                            {.lr = number(0),
                             .momentum = number(1),
                             .dampening = number(2),
                             .weight_decay = number(3),
                             .nesterov = c.attribute(4).as_bool(),
                             .maximize = c.attribute(5).as_bool(),
                             .first = c.attribute(6).as_bool()});
        },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 7}, {5, 7}, {5, 7}}, .attributes = {{"momentum", "0.9"}, {"nesterov", "true"}}},
                                     {.shapes = {{0, 2}, {0, 2}, {0, 2}}}};
        },
};

constexpr const OpDef* kFamily[] = {&kAdamW, &kSgd};

}  // namespace

namespace ops {
OpList optimizer_ops() { return kFamily; }
}  // namespace ops

DTensor adamw_step_(const DTensor& param, const DTensor& grad, const DTensor& exp_avg, const DTensor& exp_avg_sq, const DTensor& max_exp_avg_sq,
                    const AdamWStepOptions& o) {
  return call(kAdamW, {param, grad, exp_avg, exp_avg_sq, max_exp_avg_sq ? Input(max_exp_avg_sq) : Input()},
              {o.lr, o.beta1, o.beta2, o.eps, o.weight_decay, o.step, o.decoupled, o.maximize});
}
DTensor adamw_step_(const DTensor& param, const DTensor& grad, const DTensor& exp_avg, const DTensor& exp_avg_sq, const AdamWStepOptions& o) {
  return adamw_step_(param, grad, exp_avg, exp_avg_sq, {}, o);
}
DTensor sgd_step_(const DTensor& param, const DTensor& grad, const DTensor& momentum_buffer, const SgdStepOptions& o) {
  const Input inputs[3] = {param, grad, momentum_buffer ? &momentum_buffer : nullptr};
  const Attribute attributes[7] = {o.lr, o.momentum, o.dampening, o.weight_decay, o.nesterov, o.maximize, o.first_step};
  return call_all(kSgd, inputs, attributes)[0];
}

}  // namespace dtensor
