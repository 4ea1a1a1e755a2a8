// SPDX-License-Identifier: Apache-2.0
#include "dtensor/ops/views.h"

#include <algorithm>
#include <array>

#include "dtensor/error.h"
#include "dtensor/op.h"
#include "ops/families.h"
#include "ops/reduction_rules.h"
#include "ops/view_rules.h"

namespace dtensor {
namespace {

using ops::names;

int dim_of(const ShapeCall& s, int attribute, int ndim) {
  const auto dim = s.attribute(attribute).as_int();
  if (dim < -ndim || dim >= ndim)
    s.fail("dim " + std::to_string(dim) + " is out of range (" + s.describe(0) + " has " + std::to_string(ndim) + " dims); give -ndim .. ndim-1");
  return static_cast<int>(dim < 0 ? dim + ndim : dim);
}
int dim_at(const KernelCall& call, int attribute, int ndim) {
  const auto dim = call.attribute(attribute).as_int();
  return static_cast<int>(dim < 0 ? dim + ndim : dim);
}

// ---- reshape
Shape target_shape(const ShapeCall& s) {
  Shape shape = s.attribute(0).as_shape();
  if (!ops::fill_size(shape, s.input(0).shape.numel()))
    s.fail("shape " + to_string(s.attribute(0).as_shape()) + " does not fit " + s.describe(0) + " of " + std::to_string(s.input(0).shape.numel()) +
           " elements; give sizes with the same product");
  return shape;
}
void reshape_shape(ShapeCall& s) { s.output(0) = {.shape = target_shape(s), .dtype = s.input(0).dtype}; }
std::string reshape_rule_for(const ShapeCall& s) { return ops::reshape_rule(s.input(0).shape, target_shape(s)); }
void reshape_kernel(const KernelCall& call) { call.set_output(0, call.input(0).reshape(call.output_shape(0))); }
std::vector<DTensor> reshape_gradient(const GradientCall& g) { return {reshape(g.grad_output(0), g.input_type(0).shape)}; }
constexpr OpDef kReshape{
    .name = "reshape",
    .signature = "input, shape: int[] -> view(input)",
    .shape = reshape_shape,
    .rule_for = reshape_rule_for,
    .kernel = reshape_kernel,
    .gradient = reshape_gradient,
    .samples =
        [] {
          return std::vector<Sample>{
              {.shapes = {{6, 4}}, .attributes = {{"shape", "[3, 2, 4]"}}}, {.shapes = {{3, 2, 5}}, .attributes = {{"shape", "[6, 5]"}}},
              {.shapes = {{2, 3}}, .attributes = {{"shape", "[3, 2]"}}},    {.shapes = {{4, 6}}, .attributes = {{"shape", "[24]"}}},
              {.shapes = {{0, 3}}, .attributes = {{"shape", "[0]"}}},       {.shapes = {{12}}, .attributes = {{"shape", "[1, 12, 1]"}}}};
        },
};

// ---- permute (transpose is one)
std::vector<int> order_of(const ShapeCall& s) {
  const Shape dims = s.attribute(0).as_shape();
  const int n = s.input(0).shape.ndim();
  std::vector<int> order;
  std::array<bool, kMaxDims> seen{};
  for (std::int64_t d : dims) {
    const std::int64_t k = d < 0 ? d + n : d;
    if (k < 0 || k >= n || seen[static_cast<std::size_t>(k)])
      s.fail("dims " + to_string(dims) + " are no permutation of the dims of " + s.describe(0) + "; name each once");
    seen[static_cast<std::size_t>(k)] = true;
    order.push_back(static_cast<int>(k));
  }
  if (static_cast<int>(order.size()) != n)
    s.fail("dims " + to_string(dims) + " are no permutation of the dims of " + s.describe(0) + "; name each once");
  return order;
}
void permute_shape(ShapeCall& s) {
  TensorType out{{}, s.input(0).dtype};
  for (int d : order_of(s)) out.shape.push_back(s.input(0).shape[d]);
  s.output(0) = out;
}
std::string permute_rule(const ShapeCall& s) {
  std::string to;
  for (int d : order_of(s)) to += (to.empty() ? "d" : " d") + std::to_string(d);
  return names(s.input(0).shape.ndim()) + " -> " + (to.empty() ? "()" : to) + "    linear; monotone";
}
void permute_kernel(const KernelCall& call) {
  Shape order = call.attribute(0).as_shape();
  for (std::int64_t& d : order)
    if (d < 0) d += order.ndim();
  call.set_output(0, call.input(0).permute(order));
}
std::vector<DTensor> permute_gradient(const GradientCall& g) {
  const Shape dims = g.attribute(0).as_shape();
  Shape inverse = dims;
  for (int i = 0; i < dims.ndim(); ++i) inverse[static_cast<int>(dims[i] < 0 ? dims[i] + dims.ndim() : dims[i])] = i;
  return {permute(g.grad_output(0), inverse)};
}
constexpr OpDef kPermute{
    .name = "permute",
    .signature = "input, dims: int[] -> view(input)",
    .shape = permute_shape,
    .rule_for = permute_rule,
    .kernel = permute_kernel,
    .gradient = permute_gradient,
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{2, 3, 5}}, .attributes = {{"dims", "[2, 0, 1]"}}},
                                     {.shapes = {{0, 1}}, .attributes = {{"dims", "[1, 0]"}}}};
        },
};

// ---- unsqueeze, squeeze
void unsqueeze_shape(ShapeCall& s) {
  TensorType out = s.input(0);
  out.shape.insert(dim_of(s, 0, s.input(0).shape.ndim() + 1), 1);
  s.output(0) = out;
}
std::string unsqueeze_rule(const ShapeCall& s) {
  const int n = s.input(0).shape.ndim(), dim = dim_of(s, 0, n + 1);
  std::string to;
  for (int d = 0; d <= n; ++d) to += (d == 0 ? "" : " ") + (d == dim ? std::string("1") : "d" + std::to_string(d < dim ? d : d - 1));
  return names(n) + " -> " + to + "    linear; monotone";
}
void view_to_shape(const KernelCall& call) { call.set_output(0, call.input(0).reshape(call.output_shape(0))); }
std::vector<DTensor> view_gradient(const GradientCall& g) { return {reshape(g.grad_output(0), g.input_type(0).shape)}; }
constexpr OpDef kUnsqueeze{
    .name = "unsqueeze",
    .signature = "input, dim: int -> view(input)",
    .shape = unsqueeze_shape,
    .rule_for = unsqueeze_rule,
    .kernel = view_to_shape,
    .gradient = view_gradient,
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{3, 5}}, .attributes = {{"dim", "1"}}}, {.shapes = {{}}, .attributes = {{"dim", "0"}}}};
        },
};
bool squeezed(const ShapeCall& s, int d) {
  if (s.input(0).shape[d] != 1) return false;
  if (s.attribute(0).is_none()) return true;
  const Shape dims = s.attribute(0).as_shape();
  return std::any_of(dims.begin(), dims.end(), [&](std::int64_t k) { return (k < 0 ? k + s.input(0).shape.ndim() : k) == d; });
}
void squeeze_shape(ShapeCall& s) {
  TensorType out{{}, s.input(0).dtype};
  if (!s.attribute(0).is_none() && !s.attribute(0).as_list().empty()) ops::checked_dims(s, s.attribute(0));
  for (int d = 0; d < s.input(0).shape.ndim(); ++d)
    if (!squeezed(s, d)) out.shape.push_back(s.input(0).shape[d]);
  s.output(0) = out;
}
std::string squeeze_rule(const ShapeCall& s) {
  std::string from, to;
  for (int d = 0; d < s.input(0).shape.ndim(); ++d) {
    const bool drop = squeezed(s, d);
    from += (d == 0 ? "" : " ") + (drop ? std::string("1") : "d" + std::to_string(d));
    if (!drop) to += (to.empty() ? "d" : " d") + std::to_string(d);
  }
  return (from.empty() ? "()" : from) + " -> " + (to.empty() ? "()" : to) + "    linear; monotone";
}
constexpr OpDef kSqueeze{
    .name = "squeeze",
    .signature = "input, dim: int[]? = none -> view(input)",
    .shape = squeeze_shape,
    .rule_for = squeeze_rule,
    .kernel = view_to_shape,
    .gradient = view_gradient,
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{3, 1, 5}}, .attributes = {{"dim", "[1]"}}},
                                     {.shapes = {{1, 1}}},
                                     {.shapes = {{1, 5, 1}}, .attributes = {{"dim", "[-1, 1]"}}},
                                     {.shapes = {{1, 3}}, .attributes = {{"dim", "[]"}}}};
        },
};

// ---- expand
void expand_shape(ShapeCall& s) {
  Shape shape = s.attribute(0).as_shape();
  const Shape& from = s.input(0).shape;
  const int extra = shape.ndim() - from.ndim();
  if (extra < 0) s.fail("shape " + to_string(shape) + " has fewer dims than " + s.describe(0) + "; dims are added in front only");
  for (int d = 0; d < shape.ndim(); ++d) {
    const std::int64_t had = d < extra ? 1 : from[d - extra];
    if (shape[d] == -1 && d >= extra) shape[d] = had;
    if (shape[d] < 0 || (had != 1 && shape[d] != had))
      s.fail("shape " + to_string(shape) + " does not fit " + s.describe(0) + "; only dims of size one repeat");
  }
  s.output(0) = {.shape = shape, .dtype = s.input(0).dtype};
}
std::string expand_rule(const ShapeCall& s) {
  const Shape& from = s.input(0).shape;
  const Shape& to = s.outputs()[0].shape;
  std::string a, b;
  for (int d = 0; d < to.ndim(); ++d) {
    const int source = d - (to.ndim() - from.ndim());
    b += (d == 0 ? "d" : " d") + std::to_string(d);
    if (source >= 0) a += (a.empty() ? "" : " ") + (from[source] == to[d] ? "d" + std::to_string(d) : std::string("1"));
  }
  return (a.empty() ? "()" : a) + " -> " + (b.empty() ? "()" : b) + "    linear; monotone";
}
void expand_kernel(const KernelCall& call) { call.set_output(0, call.input(0).expand(call.output_shape(0))); }
std::vector<DTensor> expand_gradient(const GradientCall& g) { return {sum_to_shape(g.grad_output(0), g.input_type(0).shape)}; }
constexpr OpDef kExpand{
    .name = "expand",
    .signature = "input, size: int[] -> view(input)",
    .shape = expand_shape,
    .rule_for = expand_rule,
    .kernel = expand_kernel,
    .gradient = expand_gradient,
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{3, 1}}, .attributes = {{"size", "[2, 3, 5]"}}},
                                     {.shapes = {{}}, .attributes = {{"size", "[4]"}}},
                                     {.shapes = {{1, 5}}, .attributes = {{"size", "[0, 5]"}}}};
        },
};

// ---- slice and its gradient
struct Range {
  int dim;
  std::int64_t start, step, length;
};
Range range_of(const ShapeCall& s, const Shape& shape, int first) {
  Range r{dim_of(s, first, shape.ndim()), 0, s.attribute(first + 3).as_int(), 0};
  const std::int64_t n = shape[r.dim];
  const auto clamp = [n](std::int64_t i) { return std::clamp<std::int64_t>(i < 0 ? i + n : i, 0, n); };
  if (r.step < 1) s.fail("step " + std::to_string(r.step) + " is not positive; use flip for the other direction");
  r.start = clamp(s.attribute(first + 1).as_int());
  const std::int64_t end = s.attribute(first + 2).is_none() ? n : clamp(s.attribute(first + 2).as_int());
  r.length = end > r.start ? (end - r.start + r.step - 1) / r.step : 0;
  return r;
}
void slice_shape(ShapeCall& s) {
  if (s.input(0).shape.empty()) s.fail("a tensor without dims has nothing to slice (" + s.describe(0) + ")");
  const Range r = range_of(s, s.input(0).shape, 0);
  TensorType out = s.input(0);
  out.shape[r.dim] = r.length;
  s.output(0) = out;
}
std::string with_name(int ndim, int dim, const std::string& name) {
  std::string text;
  for (int d = 0; d < ndim; ++d) text += (d == 0 ? "" : " ") + (d == dim ? name : "d" + std::to_string(d));
  return text;
}
std::string slice_rule(const ShapeCall& s) {
  const Range r = range_of(s, s.input(0).shape, 0);
  const int n = s.input(0).shape.ndim();
  if (r.length == s.input(0).shape[r.dim]) return names(n) + " -> " + names(n) + "    linear; monotone";
  return names(n) + " -> " + with_name(n, r.dim, "r") + "    " +
         ops::window("d" + std::to_string(r.dim), "r", {.num = r.step, .low = r.start, .high = r.start}) + "; linear; monotone";
}
// First global index and step of what the kernel takes of a dimension of n.
std::int64_t first_of(const KernelCall& call, int attribute, std::int64_t n) {
  const std::int64_t start = call.attribute(attribute).as_int();
  return std::clamp<std::int64_t>(start < 0 ? start + n : start, 0, n);
}
void slice_kernel(const KernelCall& call) {
  const Tensor& in = call.input(0);
  const int dim = dim_at(call, 0, in.ndim());
  if (call.output_place(0).global[dim] == call.input_place(0).global[dim]) return call.set_output(0, in);
  const std::int64_t step = call.attribute(3).as_int();
  const std::int64_t from = first_of(call, 1, call.input_place(0).global[dim]) + call.output_place(0).begin(dim) * step;
  Shape strides = in.strides();
  const std::int64_t offset = in.offset() + (call.output_shape(0).numel() == 0 ? 0 : (from - call.input_place(0).begin(dim)) * strides[dim]);
  strides[dim] *= step;
  call.set_output(0, in.as_strided(call.output_shape(0), strides, offset));
}
std::vector<DTensor> slice_gradient(const GradientCall& g);
constexpr OpDef kSlice{
    .name = "slice",
    .signature = "input, dim: int = 0, start: int? = none, end: int? = none, step: int = 1 -> view(input)",
    .shape = slice_shape,
    .rule_for = slice_rule,
    .kernel = slice_kernel,
    .gradient = slice_gradient,
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 7}}, .attributes = {{"dim", "1"}, {"start", "1"}, {"end", "6"}, {"step", "2"}}},
                                     {.shapes = {{5, 7}}, .attributes = {{"dim", "0"}, {"start", "0"}, {"end", "5"}}},
                                     {.shapes = {{7, 2}}, .attributes = {{"dim", "0"}, {"start", "-2"}, {"end", "7"}}},
                                     {.shapes = {{3}}, .attributes = {{"dim", "0"}, {"start", "2"}, {"end", "2"}}},
                                     {.shapes = {{5, 3}}, .attributes = {{"start", "-4"}, {"step", "3"}}}};
        },
};
void slice_backward_shape(ShapeCall& s) { s.output(0) = {.shape = s.attribute(0).as_shape(), .dtype = s.input(0).dtype}; }
std::string slice_backward_rule(const ShapeCall& s) {
  const Shape to = s.attribute(0).as_shape();
  const Range r = range_of(s, to, 1);
  const int n = to.ndim();
  if (r.length == to[r.dim]) return names(n) + " -> " + names(n) + "    linear";
  return with_name(n, r.dim, "r") + " -> " + names(n) + "    " +
         ops::window("r", "d" + std::to_string(r.dim), {.low = r.step - 1 - r.start, .high = -r.start, .den = r.step}) + "; linear";
}
void slice_backward_kernel(const KernelCall& call) {
  const Tensor& out = call.output(0);
  const int dim = dim_at(call, 1, out.ndim());
  const Place &from = call.input_place(0), &to = call.output_place(0);
  if (from.global[dim] == to.global[dim]) return out.copy_(call.input(0));
  out.fill_(0);
  if (call.input(0).numel() == 0 || out.numel() == 0) return;
  // Index i of the gradient belongs to start + i * step; the gradient may be here beyond what this part takes.
  const std::int64_t step = call.attribute(4).as_int(), start = first_of(call, 2, to.global[dim]);
  const std::int64_t begin = to.begin(dim), end = begin + out.shape()[dim];
  const std::int64_t first = std::max(from.begin(dim), begin <= start ? 0 : (begin - start + step - 1) / step);
  const std::int64_t last = std::min(from.begin(dim) + call.input(0).shape()[dim], end <= start ? 0 : (end - start + step - 1) / step);
  if (first >= last) return;
  const Tensor taken = call.input(0).narrow(dim, first - from.begin(dim), last - first);
  Shape strides = out.strides();
  const std::int64_t offset = out.offset() + (start + first * step - begin) * strides[dim];
  strides[dim] *= step;
  out.as_strided(taken.shape(), strides, offset).copy_(taken);
}
constexpr OpDef kSliceBackward{
    .name = "slice_backward",
    .signature = "grad, shape: int[], dim: int, start: int?, end: int?, step: int -> out",
    .shape = slice_backward_shape,
    .rule_for = slice_backward_rule,
    .kernel = slice_backward_kernel,
    .gradient = [](const GradientCall& g) -> std::vector<DTensor> {
      return {call(kSlice, {g.grad_output(0)}, {g.attribute(1), g.attribute(2), g.attribute(3), g.attribute(4)})};
    },
    .samples =
        [] {
          return std::vector<Sample>{
              {.shapes = {{5, 3}}, .attributes = {{"shape", "[5, 7]"}, {"dim", "1"}, {"start", "1"}, {"end", "6"}, {"step", "2"}}},
              {.shapes = {{3, 2}}, .attributes = {{"shape", "[8, 2]"}, {"dim", "0"}, {"start", "4"}, {"end", "7"}, {"step", "1"}}},
              {.shapes = {{0, 2}}, .attributes = {{"shape", "[3, 2]"}, {"dim", "0"}, {"start", "2"}, {"end", "2"}, {"step", "1"}}}};
        },
};
std::vector<DTensor> slice_gradient(const GradientCall& g) {
  return {call(kSliceBackward, {g.grad_output(0)}, {g.input_type(0).shape, g.attribute(0), g.attribute(1), g.attribute(2), g.attribute(3)})};
}

// ---- clone
void same_shape(ShapeCall& s) { s.output(0) = s.input(0); }
void clone_kernel(const KernelCall& call) { call.output(0).copy_(call.input(0)); }
std::vector<DTensor> pass_gradient(const GradientCall& g) { return {g.grad_output(0)}; }
constexpr OpDef kClone{
    .name = "clone",
    .signature = "input -> out",
    .rule = "... -> ...    linear; monotone",
    .shape = same_shape,
    .kernel = clone_kernel,
    .gradient = pass_gradient,
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 3}}}, {.shapes = {{}}}, {.shapes = {{0, 2}}}};
        },
};

constexpr OpDef kAlias{
    .name = "alias",
    .signature = "input -> view(input)",
    .rule = "... -> ...    linear; monotone",
    .shape = same_shape,
    .kernel = [](const KernelCall& call) { call.set_output(0, call.input(0)); },
    .gradient = pass_gradient,
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 3}}}};
        },
};

constexpr std::array<const OpDef*, 9> kOps{&kAlias, &kReshape, &kPermute, &kUnsqueeze, &kSqueeze, &kExpand, &kSlice, &kSliceBackward, &kClone};

}  // namespace

namespace ops {
OpList view_ops() { return kOps; }
}  // namespace ops

DTensor reshape(const DTensor& input, const Shape& shape) { return call(kReshape, {input}, {shape}); }
DTensor view(const DTensor& input, const Shape& shape) { return reshape(input, shape); }

DTensor flatten(const DTensor& input, int start_dim, int end_dim) {
  if (input.ndim() == 0) return reshape(input, {1});
  const int a = normalize_dim(start_dim, input.ndim(), "flatten"), b = normalize_dim(end_dim, input.ndim(), "flatten");
  if (a > b)
    throw InvalidArgument("flatten: start_dim " + std::to_string(start_dim) + " comes after end_dim " + std::to_string(end_dim) + " (" +
                          to_string(input) + "); exchange them");
  Shape shape;
  for (int d = 0; d < input.ndim(); ++d) {
    if (d <= a || d > b) shape.push_back(input.shape()[d]);
    else shape[a] *= input.shape()[d];
  }
  return reshape(input, shape);
}

DTensor unflatten(const DTensor& input, int dim, const Shape& sizes) {
  const int k = normalize_dim(dim, input.ndim(), "unflatten");
  Shape filled = sizes;
  if (!ops::fill_size(filled, input.shape()[k]))
    throw InvalidArgument("unflatten: sizes " + to_string(sizes) + " do not multiply to dim " + std::to_string(k) + " of " + to_string(input) +
                          "; give sizes with that product");
  Shape shape;
  for (int d = 0; d < input.ndim(); ++d) {
    if (d != k) shape.push_back(input.shape()[d]);
    else
      for (std::int64_t n : filled) shape.push_back(n);
  }
  return reshape(input, shape);
}

DTensor permute(const DTensor& input, const Shape& dims) { return call(kPermute, {input}, {dims}); }

DTensor transpose(const DTensor& input, int dim0, int dim1) {
  const int a = normalize_dim(dim0, input.ndim(), "transpose"), b = normalize_dim(dim1, input.ndim(), "transpose");
  Shape dims;
  for (int d = 0; d < input.ndim(); ++d) dims.push_back(d == a ? b : d == b ? a : d);
  return permute(input, dims);
}

DTensor t(const DTensor& input) {
  if (input.ndim() > 2)
    throw InvalidArgument("t: the tensor has " + std::to_string(input.ndim()) + " dims (" + to_string(input) + "); use transpose");
  return input.ndim() < 2 ? input : transpose(input, 0, 1);
}

DTensor unsqueeze(const DTensor& input, int dim) { return call(kUnsqueeze, {input}, {dim}); }
DTensor squeeze(const DTensor& input) { return call(kSqueeze, {input}); }
DTensor squeeze(const DTensor& input, int dim) { return squeeze(input, Shape{dim}); }
DTensor squeeze(const DTensor& input, const Shape& dim) { return call(kSqueeze, {input}, {dim}); }
DTensor expand(const DTensor& input, const Shape& shape) { return call(kExpand, {input}, {shape}); }
DTensor slice(const DTensor& input, int dim, std::int64_t start, std::int64_t end, std::int64_t step) {
  return call(kSlice, {input}, {dim, start, end, step});
}

DTensor narrow(const DTensor& input, int dim, std::int64_t start, std::int64_t length) {
  const int d = normalize_dim(dim, input.ndim(), "narrow");
  const std::int64_t n = input.shape()[d], from = start < 0 ? start + n : start;
  if (from < 0 || length < 0 || from + length > n)
    throw InvalidArgument("narrow: start " + std::to_string(start) + " with length " + std::to_string(length) + " leaves dim " + std::to_string(d) +
                          " of " + to_string(input));
  return slice(input, d, from, from + length);
}

DTensor select(const DTensor& input, int dim, std::int64_t index) {
  const int d = normalize_dim(dim, input.ndim(), "select");
  const std::int64_t n = input.shape()[d], i = index < 0 ? index + n : index;
  if (i < 0 || i >= n)
    throw InvalidArgument("select: index " + std::to_string(index) + " is out of range for dim " + std::to_string(d) + " of " + to_string(input));
  return squeeze(slice(input, d, i, i + 1), d);
}

std::vector<DTensor> split(const DTensor& input, const Shape& sizes, int dim) {
  const int d = normalize_dim(dim, input.ndim(), "split");
  std::vector<DTensor> parts;
  std::int64_t at = 0;
  for (std::int64_t n : sizes) at += n;
  if (at != input.shape()[d])
    throw InvalidArgument("split: sizes " + to_string(sizes) + " add up to " + std::to_string(at) + ", dim " + std::to_string(d) + " of " +
                          to_string(input) + " is another; give sizes with that sum");
  at = 0;
  for (std::int64_t n : sizes) {
    parts.push_back(slice(input, d, at, at + n));
    at += n;
  }
  return parts;
}

std::vector<DTensor> split(const DTensor& input, std::int64_t split_size, int dim) {
  const int d = normalize_dim(dim, input.ndim(), "split");
  if (split_size < 1) throw InvalidArgument("split: split_size " + std::to_string(split_size) + " is not positive");
  std::vector<DTensor> parts;
  for (std::int64_t at = 0; at < input.shape()[d]; at += split_size)
    parts.push_back(slice(input, d, at, std::min(at + split_size, input.shape()[d])));
  if (parts.empty()) parts.push_back(input);
  return parts;
}

std::vector<DTensor> chunk(const DTensor& input, int chunks, int dim) {
  const int d = normalize_dim(dim, input.ndim(), "chunk");
  if (chunks < 1) throw InvalidArgument("chunk: chunks " + std::to_string(chunks) + " is not positive");
  if (input.shape()[d] == 0) return std::vector<DTensor>(static_cast<std::size_t>(chunks), input);
  return split(input, (input.shape()[d] + chunks - 1) / chunks, d);
}

DTensor alias(const DTensor& input) { return call(kAlias, {input}); }
DTensor clone(const DTensor& input) { return call(kClone, {input}); }
DTensor contiguous(const DTensor& input) { return call(kClone, {input}); }

}  // namespace dtensor
