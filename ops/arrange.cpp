// SPDX-License-Identifier: Apache-2.0
#include "dtensor/ops/arrange.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <optional>

#include <fmt/format.h>

#include "dtensor/error.h"
#include "dtensor/op.h"
#include "dtensor/ops/binary.h"
#include "dtensor/ops/compare.h"
#include "dtensor/ops/embedding.h"
#include "dtensor/ops/factories.h"
#include "dtensor/ops/pointwise.h"
#include "dtensor/ops/views.h"
#include "local/kernels/arrange.h"
#include "ops/families.h"
#include "ops/reduction_rules.h"
#include "ops/view_rules.h"
#include "tensor/impl.h"
#include "tensor/state.h"

namespace dtensor {
namespace {

using Positions = std::vector<std::vector<std::int64_t>>;

// Every element where it is.
Positions in_place(const Shape& shape) {
  Positions lists(shape.size());
  for (int d = 0; d < shape.ndim(); ++d) {
    auto& list = lists[static_cast<std::size_t>(d)];
    list.resize(static_cast<std::size_t>(shape[d]));
    std::iota(list.begin(), list.end(), std::int64_t{0});
  }
  return lists;
}

// A dimension that is read in another order: its window, "" where it passes.
using WindowOf = std::string;
// d0 r1 ...: dimensions with a window have a name of their own in the result.
std::string window_rule(const std::vector<WindowOf>& windows, std::string_view flags) {
  std::string from, to, clauses;
  for (std::size_t d = 0; d < windows.size(); ++d) {
    from += fmt::format("{}d{}", d == 0 ? "" : " ", d);
    to += fmt::format("{}{}{}", d == 0 ? "" : " ", windows[d].empty() ? 'd' : 'r', d);
    if (!windows[d].empty()) clauses += windows[d] + "; ";
  }
  if (windows.empty()) from = to = "()";
  clauses += flags;
  if (clauses.ends_with("; ")) clauses.resize(clauses.size() - 2);
  return fmt::format("{} -> {}    {}", from, to, clauses);
}
std::string window_of(int dim, const ops::WindowText& map) { return ops::window(fmt::format("d{}", dim), fmt::format("r{}", dim), map); }

// Where this rank finds the elements of its part of the result: source(dim, global index) -> global index, along the listed dims.
template <class F>
Positions sources_of(const KernelCall& call, const Shape& dims, const F& source) {
  Positions lists = in_place(call.output(0).shape());
  for (std::int64_t dim : dims) {
    const int d = static_cast<int>(dim);
    for (std::int64_t& i : lists[static_cast<std::size_t>(d)]) {
      const std::int64_t from = source(d, call.output_place(0).to_global(d, i));
      i = from < 0 ? local::cpu::kFill : call.input_place(0).to_local(d, from);
    }
  }
  return lists;
}

// ---- flip
Shape flipped_dims(const ShapeCall& s) { return s.attribute(0).as_list().empty() ? Shape() : ops::checked_dims(s, s.attribute(0)); }
Shape flipped_dims(const KernelCall& call) {
  return call.attribute(0).as_list().empty() ? Shape() : ops::normal_dims(call.attribute(0), call.input(0).ndim());
}
std::string flip_rule(const ShapeCall& s) {
  const Shape& shape = s.input(0).shape;
  std::vector<WindowOf> windows(shape.size());
  for (std::int64_t d : flipped_dims(s))
    if (const std::int64_t n = shape[static_cast<int>(d)]; n > 1)
      windows[static_cast<std::size_t>(d)] = window_of(static_cast<int>(d), {.num = -1, .low = n - 1, .high = n - 1});
  return window_rule(windows, "linear; monotone");
}
void flip_kernel(const KernelCall& call) {
  const Shape& global = call.output_place(0).global;
  const auto mirror = [&](int d, std::int64_t i) { return global[d] - 1 - i; };
  local::kernels::take_grid(call.input(0), sources_of(call, flipped_dims(call), mirror), 0, call.output(0));
}
constexpr OpDef kFlip{
    .name = "flip",
    .signature = "input, dims: int[] -> out",
    .shape =
        [](ShapeCall& s) {
          flipped_dims(s);
          s.output(0) = s.input(0);
        },
    .rule_for = flip_rule,
    .kernel = flip_kernel,
    .gradient = [](const GradientCall& g) -> std::vector<DTensor> { return {flip(g.grad_output(0), g.attribute(0).as_shape())}; },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 7}}, .attributes = {{"dims", "[0]"}}},
                                     {.shapes = {{3, 2, 4}}, .attributes = {{"dims", "[-1, 0]"}}},
                                     {.shapes = {{0, 3}}, .attributes = {{"dims", "[1]"}}},
                                     {.shapes = {{4}}, .attributes = {{"dims", "[]"}}}};
        },
};

// ---- roll
void roll_shape(ShapeCall& s) {
  const auto shifts = s.attribute(0).as_list(), dims = s.attribute(1).as_list();
  if (dims.empty() ? shifts.size() != 1 : shifts.size() != dims.size())
    s.fail(fmt::format("shifts and dims do not pair ({} and {}); give one shift per dim, or one shift and no dims",
                       to_string(s.attribute(0).as_shape()), to_string(s.attribute(1).as_shape())));
  const int n = std::max(s.input(0).shape.ndim(), 1);
  for (std::int64_t d : dims)
    if (d < -n || d >= n) s.fail(fmt::format("dim {} is out of range ({}); give {} .. {}", d, s.describe(0), -n, n - 1));
  s.output(0) = s.input(0);
}
// What each dimension is rolled by, in [0, size); none for a tensor that is rolled as if it were flat.
std::optional<Shape> rolled_by(const Attribute& shifts, const Attribute& dims, const Shape& global) {
  const int n = global.ndim();
  const auto by = shifts.as_list(), at = dims.as_list();
  if (at.empty() && n > 1) return std::nullopt;
  Shape total = Shape::filled(n, 0);
  for (std::size_t k = 0; k < by.size() && n > 0; ++k) {
    const int d = at.empty() ? 0 : static_cast<int>(at[k] < 0 ? at[k] + n : at[k]);
    if (global[d] > 0) total[d] = ((total[d] + by[k]) % global[d] + global[d]) % global[d];
  }
  return total;
}
std::string roll_rule(const ShapeCall& s) {
  const Shape& shape = s.input(0).shape;
  const auto shifts = rolled_by(s.attribute(0), s.attribute(1), shape);
  if (!shifts) {
    const std::string all = ops::names(shape.ndim());
    Shape dims;
    for (int d = 0; d < shape.ndim(); ++d) dims.push_back(d);
    return fmt::format("{} -> {}    {}; linear; monotone", all, all, ops::clause(dims, "whole"));
  }
  std::vector<WindowOf> windows(shape.size());
  for (int d = 0; d < shape.ndim(); ++d)
    if ((*shifts)[d] != 0) windows[static_cast<std::size_t>(d)] = window_of(d, {.low = -(*shifts)[d], .high = -(*shifts)[d], .wrap = true});
  return window_rule(windows, "linear; monotone");
}
void roll_kernel(const KernelCall& call) {
  const Tensor &in = call.input(0), &out = call.output(0);
  const Shape& global = call.output_place(0).global;
  const auto shifts = rolled_by(call.attribute(0), call.attribute(1), global);
  if (!shifts) {
    const std::int64_t n = in.numel();
    if (n == 0) return;
    const std::int64_t shift = ((call.attribute(0).as_list()[0] % n) + n) % n;
    const Tensor from = in.reshape({n}), to = out.view({n});
    to.narrow(0, shift, n - shift).copy_(from.narrow(0, 0, n - shift));
    to.narrow(0, 0, shift).copy_(from.narrow(0, n - shift, shift));
    return;
  }
  Shape dims;
  for (int d = 0; d < global.ndim(); ++d)
    if ((*shifts)[d] != 0) dims.push_back(d);
  const auto back = [&](int d, std::int64_t i) { return (i - (*shifts)[d] + global[d]) % global[d]; };
  local::kernels::take_grid(in, sources_of(call, dims, back), 0, out);
}
std::vector<DTensor> roll_gradient(const GradientCall& g) {
  Shape back = g.attribute(0).as_shape();
  for (std::int64_t& shift : back) shift = -shift;
  return {roll(g.grad_output(0), back, g.attribute(1).as_shape())};
}
// Rolled as if it were flat: each dim by its digit of the shift, and by one more where the dims after it are short of it.
Results roll_by_digits(const DecomposeCall& c) {
  DTensor x = c.input(0), carry;
  if (x.numel() == 0) return {roll(x, {0}, {0})};
  std::int64_t left = c.attribute(0).as_list()[0];
  for (int d = x.ndim(); d-- > 0;) {
    const std::int64_t n = x.shape()[d], digit = ((left % n) + n) % n;
    left = (left - digit) / n;
    Shape line = Shape::filled(x.ndim(), 1);
    line[d] = n;
    const DTensor places = reshape(arange(n, x.mesh(), {}, {.dtype = Dtype::i64}), line);
    const DTensor plain = roll(x, {digit}, {d});
    x = carry ? where(carry, roll(x, {digit + 1}, {d}), plain) : plain;
    carry = carry ? where(carry, le(places, digit), lt(places, digit)) : lt(places, digit);
  }
  return {x};
}
constexpr OpDef kRoll{
    .name = "roll",
    .signature = "input, shifts: int[], dims: int[] = [] -> out",
    .shape = roll_shape,
    .rule_for = roll_rule,
    .kernel = roll_kernel,
    .gradient = roll_gradient,
    .decompose = roll_by_digits,
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 7}}, .attributes = {{"shifts", "[2]"}, {"dims", "[1]"}}},
                                     {.shapes = {{3, 4}}, .attributes = {{"shifts", "[1, -9]"}, {"dims", "[0, -1]"}}},
                                     {.shapes = {{2, 3}}, .attributes = {{"shifts", "[4]"}}},
                                     {.shapes = {{5, 2, 3}}, .attributes = {{"shifts", "[-8]"}}},
                                     {.shapes = {{0, 2}}, .attributes = {{"shifts", "[1]"}, {"dims", "[0]"}}},
                                     {.shapes = {{3, 0}}, .attributes = {{"shifts", "[1]"}}},
                                     {.shapes = {{}}, .attributes = {{"shifts", "[1]"}}}};
        },
};

// ---- pad
// Elements before and after dimension `dim` of `ndim`.
std::array<std::int64_t, 2> padding_of(std::span<const std::int64_t> pad, int ndim, int dim) {
  const auto k = 2 * static_cast<std::size_t>(ndim - 1 - dim);
  return k + 1 < pad.size() ? std::array{pad[k], pad[k + 1]} : std::array<std::int64_t, 2>{0, 0};
}
void pad_shape(ShapeCall& s) {
  const auto pad = s.attribute(0).as_list();
  const int n = s.input(0).shape.ndim();
  if (pad.size() % 2 != 0 || pad.size() > 2 * static_cast<std::size_t>(n))
    s.fail(fmt::format("pad {} does not fit {}; give two numbers per dim, the last dim first", to_string(s.attribute(0).as_shape()), s.describe(0)));
  if (s.attribute(1).as_text() != "constant") s.fail(fmt::format("mode '{}' is unknown; use 'constant'", s.attribute(1).as_text()));
  TensorType out = s.input(0);
  for (int d = 0; d < n; ++d) {
    const auto [before, after] = padding_of(pad, n, d);
    out.shape[d] += before + after;
    if (out.shape[d] < 0) s.fail(fmt::format("pad {} cuts more than dim {} of {} has", to_string(s.attribute(0).as_shape()), d, s.describe(0)));
  }
  s.output(0) = out;
}
// A constant other than 0 is not linear.
std::string pad_rule(const ShapeCall& s) {
  const int n = s.input(0).shape.ndim();
  std::vector<WindowOf> windows(static_cast<std::size_t>(n));
  for (int d = 0; d < n; ++d) {
    const auto [before, after] = padding_of(s.attribute(0).as_list(), n, d);
    if (before != 0 || after != 0) windows[static_cast<std::size_t>(d)] = window_of(d, {.low = -before, .high = -before});
  }
  return window_rule(windows, s.attribute(2).is_none() ? "linear" : "");
}
void pad_kernel(const KernelCall& call) {
  const Shape& global = call.input_place(0).global;
  const auto list = call.attribute(0).as_list();
  Shape dims;
  for (int d = 0; d < global.ndim(); ++d) {
    const auto [before, after] = padding_of(list, global.ndim(), d);
    if (before != 0 || after != 0) dims.push_back(d);
  }
  const auto source = [&](int d, std::int64_t i) {
    const std::int64_t from = i - padding_of(list, global.ndim(), d)[0];
    return from < global[d] ? from : local::cpu::kFill;
  };
  const Scalar fill = call.attribute(2).is_none() ? Scalar(0) : call.attribute(2).scalar();
  local::kernels::take_grid(call.input(0), sources_of(call, dims, source), fill, call.output(0));
}
std::vector<DTensor> pad_gradient(const GradientCall& g) {
  Shape back = g.attribute(0).as_shape();
  for (std::int64_t& n : back) n = -n;
  return {pad(g.grad_output(0), back)};
}
constexpr OpDef kPad{
    .name = "pad",
    .signature = "input, pad: int[], mode: text = constant, value: number? = none -> out",
    .shape = pad_shape,
    .rule_for = pad_rule,
    .kernel = pad_kernel,
    .gradient = pad_gradient,
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 7}}, .attributes = {{"pad", "[1, 2]"}}},
                                     {.shapes = {{3, 4}}, .attributes = {{"pad", "[-1, 2, 0, -1]"}, {"value", "1.5"}}},
                                     {.shapes = {{0, 2}}, .attributes = {{"pad", "[0, 1]"}}},
                                     {.shapes = {{5}}, .attributes = {{"pad", "[-1, -2]"}}}};
        },
};

// ---- diagonal and its gradient
struct Diagonal {
  int dim1, dim2;
  std::int64_t offset, length;
};
Diagonal diagonal_of(const Shape& shape, const Attribute& offset, const Attribute& dim1, const Attribute& dim2, std::string_view op) {
  Diagonal d{normalize_dim(static_cast<int>(dim1.as_int()), shape.ndim(), op), normalize_dim(static_cast<int>(dim2.as_int()), shape.ndim(), op),
             offset.as_int(), 0};
  if (d.dim1 == d.dim2) throw InvalidArgument(fmt::format("{}: dim1 and dim2 are both dim {} of {}; give two dims", op, d.dim1, to_string(shape)));
  const std::int64_t rows = shape[d.dim1] + std::min<std::int64_t>(d.offset, 0), columns = shape[d.dim2] - std::max<std::int64_t>(d.offset, 0);
  d.length = std::max<std::int64_t>(0, std::min(rows, columns));
  return d;
}
// The operand with the two dims, and the one with the diagonal last.
struct DiagonalDims {
  std::string matrix, line;
  DiagonalDims(int ndim, const Diagonal& g) {
    for (int d = 0; d < ndim; ++d) {
      matrix += fmt::format("{}d{}", d == 0 ? "" : " ", d);
      if (d != g.dim1 && d != g.dim2) line += fmt::format("d{} ", d);
    }
    line += "v";
  }
};
// Of the two dims and the diagonal, where element 0 of the diagonal lies in them.
std::int64_t diagonal_start(const Diagonal& g, int dim) {
  return dim == g.dim1 ? std::max<std::int64_t>(0, -g.offset) : std::max<std::int64_t>(0, g.offset);
}
// One of the two dims may be split, and the diagonal with it.
std::string diagonal_rule(int ndim, const Diagonal& g) {
  const DiagonalDims text(ndim, g);
  if (g.length == 0) return fmt::format("{} -> {}    d{}, d{}, v: whole; linear; monotone", text.matrix, text.line, g.dim1, g.dim2);
  std::string rule;
  for (const auto [split, whole] : {std::array{g.dim1, g.dim2}, std::array{g.dim2, g.dim1}}) {
    const std::int64_t start = diagonal_start(g, split);
    rule += fmt::format("{}{} -> {}    {}; d{}: whole; linear; monotone", rule.empty() ? "" : " | ", text.matrix, text.line,
                        ops::window(fmt::format("d{}", split), "v", {.low = start, .high = start}), whole);
  }
  return rule;
}
std::string diagonal_backward_rule(int ndim, const Diagonal& g) {
  const DiagonalDims text(ndim, g);
  if (g.length == 0) return fmt::format("{} -> {}    d{}, d{}, v: whole; linear", text.line, text.matrix, g.dim1, g.dim2);
  std::string rule;
  for (const auto [split, whole] : {std::array{g.dim1, g.dim2}, std::array{g.dim2, g.dim1}}) {
    const std::int64_t start = diagonal_start(g, split);
    rule += fmt::format("{}{} -> {}    {}; d{}: whole; linear", rule.empty() ? "" : " | ", text.line, text.matrix,
                        ops::window("v", fmt::format("d{}", split), {.low = -start, .high = -start}), whole);
  }
  return rule;
}
// The diagonal, of `shape`, from local element (row, column) of the two dims on.
Tensor diagonal_view(const Tensor& in, const Diagonal& g, std::int64_t row, std::int64_t column, const Shape& shape) {
  Shape strides;
  for (int d = 0; d < in.ndim(); ++d)
    if (d != g.dim1 && d != g.dim2) strides.push_back(in.strides()[d]);
  strides.push_back(in.strides()[g.dim1] + in.strides()[g.dim2]);
  const std::int64_t at = shape.numel() == 0 ? 0 : row * in.strides()[g.dim1] + column * in.strides()[g.dim2];
  return in.as_strided(shape, strides, in.offset() + at);
}
Diagonal diagonal_at(const ShapeCall& s) { return diagonal_of(s.input(0).shape, s.attribute(0), s.attribute(1), s.attribute(2), "diagonal"); }
void diagonal_shape(ShapeCall& s) {
  const Diagonal g = diagonal_at(s);
  TensorType out{{}, s.input(0).dtype};
  for (int d = 0; d < s.input(0).shape.ndim(); ++d)
    if (d != g.dim1 && d != g.dim2) out.shape.push_back(s.input(0).shape[d]);
  out.shape.push_back(g.length);
  s.output(0) = out;
}
// A view, of rows that are fetched where the parts of the diagonal are not those of the split dim.
constexpr OpDef kDiagonalOfRows{
    .name = "diagonal_of_rows",
    .signature = "input, offset: int = 0, dim1: int = 0, dim2: int = 1 -> view(input)",
    .shape = diagonal_shape,
    .rule_for = [](const ShapeCall& s) { return diagonal_rule(s.input(0).shape.ndim(), diagonal_at(s)); },
    .kernel =
        [](const KernelCall& call) {
          const Place& from = call.input_place(0);
          const Diagonal g = diagonal_of(from.global, call.attribute(0), call.attribute(1), call.attribute(2), "diagonal");
          const std::int64_t first = call.output_place(0).begin(static_cast<int>(call.output_shape(0).size()) - 1);
          call.set_output(0, diagonal_view(call.input(0), g, first + diagonal_start(g, g.dim1) - from.begin(g.dim1),
                                           first + diagonal_start(g, g.dim2) - from.begin(g.dim2), call.output_shape(0)));
        },
};
// Whether the parts of `dim`, in one split of chunks, are also those of the diagonal.
bool parts_are_same(const DTensor& x, const Diagonal& g, int dim) {
  const placements::Layout& layout = *x.impl()->spec->layout;
  const auto& splits = layout.dims[static_cast<std::size_t>(dim)];
  if (splits.empty()) return true;
  if (g.length == 0) return true;
  if (splits.size() > 1 || splits[0].pieces != 1 || !splits[0].sizes.empty()) return false;
  const std::int64_t ranks = layout.mesh_sizes[static_cast<std::size_t>(splits[0].axes[0])];
  return diagonal_start(g, dim) == 0 && (x.shape()[dim] + ranks - 1) / ranks == (g.length + ranks - 1) / ranks;
}
// Every rank takes the element of each of its rows; of these the diagonal is a slice, so that no rows move.
Results split_diagonal(const DecomposeCall& c) {
  const DTensor& x = c.input(0);
  const Diagonal g = diagonal_of(x.shape(), c.attribute(0), c.attribute(1), c.attribute(2), "diagonal");
  const int split = x.impl()->spec->layout->dims[static_cast<std::size_t>(g.dim1)].empty() ? g.dim2 : g.dim1, whole = g.dim1 + g.dim2 - split;
  const bool both = !x.impl()->spec->layout->dims[static_cast<std::size_t>(whole)].empty();
  if (both || parts_are_same(x, g, split)) return {call(kDiagonalOfRows, {x}, {c.attribute(0), c.attribute(1), c.attribute(2)})};
  const tensor::Inserted inserted("diagonal");
  const std::int64_t n = x.shape()[split], start = diagonal_start(g, split), first = diagonal_start(g, whole) - start;
  Shape line = Shape::filled(x.ndim(), 1), each = x.shape();
  line[split] = n;
  each[whole] = 1;
  const DTensor at = clamp(arange(first, first + n, 1, x.mesh(), {}, {.dtype = Dtype::i64}), {.min = 0, .max = x.shape()[whole] - 1});
  const DTensor rows = squeeze(gather(x, whole, expand(reshape(at, line), each)), whole);
  const DTensor result = slice(movedim(rows, split > whole ? split - 1 : split, -1), -1, start, start + g.length);
  result.impl()->copied_view = true;
  return {result};
}
std::vector<DTensor> diagonal_gradient(const GradientCall& g);
constexpr OpDef kDiagonal{
    .name = "diagonal",
    .signature = "input, offset: int = 0, dim1: int = 0, dim2: int = 1 -> view(input)",
    .shape = diagonal_shape,
    .rule_for =
        [](const ShapeCall& s) {
          const Diagonal g = diagonal_at(s);
          const DiagonalDims text(s.input(0).shape.ndim(), g);
          return fmt::format("{} -> {}    d{}, d{}, v: whole; linear; monotone", text.matrix, text.line, g.dim1, g.dim2);
        },
    .kernel = kDiagonalOfRows.kernel,
    .gradient = diagonal_gradient,
    .decompose = split_diagonal,
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 7}}, .attributes = {{"offset", "1"}}},
                                     {.shapes = {{3, 2, 4}}, .attributes = {{"offset", "-1"}, {"dim1", "-1"}, {"dim2", "0"}}},
                                     {.shapes = {{3, 3}}, .attributes = {{"offset", "5"}}},
                                     {.shapes = {{0, 2}}}};
        },
};

void diagonal_backward_shape(ShapeCall& s) {
  const Shape shape = s.attribute(0).as_shape();
  const Diagonal g = diagonal_of(shape, s.attribute(1), s.attribute(2), s.attribute(3), "diagonal_backward");
  if (s.input(0).shape.ndim() + 1 != shape.ndim() || s.input(0).shape.back() != g.length)
    s.fail(fmt::format("{} is no diagonal of {}; give the shape of the input of diagonal", s.describe(0), to_string(shape)));
  s.output(0) = {.shape = shape, .dtype = s.input(0).dtype};
}
constexpr OpDef kDiagonalBackward{
    .name = "diagonal_backward",
    .signature = "grad, shape: int[], offset: int = 0, dim1: int = 0, dim2: int = 1 -> out",
    .shape = diagonal_backward_shape,
    .rule_for =
        [](const ShapeCall& s) {
          const Shape shape = s.attribute(0).as_shape();
          return diagonal_backward_rule(shape.ndim(), diagonal_of(shape, s.attribute(1), s.attribute(2), s.attribute(3), "diagonal_backward"));
        },
    .kernel =
        [](const KernelCall& call) {
          const Tensor& out = call.output(0);
          out.fill_(0);
          const Place &to = call.output_place(0), &from = call.input_place(0);
          const Diagonal g = diagonal_of(to.global, call.attribute(1), call.attribute(2), call.attribute(3), "diagonal_backward");
          const int last = call.input(0).ndim() - 1;
          // Of the elements that are here, those that lie in this part.
          const auto starts = std::array{diagonal_start(g, g.dim1) - to.begin(g.dim1), diagonal_start(g, g.dim2) - to.begin(g.dim2)};
          const std::int64_t here = from.begin(last), begin = std::max({here, -starts[0], -starts[1]});
          const std::int64_t end = std::min({here + call.input(0).shape()[last], out.shape()[g.dim1] - starts[0], out.shape()[g.dim2] - starts[1]});
          if (begin >= end) return;
          const Tensor source = call.input(0).narrow(last, begin - here, end - begin);
          diagonal_view(out, g, begin + starts[0], begin + starts[1], source.shape()).copy_(source);
        },
    .gradient = [](const GradientCall& g) -> std::vector<DTensor> {
      return {call(kDiagonal, {g.grad_output(0)}, {g.attribute(1), g.attribute(2), g.attribute(3)})};
    },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{3, 4}}, .attributes = {{"shape", "[5, 3, 5]"}, {"offset", "1"}, {"dim1", "0"}, {"dim2", "2"}}},
                                     {.shapes = {{0}}, .attributes = {{"shape", "[3, 0]"}}}};
        },
};
std::vector<DTensor> diagonal_gradient(const GradientCall& g) {
  return {call(kDiagonalBackward, {g.grad_output(0)}, {g.input_type(0).shape, g.attribute(0), g.attribute(1), g.attribute(2)})};
}

// ---- unfold and its gradient
struct Windows {
  int dim;
  std::int64_t size, step, count;
};
Windows windows_of(const ShapeCall& s, const Shape& shape, int first) {
  Windows w{normalize_dim(static_cast<int>(s.attribute(first).as_int()), shape.ndim(), "unfold"), s.attribute(first + 1).as_int(),
            s.attribute(first + 2).as_int(), 0};
  if (w.size < 0 || w.size > shape[w.dim] || w.step < 1)
    s.fail(fmt::format("windows of {} elements, {} apart, do not fit dim {} of {}; sizes are 0 to {}, steps at least 1", w.size, w.step, w.dim,
                       to_string(shape), shape[w.dim]));
  w.count = (shape[w.dim] - w.size) / w.step + 1;
  return w;
}
std::string windows_text(int ndim, int dim) {
  std::string text;
  for (int d = 0; d < ndim; ++d) text += d == dim ? "w " : fmt::format("d{} ", d);
  return text + "e";
}
std::vector<DTensor> unfold_gradient(const GradientCall& g);
constexpr OpDef kUnfold{
    .name = "unfold",
    .signature = "input, dimension: int, size: int, step: int -> view(input)",
    .shape =
        [](ShapeCall& s) {
          const Windows w = windows_of(s, s.input(0).shape, 0);
          TensorType out = s.input(0);
          out.shape[w.dim] = w.count;
          out.shape.push_back(w.size);
          s.output(0) = out;
        },
    .rule_for =
        [](const ShapeCall& s) {
          const int n = s.input(0).shape.ndim(), dim = windows_of(s, s.input(0).shape, 0).dim;
          const Windows w = windows_of(s, s.input(0).shape, 0);
          const std::string window = ops::window(fmt::format("d{}", dim), "w", {.num = w.step, .low = 0, .high = w.size - 1});
          return fmt::format("{} -> {}    {}e: whole; linear; monotone", ops::names(n), windows_text(n, dim),
                             w.size == 0 ? fmt::format("d{}, w, ", dim) : window + "; ");
        },
    .kernel =
        [](const KernelCall& call) {
          const Tensor& in = call.input(0);
          const int dim = normalize_dim(static_cast<int>(call.attribute(0).as_int()), in.ndim(), "unfold");
          Shape strides = in.strides();
          strides.push_back(strides[dim]);
          strides[dim] *= call.attribute(2).as_int();
          const std::int64_t first = call.output_place(0).begin(dim) * call.attribute(2).as_int() - call.input_place(0).begin(dim);
          const std::int64_t skipped = call.output_shape(0).numel() == 0 ? 0 : first * in.strides()[dim];
          call.set_output(0, in.as_strided(call.output_shape(0), strides, in.offset() + skipped));
        },
    .gradient = unfold_gradient,
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 7}}, .attributes = {{"dimension", "1"}, {"size", "3"}, {"step", "2"}}},
                                     {.shapes = {{7, 2}}, .attributes = {{"dimension", "0"}, {"size", "2"}, {"step", "1"}}},
                                     {.shapes = {{2, 0}}, .attributes = {{"dimension", "1"}, {"size", "0"}, {"step", "1"}}}};
        },
};
constexpr OpDef kUnfoldBackward{
    .name = "unfold_backward",
    .signature = "grad, shape: int[], dimension: int, size: int, step: int -> out",
    .dtypes = "number",
    .shape =
        [](ShapeCall& s) {
          windows_of(s, s.attribute(0).as_shape(), 1);
          s.output(0) = {.shape = s.attribute(0).as_shape(), .dtype = s.input(0).dtype};
        },
    .rule_for =
        [](const ShapeCall& s) {
          const Shape shape = s.attribute(0).as_shape();
          const int dim = windows_of(s, shape, 1).dim;
          const Windows w = windows_of(s, shape, 1);
          const std::string window = ops::window("w", fmt::format("d{}", dim), {.low = w.step - w.size, .high = 0, .den = w.step});
          return fmt::format("{} -> {}    {}e: whole; linear", windows_text(shape.ndim(), dim), ops::names(shape.ndim()),
                             w.size == 0 ? fmt::format("d{}, w, ", dim) : window + "; ");
        },
    .kernel =
        [](const KernelCall& call) {
          const int dim = normalize_dim(static_cast<int>(call.attribute(1).as_int()), call.output(0).ndim(), "unfold");
          const std::int64_t step = call.attribute(3).as_int(), first = call.input_place(0).begin(dim) * step - call.output_place(0).begin(dim);
          local::kernels::add_windows(call.input(0), dim, step, first, call.output(0));
        },
    .gradient = [](const GradientCall& g) -> std::vector<DTensor> {
      return {call(kUnfold, {g.grad_output(0)}, {g.attribute(1), g.attribute(2), g.attribute(3)})};
    },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 3, 3}}, .attributes = {{"shape", "[5, 7]"}, {"dimension", "1"}, {"size", "3"}, {"step", "2"}}}};
        },
};
std::vector<DTensor> unfold_gradient(const GradientCall& g) {
  return {call(kUnfoldBackward, {g.grad_output(0)}, {g.input_type(0).shape, g.attribute(0), g.attribute(1), g.attribute(2)})};
}

constexpr std::array<const OpDef*, 7> kOps{&kFlip, &kRoll, &kPad, &kDiagonal, &kDiagonalBackward, &kUnfold, &kUnfoldBackward};

}  // namespace

namespace ops {
OpList arrange_ops() { return kOps; }
}  // namespace ops

DTensor flip(const DTensor& input, const Shape& dims) { return call(kFlip, {input}, {dims}); }
DTensor fliplr(const DTensor& input) { return flip(input, {1}); }
DTensor flipud(const DTensor& input) { return flip(input, {0}); }
DTensor roll(const DTensor& input, const Shape& shifts, const Shape& dims) { return call(kRoll, {input}, {shifts, dims}); }
DTensor pad(const DTensor& input, const Shape& pad, const PadOptions& options) { return call(kPad, {input}, {pad, options.mode, options.value}); }
DTensor diagonal(const DTensor& input, std::int64_t offset, int dim1, int dim2) { return call(kDiagonal, {input}, {offset, dim1, dim2}); }
DTensor unfold(const DTensor& input, int dimension, std::int64_t size, std::int64_t step) { return call(kUnfold, {input}, {dimension, size, step}); }

DTensor diag_embed(const DTensor& input, std::int64_t offset, int dim1, int dim2) {
  const int n = input.ndim() + 1, a = normalize_dim(dim1, n, "diag_embed"), b = normalize_dim(dim2, n, "diag_embed");
  if (a == b || input.ndim() == 0)
    throw InvalidArgument(fmt::format("diag_embed: dims {} and {} do not take the diagonal {}; give two dims and a tensor with one at least", dim1,
                                      dim2, to_string(input)));
  const std::int64_t side = input.shape().back() + std::abs(offset);
  Shape shape;
  for (int d = 0, from = 0; d < n; ++d) shape.push_back(d == a || d == b ? side : input.shape()[from++]);
  return call(kDiagonalBackward, {input}, {shape, offset, a, b});
}

}  // namespace dtensor
