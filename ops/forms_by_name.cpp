// SPDX-License-Identifier: Apache-2.0
// Functions that are expressions of ops, found by name: their rules and gradients are those of the ops.
#include <algorithm>
#include <array>
#include <cstdlib>
#include <string>

#include "dtensor/ops/arrange.h"
#include "dtensor/ops/channel_norms.h"
#include "dtensor/ops/transformer.h"
#include "dtensor/ops/views.h"
#include "ops/composite.h"
#include "ops/families.h"

namespace dtensor {
namespace {

// ---- diag, diag_embed
// The last dim on the diagonal of dims dim1 and dim2 of the result.
Shape embedded(const Shape& shape, std::int64_t offset, int dim1, int dim2) {
  const int ndim = shape.ndim() + 1;
  const std::int64_t n = shape.back() + std::abs(offset);
  const int a = normalize_dim(dim1, ndim, "diag_embed"), b = normalize_dim(dim2, ndim, "diag_embed");
  Shape out;
  for (int d = 0, from = 0; d < ndim; ++d) out.push_back(d == a || d == b ? n : shape[from++]);
  return out;
}
void diag_shape(ShapeCall& s) {
  const Shape& in = s.input(0).shape;
  const std::int64_t offset = s.attribute(0).as_int();
  if (in.ndim() != 1 && in.ndim() != 2) s.fail("one dim or two are wanted (" + s.describe(0) + "); use diagonal or diag_embed");
  Shape out = in.ndim() == 1
                  ? embedded(in, offset, 0, 1)
                  : Shape{std::max<std::int64_t>(0, std::min(in[0] + std::min<std::int64_t>(offset, 0), in[1] - std::max<std::int64_t>(offset, 0)))};
  s.output(0) = {.shape = out, .dtype = s.input(0).dtype};
}
constexpr OpDef kDiag = ops::composite(
    "diag", "input, diagonal: int = 0 -> out", "any", diag_shape,
    [](const DecomposeCall& c) -> Results { return {diag(c.input(0), c.attribute(0).as_int())}; },
    [] {
      return std::vector<Sample>{
          {.shapes = {{5}}, .attributes = {{"diagonal", "-1"}}}, {.shapes = {{5, 3}}}, {.shapes = {{3, 7}}, .attributes = {{"diagonal", "2"}}}};
    });
int whole_number(const Attribute& a) { return static_cast<int>(a.as_int()); }
constexpr OpDef kDiagEmbed = ops::composite(
    "diag_embed", "input, offset: int = 0, dim1: int = -2, dim2: int = -1 -> out", "any",
    [](ShapeCall& s) {
      if (s.input(0).shape.empty()) s.fail("a tensor without dims has no diagonal (" + s.describe(0) + "); reshape it");
      const int dim1 = whole_number(s.attribute(1)), dim2 = whole_number(s.attribute(2)), ndim = s.input(0).shape.ndim() + 1;
      if (normalize_dim(dim1, ndim, "diag_embed") == normalize_dim(dim2, ndim, "diag_embed"))
        s.fail("dim1 " + std::to_string(dim1) + " and dim2 " + std::to_string(dim2) + " are one dim; give two");
      s.output(0) = {.shape = embedded(s.input(0).shape, s.attribute(0).as_int(), dim1, dim2), .dtype = s.input(0).dtype};
    },
    [](const DecomposeCall& c) -> Results {
      return {diag_embed(c.input(0), c.attribute(0).as_int(), whole_number(c.attribute(1)), whole_number(c.attribute(2)))};
    },
    [] {
      return std::vector<Sample>{{.shapes = {{5, 3}}},
                                 {.shapes = {{4}}, .attributes = {{"offset", "1"}}},
                                 {.shapes = {{2, 3}}, .attributes = {{"offset", "-1"}, {"dim1", "0"}, {"dim2", "2"}}}};
    });

// ---- rot90
void rot90_shape(ShapeCall& s) {
  Shape out = s.input(0).shape;
  const Shape dims = s.attribute(1).as_shape();
  if (dims.ndim() != 2) s.fail("dims " + to_string(dims) + " are not two");
  const int a = normalize_dim(static_cast<int>(dims[0]), out.ndim(), "rot90"), b = normalize_dim(static_cast<int>(dims[1]), out.ndim(), "rot90");
  if (s.attribute(0).as_int() % 2 != 0) std::swap(out[a], out[b]);
  s.output(0) = {.shape = out, .dtype = s.input(0).dtype};
}
constexpr OpDef kRot90 = ops::composite(
    "rot90", "input, k: int = 1, dims: int[] = [0, 1] -> out", "any", rot90_shape,
    [](const DecomposeCall& c) -> Results { return {rot90(c.input(0), c.attribute(0).as_int(), c.attribute(1).as_shape())}; },
    [] {
      return std::vector<Sample>{{.shapes = {{5, 3}}}, {.shapes = {{2, 3, 4}}, .attributes = {{"k", "-2"}, {"dims", "[2, 1]"}}}};
    });

// ---- instance_norm
constexpr OpDef kInstanceNorm = ops::composite(
    "instance_norm", "input, weight?, bias?, *, eps: float = 1e-05 -> out", "floating",
    [](ShapeCall& s) {
      if (s.input(0).shape.ndim() < 2) s.fail("[N, C, sizes...] is wanted (" + s.describe(0) + ")");
      s.output(0) = s.input(0);
    },
    [](const DecomposeCall& c) -> Results {
      return {
          instance_norm(c.input(0), c.has_input(1) ? c.input(1) : DTensor(), c.has_input(2) ? c.input(2) : DTensor(), c.attribute(0).as_double())};
    },
    [] {
      return std::vector<Sample>{{.shapes = {{2, 3, 5}, {}, {}}}, {.shapes = {{2, 3, 4, 2}, {3}, {3}}, .attributes = {{"eps", "0.001"}}}};
    });

// ---- moe_dispatch, moe_combine
constexpr OpDef kDispatch = ops::composite(
    "moe_dispatch", "input, expert, *, num_experts: int -> tokens, offs, order", "number",
    [](ShapeCall& s) {
      const Shape &x = s.input(0).shape, &e = s.input(1).shape;
      if (x.ndim() != 2 || e.ndim() != 2 || e[0] != x[0] || s.attribute(0).as_int() < 1)
        s.fail("input [tokens, width] and expert [tokens, k] are wanted (" + s.describe(0) + ", " + s.describe(1) + ", " +
               std::to_string(s.attribute(0).as_int()) + " experts)");
      s.output(0) = {.shape = {e.numel(), x[1]}, .dtype = s.input(0).dtype};
      s.output(1) = {.shape = {s.attribute(0).as_int()}, .dtype = Dtype::i64};
      s.output(2) = {.shape = {e.numel()}, .dtype = Dtype::i64};
    },
    [](const DecomposeCall& c) -> Results {
      Dispatched d = moe_dispatch(c.input(0), c.input(1), c.attribute(0).as_int());
      return {std::move(d.tokens), std::move(d.offs), std::move(d.order)};
    },
    [] {
      return std::vector<Sample>{
          {.shapes = {{5, 3}, {5, 2}}, .attributes = {{"num_experts", "4"}}, .dtypes = {Dtype::f32, Dtype::i64}, .index_limit = 4}};
    });
constexpr OpDef kCombine = ops::composite(
    "moe_combine", "rows, order, weights -> out", "number",
    [](ShapeCall& s) {
      const Shape &rows = s.input(0).shape, &w = s.input(2).shape;
      if (rows.ndim() != 2 || w.ndim() != 2 || s.input(1).shape != Shape{rows[0]} || w.numel() != rows[0])
        s.fail("rows [tokens * k, width], order [tokens * k] and weights [tokens, k] are wanted (" + s.describe(0) + ", " + s.describe(1) + ", " +
               s.describe(2) + ")");
      s.output(0) = {.shape = {w[0], rows[1]}, .dtype = s.input(0).dtype};
    },
    [](const DecomposeCall& c) -> Results { return {moe_combine(c.input(0), c.input(1), c.input(2))}; },
    [] {
      return std::vector<Sample>{{.shapes = {{6, 4}, {6}, {3, 2}}, .dtypes = {Dtype::f32, Dtype::i64, Dtype::f32}, .index_limit = 6}};
    });

constexpr std::array<const OpDef*, 6> kOps{&kDiag, &kDiagEmbed, &kRot90, &kInstanceNorm, &kDispatch, &kCombine};

}  // namespace

namespace ops {
OpList named_form_ops() { return kOps; }
}  // namespace ops

}  // namespace dtensor
