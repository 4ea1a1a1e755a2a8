// SPDX-License-Identifier: Apache-2.0
#include "dtensor/ops/contractions.h"

#include <algorithm>
#include <array>
#include <limits>

#include <fmt/format.h>

#include "dtensor/op.h"
#include "dtensor/ops/binary.h"
#include "dtensor/ops/reductions.h"
#include "dtensor/ops/views.h"
#include "local/kernels/gemm.h"
#include "ops/composite.h"
#include "ops/families.h"

namespace dtensor {
namespace {

using ops::composite;

void check_dtypes(const ShapeCall& s) {
  for (int i = 1; i < s.num_inputs(); ++i)
    if (s.input(i).dtype != s.input(0).dtype) s.fail(fmt::format("dtypes differ ({}, {}); convert one with to()", s.describe(0), s.describe(i)));
}
void check_ndim(const ShapeCall& s, int i, int ndim) {
  if (s.input(i).shape.ndim() != ndim) s.fail(fmt::format("a tensor of {} dims is wanted ({})", ndim, s.describe(i)));
}
void check_sizes(const ShapeCall& s, int a, int a_dim, int b, int b_dim) {
  if (s.input(a).shape[a_dim] != s.input(b).shape[b_dim])
    s.fail(fmt::format("sizes differ ({} dim {} = {}, {} dim {} = {})", s.describe(a), a_dim, s.input(a).shape[a_dim], s.describe(b), b_dim,
                       s.input(b).shape[b_dim]));
}
// Input 0 broadcasts to the result.
void sum_with(ShapeCall& s, const Shape& out) {
  const Shape& more = s.input(0).shape;
  bool fits = more.ndim() <= out.ndim();
  for (int d = 0; fits && d < more.ndim(); ++d) fits = more[d] == 1 || more[d] == out[d + out.ndim() - more.ndim()];
  if (!fits) s.fail(fmt::format("{} does not broadcast to the product's shape {}; reshape or expand it", s.describe(0), to_string(out)));
  s.output(0) = {out, s.input(0).dtype};
}
DTensor times(const DTensor& x, const Scalar& factor) { return factor.as_double() == 1 ? x : mul(x, factor); }
// beta x + alpha product.
Results added(const DecomposeCall& c, const DTensor& product) {
  const Scalar beta = c.attribute(0).scalar(), alpha = c.attribute(1).scalar();
  if (beta.as_double() == 0) return {c.input(0).shape() == product.shape() ? times(product, alpha) : expand(times(product, alpha), product.shape())};
  return {add(times(c.input(0), beta), product, {.alpha = alpha})};
}
std::vector<std::pair<std::string, std::string>> factors() { return {{"beta", "0.5"}, {"alpha", "2.0"}}; }

// ---- baddbmm
void baddbmm_shape(ShapeCall& s) {
  check_dtypes(s);
  check_ndim(s, 1, 3);
  check_ndim(s, 2, 3);
  check_sizes(s, 1, 0, 2, 0);
  check_sizes(s, 1, 2, 2, 1);
  sum_with(s, {s.input(1).shape[0], s.input(1).shape[1], s.input(2).shape[2]});
}
void baddbmm_kernel(const KernelCall& call) {
  const Tensor &more = call.input(0), &a = call.input(1), &b = call.input(2), &out = call.output(0);
  local::cpu::GemmCall g;
  g.dtype = out.dtype();
  g.batch = {out.shape()[0]};
  g.m = out.shape()[1];
  g.n = out.shape()[2];
  g.k = a.shape()[2];
  g.a = local::cpu::matrix_operand(a, g.batch);
  g.b = local::cpu::matrix_operand(b, g.batch);
  const auto stride = [&](int from_right) {
    const int d = more.ndim() - from_right;
    return d < 0 || more.shape()[d] == 1 ? 0 : more.strides()[d];
  };
  g.addend = {more.raw(), stride(2), stride(1), {stride(3)}};
  g.beta = call.attribute(0).scalar();
  g.alpha = call.attribute(1).scalar();
  g.out = out.raw();
  g.device = out.device();
  local::kernels::gemm(g);
}
constexpr OpDef kBaddbmm{
    .name = "baddbmm",
    .signature = "input, batch1, batch2, *, beta: number = 1, alpha: number = 1 -> out",
    .saves = "batch1, batch2",
    .dtypes = "number",
    .shape = baddbmm_shape,
    .rule_for =
        [](const ShapeCall& s) {
          const char* more[4] = {"()", "n", "m n", "b m n"};
          return fmt::format("{}, b m k, b k n -> b m n    k: reduce(sum, addend 1)", more[s.input(0).shape.ndim()]);
        },
    .kernel = baddbmm_kernel,
    .gradient = [](const GradientCall& g) -> std::vector<DTensor> {
      const DTensor& up = g.grad_output(0);
      const Scalar &beta = g.attribute(0).scalar(), &alpha = g.attribute(1).scalar();
      return {g.needs(0) ? times(sum_to_shape(up, g.input_type(0).shape), beta) : DTensor(),
              g.needs(1) ? times(bmm(up, transpose(g.input(2), 1, 2)), alpha) : DTensor(),
              g.needs(2) ? times(bmm(transpose(g.input(1), 1, 2), up), alpha) : DTensor()};
    },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{2, 3, 4}, {2, 3, 5}, {2, 5, 4}}},
                                     {.shapes = {{1, 4}, {2, 3, 5}, {2, 5, 4}}, .attributes = factors()},
                                     {.shapes = {{2, 1, 1}, {2, 3, 2}, {2, 2, 3}}},
                                     {.shapes = {{3}, {2, 3, 0}, {2, 0, 3}}}};
        },
    .reasons = "Partial batch1 or batch2 is reduced first: input would be added on every rank",
};

// ---- expressions
constexpr OpDef kAddbmm = composite(
    "addbmm", "input, batch1, batch2, *, beta: number = 1, alpha: number = 1 -> out", "number",
    [](ShapeCall& s) {
      check_dtypes(s);
      check_ndim(s, 1, 3);
      check_ndim(s, 2, 3);
      check_sizes(s, 1, 0, 2, 0);
      check_sizes(s, 1, 2, 2, 1);
      sum_with(s, {s.input(1).shape[1], s.input(2).shape[2]});
    },
    [](const DecomposeCall& c) {
      return added(c, einsum("bij,bjk->ik", {c.input(1), c.input(2)}));
    },
    [] {
      return std::vector<Sample>{{.shapes = {{3, 4}, {2, 3, 5}, {2, 5, 4}}}, {.shapes = {{4}, {2, 3, 5}, {2, 5, 4}}, .attributes = factors()}};
    });
constexpr OpDef kAddmv = composite(
    "addmv", "input, mat, vec, *, beta: number = 1, alpha: number = 1 -> out", "number",
    [](ShapeCall& s) {
      check_dtypes(s);
      check_ndim(s, 1, 2);
      check_ndim(s, 2, 1);
      check_sizes(s, 1, 1, 2, 0);
      sum_with(s, {s.input(1).shape[0]});
    },
    [](const DecomposeCall& c) { return added(c, mv(c.input(1), c.input(2))); },
    [] {
      return std::vector<Sample>{{.shapes = {{5}, {5, 7}, {7}}}, {.shapes = {{1}, {4, 3}, {3}}, .attributes = factors()}};
    });
constexpr OpDef kAddr = composite(
    "addr", "input, vec1, vec2, *, beta: number = 1, alpha: number = 1 -> out", "number",
    [](ShapeCall& s) {
      check_dtypes(s);
      check_ndim(s, 1, 1);
      check_ndim(s, 2, 1);
      sum_with(s, {s.input(1).shape[0], s.input(2).shape[0]});
    },
    [](const DecomposeCall& c) { return added(c, outer(c.input(1), c.input(2))); },
    [] {
      return std::vector<Sample>{{.shapes = {{5, 7}, {5}, {7}}}, {.shapes = {{7}, {5}, {7}}, .attributes = factors()}};
    });

// tensordot, inner: labels a, b, c, ... for dims
int normal_dim(std::int64_t d, int ndim) { return static_cast<int>(d < 0 ? d + ndim : d); }
std::string dot_equation(int na, int nb, const Shape& dims_a, const Shape& dims_b) {
  std::string a, b, result;
  for (int d = 0; d < na; ++d) a += static_cast<char>('a' + d);
  for (int d = 0; d < nb; ++d) b += static_cast<char>('A' + d);
  for (int k = 0; k < dims_a.ndim(); ++k)
    b[static_cast<std::size_t>(normal_dim(dims_b[k], nb))] = a[static_cast<std::size_t>(normal_dim(dims_a[k], na))];
  for (char c : a)
    if (b.find(c) == std::string::npos) result += c;
  for (char c : b)
    if (a.find(c) == std::string::npos) result += c;
  return a + "," + b + "->" + result;
}
Shape without(const Shape& shape, const Shape& dims) {
  Shape kept;
  for (int d = 0; d < shape.ndim(); ++d)
    if (std::none_of(dims.begin(), dims.end(), [&](std::int64_t k) { return normal_dim(k, shape.ndim()) == d; })) kept.push_back(shape[d]);
  return kept;
}
void tensordot_shape(ShapeCall& s) {
  check_dtypes(s);
  const Shape a = s.attribute(0).as_shape(), b = s.attribute(1).as_shape();
  const Shape &x = s.input(0).shape, &y = s.input(1).shape;
  if (a.ndim() != b.ndim()) s.fail(fmt::format("lists of dims differ in length ({}, {})", to_string(a), to_string(b)));
  for (int k = 0; k < a.ndim(); ++k) {
    if (a[k] < -x.ndim() || a[k] >= x.ndim() || b[k] < -y.ndim() || b[k] >= y.ndim())
      s.fail(fmt::format("dims {} and {} are out of range ({}, {})", to_string(a), to_string(b), s.describe(0), s.describe(1)));
    check_sizes(s, 0, normal_dim(a[k], x.ndim()), 1, normal_dim(b[k], y.ndim()));
  }
  Shape out = without(x, a);
  const Shape rest = without(y, b);
  if (out.ndim() + a.ndim() != x.ndim() || rest.ndim() + b.ndim() != y.ndim())
    s.fail(fmt::format("dims {} and {} name one twice", to_string(a), to_string(b)));
  for (std::int64_t n : rest) out.push_back(n);
  s.output(0) = {out, s.input(0).dtype};
}
constexpr OpDef kTensordot = composite(
    "tensordot", "input, other, dims_self: int[], dims_other: int[] -> out", "number", tensordot_shape,
    [](const DecomposeCall& c) -> Results {
      return {
          einsum(dot_equation(c.input(0).ndim(), c.input(1).ndim(), c.attribute(0).as_shape(), c.attribute(1).as_shape()), {c.input(0), c.input(1)})};
    },
    [] {
      return std::vector<Sample>{{.shapes = {{5, 3, 4}, {3, 4, 2}}, .attributes = {{"dims_self", "[1, 2]"}, {"dims_other", "[0, 1]"}}},
                                 {.shapes = {{5, 3}, {2, 5}}, .attributes = {{"dims_self", "[0]"}, {"dims_other", "[-1]"}}},
                                 {.shapes = {{3}, {2}}, .attributes = {{"dims_self", "[]"}, {"dims_other", "[]"}}}};
    });
constexpr OpDef kInner = composite(
    "inner", "input, other -> out", "number",
    [](ShapeCall& s) {
      check_dtypes(s);
      const Shape &x = s.input(0).shape, &y = s.input(1).shape;
      Shape out;
      if (x.empty() || y.empty()) {
        out = x.empty() ? y : x;
      } else {
        check_sizes(s, 0, x.ndim() - 1, 1, y.ndim() - 1);
        out = x;
        out.pop_back();
        for (int d = 0; d + 1 < y.ndim(); ++d) out.push_back(y[d]);
      }
      s.output(0) = {out, s.input(0).dtype};
    },
    [](const DecomposeCall& c) -> Results {
      if (c.input(0).ndim() == 0 || c.input(1).ndim() == 0) return {mul(c.input(0), c.input(1))};
      return {einsum(dot_equation(c.input(0).ndim(), c.input(1).ndim(), {-1}, {-1}), {c.input(0), c.input(1)})};
    },
    [] {
      return std::vector<Sample>{{.shapes = {{5, 3}, {2, 3}}}, {.shapes = {{7}, {7}}}, {.shapes = {{2, 3, 4}, {4}}}, {.shapes = {{5}, {}}}};
    });

// kron: every dim of input beside the same dim of other
Shape kron_dims(const Shape& shape, int ndim, bool first) {
  Shape dims;
  for (int d = 0; d < ndim; ++d) {
    const int at = d - ndim + shape.ndim();
    const std::int64_t n = at < 0 ? 1 : shape[at];
    dims.push_back(first ? n : 1);
    dims.push_back(first ? 1 : n);
  }
  return dims;
}
constexpr OpDef kKron = composite(
    "kron", "input, other -> out", "number",
    [](ShapeCall& s) {
      check_dtypes(s);
      const int ndim = std::max(s.input(0).shape.ndim(), s.input(1).shape.ndim());
      if (2 * ndim > kMaxDims) s.fail(fmt::format("at most {} dims are possible ({}, {})", kMaxDims / 2, s.describe(0), s.describe(1)));
      const Shape a = kron_dims(s.input(0).shape, ndim, true), b = kron_dims(s.input(1).shape, ndim, false);
      Shape out;
      for (int d = 0; d < ndim; ++d) out.push_back(a[2 * d] * b[2 * d + 1]);
      s.output(0) = {out, s.input(0).dtype};
    },
    [](const DecomposeCall& c) -> Results {
      const DTensor &a = c.input(0), &b = c.input(1);
      const int ndim = std::max(a.ndim(), b.ndim());
      const Shape wide_a = kron_dims(a.shape(), ndim, true), wide_b = kron_dims(b.shape(), ndim, false);
      Shape out;
      for (int d = 0; d < ndim; ++d) out.push_back(wide_a[2 * d] * wide_b[2 * d + 1]);
      return {reshape(mul(reshape(a, wide_a), reshape(b, wide_b)), out)};
    },
    [] {
      return std::vector<Sample>{{.shapes = {{5, 2}, {2, 3}}}, {.shapes = {{4}, {3}}}, {.shapes = {{3}, {2, 2}}}, {.shapes = {{0, 2}, {2, 1}}}};
    });

// multi_dot: the order by dynamic programming over sizes
std::vector<std::int64_t> chain_sizes(std::span<const Shape> shapes) {
  std::vector<std::int64_t> sizes{shapes.front().ndim() == 1 ? 1 : shapes.front()[0]};
  for (const Shape& s : shapes) sizes.push_back(&s == &shapes.back() && s.ndim() == 1 ? 1 : s.back());
  return sizes;
}
struct Order {
  std::vector<std::vector<double>> cost;
  std::vector<std::vector<std::size_t>> cut;
  explicit Order(const std::vector<std::int64_t>& p) {
    const std::size_t n = p.size() - 1;
    cost.assign(n, std::vector<double>(n, 0));
    cut.assign(n, std::vector<std::size_t>(n, 0));
    for (std::size_t length = 1; length < n; ++length)
      for (std::size_t i = 0; i + length < n; ++i) {
        const std::size_t j = i + length;
        cost[i][j] = std::numeric_limits<double>::infinity();
        for (std::size_t k = i; k < j; ++k) {
          const double total =
              cost[i][k] + cost[k + 1][j] + static_cast<double>(p[i]) * static_cast<double>(p[k + 1]) * static_cast<double>(p[j + 1]);
          if (total < cost[i][j]) cost[i][j] = total, cut[i][j] = k;
        }
      }
  }
  DTensor product(const DecomposeCall& c, std::size_t i, std::size_t j) const {
    if (i == j) return *c.inputs[i];
    return matmul(product(c, i, cut[i][j]), product(c, cut[i][j] + 1, j));
  }
};
void chain_shape(ShapeCall& s) {
  const int n = s.num_inputs();
  if (n < 2) s.fail(fmt::format("two or more tensors are wanted ({} given)", n));
  check_dtypes(s);
  for (int i = 0; i < n; ++i) {
    const bool end = i == 0 || i == n - 1;
    if (s.input(i).shape.ndim() != 2 && !(end && s.input(i).shape.ndim() == 1))
      s.fail(fmt::format("a matrix is wanted ({} of operand {})", s.describe(i), i));
    if (i > 0) check_sizes(s, i - 1, s.input(i - 1).shape.ndim() - 1, i, 0);
  }
  Shape out;
  if (s.input(0).shape.ndim() == 2) out.push_back(s.input(0).shape[0]);
  if (s.input(n - 1).shape.ndim() == 2) out.push_back(s.input(n - 1).shape[1]);
  s.output(0) = {out, s.input(0).dtype};
}
Results chain(const DecomposeCall& c) {
  std::vector<Shape> shapes;
  for (const DTensor* t : c.inputs) shapes.push_back(t->shape());
  return {Order(chain_sizes(shapes)).product(c, 0, shapes.size() - 1)};
}
std::vector<Sample> chain_samples() {
  return {{.shapes = {{5, 7}, {7, 2}, {2, 4}}}, {.shapes = {{3, 4}, {4, 2}}}, {.shapes = {{2, 5}, {5, 3}, {3, 6}, {6, 2}}}};
}
constexpr OpDef kMultiDot = composite("linalg.multi_dot", "tensors[] -> out", "number", chain_shape, chain, chain_samples);
constexpr OpDef kChainMatmul = composite("chain_matmul", "matrices[] -> out", "number", chain_shape, chain, chain_samples);

constexpr std::array<const OpDef*, 9> kOps{&kBaddbmm, &kAddbmm, &kAddmv, &kAddr, &kTensordot, &kInner, &kKron, &kMultiDot, &kChainMatmul};

}  // namespace

namespace ops {
OpList contraction_ops() { return kOps; }
}  // namespace ops

DTensor tensordot(const DTensor& input, const DTensor& other, const Shape& dims_self, const Shape& dims_other) {
  return call(kTensordot, {input, other}, {dims_self, dims_other});
}
DTensor tensordot(const DTensor& input, const DTensor& other, int dims) {
  Shape a, b;
  for (int d = 0; d < dims; ++d) {
    a.push_back(input.ndim() - dims + d);
    b.push_back(d);
  }
  return tensordot(input, other, a, b);
}
DTensor inner(const DTensor& input, const DTensor& other) { return call(kInner, {input, other}); }
DTensor kron(const DTensor& input, const DTensor& other) { return call(kKron, {input, other}); }
DTensor multi_dot(std::span<const DTensor> tensors) {
  const std::vector<Input> inputs(tensors.begin(), tensors.end());
  return call_all(kMultiDot, inputs)[0];
}
DTensor baddbmm(const DTensor& input, const DTensor& batch1, const DTensor& batch2, const AddmmOptions& o) {
  return call(kBaddbmm, {input, batch1, batch2}, {o.beta, o.alpha});
}
DTensor addbmm(const DTensor& input, const DTensor& batch1, const DTensor& batch2, const AddmmOptions& o) {
  return call(kAddbmm, {input, batch1, batch2}, {o.beta, o.alpha});
}
DTensor addmv(const DTensor& input, const DTensor& mat, const DTensor& vec, const AddmmOptions& o) {
  return call(kAddmv, {input, mat, vec}, {o.beta, o.alpha});
}
DTensor addr(const DTensor& input, const DTensor& vec1, const DTensor& vec2, const AddmmOptions& o) {
  return call(kAddr, {input, vec1, vec2}, {o.beta, o.alpha});
}

}  // namespace dtensor
