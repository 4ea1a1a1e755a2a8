// SPDX-License-Identifier: Apache-2.0
// Building rule texts for views.
#pragma once

#include <string>

#include "dtensor/values.h"

namespace dtensor::ops {

/// "d0 d1 d2", one name per dimension.
std::string names(int ndim, std::string_view prefix = "d");
/// The rule of a reshape: the common factors of both shapes, major to minor; where sizes share none the dimensions are whole.
std::string reshape_rule(const Shape& from, const Shape& to);
/// Replaces one -1 by what is left. Returns false when that is impossible.
bool fill_size(Shape& shape, std::int64_t numel);

}  // namespace dtensor::ops
