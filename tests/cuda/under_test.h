// SPDX-License-Identifier: Apache-2.0
// The device that a test runs on: an emulated one, or, in the programs of tests/gpu (DTENSOR_REAL_DEVICE), a real one. What both have is tested on both;
// what only an emulated device tells is left out on a real one, with words.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "dtensor/cuda.h"
#include "dtensor/tensor.h"
#include "dtensor/values.h"
#include "emulator.h"

namespace dtensor::test {

#if defined(DTENSOR_REAL_DEVICE)
inline constexpr bool kEmulated = false;
#else
inline constexpr bool kEmulated = true;
#endif

/// Whether the device tells what was queued on it, and runs that as late as the rules allow.
inline bool tells() {
  static const bool said = [] {
    if (!kEmulated) MESSAGE("left out on a real device: what was queued, and when it ran");
    return true;
  }();
  return said && kEmulated;
}
/// What the calling thread has queued since the last call; nothing is known of a real device.
inline std::vector<local::cuda::emulated::Entry> queued() { return local::cuda::emulated::taken_entries(); }
/// How many of them begin with `what`.
inline int queued(std::string_view what) {
  const auto list = queued();
  return static_cast<int>(std::count_if(list.begin(), list.end(), [what](const auto& e) { return e.what.starts_with(what); }));
}
/// Whether there are so many devices; says so where not.
inline bool has_devices(int count) {
  const int here = static_cast<int>(cuda_info().devices.size());
  if (here < count) MESSAGE("left out: " << count << " devices are needed, " << here << " here");
  return here >= count;
}

inline const Device kGpu = Device::cuda(0);
/// Of f32 on the device.
inline Tensor filled(double value, std::int64_t n = 1000) {
  const Tensor t = Tensor::empty({n}, Dtype::f32, kGpu);
  t.fill_(value);
  return t;
}
/// The last element, as the host gets it.
inline double last(const Tensor& t) {
  const Tensor here = t.to(Device::cpu());
  return here.values<const float>().back();
}

/// CHECK of what only an emulated device tells.
#define CHECK_TOLD(...)                               \
  do {                                                \
    if (::dtensor::test::tells()) CHECK(__VA_ARGS__); \
  } while (false)

}  // namespace dtensor::test
