// SPDX-License-Identifier: Apache-2.0
#include "dtensor/ops/linear_cross_entropy.h"

#include <array>

#include "dtensor/error.h"
#include "dtensor/op.h"
#include "dtensor/ops/binary.h"
#include "dtensor/ops/compare.h"
#include "dtensor/ops/pointwise.h"
#include "dtensor/ops/reductions.h"
#include "local/kernels/linear_cross_entropy.h"
#include "ops/class_runs.h"
#include "ops/families.h"
#include "ops/reduction_rules.h"
#include "ops/spatial.h"

namespace dtensor {
namespace {

namespace cpu = local::cpu;
namespace kernels = local::kernels;
using ops::computation_dtype;
using ops::numbered;

Shape rows_of(const Shape& input) {
  Shape rows = input;
  rows.pop_back();
  return rows;
}
void check_operands(const ShapeCall& s, int input, int weight) {
  const TensorType &x = s.input(input), &w = s.input(weight);
  if (!info(x.dtype).floating || x.dtype != w.dtype || x.shape.ndim() < 1 || w.shape.ndim() != 2 || x.shape.back() != w.shape[1])
    s.fail("input [..., width] and weight [classes, width] of one floating dtype are wanted (" + s.describe(input) + ", " + s.describe(weight) + ")");
}
void check_rows(const ShapeCall& s, int input, int i, Dtype dtype) {
  if (s.input(i).shape != rows_of(s.input(input).shape) || s.input(i).dtype != dtype)
    s.fail("one " + to_string(dtype) + " per row of the input is wanted (" + s.describe(input) + ", " + s.describe(i) + ")");
}
struct Names {
  std::string input, rows, row_clause;
  explicit Names(const Shape& shape) {
    const int n = shape.ndim() - 1;
    input = numbered("n", n) + (n > 0 ? " d" : "d");
    rows = n > 0 ? numbered("n", n) : "()";
    row_clause = n > 0 ? numbered("n", n, ", ") + ": reduce(sum); " : "";
  }
};
cpu::LinearClasses classes_of(const KernelCall& c, int weight) {
  return {.classes = ops::classes_of(c.input_place(weight), 0), .ignore_index = c.attribute(0).as_int(), .op = c.op_name};
}
void check_target(const KernelCall& c, std::optional<std::int64_t> bad, std::int64_t classes) {
  if (bad) throw Error(cpu::wrong_target(c.op_name, *bad, classes));
}

constexpr OpDef kRowMax{
    .name = "linear_row_max",
    .signature = "input, weight -> out",
    .contiguous = true,
    .shape =
        [](ShapeCall& s) {
          check_operands(s, 0, 1);
          s.output(0) = {.shape = rows_of(s.input(0).shape), .dtype = computation_dtype(s.input(0).dtype)};
        },
    .rule_for =
        [](const ShapeCall& s) {
          const Names n(s.input(0).shape);
          return n.input + ", v d -> " + n.rows + "  d: whole; v: reduce(max)";
        },
    .kernel = [](const KernelCall& c) { kernels::linear_row_max(c.input(0), c.input(1), c.output(0)); },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 3}, {7, 3}}}, {.shapes = {{2, 3, 4}, {5, 4}}}};
        },
};
constexpr OpDef kExpSum{
    .name = "linear_exp_sum",
    .signature = "input, weight, target, shift, ignore_index: int = -100 -> out, target_logit",
    .contiguous = true,
    .shape =
        [](ShapeCall& s) {
          check_operands(s, 0, 1);
          const Dtype dtype = computation_dtype(s.input(0).dtype);
          check_rows(s, 0, 2, Dtype::i64);
          check_rows(s, 0, 3, dtype);
          for (int i : {0, 1}) s.output(i) = {.shape = rows_of(s.input(0).shape), .dtype = dtype};
        },
    .rule_for =
        [](const ShapeCall& s) {
          const Names n(s.input(0).shape);
          return n.input + ", v d, " + n.rows + ", " + n.rows + " -> " + n.rows + ", " + n.rows + "  d: whole; v: reduce(sum)";
        },
    .kernel =
        [](const KernelCall& c) {
          check_target(c, kernels::linear_exp_sum(classes_of(c, 1), c.input(0), c.input(1), c.input(2), c.input(3), c.output(0), c.output(1)),
                       c.input_place(1).global[0]);
        },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 3}, {7, 3}, {5}, {5}},
                                      .attributes = {{"ignore_index", "1"}},
                                      .dtypes = {Dtype::f32, Dtype::f32, Dtype::i64, Dtype::f32},
                                      .index_limit = 7}};
        },
};
std::vector<DTensor> split_rows(const DecomposeCall& c) {
  const DTensor &input = c.input(0), &weight = c.input(1), &target = c.input(2);
  const DTensor top = ops::without_partial(call(kRowMax, {input, weight}));
  const std::array<Input, 4> inputs{input, weight, target, top};
  const std::array<Attribute, 1> attributes{c.attribute(0)};
  const Results parts = call_all(kExpSum, inputs, attributes);
  const DTensor lse = add(top, log(ops::without_partial(parts[0])));
  const DTensor loss = sub(lse, ops::without_partial(parts[1]));
  return {masked_fill(loss, eq(target, c.attribute(0).scalar()), 0), lse};
}
std::vector<DTensor> rows_gradient(const GradientCall& g);
std::vector<Sample> rows_samples() {
  const std::vector<Dtype> dtypes{Dtype::f32, Dtype::f32, Dtype::i64};
  return {{.shapes = {{5, 3}, {7, 3}, {5}}, .attributes = {{"ignore_index", "1"}}, .dtypes = dtypes, .index_limit = 7},
          {.shapes = {{2, 3, 4}, {5, 4}, {2, 3}}, .dtypes = dtypes, .index_limit = 5},
          {.shapes = {{3}, {4, 3}, {}}, .dtypes = dtypes, .index_limit = 4},
          {.shapes = {{0, 3}, {2, 3}, {0}}, .dtypes = dtypes, .index_limit = 2}};
}
constexpr OpDef kRows{
    .name = "linear_cross_entropy",
    .signature = "input, weight, target, ignore_index: int = -100 -> out, lse",
    .saves = "input, weight, target, lse",
    .contiguous = true,
    .shape =
        [](ShapeCall& s) {
          check_operands(s, 0, 1);
          check_rows(s, 0, 2, Dtype::i64);
          if (s.input(1).shape[0] == 0) s.fail("there is no class (" + s.describe(1) + ")");
          for (int i : {0, 1}) s.output(i) = {.shape = rows_of(s.input(0).shape), .dtype = computation_dtype(s.input(0).dtype)};
        },
    .rule_for =
        [](const ShapeCall& s) {
          const Names n(s.input(0).shape);
          return n.input + ", v d, " + n.rows + " -> " + n.rows + ", " + n.rows + "  d, v: whole";
        },
    .kernel =
        [](const KernelCall& c) {
          check_target(c, kernels::linear_cross_entropy(classes_of(c, 1), c.input(0), c.input(1), c.input(2), c.output(0), c.output(1)),
                       c.input_place(1).global[0]);
        },
    .gradient = rows_gradient,
    .decompose = split_rows,
    .samples = rows_samples,
};
constexpr OpDef kBackward{
    .name = "linear_cross_entropy_backward",
    .signature = "grad_output, input, weight, target, lse, ignore_index: int = -100 -> grad_input, grad_weight",
    .contiguous = true,
    .shape =
        [](ShapeCall& s) {
          check_operands(s, 1, 2);
          const Dtype dtype = computation_dtype(s.input(1).dtype);
          check_rows(s, 1, 0, dtype);
          check_rows(s, 1, 3, Dtype::i64);
          check_rows(s, 1, 4, dtype);
          s.output(0) = s.input(1);
          s.output(1) = s.input(2);
        },
    .rule_for =
        [](const ShapeCall& s) {
          const Names n(s.input(1).shape);
          return n.rows + ", " + n.input + ", v d, " + n.rows + ", " + n.rows + " -> " + n.input + ", v d  " + n.row_clause +
                 "v: reduce(sum); d: whole; linear 1";
        },
    .kernel =
        [](const KernelCall& c) {
          kernels::linear_cross_entropy_backward(classes_of(c, 2), c.input(0), c.input(1), c.input(2), c.input(3), c.input(4), c.output(0),
                                                 c.output(1));
        },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5}, {5, 3}, {7, 3}, {5}, {5}},
                                      .attributes = {{"ignore_index", "1"}},
                                      .dtypes = {Dtype::f32, Dtype::f32, Dtype::f32, Dtype::i64, Dtype::f32},
                                      .index_limit = 7}};
        },
};
std::vector<DTensor> rows_gradient(const GradientCall& g) {
  const std::array<Input, 5> inputs{g.grad_output(0), g.input(0), g.input(1), g.input(2), g.output(1)};
  Results r = call_all(kBackward, inputs, g.attributes_);
  return {g.needs(0) ? r[0] : DTensor(), g.needs(1) ? r[1] : DTensor(), DTensor()};
}

constexpr std::array<const OpDef*, 4> kOps{&kRows, &kBackward, &kRowMax, &kExpSum};

}  // namespace

namespace ops {
OpList linear_cross_entropy_ops() { return kOps; }
}  // namespace ops

DTensor linear_cross_entropy(const DTensor& input, const DTensor& weight, const DTensor& target, const LinearCrossEntropyOptions& o) {
  if (o.reduction != "mean" && o.reduction != "sum" && o.reduction != "none")
    throw InvalidArgument("linear_cross_entropy: reduction must be mean, sum or none ('" + std::string(o.reduction) + "' given)");
  const std::array<Input, 3> inputs{input, weight, target};
  const std::array<Attribute, 1> attributes{Attribute(o.ignore_index)};
  DTensor rows = call_all(kRows, inputs, attributes)[0];
  if (o.reduction == "none") return rows;
  const DTensor total = sum(rows);
  return o.reduction == "sum" ? total : div(total, sum(ops::in_dtype(ne(target, o.ignore_index), rows.dtype())));
}

}  // namespace dtensor
