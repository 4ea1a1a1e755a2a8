// SPDX-License-Identifier: Apache-2.0
// Functions of the library that are expressions of other ops, by name, for recorded cases.
#include <algorithm>

#include "base/error_text.h"
#include "debug/case_calls.h"
#include "dtensor/autograd.h"
#include "dtensor/ops/attention.h"
#include "dtensor/ops/losses.h"
#include "dtensor/ops/random.h"
#include "dtensor/ops/reductions.h"
#include "dtensor/ops/views.h"
#include "dtensor/optim.h"

namespace dtensor::debug {
namespace {

DTensor leaf(const DTensor& t) {
  const NoGrad guard;
  return clone(t.detach());
}

// Three steps with the given gradients; the parameters after them.
template <class Optimizer, class Options>
Results three_steps(CallArguments& a, const Options& options) {
  std::vector<nn::NamedParameter> parameters;
  for (const DTensor& start : a.list("params")) {
    nn::Parameter p(start.shape(), start.mesh(), {}, start.dtype());
    p.set(leaf(start));
    parameters.push_back({std::to_string(parameters.size()), p});
  }
  Optimizer optimizer(parameters, options);
  for (const std::string_view step : {"grads_1", "grads_2", "grads_3"}) {
    const std::vector<DTensor> grads = a.list(step);
    for (std::size_t i = 0; i < parameters.size(); ++i) parameters[i].parameter.value().set_grad(grads.at(i));
    optimizer.step();
  }
  Results results;
  for (const nn::NamedParameter& p : parameters) results.push_back(p.parameter.value());
  return results;
}

Results sgd(CallArguments& a) {
  optim::SGDOptions o;
  o.lr = a.number("lr", o.lr), o.momentum = a.number("momentum", o.momentum), o.dampening = a.number("dampening", o.dampening);
  o.weight_decay = a.number("weight_decay", o.weight_decay), o.nesterov = a.flag("nesterov", o.nesterov);
  o.maximize = a.flag("maximize", o.maximize);
  return three_steps<optim::SGD>(a, o);
}

template <class Optimizer, class Options>
Results adam(CallArguments& a) {
  Options o;
  const std::vector<double> betas = a.numbers("betas", {o.betas[0], o.betas[1]});
  if (betas.size() != 2) base::fail<InvalidArgument>("adam: betas must be two numbers ({} given)", betas.size());
  o.betas = {betas[0], betas[1]};
  o.lr = a.number("lr", o.lr), o.eps = a.number("eps", o.eps), o.weight_decay = a.number("weight_decay", o.weight_decay);
  o.amsgrad = a.flag("amsgrad", o.amsgrad), o.maximize = a.flag("maximize", o.maximize);
  return three_steps<Optimizer>(a, o);
}

Results clip_grad_norm(CallArguments& a) {
  std::vector<nn::Parameter> parameters;
  for (const DTensor& grad : a.list("grads")) {
    parameters.emplace_back(grad.shape(), grad.mesh(), nn::Init(), grad.dtype());
    parameters.back().set(leaf(grad));
    parameters.back().value().set_grad(leaf(grad));
  }
  Results results{optim::clip_grad_norm_(parameters, a.number("max_norm"), a.number("norm_type", 2))};
  for (const nn::Parameter& p : parameters) results.push_back(p.grad());
  return results;
}

Results cross_entropy_loss(CallArguments& a) {
  CrossEntropyOptions o;
  const std::string reduction = a.text("reduction", "mean");
  o.weight = a.optional("weight"), o.ignore_index = a.integer("ignore_index", o.ignore_index), o.reduction = reduction;
  o.label_smoothing = a.number("label_smoothing", 0);
  return {cross_entropy(a.tensor("input"), a.tensor("target"), o)};
}

Results nll(CallArguments& a) {
  NllLossOptions o;
  const std::string reduction = a.text("reduction", "mean");
  o.weight = a.optional("weight"), o.ignore_index = a.integer("ignore_index", o.ignore_index), o.reduction = reduction;
  return {nll_loss(a.tensor("input"), a.tensor("target"), o)};
}

Results attention(CallArguments& a) {
  AttentionOptions o;
  o.attn_mask = a.optional("attn_mask"), o.dropout_p = a.number("dropout_p", 0), o.is_causal = a.flag("is_causal", false);
  if (a.has("scale")) o.scale = a.number("scale");
  else a.number("scale", 0);
  o.enable_gqa = a.flag("enable_gqa", false);
  return {scaled_dot_product_attention(a.tensor("query"), a.tensor("key"), a.tensor("value"), o)};
}

struct Row {
  std::string_view name;
  Expression expression;
};
constexpr Row kRows[] = {
    {"adam", adam<optim::Adam, optim::AdamOptions>},
    {"adamw", adam<optim::AdamW, optim::AdamWOptions>},
    {"clip_grad_norm", clip_grad_norm},
    {"cross_entropy", cross_entropy_loss},
    {"dropout", [](CallArguments& a) -> Results { return {dropout(a.tensor("input"), a.number("p", 0.5), a.flag("training", true))}; }},
    {"mse_loss",
     [](CallArguments& a) -> Results {
       const std::string reduction = a.text("reduction", "mean");
       return {mse_loss(a.tensor("input"), a.tensor("target"), {.reduction = reduction})};
     }},
    {"nll_loss", nll},
    {"scaled_dot_product_attention", attention},
    {"sgd", sgd},
};

}  // namespace

Expression find_expression(std::string_view name) {
  const auto* row = std::find_if(std::begin(kRows), std::end(kRows), [&](const Row& r) { return r.name == name; });
  return row == std::end(kRows) ? nullptr : row->expression;
}

}  // namespace dtensor::debug
