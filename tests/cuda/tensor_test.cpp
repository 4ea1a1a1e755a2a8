// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "dtensor/error.h"
#include "dtensor/tensor.h"
#include "under_test.h"

using namespace dtensor;

namespace {

using test::kGpu;

Tensor numbers(const Shape& shape, Dtype dtype) {
  const Tensor t = Tensor::empty(shape, Dtype::f64);
  std::int64_t i = 0;
  for (double& v : t.values<double>()) v = static_cast<double>(i++ % 251) - 100.25;
  return t.to(dtype);
}

bool equal(const Tensor& a, const Tensor& b) { return to_string(a) == to_string(b) && a.dtype() == b.dtype(); }

}  // namespace

TEST_CASE("copies to a device and back keep every bit, whatever the strides") {
  for (int d = 0; d < kDtypeCount; ++d)
    for (const Shape& shape : {Shape{}, Shape{0}, Shape{1}, Shape{7}, Shape{5, 3}, Shape{2, 3, 4}}) {
      const Tensor x = numbers(shape, static_cast<Dtype>(d)), there = x.to(kGpu);
      CHECK(there.device() == kGpu);
      CHECK(equal(there.to(Device::cpu()), x));
      if (shape.ndim() < 2) continue;
      CHECK(equal(x.transpose(0, 1).to(kGpu).to(Device::cpu()), x.transpose(0, 1).contiguous()));
      CHECK(equal(there.transpose(0, 1).to(Device::cpu()), x.transpose(0, 1).contiguous()));
      CHECK(equal(there.narrow(1, 1, 2).clone().to(Device::cpu()), x.narrow(1, 1, 2).clone()));
    }
}

TEST_CASE("conversion between every two dtypes on a device gives the CPU's numbers") {
  for (int from = 0; from < kDtypeCount; ++from)
    for (int to = 0; to < kDtypeCount; ++to) {
      const Tensor x = numbers({3, 50}, static_cast<Dtype>(from));
      CHECK(equal(x.to(kGpu).transpose(0, 1).to(static_cast<Dtype>(to)).to(Device::cpu()), x.transpose(0, 1).to(static_cast<Dtype>(to))));
    }
}

TEST_CASE("fill, copy and zeros write the box and nothing else") {
  const Tensor x = Tensor::zeros({4, 5}, Dtype::i32, kGpu), y = Tensor::zeros({4, 5}, Dtype::i32);
  for (const Tensor& t : {x, y}) {
    t.narrow(1, 1, 3).narrow(0, 1, 2).fill_(7);
    t.narrow(0, 3, 1).copy_(numbers({1, 5}, Dtype::f32));
  }
  CHECK(equal(x.to(Device::cpu()), y));
}

TEST_CASE("a shared copy is detached by the first write on either side") {
  const Tensor x = numbers({6}, Dtype::f32).to(kGpu), y = x.shared_copy();
  y.fill_(1);
  CHECK(equal(x.to(Device::cpu()), numbers({6}, Dtype::f32)));
  x.fill_(2);
  CHECK(to_string(y) == "f32[6] [1, 1, 1, 1, 1, 1] on cuda:0");
}

TEST_CASE("each device has figures and a cap of its own") {
  const std::int64_t cpu = memory_stats().current, before = memory_stats(kGpu).current;
  const Tensor x = Tensor::zeros({1000}, Dtype::f32, kGpu);
  CHECK(memory_stats(kGpu).current == before + 4000);
  CHECK(memory_stats().current == cpu);
  reset_peak_memory(kGpu);
  CHECK(memory_stats(kGpu).peak == before + 4000);
  set_memory_cap(before + 5000, kGpu);
  CHECK_THROWS_AS(Tensor::zeros({1000}, Dtype::f32, kGpu), DeviceError);
  CHECK_NOTHROW(Tensor::zeros({1000}, Dtype::f32));
  set_memory_cap(0, kGpu);
  empty_cache(kGpu);
  CHECK(memory_stats(kGpu).cached == 0);
  CHECK(memory_stats(Device::meta()).current == 0);
}

TEST_CASE("what a device cannot do is an error in words") {
  const Tensor x = Tensor::zeros({2}, Dtype::f32, kGpu);
  CHECK_THROWS_WITH_AS(x.values<float>(), "values: the host cannot read memory of cuda:0 (f32[2]); copy it with to(Device::cpu()) first",
                       InvalidArgument);
  const std::string last = std::to_string(cuda_info().devices.size() - 1);
  CHECK_THROWS_WITH_AS(Tensor::empty({2}, Dtype::f32, Device::cuda(100)),
                       ("cuda: there is no cuda:100 (devices 0 to " + last + "); choose one of these").c_str(), DeviceError);
}
