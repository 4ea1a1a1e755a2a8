// SPDX-License-Identifier: Apache-2.0
// Building rule texts for views.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "dtensor/values.h"

namespace dtensor::ops {

struct WindowText {
  std::int64_t num = 1, low = 0, high = 0, den = 1;
  bool wrap = false;  ///< modulo the size of the dimension
};
/// "d0 d1 d2", one name per dimension.
std::string names(int ndim, std::string_view prefix = "d");
/// "d: window(2 r + 1)", the clause of an operand's dimension `dim` of which index r of the results' factor `of` reads
/// floor((num * r + low) / den) to floor((num * r + high) / den).
std::string window(std::string_view dim, std::string_view of, const WindowText& map);
/// The rule of a reshape: the common factors of both shapes, major to minor; where sizes share none the dimensions are whole.
std::string reshape_rule(const Shape& from, const Shape& to);
/// Replaces one -1 by what is left. Returns false when that is impossible.
bool fill_size(Shape& shape, std::int64_t numel);

}  // namespace dtensor::ops
