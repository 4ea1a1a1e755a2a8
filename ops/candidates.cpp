// SPDX-License-Identifier: Apache-2.0
#include "ops/candidates.h"

#include <algorithm>
#include <string>
#include <vector>

#include "dtensor/ops/binary.h"
#include "dtensor/ops/embedding.h"
#include "dtensor/ops/factories.h"
#include "dtensor/ops/views.h"
#include "ops/view_rules.h"
#include "tensor/impl.h"
#include "tensor/move_ops.h"
#include "tensor/state.h"

namespace dtensor {
namespace {

constexpr OpDef kInParts{
    .name = "in_parts",
    .signature = "input, dim: int, count: int, fill: number -> out",
    .shape =
        [](ShapeCall& s) {
          const int dim = static_cast<int>(s.attribute(0).as_int());
          const std::int64_t count = s.attribute(1).as_int();
          TensorType out = s.input(0);
          const std::int64_t each = (out.shape[dim] + count - 1) / count;
          out.shape[dim] = each;
          out.shape.insert(dim, count);
          s.output(0) = out;
        },
    .rule_for =
        [](const ShapeCall& s) {
          const int ndim = s.input(0).shape.ndim(), dim = static_cast<int>(s.attribute(0).as_int());
          const std::int64_t each = (s.input(0).shape[dim] + s.attribute(1).as_int() - 1) / s.attribute(1).as_int();
          std::string out;
          for (int d = 0; d < ndim; ++d) out += (d == 0 ? "" : " ") + (d == dim ? std::string("p e") : "d" + std::to_string(d));
          return ops::names(ndim) + " -> " + out + "    " +
                 ops::window("d" + std::to_string(dim), "p", {.num = each, .high = std::max<std::int64_t>(each, 1) - 1});
        },
    .kernel =
        [](const KernelCall& call) {
          const Tensor& out = call.output(0);
          const int dim = static_cast<int>(call.attribute(0).as_int());
          const Place& from = call.input_place(0);
          const std::int64_t each = call.output_place(0).global[dim + 1], first = call.output_place(0).begin(dim);
          if (out.numel() == 0) return;
          out.fill_(call.attribute(2).scalar());
          for (std::int64_t p = 0; p < out.shape()[dim]; ++p) {
            const std::int64_t begin = (first + p) * each, length = std::min(begin + each, from.global[dim]) - begin;
            if (length <= 0) break;
            Shape shape = out.shape(), strides = out.strides();
            const std::int64_t offset = out.offset() + p * strides[dim];
            shape.erase(dim);
            strides.erase(dim);
            shape[dim] = length;
            out.as_strided(shape, strides, offset).copy_(call.input(0).narrow(dim, begin - from.begin(dim), length));
          }
        },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 3}}, .attributes = {{"dim", "0"}, {"count", "2"}, {"fill", "-1"}}},
                                     {.shapes = {{2, 7}}, .attributes = {{"dim", "1"}, {"count", "3"}, {"fill", "0.5"}}},
                                     {.shapes = {{8}}, .attributes = {{"dim", "0"}, {"count", "4"}, {"fill", "0"}}},
                                     {.shapes = {{2, 3}}, .attributes = {{"dim", "1"}, {"count", "6"}, {"fill", "0"}}}};
        },
    .reasons = "a Partial operand is reduced before it is padded",
};

// Joins dims `dim` and `dim + 1`.
DTensor joined(const DTensor& x, int dim) {
  Shape shape;
  for (int d = 0; d < x.ndim(); ++d) {
    if (d == dim + 1) shape[dim] *= x.shape()[d];
    else shape.push_back(x.shape()[d]);
  }
  return reshape(x, shape);
}

// Axes that split `dim`, and how many ranks they are.
std::vector<int> axes_of(const placements::Layout& layout, int dim) {
  std::vector<int> axes;
  for (const placements::Split& s : layout.dims[static_cast<std::size_t>(dim)]) axes.insert(axes.end(), s.axes.begin(), s.axes.end());
  return axes;
}

// Whole along `dim`, the axes that split it splitting `other`, if any; the rest as it is.
DTensor moved_from(const DTensor& x, int dim, int other = -1) {
  placements::Layout to = *x.impl()->spec->layout;
  if (other >= 0)
    for (int a : axes_of(to, dim)) to.dims[static_cast<std::size_t>(other)].push_back({{a}, 1, {}});
  to.dims[static_cast<std::size_t>(dim)].clear();
  return tensor::redistribute_to(x, placements::intern(to));
}

// Bytes that a rank receives when the parts of `dim`, over `count` ranks, become parts of another dim, or come together.
double exchanged(const DTensor& x, std::int64_t count) {
  const double bytes = static_cast<double>(x.shape().numel()) * info(x.dtype()).bytes;
  return bytes * static_cast<double>(count - 1) / static_cast<double>(count * count);
}
std::int64_t ranks_along(const placements::Layout& layout, int dim) {
  std::int64_t count = 1;
  for (int a : axes_of(layout, dim)) count *= layout.mesh_sizes[static_cast<std::size_t>(a)];
  return count;
}
// The dim whose parts are largest, if every rank gets some of it; -1.
int roomiest(const tensor::Spec& spec, int dim) {
  const std::int64_t count = ranks_along(*spec.layout, dim);
  int best = -1;
  std::int64_t most = count - 1;
  for (int d = 0; d < spec.shape.ndim(); ++d) {
    const std::int64_t each = spec.shape[d] / ranks_along(*spec.layout, d);
    if (d != dim && each > most) best = d, most = each;
  }
  return best;
}

}  // namespace

namespace ops {

DTensor whole_along(const OpDef& op, const DTensor& x, int dim) {
  const tensor::Inserted inserted(op.name);
  return moved_from(x, dim, roomiest(*x.impl()->spec, dim));
}
Results on_whole_lines(const OpDef& op, const DecomposeCall& c, int dim) {
  std::vector<DTensor> moved;
  for (const DTensor* t : c.inputs) moved.push_back(whole_along(op, *t, dim));
  const std::vector<Input> inputs(moved.begin(), moved.end());
  return call_all(op, inputs, c.attributes);
}
bool has_room_elsewhere(const DTensor& x, int dim) { return roomiest(*x.impl()->spec, dim) >= 0; }
bool fewer_as_candidates(const DTensor& x, std::int64_t k, int dim) {
  const tensor::Spec& spec = *x.impl()->spec;
  const std::int64_t count = ranks_along(*spec.layout, dim), n = x.shape()[dim];
  if (n == 0) return true;
  const std::int64_t rows = x.shape().numel() / n;
  const double parts = static_cast<double>(count - 1) * static_cast<double>(k * rows * (info(x.dtype()).bytes + 8));
  return parts <= exchanged(x, count) * (roomiest(spec, dim) < 0 ? static_cast<double>(count) : 1);
}

const OpDef& in_parts_op() { return kInParts; }

DTensor in_parts(const DTensor& x, int dim, std::int64_t count, const Scalar& fill) { return call(kInParts, {x}, {dim, count, fill}); }

std::pair<DTensor, DTensor> first_of_parts(const DTensor& x, std::int64_t k, int dim, const Scalar& last, First first) {
  const tensor::Spec& spec = *x.impl()->spec;
  const std::int64_t count = ranks_along(*spec.layout, dim);
  const std::int64_t each = std::max<std::int64_t>(1, (x.shape()[dim] + count - 1) / count);
  const DTensor parts = in_parts(x, dim, count, last);
  const auto [values, places] = first(parts, std::min(k, parts.shape()[dim + 1]), dim + 1);
  // Of an index within its part, the index in x.
  Shape column = Shape::filled(values.ndim(), 1);
  column[dim] = count;
  const DTensor starts = reshape(arange(0, count * each, each, x.mesh(), {}, {.dtype = Dtype::i64}), column);
  const DTensor candidates = moved_from(joined(values, dim), dim), indices = moved_from(joined(add(places, starts), dim), dim);
  const auto [best, at] = first(candidates, k, dim);
  return {best, gather(indices, dim, at)};
}

}  // namespace ops
}  // namespace dtensor
