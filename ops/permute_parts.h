// SPDX-License-Identifier: Apache-2.0
// The parts of a split dimension on other ranks: a step of an algorithm in which blocks visit ranks.
#pragma once

#include <span>
#include <utility>
#include <vector>

#include "dtensor/distributed_tensor.h"
#include "placements/layout.h"
#include "tensor/plan.h"

namespace dtensor::ops {

/// Mesh axes that split dimension `dim`, ascending. Ranks along them are numbered row-major in this order.
std::vector<int> part_axes(const placements::Layout& layout, int dim);
/// Number of those ranks; coordinates of the one of number `part`, the others as in `coordinates`; the number of the rank at `coordinates`.
int part_count(const placements::Layout& layout, std::span<const int> axes);
Shape coordinates_of_part(const placements::Layout& layout, std::span<const int> axes, int part, Shape coordinates);
int part_at(const placements::Layout& layout, std::span<const int> axes, const Shape& coordinates);

/// Rank r along the axes that split dimension `dim` gets of both tensors, which are placed alike there, the parts that rank sources[r] holds; nothing where it
/// is -1. The results have the parts in the order of the ranks: dimension `dim` is a RaggedShard of what was taken. One launch; starts at once.
/// Collective over the mesh; not differentiable.
std::pair<DTensor, DTensor> permute_parts(const DTensor& first, const DTensor& second, int dim, std::span<const std::int64_t> sources);

/// For ops that are their own plan: input i of as many as there are `results` goes to results[i] by moves[i], all in one launch. On a rank outside the mesh
/// there are no moves.
void move_together(PlanBuilder& b, std::span<const tensor::SpecRef> results, std::vector<redistribute::PreparedMove> moves);

}  // namespace dtensor::ops
