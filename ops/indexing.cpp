// SPDX-License-Identifier: Apache-2.0
#include "dtensor/ops/indexing.h"

#include <array>

#include <fmt/format.h>

#include "dtensor/error.h"
#include "dtensor/op.h"
#include "dtensor/ops/arrange.h"
#include "dtensor/ops/binary.h"
#include "dtensor/ops/compare.h"
#include "dtensor/ops/embedding.h"
#include "dtensor/ops/views.h"
#include "local/kernels/embedding.h"
#include "ops/families.h"
#include "ops/index_rules.h"
#include "ops/scatter_rules.h"

namespace dtensor {
namespace {

using local::cpu::ElementsCall;
using ops::check_index;
using ops::coordinates_in;
using ops::dims_with;
using ops::lined;
using ops::positions;
using ops::rows_of;

int dim_of(const Attribute& dim, const Shape& shape, std::string_view op) { return ops::line_dim(dim, shape.ndim(), op); }
void same_dtype(const ShapeCall& s, int i) {
  if (s.input(i).dtype != s.input(0).dtype) s.fail(fmt::format("dtypes differ ({}, {}); convert one with to()", s.describe(0), s.describe(i)));
}

// ---- scatter, scatter_add
using ops::scatter_rule;
using ops::scatter_shape;
void scatter_kernel(const KernelCall& call, bool add) {
  const Tensor out = lined(call.output(0)), index = lined(call.input(1));
  out.copy_(lined(call.input(0)));
  const int dim = dim_of(call.attribute(0), out.shape(), call.op_name);
  const Place target = lined(call.output_place(0));
  const auto at = positions(call, 1, target, dim, "the dim that is written");
  const auto others = coordinates_in(target, lined(call.input_place(1)), index.shape(), dim);
  Tensor src;
  if (call.has_input(2)) {
    src = lined(call.input(2));
    for (int d = 0; d < src.ndim(); ++d) src = src.narrow(d, 0, index.shape()[d]);
    src = src.contiguous();
  }
  const ElementsCall elements{index.shape(), dim, at, others};
  if (add) local::kernels::deposit_elements(elements, src, out, {.add = true});
  else local::kernels::put_elements(elements, src, call.attribute(1).is_none() ? Scalar(0) : call.attribute(1).scalar(), out);
}
// The gradient of src: what was read of it, zeros for the rest.
DTensor read_back(const GradientCall& g, const DTensor& index) {
  DTensor read = gather(g.grad_output(0), static_cast<int>(g.attribute(0).as_int()), index);
  const Shape& shape = g.input_type(2).shape;
  if (shape == read.shape()) return read;
  Shape more;
  for (int d = shape.ndim() - 1; d >= 0; --d) {
    more.push_back(0);
    more.push_back(shape[d] - read.shape()[d]);
  }
  return pad(read, more);
}
std::vector<DTensor> scatter_gradient(const GradientCall& g) {
  const DTensor& index = g.input(1);
  std::vector<DTensor> grads(static_cast<std::size_t>(g.num_inputs()));
  if (g.needs(0)) grads[0] = scatter(g.grad_output(0), static_cast<int>(g.attribute(0).as_int()), index, 0);
  if (g.needs(2)) grads[2] = read_back(g, index);
  return grads;
}
std::vector<Dtype> one_index(std::size_t inputs) {
  std::vector<Dtype> dtypes(inputs, Dtype::f32);
  dtypes[1] = Dtype::i64;
  return dtypes;
}
constexpr OpDef kScatter{
    .name = "scatter",
    .signature = "input, index, src?, *, dim: int, value: number? = none -> out",
    .saves = "index",
    .contiguous = true,
    .shape =
        [](ShapeCall& s) {
          scatter_shape(s, "scatter");
          if (s.has_input(2) == !s.attribute(1).is_none()) s.fail("src and value are one of two; give either");
        },
    .rule_for = [](const ShapeCall& s) { return scatter_rule(s, "scatter", nullptr); },
    .kernel = [](const KernelCall& call) { scatter_kernel(call, false); },
    .gradient = scatter_gradient,
    .samples =
        [] {
          // One index per slot, so that no two writes meet and a difference is a derivative.
          return std::vector<Sample>{
              {.shapes = {{5, 3}, {5, 1}, {5, 1}}, .attributes = {{"dim", "1"}}, .dtypes = one_index(3), .index_limit = 3},
              {.shapes = {{4, 3}, {1, 2}, {2, 3}}, .attributes = {{"dim", "0"}}, .dtypes = one_index(3), .index_limit = 4},
              {.shapes = {{5, 3}, {2, 3}}, .attributes = {{"dim", "0"}, {"value", "1.5"}}, .dtypes = one_index(2), .index_limit = 5},
              {.shapes = {{4}, {0}, {0}}, .attributes = {{"dim", "0"}}, .dtypes = one_index(3), .index_limit = 4}};
        },
    .reasons = "writes meet in the order of the index, so all of it is on every rank; a src that is larger than index is cut by its global sizes",
};
constexpr OpDef kScatterAdd{
    .name = "scatter_add",
    .signature = "input, index, src, *, dim: int -> out",
    .saves = "index",
    .contiguous = true,
    .shape = [](ShapeCall& s) { scatter_shape(s, "scatter_add"); },
    .rule_for = [](const ShapeCall& s) { return scatter_rule(s, "scatter_add", s.input(0).dtype == Dtype::boolean ? nullptr : "sum"); },
    .kernel = [](const KernelCall& call) { scatter_kernel(call, true); },
    .gradient = [](const GradientCall& g) -> std::vector<DTensor> {
      return {g.grad_output(0), DTensor(), g.needs(2) ? read_back(g, g.input(1)) : DTensor()};
    },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 4}, {5, 7}, {5, 7}}, .attributes = {{"dim", "1"}}, .dtypes = one_index(3), .index_limit = 4},
                                     {.shapes = {{4, 3}, {5, 2}, {5, 2}}, .attributes = {{"dim", "0"}}, .dtypes = one_index(3), .index_limit = 4},
                                     {.shapes = {{4, 3}, {2, 2}, {3, 3}}, .attributes = {{"dim", "-2"}}, .dtypes = one_index(3), .index_limit = 4},
                                     {.shapes = {{}, {}, {}}, .attributes = {{"dim", "0"}}, .dtypes = one_index(3), .index_limit = 1}};
        },
    .reasons = "a src that is larger than index is cut by its global sizes",
};

// ---- index_add, index_copy, index_fill
void index_write_shape(ShapeCall& s, std::string_view op) {
  check_index(s, 1);
  const Shape& in = s.input(0).shape;
  const int dim = dim_of(s.attribute(0), in, op);
  if (s.input(1).shape.ndim() > 1) s.fail(fmt::format("index must have one dim ({})", s.describe(1)));
  if (s.has_input(2)) {
    same_dtype(s, 2);
    Shape wanted = in;
    if (!wanted.empty()) wanted[dim] = s.input(1).shape.numel();
    if (s.input(2).shape != wanted || (in.empty() && s.input(1).shape.numel() != 1))
      s.fail(fmt::format("source does not fit ({}, {}, {}, dim {}); it has input's sizes, and at dim one slice per index", s.describe(0),
                         s.describe(1), s.describe(2), dim));
  }
  s.output(0) = s.input(0);
}
std::string index_write_rule(const ShapeCall& s, std::string_view op, const char* kind, const char* flags) {
  const int n = s.input(0).shape.ndim();
  const bool one = s.input(1).shape.empty();
  if (n == 0) return fmt::format("(), {}, () -> (){}{}", one ? "()" : "1", *flags == 0 ? "" : "    ", flags);
  const int dim = dim_of(s.attribute(0), s.input(0).shape, op);
  const std::string target = dims_with(n, dim, "v"), clause = one ? "" : fmt::format("i: {}{}", kind, *flags == 0 ? "" : "; ");
  const std::string source = s.has_input(2) ? dims_with(n, dim, one ? "1" : "i") : "()";
  return fmt::format("{}, {}, {} -> {}{}{}{}", target, one ? "()" : "i", source, target, one && *flags == 0 ? "" : "    ", clause, flags);
}
struct IndexWrite {
  Tensor out;
  local::cpu::RowsCall rows;
  explicit IndexWrite(const KernelCall& call) : out(lined(call.output(0))) {
    out.copy_(lined(call.input(0)));
    const int dim = dim_of(call.attribute(0), out.shape(), call.op_name);
    rows = rows_of(out.shape(), dim, positions(call, 1, lined(call.output_place(0)), dim, "the dim that is written"));
  }
};
std::vector<DTensor> index_add_gradient(const GradientCall& g) {
  const Attribute& alpha = g.attribute(1);
  DTensor read;
  if (g.needs(2)) {
    read = index_select(g.grad_output(0), static_cast<int>(g.attribute(0).as_int()), g.input(1));
    if (alpha.as_double() != 1) read = mul(read, alpha.scalar());
  }
  return {g.grad_output(0), DTensor(), read};
}
constexpr OpDef kIndexAdd{
    .name = "index_add",
    .signature = "input, index, source, *, dim: int, alpha: number = 1 -> out",
    .saves = "index",
    .contiguous = true,
    .shape = [](ShapeCall& s) { index_write_shape(s, "index_add"); },
    .rule_for =
        [](const ShapeCall& s) { return index_write_rule(s, "index_add", ops::kind_for(s.input(0).dtype, "reduce(sum, addend 1)"), "linear 1 3"); },
    .kernel =
        [](const KernelCall& call) {
          const IndexWrite w(call);
          local::kernels::deposit_rows(w.rows, call.input(2), w.out, {.add = true, .alpha = call.attribute(1).scalar()});
        },
    .gradient = index_add_gradient,
    .samples =
        [] {
          return std::vector<Sample>{
              {.shapes = {{4, 3}, {7}, {7, 3}}, .attributes = {{"dim", "0"}, {"alpha", "-2"}}, .dtypes = one_index(3), .index_limit = 4},
              {.shapes = {{2, 5, 3}, {2}, {2, 2, 3}}, .attributes = {{"dim", "1"}, {"alpha", "0.5"}}, .dtypes = one_index(3), .index_limit = 5},
              {.shapes = {{3}, {0}, {0}}, .attributes = {{"dim", "0"}}, .dtypes = one_index(3), .index_limit = 3},
              {.shapes = {{4, 3}, {}, {4, 1}}, .attributes = {{"dim", "1"}}, .dtypes = one_index(3), .index_limit = 3},
              {.shapes = {{}, {1}, {}}, .attributes = {{"dim", "0"}}, .dtypes = one_index(3), .index_limit = 1}};
        },
};
std::vector<DTensor> index_copy_gradient(const GradientCall& g) {
  const auto dim = static_cast<int>(g.attribute(0).as_int());
  return {g.needs(0) ? index_fill(g.grad_output(0), dim, g.input(1), 0) : DTensor(), DTensor(),
          g.needs(2) ? index_select(g.grad_output(0), dim, g.input(1)) : DTensor()};
}
constexpr std::string_view kInOrder = "writes meet in the order of the index, so all of it is on every rank";
constexpr OpDef kIndexCopy{
    .name = "index_copy",
    .signature = "input, index, source, *, dim: int -> out",
    .saves = "index",
    .contiguous = true,
    .shape = [](ShapeCall& s) { index_write_shape(s, "index_copy"); },
    .rule_for = [](const ShapeCall& s) { return index_write_rule(s, "index_copy", "whole", "linear 1 3"); },
    .kernel =
        [](const KernelCall& call) {
          const IndexWrite w(call);
          local::kernels::put_rows(w.rows, call.input(2), 0, w.out);
        },
    .gradient = index_copy_gradient,
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 3}, {1}, {1, 3}}, .attributes = {{"dim", "0"}}, .dtypes = one_index(3), .index_limit = 5},
                                     {.shapes = {{3, 4}, {0}, {3, 0}}, .attributes = {{"dim", "-1"}}, .dtypes = one_index(3), .index_limit = 4}};
        },
    .reasons = kInOrder,
};
constexpr OpDef kIndexFill{
    .name = "index_fill",
    .signature = "input, index, *, dim: int, value: number -> out",
    .saves = "index",
    .contiguous = true,
    .shape = [](ShapeCall& s) { index_write_shape(s, "index_fill"); },
    .rule_for =
        [](const ShapeCall& s) {
          const int n = s.input(0).shape.ndim();
          const bool one = s.input(1).shape.empty();
          if (n == 0) return std::string(one ? "(), () -> ()" : "(), 1 -> ()");
          const std::string target = dims_with(n, dim_of(s.attribute(0), s.input(0).shape, "index_fill"), "v");
          return fmt::format("{}, {} -> {}{}", target, one ? "()" : "i", target, one ? "" : "    i: whole");
        },
    .kernel =
        [](const KernelCall& call) {
          const IndexWrite w(call);
          local::kernels::put_rows(w.rows, Tensor(), call.attribute(1).scalar(), w.out);
        },
    .gradient = [](const GradientCall& g) -> std::vector<DTensor> {
      return {index_fill(g.grad_output(0), static_cast<int>(g.attribute(0).as_int()), g.input(1), 0), DTensor()};
    },
    .samples =
        [] {
          return std::vector<Sample>{
              {.shapes = {{5, 3}, {2}}, .attributes = {{"dim", "0"}, {"value", "1.5"}}, .dtypes = one_index(2), .index_limit = 5},
              {.shapes = {{3, 4}, {3}}, .attributes = {{"dim", "-1"}, {"value", "0"}}, .dtypes = one_index(2), .index_limit = 4}};
        },
    .reasons = kInOrder,
};

// ---- take_along_dim
Shape broadcast_but(const ShapeCall& s, int dim) {
  const Shape &a = s.input(0).shape, &b = s.input(1).shape;
  bool fits = a.ndim() == b.ndim();
  Shape out = b;
  for (int d = 0; fits && d < a.ndim(); ++d) {
    if (d == dim) continue;
    fits = a[d] == b[d] || a[d] == 1 || b[d] == 1;
    out[d] = b[d] == 1 ? a[d] : b[d];
  }
  if (!fits) s.fail(fmt::format("{} does not fit {}; dims but dim {} broadcast", s.describe(1), s.describe(0), dim));
  return out;
}
constexpr OpDef kTakeAlongDim{
    .name = "take_along_dim",
    .signature = "input, indices, dim: int? = none -> out",
    .shape =
        [](ShapeCall& s) {
          check_index(s, 1);
          const Shape shape = s.attribute(0).is_none() ? Shape{s.input(1).shape.numel()}
                                                       : broadcast_but(s, dim_of(s.attribute(0), s.input(0).shape, "take_along_dim"));
          s.output(0) = {.shape = shape, .dtype = s.input(0).dtype};
        },
    .decompose = [](const DecomposeCall& c) -> Results {
      const Attribute& dim = c.attribute(0);
      return {take_along_dim(c.input(0), c.input(1), dim.is_none() ? std::nullopt : std::optional(static_cast<int>(dim.as_int())))};
    },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 4}, {1, 3}}, .attributes = {{"dim", "1"}}, .dtypes = one_index(2), .index_limit = 4},
                                     {.shapes = {{2, 3}, {4}}, .dtypes = one_index(2), .index_limit = 6}};
        },
};

constexpr std::array<const OpDef*, 6> kOps{&kScatter, &kScatterAdd, &kIndexAdd, &kIndexCopy, &kIndexFill, &kTakeAlongDim};

}  // namespace

namespace ops {
void scatter_shape(ShapeCall& s, std::string_view op) {
  check_index(s, 1);
  const Shape &in = s.input(0).shape, &index = s.input(1).shape;
  const int dim = dim_of(s.attribute(0), in, op);
  bool fits = in.ndim() == index.ndim();
  for (int d = 0; fits && d < in.ndim(); ++d) fits = d == dim || index[d] <= in[d];
  if (!fits)
    s.fail(fmt::format("index does not fit ({}, {}, dim {}); it needs as many dims and, but at dim, at most the sizes of input", s.describe(0),
                       s.describe(1), dim));
  if (s.has_input(2)) {
    same_dtype(s, 2);
    const Shape& src = s.input(2).shape;
    fits = src.ndim() == index.ndim();
    for (int d = 0; fits && d < src.ndim(); ++d) fits = index[d] <= src[d];
    if (!fits) s.fail(fmt::format("src is smaller than index ({}, {})", s.describe(2), s.describe(1)));
  }
  s.output(0) = s.input(0);
}
// Dims of the input and the index agree (a), or each rank keeps what falls into its part of a longer one (w). A larger src is cut where all of it is.
std::string scatter_rule(const ShapeCall& s, std::string_view op, const char* kind) {
  const Shape &in = s.input(0).shape, &index = s.input(1).shape;
  const int dim = dim_of(s.attribute(0), in, op);
  const bool cut = s.has_input(2) && s.input(2).shape != index;
  std::string target, at, src, kept, whole;
  const auto list = [](std::string& names, const std::string& name) { names += (names.empty() ? "" : ", ") + name; };
  for (int d = 0; d < in.ndim(); ++d) {
    const bool same = d != dim && in[d] == index[d] && !cut;
    const std::string gap = d == 0 ? "" : " ";
    const std::string read = fmt::format("{}{}", same ? 'a' : 'i', d), from = cut ? fmt::format("s{}", d) : read;
    target += gap + fmt::format("{}{}", same ? 'a' : 'v', d);
    at += gap + read;
    src += gap + from;
    if (!same) list(cut || kind == nullptr ? whole : kept, read);
    if (cut) list(whole, from);
  }
  if (in.empty()) target = at = src = "()";
  std::string clauses;
  if (!whole.empty()) clauses += whole + ": whole; ";
  if (!kept.empty()) clauses += fmt::format("{}: reduce({}, addend 1); ", kept, kind);
  clauses += s.has_input(2) && (kind == nullptr || std::string_view(kind) == "sum") ? "linear 1 3" : "";
  if (clauses.ends_with("; ")) clauses.resize(clauses.size() - 2);
  return fmt::format("{}, {}, {} -> {}    {}", target, at, src, target, clauses);
}
OpList indexing_ops() { return kOps; }
}  // namespace ops

DTensor scatter(const DTensor& input, int dim, const DTensor& index, const DTensor& src) { return call(kScatter, {input, index, src}, {dim}); }
DTensor scatter(const DTensor& input, int dim, const DTensor& index, const Scalar& value) { return call(kScatter, {input, index}, {dim, value}); }
DTensor scatter_add(const DTensor& input, int dim, const DTensor& index, const DTensor& src) { return call(kScatterAdd, {input, index, src}, {dim}); }
DTensor index_add(const DTensor& input, int dim, const DTensor& index, const DTensor& source, const IndexAddOptions& options) {
  return call(kIndexAdd, {input, index, source}, {dim, options.alpha});
}
DTensor index_copy(const DTensor& input, int dim, const DTensor& index, const DTensor& source) {
  return call(kIndexCopy, {input, index, source}, {dim});
}
DTensor index_fill(const DTensor& input, int dim, const DTensor& index, const Scalar& value) {
  return call(kIndexFill, {input, index}, {dim, value});
}

DTensor take_along_dim(const DTensor& input, const DTensor& indices, std::optional<int> dim) {
  const auto from_end = [](const DTensor& at, std::int64_t n) { return where(lt(at, 0), add(at, n), at); };
  if (!dim) return gather(reshape(input, {input.numel()}), 0, from_end(reshape(indices, {indices.numel()}), input.numel()));
  const int d = normalize_dim(*dim, std::max(input.ndim(), 1), "take_along_dim");
  if (input.ndim() != indices.ndim())
    throw InvalidArgument(fmt::format("take_along_dim: {} and {} differ in dims; unsqueeze one", to_string(input), to_string(indices)));
  Shape read = input.shape(), at = indices.shape();
  for (int k = 0; k < read.ndim(); ++k) {
    if (k == d) continue;
    const std::int64_t n = read[k] == 1 ? at[k] : read[k];
    read[k] = n;
    at[k] = at[k] == 1 ? n : at[k];
  }
  const DTensor places = from_end(indices, input.ndim() == 0 ? 1 : input.shape()[d]);
  return gather(read == input.shape() ? input : expand(input, read), d, at == indices.shape() ? places : expand(places, at));
}

}  // namespace dtensor
