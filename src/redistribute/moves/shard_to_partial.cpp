// SPDX-License-Identifier: Apache-2.0
// S(d) -> P(op): what this rank has of its result at its place, neutral elements elsewhere. The result may be cut along other axes.
#include <algorithm>

#include "local/neutral.h"
#include "redistribute/move.h"

namespace dtensor::redistribute::moves {
namespace {

void copy_boxes(const PreparedMove& move, const Tensor& in, const Tensor& out, int dim) {
  if (dim == in.ndim()) {
    out.copy_(in);
    return;
  }
  const auto &source = move.runs[static_cast<std::size_t>(dim)], &target = move.kept[static_cast<std::size_t>(dim)];
  for (std::size_t i = 0; i < source.size(); ++i)
    copy_boxes(move, in.narrow(dim, source[i].begin, source[i].length), out.narrow(dim, target[i].begin, target[i].length), dim + 1);
}

}  // namespace

Ready shard_to_partial(const PreparedMove& move, const Tensor& in) {
  Tensor out = Tensor::empty(move.out_shape, move.dtype, in.device());
  if (in.device().kind == DeviceKind::meta) return out;
  // Kinds on one tensor commute and none is avg, so the axes that become Partial have one neutral element.
  const auto becomes_partial = [&](int axis) { return move.move.to->partial[static_cast<std::size_t>(axis)].has_value(); };
  const int axis = *std::find_if(move.move.axes.begin(), move.move.axes.end(), becomes_partial);
  local::fill_neutral(out, *move.move.to->partial[static_cast<std::size_t>(axis)]);
  copy_boxes(move, in, out, 0);
  return out;
}

}  // namespace dtensor::redistribute::moves
