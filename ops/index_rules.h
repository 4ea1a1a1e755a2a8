// SPDX-License-Identifier: Apache-2.0
// What ops that read and write at computed indices share: index values as positions in a rank's part, and operand texts of their rules.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "dtensor/op.h"
#include "local/cpu/embedding.h"
#include "local/random.h"

namespace dtensor::ops {

/// Fails unless input i holds i64 or i32.
void check_index(const ShapeCall& s, int i);
/// A tensor without dims counts as one of one element in one dim.
inline Tensor lined(const Tensor& t) { return t.ndim() == 0 ? t.view({1}) : t; }
Place lined(const Place& place);
/// A dim in [0, max(ndim, 1)). @throws InvalidArgument otherwise.
int line_dim(const Attribute& dim, int ndim, std::string_view op);

/// The runs of one dim, for kernels.
std::vector<local::GlobalRun> runs_of(const Place& place, int dim);
/// Values of input `index` -> positions in what this rank holds of dimension `dim` of `place`, or kElsewhere. A value outside the global size fails, naming
/// `what`; with `from_end` negative values count from the end. `what` is in
/// static memory. An i64 tensor of the index's shape on its device, where the error shows at a later call.
Tensor positions(const KernelCall& call, int index, const Place& place, int dim, const char* what, bool from_end = false);
/// Coordinates of the index, dimension by dimension but `dim`, as positions in a part of what is read or written.
std::vector<local::cpu::CoordinateMap> coordinates_in(const Place& target, const Place& index, const Shape& local, int dim);
local::cpu::RowsCall rows_of(const Shape& shape, int dim, const Tensor& at);

/// The kind of a clause for a factor that is split among ranks that each read or add some: bools have no Partial, so theirs is whole.
inline const char* kind_for(Dtype dtype, const char* kind) { return dtype == Dtype::boolean ? "whole" : kind; }
/// "a0 a1 ..." with the entry of `dim` replaced.
std::string dims_with(int ndim, int dim, const char* name);
/// Dims of the tensor that is read at an index: `v` for dim, w where it is longer than the index.
std::string source_dims(const Shape& source, const Shape& index, int dim);
/// "w1: kind; " for each of them.
std::string names_where_longer(const Shape& source, const Shape& index, int dim, char name, const char* kind);

/// grad, index; dim, shape -> sums of `shape`: the gradient of gather.
const OpDef& gather_backward_op();
/// index [n]; size -> i64 [size], how often each value occurs.
const OpDef& count_op();
/// index [...]; num_classes -> i64 [..., num_classes].
const OpDef& one_hot_op();

}  // namespace dtensor::ops
