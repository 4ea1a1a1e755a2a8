// SPDX-License-Identifier: Apache-2.0
// Distributed form of topk and its like: each rank chooses among what it holds, and the choice is made once more among those.
#pragma once

#include <cstdint>
#include <utility>

#include "dtensor/op.h"

namespace dtensor::ops {

/// x with dimension `dim` of n cut into `count` parts of ceil(n / count): [.., n, ..] -> [.., count, ceil(n / count), ..]; what lies beyond n is `fill`. Split over the
/// axes that split `dim`; where the parts are those of the ranks nothing moves.
DTensor in_parts(const DTensor& x, int dim, std::int64_t count, const Scalar& fill);
const OpDef& in_parts_op();

/// The k first elements of each line of dimension `dim` in some order, and where they are in it (i64).
using First = std::pair<DTensor, DTensor> (*)(const DTensor& x, std::int64_t k, int dim);
/// first(x, k, dim) for a `dim` that is split, without bringing it together: of the parts of x the k first each, then of these. `last` is a value that no value comes
/// after in the order; equal elements must stand in the order of their indices. Results are Replicate on the axes that split `dim`.
std::pair<DTensor, DTensor> first_of_parts(const DTensor& x, std::int64_t k, int dim, const Scalar& last, First first);

/// x with `dim` whole: the axes that split it split the dim of which each rank then has most instead (one exchange), none where no other has an index for every
/// rank (a gather). The move counts as one that a rule of `op` inserts.
DTensor whole_along(const OpDef& op, const DTensor& x, int dim);
/// The op on its inputs with `dim` whole: the decomposition of one that orders lines and has another dim to split.
Results on_whole_lines(const OpDef& op, const DecomposeCall& c, int dim);
/// Whether whole_along exchanges, and does not gather.
bool has_room_elsewhere(const DTensor& x, int dim);
/// Whether first_of_parts of k brings a rank no more bytes than whole_along.
bool fewer_as_candidates(const DTensor& x, std::int64_t k, int dim);

}  // namespace dtensor::ops
