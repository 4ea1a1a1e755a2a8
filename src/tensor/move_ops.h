// SPDX-License-Identifier: Apache-2.0
// The ops that are their own plan: redistribute, redistribute_all, to_local, from_local. They go through call() like every other.
#pragma once

#include <optional>

#include "dtensor/distributed_tensor.h"
#include "dtensor/op.h"
#include "placements/layout.h"

namespace dtensor::tensor {

/// An interned layout as an attribute: compared by address, held by the specs or the plan of the call.
placements::LayoutRef layout_of(const Attribute& attribute);
std::optional<Dtype> optional_dtype(const Attribute& attribute);
/// Partial turned into Replicate: where a gradient goes back to.
placements::LayoutRef without_partial(const placements::LayoutRef& layout);
/// To a layout on the same mesh; `transport` is the dtype of the moves, `result` of the result.
DTensor redistribute_to(const DTensor& tensor, const placements::LayoutRef& layout, std::optional<Dtype> transport = {},
                        std::optional<Dtype> result = {}, std::optional<Dtype> backward = {}, std::int64_t memory_limit = 0);
/// To a layout on a mesh of the same world, the tensor's own included. Every rank of the world may call it; those in neither mesh get an empty part.
DTensor redistribute_between(const DTensor& tensor, const DeviceMesh& mesh, const placements::LayoutRef& layout, std::optional<Dtype> transport = {},
                             std::optional<Dtype> result = {}, std::optional<Dtype> backward = {}, std::int64_t memory_limit = 0);
/// @throws InvalidArgument for meshes of two worlds, or one of this rank alone.
void check_other_mesh(const DeviceMesh& from, const DeviceMesh& to);
extern const OpDef kRedistributeBetween;
extern const OpDef kRedistributeAll;
/// All of them, for find_op.
std::span<const OpDef* const> move_ops();

}  // namespace dtensor::tensor
