// SPDX-License-Identifier: Apache-2.0
#include "tensor/move_ops.h"

#include <array>
#include <numeric>

#include "base/error_text.h"
#include "local/device.h"
#include "local/kernels/binary.h"
#include "mesh/mesh_data.h"
#include "tensor/agree.h"
#include "tensor/impl.h"
#include "tensor/plan.h"

namespace dtensor::tensor {
namespace {

using placements::Layout;
using placements::LayoutRef;

// ---- redistribute: input, layout, transport?, result?, backward?, memory_limit
void plan_redistribute(PlanBuilder& b) {
  const Spec& from = *b.inputs[0];
  const LayoutRef target = layout_of(b.attributes[0]);
  b.plan->holds.push_back(target);
  b.plan->holds.push_back(layout_of(b.attributes[5]));
  const Dtype transport = optional_dtype(b.attributes[1]).value_or(from.dtype);
  const Dtype result = optional_dtype(b.attributes[2]).value_or(transport);
  int slot = 0;
  const SpecRef moved = intern_spec(from.mesh, from.layout, from.shape, transport, from.device);
  if (from.inside) {
    if (transport != from.dtype) slot = b.convert(slot, transport);
    slot = b.route(slot, *moved, target, false, b.attributes[4].as_int());
    if (result != transport) slot = b.convert(slot, result);
    // A value: neither side sees the other's writes.
    bool own = slot != 0;
    for (const auto& m : b.plan->moves)
      if (!m.communicates()) own = false;
    if (!own) slot = b.share(slot);
  } else {
    b.route(slot, *moved, target, false, b.attributes[4].as_int());
  }
  b.output(intern_spec(from.mesh, target, from.shape, result, from.device), slot);
}

std::vector<DTensor> redistribute_gradient(const GradientCall& g) {
  const auto back = optional_dtype(g.attribute(3));
  const LayoutRef source = layout_of(g.attribute(5));
  return {redistribute_to(g.grad_output(0), source, back, g.input_type(0).dtype)};
}

constexpr OpDef kRedistribute{
    .name = "redistribute",
    .signature =
        "input, *, layout: object, transport: dtype? = none, result: dtype? = none, backward: dtype? = none, memory_limit: int = 0, source: object "
        "-> out",
    .gradient = redistribute_gradient,
    .plan = plan_redistribute,
};

// ---- to_local: input, mesh (self), layout of self, gradient layout
void plan_to_local(PlanBuilder& b) {
  const Spec& from = *b.inputs[0];
  const DeviceMesh self = DeviceMesh::self();
  b.plan->holds.push_back(layout_of(b.attributes[0]));
  b.output(intern_spec(self, placements::replicated(self.sizes(), from.local_shape.ndim()), from.local_shape, from.dtype, from.device), 0);
}

DTensor from_local_call(const DTensor& local, const DeviceMesh& mesh, const LayoutRef& layout, const Shape& shape, const LayoutRef& grad_layout);

std::vector<DTensor> to_local_gradient(const GradientCall& g) {
  const LayoutRef layout = layout_of(g.attribute(0));
  const auto* mesh = static_cast<const mesh::MeshData*>(g.attribute(1).as_object());
  const DeviceMesh whole(mesh->shared_from_this());
  return {from_local_call(g.grad_output(0), whole, layout, g.input_type(0).shape, without_partial(layout))};
}

constexpr OpDef kToLocal{
    .name = "to_local",
    .signature = "input, *, grad_layout: object, mesh: object -> view(input)",
    .gradient = to_local_gradient,
    .plan = plan_to_local,
};

// ---- to_device: input, device, source device, non_blocking
std::int64_t number_of(Device device) { return static_cast<std::int64_t>(device.kind) * 256 + static_cast<std::uint8_t>(device.index); }
Device device_of(const Attribute& a) {
  return {static_cast<DeviceKind>(a.as_int() / 256), static_cast<std::int8_t>(static_cast<std::uint8_t>(a.as_int() % 256))};
}
void plan_to_device(PlanBuilder& b) {
  const Spec& from = *b.inputs[0];
  const int slot = b.new_slot();
  b.plan->steps.push_back({StepKind::carry, 0, slot, static_cast<int>(b.attributes[2].as_int())});
  b.output(intern_spec(from.mesh, from.layout, from.shape, from.dtype, device_of(b.attributes[0])), slot);
}

constexpr OpDef kToDevice{
    .name = "to_device",
    .signature = "input, *, device: int, source: int, non_blocking: int -> out",
    .gradient = [](const GradientCall& g) -> std::vector<DTensor> { return {g.grad_output(0).to(device_of(g.attribute(1)))}; },
    .plan = plan_to_device,
};

// ---- scale: a number times a tensor, for gradients of averages
DTensor scaled(const DTensor& t, const Attribute& factor);
constexpr OpDef kScale{
    .name = "scale",
    .signature = "input, factor: float -> out",
    .rule = "... -> ...    linear",
    .dtypes = "floating",
    .shape = [](ShapeCall& s) { s.output(0) = s.input(0); },
    .kernel =
        [](const KernelCall& call) { local::kernels::binary(local::cpu::Binary::mul, call.input(0), call.attribute(0).scalar(), call.output(0)); },
    .gradient = [](const GradientCall& g) -> std::vector<DTensor> { return {scaled(g.grad_output(0), g.attribute(0))}; },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 3}}, .attributes = {{"factor", "0.5"}}}, {.shapes = {{0}}, .attributes = {{"factor", "2"}}}};
        },
};

DTensor scaled(const DTensor& t, const Attribute& factor) { return call(kScale, {t}, {factor}); }

// ---- from_local: input on self, mesh, layout, global shape, gradient layout
void plan_from_local(PlanBuilder& b) {
  const Spec& from = *b.inputs[0];
  const auto* data = static_cast<const mesh::MeshData*>(b.attributes[0].as_object());
  const DeviceMesh mesh(data->shared_from_this());
  const LayoutRef layout = layout_of(b.attributes[1]);
  b.plan->holds.push_back(layout_of(b.attributes[3]));
  const Shape shape = b.attributes[2].as_shape();
  const SpecRef to = intern_spec(mesh, layout, shape, from.dtype, from.device);
  if (to->inside && to->local_shape != from.shape)
    base::fail<InvalidArgument>(
        "from_local: the local part does not fit ({} given, {} of {} expected on this rank); give the global shape or another placement",
        to_string(from.shape), to_string(to->local_shape), to_string(*to));
  b.output(to, 0);
}

std::vector<DTensor> from_local_gradient(const GradientCall& g) {
  const LayoutRef back = layout_of(g.attribute(3));
  const LayoutRef forward = layout_of(g.attribute(1));
  DTensor grad = redistribute_to(g.grad_output(0), back);
  std::int64_t divisor = 1;
  for (std::size_t a = 0; a < forward->partial.size(); ++a)
    if (forward->partial[a] == ReduceOp::avg) divisor *= forward->mesh_sizes[a];
  if (divisor > 1) grad = call(kScale, {grad}, {1.0 / static_cast<double>(divisor)});
  return {grad.to_local()};
}

constexpr OpDef kFromLocal{
    .name = "from_local",
    .signature = "input, *, mesh: object, layout: object, shape: int[], grad_layout: object -> view(input)",
    .gradient = from_local_gradient,
    .plan = plan_from_local,
};

// The global shape where every rank's part has the sizes of this one.
Shape joined_shape(const Shape& local, const DeviceMesh& mesh, const Placements& placements) {
  Shape shape = local;
  if (shape.empty()) return shape;
  const auto dim = [&](int d) -> std::int64_t& { return shape[normalize_dim(d, shape.ndim(), "from_local")]; };
  const auto ranks = [&](const AxisPlacement& e) { return mesh.sizes()[static_cast<std::size_t>(mesh.axis(e.axis))]; };
  for (const AxisPlacement& e : placements.entries()) {
    if (const auto* s = e.placement.as<Shard>()) dim(s->dim) *= ranks(e);
    else if (const auto* strided = e.placement.as<StridedShard>()) dim(strided->dim) *= ranks(e);
    else if (const auto* ragged = e.placement.as<RaggedShard>())
      dim(ragged->dim) = std::accumulate(ragged->sizes.begin(), ragged->sizes.end(), std::int64_t{0});
  }
  return shape;
}

DTensor from_local_call(const DTensor& local, const DeviceMesh& mesh, const LayoutRef& layout, const Shape& shape, const LayoutRef& grad_layout) {
  return call(kFromLocal, {local}, {Attribute::object(&mesh.data()), Attribute::object(layout.get()), shape, Attribute::object(grad_layout.get())});
}

constexpr std::array<const OpDef*, 7> kMoveOps{&kRedistribute, &kRedistributeBetween, &kRedistributeAll, &kToLocal, &kFromLocal, &kToDevice, &kScale};

}  // namespace

placements::LayoutRef layout_of(const Attribute& a) {
  // Interned and held by the specs of the call, so an owning reference can be had from the value.
  return placements::intern(*static_cast<const Layout*>(a.as_object()));
}
std::optional<Dtype> optional_dtype(const Attribute& a) { return a.is_none() ? std::nullopt : std::optional(a.as_dtype()); }

placements::LayoutRef without_partial(const placements::LayoutRef& layout) {
  if (!layout->has_partial()) return layout;
  Layout l = *layout;
  for (auto& p : l.partial) p.reset();
  return placements::intern(std::move(l));
}

DTensor redistribute_to(const DTensor& tensor, const placements::LayoutRef& layout, std::optional<Dtype> transport, std::optional<Dtype> result,
                        std::optional<Dtype> backward, std::int64_t memory_limit) {
  const LayoutRef source = without_partial(checked(tensor, "redistribute").spec->layout);
  return call(kRedistribute, {tensor}, {Attribute::object(layout.get()), transport, result, backward, memory_limit, Attribute::object(source.get())});
}

std::span<const OpDef* const> move_ops() { return kMoveOps; }

}  // namespace dtensor::tensor

namespace dtensor {

using tensor::checked;

DTensor DTensor::redistribute(const Placements& placements, const RedistributeOptions& options) const {
  const tensor::Spec& spec = *checked(*this, "redistribute").spec;
  const DeviceMesh& mesh = options.mesh ? *options.mesh : spec.mesh;
  if (!(mesh == spec.mesh)) tensor::check_other_mesh(spec.mesh, mesh);
  const Dtype dtype = options.forward_dtype.value_or(spec.dtype);
  const auto layout = placements::make_layout(mesh, spec.shape, dtype, placements, "redistribute");
  return tensor::redistribute_between(*this, mesh, layout, options.forward_dtype, {}, options.backward_dtype, options.memory_limit);
}

DTensor DTensor::to_local(const LocalOptions& options) const {
  const tensor::Spec& spec = *checked(*this, "to_local").spec;
  const auto layout = options.grad_placements ? placements::make_layout(spec.mesh, spec.shape, spec.dtype, *options.grad_placements, "to_local")
                                              : tensor::without_partial(spec.layout);
  return call(tensor::kToLocal, {*this}, {Attribute::object(layout.get()), Attribute::object(&spec.mesh.data())});
}

DTensor DTensor::to(Device device, const CopyOptions& options) const {
  const Device here = checked(*this, "to").spec->device;
  if (device == here) return *this;
  if (device.kind == DeviceKind::cuda) local::require_cuda(device, "to").check(device);
  return call(tensor::kToDevice, {*this}, {tensor::number_of(device), tensor::number_of(here), options.non_blocking ? 1 : 0});
}

DTensor DTensor::full_tensor(const LocalOptions& options) const { return redistribute({}).to_local(options); }

namespace {

// `local` lies on this rank alone.
DTensor joined(const DTensor& local, const DeviceMesh& mesh, const Placements& placements, const FromLocalOptions& options) {
  const tensor::Spec& spec = *local.impl()->spec;
  const Shape shape = options.shape.empty() ? tensor::joined_shape(spec.shape, mesh, placements) : options.shape;
  const auto layout = placements::make_layout(mesh, shape, spec.dtype, placements, "from_local");
  const auto grad = options.grad_placements ? placements::make_layout(mesh, shape, spec.dtype, *options.grad_placements, "from_local")
                                            : tensor::without_partial(layout);
  return tensor::from_local_call(local, mesh, layout, shape, grad);
}

DTensor checked_joined(const DTensor& local, const DeviceMesh& mesh, const Placements& placements, const FromLocalOptions& options) {
  if (!options.check) return joined(local, mesh, placements, options);
  return tensor::agreed(mesh, "from_local", [&] { return joined(local, mesh, placements, options); });
}

}  // namespace

DTensor from_local(const Tensor& local, const DeviceMesh& mesh, const Placements& placements, const FromLocalOptions& options) {
  if (!local) base::fail<InvalidArgument>("from_local: the local tensor is empty; make or assign it first");
  const DeviceMesh self = DeviceMesh::self();
  const DTensor mine = tensor::make_dtensor(
      tensor::intern_spec(self, placements::replicated(self.sizes(), local.ndim()), local.shape(), local.dtype(), local.device()), local);
  DTensor out = checked_joined(mine, mesh, placements, options);
  if (options.requires_grad) out.set_requires_grad();
  return out;
}

DTensor from_local(const DTensor& local, const DeviceMesh& mesh, const Placements& placements, const FromLocalOptions& options) {
  const tensor::Spec& spec = *checked(local, "from_local").spec;
  if (!(spec.mesh == DeviceMesh::self()))
    base::fail<InvalidArgument>("from_local: the tensor lies on {}, not on this rank alone; use to_local() or redistribute",
                                dtensor::to_string(spec.mesh));
  return checked_joined(local, mesh, placements, options);
}

}  // namespace dtensor
