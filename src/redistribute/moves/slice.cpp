// SPDX-License-Identifier: Apache-2.0
// R -> S: this rank's part of what it holds. A view where the part is one interval per dimension on every rank, else a copy.
#include "redistribute/move.h"
#include "redistribute/moves/runs.h"

namespace dtensor::redistribute::moves {
Tensor slice(const PreparedMove& move, const Tensor& in) {
  // What the plan counts as a copy is one on every rank: a view would keep alive memory that the plan says is free.
  return part_of(move, in, move.move.nanoseconds == 0);
}

Tensor part_of(const PreparedMove& move, const Tensor& in, bool view_allowed) {
  bool one_interval = view_allowed;
  for (const auto& r : move.runs) one_interval = one_interval && r.size() <= 1;
  if (move.out_shape.numel() == 0) return Tensor::empty(move.out_shape, move.dtype, in.device());
  if (!one_interval) {
    Tensor out = Tensor::empty(move.out_shape, move.dtype, in.device());
    if (in.device().kind != DeviceKind::meta) each_box(in, out, move.runs, [](const Tensor& part, const Tensor& packed) { packed.copy_(part); });
    return out;
  }
  Tensor view = in;
  for (int d = 0; d < in.ndim(); ++d) {
    const placements::Run& r = move.runs[static_cast<std::size_t>(d)].front();
    if (r.length != in.shape()[d]) view = view.narrow(d, r.begin, r.length);
  }
  return view;
}

}  // namespace dtensor::redistribute::moves
