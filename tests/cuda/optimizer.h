// SPDX-License-Identifier: Apache-2.0
// What tests of optimisers share: how many launches a call made, the CPU's numbers, parameters of a model.
#pragma once

#include <cstring>
#include <string>
#include <vector>

#include "beside_cpu.h"
#include "dtensor/dtensor.h"

namespace dtensor::test {

/// What a call asked of the driver: launches of steps, of the numbers of steps, of anything else, and waits of the host. Nothing on a real device.
struct Asked {
  int steps = 0, numbers = 0, others = 0, waits = 0;
};
template <class F>
Asked asked(const F& f) {
  Asked a;
#if defined(DTENSOR_REAL_DEVICE)
  f();
#else
  static_cast<void>(local::cuda::emulated::taken_entries());
  f();
  for (const auto& e : local::cuda::emulated::taken_entries()) {
    const bool launch = e.what.starts_with("launch ");
    if (launch && e.what.ends_with("_step")) ++a.steps;
    else if (launch && e.what.ends_with("_numbers") && e.what != "launch sum_numbers") ++a.numbers;
    else if (e.what.find("waits") != std::string::npos) ++a.waits;
    else ++a.others;
  }
#endif
  return a;
}
/// Whether asked() counts, on a device that computes with the host's arithmetic.
#if defined(DTENSOR_REAL_DEVICE)
inline constexpr bool kRecorded = false;
#else
inline constexpr bool kRecorded = true;
#endif

/// On an emulated device the very numbers of the CPU; a real one fuses products and sums.
inline bool same(const Tensor& there, const Tensor& here) {
  if (!kRecorded) return worst(there, here) <= 4 * tolerance(here.dtype());
  const std::vector<double> a = doubles(there), b = doubles(here);
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(double)) == 0);
}

/// A number as steps read it on a device.
inline Tensor number(double value, Dtype dtype = Dtype::f64) { return Tensor::of(std::vector<double>{value}, {}).to(dtype); }
inline double value_of(const Tensor& t) { return doubles(t).at(0); }

/// Parameters of a model: matrices and vectors, some smaller than the mesh.
inline std::vector<nn::NamedParameter> parameters_on(const DeviceMesh& mesh, const Placements& placements, Dtype dtype) {
  std::vector<nn::NamedParameter> list;
  for (std::uint32_t i = 0; i < 12; ++i) {
    const Shape shape = i % 3 == 0 ? Shape{1 + i % 7, 5} : i % 3 == 1 ? Shape{i % 5} : Shape{16, 8};
    nn::Parameter p(shape, mesh, {}, dtype);
    p.place(placements);
    p.set(distribute(random_tensor(shape, dtype, i), mesh, placements, {.source = Source::every_rank}));
    list.push_back({"p" + std::to_string(i), p});
  }
  return list;
}

}  // namespace dtensor::test
