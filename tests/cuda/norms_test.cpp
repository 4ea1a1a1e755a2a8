// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include "compared.h"
#include "local/kernels/norms.h"
#include "under_test.h"

using namespace dtensor;
using namespace compared;
namespace kernels = local::kernels;

namespace {

struct Case {
  std::int64_t rows, n;
};
// Several rows per block, one, several warps per row, and rows too long for registers; rows of more than one round of blocks.
const Case kCases[] = {{0, 4},    {1, 1},    {5, 7},    {40, 31},  {3, 32},    {70, 33},   {9, 64}, {2, 255},
                       {3, 1000}, {6, 2048}, {2, 4100}, {3, 8200}, {2, 16392}, {2100, 24}, {601, 5}};

Dtype computed(Dtype dtype) { return dtype == Dtype::f64 ? Dtype::f64 : Dtype::f32; }
const Tensor* given(const Tensor& t) { return t ? &t : nullptr; }

struct Operands {
  Tensor x, g, w, b;
  Operands on_device(std::int64_t offset) const { return {there(x, offset), there(g, offset), w ? there(w, offset) : w, b ? there(b, offset) : b}; }
};
// y, mean, rstd, gradients of x, w, b; b only of layer norm.
std::vector<Tensor> results(const Operands& o, std::int64_t n, bool rms, Dtype of_weight) {
  const Device device = o.x.device();
  const Dtype dtype = o.x.dtype(), wide = computed(dtype);
  const Tensor y = Tensor::empty(o.x.shape(), dtype, device), dx = Tensor::empty(o.x.shape(), dtype, device);
  const Tensor mean = Tensor::empty({o.x.shape()[0]}, wide, device), rstd = Tensor::empty({o.x.shape()[0]}, wide, device);
  const Tensor dw = Tensor::empty({n}, of_weight, device), db = Tensor::empty({n}, of_weight, device);
  if (rms) {
    kernels::rms_norm(o.x, n, given(o.w), 1e-5, y, rstd);
    kernels::rms_norm_backward(o.g, o.x, n, given(o.w), rstd, dx, dw);
    return {y, rstd, dx, dw};
  }
  kernels::layer_norm(o.x, n, given(o.w), given(o.b), 1e-5, y, mean, rstd);
  kernels::layer_norm_backward(o.g, o.x, n, given(o.w), mean, rstd, dx, dw, db);
  return {y, mean, rstd, dx, dw, db};
}

void compare(const Case& c, Dtype dtype, Dtype weights, bool with_weights, bool rms) {
  const Shape shape{c.rows, c.n};
  Operands o{random(shape, dtype, 1, -1, 3), random(shape, dtype, 2), {}, {}};
  if (with_weights) o.w = random({c.n}, weights, 3), o.b = random({c.n}, weights, 4);
  const std::vector<Tensor> cpu = results(o, c.n, rms, weights);
  // Two sums of many roundings each, and where there is one element its deviation is rounding alone.
  const double limit = dtype == Dtype::f64 ? 1e-9 : dtype == Dtype::f32 ? 2e-4 : c.n == 1 ? 0.1 : 0.02;
  for (std::int64_t offset : {0, 1}) {
    const std::vector<Tensor> device = results(o.on_device(offset), c.n, rms, weights);
    for (std::size_t i = 0; i < cpu.size(); ++i)
      check_close(device[i], cpu[i], std::string(rms ? "rms " : "layer ") + to_string(dtype) + to_string(shape) + " result " + std::to_string(i),
                  std::max(limit, tolerance(cpu[i].dtype())));
  }
}

}  // namespace

TEST_CASE("layer norm, RMS norm and their gradients give the CPU's numbers for every length, dtype and alignment") {
  for (Dtype dtype : kFloating)
    for (const Case& c : kCases)
      for (bool rms : {false, true}) compare(c, dtype, dtype, true, rms);
}

TEST_CASE("absent weights count as 1 and weights may have another dtype than the elements") {
  for (bool rms : {false, true})
    for (const Case& c : {Case{5, 40}, Case{3, 1001}, Case{2, 17000}}) {
      compare(c, Dtype::f32, Dtype::f32, false, rms);
      compare(c, Dtype::bf16, Dtype::f32, true, rms);
      compare(c, Dtype::bf16, Dtype::f16, true, rms);
      compare(c, Dtype::f32, Dtype::bf16, true, rms);
    }
}

TEST_CASE("a forward is one launch and a backward one besides the sums of its parts") {
  const Operands o = Operands{random({64, 512}, Dtype::bf16, 1), random({64, 512}, Dtype::bf16, 2), random({512}, Dtype::f32, 3), {}}.on_device(0);
  const Tensor y = Tensor::empty({64, 512}, Dtype::bf16, kGpu), rstd = Tensor::empty({64}, Dtype::f32, kGpu),
               dw = Tensor::empty({512}, Dtype::f32, kGpu);
  test::queued();
  kernels::rms_norm(o.x, 512, &o.w, 1e-5, y, rstd);
  CHECK_TOLD(test::queued().size() == 1);
  kernels::rms_norm_backward(o.g, o.x, 512, &o.w, rstd, y, dw);
  CHECK_TOLD(test::queued().size() == 2);
}
