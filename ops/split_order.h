// SPDX-License-Identifier: Apache-2.0
// Distributed forms of order along a line of which ranks hold parts: sorting by exchange of what lies between chosen elements, and one element of a rank by
// counting. Both compare elements by value and then by place, so ties go to the lowest index.
#pragma once

#include <cstdint>
#include <utility>

#include "dtensor/op.h"

namespace dtensor::ops {

/// Whether x is one line along `dim`, in memory and not short, of which several ranks hold parts.
bool is_split_line(const DTensor& x, int dim);
/// The `first` first elements of x, one line, sorted, and the i64 indices; split in ceil chunks over the axes that split it. Each rank sorts its part and offers samples; the
/// samples divide the line among the ranks nearly evenly, what lies between two goes to one rank, which merges, and neighbours even out what is uneven.
std::pair<DTensor, DTensor> sorted_split_line(const OpDef& op, const DTensor& x, bool descending, std::int64_t first);

/// Element k (from 0) of each sorted line along `dim`, and its i64 index, with `dim` of size 1; `nan_first`: the first NaN where there is one. No element
/// moves: in each round every part offers its middle element, all count what lies before each, and the parts keep what is left.
std::pair<DTensor, DTensor> counted_along(const OpDef& op, const DTensor& x, int dim, std::int64_t k, bool nan_first);
/// The lower middle element of all, in any number of dims split; NaN where there is one. Shape [].
DTensor counted_median(const OpDef& op, const DTensor& x);
/// x on every rank.
DTensor without_split(const OpDef& op, const DTensor& x);
/// Whether counted_along can: x is in memory and `dim` is split.
bool can_count(const DTensor& x, int dim);

}  // namespace dtensor::ops
