// SPDX-License-Identifier: Apache-2.0
#include "ops/elementwise.h"

#include <algorithm>

#include "dtensor/ops/binary.h"
#include "dtensor/ops/reductions.h"

namespace dtensor::ops {
namespace {

int category(Dtype d) noexcept { return info(d).floating ? 2 : info(d).integral ? 1 : 0; }

Dtype promote_ranked(Dtype a, int a_ndim, Dtype b, int b_ndim) noexcept {
  if (a_ndim > 0 && b_ndim == 0 && category(a) >= category(b)) return a;
  if (b_ndim > 0 && a_ndim == 0 && category(b) >= category(a)) return b;
  return promote(a, b);
}

}  // namespace

Shape broadcast_shape(const ShapeCall& s, int first, int count) {
  Shape result;
  int from = first;
  for (int i = first; i < first + count; ++i) {
    if (!s.has_input(i)) continue;
    const Shape& shape = s.input(i).shape;
    while (result.ndim() < shape.ndim()) result.insert(0, 1);
    const int missing = result.ndim() - shape.ndim();
    for (int d = 0; d < shape.ndim(); ++d) {
      std::int64_t& size = result[d + missing];
      if (shape[d] == size || shape[d] == 1) continue;
      if (size != 1)
        s.fail("shapes do not broadcast (" + s.describe(from) + ", " + s.describe(i) + "); sizes must be equal or 1, counted from the last dim");
      size = shape[d];
      from = i;
    }
  }
  return result;
}

Dtype promote_operands(const TensorType& a, const TensorType& b) noexcept { return promote_ranked(a.dtype, a.shape.ndim(), b.dtype, b.shape.ndim()); }
Dtype promote_operands(const Tensor& a, const Tensor& b) noexcept { return promote_ranked(a.dtype(), a.ndim(), b.dtype(), b.ndim()); }
Dtype floating_dtype(Dtype dtype) noexcept { return info(dtype).floating ? dtype : Dtype::f32; }

void same_type(ShapeCall& s) { s.output(0) = s.input(0); }
void floating_type(ShapeCall& s) { s.output(0) = {s.input(0).shape, floating_dtype(s.input(0).dtype)}; }
void boolean_type(ShapeCall& s) { s.output(0) = {s.input(0).shape, Dtype::boolean}; }

void written_type(ShapeCall& s) {
  const TensorType& self = s.input(0);
  for (int i = 1; i < s.num_inputs(); ++i) {
    if (!s.has_input(i)) continue;
    const Shape& shape = s.input(i).shape;
    const int missing = self.shape.ndim() - shape.ndim();
    bool fits = missing >= 0;
    for (int d = 0; fits && d < shape.ndim(); ++d) fits = shape[d] == 1 || shape[d] == self.shape[d + missing];
    if (!fits) s.fail("a tensor written in place keeps its shape (" + s.describe(0) + ", " + s.describe(i) + "); use the form that returns a result");
    if (category(s.input(i).dtype) > category(self.dtype))
      s.fail("the result does not fit the dtype written in place (" + s.describe(0) + ", " + s.describe(i) + "); convert with to() first");
  }
  s.output(0) = self;
}

DTensor gradient_for(const GradientCall& g, int i, const DTensor& grad) {
  if (!g.needs(i) || !grad) return {};
  const TensorType& type = g.input_type(i);
  DTensor result = grad.shape() == type.shape ? grad : sum_to_shape(grad, type.shape);
  return result.dtype() == type.dtype ? result : result.to(type.dtype);
}

std::vector<DTensor> zero_gradient(const GradientCall& g) {
  std::vector<DTensor> result;
  for (int i = 0; i < g.num_inputs(); ++i) result.push_back(g.needs(i) ? gradient_for(g, i, mul(g.grad_output(0), 0)) : DTensor());
  return result;
}

}  // namespace dtensor::ops
