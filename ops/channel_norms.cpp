// SPDX-License-Identifier: Apache-2.0
#include "dtensor/ops/channel_norms.h"

#include <algorithm>
#include <array>

#include "dtensor/op.h"
#include "dtensor/ops/binary.h"
#include "dtensor/ops/pointwise.h"
#include "dtensor/ops/reductions.h"
#include "dtensor/ops/views.h"
#include "local/kernels/channel_norms.h"
#include "ops/families.h"
#include "ops/reduction_rules.h"
#include "ops/spatial.h"

namespace dtensor {
namespace {

namespace cpu = local::cpu;
namespace kernels = local::kernels;
using ops::computation_dtype;
using ops::in_dtype;
using ops::numbered;

Shape channels_of(const Shape& shape) { return {shape.ndim() > 1 ? shape[1] : shape[0]}; }
Input present(const DTensor& t) { return t ? Input(t) : Input(); }
const Tensor* optional_input(const KernelCall& call, int i) { return call.has_input(i) ? &call.input(i) : nullptr; }
void check_channels(const ShapeCall& s, int input, std::initializer_list<int> parameters) {
  const Shape wanted = channels_of(s.input(input).shape);
  for (int i : parameters)
    if (s.has_input(i) && s.input(i).shape != wanted) s.fail("one number per channel is wanted, " + to_string(wanted) + " (" + s.describe(i) + ")");
}
// [C] as [1, C, 1, ...] against a tensor of `ndim` dims.
DTensor across(const DTensor& parameter, int ndim, Dtype dtype) {
  Shape shape = Shape::filled(ndim, 1);
  shape[ndim > 1 ? 1 : 0] = parameter.shape()[0];
  return in_dtype(reshape(parameter, shape), dtype);
}
// Sum over all dims but that of the channels.
DTensor per_channel(const DTensor& x) {
  std::vector<int> dims;
  for (int d = 0; d < x.ndim(); ++d)
    if (d != (x.ndim() > 1 ? 1 : 0)) dims.push_back(d);
  return dims.empty() ? x : sum(x, std::span<const int>(dims));
}
DTensor mean_over(const DTensor& x, const std::vector<int>& dims) {
  return ops::without_partial(mean(x, std::span<const int>(dims), {.keepdim = true}));
}

// ---- group_norm and its backward; G of the call's own channels, since groups may be split
cpu::ChannelNorm norm_of(const Shape& shape, std::int64_t groups, double eps) {
  cpu::ChannelNorm n{.samples = shape[0], .channels = shape[1], .size = 1, .groups = groups, .eps = eps};
  for (int d = 2; d < shape.ndim(); ++d) n.size *= shape[d];
  return n;
}
void check_groups(const ShapeCall& s, int input, std::int64_t groups) {
  const Shape& shape = s.input(input).shape;
  if (shape.ndim() < 2) s.fail("the input must be [N, C, sizes...] (" + s.describe(input) + ")");
  if (groups < 1 || shape[1] % groups != 0)
    s.fail("num_groups " + std::to_string(groups) + " does not divide the channels (" + s.describe(input) + ")");
}
TensorType group_statistics(const ShapeCall& s, int input, std::int64_t groups) {
  return {.shape = {s.input(input).shape[0], groups}, .dtype = computation_dtype(s.input(input).dtype)};
}
struct GroupNames {
  std::string full, whole;
  explicit GroupNames(int ndim) {
    full = "n (g q)" + std::string(ndim > 2 ? " " : "") + numbered("s", ndim - 2);
    whole = "q" + std::string(ndim > 2 ? ", " : "") + numbered("s", ndim - 2, ", ") + ": whole";
  }
};
// [N, C, ...] -> [N, G, C / G, ...]; statistics [N, G] with ones to match.
DTensor in_groups(const DTensor& x, std::int64_t groups) {
  Shape shape{x.shape()[0], groups, groups > 0 ? x.shape()[1] / groups : 0};
  for (int d = 2; d < x.ndim(); ++d) shape.push_back(x.shape()[d]);
  return reshape(x, shape);
}
DTensor beside_groups(const DTensor& statistic, int ndim) {
  Shape shape = Shape::filled(ndim + 1, 1);
  shape[0] = statistic.shape()[0], shape[1] = statistic.shape()[1];
  return reshape(statistic, shape);
}
std::vector<int> group_dims(int ndim) {
  std::vector<int> dims;
  for (int d = 2; d <= ndim; ++d) dims.push_back(d);
  return dims;
}
std::vector<DTensor> split_group_norm(const DecomposeCall& c) {
  const Dtype dtype = computation_dtype(c.input(0).dtype());
  const int ndim = c.input(0).ndim();
  const std::int64_t samples = c.input(0).shape()[0], groups = c.attribute(0).as_int();
  const DTensor x = in_groups(in_dtype(c.input(0), dtype), groups);
  const std::vector<int> dims = group_dims(ndim);
  const DTensor average = mean_over(x, dims), centred = sub(x, average), variance = mean_over(square(centred), dims);
  DTensor y = reshape(mul(centred, rsqrt(add(variance, c.attribute(1).as_double()))), c.input(0).shape());
  if (c.has_input(1)) y = mul(y, across(c.input(1), ndim, dtype));
  if (c.has_input(2)) y = add(y, across(c.input(2), ndim, dtype));
  return {in_dtype(y, c.input(0).dtype()), reshape(average, {samples, groups}), reshape(variance, {samples, groups})};
}
std::vector<DTensor> group_norm_gradient(const GradientCall& g);
constexpr OpDef kGroupNorm{
    .name = "group_norm",
    .signature = "input, weight?, bias?, num_groups: int, eps: float = 1e-05 -> out, mean, variance",
    .saves = "input, weight, mean, variance",
    .dtypes = "floating",
    .contiguous = true,
    .shape =
        [](ShapeCall& s) {
          const std::int64_t groups = s.attribute(0).as_int();
          check_groups(s, 0, groups);
          check_channels(s, 0, {1, 2});
          s.output(0) = s.input(0);
          s.output(1) = group_statistics(s, 0, groups);
          s.output(2) = group_statistics(s, 0, groups);
        },
    .rule_for =
        [](const ShapeCall& s) {
          const GroupNames n(s.input(0).shape.ndim());
          return n.full + ", (g q), (g q) -> " + n.full + ", n g, n g  " + n.whole;
        },
    .kernel =
        [](const KernelCall& c) {
          kernels::channel_norm(norm_of(c.input(0).shape(), c.output(1).shape()[1], c.attribute(1).as_double()), c.input(0), optional_input(c, 1),
                                optional_input(c, 2), c.output(0), c.output(1), c.output(2));
        },
    .gradient = group_norm_gradient,
    .decompose = split_group_norm,
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{2, 6, 5}, {6}, {6}}, .attributes = {{"num_groups", "3"}}},
                                     {.shapes = {{5, 4, 3, 2}, {}, {}}, .attributes = {{"num_groups", "2"}}},
                                     {.shapes = {{3, 4}, {4}, {4}}, .attributes = {{"num_groups", "1"}}},
                                     {.shapes = {{0, 2}, {2}, {2}}, .attributes = {{"num_groups", "1"}}}};
        },
    .reasons = "a Partial bias is reduced first: it would be added to a whole product",
};

std::vector<DTensor> split_group_norm_backward(const DecomposeCall& c) {
  const Dtype dtype = computation_dtype(c.input(1).dtype());
  const int ndim = c.input(1).ndim();
  const std::int64_t groups = c.attribute(0).as_int();
  const std::vector<int> dims = group_dims(ndim);
  const DTensor grad = in_dtype(ops::without_partial("group_norm_backward", c.input(0)), dtype);
  const DTensor rstd = rsqrt(add(beside_groups(c.input(4), ndim), c.attribute(1).as_double()));
  const DTensor normal = mul(sub(in_groups(in_dtype(c.input(1), dtype), groups), beside_groups(c.input(3), ndim)), rstd);
  const DTensor weighted = in_groups(c.has_input(2) ? mul(grad, across(c.input(2), ndim, dtype)) : grad, groups);
  const DTensor shift = mean_over(weighted, dims), slope = mean_over(mul(weighted, normal), dims);
  const DTensor result = mul(rstd, sub(sub(weighted, shift), mul(normal, slope)));
  const Dtype of_weight = c.has_input(2) ? c.input(2).dtype() : c.input(1).dtype();
  return {in_dtype(reshape(result, c.input(1).shape()), c.input(1).dtype()),
          in_dtype(per_channel(mul(grad, reshape(normal, c.input(1).shape()))), of_weight), in_dtype(per_channel(grad), of_weight)};
}
constexpr OpDef kGroupNormBackward{
    .name = "group_norm_backward",
    .signature = "grad_output, input, weight?, mean, variance, num_groups: int, eps: float -> grad_input, grad_weight, grad_bias",
    .dtypes = "floating",
    .contiguous = true,
    .shape =
        [](ShapeCall& s) {
          check_groups(s, 1, s.attribute(0).as_int());
          check_channels(s, 1, {2});
          const TensorType parameter{.shape = channels_of(s.input(1).shape), .dtype = s.has_input(2) ? s.input(2).dtype : s.input(1).dtype};
          s.output(0) = s.input(1);
          s.output(1) = parameter;
          s.output(2) = parameter;
        },
    .rule_for =
        [](const ShapeCall& s) {
          const GroupNames n(s.input(1).shape.ndim());
          return n.full + ", " + n.full + ", (g q), n g, n g -> " + n.full + ", (g q), (g q)  n: reduce(sum); " + n.whole + "; linear 1";
        },
    .kernel =
        [](const KernelCall& c) {
          kernels::channel_norm_backward(norm_of(c.input(1).shape(), c.input(3).shape()[1], c.attribute(1).as_double()), c.input(0), c.input(1),
                                         optional_input(c, 2), c.input(3), c.input(4), false, c.output(0), c.output(1), c.output(2));
        },
    .decompose = split_group_norm_backward,
    .samples =
        [] {
          return std::vector<Sample>{
              {.shapes = {{2, 6, 5}, {2, 6, 5}, {6}, {2, 3}, {2, 3}}, .attributes = {{"num_groups", "3"}, {"eps", "1e-5"}}, .low = 0.1},
              {.shapes = {{5, 4}, {5, 4}, {}, {5, 1}, {5, 1}}, .attributes = {{"num_groups", "1"}, {"eps", "0.1"}}, .low = 0.1}};
        },
};
std::vector<DTensor> group_norm_gradient(const GradientCall& g) {
  const std::array<Input, 5> inputs{g.grad_output(0), g.input(0), present(g.inputs_[1]), g.output(1), g.output(2)};
  Results r = call_all(kGroupNormBackward, inputs, g.attributes_);
  return {g.needs(0) ? r[0] : DTensor(), g.needs(1) ? r[1] : DTensor(), g.needs(2) ? in_dtype(r[2], g.input_type(2).dtype) : DTensor()};
}

// ---- batch_norm and its backward; attributes training, momentum, eps
cpu::ChannelNorm batch_of(const Shape& shape, double eps) { return norm_of(shape.ndim() > 1 ? shape : Shape{1, shape[0]}, 0, eps); }
std::string batch_full(int ndim) { return ndim > 1 ? "n c" + std::string(ndim > 2 ? " " : "") + numbered("s", ndim - 2) : "c"; }
// The names that a channel's statistics run over, with their clause.
std::string batch_clause(int ndim, std::string_view kind) {
  if (ndim < 2) return "";
  return "n" + std::string(ndim > 2 ? ", " : "") + numbered("s", ndim - 2, ", ") + ": " + std::string(kind);
}
double elements_per_channel(const Shape& shape) {
  return static_cast<double>(shape.numel()) / static_cast<double>(std::max<std::int64_t>(1, channels_of(shape)[0]));
}
void batch_norm_shape(ShapeCall& s) {
  const Shape& shape = s.input(0).shape;
  const bool training = s.attribute(0).as_bool();
  if (shape.ndim() < 1) s.fail("the input must be [N, C, sizes...] (" + s.describe(0) + ")");
  check_channels(s, 0, {1, 2, 3, 4});
  if (s.has_input(1) != s.has_input(2)) s.fail("running_mean and running_var come together; give both or none");
  if (!training && !s.has_input(1)) s.fail("running statistics are missing; give them, or training");
  if (training && shape.numel() > 0 && elements_per_channel(shape) <= 1)
    s.fail("one value per channel has no variance (" + s.describe(0) + "); give more, or running statistics without training");
  const TensorType statistic{.shape = channels_of(shape), .dtype = computation_dtype(s.input(0).dtype)};
  s.output(0) = s.input(0);
  s.output(1) = s.has_input(1) ? s.input(1) : statistic;
  s.output(2) = s.has_input(2) ? s.input(2) : statistic;
  s.output(3) = statistic;
  s.output(4) = statistic;
}
double unbiased(double count) { return count / (count - 1); }
void batch_norm_kernel(const KernelCall& c) {
  const cpu::ChannelNorm n = batch_of(c.input(0).shape(), c.attribute(2).as_double());
  const double momentum = c.attribute(1).as_double();
  if (c.attribute(0).as_bool()) {
    kernels::channel_norm(n, c.input(0), optional_input(c, 3), optional_input(c, 4), c.output(0), c.output(3), c.output(4));
    kernels::running_average(c.output(3), optional_input(c, 1), momentum, 1, c.output(1));
    kernels::running_average(c.output(4), optional_input(c, 2), momentum, unbiased(static_cast<double>(n.samples * n.size)), c.output(2));
    return;
  }
  kernels::channel_norm_apply(n, c.input(0), optional_input(c, 3), optional_input(c, 4), c.input(1), c.input(2), c.output(0));
  for (int i : {1, 2}) {
    c.output(i).copy_(c.input(i));
    c.output(i + 2).copy_(c.input(i));
  }
}
DTensor new_running(const DecomposeCall& c, int i, const DTensor& batch, double factor) {
  const double momentum = c.attribute(1).as_double();
  const DTensor part = mul(batch, momentum * factor);
  return c.has_input(i) ? in_dtype(add(mul(c.input(i), 1 - momentum), part), c.input(i).dtype()) : part;
}
TensorType sums_type(const ShapeCall& s, int input) { return {.shape = channels_of(s.input(input).shape), .dtype = Dtype::f64}; }
constexpr OpDef kChannelSum{
    .name = "channel_sum",
    .signature = "input, mean? -> out",
    .dtypes = "floating",
    .contiguous = true,
    .shape =
        [](ShapeCall& s) {
          if (s.input(0).shape.ndim() < 1) s.fail("the input must be [N, C, sizes...] (" + s.describe(0) + ")");
          check_channels(s, 0, {1});
          s.output(0) = sums_type(s, 0);
        },
    .rule_for =
        [](const ShapeCall& s) {
          const int ndim = s.input(0).shape.ndim();
          const std::string clause = batch_clause(ndim, "reduce(sum)"), flags = s.has_input(1) ? "" : "linear";
          return batch_full(ndim) + ", c -> c  " + clause + (clause.empty() || flags.empty() ? "" : "; ") + flags;
        },
    .kernel = [](const KernelCall& c) { kernels::channel_sums(batch_of(c.input(0).shape(), 0), c.input(0), optional_input(c, 1), c.output(0)); },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 3, 2}, {}}}, {.shapes = {{2, 5}, {5}}}, {.shapes = {{0, 3}, {3}}}};
        },
};
std::vector<DTensor> split_batch_norm(const DecomposeCall& c);
std::vector<DTensor> batch_norm_gradient(const GradientCall& g);
constexpr OpDef kBatchNorm{
    .name = "batch_norm",
    .signature =
        "input, running_mean?, running_var?, weight?, bias?, training: bool = false, momentum: float = 0.1, eps: float = 1e-05 -> out, "
        "new_running_mean, "
        "new_running_var, mean, variance",
    .saves = "input, weight, mean, variance",
    .dtypes = "floating",
    .contiguous = true,
    .shape = batch_norm_shape,
    .rule_for =
        [](const ShapeCall& s) {
          const int ndim = s.input(0).shape.ndim();
          const std::string full = batch_full(ndim), clause = s.attribute(0).as_bool() ? batch_clause(ndim, "whole") : "";
          return full + ", c, c, c, c -> " + full + ", c, c, c, c  " + clause;
        },
    .kernel = batch_norm_kernel,
    .gradient = batch_norm_gradient,
    .decompose = split_batch_norm,
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 3, 2}, {3}, {3}, {3}, {3}}, .attributes = {{"training", "true"}, {"momentum", "0.3"}}},
                                     {.shapes = {{5, 3}, {}, {}, {3}, {3}}, .attributes = {{"training", "true"}}},
                                     {.shapes = {{2, 5, 3, 2}, {5}, {5}, {5}, {5}}, .low = 0.1},
                                     {.shapes = {{0, 3}, {3}, {3}, {}, {}}, .low = 0.1}};
        },
    .reasons = "a Partial bias is reduced first: it would be added to a whole product",
};

// Of a batch that is split only sums per channel move.
std::vector<DTensor> split_batch_norm(const DecomposeCall& c) {
  const DTensor x = ops::without_partial("batch_norm", c.input(0));
  const Dtype dtype = computation_dtype(x.dtype());
  const double count = elements_per_channel(x.shape());
  const auto mean_of = [&](std::initializer_list<Input> inputs) {
    return in_dtype(div(ops::without_partial(call(kChannelSum, inputs)), count), dtype);
  };
  const DTensor average = mean_of({x, Input()}), variance = mean_of({x, average});
  const auto parameter = [&](int i) { return c.has_input(i) ? Input(c.input(i)) : Input(); };
  const std::array<Input, 5> inputs{x, average, variance, parameter(3), parameter(4)};
  const std::array<Attribute, 3> attributes{Attribute(false), c.attribute(1), c.attribute(2)};
  return {call_all(kBatchNorm, inputs, attributes)[0], new_running(c, 1, average, 1), new_running(c, 2, variance, unbiased(count)), average,
          variance};
}

constexpr OpDef kBatchNormSums{
    .name = "batch_norm_sums",
    .signature = "grad_output, input, mean, variance, eps: float = 1e-05 -> sums, products",
    .dtypes = "floating",
    .contiguous = true,
    .shape =
        [](ShapeCall& s) {
          check_channels(s, 1, {2, 3});
          s.output(0) = sums_type(s, 1);
          s.output(1) = sums_type(s, 1);
        },
    .rule_for =
        [](const ShapeCall& s) {
          const int ndim = s.input(1).shape.ndim();
          const std::string full = batch_full(ndim), clause = batch_clause(ndim, "reduce(sum)");
          return full + ", " + full + ", c, c -> c, c  " + clause + (clause.empty() ? "" : "; ") + "linear 1";
        },
    .kernel =
        [](const KernelCall& c) {
          kernels::channel_norm_sums(batch_of(c.input(1).shape(), c.attribute(0).as_double()), c.input(0), c.input(1), c.input(2), c.input(3),
                                     c.output(0), c.output(1));
        },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 3, 2}, {5, 3, 2}, {3}, {3}}, .low = 0.1}};
        },
};
constexpr OpDef kBatchNormInput{
    .name = "batch_norm_input_gradient",
    .signature = "grad_output, input, weight?, mean, variance, sums, products, eps: float, count: float -> grad_input",
    .dtypes = "floating",
    .contiguous = true,
    .shape =
        [](ShapeCall& s) {
          check_channels(s, 1, {2, 3, 4, 5, 6});
          for (int i : {5, 6})
            if (s.input(i).dtype != Dtype::f64) s.fail("sums per channel are f64 (" + s.describe(i) + "); take those of batch_norm_sums");
          s.output(0) = s.input(1);
        },
    .rule_for =
        [](const ShapeCall& s) {
          const std::string full = batch_full(s.input(1).shape.ndim());
          return full + ", " + full + ", c, c, c, c, c -> " + full;
        },
    .kernel =
        [](const KernelCall& c) {
          kernels::channel_norm_input_gradient(batch_of(c.input(1).shape(), c.attribute(0).as_double()), c.input(0), c.input(1), optional_input(c, 2),
                                               c.input(3), c.input(4), c.input(5), c.input(6), c.attribute(1).as_double(), c.output(0));
        },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 3, 2}, {5, 3, 2}, {3}, {3}, {3}, {3}, {3}},
                                      .attributes = {{"eps", "0.1"}, {"count", "10"}},
                                      .dtypes = {Dtype::f32, Dtype::f32, Dtype::f32, Dtype::f32, Dtype::f32, Dtype::f64, Dtype::f64},
                                      .low = 0.1}};
        },
    .reasons = "sums per channel that are Partial are reduced first: they are smaller than the result",
};
std::vector<DTensor> split_batch_norm_backward(const DecomposeCall& c) {
  constexpr std::string_view kName = "batch_norm_backward";
  const DTensor grad = ops::without_partial(kName, c.input(0)), x = ops::without_partial(kName, c.input(1));
  const Attribute eps = c.attribute(1);
  const std::array<Input, 4> inputs{grad, x, c.input(3), c.input(4)};
  const std::array<Attribute, 1> attributes{eps};
  const Results parts = call_all(kBatchNormSums, inputs, attributes);
  const DTensor sums = ops::without_partial(parts[0]), products = ops::without_partial(parts[1]);
  const DTensor result = call(kBatchNormInput, {grad, x, c.has_input(2) ? Input(c.input(2)) : Input(), c.input(3), c.input(4), sums, products},
                              {eps, elements_per_channel(x.shape())});
  const Dtype of_weight = c.has_input(2) ? c.input(2).dtype() : x.dtype();
  return {result, in_dtype(products, of_weight), in_dtype(sums, of_weight)};
}
constexpr OpDef kBatchNormBackward{
    .name = "batch_norm_backward",
    .signature = "grad_output, input, weight?, mean, variance, training: bool, eps: float -> grad_input, grad_weight, grad_bias",
    .dtypes = "floating",
    .contiguous = true,
    .shape =
        [](ShapeCall& s) {
          check_channels(s, 1, {2, 3, 4});
          const TensorType parameter{.shape = channels_of(s.input(1).shape), .dtype = s.has_input(2) ? s.input(2).dtype : s.input(1).dtype};
          s.output(0) = s.input(1);
          s.output(1) = parameter;
          s.output(2) = parameter;
        },
    .rule_for =
        [](const ShapeCall& s) {
          const int ndim = s.input(1).shape.ndim();
          const std::string full = batch_full(ndim), clause = batch_clause(ndim, s.attribute(0).as_bool() ? "whole" : "reduce(sum)");
          return full + ", " + full + ", c, c, c -> " + full + ", c, c  " + clause + (clause.empty() ? "" : "; ") + "linear 1";
        },
    .kernel =
        [](const KernelCall& c) {
          kernels::channel_norm_backward(batch_of(c.input(1).shape(), c.attribute(1).as_double()), c.input(0), c.input(1), optional_input(c, 2),
                                         c.input(3), c.input(4), !c.attribute(0).as_bool(), c.output(0), c.output(1), c.output(2));
        },
    .decompose = split_batch_norm_backward,
    .samples =
        [] {
          return std::vector<Sample>{
              {.shapes = {{5, 3, 2}, {5, 3, 2}, {3}, {3}, {3}}, .attributes = {{"training", "true"}, {"eps", "1e-5"}}, .low = 0.1},
              {.shapes = {{2, 5}, {2, 5}, {}, {5}, {5}}, .attributes = {{"training", "false"}, {"eps", "0.1"}}, .low = 0.1}};
        },
};
std::vector<DTensor> batch_norm_gradient(const GradientCall& g) {
  const std::array<Input, 5> inputs{g.grad_output(0), g.input(0), present(g.inputs_[3]), g.output(3), g.output(4)};
  const std::array<Attribute, 2> attributes{g.attribute(0), g.attribute(2)};
  Results r = call_all(kBatchNormBackward, inputs, attributes);
  return {g.needs(0) ? r[0] : DTensor(), DTensor(), DTensor(), g.needs(3) ? r[1] : DTensor(),
          g.needs(4) ? in_dtype(r[2], g.input_type(4).dtype) : DTensor()};
}

constexpr std::array<const OpDef*, 7> kOps{&kGroupNorm,  &kGroupNormBackward, &kBatchNorm,     &kBatchNormBackward,
                                           &kChannelSum, &kBatchNormSums,     &kBatchNormInput};

}  // namespace

namespace ops {
OpList channel_norm_ops() { return kOps; }
}  // namespace ops

DTensor group_norm(const DTensor& input, std::int64_t num_groups, const DTensor& weight, const DTensor& bias, double eps) {
  return call(kGroupNorm, {input, present(weight), present(bias)}, {num_groups, eps});
}
BatchNorm batch_norm(const DTensor& input, const DTensor& running_mean, const DTensor& running_var, const DTensor& weight, const DTensor& bias,
                     const BatchNormOptions& o) {
  const std::array<Input, 5> inputs{input, present(running_mean), present(running_var), present(weight), present(bias)};
  const std::array<Attribute, 3> attributes{Attribute(o.training), Attribute(o.momentum), Attribute(o.eps)};
  Results r = call_all(kBatchNorm, inputs, attributes);
  return {r[0], r[1], r[2]};
}
DTensor instance_norm(const DTensor& input, const DTensor& weight, const DTensor& bias, double eps) {
  return group_norm(input, input.ndim() > 1 ? input.shape()[1] : 0, weight, bias, eps);
}

}  // namespace dtensor
