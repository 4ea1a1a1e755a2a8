// SPDX-License-Identifier: Apache-2.0
#include "ops/split_scan.h"
#include "local/kernels/scan_parts.h"

#include <algorithm>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ops/reduction_rules.h"
#include "tensor/impl.h"
#include "tensor/move_ops.h"

namespace dtensor {
namespace {

using local::cpu::ScanOp;

// Attributes of both ops: dim, bounds, op, reverse, dtype.
int dim_of(const KernelCall& call) { return static_cast<int>(call.attribute(0).as_int()); }
ScanOp op_of(std::string_view name) {
  return name == "sum"       ? ScanOp::sum
         : name == "product" ? ScanOp::product
         : name == "max"     ? ScanOp::max
         : name == "min"     ? ScanOp::min
                             : ScanOp::log_sum;
}
local::cpu::ScanCall scan_of(const KernelCall& call) {
  const int dim = dim_of(call);
  std::vector<placements::Run> runs;
  for (const IndexRun& r : call.input_place(0).runs[static_cast<std::size_t>(dim)]) runs.push_back({r.begin, r.length});
  return {op_of(call.attribute(2).as_text()), dim, call.attribute(3).as_bool(), call.attribute(1).as_list(), call.input_place(0).global[dim], runs};
}
std::string dims_with(int ndim, int dim, std::string_view name) {
  std::string text;
  for (int d = 0; d < ndim; ++d) text += (d == 0 ? "" : " ") + (d == dim ? std::string(name) : "d" + std::to_string(d));
  return text;
}
std::string_view linear_clause(const ShapeCall& s) { return s.attribute(2).as_text() == "sum" ? "; linear" : ""; }

// A log_sum of parts that are cut would be no largest of them: each run of a rank is a part.
constexpr OpDef kScanTotals{
    .name = "scan_totals",
    .signature = "input, dim: int, bounds: int[], op: text, reverse: bool, dtype: dtype -> out",
    .dtypes = "number",
    .shape =
        [](ShapeCall& s) {
          TensorType out{s.input(0).shape, s.attribute(4).as_dtype()};
          out.shape[static_cast<int>(s.attribute(0).as_int())] = static_cast<std::int64_t>(s.attribute(1).as_list().size());
          s.output(0) = out;
        },
    .rule_for =
        [](const ShapeCall& s) {
          const int ndim = s.input(0).shape.ndim(), dim = static_cast<int>(s.attribute(0).as_int());
          const std::string_view op = s.attribute(2).as_text();
          return ops::all_names(ndim) + " -> " + dims_with(ndim, dim, "k") + "    " +
                 ops::clause({dim}, "reduce(" + std::string(op == "log_sum" ? "max" : op) + ")") + std::string(linear_clause(s));
        },
    .kernel = [](const KernelCall& call) { local::kernels::scan_totals(scan_of(call), call.input(0), call.output(0)); },
    .samples =
        [] {
          return std::vector<Sample>{
              {.shapes = {{5, 3}}, .attributes = {{"dim", "0"}, {"bounds", "[0, 2, 4]"}, {"op", "sum"}, {"reverse", "false"}, {"dtype", "f32"}}},
              {.shapes = {{2, 7}}, .attributes = {{"dim", "1"}, {"bounds", "[0, 1, 5]"}, {"op", "sum"}, {"reverse", "true"}, {"dtype", "f32"}}},
              {.shapes = {{5, 2}}, .attributes = {{"dim", "0"}, {"bounds", "[0, 3]"}, {"op", "max"}, {"reverse", "false"}, {"dtype", "f32"}}},
              {.shapes = {{4}}, .attributes = {{"dim", "0"}, {"bounds", "[0, 3]"}, {"op", "product"}, {"reverse", "true"}, {"dtype", "f32"}}}};
        },
};

// Right where the rank's runs are parts; split_scan calls it so.
constexpr OpDef kScanFrom{
    .name = "scan_from",
    .signature = "input, totals, dim: int, bounds: int[], op: text, reverse: bool, dtype: dtype -> out",
    .dtypes = "number",
    .shape = [](ShapeCall& s) { s.output(0) = {.shape = s.input(0).shape, .dtype = s.attribute(4).as_dtype()}; },
    .rule_for =
        [](const ShapeCall& s) {
          const int ndim = s.input(0).shape.ndim(), dim = static_cast<int>(s.attribute(0).as_int());
          const std::string all = ops::all_names(ndim);
          return all + ", " + dims_with(ndim, dim, "1") + " -> " + all + "    d" + std::to_string(dim) + ": pass" + std::string(linear_clause(s));
        },
    .kernel = [](const KernelCall& call) { local::kernels::scan_from(scan_of(call), call.input(0), call.input(1), call.output(0)); },
};

// Where runs of the dimension begin on some rank, ascending.
std::vector<std::int64_t> bounds_of(const tensor::Spec& spec, int dim) {
  const placements::Layout& layout = *spec.layout;
  std::vector<int> axes;
  for (const placements::Split& s : layout.dims[static_cast<std::size_t>(dim)]) axes.insert(axes.end(), s.axes.begin(), s.axes.end());
  std::int64_t ranks = 1;
  for (int a : axes) ranks *= layout.mesh_sizes[static_cast<std::size_t>(a)];
  std::vector<std::int64_t> bounds;
  for (std::int64_t joint = 0; joint < ranks; ++joint) {
    Shape coordinates = Shape::filled(layout.mesh_ndim(), 0);
    std::int64_t left = joint;
    for (int a : axes) {
      const std::int64_t size = layout.mesh_sizes[static_cast<std::size_t>(a)];
      coordinates[a] = left % size;
      left /= size;
    }
    for (const placements::Run& r : placements::owned_runs(layout, dim, spec.shape[dim], coordinates)) bounds.push_back(r.begin);
  }
  std::sort(bounds.begin(), bounds.end());
  return bounds;
}

// Replicate on the axes that split dimension `dim` of `like`; the rest as it is.
DTensor complete_along(const DTensor& totals, const tensor::Spec& like, int dim) {
  placements::Layout to = *totals.impl()->spec->layout;
  for (int a = 0; a < to.mesh_ndim(); ++a)
    if (like.layout->dim_of(a) == dim) to.partial[static_cast<std::size_t>(a)].reset();
  return tensor::redistribute_to(totals, placements::intern(to));
}

}  // namespace

namespace ops {

const OpDef& scan_totals_op() { return kScanTotals; }

DTensor split_scan(const DTensor& x, int dim, std::string_view op, bool reverse, Dtype result) {
  const tensor::Spec& spec = *x.impl()->spec;
  const std::vector<std::int64_t> bounds = bounds_of(spec, dim);
  const std::span<const std::int64_t> list(bounds);
  // Neutral elements are those of the wide type; a product that leaves f32 may come back.
  const Dtype carried = !info(result).floating ? Dtype::i64 : op == "product" ? Dtype::f64 : computation_dtype(result);
  const DTensor totals = complete_along(call(kScanTotals, {x}, {dim, list, op, reverse, carried}), spec, dim);
  return call(kScanFrom, {x, totals}, {dim, list, op, reverse, result});
}

}  // namespace ops
}  // namespace dtensor
