// SPDX-License-Identifier: Apache-2.0
// Splits of a dimension <-> splits of the factors whose product it is. Pure.
//
// Law of views: the major factor a of a dimension (a b) may stay split iff on every rank the bounds of the dimension's chunk are b times the bounds of a's chunk.
// If the data stay but the chunks are not ceil chunks the other side is an exact RaggedShard. A minor factor needs equal local sizes of the factors before it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "placements/layout.h"

namespace dtensor::propagate {

using placements::Split;
using placements::Splits;

/// Splits of a dimension of the factors with `sizes` (major to minor) as splits of the factors; nothing when a bound falls inside a factor's element.
std::optional<std::vector<Splits>> to_factors(const Splits& dim, std::span<const std::int64_t> sizes, std::span<const int> mesh_sizes);
/// Splits of the factors as splits of their product; nothing when no layout says it.
std::optional<Splits> to_dimension(std::span<const Splits> factors, std::span<const std::int64_t> sizes, std::span<const int> mesh_sizes);

}  // namespace dtensor::propagate
