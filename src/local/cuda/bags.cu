// SPDX-License-Identifier: Apache-2.0
#include "local/cpu/embedding.h"
#include "local/cuda/launch.h"
#include "local/cuda/numbers.h"
#include "local/cuda/pieces.h"
#include "local/cuda/rank_device.h"
#include "local/kernels/transformer.h"
#include "local/strided.h"

namespace dtensor::local::cuda {
namespace {

// N neighbours of a row, loaded at once.
template <class T, int N>
struct Neighbours {
  alignas(N * sizeof(T)) T of[N];
  DTENSOR_DEVICE explicit Neighbours(const T* from) { copy_piece<N * sizeof(T)>(of, from); }
};
template <class T>
constexpr int kWide = 16 / static_cast<int>(sizeof(T));

// f(an integral_constant): how many elements of rows of `width` are loaded at once.
template <class T, class F>
void with_neighbours(std::int64_t width, std::initializer_list<const void*> tables, const F& f) {
  bool wide = width % kWide<T> == 0;
  for (const void* t : tables) wide = wide && reinterpret_cast<std::uintptr_t>(t) % 16 == 0;
  wide ? f(std::integral_constant<int, kWide<T>>()) : f(std::integral_constant<int, 1>());
}

// A thread per N elements of a bag's sum.
template <class T, int N>
struct SumBags {
  using C = Accumulate<T>;
  const std::int64_t* at;
  std::int64_t size, width;  // of a bag, of a row
  const T *weight, *share;
  T* out;
  DTENSOR_DEVICE void operator()(std::int64_t i) const {
    std::int64_t bag = i;
    const std::int64_t column = cut_last(bag, width / N) * N;
    C sums[N] = {};
    for (std::int64_t k = bag * size; k < (bag + 1) * size; ++k) {
      const std::int64_t row = at[k];
      if (row == cpu::kElsewhere) continue;
      const C factor = share == nullptr ? C(1) : load(share[k]);
      const Neighbours<T, N> term(weight + row * width + column);
      for (int n = 0; n < N; ++n) sums[n] += factor * load(term.of[n]);
    }
    alignas(N * sizeof(T)) T result[N];
    for (int n = 0; n < N; ++n) result[n] = store<T>(sums[n]);
    copy_piece<N * sizeof(T)>(out + bag * width + column, result);
  }
};

// A warp per product of a bag's gradient and a row.
template <class T, int N>
struct BagDots {
  using C = Accumulate<T>;
  const std::int64_t* at;
  std::int64_t count, size, width;
  const T *grad, *weight;
  T* out;
  DTENSOR_DEVICE void operator()(const Block& block) const {
    const std::int64_t i = block.index * block.warps() + block.warp(), row = i < count ? at[i] : cpu::kElsewhere;
    C total = 0;
    if (row != cpu::kElsewhere) {
      const std::int64_t bag = quotient(i, size);
      for (std::int64_t x = block.lane() * N; x < width; x += kWarp * N) {
        const Neighbours<T, N> a(grad + bag * width + x), b(weight + row * width + x);
        for (int n = 0; n < N; ++n) total += load(a.of[n]) * load(b.of[n]);
      }
    }
    for (int mask = kWarp / 2; mask > 0; mask /= 2) total += block.from_lane_xor(total, mask);
    if (i < count && block.lane() == 0) out[i] = store<T>(total);
  }
};

void sum_bags(const Tensor& at, const Tensor& weight, const Tensor* share, const Tensor& out) {
  if (out.numel() == 0) return;
  const Stream stream = rank_device(out).current;
  const std::int64_t width = out.shape()[1];
  visit_floating(out.dtype(), [&]<class T>(std::type_identity<T>) {
    with_neighbours<T>(width, {weight.raw(), out.raw()}, [&]<int N>(std::integral_constant<int, N>) {
      launch_elements("sum bags", out.numel() / N, stream,
                      SumBags<T, N>{at.raw_as<const std::int64_t>(), at.shape()[1], width, weight.raw_as<const T>(),
                                    share == nullptr ? nullptr : share->raw_as<const T>(), out.raw_as<T>()});
    });
  });
}

void bag_dots(const Tensor& at, const Tensor& grad, const Tensor& weight, const Tensor& grad_share) {
  constexpr int kThreads = 256;
  const std::int64_t count = at.numel(), width = weight.shape()[1], blocks = (count + kThreads / kWarp - 1) / (kThreads / kWarp);
  const Stream stream = rank_device(grad_share).current;
  visit_floating(grad.dtype(), [&]<class T>(std::type_identity<T>) {
    with_neighbours<T>(width, {grad.raw(), weight.raw()}, [&]<int N>(std::integral_constant<int, N>) {
      launch_blocks("bag dots", blocks, kThreads, 0, stream,
                    BagDots<T, N>{at.raw_as<const std::int64_t>(), count, at.shape()[1], width, grad.raw_as<const T>(), weight.raw_as<const T>(),
                                  grad_share.raw_as<T>()});
    });
  });
}

}  // namespace

void install_bags() {
  kernels::sum_bags.cuda = sum_bags;
  kernels::bag_dots.cuda = bag_dots;
}

}  // namespace dtensor::local::cuda
