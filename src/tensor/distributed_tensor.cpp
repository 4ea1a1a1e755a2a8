// SPDX-License-Identifier: Apache-2.0
#include "dtensor/distributed_tensor.h"

#include "base/error_text.h"
#include "base/hash.h"
#include "base/rank.h"
#include "comm/communicator.h"
#include "local/neutral.h"
#include "mesh/mesh_data.h"
#include "tensor/impl.h"
#include "tensor/move_ops.h"

namespace dtensor {

using tensor::checked;
using tensor::Impl;
using tensor::Spec;

DTensor::DTensor(const DTensor& other) noexcept : impl_(other.impl_) {
  if (impl_ != nullptr) impl_->retain();
}

DTensor::~DTensor() {
  if (impl_ != nullptr) impl_->release();
}

DTensor DTensor::adopt(Impl* impl) noexcept {
  DTensor t;
  t.impl_ = impl;
  impl->retain();
  return t;
}

namespace tensor {

DTensor make_dtensor(SpecRef spec, Tensor local) {
  const base::RankContext& rank = base::require_rank("tensor");
  return DTensor::adopt(new Impl(std::move(spec), std::move(local), rank.world_id, rank.rank));
}

Impl& checked(const DTensor& tensor, std::string_view op) {
  if (!tensor) base::fail<InvalidArgument>("{}: the tensor is empty (a default-constructed DTensor); make or assign it first", op);
  Impl& impl = *tensor.impl();
  const base::RankContext& rank = base::require_rank(op);
  if (impl.world != rank.world_id)
    base::fail<InvalidArgument>("{}: {} was made in another world; tensors live no longer than run()", op, to_string(*impl.spec));
  if (impl.owner != rank.rank)
    base::fail<InvalidArgument>("{}: {} was made on rank {}, used on rank {}: static or captured by reference?; make it inside the body on each rank",
                                op, to_string(*impl.spec), impl.owner, rank.rank);
  return impl;
}

namespace {

const Spec& spec_of(const DTensor& t, std::string_view what) {
  if (!t) base::fail<InvalidArgument>("{}: the tensor is empty (a default-constructed DTensor); make or assign it first", what);
  return *t.impl()->spec;
}

// Boxes of the global tensor that a rank at `coordinates` holds under `layout` (Partial counts as Replicate): what the source sends it.
void add_boxes(const Spec& spec, const placements::Layout& layout, const Shape& coordinates, int peer, bool sending,
               redistribute::Transfer& transfer) {
  const int n = spec.shape.ndim();
  std::vector<std::vector<placements::Run>> runs;
  for (int d = 0; d < n; ++d) runs.push_back(placements::owned_runs(layout, d, spec.shape[d], coordinates));
  const Shape local = placements::local_shape(layout, spec.shape, coordinates);
  if (local.numel() == 0) return;
  const Shape global_strides = contiguous_strides(spec.shape), local_strides = contiguous_strides(local);
  std::vector<std::size_t> at(static_cast<std::size_t>(n), 0);
  while (true) {
    redistribute::Piece piece{.peer = peer, .offset = 0, .sizes = {}, .strides = sending ? global_strides : local_strides};
    for (int d = 0; d < n; ++d) {
      const auto& r = runs[static_cast<std::size_t>(d)];
      std::int64_t before = 0;
      for (std::size_t i = 0; i < at[static_cast<std::size_t>(d)]; ++i) before += r[i].length;
      const placements::Run& run = r[at[static_cast<std::size_t>(d)]];
      piece.offset += sending ? run.begin * global_strides[d] : before * local_strides[d];
      piece.sizes.push_back(run.length);
    }
    (sending ? transfer.sends : transfer.receives).push_back(piece);
    int d = n - 1;
    while (d >= 0 && ++at[static_cast<std::size_t>(d)] == runs[static_cast<std::size_t>(d)].size()) at[static_cast<std::size_t>(d--)] = 0;
    if (d < 0) return;
  }
}

// The first rank's tensor, cut and sent: each rank receives just its part.
Tensor scatter_from_first(const Tensor& tensor, const Spec& spec, const placements::LayoutRef& layout) {
  const mesh::MeshData& mesh = spec.mesh.data();
  const int self = base::require_rank("distribute").rank, first = mesh.ranks.front();
  redistribute::Transfer transfer;
  if (self == first) {
    for (std::size_t i = 0; i < mesh.ranks.size(); ++i) {
      Shape coordinates;
      mesh::coordinates_of(mesh, mesh.ranks[i], coordinates);
      add_boxes(spec, *layout, coordinates, static_cast<int>(i), true, transfer);
    }
  }
  add_boxes(spec, *layout, spec.coordinates, 0, false, transfer);
  Tensor out = Tensor::empty(placements::local_shape(*layout, spec.shape, spec.coordinates), spec.dtype, spec.device);
  const Tensor source = self == first ? tensor.to(spec.device).contiguous() : Tensor::empty({0}, spec.dtype, spec.device);
  const std::string detail = "distribute " + to_string(spec);
  comm::group(mesh.ranks)
      .exchange({"distribute", base::mix(spec.hash, 1), detail}, source, out, std::make_shared<const redistribute::Transfer>(std::move(transfer)));
  return out;
}

}  // namespace
}  // namespace tensor

const DeviceMesh& DTensor::mesh() const { return tensor::spec_of(*this, "mesh").mesh; }
const Placements& DTensor::placements() const { return tensor::spec_of(*this, "placements").placements(); }
const Shape& DTensor::shape() const { return tensor::spec_of(*this, "shape").shape; }
Dtype DTensor::dtype() const { return tensor::spec_of(*this, "dtype").dtype; }
Device DTensor::device() const { return tensor::spec_of(*this, "device").device; }
std::int64_t DTensor::size(int dim) const { return shape()[normalize_dim(dim, ndim(), "size")]; }

Tensor DTensor::local() const {
  const Impl& impl = checked(*this, "local");
  if (impl.local.device().kind == DeviceKind::cpu) impl.local.wait();
  return impl.local;
}

void DTensor::wait() const { checked(*this, "wait").local.wait(); }

Scalar DTensor::item_value() const {
  const Spec& spec = *checked(*this, "item").spec;
  if (spec.shape.numel() != 1)
    base::fail<InvalidArgument>("item: the tensor has {} elements ({}); index or reduce it to one", spec.shape.numel(), tensor::to_string(spec));
  if (!spec.inside) base::fail<InvalidArgument>("item: this rank is outside the mesh ({}); call it on the mesh's ranks", tensor::to_string(spec));
  DTensor whole = *this;
  if (!spec.layout->is_replicated()) whole = tensor::redistribute_to(detach(), placements::replicated(spec.mesh.sizes(), spec.shape.ndim()));
  const Tensor local = whole.local().to(Device::cpu());
  if (info(spec.dtype).floating) return local.to(Dtype::f64).values<const double>()[0];
  if (spec.dtype == Dtype::boolean) return local.values<const bool>()[0];
  return local.to(Dtype::i64).values<const std::int64_t>()[0];
}

std::string to_string(const DTensor& t) { return t ? tensor::to_string(*t.impl()->spec) : "empty"; }

DTensor distribute(const Tensor& tensor, const DeviceMesh& mesh, const Placements& placements, const DistributeOptions& options) {
  if (!tensor) base::fail<InvalidArgument>("distribute: the tensor is empty; ranks that have no data pass a meta tensor of the global shape");
  const Device device = base::require_rank("distribute").device;
  const auto layout = placements::make_layout(mesh, tensor.shape(), tensor.dtype(), placements, "distribute");
  const auto spec = tensor::intern_spec(mesh, layout, tensor.shape(), tensor.dtype(), device);
  const auto plain = tensor::without_partial(layout);
  Tensor local = Tensor::empty({0}, tensor.dtype(), device);
  if (spec->inside && options.source == Source::first_rank) {
    if (tensor.device().kind == DeviceKind::meta && base::require_rank("distribute").rank == mesh.ranks().front())
      base::fail<InvalidArgument>("distribute: the first rank of the mesh gives a meta tensor ({}); it is the source, so it needs the data",
                                  to_string(tensor.shape()));
    local = tensor::scatter_from_first(tensor, *spec, plain);
  } else if (spec->inside) {
    const auto whole =
        tensor::make_dtensor(tensor::intern_spec(mesh, placements::replicated(mesh.sizes(), tensor.ndim()), tensor.shape(), tensor.dtype(), device),
                             tensor.device().kind == DeviceKind::meta ? tensor : tensor.to(device));
    local = tensor::redistribute_to(whole, plain).local().clone();
  }
  DTensor out = tensor::make_dtensor(tensor::intern_spec(mesh, plain, tensor.shape(), tensor.dtype(), device), local);
  if (plain != layout) out = tensor::redistribute_to(out, layout);
  if (options.requires_grad) out.set_requires_grad();
  return out;
}

}  // namespace dtensor
