// SPDX-License-Identifier: Apache-2.0
// What ops over some dimensions of their input share: the list of dimensions, result shapes, rule texts.
#pragma once

#include <string>
#include <string_view>

#include "dtensor/op.h"

namespace dtensor::ops {

/// dims in [0, ndim) from an attribute that is a list (empty: all), an integer or none (all). @throws through `s` for dims out of range or repeated.
Shape checked_dims(const ShapeCall& s, const Attribute& attribute);
/// The same without checks.
Shape normal_dims(const Attribute& attribute, int ndim);
bool contains(const Shape& dims, int dim);
Shape reduced_shape(const Shape& shape, const Shape& dims, bool keepdim);

/// "d0 d1 d2", with the names of `dims` dropped or (keepdim) written 1; "()" when nothing is left.
std::string all_names(int ndim);
std::string kept_names(int ndim, const Shape& dims, bool keepdim);
/// "d1, d2: reduce(sum)"; nothing for no dims.
std::string clause(const Shape& dims, std::string_view kind);
/// "d0 d1 -> d0  d1: reduce(sum); linear"
std::string reduction_rule(int ndim, const Shape& dims, bool keepdim, std::string_view kind, std::string_view flags);

/// The same value with Replicate where it is Partial, so that using it twice reduces it once.
DTensor without_partial(const DTensor& tensor);
/// The same for an operand that the decomposition of `op` was given: the move counts as one that its rule inserts.
DTensor without_partial(std::string_view op, const DTensor& operand);
/// Gives a reduced tensor (dims dropped, or kept as ones) the shape before the reduction.
DTensor expand_reduced(const DTensor& reduced, const Shape& dims, bool keepdim, const Shape& shape);
/// Ops whose gradients use themselves.
const OpDef& prod_op();
const OpDef& cumsum_op();
/// f64 for f64, f32 for the other floating dtypes.
constexpr Dtype computation_dtype(Dtype dtype) { return dtype == Dtype::f64 ? Dtype::f64 : Dtype::f32; }
/// `tensor` in `dtype`; itself when it has it.
DTensor in_dtype(const DTensor& tensor, Dtype dtype);

}  // namespace dtensor::ops
