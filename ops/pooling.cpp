// SPDX-License-Identifier: Apache-2.0
#include "dtensor/ops/pooling.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "dtensor/op.h"
#include "dtensor/ops/embedding.h"
#include "dtensor/ops/views.h"
#include "local/cpu/spatial.h"
#include "local/kernels/pooling.h"
#include "ops/families.h"
#include "ops/spatial.h"

namespace dtensor {
namespace {

namespace cpu = local::cpu;
namespace kernels = local::kernels;
using ops::checked_per_dim;
using ops::last_sizes;
using ops::numbered;
using ops::per_dim;
using ops::with_last_sizes;

void check_image(const ShapeCall& s, int input) {
  const int ndim = s.input(input).shape.ndim();
  if (ndim != 3 && ndim != 4) s.fail("the input must be [N, C, H, W] or [C, H, W] (" + s.describe(input) + ")");
}

// ---- sizes of pooling; in an op's attributes: kernel_size, stride, padding first
struct Pool {
  Shape kernel, stride, padding, dilation;
  bool ceil_mode;
};
Shape stride_of(const Attribute& stride, const Shape& kernel) {
  return stride.is_none() || stride.as_list().empty() ? kernel : per_dim(stride, kernel.ndim(), 1);
}
void check_pool(const ShapeCall& s, int kernel, int dilation) {
  checked_per_dim(s, s.attribute(kernel), 2, 1, "kernel_size", 1);
  checked_per_dim(s, s.attribute(kernel + 1), 2, 1, "stride", 1);
  const Shape padding = checked_per_dim(s, s.attribute(kernel + 2), 2, 0, "padding", 0);
  const Shape size = per_dim(s.attribute(kernel), 2, 1);
  const Shape step = dilation < 0 ? Shape{1, 1} : checked_per_dim(s, s.attribute(dilation), 2, 1, "dilation", 1);
  for (int d = 0; d < 2; ++d)
    if (2 * padding[d] > (size[d] - 1) * step[d] + 1)
      s.fail("padding " + to_string(padding) + " is more than half of the kernel " + to_string(size) + "; pad less");
}
template <class Call>
Pool pool_of(const Call& c, int kernel, int dilation, int ceil_mode) {
  const Shape size = per_dim(c.attribute(kernel), 2, 1);
  return {size, stride_of(c.attribute(kernel + 1), size), per_dim(c.attribute(kernel + 2), 2, 0),
          dilation < 0 ? Shape{1, 1} : per_dim(c.attribute(dilation), 2, 1), ceil_mode >= 0 && c.attribute(ceil_mode).as_bool()};
}
Shape pooled_sizes(const ShapeCall& s, const Pool& p, const Shape& sizes) {
  Shape result;
  for (int d = 0; d < 2; ++d) {
    const std::int64_t room = sizes[d] + 2 * p.padding[d] - p.dilation[d] * (p.kernel[d] - 1) - 1;
    std::int64_t n = room < 0 && !p.ceil_mode ? 0 : (room + (p.ceil_mode ? p.stride[d] - 1 : 0)) / p.stride[d] + 1;
    if (p.ceil_mode && (n - 1) * p.stride[d] >= sizes[d] + p.padding[d]) --n;
    if (n < 1 || sizes[d] == 0)
      s.fail("the kernel " + to_string(p.kernel) + " does not fit into " + to_string(sizes) + "; pad more or take a smaller one");
    result.push_back(n);
  }
  return result;
}

// Dim d of the plane: which positions of the result an input position is read by, and the other way round.
std::string image_window(const Pool& p, int d) {
  const std::array<const char*, 2> image{"h", "w"}, result{"y", "x"};
  const auto at = static_cast<std::size_t>(d);
  return ops::window_clause(image[at], result[at], p.stride[d], -p.padding[d], p.dilation[d] * (p.kernel[d] - 1) - p.padding[d]);
}
std::string result_window(const Pool& p, int d) {
  const std::array<const char*, 2> image{"h", "w"}, result{"y", "x"};
  const auto at = static_cast<std::size_t>(d);
  const std::int64_t high = p.padding[d], low = high - p.dilation[d] * (p.kernel[d] - 1) + p.stride[d] - 1;
  return ops::window_clause(result[at], image[at], 1, std::min(low, high), high, p.stride[d]);
}
std::int64_t first_of(const Place& place, int d) { return place.begin(place.global.ndim() - 2 + d); }
std::int64_t position_of(const Place& place, int d, std::int64_t index) { return place.to_global(place.global.ndim() - 2 + d, index); }
cpu::PlanePart part_of(const Place& image) { return {.top = first_of(image, 0), .left = first_of(image, 1), .width = image.global.back()}; }

// What of the plane of input i is in input `other` too: each holds what is read, or more.
Tensor common_part(const KernelCall& c, int i, int other) {
  const Place &mine = c.input_place(i), &theirs = c.input_place(other);
  Tensor part = c.input(i);
  for (int d : {0, 1}) {
    const int at = part.ndim() - 2 + d;
    const std::int64_t first = std::max(first_of(mine, d), first_of(theirs, d));
    const std::int64_t last = std::min(first_of(mine, d) + c.input(i).shape()[at], first_of(theirs, d) + c.input(other).shape()[at]);
    part = part.narrow(at, last > first ? first - first_of(mine, d) : 0, std::max<std::int64_t>(0, last - first));
  }
  return part.contiguous();
}

// ---- max_pool2d: attributes kernel_size, stride, padding, dilation, ceil_mode, return_indices
cpu::MaxWindow max_window(const Pool& p, int d, const Place& image, std::int64_t first_result) {
  return {.size = p.kernel[d],
          .stride = p.stride[d],
          .padding = p.padding[d] - first_result * p.stride[d] + first_of(image, d),
          .dilation = p.dilation[d]};
}
constexpr OpDef kAddAtIndices{
    .name = "max_pool2d_backward",
    .signature =
        "grad_output, indices, *, kernel_size: int[], stride: int[]? = none, padding: int[] = [0], dilation: int[] = [1], input_size: int[] -> "
        "grad_input",
    .saves = "indices",
    .contiguous = true,
    .shape =
        [](ShapeCall& s) {
          if (s.input(0).shape != s.input(1).shape || s.input(1).dtype != Dtype::i64 || !info(s.input(0).dtype).floating)
            s.fail("a floating gradient and i64 indices of one shape are wanted (" + s.describe(0) + ", " + s.describe(1) + ")");
          s.output(0) = {.shape = with_last_sizes(s.input(0).shape, s.attribute(4).as_shape()), .dtype = s.input(0).dtype};
        },
    .rule_for =
        [](const ShapeCall& s) {
          const std::string lead = numbered("n", s.input(0).shape.ndim() - 2);
          const Pool p = pool_of(s, 0, 3, -1);
          return lead + " y x, " + lead + " y x -> " + lead + " h w  " + result_window(p, 0) + "; " + result_window(p, 1) + "; linear 1";
        },
    .kernel =
        [](const KernelCall& c) {
          const Pool p = pool_of(c, 0, 3, -1);
          const Place& image = c.output_place(0);
          const auto window = [&](int d) { return max_window(p, d, image, std::max(first_of(c.input_place(0), d), first_of(c.input_place(1), d))); };
          kernels::add_at_indices(common_part(c, 0, 1), common_part(c, 1, 0), window(0), window(1), part_of(image), c.output(0));
        },
    .gradient = [](const GradientCall& g) -> std::vector<DTensor> {
      const Shape& shape = g.input_type(0).shape;
      const DTensor flat = gather(flatten(g.grad_output(0), -2, -1), -1, flatten(g.input(1), -2, -1));
      return {reshape(flat, shape), DTensor()};
    },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{2, 3, 2, 2}, {2, 3, 2, 2}},
                                      .attributes = {{"kernel_size", "[3, 4]"}, {"stride", "[1]"}, {"padding", "[1, 2]"}, {"input_size", "[2, 1]"}},
                                      .dtypes = {Dtype::f32, Dtype::i64},
                                      .index_limit = 2},
                                     {.shapes = {{0, 1, 2}, {0, 1, 2}},
                                      .attributes = {{"kernel_size", "[2]"}, {"stride", "[1]"}, {"input_size", "[2, 3]"}},
                                      .dtypes = {Dtype::f32, Dtype::i64},
                                      .index_limit = 1}};
        },
    .reasons = "indices are never Partial",
};
constexpr OpDef kMaxPool{
    .name = "max_pool2d",
    .signature =
        "input, kernel_size: int[], stride: int[]? = none, padding: int[] = [0], dilation: int[] = [1], ceil_mode: bool = false, "
        "return_indices: bool = false -> out, indices",
    .saves = "indices",
    .dtypes = "number",
    .contiguous = true,
    .shape =
        [](ShapeCall& s) {
          check_image(s, 0);
          check_pool(s, 0, 3);
          const Shape shape = with_last_sizes(s.input(0).shape, pooled_sizes(s, pool_of(s, 0, 3, 4), last_sizes(s.input(0).shape, 2)));
          s.output(0) = {.shape = shape, .dtype = s.input(0).dtype};
          s.output(1) = {.shape = shape, .dtype = Dtype::i64};
        },
    .rule_for =
        [](const ShapeCall& s) {
          const std::string lead = numbered("n", s.input(0).shape.ndim() - 2);
          const Pool p = pool_of(s, 0, 3, 4);
          return lead + " h w -> " + lead + " y x, " + lead + " y x  " + image_window(p, 0) + "; " + image_window(p, 1);
        },
    .kernel =
        [](const KernelCall& c) {
          const Pool p = pool_of(c, 0, 3, 4);
          const Place &image = c.input_place(0), &result = c.output_place(0);
          kernels::max_windows(c.input(0), max_window(p, 0, image, first_of(result, 0)), max_window(p, 1, image, first_of(result, 1)), part_of(image),
                               c.output(0), c.output(1));
        },
    .gradient = [](const GradientCall& g) -> std::vector<DTensor> {
      return {call(kAddAtIndices, {g.grad_output(0), g.output(1)},
                   {g.attribute(0), g.attribute(1), g.attribute(2), g.attribute(3), last_sizes(g.input_type(0).shape, 2)})};
    },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{2, 3, 5, 4}}, .attributes = {{"kernel_size", "[2]"}}},
                                     {.shapes = {{5, 4, 3}}, .attributes = {{"kernel_size", "[3, 2]"}, {"stride", "[1]"}, {"padding", "[1]"}}},
                                     {.shapes = {{0, 2, 3, 3}}, .attributes = {{"kernel_size", "[2]"}, {"ceil_mode", "true"}}}};
        },
    .reasons = "the indices of a Partial(max) operand are not a maximum",
};

// ---- averages
// Positions of the result that are here, in coordinates of the input that is here.
cpu::Windows localized(cpu::Windows all, int d, const Place& image, const Place& result) {
  cpu::Windows here;
  const auto runs_of = [d](const Place& place) -> const std::vector<IndexRun>& {
    const int dim = place.global.ndim() - 2 + d;
    return place.runs[static_cast<std::size_t>(dim)];
  };
  std::int64_t size = 0;
  for (const IndexRun& r : runs_of(image)) size += r.length;
  std::int64_t count = 0;
  for (const IndexRun& r : runs_of(result)) count += r.length;
  for (std::int64_t i = 0; i < count; ++i) {
    const auto t = static_cast<std::size_t>(position_of(result, d, i));
    here.begin.push_back(std::clamp<std::int64_t>(all.begin[t] - first_of(image, d), 0, size));
    here.end.push_back(std::clamp<std::int64_t>(all.end[t] - first_of(image, d), 0, size));
    here.count.push_back(all.count[t]);
  }
  return here;
}
cpu::Windows pool_windows(const Pool& p, int d, std::int64_t size, std::int64_t count, bool include_pad) {
  cpu::Windows w;
  for (std::int64_t t = 0; t < count; ++t) {
    const std::int64_t begin = t * p.stride[d] - p.padding[d], end = std::min(begin + p.kernel[d], size + p.padding[d]);
    w.begin.push_back(std::max<std::int64_t>(0, begin));
    w.end.push_back(std::min(end, size));
    w.count.push_back(static_cast<double>(include_pad ? end - begin : w.end.back() - w.begin.back()));
  }
  return w;
}
cpu::Windows adaptive_windows(std::int64_t size, std::int64_t count) {
  cpu::Windows w;
  for (std::int64_t t = 0; t < count; ++t) {
    w.begin.push_back(t * size / count);
    w.end.push_back(((t + 1) * size + count - 1) / count);
    w.count.push_back(static_cast<double>(w.end.back() - w.begin.back()));
  }
  return w;
}
// Attributes of both directions of avg_pool2d: kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override.
struct Averages {
  cpu::Windows y, x;
  double divisor;
};
Averages averages_of(const KernelCall& c, const Place& image, const Place& result) {
  const Pool p = pool_of(c, 0, -1, 3);
  const bool include_pad = c.attribute(4).as_bool();
  const Shape from = last_sizes(image.global, 2), to = last_sizes(result.global, 2);
  return {localized(pool_windows(p, 0, from[0], to[0], include_pad), 0, image, result),
          localized(pool_windows(p, 1, from[1], to[1], include_pad), 1, image, result), c.attribute(5).is_none() ? 0 : c.attribute(5).as_double()};
}
Averages adaptive_of(const Place& image, const Place& result) {
  const Shape from = last_sizes(image.global, 2), to = last_sizes(result.global, 2);
  return {localized(adaptive_windows(from[0], to[0]), 0, image, result), localized(adaptive_windows(from[1], to[1]), 1, image, result), 0};
}
std::string average_rule(const ShapeCall& s, bool backward, const std::string& windows) {
  const std::string lead = numbered("n", s.input(0).shape.ndim() - 2), image = lead + " h w", result = lead + " y x";
  // A quotient of integers is not linear.
  return (backward ? result + " -> " + image : image + " -> " + result) + "  " + windows + (info(s.input(0).dtype).floating ? "; linear" : "");
}
std::string pool_rule(const ShapeCall& s) {
  const Pool p = pool_of(s, 0, -1, 3);
  return average_rule(s, false, image_window(p, 0) + "; " + image_window(p, 1));
}
std::string pool_backward_rule(const ShapeCall& s) {
  const Pool p = pool_of(s, 0, -1, 3);
  return average_rule(s, true, result_window(p, 0) + "; " + result_window(p, 1));
}
// Position t of m reads floor(t n / m) to floor((t n + n - 1) / m) of n, and is read likewise.
std::string adaptive_rule(const ShapeCall& s, bool backward) {
  const Shape from = last_sizes(s.input(0).shape, 2), to = last_sizes(s.outputs()[0].shape, 2);
  const auto window = [&](int d, const char* read, const char* by) {
    return ops::window_clause(read, by, from[d], 0, from[d] - 1, std::max<std::int64_t>(1, to[d]));
  };
  return average_rule(s, backward, backward ? window(0, "y", "h") + "; " + window(1, "x", "w") : window(0, "h", "y") + "; " + window(1, "w", "x"));
}
void check_divisor(const ShapeCall& s) {
  if (!s.attribute(5).is_none() && s.attribute(5).as_int() == 0) s.fail("divisor_override is 0; give another number or none");
}

DTensor average_backward(const DTensor& grad, const Shape& sizes, std::span<const Attribute> attributes);
constexpr OpDef kAvgPool{
    .name = "avg_pool2d",
    .signature =
        "input, kernel_size: int[], stride: int[]? = none, padding: int[] = [0], ceil_mode: bool = false, count_include_pad: bool = true, "
        "divisor_override: int? = none -> out",
    .dtypes = "f64 f32 bf16 f16 i64",
    .contiguous = true,
    .shape =
        [](ShapeCall& s) {
          check_image(s, 0);
          check_pool(s, 0, -1);
          check_divisor(s);
          s.output(0) = {.shape = with_last_sizes(s.input(0).shape, pooled_sizes(s, pool_of(s, 0, -1, 3), last_sizes(s.input(0).shape, 2))),
                         .dtype = s.input(0).dtype};
        },
    .rule_for = pool_rule,
    .kernel =
        [](const KernelCall& c) {
          const Averages a = averages_of(c, c.input_place(0), c.output_place(0));
          kernels::average_windows(c.input(0), a.y, a.x, a.divisor, c.output(0));
        },
    .gradient = [](const GradientCall& g) -> std::vector<DTensor> {
      return {average_backward(g.grad_output(0), last_sizes(g.input_type(0).shape, 2), g.attributes_)};
    },
    .samples =
        [] {
          return std::vector<Sample>{
              {.shapes = {{2, 3, 5, 4}}, .attributes = {{"kernel_size", "[2]"}}},
              {.shapes = {{5, 4, 3}},
               .attributes =
                   {{"kernel_size", "[3, 2]"}, {"stride", "[2, 1]"}, {"padding", "[1]"}, {"count_include_pad", "false"}, {"ceil_mode", "true"}}},
              {.shapes = {{0, 2, 3, 3}}, .attributes = {{"kernel_size", "[2]"}, {"divisor_override", "3"}}}};
        },
};
constexpr OpDef kAvgPoolBackward{
    .name = "avg_pool2d_backward",
    .signature =
        "grad_output, kernel_size: int[], stride: int[]? = none, padding: int[] = [0], ceil_mode: bool = false, count_include_pad: bool = true, "
        "divisor_override: int? = none, input_size: int[] -> grad_input",
    .dtypes = "floating",
    .contiguous = true,
    .shape =
        [](ShapeCall& s) {
          check_image(s, 0);
          check_pool(s, 0, -1);
          const Shape sizes = s.attribute(6).as_shape();
          if (pooled_sizes(s, pool_of(s, 0, -1, 3), sizes) != last_sizes(s.input(0).shape, 2))
            s.fail("the gradient is not of a result for sizes " + to_string(sizes) + " (" + s.describe(0) + ")");
          s.output(0) = {.shape = with_last_sizes(s.input(0).shape, sizes), .dtype = s.input(0).dtype};
        },
    .rule_for = pool_backward_rule,
    .kernel =
        [](const KernelCall& c) {
          const Averages a = averages_of(c, c.output_place(0), c.input_place(0));
          kernels::average_windows_backward(c.input(0), a.y, a.x, a.divisor, c.output(0));
        },
    .gradient = [](const GradientCall& g) -> std::vector<DTensor> {
      return {call_all(kAvgPool, std::array<Input, 1>{g.grad_output(0)}, g.attributes_.first(6))[0]};
    },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{2, 3, 2, 2}}, .attributes = {{"kernel_size", "[2]"}, {"input_size", "[5, 4]"}}},
                                     {.shapes = {{5, 2, 3}}, .attributes = {{"kernel_size", "[2]"}, {"stride", "[1]"}, {"input_size", "[3, 4]"}}}};
        },
};
DTensor average_backward(const DTensor& grad, const Shape& sizes, std::span<const Attribute> attributes) {
  std::vector<Attribute> list(attributes.begin(), attributes.end());
  list.emplace_back(sizes);
  return call_all(kAvgPoolBackward, std::array<Input, 1>{grad}, list)[0];
}

// ---- adaptive_avg_pool2d: attribute output_size; its backward: input_size
void sized_shape(ShapeCall& s) {
  check_image(s, 0);
  const Shape sizes = checked_per_dim(s, s.attribute(0), 2, 1, "output_size", 0);
  const Shape image = last_sizes(s.input(0).shape, 2);
  if (image.numel() == 0) s.fail("the image is empty (" + s.describe(0) + ")");
  s.output(0) = {.shape = with_last_sizes(s.input(0).shape, sizes), .dtype = s.input(0).dtype};
}
DTensor adaptive_backward(const DTensor& grad, const Shape& sizes);
constexpr OpDef kAdaptive{
    .name = "adaptive_avg_pool2d",
    .signature = "input, output_size: int[] -> out",
    .dtypes = "floating",
    .contiguous = true,
    .shape = sized_shape,
    .rule_for = [](const ShapeCall& s) { return adaptive_rule(s, false); },
    .kernel =
        [](const KernelCall& c) {
          const Averages a = adaptive_of(c.input_place(0), c.output_place(0));
          kernels::average_windows(c.input(0), a.y, a.x, a.divisor, c.output(0));
        },
    .gradient = [](const GradientCall& g) -> std::vector<DTensor> {
      return {adaptive_backward(g.grad_output(0), last_sizes(g.input_type(0).shape, 2))};
    },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{2, 3, 5, 4}}, .attributes = {{"output_size", "[2, 3]"}}},
                                     {.shapes = {{5, 3, 3}}, .attributes = {{"output_size", "[1]"}}},
                                     {.shapes = {{0, 2, 2, 2}}, .attributes = {{"output_size", "[3]"}}}};
        },
};
constexpr OpDef kAdaptiveBackward{
    .name = "adaptive_avg_pool2d_backward",
    .signature = "grad_output, input_size: int[] -> grad_input",
    .dtypes = "floating",
    .contiguous = true,
    .shape =
        [](ShapeCall& s) {
          check_image(s, 0);
          s.output(0) = {.shape = with_last_sizes(s.input(0).shape, s.attribute(0).as_shape()), .dtype = s.input(0).dtype};
        },
    .rule_for = [](const ShapeCall& s) { return adaptive_rule(s, true); },
    .kernel =
        [](const KernelCall& c) {
          const Averages a = adaptive_of(c.output_place(0), c.input_place(0));
          kernels::average_windows_backward(c.input(0), a.y, a.x, a.divisor, c.output(0));
        },
    .gradient = [](const GradientCall& g) -> std::vector<DTensor> {
      return {adaptive_avg_pool2d(g.grad_output(0), last_sizes(g.input_type(0).shape, 2))};
    },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{2, 3, 2, 3}}, .attributes = {{"input_size", "[5, 4]"}}},
                                     {.shapes = {{5, 1, 1}}, .attributes = {{"input_size", "[3, 2]"}}}};
        },
};
DTensor adaptive_backward(const DTensor& grad, const Shape& sizes) { return call(kAdaptiveBackward, {grad}, {sizes}); }

// ---- interpolate: attributes size, scale_factor (a number or a list as text), mode, recompute_scale_factor
std::vector<double> listed(std::string_view text) {
  std::vector<double> list;
  for (const char *at = text.data(), *end = at + text.size(); at != end;) {
    double n = 0;
    const auto r = std::from_chars(at, end, n);
    if (r.ec == std::errc()) list.push_back(n);
    at = r.ec == std::errc() ? r.ptr : at + 1;
  }
  return list;
}
std::vector<double> scales_of(const Attribute& scale, int spatial) {
  std::vector<double> list = scale.is_none() ? std::vector<double>() : listed(scale.as_text());
  if (list.size() == 1) list.resize(static_cast<std::size_t>(spatial), list[0]);
  return list;
}
// The input position that each position of the result reads: PyTorch's, in single precision.
std::vector<std::int64_t> nearest(std::int64_t in, std::int64_t out, double factor) {
  const float scale = factor > 0 ? static_cast<float>(1.0 / factor) : static_cast<float>(in) / static_cast<float>(out);
  std::vector<std::int64_t> at;
  for (std::int64_t i = 0; i < out; ++i) { at.push_back(std::min(static_cast<std::int64_t>(std::floor(static_cast<float>(i) * scale)), in - 1)); }
  return at;
}
// One factor per dim as the kernel uses it, 0 for that of the sizes; `attribute` 1 is the scale, 3 says that it is computed anew.
template <class Call>
cpu::Grid grid_of(const Call& c, const Shape& image, const Shape& result) {
  const int spatial = image.ndim();
  const std::vector<double> scales = c.attribute(3).as_bool() ? std::vector<double>() : scales_of(c.attribute(1), spatial);
  cpu::Grid grid;
  for (int d = 0; d < spatial; ++d)
    grid[cpu::spatial_place(d, spatial)] = nearest(image[d], result[d], scales.empty() ? 0 : scales[static_cast<std::size_t>(d)]);
  return grid;
}
void check_mode(const ShapeCall& s) {
  if (s.attribute(2).as_text() != "nearest") s.fail("mode '" + std::string(s.attribute(2).as_text()) + "' is not offered; use nearest");
  const int ndim = s.input(0).shape.ndim();
  if (ndim < 3 || ndim > 5) s.fail("the input must be [N, C, sizes] with one to three sizes (" + s.describe(0) + ")");
  if (s.attribute(0).is_none() == s.attribute(1).is_none()) s.fail("one of size and scale_factor is wanted");
}
Shape interpolated_sizes(const ShapeCall& s, const Shape& image) {
  if (!s.attribute(0).is_none()) return checked_per_dim(s, s.attribute(0), image.ndim(), 1, "size", 1);
  const std::vector<double> scales = scales_of(s.attribute(1), image.ndim());
  Shape sizes;
  for (std::size_t d = 0; d < scales.size() && d < image.size(); ++d)
    sizes.push_back(static_cast<std::int64_t>(std::floor(static_cast<double>(image[d]) * scales[d])));
  if (scales.size() != image.size() || std::any_of(sizes.begin(), sizes.end(), [](std::int64_t n) { return n < 1; }))
    s.fail("scale_factor is '" + std::string(s.attribute(1).as_text()) + "' for sizes " + to_string(image) +
           "; give one number or one per size, large enough for a result");
  return sizes;
}
// Of the parts of the input and the result that are here: positions in the input's part, which may lie outside it.
cpu::Grid local_grid(const KernelCall& c, const Place& image, const Place& result) {
  const int ndim = image.global.ndim(), spatial = ndim - 2;
  const cpu::Grid all = grid_of(c, last_sizes(image.global, spatial), last_sizes(result.global, spatial));
  cpu::Grid here;
  for (int d = 0; d < spatial; ++d) {
    const std::size_t at = cpu::spatial_place(d, spatial);
    for (const IndexRun& r : result.runs[static_cast<std::size_t>(d) + 2])
      for (std::int64_t t = r.begin; t < r.begin + r.length; ++t) here[at].push_back(all[at][static_cast<std::size_t>(t)] - image.begin(2 + d));
  }
  return here;
}
// The least window floor((num of + low) / den) .. floor((num of + high) / den) with low and high multiples of den that holds first[of] to last[of].
std::string least_window(const std::string& name, const std::string& of, std::int64_t num, std::int64_t den, const std::vector<std::int64_t>& first,
                         const std::vector<std::int64_t>& last) {
  std::int64_t low = 0, high = 0;
  bool any = false;
  for (std::size_t i = 0; i < first.size(); ++i) {
    if (first[i] > last[i]) continue;
    const std::int64_t middle = static_cast<std::int64_t>(i) * num / den;
    low = any ? std::min(low, first[i] - middle) : first[i] - middle;
    high = any ? std::max(high, last[i] - middle) : last[i] - middle;
    any = true;
  }
  return ops::window_clause(name, of, num, low * den, high * den, den);
}
std::string resize_rule(const ShapeCall& s, const Shape& image_shape, const Shape& result_shape, bool backward) {
  const int spatial = image_shape.ndim() - 2;
  const Shape image = last_sizes(image_shape, spatial), result = last_sizes(result_shape, spatial);
  const cpu::Grid grid = grid_of(s, image, result);
  const std::string from = "n c " + numbered("s", spatial), to = "n c " + numbered("t", spatial);
  std::string text = (backward ? to + " -> " + from : from + " -> " + to) + "  ";
  for (int d = 0; d < spatial; ++d) {
    const std::vector<std::int64_t>& at = grid[cpu::spatial_place(d, spatial)];
    const std::string image_dim = "s" + std::to_string(d), result_dim = "t" + std::to_string(d);
    if (!backward) {
      text += least_window(image_dim, result_dim, image[d], result[d], at, at) + "; ";
      continue;
    }
    std::vector<std::int64_t> first, last;
    for (std::int64_t i = 0; i < image[d]; ++i) {
      first.push_back(std::lower_bound(at.begin(), at.end(), i) - at.begin());
      last.push_back(std::upper_bound(at.begin(), at.end(), i) - at.begin() - 1);
    }
    text += least_window(result_dim, image_dim, result[d], image[d], first, last) + "; ";
  }
  return text + "linear";
}
DTensor interpolate_backward(const DTensor& grad, const Shape& sizes, std::span<const Attribute> attributes);
constexpr OpDef kInterpolate{
    .name = "interpolate",
    .signature = "input, size: int[]? = none, scale_factor: text? = none, mode: text = nearest, recompute_scale_factor: bool = false -> out",
    .dtypes = "any",
    .contiguous = true,
    .shape =
        [](ShapeCall& s) {
          check_mode(s);
          const Shape image = last_sizes(s.input(0).shape, s.input(0).shape.ndim() - 2);
          if (image.numel() == 0) s.fail("the image is empty (" + s.describe(0) + ")");
          s.output(0) = {.shape = with_last_sizes(s.input(0).shape, interpolated_sizes(s, image)), .dtype = s.input(0).dtype};
        },
    .rule_for = [](const ShapeCall& s) { return resize_rule(s, s.input(0).shape, s.outputs()[0].shape, false); },
    .kernel =
        [](const KernelCall& c) {
          kernels::take_positions(c.input(0), c.input(0).ndim() - 2, local_grid(c, c.input_place(0), c.output_place(0)), c.output(0));
        },
    .gradient = [](const GradientCall& g) -> std::vector<DTensor> {
      const Shape& shape = g.input_type(0).shape;
      return {interpolate_backward(g.grad_output(0), last_sizes(shape, shape.ndim() - 2), g.attributes_)};
    },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{2, 3, 4}}, .attributes = {{"size", "[7]"}}},
                                     {.shapes = {{5, 2, 3, 4}}, .attributes = {{"scale_factor", "[1.7, 0.6]"}}},
                                     {.shapes = {{1, 2, 2, 3, 2}}, .attributes = {{"scale_factor", "2"}, {"recompute_scale_factor", "true"}}},
                                     {.shapes = {{0, 2, 3}}, .attributes = {{"size", "[2]"}}}};
        },
};
constexpr OpDef kInterpolateBackward{
    .name = "interpolate_backward",
    .signature =
        "grad_output, size: int[]? = none, scale_factor: text? = none, mode: text = nearest, recompute_scale_factor: bool = false, input_size: int[] "
        "-> "
        "grad_input",
    .dtypes = "floating",
    .contiguous = true,
    .shape =
        [](ShapeCall& s) {
          check_mode(s);
          const Shape image = s.attribute(4).as_shape();
          if (last_sizes(s.input(0).shape, image.ndim()) != interpolated_sizes(s, image))
            s.fail("the gradient is not of a result for sizes " + to_string(image) + " (" + s.describe(0) + ")");
          s.output(0) = {.shape = with_last_sizes(s.input(0).shape, image), .dtype = s.input(0).dtype};
        },
    .rule_for = [](const ShapeCall& s) { return resize_rule(s, s.outputs()[0].shape, s.input(0).shape, true); },
    .kernel =
        [](const KernelCall& c) {
          kernels::add_positions(c.input(0), c.input(0).ndim() - 2, local_grid(c, c.output_place(0), c.input_place(0)), c.output(0));
        },
    .gradient = [](const GradientCall& g) -> std::vector<DTensor> {
      return {call_all(kInterpolate, std::array<Input, 1>{g.grad_output(0)}, g.attributes_.first(4))[0]};
    },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{2, 3, 7}}, .attributes = {{"size", "[7]"}, {"input_size", "[4]"}}},
                                     {.shapes = {{5, 2, 2, 4}}, .attributes = {{"scale_factor", "[1, 2]"}, {"input_size", "[2, 2]"}}},
                                     {.shapes = {{1, 2, 3}}, .attributes = {{"scale_factor", "0.5"}, {"input_size", "[6]"}}}};
        },
};
DTensor interpolate_backward(const DTensor& grad, const Shape& sizes, std::span<const Attribute> attributes) {
  std::vector<Attribute> list(attributes.begin(), attributes.end());
  list.emplace_back(sizes);
  return call_all(kInterpolateBackward, std::array<Input, 1>{grad}, list)[0];
}

constexpr std::array<const OpDef*, 8> kOps{&kMaxPool,  &kAddAtIndices,     &kAvgPool,     &kAvgPoolBackward,
                                           &kAdaptive, &kAdaptiveBackward, &kInterpolate, &kInterpolateBackward};

Results max_pool(const DTensor& input, const Shape& kernel_size, const MaxPoolOptions& o) {
  const std::array<Input, 1> inputs{input};
  const std::array<Attribute, 5> attributes{Attribute(kernel_size), Attribute(o.stride), Attribute(o.padding), Attribute(o.dilation),
                                            Attribute(o.ceil_mode)};
  return call_all(kMaxPool, inputs, attributes);
}

}  // namespace

namespace ops {
OpList pooling_ops() { return kOps; }
}  // namespace ops

DTensor max_pool2d(const DTensor& input, const Shape& kernel_size, const MaxPoolOptions& o) { return max_pool(input, kernel_size, o)[0]; }
MaxPooled max_pool2d_with_indices(const DTensor& input, const Shape& kernel_size, const MaxPoolOptions& o) {
  Results r = max_pool(input, kernel_size, o);
  return {r[0], r[1]};
}
DTensor avg_pool2d(const DTensor& input, const Shape& kernel_size, const AvgPoolOptions& o) {
  return call(kAvgPool, {input}, {kernel_size, o.stride, o.padding, o.ceil_mode, o.count_include_pad, o.divisor_override});
}
DTensor adaptive_avg_pool2d(const DTensor& input, const Shape& output_size) { return call(kAdaptive, {input}, {output_size}); }
DTensor interpolate(const DTensor& input, const InterpolateOptions& o) {
  std::string scales;
  std::array<char, 32> digits;
  for (const double scale : o.scale_factor) {
    const auto r = std::to_chars(digits.data(), digits.data() + digits.size(), scale);
    scales += (scales.empty() ? "" : ", ") + std::string(digits.data(), r.ptr);
  }
  const Attribute size = o.size ? Attribute(*o.size) : Attribute();
  const Attribute factors = scales.empty() ? Attribute() : Attribute(std::string_view(scales));
  return call(kInterpolate, {input}, {size, factors, o.mode, o.recompute_scale_factor});
}

}  // namespace dtensor
