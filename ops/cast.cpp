// SPDX-License-Identifier: Apache-2.0
#include "dtensor/ops/cast.h"

#include "dtensor/op.h"
#include "local/cpu/map.h"
#include "local/kernels/map.h"
#include "ops/elementwise.h"

namespace dtensor {
namespace {

// Nothing is rounded: sums may be converted before they are taken.
bool widens(Dtype from, Dtype to) { return info(from).floating && info(to).floating && promote(from, to) == to && from != to; }

constexpr OpDef kTo{
    .name = "to",
    .signature = "input, *, dtype: dtype -> out",
    .dtypes = "any",
    .shape =
        [](ShapeCall& s) {
          s.output(0) = {s.input(0).shape, s.attribute(0).as_dtype()};
        },
    .rule_for = [](const ShapeCall& s) -> std::string {
      const Dtype from = s.input(0).dtype, to = s.attribute(0).as_dtype();
      if (from == to || widens(from, to)) return "... -> ...    linear; monotone";
      return info(from).floating && info(to).floating ? "... -> ...    monotone" : "... -> ...";
    },
    .kernel = [](const KernelCall& c) { local::kernels::convert(c.input(0), c.output(0)); },
    .gradient = [](const GradientCall& g) -> std::vector<DTensor> { return {g.grad_output(0).to(g.input_type(0).dtype)}; },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 7}}, .attributes = {{"dtype", "f64"}}},
                                     {.shapes = {{5, 7}}, .attributes = {{"dtype", "i64"}}},
                                     {.shapes = {{0, 3}}, .attributes = {{"dtype", "f32"}}, .dtypes = {Dtype::f64}},
                                     {.shapes = {{3, 2}}, .attributes = {{"dtype", "f32"}}, .dtypes = {Dtype::i32}},
                                     {.shapes = {{4}}, .attributes = {{"dtype", "bool"}}, .dtypes = {Dtype::i64}}};
        },
    .reasons = "a narrowing conversion of a sum differs from the sum of narrowed parts by rounding; integers and bool wrap or have a least number",
};

constexpr const OpDef* kFamily[] = {&kTo};

}  // namespace

namespace ops {
OpList cast_ops() { return kFamily; }
}  // namespace ops

DTensor to(const DTensor& input, Dtype dtype) { return input.dtype() == dtype ? input : call(kTo, {input}, {dtype}); }
DTensor DTensor::to(Dtype dtype) const { return dtensor::to(*this, dtype); }

}  // namespace dtensor
