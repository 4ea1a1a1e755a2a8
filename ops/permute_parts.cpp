// SPDX-License-Identifier: Apache-2.0
#include "ops/permute_parts.h"

#include <algorithm>
#include <array>
#include <memory>
#include <string>

#include "base/hash.h"
#include "dtensor/op.h"
#include "mesh/mesh_data.h"
#include "redistribute/plan/figures.h"
#include "tensor/impl.h"
#include "tensor/plan.h"

namespace dtensor {
namespace {

using placements::Layout;
using redistribute::PreparedMove;
using tensor::Spec;
using tensor::SpecRef;

struct Parts {
  int dim;
  std::vector<int> axes;
  std::vector<std::int64_t> sources, sizes;
};

Parts parts_of(const Spec& from, int dim, std::span<const std::int64_t> sources) {
  Parts p{dim, ops::part_axes(*from.layout, dim), {sources.begin(), sources.end()}, {}};
  const Shape start = Shape::filled(from.layout->mesh_ndim(), 0);
  for (const std::int64_t source : sources)
    p.sizes.push_back(source < 0 ? 0
                                 : placements::local_size(*from.layout, dim, from.shape[dim],
                                                          ops::coordinates_of_part(*from.layout, p.axes, static_cast<int>(source), start)));
  return p;
}

SpecRef taken(const Spec& from, const Parts& p) {
  Layout layout = *from.layout;
  layout.dims[static_cast<std::size_t>(p.dim)] = {placements::Split{p.axes, 1, p.sizes}};
  Shape shape = from.shape;
  shape[p.dim] = 0;
  for (const std::int64_t n : p.sizes) shape[p.dim] += n;
  return tensor::intern_spec(from.mesh, placements::intern(std::move(layout)), shape, from.dtype, from.device);
}

redistribute::Transfer transfer_of(const Parts& p, int self, const Shape& in, const Shape& out) {
  redistribute::Transfer t;
  for (std::size_t r = 0; r < p.sources.size(); ++r)
    if (p.sources[r] == self && in.numel() > 0) t.sends.push_back({static_cast<int>(r), 0, in, contiguous_strides(in)});
  if (const std::int64_t source = p.sources[static_cast<std::size_t>(self)]; source >= 0 && out.numel() > 0)
    t.receives.push_back({static_cast<int>(source), 0, out, contiguous_strides(out)});
  return t;
}

PreparedMove prepare(const Spec& from, const Spec& to, const Parts& p) {
  const int self = ops::part_at(*from.layout, p.axes, from.coordinates);
  const std::int64_t bytes = info(from.dtype).bytes;
  PreparedMove m;
  m.move = {redistribute::MoveKind::permute, p.axes, from.layout, to.layout};
  m.move.launches = 1;
  m.dtype = from.dtype;
  m.coordinates = from.coordinates;
  m.in_shape = from.local_shape;
  m.out_shape = to.local_shape;
  m.in_strides = contiguous_strides(m.in_shape);
  m.out_strides = contiguous_strides(m.out_shape);
  m.group = mesh::ranks_along(from.mesh.data(), from.coordinates, p.axes);
  m.transfer = std::make_shared<const redistribute::Transfer>(transfer_of(p, self, m.in_shape, m.out_shape));
  m.bytes_received = redistribute::received_from_others(*m.transfer, self) * bytes;
  Shape worst = placements::worst_local_shape(*from.layout, from.shape);
  worst[p.dim] = 1;
  for (std::size_t r = 0; r < p.sources.size(); ++r) {
    const std::int64_t received = p.sources[r] == static_cast<std::int64_t>(r) ? 0 : p.sizes[r] * worst.numel() * bytes;
    m.move.bytes_received_max = std::max(m.move.bytes_received_max, received);
    m.move.bytes_received_total += received;
  }
  m.fingerprint = base::mix(base::mix(from.mesh.data().hash, from.layout->hash), base::mix(to.layout->hash, static_cast<std::uint64_t>(p.dim)));
  for (const std::int64_t n : from.shape) m.fingerprint = base::mix(m.fingerprint, static_cast<std::uint64_t>(n));
  for (const std::int64_t source : p.sources) m.fingerprint = base::mix(m.fingerprint, static_cast<std::uint64_t>(source));
  m.detail = tensor::to_string(from) + " -> parts of dim " + std::to_string(p.dim) + " on other ranks";
  return m;
}

void plan_permute(PlanBuilder& b) {
  const int dim = static_cast<int>(b.attributes[0].as_int());
  std::vector<SpecRef> results;
  std::vector<PreparedMove> moves;
  for (const SpecRef& from : b.inputs) {
    const Parts parts = parts_of(*from, dim, b.attributes[1].as_list());
    results.push_back(taken(*from, parts));
    if (from->inside) moves.push_back(prepare(*from, *results.back(), parts));
  }
  ops::move_together(b, results, std::move(moves));
}

constexpr OpDef kPermuteParts{
    .name = "permute_parts",
    .signature = "first, second, *, dim: int, sources: int[] -> taken_first, taken_second",
    .plan = plan_permute,
};

}  // namespace

namespace ops {

void move_together(PlanBuilder& b, std::span<const SpecRef> results, std::vector<PreparedMove> moves) {
  tensor::MoveList list;
  for (std::size_t i = 0; i < results.size(); ++i) {
    list.in.push_back(static_cast<int>(i));
    list.out.push_back(b.new_slot());
    b.output(results[i], list.out[i]);
  }
  if (moves.empty()) return;
  for (PreparedMove& move : moves) {
    list.moves.push_back(static_cast<int>(b.plan->moves.size()));
    b.plan->moves.push_back(std::move(move));
  }
  b.plan->steps.push_back({tensor::StepKind::moves, -1, -1, static_cast<int>(b.plan->move_lists.size())});
  b.plan->move_lists.push_back(std::move(list));
}

std::vector<int> part_axes(const Layout& layout, int dim) {
  std::vector<int> axes;
  for (const placements::Split& s : layout.dims[static_cast<std::size_t>(dim)]) axes.insert(axes.end(), s.axes.begin(), s.axes.end());
  std::sort(axes.begin(), axes.end());
  return axes;
}

int part_count(const Layout& layout, std::span<const int> axes) {
  int n = 1;
  for (const int a : axes) n *= layout.mesh_sizes[static_cast<std::size_t>(a)];
  return n;
}

Shape coordinates_of_part(const Layout& layout, std::span<const int> axes, int part, Shape coordinates) {
  for (std::size_t k = axes.size(); k-- > 0;) {
    const int size = layout.mesh_sizes[static_cast<std::size_t>(axes[k])];
    coordinates[axes[k]] = part % size;
    part /= size;
  }
  return coordinates;
}

int part_at(const Layout& layout, std::span<const int> axes, const Shape& coordinates) {
  int part = 0;
  for (const int a : axes) part = part * layout.mesh_sizes[static_cast<std::size_t>(a)] + static_cast<int>(coordinates[a]);
  return part;
}

std::pair<DTensor, DTensor> permute_parts(const DTensor& first, const DTensor& second, int dim, std::span<const std::int64_t> sources) {
  const std::array<Input, 2> inputs{first, second};
  const std::array<Attribute, 2> attributes{dim, sources};
  Results r = call_all(kPermuteParts, inputs, attributes);
  return {std::move(r[0]), std::move(r[1])};
}

}  // namespace ops
}  // namespace dtensor
