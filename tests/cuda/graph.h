// SPDX-License-Identifier: Apache-2.0
// What tests of graphs share: a program on one rank of a device, the bits of tensors, the text of an error.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "beside_cpu.h"
#include "dtensor/dtensor.h"

namespace dtensor::test {

/// Runs body(mesh) on one rank of the device; nothing where there is none.
template <class F>
void on_one_rank(F&& body) {
  if (no_device()) return;
  run_ranks({.ranks = 1, .device = kGpu}, [&](World& world) {
    manual_seed(7);
    body(world.mesh({{"x", 1}}));
  });
}

inline std::vector<std::byte> bytes_of(const Tensor& t) {
  const Tensor here = t.contiguous().to(Device::cpu());
  const auto* data = static_cast<const std::byte*>(here.read());
  return {data, data + here.bytes()};
}
inline std::vector<std::byte> bytes_of(const DTensor& t) { return bytes_of(t.local()); }

/// What the error that `f` throws says; empty where it throws none.
template <class F>
std::string error_of(F&& f) {
  try {
    f();
  } catch (const Error& e) { return e.what(); }
  return "";
}

}  // namespace dtensor::test
