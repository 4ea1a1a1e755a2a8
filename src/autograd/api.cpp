// SPDX-License-Identifier: Apache-2.0
// The differentiation members of DTensor, scopes and grad().
#include "autograd/node.h"
#include "base/error_text.h"
#include "tensor/move_ops.h"

namespace dtensor {
namespace autograd {
void enable_recording();

namespace {

DTensor ones_like(const DTensor& t) {
  const tensor::Spec& s = *t.impl()->spec;
  const auto spec = tensor::intern_spec(s.mesh, placements::replicated(s.mesh.sizes(), s.shape.ndim()), s.shape, s.dtype, s.device);
  Tensor local = Tensor::empty(spec->local_shape, s.dtype, s.device);
  if (s.device.kind != DeviceKind::meta) local.fill_(1);
  return tensor::make_dtensor(spec, local);
}

Root root_of(const DTensor& t, const DTensor& grad_output, std::string_view op) {
  const tensor::Impl& impl = tensor::checked(t, op);
  if (!impl.requires_grad)
    base::fail<InvalidArgument>("{}: the tensor asks for no gradient ({}); make an input with requires_grad = true, and record outside NoGrad", op,
                                to_string(t));
  if (!grad_output && t.numel() != 1)
    base::fail<InvalidArgument>("{}: the tensor has {} elements ({}); reduce it to one, or give grad_output of its shape", op, t.numel(),
                                to_string(t));
  if (grad_output && grad_output.shape() != t.shape())
    base::fail<InvalidArgument>("{}: shapes differ (grad_output {}, tensor {}); give a gradient of the tensor's shape", op, to_string(grad_output),
                                to_string(t));
  return {t, grad_output ? grad_output : ones_like(t)};
}

}  // namespace
}  // namespace autograd

using autograd::ensure_meta;
using autograd::meta_of;
using tensor::checked;

bool DTensor::requires_grad() const { return impl_ != nullptr && impl_->requires_grad; }

const DTensor& DTensor::set_requires_grad(bool on) const {
  tensor::Impl& impl = checked(*this, "set_requires_grad");
  if (on && !info(dtype()).floating)
    base::fail<InvalidArgument>("set_requires_grad: {} is not floating; only floating tensors have gradients", to_string(*this));
  if (!is_leaf())
    base::fail<InvalidArgument>("set_requires_grad: {} is the result of a recorded op; call it on a leaf, or on detach()", to_string(*this));
  autograd::enable_recording();
  impl.requires_grad = on;
  if (on) ensure_meta(*this);
  return *this;
}

bool DTensor::is_leaf() const {
  const auto* meta = meta_of(*this);
  return meta == nullptr || !meta->node;
}

DTensor DTensor::grad() const {
  const auto* meta = meta_of(*this);
  return meta != nullptr ? meta->grad : DTensor();
}

void DTensor::set_grad(const DTensor& grad) const {
  if (grad && grad.shape() != shape())
    base::fail<InvalidArgument>("set_grad: shapes differ (gradient {}, tensor {})", to_string(grad), to_string(*this));
  checked(*this, "set_grad");
  ensure_meta(*this).grad = grad;
}

DTensor DTensor::detach() const {
  const tensor::Impl& impl = checked(*this, "detach");
  return tensor::make_dtensor(impl.spec, impl.local);
}

void DTensor::backward(const BackwardOptions& options) const { backward(DTensor(), options); }

void DTensor::backward(const DTensor& grad_output, const BackwardOptions& options) const {
  autograd::run_backward({autograd::root_of(*this, grad_output, "backward")}, {}, options.retain_graph, options.create_graph);
}

void DTensor::add_hook(GradientHook hook) const {
  const tensor::Impl& impl = checked(*this, "add_hook");
  if (!impl.requires_grad) base::fail<InvalidArgument>("add_hook: the tensor asks for no gradient ({})", to_string(*this));
  auto& meta = ensure_meta(*this);
  if (meta.node) meta.node->hooks.push_back({meta.output, std::move(hook)});
  else meta.hooks.push_back(std::move(hook));
}

void set_grad_placements(const DTensor& leaf, const Placements& placements) {
  const tensor::Spec& spec = *checked(leaf, "set_grad_placements").spec;
  ensure_meta(leaf).grad_layout = placements::make_layout(spec.mesh, spec.shape, spec.dtype, placements, "set_grad_placements");
}

void keep_grad_placements(const DTensor& leaf) {
  checked(leaf, "keep_grad_placements");
  ensure_meta(leaf).keep_layout = true;
}

void add_gradient_ready_hook(const DTensor& leaf, std::function<void(const DTensor&)> hook) {
  checked(leaf, "add_gradient_ready_hook");
  ensure_meta(leaf).ready.push_back(std::move(hook));
}

void at_backward_end(std::function<void()> callback) {
  autograd::TapeState& state = autograd::tape();
  if (state.depth == 0) callback();
  else state.at_end.push_back(std::move(callback));
}

NoGrad::NoGrad() : was_(tensor::call_state().grad_enabled) { tensor::call_state().grad_enabled = false; }
NoGrad::~NoGrad() { tensor::call_state().grad_enabled = was_; }
EnableGrad::EnableGrad() : was_(tensor::call_state().grad_enabled) { tensor::call_state().grad_enabled = true; }
EnableGrad::~EnableGrad() { tensor::call_state().grad_enabled = was_; }
bool is_grad_enabled() { return tensor::call_state().grad_enabled; }

std::vector<DTensor> grad(std::span<const DTensor> outputs, std::span<const DTensor> inputs, std::span<const DTensor> grad_outputs,
                          const GradOptions& options) {
  if (!grad_outputs.empty() && grad_outputs.size() != outputs.size())
    base::fail<InvalidArgument>("grad: {} grad_outputs for {} outputs; give one per output or none", grad_outputs.size(), outputs.size());
  std::vector<autograd::Root> roots;
  for (std::size_t i = 0; i < outputs.size(); ++i)
    roots.push_back(autograd::root_of(outputs[i], grad_outputs.empty() ? DTensor() : grad_outputs[i], "grad"));
  for (const DTensor& in : inputs)
    if (!in.requires_grad()) base::fail<InvalidArgument>("grad: an input asks for no gradient ({})", to_string(in));
  auto results = autograd::run_backward(roots, inputs, options.retain_graph, options.create_graph);
  for (std::size_t i = 0; i < results.size(); ++i)
    if (!results[i] && !options.allow_unused)
      base::fail<InvalidArgument>("grad: no output depends on input {} ({}); pass allow_unused = true to get an empty tensor", i,
                                  to_string(inputs[i]));
  return results;
}

}  // namespace dtensor
