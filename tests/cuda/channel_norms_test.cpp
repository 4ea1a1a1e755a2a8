// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include "compared.h"
#include "local/kernels/channel_norms.h"
#include "under_test.h"

using namespace dtensor;
using namespace compared;
namespace cpu = local::cpu;
namespace kernels = local::kernels;

namespace {

// samples, channels, size, groups (0: a mean per channel)
const cpu::ChannelNorm kCases[] = {{0, 4, 3, 0}, {0, 4, 3, 2}, {5, 1, 1, 0},   {33, 7, 1, 0},   {5, 6, 4, 0},  {2, 3, 1001, 0}, {300, 40, 5, 0},
                                   {2, 6, 5, 3}, {3, 4, 1, 1}, {2, 8, 256, 4}, {40, 12, 33, 6}, {3, 6, 49, 6}, {2, 4, 0, 2},    {1, 2, 40000, 0}};

struct Operands {
  Tensor x, g, w, b;
};
Operands operands(const cpu::ChannelNorm& n, Dtype dtype, Dtype weights) {
  const Shape shape{n.samples, n.channels, n.size};
  return {random(shape, dtype, 1, -1, 3), random(shape, dtype, 2), random({n.channels}, weights, 3), random({n.channels}, weights, 4)};
}
std::string text(const cpu::ChannelNorm& n, Dtype dtype, std::size_t result) {
  return to_string(dtype) + to_string(Shape{n.samples, n.channels, n.size, n.groups}) + " result " + std::to_string(result);
}

std::vector<Tensor> results(const cpu::ChannelNorm& n, const Operands& o, bool with_weights) {
  const Dtype dtype = o.x.dtype(), wide = dtype == Dtype::f64 ? Dtype::f64 : Dtype::f32;
  const Device device = o.x.device();
  const auto like = [&] { return Tensor::empty(o.x.shape(), dtype, device); };
  const auto numbers = [&](std::int64_t count, Dtype of) { return Tensor::empty({count}, of, device); };
  const Tensor *w = with_weights ? &o.w : nullptr, *b = with_weights ? &o.b : nullptr;
  const Tensor y = like(), again = like(), dx = like(), frozen = like(), mean = numbers(n.statistics(), wide),
               variance = numbers(n.statistics(), wide);
  const Tensor dw = numbers(n.channels, o.w.dtype()), db = numbers(n.channels, o.w.dtype());
  kernels::channel_norm(n, o.x, w, b, y, mean, variance);
  kernels::channel_norm_apply(n, o.x, w, b, mean, variance, again);
  kernels::channel_norm_backward(n, o.g, o.x, w, mean, variance, false, dx, dw, db);
  kernels::channel_norm_backward(n, o.g, o.x, w, mean, variance, true, frozen, dw, db);
  std::vector<Tensor> all{y, again, dx, frozen, mean, variance, dw, db};
  if (n.groups > 0) return all;
  const Tensor sums = numbers(n.channels, Dtype::f64), squares = numbers(n.channels, Dtype::f64), products = numbers(n.channels, Dtype::f64),
               part = like();
  kernels::channel_sums(n, o.x, nullptr, sums);
  kernels::channel_sums(n, o.x, &mean, squares);
  all.insert(all.end(), {sums.clone(), squares});
  kernels::channel_norm_sums(n, o.g, o.x, mean, variance, sums, products);
  kernels::channel_norm_input_gradient(n, o.g, o.x, w, mean, variance, sums, products, 77, part);
  all.insert(all.end(), {sums, products, part});
  return all;
}

}  // namespace

TEST_CASE("norms over groups and channels, their gradients and their parts give the CPU's numbers") {
  for (Dtype dtype : kFloating)
    for (const cpu::ChannelNorm& n : kCases)
      for (bool with_weights : {true, false}) {
        const Operands o = operands(n, dtype, dtype == Dtype::bf16 ? Dtype::f32 : dtype);
        const std::vector<Tensor> on_host = results(n, o, with_weights);
        for (std::int64_t offset : {0, 1}) {
          const std::vector<Tensor> device = results(n, {there(o.x, offset), there(o.g, offset), there(o.w), there(o.b)}, with_weights);
          for (std::size_t i = 0; i < on_host.size(); ++i)
            check_close(device[i], on_host[i], text(n, dtype, i), dtype == Dtype::f64 ? 1e-9 : dtype == Dtype::f32 ? 2e-4 : 0.03);
        }
      }
}

TEST_CASE("running statistics are averages of any two dtypes") {
  const Tensor batch = random({5}, Dtype::f32, 1), was = random({5}, Dtype::bf16, 2), a = Tensor::empty({5}, Dtype::bf16),
               b = Tensor::empty({5}, Dtype::bf16, kGpu);
  const Tensor before = there(was);
  kernels::running_average(batch, &was, 0.1, 1.25, a);
  kernels::running_average(there(batch), &before, 0.1, 1.25, b);
  CHECK(numbers(a) == numbers(b));
  kernels::running_average(batch, nullptr, 0.1, 1.25, a);
  kernels::running_average(there(batch), nullptr, 0.1, 1.25, b);
  CHECK(numbers(a) == numbers(b));
}

TEST_CASE("over channels a forward and a backward are a reduction and one look at every element each") {
  const cpu::ChannelNorm n{16, 8, 9, 0};
  const Operands o = operands(n, Dtype::bf16, Dtype::f32);
  const Tensor x = there(o.x), g = there(o.g), w = there(o.w), y = Tensor::empty(x.shape(), Dtype::bf16, kGpu),
               dx = Tensor::empty(x.shape(), Dtype::bf16, kGpu);
  const auto numbers = [] { return Tensor::empty({8}, Dtype::f32, kGpu); };
  const Tensor mean = numbers(), variance = numbers(), dw = numbers(), db = numbers();
  test::queued();
  kernels::channel_norm(n, x, &w, &w, y, mean, variance);
  CHECK_TOLD(test::queued().size() == 2);
  kernels::channel_norm_backward(n, g, x, &w, mean, variance, false, dx, dw, db);
  CHECK_TOLD(test::queued().size() == 2);
}
