// SPDX-License-Identifier: Apache-2.0
// Ops that are expressions of views, found by name: their rules and gradients are those of the views.
#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "dtensor/error.h"
#include "dtensor/op.h"
#include "dtensor/ops/arrange.h"
#include "dtensor/ops/join.h"
#include "dtensor/ops/views.h"
#include "ops/families.h"
#include "ops/view_rules.h"

namespace dtensor {
namespace {

using Samples = std::vector<Sample>;

int whole_number(const Attribute& attribute) { return static_cast<int>(attribute.as_int()); }
int dim_of(const ShapeCall& s, int attribute, std::string_view op) {
  return normalize_dim(whole_number(s.attribute(attribute)), s.input(0).shape.ndim(), op);
}
void set_shape(ShapeCall& s, const Shape& shape) { s.output(0) = {.shape = shape, .dtype = s.input(0).dtype}; }
Shape dims_in_order(const Shape& dims, int ndim, std::string_view op) {
  Shape order;
  for (std::int64_t d : dims) order.push_back(normalize_dim(static_cast<int>(d), ndim, op));
  return order;
}

// ---- view, flatten, unflatten
void view_shape(ShapeCall& s) {
  Shape shape = s.attribute(0).as_shape();
  if (!ops::fill_size(shape, s.input(0).shape.numel()))
    s.fail(fmt::format("size {} does not fit {} of {} elements; give sizes with the same product", to_string(s.attribute(0).as_shape()),
                       s.describe(0), s.input(0).shape.numel()));
  set_shape(s, shape);
}
constexpr OpDef kView{
    .name = "view",
    .signature = "input, size: int[] -> out",
    .shape = view_shape,
    .decompose = [](const DecomposeCall& c) -> Results { return {view(c.input(0), c.attribute(0).as_shape())}; },
    .samples =
        [] {
          return Samples{{.shapes = {{6, 4}}, .attributes = {{"size", "[3, -1, 4]"}}}, {.shapes = {{0, 3}}, .attributes = {{"size", "[3, 0]"}}}};
        },
};
Shape flat_shape(const Shape& shape, int start_dim, int end_dim, std::string_view op) {
  if (shape.empty()) return {1};
  const int a = normalize_dim(start_dim, shape.ndim(), op), b = normalize_dim(end_dim, shape.ndim(), op);
  if (a > b)
    throw InvalidArgument(fmt::format("{}: start_dim {} comes after end_dim {} ({}); exchange them", op, start_dim, end_dim, to_string(shape)));
  Shape flat;
  for (int d = 0; d < shape.ndim(); ++d) {
    if (d <= a || d > b) flat.push_back(shape[d]);
    else flat[a] *= shape[d];
  }
  return flat;
}
constexpr OpDef kFlatten{
    .name = "flatten",
    .signature = "input, start_dim: int = 0, end_dim: int = -1 -> out",
    .shape = [](ShapeCall& s) { set_shape(s, flat_shape(s.input(0).shape, whole_number(s.attribute(0)), whole_number(s.attribute(1)), "flatten")); },
    .decompose = [](const DecomposeCall& c) -> Results { return {flatten(c.input(0), whole_number(c.attribute(0)), whole_number(c.attribute(1)))}; },
    .samples =
        [] {
          return Samples{{.shapes = {{5, 2, 3}}, .attributes = {{"start_dim", "1"}}}, {.shapes = {{3, 0}}}, {.shapes = {{}}}};
        },
};
void unflatten_shape(ShapeCall& s) {
  const int dim = dim_of(s, 0, "unflatten");
  Shape filled = s.attribute(1).as_shape(), shape;
  if (!ops::fill_size(filled, s.input(0).shape[dim]))
    s.fail(fmt::format("sizes {} do not multiply to dim {} of {}; give sizes with that product", to_string(s.attribute(1).as_shape()), dim,
                       s.describe(0)));
  for (int d = 0; d < s.input(0).shape.ndim(); ++d) {
    if (d != dim) shape.push_back(s.input(0).shape[d]);
    else
      for (std::int64_t n : filled) shape.push_back(n);
  }
  set_shape(s, shape);
}
constexpr OpDef kUnflatten{
    .name = "unflatten",
    .signature = "input, dim: int, sizes: int[] -> out",
    .shape = unflatten_shape,
    .decompose = [](const DecomposeCall& c) -> Results { return {unflatten(c.input(0), whole_number(c.attribute(0)), c.attribute(1).as_shape())}; },
    .samples =
        [] {
          return Samples{{.shapes = {{5, 6}}, .attributes = {{"dim", "-1"}, {"sizes", "[2, -1]"}}}};
        },
};

// ---- transpose, movedim
void transpose_shape(ShapeCall& s) {
  Shape shape = s.input(0).shape;
  if (!shape.empty()) std::swap(shape[dim_of(s, 0, "transpose")], shape[dim_of(s, 1, "transpose")]);
  set_shape(s, shape);
}
constexpr OpDef kTranspose{
    .name = "transpose",
    .signature = "input, dim0: int, dim1: int -> out",
    .shape = transpose_shape,
    .decompose = [](const DecomposeCall& c) -> Results {
      return {c.input(0).ndim() == 0 ? alias(c.input(0)) : transpose(c.input(0), whole_number(c.attribute(0)), whole_number(c.attribute(1)))};
    },
    .samples =
        [] {
          return Samples{{.shapes = {{5, 2, 3}}, .attributes = {{"dim0", "0"}, {"dim1", "-1"}}}};
        },
};
Shape moved_order(const Shape& source, const Shape& destination, int ndim) {
  const Shape from = dims_in_order(source, ndim, "movedim"), to = dims_in_order(destination, ndim, "movedim");
  std::array<int, kMaxDims> at{};
  at.fill(-1);
  std::array<bool, kMaxDims> moved{};
  bool once = from.ndim() == to.ndim();
  for (int k = 0; once && k < from.ndim(); ++k) {
    once = at[static_cast<std::size_t>(to[k])] < 0 && !moved[static_cast<std::size_t>(from[k])];
    at[static_cast<std::size_t>(to[k])] = static_cast<int>(from[k]);
    moved[static_cast<std::size_t>(from[k])] = true;
  }
  if (!once)
    throw InvalidArgument(fmt::format("movedim: source {} and destination {} do not pair; name each dim once, as many in both", to_string(source),
                                      to_string(destination)));
  Shape order;
  for (int d = 0, next = 0; d < ndim; ++d) {
    if (at[static_cast<std::size_t>(d)] >= 0) {
      order.push_back(at[static_cast<std::size_t>(d)]);
      continue;
    }
    while (moved[static_cast<std::size_t>(next)]) ++next;
    order.push_back(next++);
  }
  return order;
}
constexpr OpDef kMovedim{
    .name = "movedim",
    .signature = "input, source: int[], destination: int[] -> out",
    .shape =
        [](ShapeCall& s) {
          Shape shape;
          for (std::int64_t d : moved_order(s.attribute(0).as_shape(), s.attribute(1).as_shape(), s.input(0).shape.ndim()))
            shape.push_back(s.input(0).shape[static_cast<int>(d)]);
          set_shape(s, shape);
        },
    .decompose = [](const DecomposeCall& c) -> Results { return {movedim(c.input(0), c.attribute(0).as_shape(), c.attribute(1).as_shape())}; },
    .samples =
        [] {
          return Samples{{.shapes = {{5, 2, 3}}, .attributes = {{"source", "[0]"}, {"destination", "[-1]"}}}};
        },
};

// ---- narrow, select, unbind
void narrow_shape(ShapeCall& s) {
  const int dim = dim_of(s, 0, "narrow");
  Shape shape = s.input(0).shape;
  const std::int64_t start = s.attribute(1).as_int(), length = s.attribute(2).as_int(), from = start < 0 ? start + shape[dim] : start;
  if (from < 0 || length < 0 || from + length > shape[dim])
    s.fail(fmt::format("start {} with length {} leaves dim {} of {}", start, length, dim, s.describe(0)));
  shape[dim] = length;
  set_shape(s, shape);
}
constexpr OpDef kNarrow{
    .name = "narrow",
    .signature = "input, dim: int, start: int, length: int -> out",
    .shape = narrow_shape,
    .decompose = [](const DecomposeCall& c) -> Results {
      return {narrow(c.input(0), whole_number(c.attribute(0)), c.attribute(1).as_int(), c.attribute(2).as_int())};
    },
    .samples =
        [] {
          return Samples{{.shapes = {{5, 7}}, .attributes = {{"dim", "1"}, {"start", "-5"}, {"length", "3"}}}};
        },
};
void select_shape(ShapeCall& s) {
  const int dim = dim_of(s, 0, "select");
  Shape shape = s.input(0).shape;
  const std::int64_t index = s.attribute(1).as_int();
  if (index < -shape[dim] || index >= shape[dim]) s.fail(fmt::format("index {} is out of range for dim {} of {}", index, dim, s.describe(0)));
  shape.erase(dim);
  set_shape(s, shape);
}
constexpr OpDef kSelect{
    .name = "select",
    .signature = "input, dim: int, index: int -> out",
    .shape = select_shape,
    .decompose = [](const DecomposeCall& c) -> Results { return {select(c.input(0), whole_number(c.attribute(0)), c.attribute(1).as_int())}; },
    .samples =
        [] {
          return Samples{{.shapes = {{5, 7}}, .attributes = {{"dim", "0"}, {"index", "-2"}}}};
        },
};
constexpr OpDef kUnbind{
    .name = "unbind",
    .signature = "input, dim: int = 0 -> out[]",
    .shape =
        [](ShapeCall& s) {
          const int dim = dim_of(s, 0, "unbind");
          Shape shape = s.input(0).shape;
          shape.erase(dim);
          for (int i = 0; i < s.input(0).shape[dim]; ++i) s.output(i) = {.shape = shape, .dtype = s.input(0).dtype};
        },
    .decompose = [](const DecomposeCall& c) -> Results { return unbind(c.input(0), whole_number(c.attribute(0))); },
    .samples =
        [] {
          return Samples{{.shapes = {{3, 5}}, .attributes = {{"dim", "-1"}}}};
        },
};

// ---- split, chunk, tensor_split
void set_pieces(ShapeCall& s, int dim, const std::vector<std::int64_t>& sizes) {
  Shape shape = s.input(0).shape;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    shape[dim] = sizes[i];
    s.output(static_cast<int>(i)) = {.shape = shape, .dtype = s.input(0).dtype};
  }
}
std::vector<std::int64_t> equal_pieces(std::int64_t n, std::int64_t size) {
  std::vector<std::int64_t> sizes;
  for (std::int64_t at = 0; at < n; at += size) sizes.push_back(std::min(size, n - at));
  if (sizes.empty()) sizes.push_back(0);
  return sizes;
}
// One number is the size of every part.
void split_shape(ShapeCall& s) {
  const int dim = dim_of(s, 1, "split");
  const auto sizes = s.attribute(0).as_list();
  const std::int64_t n = s.input(0).shape[dim];
  std::int64_t total = 0;
  bool fits = !sizes.empty();
  for (std::int64_t size : sizes) fits = fits && size >= 0, total += size;
  if (!fits || (sizes.size() == 1 ? sizes[0] < 1 && n > 0 : total != n))
    s.fail(fmt::format("sizes {} do not cut dim {} of {}; give one size, or a list with that sum", to_string(s.attribute(0).as_shape()), dim,
                       s.describe(0)));
  if (sizes.size() == 1) return set_pieces(s, dim, equal_pieces(n, std::max<std::int64_t>(sizes[0], 1)));
  set_pieces(s, dim, {sizes.begin(), sizes.end()});
}
Results split_by(const DTensor& input, std::span<const std::int64_t> sizes, int dim) {
  if (sizes.size() == 1) return split(input, std::max<std::int64_t>(sizes[0], 1), dim);
  const int d = normalize_dim(dim, input.ndim(), "split");
  Results parts;
  std::int64_t at = 0;
  for (std::int64_t n : sizes) {
    parts.push_back(slice(input, d, at, at + n));
    at += n;
  }
  return parts;
}
constexpr OpDef kSplit{
    .name = "split",
    .signature = "input, split_size_or_sections: int[], dim: int = 0 -> out[]",
    .shape = split_shape,
    .decompose = [](const DecomposeCall& c) -> Results { return split_by(c.input(0), c.attribute(0).as_list(), whole_number(c.attribute(1))); },
    .samples =
        [] {
          return Samples{{.shapes = {{7, 3}}, .attributes = {{"split_size_or_sections", "[3]"}}},
                         {.shapes = {{2, 5}}, .attributes = {{"split_size_or_sections", "[1, 0, 4]"}, {"dim", "-1"}}}};
        },
};
constexpr OpDef kChunk{
    .name = "chunk",
    .signature = "input, chunks: int, dim: int = 0 -> out[]",
    .shape =
        [](ShapeCall& s) {
          const int dim = dim_of(s, 1, "chunk");
          const std::int64_t chunks = s.attribute(0).as_int(), n = s.input(0).shape[dim];
          if (chunks < 1) s.fail(fmt::format("chunks {} is not positive", chunks));
          if (n == 0) return set_pieces(s, dim, std::vector<std::int64_t>(static_cast<std::size_t>(chunks)));
          set_pieces(s, dim, equal_pieces(n, (n + chunks - 1) / chunks));
        },
    .decompose = [](const DecomposeCall& c) -> Results { return chunk(c.input(0), whole_number(c.attribute(0)), whole_number(c.attribute(1))); },
    .samples =
        [] {
          return Samples{{.shapes = {{7, 3}}, .attributes = {{"chunks", "3"}}},
                         {.shapes = {{5}}, .attributes = {{"chunks", "9"}}},
                         {.shapes = {{0, 3}}, .attributes = {{"chunks", "3"}}}};
        },
};
// Bounds between parts -> their sizes; bounds count from the end when negative and are clamped.
std::vector<std::int64_t> pieces_between(const Shape& indices, std::int64_t n) {
  std::vector<std::int64_t> sizes;
  std::int64_t at = 0;
  for (int k = 0; k <= indices.ndim(); ++k) {
    const std::int64_t end = k == indices.ndim() ? n : std::clamp<std::int64_t>(indices[k] < 0 ? indices[k] + n : indices[k], 0, n);
    sizes.push_back(std::max<std::int64_t>(0, end - at));
    at = end;
  }
  return sizes;
}
std::vector<std::int64_t> balanced_pieces(std::int64_t n, std::int64_t sections) {
  std::vector<std::int64_t> sizes;
  for (std::int64_t k = 0; k < sections; ++k) sizes.push_back(n / sections + (k < n % sections ? 1 : 0));
  return sizes;
}
constexpr OpDef kTensorSplit{
    .name = "tensor_split",
    .signature = "input, sections: int? = none, indices: int[] = [], dim: int = 0 -> out[]",
    .shape =
        [](ShapeCall& s) {
          const int dim = dim_of(s, 2, "tensor_split");
          const std::int64_t n = s.input(0).shape[dim];
          if (s.attribute(0).is_none()) return set_pieces(s, dim, pieces_between(s.attribute(1).as_shape(), n));
          if (s.attribute(0).as_int() < 1) s.fail(fmt::format("sections {} is not positive", s.attribute(0).as_int()));
          set_pieces(s, dim, balanced_pieces(n, s.attribute(0).as_int()));
        },
    .decompose = [](const DecomposeCall& c) -> Results {
      if (c.attribute(0).is_none()) return tensor_split(c.input(0), c.attribute(1).as_shape(), whole_number(c.attribute(2)));
      return tensor_split(c.input(0), whole_number(c.attribute(0)), whole_number(c.attribute(2)));
    },
    .samples =
        [] {
          return Samples{{.shapes = {{7, 3}}, .attributes = {{"sections", "3"}}},
                         {.shapes = {{2, 5}}, .attributes = {{"indices", "[1, -2]"}, {"dim", "1"}}}};
        },
};

// ---- repeat, repeat_interleave, broadcast_to
void repeat_shape(ShapeCall& s) {
  const Shape repeats = s.attribute(0).as_shape();
  const Shape& shape = s.input(0).shape;
  const int extra = repeats.ndim() - shape.ndim();
  if (extra < 0 || std::any_of(repeats.begin(), repeats.end(), [](std::int64_t r) { return r < 0; }))
    s.fail(fmt::format("repeats {} do not fit {}; give a number for each dim at least, none negative", to_string(repeats), s.describe(0)));
  Shape out = repeats;
  for (int d = 0; d < shape.ndim(); ++d) out[d + extra] *= shape[d];
  set_shape(s, out);
}
constexpr OpDef kRepeat{
    .name = "repeat",
    .signature = "input, repeats: int[] -> out",
    .shape = repeat_shape,
    .decompose = [](const DecomposeCall& c) -> Results { return {repeat(c.input(0), c.attribute(0).as_shape())}; },
    .samples =
        [] {
          return Samples{{.shapes = {{3, 2}}, .attributes = {{"repeats", "[2, 1, 3]"}}},
                         {.shapes = {{5}}, .attributes = {{"repeats", "[0]"}}},
                         {.shapes = {{}}, .attributes = {{"repeats", "[]"}}}};
        },
};
void repeat_interleave_shape(ShapeCall& s) {
  const std::int64_t repeats = s.attribute(0).as_int();
  if (repeats < 0) s.fail(fmt::format("repeats {} is negative", repeats));
  if (s.attribute(1).is_none()) return set_shape(s, {s.input(0).shape.numel() * repeats});
  Shape shape = s.input(0).shape;
  shape[dim_of(s, 1, "repeat_interleave")] *= repeats;
  set_shape(s, shape);
}
constexpr OpDef kRepeatInterleave{
    .name = "repeat_interleave",
    .signature = "input, repeats: int, dim: int? = none -> out",
    .shape = repeat_interleave_shape,
    .decompose = [](const DecomposeCall& c) -> Results {
      const Attribute& dim = c.attribute(1);
      return {repeat_interleave(c.input(0), c.attribute(0).as_int(), dim.is_none() ? std::nullopt : std::optional(whole_number(dim)))};
    },
    .samples =
        [] {
          return Samples{{.shapes = {{5, 2}}, .attributes = {{"repeats", "3"}, {"dim", "0"}}},
                         {.shapes = {{2, 3}}, .attributes = {{"repeats", "2"}}}};
        },
};

// ---- stack, pixel_shuffle, pixel_unshuffle
constexpr OpDef kStack{
    .name = "stack",
    .signature = "tensors[], dim: int = 0 -> out",
    .shape =
        [](ShapeCall& s) {
          if (s.num_inputs() == 0) s.fail("the list of tensors is empty; give at least one");
          TensorType out = s.input(0);
          for (int i = 1; i < s.num_inputs(); ++i) {
            if (s.input(i).shape != out.shape) s.fail(fmt::format("shapes differ ({}, {})", s.describe(0), s.describe(i)));
            out.dtype = promote(out.dtype, s.input(i).dtype);
          }
          out.shape.insert(normalize_dim(whole_number(s.attribute(0)), out.shape.ndim() + 1, "stack"), s.num_inputs());
          s.output(0) = out;
        },
    .decompose = [](const DecomposeCall& c) -> Results {
      std::vector<DTensor> tensors;
      for (const DTensor* t : c.inputs) tensors.push_back(*t);
      return {stack(tensors, whole_number(c.attribute(0)))};
    },
    .samples =
        [] {
          return Samples{{.shapes = {{3, 5}, {3, 5}}, .attributes = {{"dim", "-1"}}}, {.shapes = {{}, {}, {}}}};
        },
};
// Where the channels stand among the dims, or a refusal.
int channels_of(const Shape& shape, std::int64_t factor, bool shuffle, std::string_view op) {
  const int at = shape.ndim() - 3;
  const bool fits =
      factor > 0 && at >= 0 && (shuffle ? shape[at] % (factor * factor) == 0 : shape[at + 1] % factor == 0 && shape[at + 2] % factor == 0);
  if (!fits)
    throw InvalidArgument(
        fmt::format("{}: factor {} does not divide {}; give [..., channels, height, width] that it divides", op, factor, to_string(shape)));
  return at;
}
constexpr OpDef kPixelShuffle{
    .name = "pixel_shuffle",
    .signature = "input, upscale_factor: int -> out",
    .shape =
        [](ShapeCall& s) {
          Shape shape = s.input(0).shape;
          const std::int64_t r = s.attribute(0).as_int();
          const int at = channels_of(shape, r, true, "pixel_shuffle");
          shape[at] /= r * r, shape[at + 1] *= r, shape[at + 2] *= r;
          set_shape(s, shape);
        },
    .decompose = [](const DecomposeCall& c) -> Results { return {pixel_shuffle(c.input(0), c.attribute(0).as_int())}; },
    .samples =
        [] {
          return Samples{{.shapes = {{2, 8, 3, 2}}, .attributes = {{"upscale_factor", "2"}}}};
        },
};
constexpr OpDef kPixelUnshuffle{
    .name = "pixel_unshuffle",
    .signature = "input, downscale_factor: int -> out",
    .shape =
        [](ShapeCall& s) {
          Shape shape = s.input(0).shape;
          const std::int64_t r = s.attribute(0).as_int();
          const int at = channels_of(shape, r, false, "pixel_unshuffle");
          shape[at] *= r * r, shape[at + 1] /= r, shape[at + 2] /= r;
          set_shape(s, shape);
        },
    .decompose = [](const DecomposeCall& c) -> Results { return {pixel_unshuffle(c.input(0), c.attribute(0).as_int())}; },
    .samples =
        [] {
          return Samples{{.shapes = {{2, 3, 4, 6}}, .attributes = {{"downscale_factor", "2"}}}};
        },
};

constexpr std::array<const OpDef*, 16> kOps{&kView,         &kFlatten,       &kUnflatten, &kTranspose,   &kMovedim, &kNarrow,           &kSelect,
                                            &kUnbind,       &kSplit,         &kChunk,     &kTensorSplit, &kRepeat,  &kRepeatInterleave, &kStack,
                                            &kPixelShuffle, &kPixelUnshuffle};

}  // namespace

namespace ops {
OpList view_form_ops() { return kOps; }
}  // namespace ops

DTensor rot90(const DTensor& input, std::int64_t k, const Shape& dims) {
  if (dims.ndim() != 2) throw InvalidArgument(fmt::format("rot90: dims {} are not two", to_string(dims)));
  const int a = normalize_dim(static_cast<int>(dims[0]), input.ndim(), "rot90"), b = normalize_dim(static_cast<int>(dims[1]), input.ndim(), "rot90");
  switch (((k % 4) + 4) % 4) {
    case 1:
      return transpose(flip(input, {b}), a, b);
    case 2:
      return flip(input, {a, b});
    case 3:
      return flip(transpose(input, a, b), {b});
    default:
      return alias(input);
  }
}
DTensor diag(const DTensor& input, std::int64_t diagonal_at) {
  return input.ndim() == 1 ? diag_embed(input, diagonal_at) : diagonal(input, diagonal_at);
}

DTensor movedim(const DTensor& input, const Shape& source, const Shape& destination) {
  return permute(input, moved_order(source, destination, input.ndim()));
}
DTensor movedim(const DTensor& input, int source, int destination) { return movedim(input, Shape{source}, Shape{destination}); }
DTensor moveaxis(const DTensor& input, const Shape& source, const Shape& destination) { return movedim(input, source, destination); }
DTensor swapaxes(const DTensor& input, int axis0, int axis1) { return transpose(input, axis0, axis1); }
DTensor swapdims(const DTensor& input, int dim0, int dim1) { return transpose(input, dim0, dim1); }
DTensor broadcast_to(const DTensor& input, const Shape& size) { return expand(input, size); }

// Dimension by dimension, so that no intermediate has more dims than a tensor may have.
DTensor repeat(const DTensor& input, const Shape& repeats) {
  const int extra = repeats.ndim() - input.ndim();
  if (extra < 0) throw InvalidArgument(fmt::format("repeat: repeats {} are fewer than the dims of {}", to_string(repeats), to_string(input)));
  DTensor out = input;
  for (int d = 0; d < input.ndim(); ++d) {
    if (repeats[d + extra] == 1) continue;
    Shape wide = out.shape(), flat = wide;
    wide.insert(d, repeats[d + extra]);
    flat[d] *= repeats[d + extra];
    out = reshape(expand(unsqueeze(out, d), wide), flat);
  }
  if (extra == 0) return repeats.numel() == 1 ? clone(out) : out;
  Shape shape;
  for (int d = 0; d < extra; ++d) shape.push_back(repeats[d]);
  for (std::int64_t n : out.shape()) shape.push_back(n);
  return clone(expand(out, shape));
}
DTensor tile(const DTensor& input, const Shape& dims) {
  Shape repeats = dims;
  while (repeats.ndim() < input.ndim()) repeats.insert(0, 1);
  return repeat(input, repeats);
}
DTensor repeat_interleave(const DTensor& input, std::int64_t repeats, std::optional<int> dim) {
  if (!dim) return repeat_interleave(reshape(input, {input.numel()}), repeats, 0);
  const int d = normalize_dim(*dim, input.ndim(), "repeat_interleave");
  if (repeats < 0) throw InvalidArgument(fmt::format("repeat_interleave: repeats {} is negative", repeats));
  Shape wide = input.shape(), flat = wide;
  wide.insert(d + 1, repeats);
  flat[d] *= repeats;
  return reshape(expand(unsqueeze(input, d + 1), wide), flat);
}

std::vector<DTensor> unbind(const DTensor& input, int dim) {
  const int d = normalize_dim(dim, input.ndim(), "unbind");
  std::vector<DTensor> parts;
  for (std::int64_t i = 0; i < input.shape()[d]; ++i) parts.push_back(select(input, d, i));
  return parts;
}
std::vector<DTensor> tensor_split(const DTensor& input, int sections, int dim) {
  const int d = normalize_dim(dim, input.ndim(), "tensor_split");
  if (sections < 1) throw InvalidArgument(fmt::format("tensor_split: sections {} is not positive", sections));
  std::vector<DTensor> parts;
  std::int64_t at = 0;
  for (std::int64_t n : balanced_pieces(input.shape()[d], sections)) {
    parts.push_back(slice(input, d, at, at + n));
    at += n;
  }
  return parts;
}
std::vector<DTensor> tensor_split(const DTensor& input, const Shape& indices, int dim) {
  const int d = normalize_dim(dim, input.ndim(), "tensor_split");
  const std::int64_t n = input.shape()[d];
  std::vector<DTensor> parts;
  std::int64_t at = 0;
  for (int k = 0; k <= indices.ndim(); ++k) {
    const std::int64_t end = k == indices.ndim() ? n : std::clamp<std::int64_t>(indices[k] < 0 ? indices[k] + n : indices[k], 0, n);
    parts.push_back(slice(input, d, at, std::max(at, end)));
    at = end;
  }
  return parts;
}
DTensor hstack(std::span<const DTensor> tensors) {
  std::vector<DTensor> parts;
  for (const DTensor& t : tensors) parts.push_back(t.ndim() == 0 ? reshape(t, {1}) : t);
  return cat(parts, !parts.empty() && parts[0].ndim() > 1 ? 1 : 0);
}
DTensor vstack(std::span<const DTensor> tensors) {
  std::vector<DTensor> parts;
  for (const DTensor& t : tensors) parts.push_back(t.ndim() < 2 ? reshape(t, {1, t.numel()}) : t);
  return cat(parts, 0);
}

DTensor pixel_shuffle(const DTensor& input, std::int64_t upscale_factor) {
  const std::int64_t r = upscale_factor;
  const int at = channels_of(input.shape(), r, true, "pixel_shuffle");
  const DTensor cut = unflatten(input, at, {input.shape()[at] / (r * r), r, r});  // c r r h w
  const DTensor moved = movedim(cut, {at + 1, at + 2}, {at + 2, at + 4});         // c h r w r
  return flatten(flatten(moved, at + 3, at + 4), at + 1, at + 2);
}
DTensor pixel_unshuffle(const DTensor& input, std::int64_t downscale_factor) {
  const std::int64_t r = downscale_factor;
  const int at = channels_of(input.shape(), r, false, "pixel_unshuffle");
  const DTensor cut = unflatten(unflatten(input, at + 2, {-1, r}), at + 1, {-1, r});  // c h r w r
  return flatten(movedim(cut, {at + 2, at + 4}, {at + 1, at + 2}), at, at + 2);
}

}  // namespace dtensor
