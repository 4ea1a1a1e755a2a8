// SPDX-License-Identifier: Apache-2.0
#include "dtensor/optim.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "dtensor/autograd.h"
#include "dtensor/error.h"
#include "dtensor/ops/binary.h"
#include "dtensor/ops/cast.h"
#include "dtensor/ops/compare.h"
#include "dtensor/ops/factories.h"
#include "dtensor/ops/inplace.h"
#include "dtensor/ops/optimizer.h"
#include "dtensor/ops/pointwise.h"
#include "dtensor/ops/reductions.h"
#include "dtensor/ops/views.h"
#include "local/device.h"
#include "local/kernels/optimizer.h"
#include "ops/vector_norms.h"

namespace dtensor::optim {
namespace {

// What replays would do to a step that is recorded.
void check_recorded(bool capturable, bool has_state) {
  if (!capturable)
    throw InvalidArgument(
        "optimizer: the rate and the step count of a step that is recorded in a CUDA graph would be the same at each replay; make the optimiser "
        "capturable");
  if (!has_state)
    throw InvalidArgument(
        "optimizer: the first step makes the state, which each replay of a CUDA graph would make anew; make a step before it is recorded");
}

}  // namespace

Optimizer::Optimizer(std::vector<nn::NamedParameter> parameters, double lr, std::vector<std::string_view> slots, bool capturable)
    : lr_(lr),
      parameters_(std::move(parameters)),
      slot_names_(std::move(slots)),
      slots_(parameters_.size(), std::vector<DTensor>(slot_names_.size())),
      skipped_(parameters_.size()),
      capturable_(capturable),
      step_tensors_(parameters_.size()) {
  if (!(lr >= 0)) throw InvalidArgument("optimizer: lr is " + std::to_string(lr) + "; give a number that is not negative");
}

// Zeros like the parameter's leaf as it lies now.
DTensor Optimizer::slot(std::size_t parameter, std::size_t slot) {
  DTensor& t = slots_[parameter][slot];
  const DTensor& value = parameters_[parameter].parameter.value();
  // Asked for before the parameter had memory, it has none either.
  const bool late = t && t.device().kind == DeviceKind::meta && value.device().kind != DeviceKind::meta;
  if (!t || late) t = zeros_like(value);
  return t;
}

const StepTensors& Optimizer::tensors_of(std::size_t parameter) {
  StepTensors& tensors = step_tensors_[parameter];
  if (!capturable_ || tensors.lr) return tensors;
  // With all parameters beside it: none of them has had a gradient since set_steps(), so one number is right for all.
  const DTensor& value = parameters_[parameter].parameter.value();
  std::vector<std::size_t> list;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const DTensor& other = parameters_[i].parameter.value();
    if (!step_tensors_[i].lr && other.mesh() == value.mesh() && other.device() == value.device()) list.push_back(i);
  }
  const auto before = static_cast<double>(steps_ - 1 - skipped_[parameter]);
  OnDevice& here = on_devices_.emplace_back();
  here.lr = full({}, lr_, value.mesh(), {}, {.dtype = Dtype::f64, .device = value.device()});
  here.counts = full({static_cast<std::int64_t>(list.size())}, before, value.mesh(), {}, {.dtype = Dtype::f64, .device = value.device()});
  for (std::size_t k = 0; k < list.size(); ++k) step_tensors_[list[k]] = {here.lr, select(here.counts, 0, static_cast<std::int64_t>(k))};
  return tensors;
}

void Optimizer::set_lr(double lr) {
  lr_ = lr;
  const NoGrad off;
  for (const OnDevice& d : on_devices_) fill_(d.lr, lr);
}

std::int64_t Optimizer::steps() const {
  if (on_devices_.empty()) return steps_;
  double most = -1;
  for (const OnDevice& d : on_devices_) {
    const Tensor counts = d.counts.local();
    if (!counts || counts.device().kind == DeviceKind::meta) continue;
    const Tensor here = counts.to(Device::cpu());
    for (const double n : here.values<const double>()) most = std::max(most, n);
  }
  return most < 0 ? steps_ : static_cast<std::int64_t>(most);
}

void Optimizer::step() {
  const NoGrad off;
  ++steps_;
  local::kernels::Together together(together_);
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const DTensor& value = parameters_[i].parameter.value();
    const DTensor grad = value.grad();
    if (!grad) {
      ++skipped_[i];
      continue;
    }
    if (local::is_recording(value.device())) check_recorded(capturable_, bool(step_tensors_[i].lr));
    own_steps_ = steps_ - skipped_[i];
    first_update_ = own_steps_ == 1 || (!slots_[i].empty() && !slots_[i][0]);
    for (std::size_t s = 0; s < slot_names_.size(); ++s) slot(i, s);
    tensors_ = &tensors_of(i);
    update(value, grad, slots_[i]);
  }
  together.finish();
}

void Optimizer::set_steps(std::int64_t steps) {
  steps_ = steps;
  std::fill(skipped_.begin(), skipped_.end(), 0);
  const NoGrad off;
  for (const OnDevice& d : on_devices_) fill_(d.counts, static_cast<double>(steps));
}

void Optimizer::zero_grad() {
  for (const nn::NamedParameter& p : parameters_) p.parameter.value().set_grad({});
}

std::vector<StateTensor> Optimizer::state() {
  std::vector<StateTensor> list;
  for (std::size_t i = 0; i < parameters_.size(); ++i)
    for (std::size_t s = 0; s < slot_names_.size(); ++s)
      list.push_back({std::string(slot_names_[s]) + "." + parameters_[i].name, [this, i, s] { return slot(i, s); },
                      [this, i, s](const DTensor& t) { slots_[i][s] = t; }});
  return list;
}

SGD::SGD(std::vector<nn::NamedParameter> parameters, const SGDOptions& options)
    : Optimizer(std::move(parameters), options.lr,
                options.momentum != 0 ? std::vector<std::string_view>{"momentum_buffer"} : std::vector<std::string_view>{}, options.capturable),
      options_(options) {
  together_ = true;
  if (options.nesterov && (options.momentum <= 0 || options.dampening != 0)) throw InvalidArgument("sgd: nesterov needs a momentum and no dampening");
}

void SGD::update(const DTensor& parameter, const DTensor& grad, std::vector<DTensor>& slots) {
  sgd_step_(parameter, grad, slots.empty() ? DTensor() : slots[0],
            {.lr = lr_,
             .momentum = options_.momentum,
             .dampening = options_.dampening,
             .weight_decay = options_.weight_decay,
             .nesterov = options_.nesterov,
             .maximize = options_.maximize,
             .first_step = first_update_},
            tensors());
}

namespace {
std::vector<std::string_view> adam_slots(bool amsgrad) {
  std::vector<std::string_view> names{"exp_avg", "exp_avg_sq"};
  if (amsgrad) names.emplace_back("max_exp_avg_sq");
  return names;
}
template <class Options>
AdamWStepOptions adam_step(const Options& o, double lr, std::int64_t step, bool decoupled) {
  return {.lr = lr,
          .beta1 = o.betas[0],
          .beta2 = o.betas[1],
          .eps = o.eps,
          .weight_decay = o.weight_decay,
          .step = static_cast<double>(step),
          .decoupled = decoupled,
          .maximize = o.maximize};
}
}  // namespace

AdamW::AdamW(std::vector<nn::NamedParameter> parameters, const AdamWOptions& options)
    : Optimizer(std::move(parameters), options.lr, adam_slots(options.amsgrad), options.capturable), options_(options) {
  together_ = true;
}
void AdamW::update(const DTensor& parameter, const DTensor& grad, std::vector<DTensor>& slots) {
  adamw_step_(parameter, grad, slots[0], slots[1], options_.amsgrad ? slots[2] : DTensor(), adam_step(options_, lr_, own_steps(), true), tensors());
}

Adam::Adam(std::vector<nn::NamedParameter> parameters, const AdamOptions& options)
    : Optimizer(std::move(parameters), options.lr, adam_slots(options.amsgrad), options.capturable), options_(options) {
  together_ = true;
}
void Adam::update(const DTensor& parameter, const DTensor& grad, std::vector<DTensor>& slots) {
  adamw_step_(parameter, grad, slots[0], slots[1], options_.amsgrad ? slots[2] : DTensor(), adam_step(options_, lr_, own_steps(), false), tensors());
}

namespace {
Placements without_partial(const Placements& placements) {
  std::vector<AxisPlacement> list;
  for (const AxisPlacement& e : placements.entries())
    if (!e.placement.is_partial()) list.push_back(e);
  return Placements(std::move(list));
}

// The square of a sum is not the sum of squares, so gradients that are Partial are reduced, in one call.
void reduce_partial(const std::vector<nn::Parameter>& parameters) {
  std::vector<const nn::Parameter*> owners;
  std::vector<DTensor> grads;
  std::vector<Placements> targets;
  for (const nn::Parameter& p : parameters) {
    const DTensor grad = p.grad();
    if (!grad) continue;
    const auto& lies = grad.placements().entries();
    if (std::none_of(lies.begin(), lies.end(), [](const AxisPlacement& e) { return e.placement.is_partial(); })) continue;
    owners.push_back(&p);
    grads.push_back(grad);
    targets.push_back(without_partial(grad.placements()));
  }
  const std::vector<DTensor> reduced = redistribute_all(grads, targets);
  for (std::size_t i = 0; i < owners.size(); ++i) owners[i]->value().set_grad(reduced[i]);
}
}  // namespace

namespace {
// What a gradient adds to the norm before the root: its part of a sum, or an extreme magnitude.
DTensor norm_part(const DTensor& grad, double norm_type) {
  if (norm_type == 2) return ops::square_sum(grad, grad.dtype() == Dtype::f64 ? Dtype::f64 : Dtype::f32);
  const DTensor wide = grad.dtype() == Dtype::f64 ? grad : grad.to(Dtype::f32);
  if (norm_type == 0) return any(ne(wide, 0)).to(wide.dtype()).redistribute({});
  if (std::isinf(norm_type)) return (norm_type > 0 ? amax(abs(wide)) : amin(abs(wide))).redistribute({});
  return sum(norm_type == 1 ? abs(wide) : pow(abs(wide), norm_type));
}

// Sharded gradients give Partial numbers: those that lie alike are added as they are, so that one reduction is left.
DTensor sum_of(std::vector<DTensor> parts) {
  DTensor total;
  while (!parts.empty()) {
    const DTensor first = parts.front();
    const auto others = std::stable_partition(parts.begin(), parts.end(), [&](const DTensor& p) {
      return p.mesh() == first.mesh() && p.dtype() == first.dtype() && p.device() == first.device() && p.placements() == first.placements();
    });
    const DTensor sum = sum_numbers({parts.begin(), others});
    total = !total ? sum : total + sum;
    parts.erase(parts.begin(), others);
  }
  return total;
}
}  // namespace

DTensor clip_grad_norm_(const std::vector<nn::Parameter>& parameters, double max_norm, double norm_type) {
  if (std::isnan(norm_type)) throw InvalidArgument("clip_grad_norm_: norm_type is nan; give a number or an infinity");
  const NoGrad off;
  const bool extreme = std::isinf(norm_type);
  reduce_partial(parameters);
  std::vector<DTensor> parts;
  local::kernels::Together sums(norm_type == 2);
  for (const nn::Parameter& p : parameters)
    if (const DTensor grad = p.grad(); grad && !(extreme && grad.shape().numel() == 0)) parts.push_back(norm_part(grad, norm_type));
  sums.finish();
  if (parts.empty()) throw InvalidArgument("clip_grad_norm_: no parameter has a gradient; call it after backward");
  DTensor total = extreme ? parts[0] : sum_of(parts);
  for (std::size_t i = 1; extreme && i < parts.size(); ++i) total = norm_type > 0 ? maximum(total, parts[i]) : minimum(total, parts[i]);
  total = total.redistribute({});
  DTensor norm = norm_type == 2 ? sqrt(total) : extreme || norm_type == 1 || norm_type == 0 ? total : pow(total, 1 / norm_type);
  const DTensor scale = clamp(max_norm / (norm + 1e-6), {.max = 1.0});
  local::kernels::Together scaled;
  for (const nn::Parameter& p : parameters)
    if (const DTensor grad = p.grad()) scale_by_(grad, scale);
  scaled.finish();
  return norm;
}

double WarmupCosine::operator()(std::int64_t step) const {
  if (step < warmup_steps) return lr * static_cast<double>(step + 1) / static_cast<double>(warmup_steps);
  if (step >= total_steps) return final_lr;
  const double progress = static_cast<double>(step - warmup_steps) / static_cast<double>(std::max<std::int64_t>(1, total_steps - warmup_steps));
  return final_lr + 0.5 * (lr - final_lr) * (1 + std::cos(std::numbers::pi * progress));
}

}  // namespace dtensor::optim
