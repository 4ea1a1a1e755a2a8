// SPDX-License-Identifier: Apache-2.0
#include "dtensor/ops/foreach.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "dtensor/error.h"
#include "dtensor/ops/cast.h"
#include "dtensor/ops/elementary.h"
#include "dtensor/ops/inplace.h"
#include "dtensor/ops/pointwise.h"
#include "dtensor/ops/reductions.h"
#include "dtensor/ops/summaries.h"
#include "ops/reduction_rules.h"
#include "ops/vector_norms.h"
#include "tensor/state.h"

namespace dtensor {
namespace {

using List = std::vector<DTensor>;

void same_length(std::string_view op, std::size_t a, std::size_t b) {
  if (a != b)
    throw InvalidArgument(std::string(op) + ": lists differ in length (" + std::to_string(a) + ", " + std::to_string(b) + "); give as many of each");
}
template <class F>
List each(TensorList self, const F& f) {
  List results;
  results.reserve(self.size());
  for (std::size_t i = 0; i < self.size(); ++i) results.push_back(f(i));
  return results;
}
template <class F, class Other>
List each_of_two(std::string_view op, TensorList self, std::span<const Other> other, const F& f) {
  same_length(op, self.size(), other.size());
  return each(self, [&](std::size_t i) { return f(self[i], other[i]); });
}
template <class F>
List each_of_three(std::string_view op, TensorList self, TensorList a, TensorList b, const F& f) {
  same_length(op, self.size(), a.size());
  same_length(op, self.size(), b.size());
  return each(self, [&](std::size_t i) { return f(self[i], a[i], b[i]); });
}

}  // namespace

std::vector<DTensor> foreach_abs(TensorList self) {
  return each(self, [&](std::size_t i) { return abs(self[i]); });
}
void foreach_abs_(TensorList self) {
  for (const DTensor& t : self) abs_(t);
}
std::vector<DTensor> foreach_neg(TensorList self) {
  return each(self, [&](std::size_t i) { return neg(self[i]); });
}
void foreach_neg_(TensorList self) {
  for (const DTensor& t : self) neg_(t);
}
std::vector<DTensor> foreach_sign(TensorList self) {
  return each(self, [&](std::size_t i) { return sign(self[i]); });
}
void foreach_sign_(TensorList self) {
  for (const DTensor& t : self) sign_(t);
}
std::vector<DTensor> foreach_exp(TensorList self) {
  return each(self, [&](std::size_t i) { return exp(self[i]); });
}
void foreach_exp_(TensorList self) {
  for (const DTensor& t : self) exp_(t);
}
std::vector<DTensor> foreach_expm1(TensorList self) {
  return each(self, [&](std::size_t i) { return expm1(self[i]); });
}
void foreach_expm1_(TensorList self) {
  for (const DTensor& t : self) expm1_(t);
}
std::vector<DTensor> foreach_log(TensorList self) {
  return each(self, [&](std::size_t i) { return log(self[i]); });
}
void foreach_log_(TensorList self) {
  for (const DTensor& t : self) log_(t);
}
std::vector<DTensor> foreach_log1p(TensorList self) {
  return each(self, [&](std::size_t i) { return log1p(self[i]); });
}
void foreach_log1p_(TensorList self) {
  for (const DTensor& t : self) log1p_(t);
}
std::vector<DTensor> foreach_log2(TensorList self) {
  return each(self, [&](std::size_t i) { return log2(self[i]); });
}
void foreach_log2_(TensorList self) {
  for (const DTensor& t : self) log2_(t);
}
std::vector<DTensor> foreach_log10(TensorList self) {
  return each(self, [&](std::size_t i) { return log10(self[i]); });
}
void foreach_log10_(TensorList self) {
  for (const DTensor& t : self) log10_(t);
}
std::vector<DTensor> foreach_sqrt(TensorList self) {
  return each(self, [&](std::size_t i) { return sqrt(self[i]); });
}
void foreach_sqrt_(TensorList self) {
  for (const DTensor& t : self) sqrt_(t);
}
std::vector<DTensor> foreach_rsqrt(TensorList self) {
  return each(self, [&](std::size_t i) { return rsqrt(self[i]); });
}
void foreach_rsqrt_(TensorList self) {
  for (const DTensor& t : self) rsqrt_(t);
}
std::vector<DTensor> foreach_reciprocal(TensorList self) {
  return each(self, [&](std::size_t i) { return reciprocal(self[i]); });
}
void foreach_reciprocal_(TensorList self) {
  for (const DTensor& t : self) reciprocal_(t);
}
std::vector<DTensor> foreach_floor(TensorList self) {
  return each(self, [&](std::size_t i) { return floor(self[i]); });
}
void foreach_floor_(TensorList self) {
  for (const DTensor& t : self) floor_(t);
}
std::vector<DTensor> foreach_ceil(TensorList self) {
  return each(self, [&](std::size_t i) { return ceil(self[i]); });
}
void foreach_ceil_(TensorList self) {
  for (const DTensor& t : self) ceil_(t);
}
std::vector<DTensor> foreach_trunc(TensorList self) {
  return each(self, [&](std::size_t i) { return trunc(self[i]); });
}
void foreach_trunc_(TensorList self) {
  for (const DTensor& t : self) trunc_(t);
}
std::vector<DTensor> foreach_round(TensorList self) {
  return each(self, [&](std::size_t i) { return round(self[i]); });
}
void foreach_round_(TensorList self) {
  for (const DTensor& t : self) round_(t);
}
std::vector<DTensor> foreach_frac(TensorList self) {
  return each(self, [&](std::size_t i) { return frac(self[i]); });
}
void foreach_frac_(TensorList self) {
  for (const DTensor& t : self) frac_(t);
}
std::vector<DTensor> foreach_sin(TensorList self) {
  return each(self, [&](std::size_t i) { return sin(self[i]); });
}
void foreach_sin_(TensorList self) {
  for (const DTensor& t : self) sin_(t);
}
std::vector<DTensor> foreach_cos(TensorList self) {
  return each(self, [&](std::size_t i) { return cos(self[i]); });
}
void foreach_cos_(TensorList self) {
  for (const DTensor& t : self) cos_(t);
}
std::vector<DTensor> foreach_tan(TensorList self) {
  return each(self, [&](std::size_t i) { return tan(self[i]); });
}
void foreach_tan_(TensorList self) {
  for (const DTensor& t : self) tan_(t);
}
std::vector<DTensor> foreach_sinh(TensorList self) {
  return each(self, [&](std::size_t i) { return sinh(self[i]); });
}
void foreach_sinh_(TensorList self) {
  for (const DTensor& t : self) sinh_(t);
}
std::vector<DTensor> foreach_cosh(TensorList self) {
  return each(self, [&](std::size_t i) { return cosh(self[i]); });
}
void foreach_cosh_(TensorList self) {
  for (const DTensor& t : self) cosh_(t);
}
std::vector<DTensor> foreach_tanh(TensorList self) {
  return each(self, [&](std::size_t i) { return tanh(self[i]); });
}
void foreach_tanh_(TensorList self) {
  for (const DTensor& t : self) tanh_(t);
}
std::vector<DTensor> foreach_asin(TensorList self) {
  return each(self, [&](std::size_t i) { return asin(self[i]); });
}
void foreach_asin_(TensorList self) {
  for (const DTensor& t : self) asin_(t);
}
std::vector<DTensor> foreach_acos(TensorList self) {
  return each(self, [&](std::size_t i) { return acos(self[i]); });
}
void foreach_acos_(TensorList self) {
  for (const DTensor& t : self) acos_(t);
}
std::vector<DTensor> foreach_atan(TensorList self) {
  return each(self, [&](std::size_t i) { return atan(self[i]); });
}
void foreach_atan_(TensorList self) {
  for (const DTensor& t : self) atan_(t);
}
std::vector<DTensor> foreach_sigmoid(TensorList self) {
  return each(self, [&](std::size_t i) { return sigmoid(self[i]); });
}
void foreach_sigmoid_(TensorList self) {
  for (const DTensor& t : self) sigmoid_(t);
}
std::vector<DTensor> foreach_erf(TensorList self) {
  return each(self, [&](std::size_t i) { return erf(self[i]); });
}
void foreach_erf_(TensorList self) {
  for (const DTensor& t : self) erf_(t);
}
std::vector<DTensor> foreach_erfc(TensorList self) {
  return each(self, [&](std::size_t i) { return erfc(self[i]); });
}
void foreach_erfc_(TensorList self) {
  for (const DTensor& t : self) erfc_(t);
}
std::vector<DTensor> foreach_lgamma(TensorList self) {
  return each(self, [&](std::size_t i) { return lgamma(self[i]); });
}
void foreach_lgamma_(TensorList self) {
  for (const DTensor& t : self) lgamma_(t);
}
std::vector<DTensor> foreach_add(TensorList self, TensorList other, const AddOptions& o) {
  return each_of_two("foreach_add", self, other, [&o](const DTensor& a, const DTensor& b) { return add(a, b, o); });
}
std::vector<DTensor> foreach_add(TensorList self, ScalarList scalars) {
  return each_of_two("foreach_add", self, scalars, [](const DTensor& a, const Scalar& b) { return add(a, b); });
}
std::vector<DTensor> foreach_add(TensorList self, const Scalar& scalar) {
  return each(self, [&](std::size_t i) { return add(self[i], scalar); });
}
void foreach_add_(TensorList self, TensorList other, const AddOptions& o) {
  each_of_two("foreach_add_", self, other, [&o](const DTensor& a, const DTensor& b) { return add_(a, b, o); });
}
void foreach_add_(TensorList self, ScalarList scalars) {
  each_of_two("foreach_add_", self, scalars, [](const DTensor& a, const Scalar& b) { return add_(a, b); });
}
void foreach_add_(TensorList self, const Scalar& scalar) {
  for (const DTensor& t : self) add_(t, scalar);
}
std::vector<DTensor> foreach_sub(TensorList self, TensorList other, const AddOptions& o) {
  return each_of_two("foreach_sub", self, other, [&o](const DTensor& a, const DTensor& b) { return sub(a, b, o); });
}
std::vector<DTensor> foreach_sub(TensorList self, ScalarList scalars) {
  return each_of_two("foreach_sub", self, scalars, [](const DTensor& a, const Scalar& b) { return sub(a, b); });
}
std::vector<DTensor> foreach_sub(TensorList self, const Scalar& scalar) {
  return each(self, [&](std::size_t i) { return sub(self[i], scalar); });
}
void foreach_sub_(TensorList self, TensorList other, const AddOptions& o) {
  each_of_two("foreach_sub_", self, other, [&o](const DTensor& a, const DTensor& b) { return sub_(a, b, o); });
}
void foreach_sub_(TensorList self, ScalarList scalars) {
  each_of_two("foreach_sub_", self, scalars, [](const DTensor& a, const Scalar& b) { return sub_(a, b); });
}
void foreach_sub_(TensorList self, const Scalar& scalar) {
  for (const DTensor& t : self) sub_(t, scalar);
}
std::vector<DTensor> foreach_mul(TensorList self, TensorList other) {
  return each_of_two("foreach_mul", self, other, [](const DTensor& a, const DTensor& b) { return mul(a, b); });
}
std::vector<DTensor> foreach_mul(TensorList self, ScalarList scalars) {
  return each_of_two("foreach_mul", self, scalars, [](const DTensor& a, const Scalar& b) { return mul(a, b); });
}
std::vector<DTensor> foreach_mul(TensorList self, const Scalar& scalar) {
  return each(self, [&](std::size_t i) { return mul(self[i], scalar); });
}
void foreach_mul_(TensorList self, TensorList other) {
  each_of_two("foreach_mul_", self, other, [](const DTensor& a, const DTensor& b) { return mul_(a, b); });
}
void foreach_mul_(TensorList self, ScalarList scalars) {
  each_of_two("foreach_mul_", self, scalars, [](const DTensor& a, const Scalar& b) { return mul_(a, b); });
}
void foreach_mul_(TensorList self, const Scalar& scalar) {
  for (const DTensor& t : self) mul_(t, scalar);
}
std::vector<DTensor> foreach_div(TensorList self, TensorList other) {
  return each_of_two("foreach_div", self, other, [](const DTensor& a, const DTensor& b) { return div(a, b); });
}
std::vector<DTensor> foreach_div(TensorList self, ScalarList scalars) {
  return each_of_two("foreach_div", self, scalars, [](const DTensor& a, const Scalar& b) { return div(a, b); });
}
std::vector<DTensor> foreach_div(TensorList self, const Scalar& scalar) {
  return each(self, [&](std::size_t i) { return div(self[i], scalar); });
}
void foreach_div_(TensorList self, TensorList other) {
  each_of_two("foreach_div_", self, other, [](const DTensor& a, const DTensor& b) { return div_(a, b); });
}
void foreach_div_(TensorList self, ScalarList scalars) {
  each_of_two("foreach_div_", self, scalars, [](const DTensor& a, const Scalar& b) { return div_(a, b); });
}
void foreach_div_(TensorList self, const Scalar& scalar) {
  for (const DTensor& t : self) div_(t, scalar);
}
std::vector<DTensor> foreach_pow(TensorList self, TensorList other) {
  return each_of_two("foreach_pow", self, other, [](const DTensor& a, const DTensor& b) { return pow(a, b); });
}
std::vector<DTensor> foreach_pow(TensorList self, ScalarList scalars) {
  return each_of_two("foreach_pow", self, scalars, [](const DTensor& a, const Scalar& b) { return pow(a, b); });
}
std::vector<DTensor> foreach_pow(TensorList self, const Scalar& scalar) {
  return each(self, [&](std::size_t i) { return pow(self[i], scalar); });
}
void foreach_pow_(TensorList self, TensorList other) {
  each_of_two("foreach_pow_", self, other, [](const DTensor& a, const DTensor& b) { return pow_(a, b); });
}
void foreach_pow_(TensorList self, ScalarList scalars) {
  each_of_two("foreach_pow_", self, scalars, [](const DTensor& a, const Scalar& b) { return pow_(a, b); });
}
void foreach_pow_(TensorList self, const Scalar& scalar) {
  for (const DTensor& t : self) pow_(t, scalar);
}
std::vector<DTensor> foreach_maximum(TensorList self, TensorList other) {
  return each_of_two("foreach_maximum", self, other, [](const DTensor& a, const DTensor& b) { return maximum(a, b); });
}
std::vector<DTensor> foreach_maximum(TensorList self, const Scalar& scalar) {
  return each(self, [&](std::size_t i) { return clamp(self[i], ClampOptions{.min = scalar, .max = {}}); });
}
void foreach_maximum_(TensorList self, TensorList other) {
  each_of_two("foreach_maximum_", self, other, [](const DTensor& a, const DTensor& b) { return copy_(a, maximum(a, b)); });
}
void foreach_maximum_(TensorList self, const Scalar& scalar) {
  for (const DTensor& t : self) clamp_(t, ClampOptions{.min = scalar, .max = {}});
}
std::vector<DTensor> foreach_minimum(TensorList self, TensorList other) {
  return each_of_two("foreach_minimum", self, other, [](const DTensor& a, const DTensor& b) { return minimum(a, b); });
}
std::vector<DTensor> foreach_minimum(TensorList self, const Scalar& scalar) {
  return each(self, [&](std::size_t i) { return clamp(self[i], ClampOptions{.min = {}, .max = scalar}); });
}
void foreach_minimum_(TensorList self, TensorList other) {
  each_of_two("foreach_minimum_", self, other, [](const DTensor& a, const DTensor& b) { return copy_(a, minimum(a, b)); });
}
void foreach_minimum_(TensorList self, const Scalar& scalar) {
  for (const DTensor& t : self) clamp_(t, ClampOptions{.min = {}, .max = scalar});
}
std::vector<DTensor> foreach_clamp_min(TensorList self, TensorList other) {
  return each_of_two("foreach_clamp_min", self, other, [](const DTensor& a, const DTensor& b) { return maximum(a, b); });
}
std::vector<DTensor> foreach_clamp_min(TensorList self, const Scalar& scalar) {
  return each(self, [&](std::size_t i) { return clamp(self[i], ClampOptions{.min = scalar, .max = {}}); });
}
void foreach_clamp_min_(TensorList self, TensorList other) {
  each_of_two("foreach_clamp_min_", self, other, [](const DTensor& a, const DTensor& b) { return copy_(a, maximum(a, b)); });
}
void foreach_clamp_min_(TensorList self, const Scalar& scalar) {
  for (const DTensor& t : self) clamp_(t, ClampOptions{.min = scalar, .max = {}});
}
std::vector<DTensor> foreach_clamp_max(TensorList self, TensorList other) {
  return each_of_two("foreach_clamp_max", self, other, [](const DTensor& a, const DTensor& b) { return minimum(a, b); });
}
std::vector<DTensor> foreach_clamp_max(TensorList self, const Scalar& scalar) {
  return each(self, [&](std::size_t i) { return clamp(self[i], ClampOptions{.min = {}, .max = scalar}); });
}
void foreach_clamp_max_(TensorList self, TensorList other) {
  each_of_two("foreach_clamp_max_", self, other, [](const DTensor& a, const DTensor& b) { return copy_(a, minimum(a, b)); });
}
void foreach_clamp_max_(TensorList self, const Scalar& scalar) {
  for (const DTensor& t : self) clamp_(t, ClampOptions{.min = {}, .max = scalar});
}
std::vector<DTensor> foreach_addcmul(TensorList self, TensorList tensor1, TensorList tensor2, const Scalar& value) {
  return each_of_three("foreach_addcmul", self, tensor1, tensor2,
                       [&](const DTensor& x, const DTensor& a, const DTensor& b) { return addcmul(x, a, b, {.value = value}); });
}
std::vector<DTensor> foreach_addcmul(TensorList self, TensorList tensor1, TensorList tensor2, ScalarList scalars) {
  same_length("foreach_addcmul", self.size(), scalars.size());
  auto value = scalars.begin();
  return each_of_three("foreach_addcmul", self, tensor1, tensor2,
                       [&](const DTensor& x, const DTensor& a, const DTensor& b) { return addcmul(x, a, b, {.value = *value++}); });
}
void foreach_addcmul_(TensorList self, TensorList tensor1, TensorList tensor2, const Scalar& value) {
  each_of_three("foreach_addcmul_", self, tensor1, tensor2,
                [&](const DTensor& x, const DTensor& a, const DTensor& b) { return addcmul_(x, a, b, {.value = value}); });
}
void foreach_addcmul_(TensorList self, TensorList tensor1, TensorList tensor2, ScalarList scalars) {
  same_length("foreach_addcmul_", self.size(), scalars.size());
  auto value = scalars.begin();
  each_of_three("foreach_addcmul_", self, tensor1, tensor2,
                [&](const DTensor& x, const DTensor& a, const DTensor& b) { return addcmul_(x, a, b, {.value = *value++}); });
}
std::vector<DTensor> foreach_addcdiv(TensorList self, TensorList tensor1, TensorList tensor2, const Scalar& value) {
  return each_of_three("foreach_addcdiv", self, tensor1, tensor2,
                       [&](const DTensor& x, const DTensor& a, const DTensor& b) { return addcdiv(x, a, b, {.value = value}); });
}
std::vector<DTensor> foreach_addcdiv(TensorList self, TensorList tensor1, TensorList tensor2, ScalarList scalars) {
  same_length("foreach_addcdiv", self.size(), scalars.size());
  auto value = scalars.begin();
  return each_of_three("foreach_addcdiv", self, tensor1, tensor2,
                       [&](const DTensor& x, const DTensor& a, const DTensor& b) { return addcdiv(x, a, b, {.value = *value++}); });
}
void foreach_addcdiv_(TensorList self, TensorList tensor1, TensorList tensor2, const Scalar& value) {
  each_of_three("foreach_addcdiv_", self, tensor1, tensor2,
                [&](const DTensor& x, const DTensor& a, const DTensor& b) { return addcdiv_(x, a, b, {.value = value}); });
}
void foreach_addcdiv_(TensorList self, TensorList tensor1, TensorList tensor2, ScalarList scalars) {
  same_length("foreach_addcdiv_", self.size(), scalars.size());
  auto value = scalars.begin();
  each_of_three("foreach_addcdiv_", self, tensor1, tensor2,
                [&](const DTensor& x, const DTensor& a, const DTensor& b) { return addcdiv_(x, a, b, {.value = *value++}); });
}
std::vector<DTensor> foreach_lerp(TensorList self, TensorList end, const Scalar& weight) {
  return each_of_two("foreach_lerp", self, end, [&](const DTensor& a, const DTensor& b) { return lerp(a, b, weight); });
}
std::vector<DTensor> foreach_lerp(TensorList self, TensorList end, TensorList weights) {
  return each_of_three("foreach_lerp", self, end, weights, [](const DTensor& a, const DTensor& b, const DTensor& w) { return lerp(a, b, w); });
}
void foreach_lerp_(TensorList self, TensorList end, const Scalar& weight) {
  each_of_two("foreach_lerp_", self, end, [&](const DTensor& a, const DTensor& b) { return lerp_(a, b, weight); });
}
void foreach_zero_(TensorList self) {
  for (const DTensor& t : self) zero_(t);
}
void foreach_copy_(TensorList self, TensorList source) {
  each_of_two("foreach_copy_", self, source, [](const DTensor& a, const DTensor& b) { return copy_(a, b); });
}

std::vector<DTensor> foreach_norm(TensorList self, double ord) {
  const bool recorded =
      tensor::call_state().grad_enabled && std::any_of(self.begin(), self.end(), [](const DTensor& t) { return t.requires_grad(); });
  if (ord != 2 || recorded) return each(self, [&](std::size_t i) { return vector_norm(self[i], {.ord = ord, .keepdim = false, .dtype = {}}); });
  const List squares = each(self, [&](std::size_t i) { return ops::square_sum(self[i], ops::computation_dtype(self[i].dtype())); });
  std::vector<Placements> whole;
  for (const DTensor& s : squares) {
    std::vector<AxisPlacement> kept;
    for (const AxisPlacement& e : s.placements().entries())
      if (!e.placement.is_partial()) kept.push_back(e);
    whole.emplace_back(std::move(kept));
  }
  const tensor::Inserted inserted("foreach_norm");
  const List sums = redistribute_all(squares, whole);
  return each(self, [&](std::size_t i) { return ops::in_dtype(sqrt(sums[i]), self[i].dtype()); });
}
std::vector<DTensor> foreach_max(TensorList self) {
  return each(self, [&](std::size_t i) { return max(self[i]); });
}

}  // namespace dtensor
