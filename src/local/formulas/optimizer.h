// SPDX-License-Identifier: Apache-2.0
// The formulas of local/cpu/optimizer.h: F::of(parameter, gradient, state..., numbers), and the numbers of a step.
#pragma once

#include <array>
#include <cmath>
#include <cstddef>

#include "local/cpu/optimizer.h"
#include "local/device_code.h"

namespace dtensor::local::formulas {

// numbers: gradient sign, L2 decay, 1 - lr * decay, beta1, 1 - beta1, beta2, 1 - beta2, 1 / sqrt(1 - beta2^t), eps, lr / (1 - beta1^t)
struct Adam {
  static constexpr int numbers = 10;
  template <bool keeps_top, class T>
  DTENSOR_DEVICE static void of(T& p, T g, T& m, T& v, [[maybe_unused]] T& top, const T* k) {
    const T gradient = k[0] * g + k[1] * p;
    const T decayed = p * k[2];
    m = m + k[4] * (gradient - m);
    v = v * k[5] + k[6] * gradient * gradient;
    T spread = v;
    if constexpr (keeps_top) spread = top = (v > top) | (v != v) ? v : top;
    p = decayed - k[9] * (m / (std::sqrt(spread) * k[7] + k[8]));
  }
};

// numbers: gradient sign, decay, momentum, 1 - dampening, nesterov's share of the gradient, share of the buffer, lr
struct Sgd {
  static constexpr int numbers = 7;
  template <class T>
  DTENSOR_DEVICE static void of(T& p, T g, T& buffer, const T* k) {
    const T gradient = k[0] * g + k[1] * p;
    buffer = k[2] * buffer + k[3] * gradient;
    p = p - k[6] * (k[4] * gradient + k[5] * buffer);
  }
};

struct Descent {  // no buffer
  static constexpr int numbers = 3;
  template <class T>
  DTENSOR_DEVICE static T of(T p, T g, const T* k) {
    return p - k[2] * (k[0] * g + k[1] * p);
  }
};

template <class F>
using NumbersOf = std::array<Scalar, static_cast<std::size_t>(F::numbers)>;

inline NumbersOf<Adam> adam_numbers(const cpu::AdamStep& o) {
  const double correction1 = 1 - std::pow(o.beta1, o.step), correction2 = 1 - std::pow(o.beta2, o.step);
  return {o.maximize ? -1.0 : 1.0,
          o.decoupled ? 0.0 : o.weight_decay,
          o.decoupled ? 1 - o.lr * o.weight_decay : 1.0,
          o.beta1,
          1 - o.beta1,
          o.beta2,
          1 - o.beta2,
          1 / std::sqrt(correction2),
          o.eps,
          o.lr / correction1};
}
inline NumbersOf<Sgd> sgd_numbers(const cpu::SgdStep& o) {
  return {o.maximize ? -1.0 : 1.0,
          o.weight_decay,
          o.first ? 0.0 : o.momentum,
          o.first ? 1.0 : 1 - o.dampening,
          o.nesterov ? 1.0 : 0.0,
          o.nesterov ? o.momentum : 1.0,
          o.lr};
}
inline NumbersOf<Descent> descent_numbers(const cpu::SgdStep& o) { return {o.maximize ? -1.0 : 1.0, o.weight_decay, o.lr}; }

}  // namespace dtensor::local::formulas
