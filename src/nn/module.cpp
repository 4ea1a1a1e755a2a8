// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "dtensor/autograd.h"
#include "dtensor/nn.h"
#include "dtensor/ops/views.h"

namespace dtensor::nn {
namespace {

std::string join(const std::string& prefix, std::string_view name) { return prefix.empty() ? std::string(name) : prefix + "." + std::string(name); }

// Walks the tree of members, outer first.
class Walk final : public Fields {
 public:
  std::vector<NamedParameter> parameters;
  std::vector<NamedModule> modules;

  void visit(const std::string& name, ModuleBase& module) {
    modules.push_back({name, &module});
    const std::string outer = std::exchange(prefix_, name);
    module.fields(*this);
    prefix_ = outer;
  }

 private:
  void on_parameter(std::string_view name, Parameter& parameter) override {
    const bool tied = std::any_of(parameters.begin(), parameters.end(), [&](const NamedParameter& p) { return p.parameter == parameter; });
    if (!tied) parameters.push_back({join(prefix_, name), parameter});
  }
  void on_module(std::string_view name, ModuleBase& module) override { visit(join(prefix_, name), module); }
  std::string prefix_;
};

Walk walk(ModuleBase& module) {
  Walk w;
  w.visit("", module);
  return w;
}

}  // namespace

ModuleBase::~ModuleBase() {
  if (self_) *self_ = nullptr;
}

std::shared_ptr<ModuleBase*> ModuleBase::self() {
  if (!self_) self_ = std::make_shared<ModuleBase*>(this);
  return self_;
}

std::vector<NamedParameter> ModuleBase::named_parameters() { return walk(*this).parameters; }
std::vector<NamedModule> ModuleBase::named_modules() { return walk(*this).modules; }

std::vector<Parameter> ModuleBase::parameters() {
  std::vector<Parameter> list;
  for (NamedParameter& p : named_parameters()) list.push_back(std::move(p.parameter));
  return list;
}

void ModuleBase::materialize() {
  for (const NamedParameter& p : named_parameters()) p.parameter.materialize(p.name);
}

void ModuleBase::train(bool on) {
  for (const NamedModule& m : named_modules()) m.module->training_ = on;
}

void ModuleBase::zero_grad() {
  for (const Parameter& p : parameters()) p.value().set_grad({});
}

void ModuleBase::enter() {
  for (const Hooks& h : hooks_)
    if (h.before_forward) h.before_forward(*this);
}

DTensor ModuleBase::input(const DTensor& t) {
  DTensor value = t;
  for (const Hooks& h : hooks_)
    if (h.input) value = h.input(*this, value);
  const bool watched = std::any_of(hooks_.begin(), hooks_.end(), [](const Hooks& h) { return static_cast<bool>(h.after_backward); });
  if (!watched || !value || !value.requires_grad() || !is_grad_enabled()) return value;
  // Its own node: the hook sees the gradient of this module's uses only.
  value = alias(value);
  value.add_hook([self = self()](const DTensor&) {
    if (*self == nullptr) return DTensor();
    for (const Hooks& h : (*self)->hooks_)
      if (h.after_backward) h.after_backward(**self);
    return DTensor();
  });
  return value;
}

DTensor ModuleBase::leave(DTensor t) {
  for (const Hooks& h : hooks_)
    if (h.output) t = h.output(*this, t);
  for (const Hooks& h : hooks_)
    if (h.after_forward) h.after_forward(*this);
  const bool watched = std::any_of(hooks_.begin(), hooks_.end(), [](const Hooks& h) { return static_cast<bool>(h.before_backward); });
  if (watched && t && t.requires_grad() && is_grad_enabled()) {
    t = alias(t);
    t.add_hook([self = self()](const DTensor&) {
      if (*self == nullptr) return DTensor();
      for (const Hooks& h : (*self)->hooks_)
        if (h.before_backward) h.before_backward(**self);
      return DTensor();
    });
  }
  return t;
}

}  // namespace dtensor::nn
