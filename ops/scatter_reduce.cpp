// SPDX-License-Identifier: Apache-2.0
// Elements combined with what they are written to, and elements written where a mask says.
#include <array>
#include <limits>

#include <fmt/format.h>

#include "dtensor/error.h"
#include "dtensor/ops/arrange.h"
#include "dtensor/ops/binary.h"
#include "dtensor/ops/compare.h"
#include "dtensor/ops/embedding.h"
#include "dtensor/ops/factories.h"
#include "dtensor/ops/indexing.h"
#include "dtensor/ops/pointwise.h"
#include "dtensor/ops/reductions.h"
#include "dtensor/ops/scans.h"
#include "dtensor/ops/views.h"
#include "local/kernels/embedding.h"
#include "ops/composite.h"
#include "ops/families.h"
#include "ops/index_rules.h"
#include "ops/reduction_rules.h"
#include "ops/scatter_rules.h"

namespace dtensor {
namespace {

using local::cpu::Combine;
using ops::lined;

// ---- scatter_combine: what sum does not do; index and source have one shape
struct Kind {
  std::string_view name;
  const char* partial;
  Combine combine;
};
constexpr std::array<Kind, 3> kKinds{{{"prod", "product", Combine::product}, {"amax", "max", Combine::max}, {"amin", "min", Combine::min}}};
const Kind* find_kind(const Attribute& reduce) {
  for (const Kind& k : kKinds)
    if (k.name == reduce.as_text()) return &k;
  return nullptr;
}
void combine_shape(ShapeCall& s) {
  ops::scatter_shape(s, "scatter_combine");
  if (find_kind(s.attribute(1)) == nullptr) s.fail(fmt::format("reduce must be prod, amax or amin ('{}' given)", s.attribute(1).as_text()));
  if (s.input(2).shape != s.input(1).shape) s.fail(fmt::format("shapes of index and src differ ({}, {})", s.describe(1), s.describe(2)));
}
void combine_kernel(const KernelCall& call) {
  const Tensor out = lined(call.output(0)), index = lined(call.input(1));
  out.copy_(lined(call.input(0)));
  const int dim = ops::line_dim(call.attribute(0), out.ndim(), call.op_name);
  const Place target = lined(call.output_place(0));
  const auto at = ops::positions(call, 1, target, dim, "the dim that is written");
  const auto others = ops::coordinates_in(target, lined(call.input_place(1)), index.shape(), dim);
  local::kernels::combine_elements({index.shape(), dim, at, others}, lined(call.input(2)), find_kind(call.attribute(1))->combine, out);
}
DTensor scatter_combine(const DTensor& input, int dim, const DTensor& index, const DTensor& src, std::string_view reduce);
// Equal elements share: what equals the result, in the input and in the source, is counted.
std::vector<DTensor> extreme_gradient(const GradientCall& g, int dim) {
  const DTensor &grad = g.grad_output(0), &x = g.input(0), &index = g.input(1), &src = g.input(2), &out = g.output(0);
  const DTensor of_self = eq(x, out).to(grad.dtype()), of_src = eq(src, gather(out, dim, index)).to(grad.dtype());
  const DTensor share = div(grad, scatter_add(of_self, dim, index, of_src));
  return {g.needs(0) ? where(eq(of_self, 0), 0, share) : DTensor(), DTensor(),
          g.needs(2) ? where(eq(of_src, 0), 0, gather(share, dim, index)) : DTensor()};
}
// The product of the others: where a single zero meets, only it has a gradient.
std::vector<DTensor> product_gradient(const GradientCall& g, int dim) {
  const DTensor &grad = g.grad_output(0), &x = g.input(0), &index = g.input(1), &src = g.input(2);
  std::vector<DTensor> grads(3);
  if (g.needs(0)) {
    const DTensor filled = where(eq(x, 0), 1, x);
    grads[0] = div(mul(grad, scatter_combine(filled, dim, index, src, "prod")), filled);
  }
  if (g.needs(2)) {
    const DTensor zero = eq(src, 0);
    const DTensor zeros = gather(scatter_add(mul(x, 0), dim, index, zero.to(x.dtype())), dim, index);
    const DTensor single = logical_and(zero, eq(zeros, 1));
    const DTensor others = scatter_combine(x, dim, index, where(single, 1, src), "prod");
    const DTensor regular = div(gather(mul(grad, g.output(0)), dim, index), where(zero, 1, src));
    grads[2] = where(single, gather(mul(grad, others), dim, index), regular);
  }
  return grads;
}
std::vector<Dtype> one_index() { return {Dtype::f32, Dtype::i64, Dtype::f32}; }
std::vector<Sample> combine_samples(std::string_view name) {
  std::vector<Sample> samples;
  for (const char* reduce : {"prod", "amax", "amin"})
    samples.push_back(
        {.shapes = {{5, 4}, {5, 7}, {5, 7}}, .attributes = {{"dim", "1"}, {std::string(name), reduce}}, .dtypes = one_index(), .index_limit = 4});
  samples.push_back(
      {.shapes = {{4, 3}, {5, 2}, {5, 2}}, .attributes = {{"dim", "0"}, {std::string(name), "amax"}}, .dtypes = one_index(), .index_limit = 4});
  samples.push_back({.shapes = {{3}, {0}, {0}}, .attributes = {{"dim", "0"}, {std::string(name), "prod"}}, .dtypes = one_index(), .index_limit = 3});
  samples.push_back({.shapes = {{}, {}, {}}, .attributes = {{"dim", "0"}, {std::string(name), "amin"}}, .dtypes = one_index(), .index_limit = 1});
  return samples;
}
constexpr OpDef kCombine{
    .name = "scatter_combine",
    .signature = "input, index, src, *, dim: int, reduce: text -> out",
    .saves = "input, index, src, out",
    .contiguous = true,
    .shape = combine_shape,
    .rule_for =
        [](const ShapeCall& s) {
          const bool flags = s.input(0).dtype == Dtype::boolean;
          return ops::scatter_rule(s, "scatter_combine", flags ? nullptr : find_kind(s.attribute(1))->partial);
        },
    .kernel = combine_kernel,
    .gradient = [](const GradientCall& g) -> std::vector<DTensor> {
      const int dim = static_cast<int>(g.attribute(0).as_int());
      return find_kind(g.attribute(1))->combine == Combine::product ? product_gradient(g, dim) : extreme_gradient(g, dim);
    },
    .samples = [] { return combine_samples("reduce"); },
    .reasons = "operands that are Partial of the same kind are reduced first: the notation has no flag for one kind alone",
};
DTensor scatter_combine(const DTensor& input, int dim, const DTensor& index, const DTensor& src, std::string_view reduce) {
  return call(kCombine, {input, index, src}, {dim, reduce});
}

// ---- scatter_reduce: an expression of these
Scalar neutral(std::string_view reduce, Dtype dtype) {
  if (reduce == "prod") return 1;
  if (reduce != "amax" && reduce != "amin") return 0;
  const bool low = reduce == "amax";
  if (info(dtype).floating) return low ? -std::numeric_limits<double>::infinity() : std::numeric_limits<double>::infinity();
  using Limits = std::numeric_limits<std::int64_t>;
  using Narrow = std::numeric_limits<std::int32_t>;
  switch (dtype) {
    case Dtype::i64:
      return low ? Limits::min() : Limits::max();
    case Dtype::i32:
      return low ? Narrow::min() : Narrow::max();
    case Dtype::u8:
      return low ? 0 : 255;
    default:
      return !low;
  }
}
DTensor mean_of(const DTensor& total, const DTensor& like, int dim, const DTensor& index, bool include_self) {
  const Dtype dtype = like.dtype() == Dtype::boolean ? Dtype::i64 : like.dtype();
  const DTensor ones = full_like(index, 1).to(dtype), start = full_like(like, include_self ? 1 : 0).to(dtype);
  const DTensor count = clamp(scatter_add(start, dim, index, ones), {.min = 1, .max = {}});
  return info(dtype).floating ? div(total, count) : div(total, count, {.rounding_mode = "floor"});
}
DTensor reduced(const DTensor& input, int dim, const DTensor& index, const DTensor& src, std::string_view reduce, bool include_self) {
  DTensor cut = src;
  for (int d = 0; d < src.ndim(); ++d)
    if (src.shape()[d] > index.shape()[d]) cut = narrow(cut, d, 0, index.shape()[d]);
  const DTensor start = include_self ? input : scatter(input, dim, index, neutral(reduce, input.dtype()));
  if (reduce != "sum" && reduce != "mean") return scatter_combine(start, dim, index, cut, reduce);
  const DTensor total = scatter_add(start, dim, index, cut);
  return reduce == "sum" ? total : mean_of(total, input.detach(), dim, index, include_self);
}
void reduce_shape(ShapeCall& s) {
  ops::scatter_shape(s, "scatter_reduce");
  const std::string_view reduce = s.attribute(1).as_text();
  if (reduce != "sum" && reduce != "mean" && find_kind(s.attribute(1)) == nullptr)
    s.fail(fmt::format("reduce must be sum, prod, mean, amax or amin ('{}' given)", reduce));
}
constexpr OpDef kScatterReduce = ops::composite(
    "scatter_reduce", "input, index, src, *, dim: int, reduce: text, include_self: bool = true -> out", "number", reduce_shape,
    [](const DecomposeCall& c) -> Results {
      return {
          reduced(c.input(0), static_cast<int>(c.attribute(0).as_int()), c.input(1), c.input(2), c.attribute(1).as_text(), c.attribute(2).as_bool())};
    },
    [] {
      std::vector<Sample> samples = combine_samples("reduce");
      for (const char* reduce : {"sum", "mean", "prod", "amax"})
        samples.push_back({.shapes = {{4, 3}, {2, 2}, {3, 3}},
                           .attributes = {{"dim", "-2"}, {"reduce", reduce}, {"include_self", "false"}},
                           .dtypes = one_index(),
                           .index_limit = 4});
      samples.push_back({.shapes = {{5}, {7}, {7}},
                         .attributes = {{"dim", "0"}, {"reduce", "mean"}},
                         .dtypes = {Dtype::i64, Dtype::i64, Dtype::i64},
                         .index_limit = 5});
      return samples;
    });

// ---- masked_scatter
constexpr OpDef kMaskedScatter = ops::composite(
    "masked_scatter", "input, mask, source -> out", "any",
    [](ShapeCall& s) {
      if (s.input(1).dtype != Dtype::boolean) s.fail(fmt::format("the mask must be bool ({}); compare or convert it", s.describe(1)));
      if (s.input(2).dtype != s.input(0).dtype) s.fail(fmt::format("dtypes differ ({}, {}); convert one with to()", s.describe(0), s.describe(2)));
      const Shape &a = s.input(0).shape, &b = s.input(1).shape;
      Shape out = a.ndim() >= b.ndim() ? a : b;
      for (int k = 1; k <= std::min(a.ndim(), b.ndim()); ++k) {
        const std::int64_t n = a[a.ndim() - k], m = b[b.ndim() - k];
        if (n != m && n != 1 && m != 1) s.fail(fmt::format("shapes do not broadcast ({}, {})", s.describe(0), s.describe(1)));
        out[out.ndim() - k] = n == 1 ? m : n;
      }
      s.output(0) = {.shape = out, .dtype = s.input(0).dtype};
    },
    [](const DecomposeCall& c) -> Results { return {masked_scatter(c.input(0), c.input(1), c.input(2))}; },
    [] {
      const std::vector<Dtype> dtypes{Dtype::f32, Dtype::boolean, Dtype::f32};
      return std::vector<Sample>{{.shapes = {{5, 3}, {5, 3}, {4, 4}}, .dtypes = dtypes},
                                 {.shapes = {{5, 3}, {3}, {15}}, .dtypes = dtypes},
                                 {.shapes = {{1, 3}, {2, 1}, {6}}, .dtypes = dtypes},
                                 {.shapes = {{0, 3}, {3}, {0}}, .dtypes = dtypes}};
    });

constexpr std::array<const OpDef*, 3> kOps{&kCombine, &kScatterReduce, &kMaskedScatter};

}  // namespace

namespace ops {
OpList scatter_reduce_ops() { return kOps; }
}  // namespace ops

DTensor scatter_reduce(const DTensor& input, int dim, const DTensor& index, const DTensor& src, std::string_view reduce,
                       const ScatterReduceOptions& options) {
  return call(kScatterReduce, {input, index, src}, {dim, reduce, options.include_self});
}

DTensor masked_scatter(const DTensor& input, const DTensor& mask, const DTensor& source) {
  if (mask.dtype() != Dtype::boolean) throw InvalidArgument("masked_scatter: the mask must be bool (" + to_string(mask) + "); compare or convert it");
  if (source.dtype() != input.dtype())
    throw InvalidArgument(fmt::format("masked_scatter: dtypes differ ({}, {}); convert one with to()", to_string(input), to_string(source)));
  Shape shape = input.ndim() >= mask.ndim() ? input.shape() : mask.shape();
  for (const Shape& s : {input.shape(), mask.shape()})
    for (int k = 1; k <= s.ndim(); ++k)
      if (s[s.ndim() - k] != 1) shape[shape.ndim() - k] = s[s.ndim() - k];
  const DTensor x = input.shape() == shape ? input : expand(input, shape);
  if (x.numel() == 0) return x;
  const DTensor wide = mask.shape() == shape ? mask : expand(mask, shape), flat = reshape(wide, {x.numel()});
  // Which true element each one is; what is not true reads the first.
  const DTensor place = where(flat, sub(cumsum(flat, 0), 1), 0);
  if (source.numel() == 0) {
    if (any(flat).item<bool>())
      throw InvalidArgument("masked_scatter: the source has no element (" + to_string(source) + ") and the mask is true somewhere");
    return x;
  }
  return where(wide, reshape(gather(reshape(source, {source.numel()}), 0, place), shape), x);
}

}  // namespace dtensor
