// SPDX-License-Identifier: Apache-2.0
// The formulas of local/cpu/optimizer.h: F::of(parameter, gradient, state..., numbers), and F::derive, which makes the numbers of a step.
#pragma once

#include <cmath>

#include "local/cpu/optimizer.h"
#include "local/device_code.h"

namespace dtensor::local::formulas {

// numbers: gradient sign, L2 decay, 1 - lr * decay, beta1, 1 - beta1, beta2, 1 - beta2, 1 / sqrt(1 - beta2^t), eps, lr / (1 - beta1^t)
struct Adam {
  static constexpr int numbers = 10;
  DTENSOR_DEVICE static void derive(const cpu::AdamStep& o, double* k) {
    k[0] = o.maximize ? -1.0 : 1.0;
    k[1] = o.decoupled ? 0.0 : o.weight_decay;
    k[2] = o.decoupled ? 1 - o.lr * o.weight_decay : 1.0;
    k[3] = o.beta1;
    k[4] = 1 - o.beta1;
    k[5] = o.beta2;
    k[6] = 1 - o.beta2;
    k[7] = 1 / std::sqrt(1 - std::pow(o.beta2, o.step));
    k[8] = o.eps;
    k[9] = o.lr / (1 - std::pow(o.beta1, o.step));
  }
  template <bool keeps_top, class T>
  DTENSOR_DEVICE static void of(T& p, T g, T& m, T& v, [[maybe_unused]] T& top, const T* k) {
    const T gradient = k[0] * g + k[1] * p;
    const T decayed = p * k[2];
    m = m + k[4] * (gradient - m);
    v = v * k[5] + k[6] * gradient * gradient;
    T spread = v;
    if constexpr (keeps_top) spread = top = ((v > top) | (v != v)) ? v : top;
    p = decayed - k[9] * (m / (std::sqrt(spread) * k[7] + k[8]));
  }
};

// numbers: gradient sign, decay, momentum, 1 - dampening, nesterov's share of the gradient, share of the buffer, lr
struct Sgd {
  static constexpr int numbers = 7;
  DTENSOR_DEVICE static void derive(const cpu::SgdStep& o, double* k) {
    k[0] = o.maximize ? -1.0 : 1.0;
    k[1] = o.weight_decay;
    k[2] = o.first ? 0.0 : o.momentum;
    k[3] = o.first ? 1.0 : 1 - o.dampening;
    k[4] = o.nesterov ? 1.0 : 0.0;
    k[5] = o.nesterov ? o.momentum : 1.0;
    k[6] = o.lr;
  }
  template <class T>
  DTENSOR_DEVICE static void of(T& p, T g, T& buffer, const T* k) {
    const T gradient = k[0] * g + k[1] * p;
    buffer = k[2] * buffer + k[3] * gradient;
    p = p - k[6] * (k[4] * gradient + k[5] * buffer);
  }
};

struct Descent {  // no buffer
  static constexpr int numbers = 3;
  DTENSOR_DEVICE static void derive(const cpu::SgdStep& o, double* k) {
    k[0] = o.maximize ? -1.0 : 1.0;
    k[1] = o.weight_decay;
    k[2] = o.lr;
  }
  template <class T>
  DTENSOR_DEVICE static T of(T p, T g, const T* k) {
    return p - k[2] * (k[0] * g + k[1] * p);
  }
};

struct ScaleStep {
  double factor = 1;
  bool operator==(const ScaleStep&) const = default;
};
struct Scale {
  static constexpr int numbers = 1;
  DTENSOR_DEVICE static void derive(const ScaleStep& o, double* k) { k[0] = o.factor; }
  template <class T>
  DTENSOR_DEVICE static T of(T x, const T* k) {
    return x * k[0];
  }
};

/// What numbers on the device change: the rate or factor, and the count of steps, this one counted.
DTENSOR_DEVICE inline void set_rate(cpu::AdamStep& o, double lr) { o.lr = lr; }
DTENSOR_DEVICE inline void set_rate(cpu::SgdStep& o, double lr) { o.lr = lr; }
DTENSOR_DEVICE inline void set_rate(ScaleStep& o, double factor) { o.factor = factor; }
DTENSOR_DEVICE inline void set_step(cpu::AdamStep& o, double step) { o.step = step; }
DTENSOR_DEVICE inline void set_step(cpu::SgdStep& o, double step) { o.first = o.first || step == 1; }
DTENSOR_DEVICE inline void set_step(ScaleStep& /*o*/, double /*step*/) {}

}  // namespace dtensor::local::formulas
