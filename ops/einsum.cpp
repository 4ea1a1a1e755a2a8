// SPDX-License-Identifier: Apache-2.0
// Einsum: diagonals and sums of single operands, then products of two at a time by an op whose sharding rule is the equation itself.
#include <algorithm>
#include <array>
#include <cctype>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "dtensor/error.h"
#include "dtensor/op.h"
#include "dtensor/ops/binary.h"
#include "dtensor/ops/compare.h"
#include "dtensor/ops/contractions.h"
#include "dtensor/ops/factories.h"
#include "dtensor/ops/reductions.h"
#include "dtensor/ops/views.h"
#include "local/kernels/gemm.h"
#include "ops/composite.h"
#include "ops/families.h"

namespace dtensor {
namespace {

using local::cpu::GemmCall;
using local::cpu::matrix_operand;

/// Labels are characters: letters, and 1 to 8 for the dims of an ellipsis counted from the right.
using Labels = std::string;
bool has(const Labels& labels, char label) { return labels.find(label) != Labels::npos; }

struct Equation {
  std::vector<Labels> operands;
  Labels result;
};

// ---- the product of two: no label twice in an operand, every label in the result or in both, sizes of a label equal
Equation pair_equation(std::string_view text) {
  const std::size_t comma = text.find(','), arrow = text.find("->");
  return {{Labels(text.substr(0, comma)), Labels(text.substr(comma + 1, arrow - comma - 1))}, Labels(text.substr(arrow + 2))};
}
std::string names(const Labels& labels) {
  std::string text;
  for (char c : labels) text += fmt::format("{}x{}", text.empty() ? "" : " ", static_cast<int>(c));
  return text.empty() ? "()" : text;
}
std::string pair_rule(const ShapeCall& s) {
  const Equation e = pair_equation(s.attribute(0).as_text());
  std::string summed;
  for (char c : e.operands[0])
    if (!has(e.result, c)) summed += fmt::format("{}x{}", summed.empty() ? "" : ", ", static_cast<int>(c));
  return fmt::format("{}, {} -> {}    {}bilinear", names(e.operands[0]), names(e.operands[1]), names(e.result),
                     summed.empty() ? summed : summed + ": reduce(sum); ");
}
void pair_shape(ShapeCall& s) {
  const Equation e = pair_equation(s.attribute(0).as_text());
  for (std::size_t i = 0; i < 2; ++i)
    if (s.input(static_cast<int>(i)).shape.size() != e.operands[i].size())
      s.fail(fmt::format("the equation {} does not fit ({}, {})", s.attribute(0).as_text(), s.describe(0), s.describe(1)));
  TensorType out{{}, s.input(0).dtype};
  for (char c : e.result) {
    const bool first = has(e.operands[0], c);
    out.shape.push_back(s.input(first ? 0 : 1).shape[e.operands[first ? 0 : 1].find(c)]);
  }
  s.output(0) = out;
}

// [batch..., first, second]: the dims of `t` in this order, those of first and of second as one dim each. Batch dims stay apart, so that they need no copy.
Tensor matrices(const Tensor& t, const Labels& labels, const Labels& batch, const Labels& first, const Labels& second) {
  Shape order, shape;
  const auto add = [&](const Labels& group) {
    std::int64_t size = 1;
    for (char c : group) {
      const std::size_t d = labels.find(c);
      order.push_back(static_cast<std::int64_t>(d));
      size *= t.shape()[d];
    }
    shape.push_back(size);
  };
  if (batch.size() + 2 <= static_cast<std::size_t>(kMaxDims))
    for (char c : batch) add(Labels(1, c));
  else add(batch);
  add(first);
  add(second);
  return t.permute(order).reshape(shape);
}
void pair_kernel(const KernelCall& call) {
  const Equation e = pair_equation(call.attribute(0).as_text());
  const Labels &a = e.operands[0], &b = e.operands[1];
  Labels batch, rows, columns, summed;
  for (char c : e.result) (!has(b, c) ? rows : !has(a, c) ? columns : batch) += c;
  for (char c : a)
    if (!has(e.result, c)) summed += c;
  // The product of the transposes where that lies as the result does.
  const bool turned = batch + rows + columns != e.result && batch + columns + rows == e.result;
  const Labels &down = turned ? columns : rows, &across = turned ? rows : columns;
  const Tensor left = matrices(call.input(turned ? 1 : 0), turned ? b : a, batch, down, summed),
               right = matrices(call.input(turned ? 0 : 1), turned ? a : b, batch, summed, across);
  const Tensor& out = call.output(0);
  const Labels made = batch + down + across;
  Shape shape, order;
  for (char c : made) shape.push_back(out.shape()[e.result.find(c)]);
  for (char c : e.result) order.push_back(static_cast<std::int64_t>(made.find(c)));
  const bool direct = made == e.result;
  const Tensor product = direct ? out : Tensor::empty(shape, out.dtype(), out.device());
  GemmCall g;
  g.dtype = out.dtype();
  g.batch = left.shape();
  g.k = g.batch.back();
  g.batch.pop_back();
  g.m = g.batch.back();
  g.batch.pop_back();
  g.n = right.shape().back();
  g.a = matrix_operand(left, g.batch);
  g.b = matrix_operand(right, g.batch);
  g.out = product.raw();
  g.device = out.device();
  local::kernels::gemm(g);
  if (!direct) out.copy_(product.permute(order));
}
DTensor multiply(const DTensor& a, const DTensor& b, std::string_view text);
std::vector<DTensor> pair_gradient(const GradientCall& g) {
  const Equation e = pair_equation(g.attribute(0).as_text());
  const DTensor& up = g.grad_output(0);
  return {g.needs(0) ? multiply(up, g.input(1), e.result + "," + e.operands[1] + "->" + e.operands[0]) : DTensor(),
          g.needs(1) ? multiply(g.input(0), up, e.operands[0] + "," + e.result + "->" + e.operands[1]) : DTensor()};
}
constexpr OpDef kPair{
    .name = "einsum_pair",
    .signature = "input, other, equation: text -> out",
    .saves = "input, other",
    .dtypes = "number",
    .shape = pair_shape,
    .rule_for = pair_rule,
    .kernel = pair_kernel,
    .gradient = pair_gradient,
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{2, 3, 5}, {2, 5, 4}}, .attributes = {{"equation", "aij,ajk->aik"}}},
                                     {.shapes = {{5, 3, 2}, {3, 2, 4}}, .attributes = {{"equation", "ijk,jkl->li"}}},
                                     {.shapes = {{5}, {4}}, .attributes = {{"equation", "i,j->ji"}}},
                                     {.shapes = {{5, 3}, {5, 3}}, .attributes = {{"equation", "ij,ij->"}}},
                                     {.shapes = {{5, 0}, {0, 3}}, .attributes = {{"equation", "ij,jk->ik"}}}};
        },
};
DTensor multiply(const DTensor& a, const DTensor& b, std::string_view text) { return call(kPair, {a, b}, {text}); }

// ---- einsum
std::string without_spaces(std::string_view text) {
  std::string s(text);
  s.erase(std::remove(s.begin(), s.end(), ' '), s.end());
  return s;
}
template <class Fail>
Labels expanded(std::string_view text, int ndim, const Fail& fail) {
  Labels labels;
  const std::size_t dots = text.find("...");
  const int named = static_cast<int>(text.size()) - (dots == std::string_view::npos ? 0 : 3);
  if (dots == std::string_view::npos ? named != ndim : named > ndim)
    fail(fmt::format("'{}' names {} dims of an operand that has {}", text, named, ndim));
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (i == dots) {
      for (int k = ndim - named; k > 0; --k) labels += static_cast<char>(k);
      i += 2;
    } else if (std::isalpha(static_cast<unsigned char>(text[i])) != 0) {
      labels += text[i];
    } else {
      fail(fmt::format("'{}' is no label", text[i]));
    }
  }
  return labels;
}
template <class Fail>
Equation parse(std::string_view given, const std::vector<Shape>& shapes, const Fail& fail) {
  const std::string text = without_spaces(given);
  const std::size_t arrow = text.find("->");
  Equation e;
  std::string left = text.substr(0, arrow);
  std::size_t from = 0;
  char dots = 0;
  for (const Shape& shape : shapes) {
    if (from > left.size()) fail(fmt::format("{} operands are given for fewer in '{}'", shapes.size(), given));
    const std::size_t comma = std::min(left.find(',', from), left.size());
    e.operands.push_back(expanded(std::string_view(left).substr(from, comma - from), shape.ndim(), fail));
    for (char c : e.operands.back())
      if (c <= kMaxDims) dots = std::max(dots, c);
    from = comma + 1;
  }
  if (from <= left.size()) fail(fmt::format("{} operands are given for more in '{}'", shapes.size(), given));
  Labels all;
  for (const Labels& o : e.operands) all += o;
  if (arrow == std::string::npos) {
    for (char k = dots; k > 0; --k) e.result += k;
    Labels once;
    for (char c : all)
      if (c > kMaxDims && std::count(all.begin(), all.end(), c) == 1) once += c;
    std::sort(once.begin(), once.end());
    e.result += once;
  } else {
    const std::string right = text.substr(arrow + 2);
    const int named = static_cast<int>(right.size()) - (right.find("...") == std::string::npos ? 0 : 3);
    e.result = expanded(right, right.find("...") == std::string::npos ? named : named + dots, fail);
  }
  for (std::size_t i = 0; i < e.result.size(); ++i) {
    if (!has(all, e.result[i])) fail(fmt::format("the result has label '{}', which no operand has", e.result[i]));
    if (e.result.find(e.result[i]) != i) fail(fmt::format("the result has label '{}' twice", e.result[i]));
  }
  return e;
}
template <class Fail>
std::int64_t size_of(char label, const Equation& e, const std::vector<Shape>& shapes, const Fail& fail) {
  std::int64_t size = 1;
  for (std::size_t i = 0; i < shapes.size(); ++i)
    for (std::size_t d = 0; d < e.operands[i].size(); ++d) {
      if (e.operands[i][d] != label || shapes[i][d] == 1) continue;
      if (size != 1 && size != shapes[i][d])
        fail(fmt::format("label '{}' has sizes {} and {}; equal sizes or 1 are wanted",
                         label <= kMaxDims ? std::string("...") : std::string(1, label), size, shapes[i][d]));
      size = shapes[i][d];
    }
  return size;
}

// Main diagonal of two dims, as one: the mask keeps what lies off it, NaN included, out of the sum.
DTensor diagonal_of(const DTensor& x, int first, int second) {
  Shape shape = Shape::filled(x.ndim(), 1);
  shape[first] = shape[second] = x.shape()[first];
  const DTensor mask = reshape(eye(x.shape()[first], x.shape()[first], x.mesh(), {}, {.dtype = Dtype::boolean}), shape);
  return sum(where(mask, x, 0), second, {.keepdim = false, .dtype = x.dtype()});
}
struct Term {
  DTensor tensor;
  Labels labels;
};
// One dim per label, no dim that broadcasts, none that only this term has and the result lacks.
Term simplified(DTensor x, Labels labels, const Equation& e, const std::vector<Shape>& shapes, const Labels& needed) {
  const auto never = [](const std::string&) {};
  for (std::size_t i = 0; i < labels.size(); ++i)
    for (std::size_t j = labels.size(); j-- > i + 1;)
      if (labels[j] == labels[i]) {
        x = diagonal_of(x, static_cast<int>(i), static_cast<int>(j));
        labels.erase(j, 1);
      }
  for (std::size_t i = labels.size(); i-- > 0;)
    if (x.shape()[i] == 1 && size_of(labels[i], e, shapes, never) != 1) {
      x = squeeze(x, static_cast<int>(i));
      labels.erase(i, 1);
    }
  std::vector<int> alone;
  Labels kept;
  for (std::size_t i = 0; i < labels.size(); ++i) {
    if (has(needed, labels[i])) kept += labels[i];
    else alone.push_back(static_cast<int>(i));
  }
  // A single operand is summed as sum() does, integers in i64.
  ReduceOptions options{.keepdim = false, .dtype = x.dtype()};
  if (shapes.size() == 1) options.dtype.reset();
  if (!alone.empty()) x = sum(x, std::span<const int>(alone), options);
  return {x, kept};
}
DTensor ordered(const DTensor& x, const Labels& labels, const Labels& wanted) {
  if (labels == wanted) return x;
  Shape order;
  for (char c : wanted) order.push_back(static_cast<std::int64_t>(labels.find(c)));
  return permute(x, order);
}
// Labels that the result or a term besides a and b needs.
Labels needed_besides(const std::vector<Term>& terms, std::size_t a, std::size_t b, const Labels& result) {
  Labels needed = result;
  for (std::size_t i = 0; i < terms.size(); ++i)
    if (i != a && i != b) needed += terms[i].labels;
  return needed;
}
Labels product_labels(const Term& a, const Term& b, const Labels& needed) {
  Labels both;
  for (char c : a.labels + b.labels)
    if (has(needed, c) && !has(both, c)) both += c;
  return both;
}
// The cheapest pair first: the one with the smallest product.
void contract(std::vector<Term>& terms, const Labels& result) {
  std::size_t best_a = 0, best_b = 1;
  double best = -1;
  for (std::size_t a = 0; a < terms.size(); ++a)
    for (std::size_t b = a + 1; b < terms.size(); ++b) {
      const Labels made = product_labels(terms[a], terms[b], needed_besides(terms, a, b, result));
      double size = 1;
      for (char c : made)
        size *= static_cast<double>(has(terms[a].labels, c) ? terms[a].tensor.shape()[terms[a].labels.find(c)]
                                                            : terms[b].tensor.shape()[terms[b].labels.find(c)]);
      if (best < 0 || size < best) best = size, best_a = a, best_b = b;
    }
  Term &a = terms[best_a], &b = terms[best_b];
  const Labels needed = needed_besides(terms, best_a, best_b, result);
  const Labels made = terms.size() == 2 ? result : product_labels(a, b, needed);
  a = {multiply(a.tensor, b.tensor, a.labels + "," + b.labels + "->" + made), made};
  terms.erase(terms.begin() + static_cast<std::ptrdiff_t>(best_b));
}
Results einsum_decomposed(const DecomposeCall& c) {
  std::vector<Shape> shapes;
  for (const DTensor* input : c.inputs) shapes.push_back(input->shape());
  const Equation e = parse(c.attribute(0).as_text(), shapes, [](const std::string&) {});
  std::vector<Term> terms;
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    Labels needed = e.result;
    for (std::size_t k = 0; k < shapes.size(); ++k)
      for (std::size_t d = 0; k != i && d < shapes[k].size(); ++d)
        if (shapes[k][d] != 1 || size_of(e.operands[k][d], e, shapes, [](const std::string&) {}) == 1) needed += e.operands[k][d];
    terms.push_back(simplified(*c.inputs[i], e.operands[i], e, shapes, needed));
  }
  while (terms.size() > 1) contract(terms, e.result);
  return {ordered(terms[0].tensor, terms[0].labels, e.result)};
}
void einsum_shape(ShapeCall& s) {
  if (s.num_inputs() == 0) s.fail("the list of operands is empty; give at least one");
  std::vector<Shape> shapes;
  for (int i = 0; i < s.num_inputs(); ++i) {
    shapes.push_back(s.input(i).shape);
    if (s.input(i).dtype != s.input(0).dtype) s.fail(fmt::format("dtypes differ ({}, {}); convert one with to()", s.describe(0), s.describe(i)));
  }
  const auto fail = [&](const std::string& text) { s.fail(fmt::format("{} (equation \"{}\")", text, s.attribute(0).as_text())); };
  const Equation e = parse(s.attribute(0).as_text(), shapes, fail);
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    for (std::size_t d = 0; d < e.operands[i].size(); ++d) {
      size_of(e.operands[i][d], e, shapes, fail);
      const std::size_t first = e.operands[i].find(e.operands[i][d]);
      if (shapes[i][first] != shapes[i][d])
        fail(fmt::format("label '{}' has sizes {} and {} in one operand", e.operands[i][d], shapes[i][first], shapes[i][d]));
    }
  }
  TensorType out{{}, s.input(0).dtype};
  for (char c : e.result) out.shape.push_back(size_of(c, e, shapes, fail));
  const bool sums = std::any_of(e.operands[0].begin(), e.operands[0].end(), [&](char c) { return !has(e.result, c); });
  if (shapes.size() == 1 && sums && info(out.dtype).integral) out.dtype = Dtype::i64;
  s.output(0) = out;
}
constexpr OpDef kEinsum = ops::composite("einsum", "operands[], equation: text -> out", "number", einsum_shape, einsum_decomposed, [] {
  const auto sample = [](std::vector<Shape> shapes, std::string equation) {
    return Sample{.shapes = std::move(shapes), .attributes = {{"equation", std::move(equation)}}};
  };
  return std::vector<Sample>{sample({{2, 3, 5}, {5, 4}}, "aij,jk->aik"),
                             sample({{2, 3, 4}, {2, 5, 4}}, "bqd,bkd->bqk"),
                             sample({{3, 5}}, "i...->..."),
                             sample({{2, 3, 4}, {2, 5}}, "...ik, ...j -> ij"),
                             sample({{5, 5}}, "ii->i"),
                             sample({{4, 4, 3}}, "iij->j"),
                             sample({{7}, {7}}, "i,i"),
                             sample({{2, 3}, {3, 4}, {4, 5}}, "ij,jk,kl->il"),
                             sample({{1, 3}, {4, 3}}, "ij,ij->i"),
                             sample({{3, 0}, {0, 2}}, "ij,jk")};
});

constexpr std::array<const OpDef*, 2> kOps{&kEinsum, &kPair};

}  // namespace

namespace ops {
OpList einsum_ops() { return kOps; }
}  // namespace ops

DTensor einsum(std::string_view equation, std::span<const DTensor> operands) {
  std::vector<Input> inputs(operands.begin(), operands.end());
  const Attribute attributes[1] = {equation};
  return call_all(kEinsum, inputs, attributes)[0];
}
DTensor einsum(std::string_view equation, std::initializer_list<DTensor> operands) {
  return einsum(equation, std::span<const DTensor>(operands.begin(), operands.size()));
}

}  // namespace dtensor
