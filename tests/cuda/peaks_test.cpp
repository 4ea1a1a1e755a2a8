// SPDX-License-Identifier: Apache-2.0
// What forward and backward passes need of a device's memory: attention holds no matrix of scores, the loss of linear classes no matrix of logits.
#include <doctest/doctest.h>

#include <cstdint>

#include "compared.h"
#include "dtensor/dtensor.h"
#include "under_test.h"

using namespace dtensor;
using compared::kGpu;

namespace {

DTensor leaf(const Shape& shape, Dtype dtype, const DeviceMesh& mesh) {
  return from_local(compared::there(compared::random(shape, dtype, 1)), mesh, {}).set_requires_grad();
}
// The most that a call takes above what was there.
template <class F>
std::int64_t peak_of(const F& call) {
  Stream::current(kGpu).synchronize();
  reset_peak_memory(kGpu);
  const std::int64_t before = memory_stats(kGpu).current;
  call();
  Stream::current(kGpu).synchronize();
  return memory_stats(kGpu).peak - before;
}
std::int64_t attention_peak(std::int64_t length, Dtype dtype, const DeviceMesh& mesh) {
  const DTensor q = leaf({1, 1, length, 8}, dtype, mesh), k = leaf({1, 1, length, 8}, dtype, mesh), v = leaf({1, 1, length, 8}, dtype, mesh);
  return peak_of([&] {
    const DTensor y = scaled_dot_product_attention(q, k, v, {.is_causal = true});
    y.backward(ones_like(y));
  });
}

}  // namespace

TEST_CASE("attention and its gradients take memory that grows as the length does, far below a matrix of scores") {
  run_ranks({.ranks = 1, .device = kGpu}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"x", 1}});
    for (const Dtype dtype : {Dtype::bf16, Dtype::f32}) {
      constexpr std::int64_t kShort = 384, kLong = 1536;
      const std::int64_t few = attention_peak(kShort, dtype, mesh), many = attention_peak(kLong, dtype, mesh);
      CAPTURE(to_string(dtype));
      CAPTURE(few);
      CAPTURE(many);
      CHECK(few >= 4 * kShort * 8 * info(dtype).bytes);  // the result and three gradients
      CHECK(many <= 5 * few);                            // 16 times where a matrix of scores is held
      CHECK(many <= 400 * kLong);                        // that matrix has 2 * 1536 bytes or more per query
    }
  });
}

TEST_CASE("the loss of linear classes and its gradients hold the logits of some rows at a time") {
  run_ranks({.ranks = 1, .device = kGpu}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"x", 1}});
    constexpr std::int64_t kRows = 32768, kClasses = 64, kWidth = 2;
    const DTensor x = leaf({kRows, kWidth}, Dtype::f32, mesh), w = leaf({kClasses, kWidth}, Dtype::f32, mesh);
    const Tensor none = Tensor::zeros({kRows}, Dtype::i64, kGpu);
    const DTensor target = from_local(none, mesh, {});
    const std::int64_t peak = peak_of([&] { linear_cross_entropy(x, w, target).backward(); });
    CAPTURE(peak);
    CHECK(peak >= x.local().bytes());
    CHECK(peak <= kRows * kClasses * 4 / 2);  // half of the logits
  });
}
