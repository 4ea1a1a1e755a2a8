// SPDX-License-Identifier: Apache-2.0
// What ops over the last one to three dims of images share: attributes that are one number or one per dim, names for rules.
#pragma once

#include <string>
#include <string_view>

#include "dtensor/op.h"

namespace dtensor::ops {

/// One number per spatial dim from an attribute that is absent or empty (`fallback`), a number or a list; a list of one is repeated.
Shape per_dim(const Attribute& attribute, int spatial, std::int64_t fallback);
/// The same, checked: as many as there are dims, none below `least`. @throws through `s`.
Shape checked_per_dim(const ShapeCall& s, const Attribute& attribute, int spatial, std::int64_t fallback, std::string_view name, std::int64_t least);
/// "prefix0 prefix1" for `count` dims, joined by `separator`.
std::string numbered(std::string_view prefix, int count, std::string_view separator = " ");
/// "name: window(num of + low .. high / den)": index `of` of the result reads floor((num of + low) / den) to floor((num of + high) / den).
std::string window_clause(const std::string& name, const std::string& of, std::int64_t num, std::int64_t low, std::int64_t high,
                          std::int64_t den = 1);
Shape last_sizes(const Shape& shape, int count);
/// `shape` with its last dims replaced.
Shape with_last_sizes(Shape shape, const Shape& sizes);

}  // namespace dtensor::ops
