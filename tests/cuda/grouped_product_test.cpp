// SPDX-License-Identifier: Apache-2.0
#include "local/kernels/grouped_product.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <vector>

#include "dtensor/error.h"
#include "emulator.h"

using namespace dtensor;
using namespace dtensor::local;

namespace {

const Device kDevice = Device::cuda(0);

// Small integers: every sum is exact in f32, and rounds once.
Tensor numbers(const Shape& shape, Dtype dtype, int seed) {
  const Tensor t = Tensor::empty(shape, Dtype::f64);
  for (std::int64_t i = 0; i < t.numel(); ++i) t.raw_as<double>()[i] = static_cast<double>((i * 7 + i / 5 * 3 + seed) % 7) - 3;
  return t.to(dtype);
}
Tensor ends_tensor(const std::vector<std::int64_t>& ends, Dtype dtype) {
  return Tensor::of(ends, Shape{static_cast<std::int64_t>(ends.size())}).to(dtype);
}

void same(const Tensor& device, const Tensor& host) {
  const Tensor a = device.to(Device::cpu()).to(Dtype::f64), b = host.to(Dtype::f64);
  for (std::int64_t i = 0; i < a.numel(); ++i) REQUIRE(a.raw_as<double>()[i] == b.raw_as<double>()[i]);
}

void compare(Dtype dtype, std::int64_t rows, std::int64_t k, std::int64_t n, const std::vector<std::int64_t>& ends, Dtype index = Dtype::i64) {
  CAPTURE(to_string(dtype));
  CAPTURE(rows);
  CAPTURE(k);
  CAPTURE(n);
  const auto groups = static_cast<std::int64_t>(ends.size());
  const Tensor x = numbers({rows, k}, dtype, 1), g = numbers({rows, n}, dtype, 2), w = numbers({groups, k, n}, dtype, 3),
               v = numbers({groups, n, k}, dtype, 4);
  const auto run = [&](Device device, Tensor(&out)[3]) {
    out[0] = Tensor::empty({rows, n}, dtype, device);
    out[1] = Tensor::empty({rows, n}, dtype, device);
    out[2] = Tensor::empty({groups, k, n}, dtype, device);
    const cpu::Groups of{.ends = ends_tensor(ends, index).to(device), .op = "test"};
    kernels::grouped_product(x.to(device), w.to(device), false, of, out[0]);
    kernels::grouped_product(x.to(device), v.to(device), true, of, out[1]);
    kernels::grouped_outer(x.to(device), g.to(device), of, out[2]);
  };
  Tensor host[3], device[3];
  run(Device::cpu(), host);
  run(kDevice, device);
  for (int i = 0; i < 3; ++i) same(device[i], host[i]);
}

}  // namespace

TEST_CASE("products of groups of rows are those of the CPU: empty groups, rows behind the last, tiles that are not full") {
  for (Dtype dtype : {Dtype::f32, Dtype::f64}) {
    compare(dtype, 150, 17, 70, {3, 3, 80, 149});
    compare(dtype, 5, 1, 1, {5}, Dtype::i32);
    compare(dtype, 4, 0, 3, {2, 4});
    compare(dtype, 0, 3, 2, {0, 0});
    compare(dtype, 9, 4, 5, {0});
    compare(dtype, 3, 4, 5, {});
  }
  for (Dtype dtype : {Dtype::bf16, Dtype::f16}) {
    compare(dtype, 300, 40, 136, {5, 5, 140, 290});  // 16-byte copies
    compare(dtype, 33, 65, 131, {20, 31});           // none
    compare(dtype, 5, 1, 1, {5}, Dtype::i32);
    compare(dtype, 4, 0, 3, {2, 4});
    compare(dtype, 0, 3, 2, {0, 0});
  }
}

TEST_CASE("more groups than a warp has threads are found") {
  std::vector<std::int64_t> ends;
  for (std::int64_t e = 0; e < 75; ++e) ends.push_back((e * e) / 60);
  compare(Dtype::f32, 100, 3, 2, ends);
}

TEST_CASE("the host reads no end, and hears of a wrong one at the next call") {
  const Tensor x = numbers({6, 2}, Dtype::f32, 1).to(kDevice), w = numbers({3, 2, 2}, Dtype::f32, 2).to(kDevice),
               out = Tensor::empty({6, 2}, Dtype::f32, kDevice);
  for (const std::vector<std::int64_t>& wrong : {std::vector<std::int64_t>{2, 1, 6}, {0, 9, 9}, {-1, 0, 0}}) {
    const cpu::Groups of{.ends = ends_tensor(wrong, Dtype::i64).to(kDevice), .op = "grouped_mm"};
    cuda::emulated::taken_entries();
    kernels::grouped_product(x, w, false, of, out);
    for (const auto& e : cuda::emulated::taken_entries()) CHECK(e.what.find("host") == std::string::npos);
    CHECK_THROWS_WITH_AS(out.to(Device::cpu()), doctest::Contains("grouped_mm: offs has "), Error);
  }
  CHECK_THROWS_WITH_AS(kernels::grouped_product(numbers({6, 2}, Dtype::f32, 1), numbers({3, 2, 2}, Dtype::f32, 2), false,
                                                {.ends = ends_tensor({2, 1, 6}, Dtype::i64), .op = "grouped_mm"}, Tensor::empty({6, 2}, Dtype::f32)),
                       "grouped_mm: offs has 1 out of turn; they rise from 0, to at most 6", Error);
}
