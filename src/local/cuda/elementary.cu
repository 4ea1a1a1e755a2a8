// SPDX-License-Identifier: Apache-2.0
#include "local/formulas/elementary.h"

#include "local/cpu/map.h"
#include "local/cuda/map.h"
#include "local/cuda/table.h"
#include "local/kernels/activations.h"

namespace dtensor::local::cuda {
namespace {

using namespace formulas;

// In the order of the enumerators.
constexpr Runner kElementary[] = {floating<Asin, 1>,    floating<Acos, 1>,      floating<Atan, 1>,  floating<Sinh, 1>,    floating<Cosh, 1>,
                                  floating<Asinh, 1>,   floating<Acosh, 1>,     floating<Atanh, 1>, floating<Erfc, 1>,    floating<Erfinv, 1>,
                                  floating<Exp2, 1>,    floating<Log10, 1>,     floating<Frac, 1>,  floating<Sinc, 1>,    floating<Lgamma, 1>,
                                  floating<Digamma, 1>, floating<Polygamma, 1>, floating<Logit, 1>, floating<NanToNum, 1>};
constexpr Runner kPairs[] = {floating<Xlogy, 2>,    floating<Logaddexp, 2>, floating<Logaddexp2, 2>, floating<Hypot, 2>,
                             floating<Copysign, 2>, number<Fmax, 2>,        number<Fmin, 2>,         number<Heaviside, 2>,
                             integer<LeftShift, 2>, integer<RightShift, 2>, integer<Gcd, 2>,         integer<Lcm, 2>};

void elementary(cpu::Elementary op, const Tensor& x, const Tensor& out, const Scalar* numbers) {
  const MapArgument inputs[] = {x};
  kElementary[static_cast<int>(op)]("elementary", cpu::compute_type(out.dtype()), out, inputs, numbers);
}
void pair(cpu::Pair op, const cpu::Value& a, const cpu::Value& b, const Tensor& out) {
  const MapArgument inputs[] = {a, b};
  kPairs[static_cast<int>(op)]("pair", cpu::compute_type(out.dtype()), out, inputs, nullptr);
}

}  // namespace

void install_elementary() {
  kernels::elementary.cuda = elementary;
  kernels::pair.cuda = pair;
}

}  // namespace dtensor::local::cuda
