// SPDX-License-Identifier: Apache-2.0
#include "dtensor/ops/factories.h"

#include <array>
#include <cmath>

#include "base/rank.h"
#include "dtensor/error.h"
#include "dtensor/op.h"
#include "dtensor/ops/cast.h"
#include "local/kernels/sequences.h"
#include "local/neutral.h"
#include "ops/families.h"
#include "ops/index_rules.h"
#include "tensor/impl.h"
#include "tensor/move_ops.h"

namespace dtensor {
namespace {

Device device_of(const std::optional<Device>& device, std::string_view op) { return device.value_or(base::require_rank(op).device); }

// Factories make Replicate or split parts; Partial is a local move from there.
DTensor make(const OpDef& op, const DeviceMesh& mesh, const Placements& placements, const Shape& shape, Dtype dtype, Device device,
             std::initializer_list<Attribute> attributes) {
  const auto layout = placements::make_layout(mesh, shape, dtype, placements, op.name);
  const std::span<const Attribute> list(attributes.begin(), attributes.size());
  if (!layout->has_partial()) return call_on(op, mesh, placements, device, list);
  const auto plain = tensor::without_partial(layout);
  return tensor::redistribute_to(call_on(op, mesh, placements::to_placements(*plain, mesh.names()), device, list), layout);
}

DTensor finished(DTensor t, const TensorOptions& options) {
  if (options.requires_grad) t.set_requires_grad();
  return t;
}

void check_sizes(const ShapeCall& s, const Shape& shape) {
  for (std::int64_t n : shape)
    if (n < 0) s.fail("sizes must not be negative (" + to_string(shape) + ")");
}

void full_shape(ShapeCall& s) {
  const Shape shape = s.attribute(0).as_shape();
  check_sizes(s, shape);
  s.output(0) = {.shape = shape, .dtype = s.attribute(2).as_dtype()};
}
constexpr OpDef kFull{
    .name = "full",
    .signature = "size: int[], fill_value: number, dtype: dtype -> out",
    .shape = full_shape,
    .kernel = [](const KernelCall& call) { call.output(0).fill_(call.attribute(1).scalar()); },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {}, .attributes = {{"size", "[5, 3]"}, {"fill_value", "1.5"}, {"dtype", "f32"}}},
                                     {.shapes = {}, .attributes = {{"size", "[]"}, {"fill_value", "2"}, {"dtype", "i64"}}}};
        },
};
constexpr OpDef kEmpty{
    .name = "empty",
    .signature = "size: int[], fill_value: number, dtype: dtype -> out",
    .shape = full_shape,
    .kernel = [](const KernelCall&) {},
};

// start and step are handed to the kernel, the length is static.
constexpr OpDef kArange{
    .name = "arange",
    .signature = "length: int, start: number, step: number, dtype: dtype -> out",
    .shape = [](ShapeCall& s) { s.output(0) = {.shape = {s.attribute(0).as_int()}, .dtype = s.attribute(3).as_dtype()}; },
    .kernel =
        [](const KernelCall& call) {
          local::kernels::fill_steps(call.attribute(1).scalar(), call.attribute(2).scalar(), ops::runs_of(call.output_place(0), 0), call.output(0));
        },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {}, .attributes = {{"length", "7"}, {"start", "-2"}, {"step", "3"}, {"dtype", "i64"}}},
                                     {.shapes = {}, .attributes = {{"length", "5"}, {"start", "0.5"}, {"step", "0.25"}, {"dtype", "f32"}}},
                                     {.shapes = {}, .attributes = {{"length", "0"}, {"start", "0"}, {"step", "1"}, {"dtype", "i64"}}}};
        },
};

constexpr OpDef kEye{
    .name = "eye",
    .signature = "n: int, m: int, dtype: dtype -> out",
    .shape =
        [](ShapeCall& s) {
          const Shape shape{s.attribute(0).as_int(), s.attribute(1).as_int()};
          check_sizes(s, shape);
          s.output(0) = {.shape = shape, .dtype = s.attribute(2).as_dtype()};
        },
    .kernel =
        [](const KernelCall& call) {
          const Place& place = call.output_place(0);
          local::kernels::fill_diagonal(ops::runs_of(place, 0), ops::runs_of(place, 1), call.output(0));
        },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {}, .attributes = {{"n", "5"}, {"m", "7"}, {"dtype", "f32"}}},
                                     {.shapes = {}, .attributes = {{"n", "3"}, {"m", "0"}, {"dtype", "i64"}}}};
        },
};

// ---- tril, triu: by box
void triangle_shape(ShapeCall& s) {
  if (s.input(0).shape.ndim() < 2) s.fail("the tensor has fewer than two dims (" + s.describe(0) + ")");
  s.output(0) = s.input(0);
}
void triangle(const KernelCall& call, bool lower) {
  const Tensor& out = call.output(0);
  const Place& place = call.output_place(0);
  out.copy_(call.input(0));
  local::kernels::clear_triangle(ops::runs_of(place, out.ndim() - 2), ops::runs_of(place, out.ndim() - 1), call.attribute(0).as_int(), lower, out);
}
constexpr OpDef kTril{
    .name = "tril",
    .signature = "input, diagonal: int = 0 -> out",
    .rule = "... -> ...    linear",
    .shape = triangle_shape,
    .kernel = [](const KernelCall& call) { triangle(call, true); },
    .gradient = [](const GradientCall& g) -> std::vector<DTensor> { return {tril(g.grad_output(0), g.attribute(0).as_int())}; },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 7}}}, {.shapes = {{2, 3, 3}}, .attributes = {{"diagonal", "-1"}}}, {.shapes = {{0, 4}}}};
        },
};
constexpr OpDef kTriu{
    .name = "triu",
    .signature = "input, diagonal: int = 0 -> out",
    .rule = "... -> ...    linear",
    .shape = triangle_shape,
    .kernel = [](const KernelCall& call) { triangle(call, false); },
    .gradient = [](const GradientCall& g) -> std::vector<DTensor> { return {triu(g.grad_output(0), g.attribute(0).as_int())}; },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 7}}}, {.shapes = {{2, 3, 3}}, .attributes = {{"diagonal", "1"}}}};
        },
};

constexpr std::array<const OpDef*, 6> kOps{&kFull, &kEmpty, &kArange, &kEye, &kTril, &kTriu};

}  // namespace

namespace ops {
OpList factory_ops() { return kOps; }
}  // namespace ops

DTensor full(const Shape& size, const Scalar& fill_value, const DeviceMesh& mesh, const Placements& placements, const TensorOptions& options) {
  return finished(make(kFull, mesh, placements, size, options.dtype, device_of(options.device, "full"), {size, fill_value, options.dtype}), options);
}
DTensor empty(const Shape& size, const DeviceMesh& mesh, const Placements& placements, const TensorOptions& options) {
  return finished(make(kEmpty, mesh, placements, size, options.dtype, device_of(options.device, "empty"), {size, 0, options.dtype}), options);
}
DTensor zeros(const Shape& size, const DeviceMesh& mesh, const Placements& placements, const TensorOptions& options) {
  return full(size, 0, mesh, placements, options);
}
DTensor ones(const Shape& size, const DeviceMesh& mesh, const Placements& placements, const TensorOptions& options) {
  return full(size, 1, mesh, placements, options);
}

DTensor arange(const Scalar& start, const Scalar& end, const Scalar& step, const DeviceMesh& mesh, const Placements& placements,
               const ArangeOptions& options) {
  if (step.as_double() == 0) throw InvalidArgument("arange: step is zero; give a step that leads from start to end");
  const double count = std::ceil((end.as_double() - start.as_double()) / step.as_double());
  const std::int64_t length = count > 0 ? static_cast<std::int64_t>(count) : 0;
  const bool floating = start.kind() == ScalarKind::floating || end.kind() == ScalarKind::floating || step.kind() == ScalarKind::floating;
  const Dtype dtype = options.dtype.value_or(floating ? Dtype::f32 : Dtype::i64);
  return make(kArange, mesh, placements, {length}, dtype, device_of(options.device, "arange"), {length, start, step, dtype});
}
DTensor arange(const Scalar& end, const DeviceMesh& mesh, const Placements& placements, const ArangeOptions& options) {
  return arange(0, end, 1, mesh, placements, options);
}

DTensor eye(std::int64_t n, std::int64_t m, const DeviceMesh& mesh, const Placements& placements, const TensorOptions& options) {
  return finished(make(kEye, mesh, placements, {n, m}, options.dtype, device_of(options.device, "eye"), {n, m, options.dtype}), options);
}

DTensor full_like(const DTensor& input, const Scalar& fill_value) {
  const tensor::Spec& s = *tensor::checked(input, "full_like").spec;
  return full(s.shape, fill_value, s.mesh, placements::to_placements(*tensor::without_partial(s.layout), s.mesh.names()),
              {.dtype = s.dtype, .device = s.device});
}
DTensor zeros_like(const DTensor& input) { return full_like(input, 0); }
DTensor ones_like(const DTensor& input) { return full_like(input, 1); }
DTensor tril(const DTensor& input, std::int64_t diagonal) { return call(kTril, {input}, {diagonal}); }
DTensor triu(const DTensor& input, std::int64_t diagonal) { return call(kTriu, {input}, {diagonal}); }

}  // namespace dtensor
