// SPDX-License-Identifier: Apache-2.0
#include "dtensor/ops/rotary.h"

#include <array>

#include <fmt/format.h>

#include "base/rank.h"
#include "dtensor/error.h"
#include "dtensor/op.h"
#include "local/kernels/rotary.h"
#include "ops/families.h"
#include "ops/index_rules.h"

namespace dtensor {
namespace {

void rotary_shape(ShapeCall& s) {
  const TensorType x = s.input(0);
  if (x.shape.ndim() < 2) s.fail(fmt::format("at least two dims are wanted, [..., length, width] ({})", s.describe(0)));
  const std::int64_t t = x.shape[x.shape.ndim() - 2], d = x.shape.back();
  if (d % 2 != 0) s.fail(fmt::format("the width must be even ({} dim {} = {})", s.describe(0), x.shape.ndim() - 1, d));
  for (int i : {1, 2}) {
    const TensorType& table = s.input(i);
    if (table.shape.ndim() != 2 || table.shape[0] != t || (table.shape[1] != d && table.shape[1] != d / 2) || table.shape != s.input(1).shape)
      s.fail(fmt::format("tables do not fit ({}, {}, {}); [{}, {}] or [{}, {}] is wanted, slice longer tables", s.describe(0), s.describe(1),
                         s.describe(2), t, d / 2, t, d));
    if (table.dtype != x.dtype) s.fail(fmt::format("dtypes differ ({}, {}); convert one with to()", s.describe(0), s.describe(i)));
  }
  s.output(0) = x;
}

void rotary_kernel(const KernelCall& call) {
  local::kernels::rotary(call.input(0), call.input(1), call.input(2), call.attribute(0).as_bool(), call.output(0));
}

std::vector<DTensor> rotary_gradient(const GradientCall& g);

std::vector<Sample> rotary_samples() {
  return {{.shapes = {{2, 3, 5, 4}, {5, 2}, {5, 2}}},
          {.shapes = {{3, 5, 6}, {5, 6}, {5, 6}}},
          {.shapes = {{2, 1, 4}, {1, 2}, {1, 2}}, .attributes = {{"inverse", "true"}}},
          {.shapes = {{2, 0, 4}, {0, 2}, {0, 2}}}};
}
constexpr OpDef kRotary{
    .name = "rotary",
    .signature = "x, cos, sin, *, inverse: bool = false -> out",
    .rule = "... t d, t f, t f -> ... t d    d, f: whole; linear 1",
    .saves = "cos, sin",
    .dtypes = "floating",
    .shape = rotary_shape,
    .kernel = rotary_kernel,
    .gradient = rotary_gradient,
    .samples = rotary_samples,
    .reasons = "the width is whole: element i needs element i + d / 2; x is linear in the tables too, which are constants",
};

std::vector<DTensor> rotary_gradient(const GradientCall& g) {
  if (g.needs(1) || g.needs(2)) throw Unsupported("rotary: the tables get no gradient (requires_grad is set on cos or sin); detach them");
  const bool inverse = g.attribute(0).as_bool();
  return {g.needs(0) ? call(kRotary, {g.grad_output(0), g.input(1), g.input(2)}, {!inverse}) : DTensor(), DTensor(), DTensor()};
}

enum TablePosition { kLength, kHeadDim, kTheta, kOffset, kSine, kDtype };

void table_shape(ShapeCall& s) {
  const std::int64_t length = s.attribute(kLength).as_int(), head_dim = s.attribute(kHeadDim).as_int();
  if (length < 0 || head_dim < 0 || head_dim % 2 != 0)
    s.fail(fmt::format("length must be at least 0 and head_dim even (length {}, head_dim {})", length, head_dim));
  s.output(0) = {.shape = {length, head_dim / 2}, .dtype = s.attribute(kDtype).as_dtype()};
  if (!info(s.output(0).dtype).floating) s.fail(fmt::format("a floating dtype is wanted (dtype {})", to_string(s.output(0).dtype)));
}

void table_kernel(const KernelCall& call) {
  std::vector<local::GlobalRun> rows = ops::runs_of(call.output_place(0), 0);
  for (local::GlobalRun& run : rows) run.begin += call.attribute(kOffset).as_int();
  const std::vector<local::GlobalRun> columns = ops::runs_of(call.output_place(0), 1);
  local::kernels::rotary_table(
      {call.attribute(kHeadDim).as_int(), call.attribute(kTheta).as_double(), call.attribute(kSine).as_bool(), rows, columns}, call.output(0));
}

constexpr OpDef kTable{
    .name = "rotary_table",
    .signature = "*, length: int, head_dim: int, theta: float, offset: number, sine: bool, dtype: dtype -> out",
    .rule = "-> t f",
    .shape = table_shape,
    .kernel = table_kernel,
    .samples =
        [] {
          const std::vector<std::pair<std::string, std::string>> common{
              {"length", "7"}, {"head_dim", "6"}, {"theta", "10000"}, {"offset", "2"}, {"dtype", "f32"}};
          std::vector<Sample> samples{{.shapes = {}, .attributes = common}, {.shapes = {}, .attributes = common}};
          samples[0].attributes.emplace_back("sine", "true");
          samples[1].attributes.emplace_back("sine", "false");
          return samples;
        },
};

}  // namespace

DTensor rotary(const DTensor& x, const DTensor& cos, const DTensor& sin) { return call(kRotary, {x, cos, sin}); }

RotaryTables rotary_tables(const RotaryTablesOptions& o, const DeviceMesh& mesh, const Placements& placements) {
  const Device device = o.device.value_or(base::require_rank("rotary_tables").device);
  const auto table = [&](bool sine) {
    const std::array<Attribute, 6> attributes{o.length, o.head_dim, o.theta, o.offset, sine, o.dtype};
    return call_on(kTable, mesh, placements, device, attributes);
  };
  return {table(false), table(true)};
}

namespace ops {
OpList rotary_ops() {
  static constexpr std::array<const OpDef*, 2> kOps{&kRotary, &kTable};
  return kOps;
}
}  // namespace ops

}  // namespace dtensor
