// SPDX-License-Identifier: Apache-2.0
// Norms of vectors: 1, 2 and infinity have kernels, the other orders are expressions.
#include "ops/vector_norms.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>

#include "dtensor/op.h"
#include "dtensor/ops/binary.h"
#include "dtensor/ops/compare.h"
#include "dtensor/ops/pointwise.h"
#include "dtensor/ops/reductions.h"
#include "local/kernels/optimizer.h"
#include "local/kernels/reduce.h"
#include "ops/composite.h"
#include "ops/families.h"
#include "ops/reduction_rules.h"

namespace dtensor {
namespace {

namespace cpu = local::cpu;
namespace kernels = local::kernels;
using cpu::Reduction;
using ops::computation_dtype;
using ops::in_dtype;

Shape dims_of(const ShapeCall& s) { return ops::checked_dims(s, s.attribute(0)); }
Shape dims_of(const KernelCall& call) { return ops::normal_dims(call.attribute(0), call.input(0).ndim()); }
Shape dims_of(const GradientCall& g) { return ops::normal_dims(g.attribute(0), g.input_type(0).shape.ndim()); }
bool keeps(const ShapeCall& s) { return s.attribute(1).as_bool(); }
DTensor spread(const GradientCall& g, const DTensor& reduced) {
  return ops::expand_reduced(reduced, dims_of(g), g.attribute(1).as_bool(), g.input_type(0).shape);
}
std::vector<int> ints(const Shape& dims) { return {dims.begin(), dims.end()}; }
void set_result(ShapeCall& s, Dtype dtype) { s.output(0) = {.shape = ops::reduced_shape(s.input(0).shape, dims_of(s), keeps(s)), .dtype = dtype}; }

// ---- vector_norm: attributes dim, keepdim, dtype, ord; the orders 1, 2, inf and -inf
struct Order {
  std::string_view name;
  std::string_view clause;
  Reduction reduction;
};
constexpr std::array<Order, 4> kOrders{{{"1", "reduce(sum)", Reduction::absolute_sum},
                                        {"2", "whole", Reduction::square_sum},
                                        {"inf", "reduce(max)", Reduction::absolute_max},
                                        {"-inf", "reduce(min)", Reduction::absolute_min}}};
const Order* find_order(const Attribute& ord) {
  const auto* at = std::find_if(kOrders.begin(), kOrders.end(), [&](const Order& o) { return o.name == ord.as_text(); });
  return at == kOrders.end() ? nullptr : at;
}
Dtype norm_dtype(const ShapeCall& s) { return s.attribute(2).is_none() ? s.input(0).dtype : s.attribute(2).as_dtype(); }
void norm_shape(ShapeCall& s) {
  if (find_order(s.attribute(3)) == nullptr)
    s.fail("ord must be 1, 2, inf or -inf ('" + std::string(s.attribute(3).as_text()) + "' given); write other norms with pow and sum");
  if (!info(norm_dtype(s)).floating) s.fail("a norm needs a floating dtype (" + s.describe(0) + "); pass dtype, for example f32");
  set_result(s, norm_dtype(s));
}
std::string norm_rule(const ShapeCall& s) {
  return ops::reduction_rule(s.input(0).shape.ndim(), dims_of(s), keeps(s), find_order(s.attribute(3))->clause, "");
}
void norm_kernel(const KernelCall& call) {
  const Reduction kind = find_order(call.attribute(3))->reduction;
  kernels::reduce(kind, call.input(0), dims_of(call), call.output(0), {.divisor = {}, .root = kind == Reduction::square_sum});
}
std::vector<DTensor> norm_gradient(const GradientCall& g) {
  const DTensor& grad = g.grad_output(0);
  const DTensor x = in_dtype(g.input(0), grad.dtype());
  DTensor result;
  if (const Reduction kind = find_order(g.attribute(3))->reduction; kind == Reduction::square_sum) {
    result = mul(x, spread(g, masked_fill(div(grad, g.output(0)), eq(g.output(0), 0), 0)));
  } else if (kind == Reduction::absolute_sum) {
    result = mul(sign(x), spread(g, grad));
  } else {
    // Where some are NaN, so is the norm.
    const DTensor mask = logical_or(eq(abs(x), spread(g, g.output(0))), isnan(x)).to(grad.dtype());
    const DTensor count = sum(mask, std::span<const int>(ints(dims_of(g))), {.keepdim = g.attribute(1).as_bool()});
    result = mul(mul(sign(x), mask), spread(g, div(grad, count)));
  }
  return {in_dtype(result, g.input_type(0).dtype)};
}
constexpr OpDef kSquareSum{
    .name = "square_sum",
    .signature = "input, dim: int[] = [], keepdim: bool = false, dtype: dtype? = none -> out",
    .saves = "input",
    .dtypes = "floating",
    .shape = [](ShapeCall& s) { set_result(s, norm_dtype(s)); },
    .rule_for = [](const ShapeCall& s) { return ops::reduction_rule(s.input(0).shape.ndim(), dims_of(s), keeps(s), "reduce(sum)", ""); },
    .kernel =
        [](const KernelCall& call) {
          const Shape dims = dims_of(call);
          if (dims.ndim() == call.input(0).ndim()) kernels::Together::add(cpu::SquareSumCall{call.input(0), call.output(0)});
          else kernels::reduce(Reduction::square_sum, call.input(0), dims, call.output(0));
        },
    .gradient = [](const GradientCall& g) -> std::vector<DTensor> {
      return {in_dtype(mul(mul(g.input(0), 2), spread(g, g.grad_output(0))), g.input_type(0).dtype)};
    },
    .samples =
        [] {
          return std::vector<Sample>{
              {.shapes = {{5, 7}}, .attributes = {{"dim", "[0]"}}}, {.shapes = {{0, 3}}}, {.shapes = {{3, 4}}, .attributes = {{"keepdim", "true"}}}};
        },
};
constexpr OpDef kVectorNorm{
    .name = "vector_norm",
    .signature = "input, dim: int[] = [], keepdim: bool = false, dtype: dtype? = none, ord: text = 2 -> out",
    .saves = "input, out",
    .shape = norm_shape,
    .rule_for = norm_rule,
    .kernel = norm_kernel,
    .gradient = norm_gradient,
    .decompose = [](const DecomposeCall& c) -> std::vector<DTensor> {
      const Dtype dtype = c.attribute(2).is_none() ? c.input(0).dtype() : c.attribute(2).as_dtype();
      return {in_dtype(sqrt(call(kSquareSum, {c.input(0)}, {c.attribute(0), c.attribute(1), computation_dtype(dtype)})), dtype)};
    },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 7}}},
                                     {.shapes = {{5, 7}}, .attributes = {{"dim", "[1]"}, {"keepdim", "true"}}},
                                     {.shapes = {{5, 7}}, .attributes = {{"dim", "[0]"}, {"ord", "1"}}},
                                     {.shapes = {{3, 4}}, .attributes = {{"ord", "inf"}}},
                                     {.shapes = {{4, 3}}, .attributes = {{"dim", "[0]"}, {"ord", "-inf"}}},
                                     {.shapes = {{0, 3}}, .attributes = {{"dim", "[0]"}}}};
        },
    .reasons = "ord 1, inf and -inf of a Partial operand: |x| is not linear",
};

// ---- power_norm: attributes dim, keepdim, p; |x|^p summed, and its root
DTensor over(const DTensor& x, const Attribute& dim, const Attribute& keepdim, DTensor (*reduce)(const DTensor&, std::span<const int>, bool)) {
  const std::vector<int> dims = ints(ops::normal_dims(dim, x.ndim()));
  return reduce(x, dims, keepdim.as_bool());
}
DTensor sum_of(const DTensor& x, std::span<const int> dims, bool keepdim) { return sum(x, dims, {.keepdim = keepdim, .dtype = {}}); }
constexpr OpDef kPowerNorm = [] {
  OpDef op = ops::composite(
      "power_norm", "input, dim: int[] = [], keepdim: bool = false, p: float = 3.0 -> out", "floating",
      [](ShapeCall& s) { set_result(s, s.input(0).dtype); },
      [](const DecomposeCall& c) -> Results {
        const double p = c.attribute(2).as_double();
        const DTensor x = in_dtype(c.input(0), computation_dtype(c.input(0).dtype()));
        return {in_dtype(pow(over(pow(abs(x), p), c.attribute(0), c.attribute(1), sum_of), 1 / p), c.input(0).dtype())};
      },
      [] {
        return std::vector<Sample>{{.shapes = {{5, 7}}, .attributes = {{"dim", "[1]"}}, .low = 0.2},
                                   {.shapes = {{3, 4, 2}}, .attributes = {{"dim", "[0, 2]"}, {"keepdim", "true"}, {"p", "0.9"}}, .low = 0.2},
                                   {.shapes = {{5, 2}}, .attributes = {{"p", "-2.1"}}, .low = 0.2},
                                   {.shapes = {{0, 3}}, .attributes = {{"dim", "[1]"}}}};
      });
  op.saves = "input, out";
  op.gradient = [](const GradientCall& g) -> std::vector<DTensor> {
    const double p = g.attribute(2).as_double();
    const DTensor& x = g.input(0);
    const DTensor share = spread(g, masked_fill(div(g.grad_output(0), pow(g.output(0), p - 1)), eq(g.output(0), 0), 0));
    const DTensor slope = mul(sign(x), pow(abs(x), p - 1));
    return {mul(p < 1 ? masked_fill(slope, eq(x, 0), 0) : slope, share)};
  };
  return op;
}();

// ---- norm, linalg.vector_norm: any order
/// Of "2", "-0.5", "inf", "fro"; NaN for other texts.
double order_number(std::string_view text) {
  if (text == "fro") return 2;
  if (text == "inf" || text == "-inf") return text == "inf" ? HUGE_VAL : -HUGE_VAL;
  double value = 0;
  const auto r = std::from_chars(text.data(), text.data() + text.size(), value);
  return r.ec == std::errc() && r.ptr == text.data() + text.size() ? value : std::numeric_limits<double>::quiet_NaN();
}
bool has_kernel(double ord) { return ord == 1 || ord == 2 || std::isinf(ord); }
DTensor norm_of(const DTensor& input, const Attribute& dim, const Attribute& keepdim, const Attribute& dtype, double ord) {
  if (has_kernel(ord)) return call(kVectorNorm, {input}, {dim, keepdim, dtype, ord == 1 ? "1" : ord == 2 ? "2" : ord > 0 ? "inf" : "-inf"});
  const DTensor x = dtype.is_none() ? input : in_dtype(input, dtype.as_dtype());
  if (ord == 0) return over(ne(x, 0).to(x.dtype()), dim, keepdim, sum_of);
  return call(kPowerNorm, {x}, {dim, keepdim, ord});
}
// Attributes dim, keepdim, dtype, and the order.
void any_norm_shape(ShapeCall& s) {
  const std::string_view text = s.attribute(3).as_text();
  if (text == "nuc") s.fail("ord 'nuc' is the sum of singular values, which are not computed here; give a number, inf, -inf or fro");
  if (std::isnan(order_number(text))) s.fail("ord must be a number, inf, -inf or fro ('" + std::string(text) + "' given)");
  if (!info(norm_dtype(s)).floating) s.fail("a norm needs a floating dtype (" + s.describe(0) + "); pass dtype, for example f32");
  const Shape dims = dims_of(s);
  if (order_number(text) < 0)
    for (std::int64_t d : dims)
      if (s.input(0).shape[static_cast<int>(d)] == 0)
        s.fail("dim " + std::to_string(d) + " has no element (" + s.describe(0) +
               "), and the least of none is not defined; reduce dims that are not empty");
  set_result(s, norm_dtype(s));
}
Results any_norm(const DecomposeCall& c) {
  return {norm_of(c.input(0), c.attribute(0), c.attribute(1), c.attribute(2), order_number(c.attribute(3).as_text()))};
}
std::vector<Sample> orders(std::string_view name) {
  std::vector<Sample> samples;
  for (const char* order : {"2", "1", "inf", "0", "-inf", "3", "-1", "0.5"})
    samples.push_back({.shapes = {{5, 7}}, .attributes = {{"dim", "[1]"}, {std::string(name), order}}, .low = 0.2});
  samples.push_back({.shapes = {{3, 4, 2}}, .attributes = {{"dim", "[0, 2]"}, {"keepdim", "true"}, {std::string(name), "1.5"}}});
  samples.push_back({.shapes = {{0, 3}}, .attributes = {{"dim", "[1]"}}});
  samples.push_back({.shapes = {{}}});
  return samples;
}
constexpr OpDef kAnyVectorNorm =
    ops::composite("linalg.vector_norm", "input, dim: int[] = [], keepdim: bool = false, dtype: dtype? = none, ord: text = 2 -> out", "",
                   any_norm_shape, any_norm, [] { return orders("ord"); });
constexpr OpDef kNorm = ops::composite("norm", "input, dim: int[] = [], keepdim: bool = false, dtype: dtype? = none, p: text = fro -> out", "",
                                       any_norm_shape, any_norm, [] { return orders("p"); });

constexpr std::array<const OpDef*, 5> kOps{&kSquareSum, &kVectorNorm, &kPowerNorm, &kAnyVectorNorm, &kNorm};

Shape listed(std::initializer_list<int> dims) {
  Shape shape;
  for (int d : dims) shape.push_back(d);
  return shape;
}
DTensor norm_over(const DTensor& input, const Shape& dims, const VectorNormOptions& o) {
  if (has_kernel(o.ord) && o.ord > 0) return norm_of(input, dims, o.keepdim, o.dtype, o.ord);
  const std::string ord = to_string(Scalar(o.ord));
  return call(kAnyVectorNorm, {input}, {dims, o.keepdim, o.dtype, std::string_view(ord)});
}

}  // namespace

namespace ops {
OpList vector_norm_ops() { return kOps; }
DTensor square_sum(const DTensor& input, Dtype dtype) { return call(kSquareSum, {input}, {Shape(), false, dtype}); }
}  // namespace ops

DTensor vector_norm(const DTensor& input, const VectorNormOptions& o) { return norm_over(input, {}, o); }
DTensor vector_norm(const DTensor& input, int dim, const VectorNormOptions& o) { return norm_over(input, {dim}, o); }
DTensor vector_norm(const DTensor& input, std::initializer_list<int> dim, const VectorNormOptions& o) { return norm_over(input, listed(dim), o); }
DTensor norm(const DTensor& input, const NormOptions& o) { return norm_over(input, {}, {.ord = o.p, .keepdim = o.keepdim, .dtype = o.dtype}); }
DTensor norm(const DTensor& input, int dim, const NormOptions& o) {
  return norm_over(input, {dim}, {.ord = o.p, .keepdim = o.keepdim, .dtype = o.dtype});
}

}  // namespace dtensor
