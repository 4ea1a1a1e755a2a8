// SPDX-License-Identifier: Apache-2.0
#include "dtensor/ops/matmul.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "dtensor/error.h"
#include "dtensor/op.h"
#include "dtensor/ops/binary.h"
#include "dtensor/ops/reductions.h"
#include "dtensor/ops/views.h"
#include "local/kernels/binary.h"
#include "local/kernels/gemm.h"
#include "local/precision.h"
#include "ops/families.h"
#include "ops/linear_call.h"

namespace dtensor {
namespace {

using local::cpu::GemmCall;
using local::cpu::matrix_operand;
using local::cpu::MatrixOperand;

// Shape rules.
std::string text_of(const char* name, const TensorType& t) { return fmt::format("{} {}{}", name, info(t.dtype).name, to_string(t.shape)); }

void check_dtypes(const ShapeCall& s) {
  for (int i = 1; i < s.num_inputs(); ++i)
    if (s.has_input(i) && s.input(i).dtype != s.input(0).dtype)
      s.fail(fmt::format("dtypes differ ({}, {}); convert one with to()", s.describe(0), s.describe(i)));
}

void check_ndim(const ShapeCall& s, int i, int ndim) {
  if (s.input(i).shape.ndim() != ndim) s.fail(fmt::format("a tensor of {} dims is wanted ({}); use matmul for other shapes", ndim, s.describe(i)));
}

void check_contraction(const ShapeCall& s, const TensorType& a, int a_dim, const TensorType& b, int b_dim) {
  if (a.shape[a_dim] != b.shape[b_dim])
    s.fail(fmt::format("contracting sizes differ ({} dim {} = {}, {} dim {} = {}); transpose or reshape one of them", text_of("a", a), a_dim,
                       a.shape[a_dim], text_of("b", b), b_dim, b.shape[b_dim]));
}

void matmul_shape(ShapeCall& s) {
  const TensorType a = s.input(0), b = s.input(1);
  check_dtypes(s);
  const int na = a.shape.ndim(), nb = b.shape.ndim();
  if (na == 0 || nb == 0) s.fail(fmt::format("both operands need at least one dim ({}, {}); use mul for a number", text_of("a", a), text_of("b", b)));
  check_contraction(s, a, na - 1, b, nb == 1 ? 0 : nb - 2);
  const int batch_a = std::max(0, na - 2), batch_b = std::max(0, nb - 2), batch = std::max(batch_a, batch_b);
  Shape out;
  for (int d = 0; d < batch; ++d) {
    const int at_a = d - batch + batch_a, at_b = d - batch + batch_b;
    const std::int64_t x = at_a < 0 ? 1 : a.shape[at_a], y = at_b < 0 ? 1 : b.shape[at_b];
    if (x != y && x != 1 && y != 1)
      s.fail(fmt::format("batch sizes differ ({} dim {} = {}, {} dim {} = {}); equal sizes or 1 are wanted", text_of("a", a), at_a, x,
                         text_of("b", b), at_b, y));
    out.push_back(x == 1 ? y : x);
  }
  if (na > 1) out.push_back(a.shape[na - 2]);
  if (nb > 1) out.push_back(b.shape[nb - 1]);
  s.output(0) = {.shape = out, .dtype = a.dtype};
}

template <int ndim_a, int ndim_b>
void fixed_shape(ShapeCall& s) {
  check_ndim(s, 0, ndim_a);
  check_ndim(s, 1, ndim_b);
  if (ndim_a == 3 && s.input(0).shape[0] != s.input(1).shape[0])
    s.fail(fmt::format("batch sizes differ ({} dim 0 = {}, {} dim 0 = {}); matmul broadcasts", text_of("a", s.input(0)), s.input(0).shape[0],
                       text_of("b", s.input(1)), s.input(1).shape[0]));
  matmul_shape(s);
}

void outer_shape(ShapeCall& s) {
  check_ndim(s, 0, 1);
  check_ndim(s, 1, 1);
  check_dtypes(s);
  s.output(0) = {.shape = {s.input(0).shape[0], s.input(1).shape[0]}, .dtype = s.input(0).dtype};
}

void addmm_shape(ShapeCall& s) {
  check_dtypes(s);
  check_ndim(s, 1, 2);
  check_ndim(s, 2, 2);
  check_contraction(s, s.input(1), 1, s.input(2), 0);
  const Shape out{s.input(1).shape[0], s.input(2).shape[1]};
  const Shape& more = s.input(0).shape;
  bool fits = more.ndim() <= 2;
  for (int d = 0; fits && d < more.ndim(); ++d) fits = more[d] == 1 || more[d] == out[d + 2 - more.ndim()];
  if (!fits) s.fail(fmt::format("{} does not broadcast to the product's shape {}; reshape or expand it", s.describe(0), to_string(out)));
  s.output(0) = {.shape = out, .dtype = s.input(1).dtype};
}

void weight_grad_shape(ShapeCall& s) {
  check_dtypes(s);
  Shape a = s.input(0).shape, b = s.input(1).shape;
  if (a.empty() || b.empty()) s.fail(fmt::format("both operands need at least one dim ({}, {})", s.describe(0), s.describe(1)));
  const Shape out{a.back(), b.back()};
  a.pop_back();
  b.pop_back();
  if (a != b) s.fail(fmt::format("leading sizes differ ({}, {}); all dims but the last must agree", s.describe(0), s.describe(1)));
  s.output(0) = {.shape = out, .dtype = s.input(0).dtype};
}

// Sharding rules.
std::string matmul_rule(const ShapeCall& s) {
  const bool vector_a = s.input(0).shape.ndim() == 1, vector_b = s.input(1).shape.ndim() == 1;
  const char* out = vector_a && vector_b ? "()" : vector_a ? "... n" : vector_b ? "... m" : "... m n";
  return fmt::format("{}, {} -> {}    k: reduce(sum); bilinear", vector_a ? "k" : "... m k", vector_b ? "k" : "... k n", out);
}

std::string addmm_rule(const ShapeCall& s) {
  const int n = s.input(0).shape.ndim();
  return fmt::format("{}, m k, k n -> m n    k: reduce(sum, addend 1)", n == 0 ? "()" : n == 1 ? "n" : "m n");
}

std::string linear_rule(const ShapeCall& s) {
  // With a bias a Partial input is no free pass: the bias would be added on every rank.
  if (s.input(1).shape.ndim() == 1)
    return s.has_input(2) ? "... k, k, () -> ...    k: reduce(sum, addend 3)" : "... k, k, () -> ...    k: reduce(sum); bilinear 1 2";
  if (!s.has_input(2)) return "... k, n k, () -> ... n    k: reduce(sum); bilinear 1 2";
  return "... k, n k, n -> ... n    k: reduce(sum, addend 3)";
}

std::string weight_grad_rule(const ShapeCall& s) {
  std::string leading, list;
  for (int d = 0; d + 1 < s.input(0).shape.ndim(); ++d) {
    leading += fmt::format("b{} ", d);
    list += fmt::format("{}b{}", d == 0 ? "" : ", ", d);
  }
  return fmt::format("{0}n, {0}k -> n k    {1}{2}bilinear", leading, list, list.empty() ? "" : ": reduce(sum); ");
}

// Kernels.
MatrixOperand no_batch(const Tensor& t, std::int64_t row, std::int64_t column, const Shape& batch) {
  return {t.raw(), row, column, Shape::filled(batch.ndim(), 0)};
}

void matmul_kernel(const KernelCall& call) {
  const Tensor &a = call.input(0), &b = call.input(1), &out = call.output(0);
  GemmCall g;
  g.dtype = out.dtype();
  g.batch = out.shape();
  if (b.ndim() > 1) g.batch.pop_back();
  if (a.ndim() > 1) g.batch.pop_back();
  g.m = a.ndim() > 1 ? a.shape()[a.ndim() - 2] : 1;
  g.n = b.ndim() > 1 ? b.shape()[b.ndim() - 1] : 1;
  g.k = a.shape()[a.ndim() - 1];
  g.a = a.ndim() > 1 ? matrix_operand(a, g.batch) : no_batch(a, 0, a.strides()[0], g.batch);
  g.b = b.ndim() > 1 ? matrix_operand(b, g.batch) : no_batch(b, b.strides()[0], 0, g.batch);
  g.out = out.raw();
  g.device = out.device();
  local::kernels::gemm(g);
}

void outer_kernel(const KernelCall& call) {
  const Tensor &a = call.input(0), &b = call.input(1), &out = call.output(0);
  if (out.dtype() == Dtype::boolean) {
    local::kernels::binary(local::cpu::Binary::mul, a.as_strided(out.shape(), {a.strides()[0], 0}, a.offset()),
                           b.as_strided(out.shape(), {0, b.strides()[0]}, b.offset()), out);
    return;
  }
  GemmCall g;
  g.dtype = out.dtype();
  g.m = a.shape()[0];
  g.n = b.shape()[0];
  g.k = 1;
  g.a = no_batch(a, a.strides()[0], 1, {});
  g.b = no_batch(b, 1, b.strides()[0], {});
  g.out = out.raw();
  g.device = out.device();
  local::kernels::gemm(g);
}

void addmm_kernel(const KernelCall& call) {
  const Tensor &more = call.input(0), &a = call.input(1), &b = call.input(2), &out = call.output(0);
  GemmCall g;
  g.dtype = out.dtype();
  g.m = out.shape()[0];
  g.n = out.shape()[1];
  g.k = call.attribute(1).as_double() == 0 ? 0 : a.shape()[1];  // a product that counts nothing brings no NaN
  g.a = matrix_operand(a, {});
  g.b = matrix_operand(b, {});
  const auto stride = [&](int from_right) {
    const int d = more.ndim() - from_right;
    return d < 0 || more.shape()[d] == 1 ? 0 : more.strides()[d];
  };
  g.addend = no_batch(more, stride(2), stride(1), {});
  g.beta = call.attribute(0).scalar();
  g.alpha = call.attribute(1).scalar();
  g.out = out.raw();
  g.device = out.device();
  local::kernels::gemm(g);
}

void linear_kernel(const KernelCall& call) { local::kernels::gemm(ops::linear_call(call)); }

// All dims but the last as one dim of rows.
struct RowsView {
  Tensor tensor;
  std::int64_t rows = 1, stride = 0;
};
RowsView rows_view(const Tensor& t) {
  RowsView v{t, 1, 0};
  bool first = true, uniform = true;
  for (int d = t.ndim() - 2; d >= 0; --d) {
    if (t.shape()[d] == 1) continue;
    if (first) v.stride = t.strides()[d];
    else uniform = uniform && t.strides()[d] == v.stride * v.rows;
    first = false;
    v.rows *= t.shape()[d];
  }
  if (!uniform) {
    v.tensor = t.contiguous();
    v.stride = t.shape().back();
  }
  return v;
}

void weight_grad_kernel(const KernelCall& call) {
  const RowsView grad = rows_view(call.input(0)), input = rows_view(call.input(1));
  const Tensor& out = call.output(0);
  GemmCall g;
  g.dtype = out.dtype();
  g.m = out.shape()[0];
  g.n = out.shape()[1];
  g.k = grad.rows;
  g.a = no_batch(grad.tensor, grad.tensor.strides().back(), grad.stride, {});
  g.b = no_batch(input.tensor, input.stride, input.tensor.strides().back(), {});
  g.out = out.raw();
  g.device = out.device();
  local::kernels::gemm(g);
}

// Gradients.
std::vector<DTensor> weight_grad_gradient(const GradientCall& g);

std::vector<Sample> weight_grad_samples() {
  return {{.shapes = {{5, 4}, {5, 7}}}, {.shapes = {{2, 5, 3}, {2, 5, 4}}}, {.shapes = {{0, 3}, {0, 2}}}, {.shapes = {{3}, {5}}}};
}
constexpr OpDef kWeightGrad{
    .name = "linear_weight_grad",
    .signature = "grad, input -> out",
    .saves = "grad, input",
    .dtypes = "number",
    .shape = weight_grad_shape,
    .rule_for = weight_grad_rule,
    .kernel = weight_grad_kernel,
    .gradient = weight_grad_gradient,
    .samples = weight_grad_samples,
};

DTensor fitted(const DTensor& grad, const Shape& shape) { return grad.shape() == shape ? grad : sum_to_shape(grad, shape); }
// sum over all leading dims of a[..., n] b[..., k] -> [n, k].
DTensor sum_of_outer(const DTensor& a, const DTensor& b) { return call(kWeightGrad, {a, b}); }

DTensor matmul_input_grad(const GradientCall& g) {
  const DTensor &up = g.grad_output(0), &b = g.input(1);
  const Shape& shape = g.input_type(0).shape;
  const int na = shape.ndim(), nb = b.ndim();
  if (na == 1 && nb == 1) return mul(up, b);
  if (nb == 1) return mul(unsqueeze(up, -1), b);
  if (na == 1) return squeeze(fitted(matmul(b, unsqueeze(up, -1)), {shape[0], 1}), 1);
  return fitted(matmul(up, transpose(b, -2, -1)), shape);
}

DTensor matmul_other_grad(const GradientCall& g) {
  const DTensor &up = g.grad_output(0), &a = g.input(0);
  const Shape& shape = g.input_type(1).shape;
  const int na = a.ndim(), nb = shape.ndim();
  if (na == 1 && nb == 1) return mul(up, a);
  if (nb == 1) return squeeze(sum_of_outer(unsqueeze(up, -1), a), 0);
  if (na == 1) return mul(unsqueeze(a, -1), unsqueeze(up, -2));
  if (nb == 2) return sum_of_outer(a, up);
  return fitted(matmul(transpose(a, -2, -1), up), shape);
}

std::vector<DTensor> matmul_gradient(const GradientCall& g) {
  return {g.needs(0) ? matmul_input_grad(g) : DTensor(), g.needs(1) ? matmul_other_grad(g) : DTensor()};
}

std::vector<DTensor> outer_gradient(const GradientCall& g) {
  const DTensor& up = g.grad_output(0);
  return {g.needs(0) ? matmul(up, g.input(1)) : DTensor(), g.needs(1) ? matmul(g.input(0), up) : DTensor()};
}

DTensor times(const DTensor& x, const Scalar& factor) { return factor.as_double() == 1 ? x : mul(x, factor); }

std::vector<DTensor> addmm_gradient(const GradientCall& g) {
  const DTensor& up = g.grad_output(0);
  const Scalar &beta = g.attribute(0).scalar(), &alpha = g.attribute(1).scalar();
  return {g.needs(0) ? times(fitted(up, g.input_type(0).shape), beta) : DTensor(),
          g.needs(1) ? times(matmul(up, transpose(g.input(2), 0, 1)), alpha) : DTensor(),
          g.needs(2) ? times(sum_of_outer(g.input(1), up), alpha) : DTensor()};
}

std::vector<DTensor> linear_gradient(const GradientCall& g) { return ops::linear_gradients(g, g.grad_output(0)); }

std::vector<DTensor> weight_grad_gradient(const GradientCall& g) {
  const DTensor& up = g.grad_output(0);
  return {g.needs(0) ? linear(g.input(1), up) : DTensor(), g.needs(1) ? matmul(g.input(0), up) : DTensor()};
}

// Samples and definitions.
std::vector<Sample> matmul_samples() {
  return {{.shapes = {{5, 7}, {7, 4}}}, {.shapes = {{2, 3, 5}, {2, 5, 4}}}, {.shapes = {{2, 1, 3, 4}, {3, 4, 5}}}, {.shapes = {{3, 5, 4}, {4, 2}}},
          {.shapes = {{6}, {6}}},       {.shapes = {{2, 3, 5}, {5}}},       {.shapes = {{4}, {3, 4, 2}}},          {.shapes = {{3, 0}, {0, 2}}},
          {.shapes = {{1, 4}, {4, 1}}}};
}
std::vector<Sample> mm_samples() { return {{.shapes = {{5, 7}, {7, 4}}}, {.shapes = {{3, 0}, {0, 2}}}, {.shapes = {{1, 1}, {1, 1}}}}; }
std::vector<Sample> bmm_samples() {
  return {{.shapes = {{2, 3, 5}, {2, 5, 4}}}, {.shapes = {{0, 2, 3}, {0, 3, 2}}}, {.shapes = {{1, 5, 1}, {1, 1, 4}}}};
}
std::vector<Sample> mv_samples() { return {{.shapes = {{5, 7}, {7}}}, {.shapes = {{3, 0}, {0}}}}; }
std::vector<Sample> dot_samples() { return {{.shapes = {{7}, {7}}}, {.shapes = {{0}, {0}}}}; }
std::vector<Sample> outer_samples() { return {{.shapes = {{5}, {7}}}, {.shapes = {{0}, {3}}}}; }
std::vector<Sample> addmm_samples() {
  return {{.shapes = {{5, 4}, {5, 7}, {7, 4}}},
          {.shapes = {{4}, {5, 3}, {3, 4}}, .attributes = {{"beta", "0.5"}, {"alpha", "2.0"}}},
          {.shapes = {{5, 1}, {5, 2}, {2, 3}}},
          {.shapes = {{2, 3}, {2, 0}, {0, 3}}}};
}
std::vector<Sample> linear_samples() {
  return {{.shapes = {{5, 7}, {4, 7}, {4}}},    {.shapes = {{2, 3, 5}, {5}, {}}}, {.shapes = {{2, 3, 5}, {4, 5}, {}}},
          {.shapes = {{2, 3, 5}, {4, 5}, {4}}}, {.shapes = {{3}, {2, 3}, {2}}},   {.shapes = {{0, 3}, {2, 3}, {2}}},
          {.shapes = {{2, 0}, {3, 0}, {3}}}};
}

constexpr OpDef product(std::string_view name, std::string_view signature, std::string_view saves, void (*shape)(ShapeCall&),
                        std::vector<Sample> (*samples)()) {
  OpDef op;
  op.name = name;
  op.signature = signature;
  op.saves = saves;
  op.dtypes = "number";
  op.shape = shape;
  op.rule_for = matmul_rule;
  op.kernel = matmul_kernel;
  op.gradient = matmul_gradient;
  op.samples = samples;
  return op;
}
constexpr OpDef kMatmul = product("matmul", "input, other -> out", "input, other", matmul_shape, matmul_samples);
constexpr OpDef kMm = product("mm", "input, mat2 -> out", "input, mat2", fixed_shape<2, 2>, mm_samples);
constexpr OpDef kBmm = product("bmm", "input, mat2 -> out", "input, mat2", fixed_shape<3, 3>, bmm_samples);
constexpr OpDef kMv = product("mv", "input, vec -> out", "input, vec", fixed_shape<2, 1>, mv_samples);
constexpr OpDef kDot = product("dot", "input, tensor -> out", "input, tensor", fixed_shape<1, 1>, dot_samples);
constexpr OpDef kOuter{
    .name = "outer",
    .signature = "input, vec2 -> out",
    .rule = "m, n -> m n    bilinear",
    .saves = "input, vec2",
    .dtypes = "any",
    .shape = outer_shape,
    .kernel = outer_kernel,
    .gradient = outer_gradient,
    .samples = outer_samples,
};
constexpr OpDef kAddmm{
    .name = "addmm",
    .signature = "input, mat1, mat2, *, beta: number = 1, alpha: number = 1 -> out",
    .saves = "mat1, mat2",
    .dtypes = "number",
    .shape = addmm_shape,
    .rule_for = addmm_rule,
    .kernel = addmm_kernel,
    .gradient = addmm_gradient,
    .samples = addmm_samples,
    .reasons = "Partial mat1 or mat2 is reduced first: input would be added on every rank",
};
constexpr OpDef kLinear{
    .name = "linear",
    .signature = "input, weight, bias? -> out",
    .saves = "input, weight",
    .dtypes = "number",
    .shape = ops::linear_shape,
    .rule_for = linear_rule,
    .kernel = linear_kernel,
    .gradient = linear_gradient,
    .samples = linear_samples,
    .reasons = "with a bias a Partial input or weight is reduced first: the bias would be added on every rank",
};

}  // namespace

DTensor matmul(const DTensor& input, const DTensor& other) { return call(kMatmul, {input, other}); }
DTensor mm(const DTensor& input, const DTensor& mat2) { return call(kMm, {input, mat2}); }
DTensor bmm(const DTensor& input, const DTensor& mat2) { return call(kBmm, {input, mat2}); }
DTensor mv(const DTensor& input, const DTensor& vec) { return call(kMv, {input, vec}); }
DTensor dot(const DTensor& input, const DTensor& tensor) { return call(kDot, {input, tensor}); }
DTensor outer(const DTensor& input, const DTensor& vec2) { return call(kOuter, {input, vec2}); }
DTensor addmm(const DTensor& input, const DTensor& mat1, const DTensor& mat2, const AddmmOptions& options) {
  return call(kAddmm, {input, mat1, mat2}, {options.beta, options.alpha});
}
DTensor linear(const DTensor& input, const DTensor& weight, const DTensor& bias) { return call(kLinear, {input, weight, bias}); }

namespace ops {
void linear_shape(ShapeCall& s) {
  check_dtypes(s);
  const Shape& x = s.input(0).shape;
  const Shape& w = s.input(1).shape;
  if (w.ndim() != 1) check_ndim(s, 1, 2);
  if (x.ndim() == 0) s.fail(fmt::format("input needs at least one dim ({})", s.describe(0)));
  if (x.back() != w.back())
    s.fail(fmt::format("contracting sizes differ ({} dim {} = {}, {} dim {} = {}); weight is [out, in]", s.describe(0), x.ndim() - 1, x.back(),
                       s.describe(1), w.ndim() - 1, w.back()));
  const Shape features = w.ndim() == 1 ? Shape() : Shape{w[0]};
  if (s.has_input(2) && s.input(2).shape != features)
    s.fail(fmt::format("bias has the wrong shape ({}, {}); {} is wanted", s.describe(2), s.describe(1), to_string(features)));
  Shape out = x;
  out.pop_back();
  for (std::int64_t n : features) out.push_back(n);
  s.output(0) = {.shape = out, .dtype = s.input(0).dtype};
}

local::cpu::GemmCall linear_call(const KernelCall& call) {
  const Tensor &x = call.input(0), &w = call.input(1), &out = call.output(0);
  GemmCall g;
  g.dtype = out.dtype();
  g.batch = x.shape();
  g.batch.pop_back();
  if (x.ndim() > 1) g.batch.pop_back();
  const bool vector = w.ndim() == 1;
  g.m = x.ndim() > 1 ? x.shape()[x.ndim() - 2] : 1;
  g.n = vector ? 1 : w.shape()[0];
  g.k = w.shape().back();
  g.a = x.ndim() > 1 ? matrix_operand(x, g.batch) : no_batch(x, 0, x.strides()[0], g.batch);
  g.b = no_batch(w, w.strides().back(), vector ? 0 : w.strides()[0], g.batch);
  if (call.has_input(2)) g.addend = no_batch(call.input(2), 0, vector ? 0 : call.input(2).strides()[0], g.batch);
  g.out = out.raw();
  g.device = out.device();
  return g;
}

std::vector<DTensor> linear_gradients(const GradientCall& g, const DTensor& up) {
  if (g.input_type(1).shape.ndim() == 1) {
    const DTensor column = unsqueeze(up, -1);
    return {g.needs(0) ? mul(column, g.input(1)) : DTensor(), g.needs(1) ? squeeze(sum_of_outer(column, g.input(0)), 0) : DTensor(),
            g.needs(2) ? fitted(up, {}) : DTensor()};
  }
  return {g.needs(0) ? matmul(up, g.input(1)) : DTensor(), g.needs(1) ? sum_of_outer(up, g.input(0)) : DTensor(),
          g.needs(2) ? fitted(up, g.input_type(2).shape) : DTensor()};
}

OpList matmul_ops() {
  static constexpr std::array<const OpDef*, 9> kOps{&kMatmul, &kMm, &kBmm, &kMv, &kDot, &kOuter, &kAddmm, &kLinear, &kWeightGrad};
  return kOps;
}
}  // namespace ops

void set_matmul_precision(std::string_view precision) {
  if (precision != "highest" && precision != "high")
    throw InvalidArgument(fmt::format("set_matmul_precision: '{}' is no precision; give highest or high", precision));
  local::set_matmul_precision(precision == "high" ? local::MatmulPrecision::high : local::MatmulPrecision::highest);
}
std::string_view matmul_precision() noexcept { return local::matmul_precision() == local::MatmulPrecision::high ? "high" : "highest"; }

}  // namespace dtensor
