// SPDX-License-Identifier: Apache-2.0
// The normal distribution in f32.
#pragma once

#include "local/device_code.h"

namespace dtensor::local::formulas {

/// log of the distribution function at -t, 0 <= t <= 6: its exponential is within 1e-7. F::of(a, b, c) is a * b + c.
template <class F>
DTENSOR_DEVICE_INLINE float log_lower_tail(float t) noexcept {
  float p = -1.581996578e-8f;
  p = F::of(p, t, 4.906892741e-7f);
  p = F::of(p, t, -6.507889339e-6f);
  p = F::of(p, t, 4.681598512e-5f);
  p = F::of(p, t, -1.733974641e-4f);
  p = F::of(p, t, -4.025837552e-5f);
  p = F::of(p, t, 4.861078691e-3f);
  p = F::of(p, t, -3.637765720e-2f);
  p = F::of(p, t, -3.182995617e-1f);
  p = F::of(p, t, -7.978853583e-1f);
  return F::of(p, t, -0.693147181f);
}

}  // namespace dtensor::local::formulas
