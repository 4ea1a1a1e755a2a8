// SPDX-License-Identifier: Apache-2.0
// Functional collectives on per-rank values: DTensors on DeviceMesh::self(). Each is a part of a sharded tensor that changes its placement, so they run through
// the one call path, are counted and traced, and are differentiable. Collective over the ranks of `axes` of `mesh`; out of place; waited for at first use.
//
// Gradients (of the sum over ranks of what each rank computes from its result): all_reduce -> all_reduce, all_gather -> reduce_scatter,
// reduce_scatter -> all_gather, all_to_all -> all_to_all.
#pragma once

#include "dtensor/distributed_tensor.h"

namespace dtensor {

/// The reduction of every rank's `input` (equal shapes). Gradients for sum and avg.
DTENSOR_EXPORT DTensor all_reduce(const DTensor& input, ReduceOp op, const DeviceMesh& mesh, const AxisNames& axes);
/// The inputs of all ranks (equal shapes) one after another along `dim`.
DTENSOR_EXPORT DTensor all_gather(const DTensor& input, int dim, const DeviceMesh& mesh, const AxisNames& axes);
/// This rank's ceil chunk along `dim` of the reduction. Gradients for sum.
DTENSOR_EXPORT DTensor reduce_scatter(const DTensor& input, int dim, ReduceOp op, const DeviceMesh& mesh, const AxisNames& axes);
/// Cuts `input` along `split_dim`, sends part r to rank r and joins what comes along `concat_dim`. Sizes of split_dim divide by the number of ranks.
DTENSOR_EXPORT DTensor all_to_all(const DTensor& input, int split_dim, int concat_dim, const DeviceMesh& mesh, const AxisNames& axes);
/// The first rank's `input` on every rank.
DTENSOR_EXPORT DTensor broadcast(const DTensor& input, const DeviceMesh& mesh, const AxisNames& axes);

}  // namespace dtensor
