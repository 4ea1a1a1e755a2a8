// SPDX-License-Identifier: Apache-2.0
#include "redistribute/move.h"

#include <array>

#include "base/hash.h"

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

std::int64_t received(const PreparedMove& move, int self) {
  std::int64_t elements = 0;
  if (move.move.kind == MoveKind::all_reduce) {
    // A reduce_scatter and an all_gather of ceil chunks: what others contribute to the own chunk, then the chunks of others.
    const auto n = static_cast<std::int64_t>(move.group.size()), total = move.out_shape.numel(), chunk = (total + n - 1) / n;
    const std::int64_t own = std::min(total, (self + 1) * chunk) - std::min(total, self * chunk);
    elements = (n - 1) * own + total - own;
  } else if (move.transfer) {
    for (const Piece& p : move.transfer->receives)
      if (p.peer != self) elements += p.sizes.numel();
  }
  return elements * info(move.dtype).bytes;
}

}  // namespace

PreparedMove prepare(const Move& move, const mesh::MeshData& mesh, const Shape& shape, Dtype dtype, const Shape& coordinates) {
  PreparedMove p;
  p.move = move;
  p.dtype = dtype;
  p.coordinates = coordinates;
  p.in_shape = placements::local_shape(*move.from, shape, coordinates);
  p.out_shape = placements::local_shape(*move.to, shape, coordinates);
  if (move.kind == MoveKind::slice) p.runs = local_runs(*move.from, *move.to, shape, coordinates);
  if (move.kind == MoveKind::shard_to_partial) p.runs = local_runs(*move.to, *move.from, shape, coordinates);
  if (!p.communicates()) return p;
  p.group = mesh::ranks_along(mesh, coordinates, move.axes);
  p.reduction = reduction_of(move);
  if (move.kind != MoveKind::all_reduce) p.transfer = std::make_shared<const Transfer>(lower(move, shape, coordinates));
  int self = 0;
  for (int axis : move.axes) self = self * mesh.sizes[static_cast<std::size_t>(axis)] + static_cast<int>(coordinates[axis]);
  p.bytes_received = received(p, self);
  p.fingerprint = base::mix(base::mix(mesh.hash, move.from->hash), base::mix(move.to->hash, static_cast<std::uint64_t>(move.kind)));
  for (std::int64_t n : shape) p.fingerprint = base::mix(p.fingerprint, static_cast<std::uint64_t>(n));
  p.fingerprint = base::mix(p.fingerprint, static_cast<std::uint64_t>(dtype));
  p.detail = placements::to_string(dtype, shape, *move.from, mesh.names) + " -> " + placements::to_string(*move.to, mesh.names);
  return p;
}

Tensor run(const PreparedMove& move, const Tensor& in) {
  using Function = Tensor (*)(const PreparedMove&, const Tensor&);
  static constexpr std::array<Function, 10> kMoves{moves::relabel,    moves::slice,          moves::to_partial, moves::shard_to_partial,
                                                   moves::all_gather, moves::reduce_scatter, moves::all_reduce, moves::all_to_all,
                                                   moves::permute,    moves::send_recv};
  return kMoves[static_cast<std::size_t>(move.move.kind)](move, in);
}

}  // namespace dtensor::redistribute
