// SPDX-License-Identifier: Apache-2.0
#include "dtensor/ops/embedding.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "dtensor/error.h"
#include "dtensor/op.h"
#include "local/cpu/embedding.h"
#include "ops/families.h"

namespace dtensor {
namespace {

using local::cpu::ElementsCall;
using local::cpu::RowsCall;

void check_index(const ShapeCall& s, int i) {
  const Dtype d = s.input(i).dtype;
  if (d != Dtype::i64 && d != Dtype::i32) s.fail(fmt::format("indices must be i64 or i32 ({}); convert them with to()", s.describe(i)));
}

// Index values -> positions in what this rank holds of dimension `dim` of `place`.
std::vector<std::int64_t> positions(const KernelCall& call, int index, const Place& place, int dim, const char* what) {
  const Tensor& t = call.input(index);
  const std::int64_t limit = place.global[dim], count = t.numel();
  std::vector<std::int64_t> at(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t value = t.dtype() == Dtype::i64 ? t.raw_as<std::int64_t>()[i] : t.raw_as<std::int32_t>()[i];
    if (value < 0 || value >= limit)
      call.fail(fmt::format("index {} is out of range ({} has {}); indices are 0 to {}", value, what, limit, limit - 1));
    at[static_cast<std::size_t>(i)] = place.to_local(dim, value);
  }
  return at;
}

// By name a dim may be negative.
int dim_of(const Attribute& dim, const Shape& shape, const char* op) { return normalize_dim(static_cast<int>(dim.as_int()), shape.ndim(), op); }

std::int64_t product_of(const Shape& shape, int from, int to) {
  std::int64_t n = 1;
  for (int d = from; d < to; ++d) n *= shape[d];
  return n;
}

// "a0 a1 ..." with the entry of `dim` replaced.
std::string dims_with(int ndim, int dim, const char* name) {
  std::string text;
  for (int d = 0; d < ndim; ++d) text += (d == 0 ? "" : " ") + (d == dim ? std::string(name) : fmt::format("a{}", d));
  return text;
}
std::string leading_names(int ndim, const char* separator) {
  std::string text;
  for (int d = 0; d < ndim; ++d) text += fmt::format("{}b{}", d == 0 ? "" : separator, d);
  return text;
}

// embedding
void embedding_shape(ShapeCall& s) {
  check_index(s, 0);
  if (s.input(1).shape.ndim() != 2) s.fail(fmt::format("weight must have two dims, [rows, width] ({})", s.describe(1)));
  Shape out = s.input(0).shape;
  out.push_back(s.input(1).shape[1]);
  s.output(0) = {.shape = out, .dtype = s.input(1).dtype};
}

void embedding_cpu(const KernelCall& call) {
  const Tensor& weight = call.input(1);
  const auto at = positions(call, 0, call.input_place(1), 0, "dim 0 of weight");
  take_rows(RowsCall{1, weight.shape()[0], weight.shape()[1], at}, weight, call.output(0));
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

void embedding_backward_cpu(const KernelCall& call) {
  const Tensor& out = call.output(0);
  const auto at = positions(call, 1, call.output_place(0), 0, "dim 0 of weight");
  deposit_rows(RowsCall{1, out.shape()[0], out.shape()[1], at}, call.input(0), out);
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
    .cpu = embedding_backward_cpu,
    .gradient = embedding_backward_gradient,
    .samples = embedding_backward_samples,
    .reasons = "the weight only says where the gradient goes; a Partial one is reduced before it does",
};

std::vector<DTensor> embedding_gradient(const GradientCall& g) {
  if (!g.needs(1)) return {DTensor(), DTensor()};
  return {DTensor(), call(kEmbeddingBackward, {g.grad_output(0), g.input(0), g.input(1)}, {g.input_type(1).shape[0]})};
}

std::vector<Sample> embedding_samples() {
  return {{.shapes = {{5}, {7, 3}}, .dtypes = {Dtype::i64, Dtype::f32}, .index_limit = 7},
          {.shapes = {{2, 5}, {4, 6}}, .dtypes = {Dtype::i64, Dtype::f32}, .index_limit = 4},
          {.shapes = {{0}, {3, 2}}, .dtypes = {Dtype::i64, Dtype::f32}, .index_limit = 3},
          {.shapes = {{3}, {1, 4}}, .dtypes = {Dtype::i32, Dtype::f32}, .index_limit = 1}};
}
constexpr OpDef kEmbedding{
    .name = "embedding",
    .signature = "input, weight -> out",
    .rule = "..., v d -> ... d    v: lookup; linear 2",
    .saves = "input, weight",
    .dtypes = "number",
    .contiguous = true,
    .shape = embedding_shape,
    .cpu = embedding_cpu,
    .gradient = embedding_gradient,
    .samples = embedding_samples,
};

// gather
void gather_shape(ShapeCall& s) {
  check_index(s, 1);
  const Shape &in = s.input(0).shape, &index = s.input(1).shape;
  const int dim = dim_of(s.attribute(0), s.input(0).shape, "gather");
  bool fits = in.ndim() == index.ndim() && in.ndim() > 0;
  for (int d = 0; fits && d < in.ndim(); ++d) fits = d == dim || index[d] <= in[d];
  if (!fits)
    s.fail(fmt::format("index does not fit ({}, {}, dim {}); it needs as many dims and, but at dim, at most the sizes of input", s.describe(0),
                       s.describe(1), dim));
  s.output(0) = {.shape = index, .dtype = s.input(0).dtype};
}

// Dims of the tensor that is read (w where it is longer than the index), as one operand text.
std::string source_dims(const Shape& source, const Shape& index, int dim) {
  std::string text;
  for (int d = 0; d < source.ndim(); ++d) {
    const char* kind = source[d] == index[d] ? "a" : "w";
    text += (d == 0 ? "" : " ") + (d == dim ? std::string("v") : fmt::format("{}{}", kind, d));
  }
  return text;
}
std::string names_where_longer(const Shape& source, const Shape& index, int dim, char name, const char* kind) {
  std::string text;
  for (int d = 0; d < source.ndim(); ++d)
    if (d != dim && source[d] != index[d]) text += fmt::format("{}{}: {}; ", name, d, kind);
  return text;
}

std::string gather_rule(const ShapeCall& s) {
  const Shape &in = s.input(0).shape, &index = s.input(1).shape;
  const int dim = dim_of(s.attribute(0), s.input(0).shape, "gather");
  const std::string out = dims_with(index.ndim(), dim, "i");
  return fmt::format("{}, {} -> {}    v: lookup; {}linear 1", source_dims(in, index, dim), out, out,
                     names_where_longer(in, index, dim, 'w', "whole"));
}

// Coordinates of the index, dimension by dimension, as coordinates of what is read or written.
struct Coordinates {
  std::vector<std::vector<std::int64_t>> lists;
  std::vector<std::span<const std::int64_t>> spans;
  Coordinates(const Place& index, const Shape& local, const Place& target, int dim) : lists(local.size()), spans(local.size()) {
    for (int d = 0; d < local.ndim(); ++d) {
      auto& list = lists[static_cast<std::size_t>(d)];
      if (d == dim) continue;
      for (std::int64_t i = 0; i < local[d]; ++i) list.push_back(target.to_local(d, index.to_global(d, i)));
      spans[static_cast<std::size_t>(d)] = list;
    }
  }
};

void gather_cpu(const KernelCall& call) {
  const int dim = dim_of(call.attribute(0), call.input(0).shape(), "gather");
  const Place& source = call.input_place(0);
  const auto at = positions(call, 1, source, dim, "the dim that is read");
  const Shape& shape = call.input(1).shape();
  const Coordinates coordinates(call.input_place(1), shape, source, dim);
  take_elements(ElementsCall{shape, dim, at, coordinates.spans}, call.input(0), call.output(0));
}

void gather_backward_shape(ShapeCall& s) {
  check_index(s, 1);
  if (s.input(0).shape != s.input(1).shape) s.fail(fmt::format("shapes differ ({}, {})", s.describe(0), s.describe(1)));
  s.output(0) = {.shape = s.attribute(1).as_shape(), .dtype = s.input(0).dtype};
}

std::string gather_backward_rule(const ShapeCall& s) {
  const Shape &index = s.input(1).shape, out = s.attribute(1).as_shape();
  const int dim = dim_of(s.attribute(0), s.input(0).shape, "gather");
  const std::string in = dims_with(index.ndim(), dim, "i");
  return fmt::format("{}, {} -> {}    i: reduce(sum); {}linear 1", in, in, source_dims(out, index, dim),
                     names_where_longer(out, index, dim, 'a', "reduce(sum)"));
}

void gather_backward_cpu(const KernelCall& call) {
  const int dim = dim_of(call.attribute(0), call.input(0).shape(), "gather");
  const Place& target = call.output_place(0);
  const auto at = positions(call, 1, target, dim, "the dim that was read");
  const Shape& shape = call.input(1).shape();
  const Coordinates coordinates(call.input_place(1), shape, target, dim);
  deposit_elements(ElementsCall{shape, dim, at, coordinates.spans}, call.input(0), call.output(0));
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
    .cpu = gather_backward_cpu,
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
          {.shapes = {{5, 4}, {5, 0}}, .attributes = {{"dim", "1"}}, .dtypes = {Dtype::f32, Dtype::i64}, .index_limit = 4}};
}
constexpr OpDef kGather{
    .name = "gather",
    .signature = "input, index, *, dim: int -> out",
    .saves = "index",
    .dtypes = "number",
    .contiguous = true,
    .shape = gather_shape,
    .rule_for = gather_rule,
    .cpu = gather_cpu,
    .gradient = gather_gradient,
    .samples = gather_samples,
};

// index_select
void select_shape(ShapeCall& s) {
  check_index(s, 1);
  if (s.input(1).shape.ndim() != 1) s.fail(fmt::format("index must have one dim ({}); use gather or embedding for more", s.describe(1)));
  Shape out = s.input(0).shape;
  out[dim_of(s.attribute(0), out, "index_select")] = s.input(1).shape[0];
  s.output(0) = {.shape = out, .dtype = s.input(0).dtype};
}
std::string select_rule(const ShapeCall& s) {
  const int n = s.input(0).shape.ndim(), dim = dim_of(s.attribute(0), s.input(0).shape, "index_select");
  return fmt::format("{}, i -> {}    v: lookup; linear 1", dims_with(n, dim, "v"), dims_with(n, dim, "i"));
}
RowsCall rows_of(const Shape& shape, int dim, std::span<const std::int64_t> at) {
  return {product_of(shape, 0, dim), shape[dim], product_of(shape, dim + 1, shape.ndim()), at};
}
void select_cpu(const KernelCall& call) {
  const int dim = dim_of(call.attribute(0), call.input(0).shape(), "index_select");
  const auto at = positions(call, 1, call.input_place(0), dim, "the dim that is read");
  take_rows(rows_of(call.input(0).shape(), dim, at), call.input(0), call.output(0));
}

void select_backward_shape(ShapeCall& s) {
  check_index(s, 1);
  Shape out = s.input(0).shape;
  out[dim_of(s.attribute(0), out, "index_select")] = s.attribute(1).as_int();
  s.output(0) = {.shape = out, .dtype = s.input(0).dtype};
}
std::string select_backward_rule(const ShapeCall& s) {
  const int n = s.input(0).shape.ndim(), dim = dim_of(s.attribute(0), s.input(0).shape, "index_select");
  return fmt::format("{}, i -> {}    i: reduce(sum); linear 1", dims_with(n, dim, "i"), dims_with(n, dim, "v"));
}
void select_backward_cpu(const KernelCall& call) {
  const int dim = dim_of(call.attribute(0), call.input(0).shape(), "index_select");
  const auto at = positions(call, 1, call.output_place(0), dim, "the dim that was read");
  deposit_rows(rows_of(call.output(0).shape(), dim, at), call.input(0), call.output(0));
}
std::vector<DTensor> select_backward_gradient(const GradientCall& g) {
  return {g.needs(0) ? index_select(g.grad_output(0), static_cast<int>(g.attribute(0).as_int()), g.input(1)) : DTensor(), DTensor()};
}
std::vector<Sample> select_backward_samples() {
  return {{.shapes = {{5, 3}, {5}}, .attributes = {{"dim", "0"}, {"size", "7"}}, .dtypes = {Dtype::f32, Dtype::i64}, .index_limit = 7},
          {.shapes = {{5, 3, 2}, {3}}, .attributes = {{"dim", "1"}, {"size", "4"}}, .dtypes = {Dtype::f32, Dtype::i64}, .index_limit = 4}};
}
constexpr OpDef kSelectBackward{
    .name = "index_select_backward",
    .signature = "grad, index, *, dim: int, size: int -> out",
    .saves = "index",
    .dtypes = "number",
    .contiguous = true,
    .shape = select_backward_shape,
    .rule_for = select_backward_rule,
    .cpu = select_backward_cpu,
    .gradient = select_backward_gradient,
    .samples = select_backward_samples,
};
std::vector<DTensor> select_gradient(const GradientCall& g) {
  const int dim = dim_of(g.attribute(0), g.input_type(0).shape, "index_select");
  return {g.needs(0) ? call(kSelectBackward, {g.grad_output(0), g.input(1)}, {dim, g.input_type(0).shape[dim]}) : DTensor(), DTensor()};
}
std::vector<Sample> select_samples() {
  return {{.shapes = {{7, 3}, {5}}, .attributes = {{"dim", "0"}}, .dtypes = {Dtype::f32, Dtype::i64}, .index_limit = 7},
          {.shapes = {{2, 5, 3}, {4}}, .attributes = {{"dim", "1"}}, .dtypes = {Dtype::f32, Dtype::i64}, .index_limit = 5},
          {.shapes = {{3, 5}, {0}}, .attributes = {{"dim", "1"}}, .dtypes = {Dtype::f32, Dtype::i64}, .index_limit = 5}};
}
constexpr OpDef kIndexSelect{
    .name = "index_select",
    .signature = "input, index, *, dim: int -> out",
    .saves = "index",
    .dtypes = "number",
    .contiguous = true,
    .shape = select_shape,
    .rule_for = select_rule,
    .cpu = select_cpu,
    .gradient = select_gradient,
    .samples = select_samples,
};

// one_hot
void one_hot_shape(ShapeCall& s) {
  check_index(s, 0);
  if (s.attribute(0).as_int() < 0)
    s.fail(fmt::format("num_classes must be given (num_classes {}); the shape of a result does not depend on data here", s.attribute(0).as_int()));
  Shape out = s.input(0).shape;
  out.push_back(s.attribute(0).as_int());
  s.output(0) = {.shape = out, .dtype = Dtype::i64};
}
void one_hot_cpu(const KernelCall& call) {
  const Tensor& out = call.output(0);
  const int last = out.ndim() - 1;
  const auto at = positions(call, 0, call.output_place(0), last, "num_classes");
  auto* to = out.raw_as<std::int64_t>();
  std::fill_n(to, out.numel(), std::int64_t{0});
  for (std::size_t i = 0; i < at.size(); ++i)
    if (at[i] != local::cpu::kElsewhere) to[static_cast<std::int64_t>(i) * out.shape()[last] + at[i]] = 1;
}
std::vector<Sample> one_hot_samples() {
  return {{.shapes = {{5}}, .attributes = {{"num_classes", "7"}}, .dtypes = {Dtype::i64}, .index_limit = 7},
          {.shapes = {{2, 3}}, .attributes = {{"num_classes", "1"}}, .dtypes = {Dtype::i64}, .index_limit = 1},
          {.shapes = {{0}}, .attributes = {{"num_classes", "3"}}, .dtypes = {Dtype::i64}, .index_limit = 3}};
}
constexpr OpDef kOneHot{
    .name = "one_hot",
    .signature = "input, *, num_classes: int -> out",
    .rule = "... -> ... c",
    .contiguous = true,
    .shape = one_hot_shape,
    .cpu = one_hot_cpu,
    .samples = one_hot_samples,
};

}  // namespace

DTensor embedding(const DTensor& input, const DTensor& weight) { return call(kEmbedding, {input, weight}); }
DTensor gather(const DTensor& input, int dim, const DTensor& index) {
  return call(kGather, {input, index}, {normalize_dim(dim, input.ndim(), "gather")});
}
DTensor index_select(const DTensor& input, int dim, const DTensor& index) {
  return call(kIndexSelect, {input, index}, {normalize_dim(dim, input.ndim(), "index_select")});
}
DTensor one_hot(const DTensor& input, std::int64_t num_classes) { return call(kOneHot, {input}, {num_classes}); }

namespace ops {
OpList embedding_ops() {
  static constexpr std::array<const OpDef*, 7> kOps{&kEmbedding,         &kGather,         &kIndexSelect,   &kOneHot,
                                                    &kEmbeddingBackward, &kGatherBackward, &kSelectBackward};
  return kOps;
}
}  // namespace ops

}  // namespace dtensor
