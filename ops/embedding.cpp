// SPDX-License-Identifier: Apache-2.0
#include "dtensor/ops/embedding.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "dtensor/error.h"
#include "dtensor/op.h"
#include "dtensor/ops/binary.h"
#include "dtensor/ops/compare.h"
#include "dtensor/ops/views.h"
#include "local/kernels/embedding.h"
#include "ops/families.h"
#include "ops/index_rules.h"

namespace dtensor {
namespace {

using local::cpu::ElementsCall;
using local::cpu::RowsCall;
using ops::check_index;
using ops::coordinates_in;
using ops::dims_with;
using ops::kind_for;
using ops::lined;
using ops::names_where_longer;
using ops::positions;
using ops::rows_of;
using ops::source_dims;

int dim_of(const Attribute& dim, const Shape& shape, const char* op) { return ops::line_dim(dim, shape.ndim(), op); }
std::string leading_names(int ndim, const char* separator) {
  std::string text;
  for (int d = 0; d < ndim; ++d) text += fmt::format("{}b{}", d == 0 ? "" : separator, d);
  return text;
}

// embedding
void embedding_shape(ShapeCall& s) {
  check_index(s, 0);
  if (s.input(1).shape.ndim() != 2) s.fail(fmt::format("weight must have two dims, [rows, width] ({})", s.describe(1)));
  const std::int64_t rows = s.input(1).shape[0];
  if (!s.attribute(0).is_none() && (s.attribute(0).as_int() < -rows || s.attribute(0).as_int() >= rows))
    s.fail(fmt::format("padding_idx {} is out of range ({}); rows are 0 to {}", s.attribute(0).as_int(), s.describe(1), rows - 1));
  Shape out = s.input(0).shape;
  out.push_back(s.input(1).shape[1]);
  s.output(0) = {.shape = out, .dtype = s.input(1).dtype};
}

void embedding_kernel(const KernelCall& call) {
  const Tensor& weight = call.input(1);
  const auto at = positions(call, 0, call.input_place(1), 0, "dim 0 of weight");
  local::kernels::take_rows(RowsCall{1, weight.shape()[0], weight.shape()[1], at}, weight, call.output(0));
}

// The weight is an operand of the backward op for its placement only: what it splits of the rows, the result has split too.
void embedding_backward_shape(ShapeCall& s) {
  check_index(s, 1);
  const Shape& grad = s.input(0).shape;
  const std::int64_t rows = s.attribute(0).as_int();
  Shape leading = grad;
  if (!leading.empty()) leading.pop_back();
  if (grad.empty() || leading != s.input(1).shape)
    s.fail(fmt::format("{} does not fit the indices ({}); [indices..., width] is wanted", s.describe(0), s.describe(1)));
  if (s.has_input(2) && s.input(2).shape != Shape{rows, grad.back()})
    s.fail(fmt::format("{} does not fit num_embeddings {} and {}", s.describe(2), rows, s.describe(0)));
  s.output(0) = {.shape = {rows, grad.back()}, .dtype = s.input(0).dtype};
}

std::string embedding_backward_rule(const ShapeCall& s) {
  const int n = s.input(1).shape.ndim();
  return fmt::format("{} d, {}, {} -> v d    {}{}{}linear 1", leading_names(n, " "), n == 0 ? "()" : leading_names(n, " "),
                     s.has_input(2) ? "v d" : "()", leading_names(n, ", "), n == 0 ? "" : ": reduce(sum); ", s.has_input(2) ? "v: deposit; " : "");
}

void embedding_backward_kernel(const KernelCall& call) {
  const Tensor& out = call.output(0);
  const auto at = positions(call, 1, call.output_place(0), 0, "dim 0 of weight");
  local::kernels::deposit_rows(RowsCall{1, out.shape()[0], out.shape()[1], at}, call.input(0), out);
}

std::vector<DTensor> embedding_backward_gradient(const GradientCall& g) {
  return {g.needs(0) ? embedding(g.input(1), g.grad_output(0)) : DTensor(), DTensor(), DTensor()};
}

std::vector<Sample> embedding_backward_samples() {
  return {{.shapes = {{5, 3}, {5}, {}}, .attributes = {{"num_embeddings", "7"}}, .dtypes = {Dtype::f32, Dtype::i64}, .index_limit = 7},
          {.shapes = {{2, 5, 3}, {2, 5}, {7, 3}},
           .attributes = {{"num_embeddings", "7"}},
           .dtypes = {Dtype::f32, Dtype::i64, Dtype::f32},
           .index_limit = 7},
          {.shapes = {{0, 3}, {0}, {}}, .attributes = {{"num_embeddings", "4"}}, .dtypes = {Dtype::f32, Dtype::i64}, .index_limit = 4}};
}
constexpr OpDef kEmbeddingBackward{
    .name = "embedding_backward",
    .signature = "grad, index, weight?, *, num_embeddings: int -> out",
    .saves = "index",
    .dtypes = "number",
    .contiguous = true,
    .shape = embedding_backward_shape,
    .rule_for = embedding_backward_rule,
    .kernel = embedding_backward_kernel,
    .gradient = embedding_backward_gradient,
    .samples = embedding_backward_samples,
    .reasons = "the weight only says where the gradient goes; a Partial one is reduced before it does",
};

std::vector<DTensor> embedding_gradient(const GradientCall& g) {
  if (!g.needs(1)) return {DTensor(), DTensor()};
  const std::int64_t rows = g.input_type(1).shape[0];
  const DTensor& index = g.input(0);
  DTensor grad = g.grad_output(0);
  if (!g.attribute(0).is_none()) {
    const std::int64_t padding = g.attribute(0).as_int();
    grad = masked_fill(grad, unsqueeze(eq(index, padding < 0 ? padding + rows : padding), -1), 0);
  }
  if (g.attribute(1).as_bool()) {
    const DTensor counts = call(ops::count_op(), {reshape(index, {index.numel()})}, {rows});
    grad = div(grad, embedding(index, reshape(counts, {rows, 1}).to(grad.dtype())));
  }
  return {DTensor(), call(kEmbeddingBackward, {grad, index, g.input(1)}, {rows})};
}

std::vector<Sample> embedding_samples() {
  return {{.shapes = {{5}, {7, 3}}, .dtypes = {Dtype::i64, Dtype::f32}, .index_limit = 7},
          {.shapes = {{2, 5}, {4, 6}}, .dtypes = {Dtype::i64, Dtype::f32}, .index_limit = 4},
          {.shapes = {{0}, {3, 2}}, .dtypes = {Dtype::i64, Dtype::f32}, .index_limit = 3},
          {.shapes = {{3}, {1, 4}}, .dtypes = {Dtype::i32, Dtype::f32}, .index_limit = 1}};
}
constexpr OpDef kEmbedding{
    .name = "embedding",
    .signature = "input, weight, *, padding_idx: int? = none, scale_grad_by_freq: bool = false -> out",
    .rule = "..., v d -> ... d    v: lookup; linear 2",
    .saves = "input, weight",
    .dtypes = "number",
    .contiguous = true,
    .shape = embedding_shape,
    .kernel = embedding_kernel,
    .gradient = embedding_gradient,
    .samples = embedding_samples,
};

// gather
void gather_shape(ShapeCall& s) {
  check_index(s, 1);
  const Shape &in = s.input(0).shape, &index = s.input(1).shape;
  const int dim = dim_of(s.attribute(0), s.input(0).shape, "gather");
  bool fits = in.ndim() == index.ndim() || (in.ndim() < 2 && index.ndim() < 2);
  for (int d = 0; fits && d < in.ndim(); ++d) fits = d == dim || index[d] <= in[d];
  if (!fits)
    s.fail(fmt::format("index does not fit ({}, {}, dim {}); it needs as many dims and, but at dim, at most the sizes of input", s.describe(0),
                       s.describe(1), dim));
  s.output(0) = {.shape = index, .dtype = s.input(0).dtype};
}

std::string gather_rule(const ShapeCall& s) {
  const Shape &in = s.input(0).shape, &index = s.input(1).shape;
  const char* lookup = kind_for(s.input(0).dtype, "lookup");
  if (in.empty()) return index.empty() ? "(), () -> ()    linear 1" : "(), i -> i    linear 1";
  if (index.empty()) return fmt::format("v, () -> ()    v: {}; linear 1", lookup);
  const int dim = dim_of(s.attribute(0), s.input(0).shape, "gather");
  const std::string out = dims_with(index.ndim(), dim, "i");
  return fmt::format("{}, {} -> {}    v: {}; {}linear 1", source_dims(in, index, dim), out, out, lookup,
                     names_where_longer(in, index, dim, 'w', "whole"));
}

void gather_kernel(const KernelCall& call) {
  const int dim = dim_of(call.attribute(0), call.input(0).shape(), "gather");
  const Place source = lined(call.input_place(0));
  const auto at = positions(call, 1, source, dim, "the dim that is read");
  const Shape shape = lined(call.input(1)).shape();
  const auto others = coordinates_in(source, lined(call.input_place(1)), shape, dim);
  local::kernels::take_elements(ElementsCall{shape, dim, at, others}, lined(call.input(0)), lined(call.output(0)));
}

void gather_backward_shape(ShapeCall& s) {
  check_index(s, 1);
  if (s.input(0).shape != s.input(1).shape) s.fail(fmt::format("shapes differ ({}, {})", s.describe(0), s.describe(1)));
  s.output(0) = {.shape = s.attribute(1).as_shape(), .dtype = s.input(0).dtype};
}

std::string gather_backward_rule(const ShapeCall& s) {
  const Shape &index = s.input(1).shape, out = s.attribute(1).as_shape();
  if (index.empty()) return out.empty() ? "(), () -> ()    linear 1" : "(), () -> v    linear 1";
  if (out.empty()) return "i, i -> ()    i: reduce(sum); linear 1";
  const int dim = dim_of(s.attribute(0), s.input(0).shape, "gather");
  const std::string in = dims_with(index.ndim(), dim, "i");
  return fmt::format("{}, {} -> {}    i: reduce(sum); {}linear 1", in, in, source_dims(out, index, dim),
                     names_where_longer(out, index, dim, 'a', "reduce(sum)"));
}

void gather_backward_kernel(const KernelCall& call) {
  const int dim = dim_of(call.attribute(0), call.input(0).shape(), "gather");
  const Place target = lined(call.output_place(0));
  const auto at = positions(call, 1, target, dim, "the dim that was read");
  const Shape shape = lined(call.input(1)).shape();
  const auto others = coordinates_in(target, lined(call.input_place(1)), shape, dim);
  local::kernels::deposit_elements(ElementsCall{shape, dim, at, others}, lined(call.input(0)), lined(call.output(0)));
}

std::vector<DTensor> gather_backward_gradient(const GradientCall& g) {
  return {g.needs(0) ? gather(g.grad_output(0), static_cast<int>(g.attribute(0).as_int()), g.input(1)) : DTensor(), DTensor()};
}

std::vector<Sample> gather_backward_samples() {
  return {{.shapes = {{5, 3}, {5, 3}}, .attributes = {{"dim", "1"}, {"shape", "[5, 4]"}}, .dtypes = {Dtype::f32, Dtype::i64}, .index_limit = 4},
          {.shapes = {{2, 3}, {2, 3}}, .attributes = {{"dim", "0"}, {"shape", "[5, 4]"}}, .dtypes = {Dtype::f32, Dtype::i64}, .index_limit = 5}};
}
constexpr OpDef kGatherBackward{
    .name = "gather_backward",
    .signature = "grad, index, *, dim: int, shape: int[] -> out",
    .saves = "index",
    .dtypes = "number",
    .contiguous = true,
    .shape = gather_backward_shape,
    .rule_for = gather_backward_rule,
    .kernel = gather_backward_kernel,
    .gradient = gather_backward_gradient,
    .samples = gather_backward_samples,
};

std::vector<DTensor> gather_gradient(const GradientCall& g) {
  return {g.needs(0) ? call(kGatherBackward, {g.grad_output(0), g.input(1)}, {g.attribute(0), g.input_type(0).shape}) : DTensor(), DTensor()};
}

std::vector<Sample> gather_samples() {
  return {{.shapes = {{5, 7}, {5, 3}}, .attributes = {{"dim", "1"}}, .dtypes = {Dtype::f32, Dtype::i64}, .index_limit = 7},
          {.shapes = {{5, 4, 3}, {2, 4, 3}}, .attributes = {{"dim", "0"}}, .dtypes = {Dtype::f32, Dtype::i64}, .index_limit = 5},
          {.shapes = {{5, 4}, {3, 2}}, .attributes = {{"dim", "1"}}, .dtypes = {Dtype::f32, Dtype::i64}, .index_limit = 4},
          {.shapes = {{5, 4}, {5, 0}}, .attributes = {{"dim", "1"}}, .dtypes = {Dtype::f32, Dtype::i64}, .index_limit = 4},
          {.shapes = {{5}, {}}, .attributes = {{"dim", "0"}}, .dtypes = {Dtype::f32, Dtype::i64}, .index_limit = 5},
          {.shapes = {{}, {}}, .attributes = {{"dim", "0"}}, .dtypes = {Dtype::f32, Dtype::i64}, .index_limit = 1}};
}
constexpr OpDef kGather{
    .name = "gather",
    .signature = "input, index, *, dim: int -> out",
    .saves = "index",
    .contiguous = true,
    .shape = gather_shape,
    .rule_for = gather_rule,
    .kernel = gather_kernel,
    .gradient = gather_gradient,
    .samples = gather_samples,
};

// index_select
void select_shape(ShapeCall& s) {
  check_index(s, 1);
  if (s.input(1).shape.ndim() > 1) s.fail(fmt::format("index must have one dim ({}); use gather or embedding for more", s.describe(1)));
  Shape out = s.input(0).shape;
  const int dim = dim_of(s.attribute(0), out, "index_select");
  if (out.empty() && s.input(1).shape.numel() != 1) s.fail(fmt::format("a tensor without dims is read at one index ({})", s.describe(1)));
  if (!out.empty()) out[dim] = s.input(1).shape.numel();
  s.output(0) = {.shape = out, .dtype = s.input(0).dtype};
}
std::string select_rule(const ShapeCall& s) {
  const int n = s.input(0).shape.ndim(), dim = dim_of(s.attribute(0), s.input(0).shape, "index_select");
  const bool one = s.input(1).shape.empty();
  if (n == 0) return one ? "(), () -> ()    linear 1" : "(), 1 -> ()    linear 1";
  return fmt::format("{}, {} -> {}    v: {}; linear 1", dims_with(n, dim, "v"), one ? "()" : "i", dims_with(n, dim, one ? "1" : "i"),
                     kind_for(s.input(0).dtype, "lookup"));
}
void select_kernel(const KernelCall& call) {
  const int dim = dim_of(call.attribute(0), call.input(0).shape(), "index_select");
  const auto at = positions(call, 1, lined(call.input_place(0)), dim, "the dim that is read");
  local::kernels::take_rows(rows_of(lined(call.input(0)).shape(), dim, at), call.input(0), call.output(0));
}

void select_backward_shape(ShapeCall& s) {
  check_index(s, 1);
  Shape out = s.input(0).shape;
  const int dim = dim_of(s.attribute(0), out, "index_select");
  if (!out.empty()) out[dim] = s.attribute(1).as_int();
  s.output(0) = {.shape = out, .dtype = s.input(0).dtype};
}
std::string select_backward_rule(const ShapeCall& s) {
  const int n = s.input(0).shape.ndim(), dim = dim_of(s.attribute(0), s.input(0).shape, "index_select");
  const bool one = s.input(1).shape.empty();
  if (n == 0) return one ? "(), () -> ()    linear 1" : "(), 1 -> ()    linear 1";
  if (one) return fmt::format("{}, () -> {}    linear 1", dims_with(n, dim, "1"), dims_with(n, dim, "v"));
  return fmt::format("{}, i -> {}    i: reduce(sum); linear 1", dims_with(n, dim, "i"), dims_with(n, dim, "v"));
}
void select_backward_kernel(const KernelCall& call) {
  const int dim = dim_of(call.attribute(0), call.input(0).shape(), "index_select");
  const auto at = positions(call, 1, lined(call.output_place(0)), dim, "the dim that was read");
  local::kernels::deposit_rows(rows_of(lined(call.output(0)).shape(), dim, at), call.input(0), call.output(0));
}
std::vector<DTensor> select_backward_gradient(const GradientCall& g) {
  return {g.needs(0) ? index_select(g.grad_output(0), static_cast<int>(g.attribute(0).as_int()), g.input(1)) : DTensor(), DTensor()};
}
std::vector<Sample> select_backward_samples() {
  return {{.shapes = {{5, 3}, {5}}, .attributes = {{"dim", "0"}, {"size", "7"}}, .dtypes = {Dtype::f32, Dtype::i64}, .index_limit = 7},
          {.shapes = {{5, 3, 2}, {3}}, .attributes = {{"dim", "1"}, {"size", "4"}}, .dtypes = {Dtype::f32, Dtype::i64}, .index_limit = 4},
          {.shapes = {{5, 1}, {}}, .attributes = {{"dim", "1"}, {"size", "4"}}, .dtypes = {Dtype::f32, Dtype::i64}, .index_limit = 4}};
}
constexpr OpDef kSelectBackward{
    .name = "index_select_backward",
    .signature = "grad, index, *, dim: int, size: int -> out",
    .saves = "index",
    .dtypes = "number",
    .contiguous = true,
    .shape = select_backward_shape,
    .rule_for = select_backward_rule,
    .kernel = select_backward_kernel,
    .gradient = select_backward_gradient,
    .samples = select_backward_samples,
};
std::vector<DTensor> select_gradient(const GradientCall& g) {
  const int dim = dim_of(g.attribute(0), g.input_type(0).shape, "index_select");
  return {g.needs(0) ? call(kSelectBackward, {g.grad_output(0), g.input(1)}, {dim, g.input_type(0).shape.empty() ? 1 : g.input_type(0).shape[dim]})
                     : DTensor(),
          DTensor()};
}
std::vector<Sample> select_samples() {
  return {{.shapes = {{7, 3}, {5}}, .attributes = {{"dim", "0"}}, .dtypes = {Dtype::f32, Dtype::i64}, .index_limit = 7},
          {.shapes = {{2, 5, 3}, {4}}, .attributes = {{"dim", "1"}}, .dtypes = {Dtype::f32, Dtype::i64}, .index_limit = 5},
          {.shapes = {{3, 5}, {0}}, .attributes = {{"dim", "1"}}, .dtypes = {Dtype::f32, Dtype::i64}, .index_limit = 5},
          {.shapes = {{5, 3}, {}}, .attributes = {{"dim", "0"}}, .dtypes = {Dtype::f32, Dtype::i64}, .index_limit = 5},
          {.shapes = {{}, {1}}, .attributes = {{"dim", "0"}}, .dtypes = {Dtype::f32, Dtype::i64}, .index_limit = 1}};
}
constexpr OpDef kIndexSelect{
    .name = "index_select",
    .signature = "input, index, *, dim: int -> out",
    .saves = "index",
    .contiguous = true,
    .shape = select_shape,
    .rule_for = select_rule,
    .kernel = select_kernel,
    .gradient = select_gradient,
    .samples = select_samples,
};

// one_hot
void one_hot_shape(ShapeCall& s) {
  check_index(s, 0);
  if (s.attribute(0).as_int() < 0) s.fail(fmt::format("num_classes {} is negative", s.attribute(0).as_int()));
  Shape out = s.input(0).shape;
  out.push_back(s.attribute(0).as_int());
  s.output(0) = {.shape = out, .dtype = Dtype::i64};
}
void one_hot_kernel(const KernelCall& call) {
  const Tensor& out = call.output(0);
  const int last = out.ndim() - 1;
  local::kernels::mark_positions(positions(call, 0, call.output_place(0), last, "num_classes"), out);
}
std::vector<Sample> one_hot_samples() {
  return {{.shapes = {{5}}, .attributes = {{"num_classes", "7"}}, .dtypes = {Dtype::i64}, .index_limit = 7},
          {.shapes = {{2, 3}}, .attributes = {{"num_classes", "1"}}, .dtypes = {Dtype::i64}, .index_limit = 1},
          {.shapes = {{0}}, .attributes = {{"num_classes", "3"}}, .dtypes = {Dtype::i64}, .index_limit = 3}};
}
constexpr OpDef kOneHotSized{
    .name = "one_hot_sized",
    .signature = "input, *, num_classes: int -> out",
    .rule = "... -> ... c",
    .contiguous = true,
    .shape = one_hot_shape,
    .kernel = one_hot_kernel,
    .samples = one_hot_samples,
};

}  // namespace

DTensor embedding(const DTensor& input, const DTensor& weight, const EmbeddingOptions& options) {
  return call(kEmbedding, {input, weight}, {options.padding_idx, options.scale_grad_by_freq});
}
DTensor gather(const DTensor& input, int dim, const DTensor& index) { return call(kGather, {input, index}, {dim}); }
DTensor index_select(const DTensor& input, int dim, const DTensor& index) { return call(kIndexSelect, {input, index}, {dim}); }

namespace ops {
const OpDef& gather_backward_op() { return kGatherBackward; }
const OpDef& one_hot_op() { return kOneHotSized; }
OpList embedding_ops() {
  static constexpr std::array<const OpDef*, 7> kOps{&kEmbedding,         &kGather,         &kIndexSelect,   &kOneHotSized,
                                                    &kEmbeddingBackward, &kGatherBackward, &kSelectBackward};
  return kOps;
}
}  // namespace ops

}  // namespace dtensor
