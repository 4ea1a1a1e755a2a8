// SPDX-License-Identifier: Apache-2.0
// Elementary functions in kernels, for local/formulas.
#pragma once

#include <cmath>

#include "local/device_code.h"

namespace dtensor::local::cuda {

struct DeviceMath {
  // clang-format off
  template <class T> DTENSOR_DEVICE static T exp(T x) { return std::exp(x); }
  template <class T> DTENSOR_DEVICE static T exp_negative(T x) { return std::exp(x); }
  template <class T> DTENSOR_DEVICE static T log(T x) { return std::log(x); }
  template <class T> DTENSOR_DEVICE static T log1p(T x) { return std::log1p(x); }
  template <class T> DTENSOR_DEVICE static T tanh(T x) { return std::tanh(x); }
  template <class T> DTENSOR_DEVICE static T sigmoid(T x) { return T(1) / (T(1) + std::exp(-x)); }
  template <class T> DTENSOR_DEVICE static T erf(T x) { return std::erf(x); }
  template <class T> DTENSOR_DEVICE static T normal(T x) { return T(0.5) * std::erfc(x * T(-0.70710678118654752440)); }
  // clang-format on
};

}  // namespace dtensor::local::cuda
