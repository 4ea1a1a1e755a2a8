// SPDX-License-Identifier: Apache-2.0
#include "dtensor/ops/convolution.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "dtensor/op.h"
#include "dtensor/ops/reductions.h"
#include "local/cpu/spatial.h"
#include "local/kernels/convolution.h"
#include "ops/families.h"
#include "ops/spatial.h"

namespace dtensor {
namespace {

namespace cpu = local::cpu;
namespace kernels = local::kernels;
using ops::last_sizes;
using ops::numbered;
using ops::per_dim;
using ops::with_last_sizes;

// ---- attributes and sizes
constexpr std::string_view kSame = "same", kValid = "valid";

// "3", "[1, 2]", "[1,2]"
Shape listed(std::string_view text) {
  Shape list;
  for (const char *at = text.data(), *end = at + text.size(); at != end;) {
    std::int64_t n = 0;
    const auto r = std::from_chars(at, end, n);
    if (r.ec == std::errc() && list.ndim() < kMaxDims) list.push_back(n);
    at = r.ec == std::errc() ? r.ptr : at + 1;
  }
  return list;
}
Shape low_padding(std::string_view text, const Shape& kernel, const Shape& dilation) {
  const int spatial = kernel.ndim();
  Shape padding = Shape::filled(spatial, 0);
  if (text == kSame) {
    for (int d = 0; d < spatial; ++d) padding[d] = dilation[d] * (kernel[d] - 1) / 2;
  } else if (text != kValid) {
    const Shape list = listed(text);
    for (int d = 0; d < spatial; ++d) padding[d] = list.ndim() == 1 ? list[0] : list[d];
  }
  return padding;
}

struct Geometry {
  Shape stride, padding, dilation;
  std::int64_t groups = 1;
};
// Of the parts of the input ("image") and the result ("map") that are here.
cpu::Convolution local_rule(const Geometry& g, const Place& image, const Place& map) {
  const int spatial = g.stride.ndim();
  cpu::Convolution c{.spatial = spatial};
  for (int d = 0; d < spatial; ++d) {
    const std::size_t at = cpu::spatial_place(d, spatial);
    const std::int64_t first = image.begin(image.global.ndim() - spatial + d), position = map.begin(map.global.ndim() - spatial + d);
    c.stride[at] = g.stride[d], c.dilation[at] = g.dilation[d], c.padding[at] = g.padding[d] - position * g.stride[d] + first;
  }
  return c;
}

void check_operands(const ShapeCall& s, int image, int spatial) {
  const int ndim = s.input(image).shape.ndim();
  if (ndim != spatial + 1 && ndim != spatial + 2)
    s.fail("the input must be [N, C, sizes] or [C, sizes] with " + std::to_string(spatial) + " sizes (" + s.describe(image) + ")");
}
void check_weight(const ShapeCall& s, int spatial) {
  if (s.input(1).shape.ndim() != spatial + 2)
    s.fail("the weight must have " + std::to_string(spatial + 2) + " dims, two of channels and the kernel (" + s.describe(1) + ")");
  for (std::int64_t n : last_sizes(s.input(1).shape, spatial))
    if (n == 0) s.fail("the kernel is empty (" + s.describe(1) + "); give sizes of at least one");
  if (s.input(1).dtype != s.input(0).dtype) s.fail("dtypes differ (" + s.describe(0) + ", " + s.describe(1) + "); convert one");
}
void check_bias(const ShapeCall& s, std::int64_t channels) {
  if (s.has_input(2) && (s.input(2).shape != Shape{channels} || s.input(2).dtype != s.input(0).dtype))
    s.fail("the bias must be [" + std::to_string(channels) + "] of the input's dtype (" + s.describe(2) + ")");
}
std::int64_t channels_of(const Shape& image, int spatial) { return image[image.ndim() - spatial - 1]; }

// ---- names: (g q) channels of the image, (g p) channels of the map
struct Names {
  std::string batch, image, map, weight, image_channels, map_channels;
  Names(const Shape& of_image, int spatial, bool grouped) {
    batch = of_image.ndim() == spatial + 2 ? "n " : "";
    image_channels = grouped ? "(g q)" : "q";
    map_channels = grouped ? "(g p)" : "p";
    image = batch + image_channels + " " + numbered("s", spatial);
    map = batch + map_channels + " " + numbered("t", spatial);
    weight = map_channels + " q " + numbered("k", spatial);
  }
};
// t of the result reads t * stride - padding + k * dilation.
std::string image_windows(const Geometry& g, const Shape& kernel) {
  std::string text = numbered("k", kernel.ndim(), ", ") + ": whole";
  for (int d = 0; d < kernel.ndim(); ++d)
    text += "; " + ops::window_clause("s" + std::to_string(d), "t" + std::to_string(d), g.stride[d], -g.padding[d],
                                      g.dilation[d] * (kernel[d] - 1) - g.padding[d]);
  return text;
}
// s of the input is read by those t for which (s + padding - k * dilation) / stride is t.
std::string map_windows(const Geometry& g, const Shape& kernel) {
  std::string text = numbered("k", kernel.ndim(), ", ") + ": whole";
  for (int d = 0; d < kernel.ndim(); ++d) {
    const std::int64_t high = g.padding[d], low = high - g.dilation[d] * (kernel[d] - 1) + g.stride[d] - 1;
    text += "; " + ops::window_clause("t" + std::to_string(d), "s" + std::to_string(d), 1, std::min(low, high), high, g.stride[d]);
  }
  return text;
}

// ---- the gradients, which are bilinear as the convolution is; attributes: sizes of the result, stride, padding in front, dilation, groups
constexpr int kSizes = 0, kStride = 1, kPadding = 2, kDilation = 3, kGroups = 4;
int spatial_of(const Attribute& sizes) { return static_cast<int>(sizes.as_list().size()); }
template <class Call>
Geometry geometry_of(const Call& c) {
  return {c.attribute(kStride).as_shape(), c.attribute(kPadding).as_shape(), c.attribute(kDilation).as_shape(), c.attribute(kGroups).as_int()};
}
std::vector<std::pair<std::string, std::string>> plain_attributes(std::string_view sizes, std::string_view name, std::string_view ones,
                                                                  std::string_view zeros, std::string_view groups = "1") {
  return {{std::string(name), std::string(sizes)},
          {"stride", std::string(ones)},
          {"padding", std::string(zeros)},
          {"dilation", std::string(ones)},
          {"groups", std::string(groups)}};
}

std::vector<DTensor> map_gradient(const GradientCall& g);
std::vector<DTensor> input_gradient_gradient(const GradientCall& g);
std::vector<DTensor> weight_gradient_gradient(const GradientCall& g);

// A convolution whose sizes are said, since the padding behind may differ from that in front.
constexpr OpDef kMap{
    .name = "convolution",
    .signature = "input, weight, *, output_size: int[], stride: int[], padding: int[], dilation: int[], groups: int = 1 -> out",
    .saves = "input, weight",
    .dtypes = "number",
    .contiguous = true,
    .shape =
        [](ShapeCall& s) {
          const int spatial = spatial_of(s.attribute(kSizes));
          check_operands(s, 0, spatial);
          check_weight(s, spatial);
          Shape shape = with_last_sizes(s.input(0).shape, s.attribute(kSizes).as_shape());
          shape[shape.ndim() - spatial - 1] = s.input(1).shape[0];
          s.output(0) = {.shape = shape, .dtype = s.input(0).dtype};
        },
    .rule_for =
        [](const ShapeCall& s) {
          const Names n(s.input(0).shape, spatial_of(s.attribute(kSizes)), s.attribute(kGroups).as_int() > 1);
          return n.image + ", " + n.weight + " -> " + n.map + "  q: reduce(sum); " +
                 image_windows(geometry_of(s), last_sizes(s.input(1).shape, spatial_of(s.attribute(kSizes)))) + "; bilinear";
        },
    .kernel =
        [](const KernelCall& c) {
          kernels::convolution(local_rule(geometry_of(c), c.input_place(0), c.output_place(0)), c.input(0), c.input(1), nullptr, c.output(0));
        },
    .gradient = map_gradient,
    .samples =
        [] {
          return std::vector<Sample>{
              {.shapes = {{2, 3, 4}, {4, 3, 2}}, .attributes = plain_attributes("[4]", "output_size", "[1]", "[0]")},
              {.shapes = {{5, 2, 3, 2}, {4, 1, 2, 2}}, .attributes = plain_attributes("[2, 2]", "output_size", "[1, 1]", "[0, 0]", "2")}};
        },
};
constexpr OpDef kInputGradient{
    .name = "convolution_input_gradient",
    .signature = "grad_output, weight, *, input_size: int[], stride: int[], padding: int[], dilation: int[], groups: int = 1 -> grad_input",
    .saves = "grad_output, weight",
    .dtypes = "floating",
    .contiguous = true,
    .shape =
        [](ShapeCall& s) {
          const int spatial = spatial_of(s.attribute(kSizes));
          check_operands(s, 0, spatial);
          check_weight(s, spatial);
          Shape shape = with_last_sizes(s.input(0).shape, s.attribute(kSizes).as_shape());
          shape[shape.ndim() - spatial - 1] = s.input(1).shape[1] * s.attribute(kGroups).as_int();
          s.output(0) = {.shape = shape, .dtype = s.input(0).dtype};
        },
    .rule_for =
        [](const ShapeCall& s) {
          const Names n(s.input(0).shape, spatial_of(s.attribute(kSizes)), s.attribute(kGroups).as_int() > 1);
          return n.map + ", " + n.weight + " -> " + n.image + "  p: reduce(sum); " +
                 map_windows(geometry_of(s), last_sizes(s.input(1).shape, spatial_of(s.attribute(kSizes)))) + "; bilinear";
        },
    .kernel =
        [](const KernelCall& c) {
          kernels::convolution_input_gradient(local_rule(geometry_of(c), c.output_place(0), c.input_place(0)), c.input(0), c.input(1), nullptr,
                                              c.output(0));
        },
    .gradient = input_gradient_gradient,
    .samples =
        [] {
          return std::vector<Sample>{
              {.shapes = {{2, 4, 3}, {4, 3, 2}}, .attributes = plain_attributes("[4]", "input_size", "[1]", "[0]")},
              {.shapes = {{5, 4, 3, 2}, {4, 1, 2, 2}}, .attributes = plain_attributes("[4, 3]", "input_size", "[1, 1]", "[0, 0]", "2")},
              {.shapes = {{0, 2, 3}, {2, 3, 1}}, .attributes = plain_attributes("[3]", "input_size", "[1]", "[0]")}};
        },
};
constexpr OpDef kWeightGradient{
    .name = "convolution_weight_gradient",
    .signature = "grad_output, input, *, kernel_size: int[], stride: int[], padding: int[], dilation: int[], groups: int = 1 -> grad_weight",
    .saves = "grad_output, input",
    .dtypes = "floating",
    .contiguous = true,
    .shape =
        [](ShapeCall& s) {
          const int spatial = spatial_of(s.attribute(kSizes));
          check_operands(s, 0, spatial);
          check_operands(s, 1, spatial);
          Shape shape{channels_of(s.input(0).shape, spatial), channels_of(s.input(1).shape, spatial) / s.attribute(kGroups).as_int()};
          for (std::int64_t n : s.attribute(kSizes).as_list()) shape.push_back(n);
          s.output(0) = {.shape = shape, .dtype = s.input(1).dtype};
        },
    .rule_for =
        [](const ShapeCall& s) {
          const Names n(s.input(1).shape, spatial_of(s.attribute(kSizes)), s.attribute(kGroups).as_int() > 1);
          return n.map + ", " + n.image + " -> " + n.weight + "  " + (n.batch.empty() ? "" : "n, ") +
                 numbered("t", spatial_of(s.attribute(kSizes)), ", ") + ": reduce(sum); " +
                 image_windows(geometry_of(s), s.attribute(kSizes).as_shape()) + "; bilinear";
        },
    .kernel =
        [](const KernelCall& c) {
          kernels::convolution_weight_gradient(local_rule(geometry_of(c), c.input_place(1), c.input_place(0)), c.input(0), c.input(1), c.output(0));
        },
    .gradient = weight_gradient_gradient,
    .samples =
        [] {
          return std::vector<Sample>{
              {.shapes = {{5, 4, 3}, {5, 3, 4}}, .attributes = plain_attributes("[2]", "kernel_size", "[1]", "[0]")},
              {.shapes = {{2, 4, 3, 2}, {2, 2, 4, 3}}, .attributes = plain_attributes("[2, 2]", "kernel_size", "[1, 1]", "[0, 0]", "2")},
              {.shapes = {{0, 2, 3}, {0, 3, 3}}, .attributes = plain_attributes("[1]", "kernel_size", "[1]", "[0]")}};
        },
};

DTensor to_map(const DTensor& input, const DTensor& weight, const Shape& sizes, const Geometry& g) {
  return call(kMap, {input, weight}, {sizes, g.stride, g.padding, g.dilation, g.groups});
}
DTensor to_input(const DTensor& grad, const DTensor& weight, const Shape& sizes, const Geometry& g) {
  return call(kInputGradient, {grad, weight}, {sizes, g.stride, g.padding, g.dilation, g.groups});
}
DTensor to_weight(const DTensor& grad, const DTensor& input, const Shape& kernel, const Geometry& g) {
  return call(kWeightGradient, {grad, input}, {kernel, g.stride, g.padding, g.dilation, g.groups});
}

std::vector<Attribute> attributes_of(const ShapeCall& s, int count) {
  std::vector<Attribute> list;
  for (int i = 0; i < count; ++i) list.push_back(s.attribute(i));
  return list;
}

// ---- conv1d, conv2d, conv3d: attributes stride, padding, dilation, groups
Geometry geometry_of(std::span<const Attribute> attributes, const Shape& weight) {
  const int spatial = weight.ndim() - 2;
  const Shape dilation = per_dim(attributes[2], spatial, 1);
  return {per_dim(attributes[0], spatial, 1), low_padding(attributes[1].as_text(), last_sizes(weight, spatial), dilation), dilation,
          attributes[3].as_int()};
}
struct Padded {
  Shape low, total;
};
Padded checked_padding(const ShapeCall& s, const Shape& kernel, const Shape& stride, const Shape& dilation) {
  const int spatial = kernel.ndim();
  const std::string_view text = s.attribute(1).as_text();
  const Shape list = text == kSame || text == kValid ? Shape{0} : listed(text);
  bool fits = list.ndim() == 1 || list.ndim() == spatial;
  for (std::int64_t n : list) fits = fits && n >= 0;
  if (!fits) s.fail("padding is '" + std::string(text) + "'; give a number, " + std::to_string(spatial) + " numbers, same or valid");
  if (text == kSame && stride != Shape::filled(spatial, 1)) s.fail("padding 'same' needs stride 1 (" + to_string(stride) + "); give numbers");
  Padded p{low_padding(text, kernel, dilation), {}};
  for (int d = 0; d < spatial; ++d) p.total.push_back(text == kSame ? dilation[d] * (kernel[d] - 1) : 2 * p.low[d]);
  return p;
}
template <int spatial>
void convolution_shape(ShapeCall& s) {
  check_operands(s, 0, spatial);
  check_weight(s, spatial);
  const Shape &input = s.input(0).shape, &weight = s.input(1).shape;
  const Shape kernel = last_sizes(weight, spatial);
  const Shape stride = ops::checked_per_dim(s, s.attribute(0), spatial, 1, "stride", 1);
  const Shape dilation = ops::checked_per_dim(s, s.attribute(2), spatial, 1, "dilation", 1);
  const Padded padding = checked_padding(s, kernel, stride, dilation);
  const std::int64_t groups = s.attribute(3).as_int(), channels = channels_of(input, spatial);
  if (groups < 1 || channels % groups != 0 || weight[0] % groups != 0 || weight[1] * groups != channels)
    s.fail("groups " + std::to_string(groups) + " do not fit (" + s.describe(0) + ", " + s.describe(1) +
           "); the weight must be [O, C / groups, kernel] with O divisible by groups");
  check_bias(s, weight[0]);
  Shape sizes;
  for (int d = 0; d < spatial; ++d) {
    const std::int64_t room = input[input.ndim() - spatial + d] + padding.total[d] - dilation[d] * (kernel[d] - 1) - 1;
    if (room < 0) s.fail("the kernel " + to_string(kernel) + " is larger than the padded input (" + s.describe(0) + "); pad more");
    sizes.push_back(room / stride[d] + 1);
  }
  Shape shape = with_last_sizes(input, sizes);
  shape[shape.ndim() - spatial - 1] = weight[0];
  s.output(0) = {.shape = shape, .dtype = s.input(0).dtype};
}
std::string convolution_rule(const ShapeCall& s) {
  const int spatial = s.input(1).shape.ndim() - 2;
  const Names n(s.input(0).shape, spatial, s.attribute(3).as_int() > 1);
  const bool bias = s.has_input(2);
  return n.image + ", " + n.weight + ", " + (bias ? n.map_channels : "()") + " -> " + n.map + "  q: reduce(sum" + (bias ? ", addend 3); " : "); ") +
         image_windows(geometry_of(attributes_of(s, 4), s.input(1).shape), last_sizes(s.input(1).shape, spatial)) + (bias ? "" : "; bilinear 1 2");
}
void convolution_kernel(const KernelCall& c) {
  const Geometry g = geometry_of(c.attributes_, c.input(1).shape());
  kernels::convolution(local_rule(g, c.input_place(0), c.output_place(0)), c.input(0), c.input(1), c.has_input(2) ? &c.input(2) : nullptr,
                       c.output(0));
}
// Sum over all dims but the channels.
DTensor bias_gradient(const DTensor& grad, int spatial) {
  std::vector<int> dims;
  for (int d = 0; d < grad.ndim(); ++d)
    if (d != grad.ndim() - spatial - 1) dims.push_back(d);
  return sum(grad, std::span<const int>(dims));
}
std::vector<DTensor> convolution_gradient(const GradientCall& g) {
  const DTensor& up = g.grad_output(0);
  const Shape &input = g.input_type(0).shape, &weight = g.input_type(1).shape;
  const int spatial = weight.ndim() - 2;
  const Geometry at = geometry_of(g.attributes_, weight);
  return {g.needs(0) ? to_input(up, g.input(1), last_sizes(input, spatial), at) : DTensor(),
          g.needs(1) ? to_weight(up, g.input(0), last_sizes(weight, spatial), at) : DTensor(), g.needs(2) ? bias_gradient(up, spatial) : DTensor()};
}
constexpr OpDef convolution(std::string_view name, void (*shape)(ShapeCall&), std::vector<Sample> (*samples)()) {
  OpDef op;
  op.name = name;
  op.signature = "input, weight, bias?, *, stride: int[] = [1], padding: text = 0, dilation: int[] = [1], groups: int = 1 -> out";
  op.saves = "input, weight";
  op.dtypes = "number";
  op.contiguous = true;
  op.shape = shape;
  op.rule_for = convolution_rule;
  op.kernel = convolution_kernel;
  op.gradient = convolution_gradient;
  op.samples = samples;
  op.reasons = "with a bias a Partial input or weight is reduced first: the bias would be added on every rank";
  return op;
}
constexpr OpDef kConv1d = convolution("conv1d", convolution_shape<1>, [] {
  return std::vector<Sample>{{.shapes = {{3, 2, 5}, {4, 2, 3}, {4}}, .attributes = {{"padding", "1"}, {"stride", "[2]"}}},
                             {.shapes = {{4, 5}, {6, 2, 2}, {}}, .attributes = {{"groups", "2"}, {"padding", "same"}}},
                             {.shapes = {{0, 2, 4}, {3, 2, 3}, {3}}}};
});
constexpr OpDef kConv2d = convolution("conv2d", convolution_shape<2>, [] {
  return std::vector<Sample>{{.shapes = {{2, 3, 4, 3}, {2, 3, 2, 2}, {2}}, .attributes = {{"padding", "[1, 0]"}, {"dilation", "[1, 2]"}}},
                             {.shapes = {{1, 4, 3, 3}, {4, 1, 2, 2}, {4}}, .attributes = {{"groups", "4"}}},
                             {.shapes = {{5, 2, 1, 1}, {1, 2, 1, 1}, {}}}};
});
constexpr OpDef kConv3d = convolution("conv3d", convolution_shape<3>, [] {
  return std::vector<Sample>{{.shapes = {{2, 2, 2, 3, 2}, {3, 2, 2, 2, 1}, {3}}, .attributes = {{"stride", "[1, 2, 1]"}}}};
});

// ---- conv_transpose1d, conv_transpose2d: attributes stride, padding, output_padding, groups, dilation
Geometry transpose_geometry(std::span<const Attribute> attributes, int spatial) {
  return {per_dim(attributes[0], spatial, 1), per_dim(attributes[1], spatial, 0), per_dim(attributes[4], spatial, 1), attributes[3].as_int()};
}
template <int spatial>
void transpose_shape(ShapeCall& s) {
  check_operands(s, 0, spatial);
  check_weight(s, spatial);
  const Shape &input = s.input(0).shape, &weight = s.input(1).shape;
  const Shape stride = ops::checked_per_dim(s, s.attribute(0), spatial, 1, "stride", 1);
  const Shape padding = ops::checked_per_dim(s, s.attribute(1), spatial, 0, "padding", 0);
  const Shape more = ops::checked_per_dim(s, s.attribute(2), spatial, 0, "output_padding", 0);
  const Shape dilation = ops::checked_per_dim(s, s.attribute(4), spatial, 1, "dilation", 1);
  const std::int64_t groups = s.attribute(3).as_int();
  if (groups < 1 || weight[0] % groups != 0 || weight[0] != channels_of(input, spatial))
    s.fail("groups " + std::to_string(groups) + " do not fit (" + s.describe(0) + ", " + s.describe(1) +
           "); the weight must be [C, O / groups, kernel] with C divisible by groups");
  check_bias(s, weight[1] * groups);
  Shape sizes;
  for (int d = 0; d < spatial; ++d) {
    if (more[d] >= stride[d] && more[d] >= dilation[d])
      s.fail("output_padding " + to_string(more) + " must be below stride " + to_string(stride) + " or dilation " + to_string(dilation));
    const std::int64_t n = input[input.ndim() - spatial + d];
    sizes.push_back((n - 1) * stride[d] - 2 * padding[d] + dilation[d] * (weight[2 + d] - 1) + more[d] + 1);
    if (n == 0 || sizes[d] < 0) s.fail("nothing is left of the result (" + s.describe(0) + "); pad less");
  }
  Shape shape = with_last_sizes(input, sizes);
  shape[shape.ndim() - spatial - 1] = weight[1] * groups;
  s.output(0) = {.shape = shape, .dtype = s.input(0).dtype};
}
std::string transpose_rule(const ShapeCall& s) {
  const int spatial = s.input(1).shape.ndim() - 2;
  const Names n(s.input(0).shape, spatial, s.attribute(3).as_int() > 1);
  const bool bias = s.has_input(2);
  return n.map + ", " + n.weight + ", " + (bias ? n.image_channels : "()") + " -> " + n.image + "  p: reduce(sum" + (bias ? ", addend 3); " : "); ") +
         map_windows(transpose_geometry(attributes_of(s, 5), spatial), last_sizes(s.input(1).shape, spatial)) + (bias ? "" : "; bilinear 1 2");
}
void transpose_kernel(const KernelCall& c) {
  const Geometry g = transpose_geometry(c.attributes_, c.input(1).ndim() - 2);
  kernels::convolution_input_gradient(local_rule(g, c.output_place(0), c.input_place(0)), c.input(0), c.input(1),
                                      c.has_input(2) ? &c.input(2) : nullptr, c.output(0));
}
std::vector<DTensor> transpose_gradient(const GradientCall& g) {
  const DTensor& up = g.grad_output(0);
  const Shape& weight = g.input_type(1).shape;
  const int spatial = weight.ndim() - 2;
  const Geometry at = transpose_geometry(g.attributes_, spatial);
  return {g.needs(0) ? to_map(up, g.input(1), last_sizes(g.input_type(0).shape, spatial), at) : DTensor(),
          g.needs(1) ? to_weight(g.input(0), up, last_sizes(weight, spatial), at) : DTensor(), g.needs(2) ? bias_gradient(up, spatial) : DTensor()};
}
constexpr OpDef transposed(std::string_view name, void (*shape)(ShapeCall&), std::vector<Sample> (*samples)()) {
  OpDef op;
  op.name = name;
  op.signature =
      "input, weight, bias?, *, stride: int[] = [1], padding: int[] = [0], output_padding: int[] = [0], groups: int = 1, dilation: int[] = [1] -> "
      "out";
  op.saves = "input, weight";
  op.dtypes = "floating";
  op.contiguous = true;
  op.shape = shape;
  op.rule_for = transpose_rule;
  op.kernel = transpose_kernel;
  op.gradient = transpose_gradient;
  op.samples = samples;
  op.reasons = "with a bias a Partial input or weight is reduced first: the bias would be added on every rank";
  return op;
}
constexpr OpDef kConvTranspose1d = transposed("conv_transpose1d", transpose_shape<1>, [] {
  return std::vector<Sample>{{.shapes = {{3, 2, 4}, {2, 3, 3}, {3}}, .attributes = {{"stride", "[2]"}, {"output_padding", "[1]"}}},
                             {.shapes = {{2, 3}, {2, 1, 2}, {}}, .attributes = {{"groups", "2"}, {"padding", "[1]"}}}};
});
constexpr OpDef kConvTranspose2d = transposed("conv_transpose2d", transpose_shape<2>, [] {
  return std::vector<Sample>{{.shapes = {{2, 3, 2, 3}, {3, 2, 2, 2}, {2}}, .attributes = {{"stride", "[2, 1]"}, {"padding", "[1, 0]"}}},
                             {.shapes = {{1, 4, 2, 2}, {4, 1, 2, 1}, {}}, .attributes = {{"groups", "2"}}},
                             {.shapes = {{0, 2, 2, 2}, {2, 1, 1, 1}, {1}}}};
});

std::vector<DTensor> map_gradient(const GradientCall& g) {
  const Geometry at = geometry_of(g);
  const DTensor& up = g.grad_output(0);
  const int spatial = at.stride.ndim();
  return {g.needs(0) ? to_input(up, g.input(1), last_sizes(g.input_type(0).shape, spatial), at) : DTensor(),
          g.needs(1) ? to_weight(up, g.input(0), last_sizes(g.input_type(1).shape, spatial), at) : DTensor()};
}
std::vector<DTensor> input_gradient_gradient(const GradientCall& g) {
  const Geometry at = geometry_of(g);
  const DTensor& v = g.grad_output(0);
  const int spatial = at.stride.ndim();
  return {g.needs(0) ? to_map(v, g.input(1), last_sizes(g.input_type(0).shape, spatial), at) : DTensor(),
          g.needs(1) ? to_weight(g.input(0), v, last_sizes(g.input_type(1).shape, spatial), at) : DTensor()};
}
std::vector<DTensor> weight_gradient_gradient(const GradientCall& g) {
  const Geometry at = geometry_of(g);
  const DTensor& v = g.grad_output(0);
  const int spatial = at.stride.ndim();
  return {g.needs(0) ? to_map(g.input(1), v, last_sizes(g.input_type(0).shape, spatial), at) : DTensor(),
          g.needs(1) ? to_input(g.input(0), v, last_sizes(g.input_type(1).shape, spatial), at) : DTensor()};
}

constexpr std::array<const OpDef*, 8> kOps{&kConv1d,          &kConv2d, &kConv3d,        &kConvTranspose1d,
                                           &kConvTranspose2d, &kMap,    &kInputGradient, &kWeightGradient};

DTensor convolve(const OpDef& op, const DTensor& input, const DTensor& weight, const DTensor& bias, const ConvolutionOptions& o) {
  return call(op, {input, weight, bias ? Input(bias) : Input()}, {o.stride, o.padding.text(), o.dilation, o.groups});
}
DTensor spread(const OpDef& op, const DTensor& input, const DTensor& weight, const DTensor& bias, const ConvTransposeOptions& o) {
  return call(op, {input, weight, bias ? Input(bias) : Input()}, {o.stride, o.padding, o.output_padding, o.groups, o.dilation});
}

}  // namespace

namespace ops {
OpList convolution_ops() { return kOps; }
}  // namespace ops

DTensor conv1d(const DTensor& input, const DTensor& weight, const DTensor& bias, const ConvolutionOptions& o) {
  return convolve(kConv1d, input, weight, bias, o);
}
DTensor conv2d(const DTensor& input, const DTensor& weight, const DTensor& bias, const ConvolutionOptions& o) {
  return convolve(kConv2d, input, weight, bias, o);
}
DTensor conv3d(const DTensor& input, const DTensor& weight, const DTensor& bias, const ConvolutionOptions& o) {
  return convolve(kConv3d, input, weight, bias, o);
}
DTensor conv_transpose1d(const DTensor& input, const DTensor& weight, const DTensor& bias, const ConvTransposeOptions& o) {
  return spread(kConvTranspose1d, input, weight, bias, o);
}
DTensor conv_transpose2d(const DTensor& input, const DTensor& weight, const DTensor& bias, const ConvTransposeOptions& o) {
  return spread(kConvTranspose2d, input, weight, bias, o);
}

}  // namespace dtensor
