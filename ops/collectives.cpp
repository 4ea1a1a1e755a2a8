// SPDX-License-Identifier: Apache-2.0
// Written over from_local, redistribute and to_local: a collective is a change of placement of a tensor whose parts are the ranks' values.
#include "dtensor/ops/collectives.h"

#include "base/error_text.h"
#include "dtensor/ops/binary.h"
#include "dtensor/ops/factories.h"

namespace dtensor {
namespace {

// One axis over the named ones, in the order given.
DeviceMesh group_of(const DeviceMesh& mesh, const AxisNames& axes, std::string_view op) {
  if (!mesh.contains_this_rank()) base::fail<InvalidArgument>("{}: this rank is outside {}; only its members call", op, to_string(mesh));
  const DeviceMesh slice = mesh[axes];
  return slice.ndim() == 1 ? slice : slice.flatten(axes, "group");
}

Placements on(const DeviceMesh& group, const Placement& placement) { return Placements({AxisPlacement(group.names()[0], placement)}); }

// Every rank uses its copy of the result for itself, so the copies' gradients add.
DTensor copies(const DTensor& replicated, const DeviceMesh& group) { return replicated.to_local({.grad_placements = on(group, Partial())}); }

}  // namespace

DTensor all_reduce(const DTensor& input, ReduceOp op, const DeviceMesh& mesh, const AxisNames& axes) {
  const DeviceMesh group = group_of(mesh, axes, "all_reduce");
  const bool average = op == ReduceOp::avg;
  const DTensor parts = from_local(input, group, on(group, Partial(average ? ReduceOp::sum : op)), {.shape = input.shape()});
  const DTensor sum = copies(parts.redistribute({}), group);
  return average ? sum / static_cast<double>(group.size()) : sum;
}

DTensor all_gather(const DTensor& input, int dim, const DeviceMesh& mesh, const AxisNames& axes) {
  const DeviceMesh group = group_of(mesh, axes, "all_gather");
  const int d = normalize_dim(dim, input.ndim(), "all_gather");
  return copies(from_local(input, group, on(group, Shard(d))).redistribute({}), group);
}

DTensor reduce_scatter(const DTensor& input, int dim, ReduceOp op, const DeviceMesh& mesh, const AxisNames& axes) {
  const DeviceMesh group = group_of(mesh, axes, "reduce_scatter");
  const int d = normalize_dim(dim, input.ndim(), "reduce_scatter");
  const bool average = op == ReduceOp::avg;
  const DTensor parts = from_local(input, group, on(group, Partial(average ? ReduceOp::sum : op)), {.shape = input.shape()});
  const DTensor own = parts.redistribute(on(group, Shard(d))).to_local();
  return average ? own / static_cast<double>(group.size()) : own;
}

DTensor all_to_all(const DTensor& input, int split_dim, int concat_dim, const DeviceMesh& mesh, const AxisNames& axes) {
  const DeviceMesh group = group_of(mesh, axes, "all_to_all");
  const int from = normalize_dim(concat_dim, input.ndim(), "all_to_all"), to = normalize_dim(split_dim, input.ndim(), "all_to_all");
  if (input.size(to) % group.size() != 0)
    base::fail<InvalidArgument>("all_to_all: dim {} of {} does not divide by {} ranks; pad it, or use Communicator::all_to_all with sizes", to,
                                to_string(input), group.size());
  return from_local(input, group, on(group, Shard(from))).redistribute(on(group, Shard(to))).to_local();
}

DTensor broadcast(const DTensor& input, const DeviceMesh& mesh, const AxisNames& axes) {
  const DeviceMesh group = group_of(mesh, axes, "broadcast");
  // The first rank's value and nothing elsewhere, added up: only its part counts.
  const DTensor part = group.coordinate(group.names()[0]) == 0 ? input : zeros_like(input);
  return all_reduce(part, ReduceOp::sum, mesh, axes);
}

}  // namespace dtensor
