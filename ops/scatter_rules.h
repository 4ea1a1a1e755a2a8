// SPDX-License-Identifier: Apache-2.0
// What ops that write elements at computed indices along a dimension share. Inputs: the tensor that is written, index, source (may be absent); attribute 0: dim.
#pragma once

#include <string>
#include <string_view>

#include "dtensor/op.h"

namespace dtensor::ops {

/// The result is as input 0. @throws InvalidArgument for an index or a source that does not fit.
void scatter_shape(ShapeCall& s, std::string_view op);
/// `kind`: the reduction in which what ranks add to parts of the result meets it (sum, product, max, min); null: the order of the writes counts, so that all
/// of a written line is on every rank.
std::string scatter_rule(const ShapeCall& s, std::string_view op, const char* kind);

}  // namespace dtensor::ops
