// SPDX-License-Identifier: Apache-2.0
#include "redistribute/move.h"

#include <array>

#include "base/hash.h"
#include "redistribute/plan/between.h"

namespace dtensor::redistribute {
namespace {

comm::Reduction reduction_of(const Move& move) {
  comm::Reduction r;
  bool first = true;
  for (int axis : move.axes) {
    const auto op = move.from->partial[static_cast<std::size_t>(axis)];
    if (!op || move.to->partial[static_cast<std::size_t>(axis)]) continue;
    if (*op == ReduceOp::avg) {
      r.divisor *= move.from->mesh_sizes[static_cast<std::size_t>(axis)];
    } else if (first) {
      r.op = *op;
    }
    first = false;
  }
  return r;
}

// Of everything Partial in the source; contributions that stay apart are of one kind, which is no average where several are combined.
comm::Reduction reduction_between(const Layout& from) {
  comm::Reduction r;
  bool first = true;
  for (std::size_t a = 0; a < from.partial.size(); ++a) {
    if (!from.partial[a] || from.mesh_sizes[a] == 1) continue;
    if (*from.partial[a] == ReduceOp::avg) r.divisor *= from.mesh_sizes[a];
    else if (first) r.op = *from.partial[a];
    first = false;
  }
  return r;
}

std::int64_t received(const PreparedMove& move, int self) {
  const std::int64_t elements = move.move.kind == MoveKind::all_reduce
                                    ? received_in_all_reduce(move.out_shape.numel(), static_cast<std::int64_t>(move.group.size()), self)
                                    : received_from_others(*move.transfer, self);
  return elements * info(move.dtype).bytes;
}

// Over one axis every member cuts the same dimension into parts for all, so equal parts at both ends are equal messages.
comm::Pattern pattern_of(const Move& move, const Shape& shape, const Shape& coordinates) {
  if (move.kind == MoveKind::all_gather) return comm::Pattern::all_gather;
  if (move.kind == MoveKind::reduce_scatter) return comm::Pattern::reduce_scatter;
  if (move.kind != MoveKind::all_to_all || move.axes.size() != 1) return comm::Pattern::any;
  const int axis = move.axes[0];
  if (move.from->dim_of(axis) == move.to->dim_of(axis)) return comm::Pattern::any;
  const std::int64_t members = move.from->mesh_sizes[static_cast<std::size_t>(axis)];
  const auto divides = [&](const Layout& layout) {
    Shape member = coordinates;
    member[axis] = 0;
    const Shape first = placements::local_shape(layout, shape, member);
    for (member[axis] = 1; member[axis] < members; ++member[axis])
      if (!(placements::local_shape(layout, shape, member) == first)) return false;
    return first.numel() % members == 0 && first.numel() > 0;
  };
  return divides(*move.from) && divides(*move.to) ? comm::Pattern::all_to_all : comm::Pattern::any;
}

std::uint64_t fingerprint(const Move& move, std::uint64_t meshes, const Shape& shape, Dtype dtype) {
  std::uint64_t h = base::mix(base::mix(meshes, move.from->hash), base::mix(move.to->hash, static_cast<std::uint64_t>(move.kind)));
  for (std::int64_t n : shape) h = base::mix(h, static_cast<std::uint64_t>(n));
  return base::mix(h, static_cast<std::uint64_t>(dtype));
}

Shape shape_at(const Parts& parts, int rank) {
  const int i = parts.find(rank);
  return i < 0 ? Shape{0} : parts.local_shape(parts.held(i));
}

bool stays_whole(const Transfer& t, int self, const Shape& in_shape, const Shape& out_shape) {
  const auto all = [&](const std::vector<Piece>& pieces) {
    return pieces.size() == 1 && pieces[0].peer == self && pieces[0].offset == 0 && pieces[0].sizes == out_shape &&
           pieces[0].strides == contiguous_strides(out_shape);
  };
  return in_shape == out_shape && all(t.sends) && all(t.receives);
}

// Whether the result is a view of the source on this rank.
bool is_view(const PreparedMove& p) {
  switch (p.move.kind) {
    case MoveKind::relabel:
      return true;
    case MoveKind::slice:
      return moves::slices_to_view(p);
    case MoveKind::to_partial:
      return moves::keeps_value(p);
    default:
      return false;
  }
}

}  // namespace

PreparedMove prepare(const Move& move, const mesh::MeshData& mesh, const Shape& shape, Dtype dtype, const Shape& coordinates,
                     const Shape& in_strides) {
  PreparedMove p;
  p.move = move;
  p.dtype = dtype;
  p.coordinates = coordinates;
  p.in_shape = placements::local_shape(*move.from, shape, coordinates);
  p.out_shape = placements::local_shape(*move.to, shape, coordinates);
  if (move.kind == MoveKind::slice) p.runs = local_runs(*move.from, *move.to, shape, coordinates);
  if (move.kind == MoveKind::shard_to_partial) {
    Kept kept = kept_runs(*move.from, *move.to, shape, coordinates);
    p.runs = std::move(kept.source);
    p.kept = std::move(kept.target);
  }
  p.in_strides = in_strides.empty() ? contiguous_strides(p.in_shape) : in_strides;
  p.out_strides = is_view(p) ? p.in_strides : contiguous_strides(p.out_shape);
  if (!p.communicates()) return p;
  p.group = mesh::ranks_along(mesh, coordinates, move.axes);
  p.reduction = reduction_of(move);
  p.pattern = pattern_of(move, shape, coordinates);
  if (move.kind != MoveKind::all_reduce) {
    p.transfer = std::make_shared<const Transfer>(lower(move, shape, coordinates));
    if (p.in_strides != contiguous_strides(p.in_shape))
      p.view_transfer = std::make_shared<const Transfer>(lower(move, shape, coordinates, p.in_strides));
  }
  int self = 0;
  for (int axis : move.axes) self = self * mesh.sizes[static_cast<std::size_t>(axis)] + static_cast<int>(coordinates[axis]);
  p.bytes_received = received(p, self);
  p.keeps = p.transfer && stays_whole(*p.transfer, self, p.in_shape, p.out_shape);
  if (p.keeps) p.transfer = std::make_shared<const Transfer>();
  p.fingerprint = fingerprint(move, mesh.hash, shape, dtype);
  p.detail = placements::to_string(dtype, shape, *move.from, mesh.names) + " -> " + placements::to_string(*move.to, mesh.names);
  return p;
}

PreparedMove prepare_transfer(const Move& move, const mesh::MeshData& from, const mesh::MeshData& to, const Shape& shape, Dtype dtype, int rank,
                              const Shape& in_strides) {
  const Between between({move.from, from.ranks}, {move.to, to.ranks}, shape);
  PreparedMove p;
  p.move = move;
  p.dtype = dtype;
  p.in_shape = shape_at(between.from(), rank);
  p.out_shape = shape_at(between.to(), rank);
  p.fill = between.fill(rank);
  p.in_strides = in_strides.empty() ? contiguous_strides(p.in_shape) : in_strides;
  p.out_strides = contiguous_strides(p.out_shape);
  if (!p.communicates()) {
    p.runs = between.local_runs(rank);
    p.view = between.views();
    if (p.view && !p.fill) p.out_strides = p.in_strides;
    return p;
  }
  p.group = between.group();
  p.combines = between.combines();
  if (p.combines) p.reduction = reduction_between(*move.from);
  p.transfer = std::make_shared<const Transfer>(between.transfer(rank));
  if (p.in_strides != contiguous_strides(p.in_shape)) p.view_transfer = std::make_shared<const Transfer>(between.transfer(rank, p.in_strides));
  p.bytes_received = between.received_by(rank) * info(dtype).bytes;
  p.fingerprint = fingerprint(move, base::mix(from.hash, to.hash), shape, dtype);
  p.detail = placements::to_string(dtype, shape, *move.from, from.names) + " -> " + placements::to_string(*move.to, to.names);
  return p;
}

PreparedMove prepare_window(const Window& window, const mesh::MeshData& mesh, Dtype dtype, const Shape& coordinates) {
  const WindowFigures figures = figures_of(window);
  PreparedMove p;
  p.move = {MoveKind::window, axes_of(window), window.layout, window.layout};
  p.move.launches = 1;
  p.move.bytes_received_max = figures.received.max * info(dtype).bytes;
  p.move.bytes_received_total = figures.received.total * info(dtype).bytes;
  p.move.nanoseconds = nanoseconds_of(figures, info(dtype).bytes);
  p.dtype = dtype;
  p.coordinates = coordinates;
  p.in_shape = p.out_shape = placements::local_shape(*window.layout, window.shape, coordinates);
  p.fingerprint = fingerprint(p.move, mesh.hash, window.shape, dtype);
  std::string dims;
  const auto wanted = wanted_runs(window, coordinates);
  for (std::size_t k = 0; k < wanted.size(); ++k) {
    const WindowDim& d = window.dims[k];
    p.out_shape[d.dim] = 0;
    for (const placements::Run& r : wanted[k]) p.out_shape[d.dim] += r.length;
    for (std::int64_t n : {d.dim + std::int64_t{0}, d.map.num, d.map.den, d.map.low, d.map.high, d.size})
      p.fingerprint = base::mix(p.fingerprint, static_cast<std::uint64_t>(n));
    dims += (k == 0 ? "" : ", ") + std::to_string(d.dim);
  }
  p.in_strides = contiguous_strides(p.in_shape);
  p.out_strides = contiguous_strides(p.out_shape);
  p.group = mesh::ranks_along(mesh, coordinates, p.move.axes);
  p.transfer = std::make_shared<const Transfer>(lower(window, coordinates));
  int self = 0;
  for (int axis : p.move.axes) self = self * mesh.sizes[static_cast<std::size_t>(axis)] + static_cast<int>(coordinates[axis]);
  p.bytes_received = received_from_others(*p.transfer, self) * info(dtype).bytes;
  p.detail = placements::to_string(dtype, window.shape, *window.layout, mesh.names) + " -> what is read of dim " + dims;
  return p;
}

namespace {

moves::Ready make_ready(const PreparedMove& move, const Tensor& in) {
  using Function = moves::Ready (*)(const PreparedMove&, const Tensor&);
  static constexpr std::array<Function, 12> kMoves{moves::relabel,    moves::slice,          moves::to_partial, moves::shard_to_partial,
                                                   moves::all_gather, moves::reduce_scatter, moves::all_reduce, moves::all_to_all,
                                                   moves::permute,    moves::send_recv,      moves::transfer,   moves::window};
  return kMoves[static_cast<std::size_t>(move.move.kind)](move, in);
}

comm::Operation operation_of(const PreparedMove& move, const moves::Ready& ready) {
  // What stays here is no business of the others, nor has to wait for them.
  if (move.keeps) return {ready.form, nullptr, nullptr, &move.transfer, move.reduction, move.fingerprint, move.detail};
  return {ready.form, &ready.in, &ready.out, ready.transfer, move.reduction, move.fingerprint, move.detail, move.pattern};
}

}  // namespace

Tensor run(const PreparedMove& move, const Tensor& in) {
  moves::Ready ready = make_ready(move, in);
  if (move.communicates()) {
    const comm::Operation operation = operation_of(move, ready);
    comm::group(move.group).launch(to_string(move.move.kind), {&operation, 1});
  }
  return std::move(ready.out);
}

bool go_together(const PreparedMove& a, const PreparedMove& b) noexcept {
  return a.communicates() && b.communicates() && a.move.kind == b.move.kind && a.group == b.group;
}

std::vector<Tensor> run_together(std::span<const PreparedMove* const> moves, std::span<const Tensor* const> in) {
  std::vector<moves::Ready> ready;
  std::vector<comm::Operation> operations;
  ready.reserve(moves.size());
  for (std::size_t i = 0; i < moves.size(); ++i) {
    ready.push_back(make_ready(*moves[i], *in[i]));
    operations.push_back(operation_of(*moves[i], ready.back()));
  }
  comm::group(moves[0]->group).launch(to_string(moves[0]->move.kind), operations);
  std::vector<Tensor> results;
  for (moves::Ready& r : ready) results.push_back(std::move(r.out));
  return results;
}

}  // namespace dtensor::redistribute
