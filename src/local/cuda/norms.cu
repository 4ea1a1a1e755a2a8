// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <type_traits>

#include "local/cuda/gradient_sums.h"
#include "local/cuda/moments.h"
#include "local/cuda/rows.h"
#include "local/cuda/table.h"
#include "local/kernels/norms.h"
#include "local/kernels/reduce.h"

namespace dtensor::local::cuda {
namespace {

// RMS norm is layer norm whose mean is 0: it has no `mean` and no bias.

// ---- rows in registers

template <class T>
struct NormRows {
  static constexpr int kMostThreads = kRowThreads, kV = kVectorOf<T>;
  using A = Accumulate<T>;
  const T* in;
  Parameter<T> weight, bias;
  T* out;
  A *mean, *rstd;
  HeldRows rows;
  A eps;
  bool aligned;
  DTENSOR_DEVICE void operator()(const Block& b) const {
    const int thread = b.thread % rows.group, n = static_cast<int>(rows.n);
    const std::int64_t row = b.index * rows.rows_per_block() + b.thread / rows.group;
    const bool here = row < rows.count;
    RowTile<T> tile;  // zeros beyond the row
    tile.read(in + (here ? row * rows.n : 0), here ? n : 0, rows.group, thread, aligned);
    A average = 0;
    if (mean != nullptr) {
      DTENSOR_UNROLL
      for (int k = 0; k < kRowVectors; ++k) DTENSOR_UNROLL
      for (int j = 0; j < kV; ++j) average += tile.get(k, j);
      average = sum_group(b, rows.group, average) / static_cast<A>(n);
    }
    A squares = 0;
    DTENSOR_UNROLL
    for (int k = 0; k < kRowVectors; ++k) {
      const int c = RowTile<T>::column(k, rows.group, thread);
      DTENSOR_UNROLL
      for (int j = 0; j < kV; ++j) {
        const A d = tile.get(k, j) - average;
        squares += c + j < n ? d * d : A(0);
      }
    }
    squares = sum_group(b, rows.group, squares);
    if (!here) return;
    const A scale = A(1) / std::sqrt(squares / static_cast<A>(n) + eps);
    if (thread == 0) {
      rstd[row] = scale;
      if (mean != nullptr) mean[row] = average;
    }
    DTENSOR_UNROLL
    for (int k = 0; k < kRowVectors; ++k) {
      const int c = RowTile<T>::column(k, rows.group, thread);
      if (c >= n) break;
      A w[kV], shift[kV];
      weight.read(c, n - c, aligned, A(1), w);
      bias.read(c, n - c, aligned, A(0), shift);
      Vector<T> v;
      DTENSOR_UNROLL
      for (int j = 0; j < kV; ++j) v.at[j] = store<T>((tile.get(k, j) - average) * scale * w[j] + shift[j]);
      store_vector(out + row * rows.n + c, v, n - c, aligned);
    }
  }
};

// The gradient of the input, and this block's part of those of weight and bias: a block takes every `blocks`-th row, and a thread the same columns of each.
template <class T, int kHeld>
struct NormBackwardRows {
  static constexpr int kMostThreads = kRowThreads, kV = kVectorOf<T>;
  using A = Accumulate<T>;
  using Sum = GradientSum<A>;
  const T *grad, *in;
  Parameter<T> weight;
  const A *mean, *rstd;
  T* out;
  A *of_weight, *of_bias;  // [blocks, n]
  HeldRows rows;
  bool aligned;
  DTENSOR_DEVICE void operator()(const Block& b) const {
    const int thread = b.thread % rows.group, slot = b.thread / rows.group, n = static_cast<int>(rows.n);
    A sum_w[kHeld][kV], sum_b[kHeld][kV];
    DTENSOR_UNROLL
    for (int k = 0; k < kHeld; ++k) DTENSOR_UNROLL
    for (int j = 0; j < kV; ++j) sum_w[k][j] = sum_b[k][j] = 0;
    for (std::int64_t first = b.index * rows.rows_per_block(); first < rows.count; first += b.blocks * rows.rows_per_block()) {
      const std::int64_t row = first + slot;
      const bool here = row < rows.count;
      one_row(b, here ? row : 0, here, thread, sum_w, sum_b);
    }
    put(b, sum_w, of_weight + b.index * n, thread, slot);
    if (of_bias != nullptr) put(b, sum_b, of_bias + b.index * n, thread, slot);
  }

 private:
  DTENSOR_DEVICE void one_row(const Block& b, std::int64_t row, bool here, int thread, A (&sum_w)[kHeld][kV], A (&sum_b)[kHeld][kV]) const {
    const int n = static_cast<int>(rows.n);
    RowTile<T, kHeld> x, g;  // zeros beyond the row, in g
    g.read(grad + row * n, here ? n : 0, rows.group, thread, aligned);
    x.read(in + row * n, here ? n : 0, rows.group, thread, aligned);
    const A average = mean != nullptr ? mean[row] : A(0), scale = rstd[row];
    Sum sum;
    DTENSOR_UNROLL
    for (int k = 0; k < kHeld; ++k) {
      const int c = RowTile<T, kHeld>::column(k, rows.group, thread);
      if (c >= n) break;
      A w[kV];
      weight.read(c, n - c, aligned, A(1), w);
      DTENSOR_UNROLL
      for (int j = 0; j < kV; ++j) {
        const A up = g.get(k, j), hat = here ? (x.get(k, j) - average) * scale : A(0);
        sum_w[k][j] += up * hat;
        sum_b[k][j] += up;
        sum.grad += up * w[j];
        sum.product += up * w[j] * hat;
      }
    }
    sum = reduce_group(
        b, rows.group, sum,
        [](const Sum& p, const Sum& q) {
          return Sum{p.grad + q.grad, p.product + q.product};
        },
        [](const Block& block, const Sum& s, int mask) {
          return Sum{block.from_lane_xor(s.grad, mask), block.from_lane_xor(s.product, mask)};
        });
    if (!here) return;
    const A shift = mean != nullptr ? sum.grad / static_cast<A>(n) : A(0), slope = sum.product / static_cast<A>(n);
    DTENSOR_UNROLL
    for (int k = 0; k < kHeld; ++k) {
      const int c = RowTile<T, kHeld>::column(k, rows.group, thread);
      if (c >= n) break;
      A w[kV];
      weight.read(c, n - c, aligned, A(1), w);
      Vector<T> v;
      DTENSOR_UNROLL
      for (int j = 0; j < kV; ++j) v.at[j] = store<T>(scale * (g.get(k, j) * w[j] - shift - (x.get(k, j) - average) * scale * slope));
      store_vector(out + row * n + c, v, n - c, aligned);
    }
  }
  // Groups of one block are added in order.
  DTENSOR_DEVICE void put(const Block& b, const A (&sums)[kHeld][kV], A* to, int thread, int slot) const {
    const int n = static_cast<int>(rows.n), slots = rows.rows_per_block();
    A* place = slots == 1 ? to : b.shared<A>() + slot * n;
    if (slots > 1) b.sync();
    DTENSOR_UNROLL
    for (int k = 0; k < kHeld; ++k) {
      const int c = RowTile<T, kHeld>::column(k, rows.group, thread);
      DTENSOR_UNROLL
      for (int j = 0; j < kV; ++j)
        if (c + j < n) place[c + j] = sums[k][j];
    }
    if (slots == 1) return;
    b.sync();
    for (int c = b.thread; c < n; c += b.threads) {
      A total = b.shared<A>()[c];
      for (int s = 1; s < slots; ++s) total += b.shared<A>()[s * n + c];
      to[c] = total;
    }
  }
};

// ---- longer rows: what is known of each row first

template <class A>
struct PutNorm {
  A *mean, *rstd;
  A eps;
  DTENSOR_DEVICE void operator()(const Moments<A>& m, std::int64_t row) const {
    if (mean != nullptr) mean[row] = m.mean;
    rstd[row] = A(1) / std::sqrt(m.squares / m.count + (mean != nullptr ? A(0) : m.mean * m.mean) + eps);
  }
};

template <class T>
struct NormElements {
  static constexpr int kV = kVectorOf<T>;
  using A = Accumulate<T>;
  const T* in;
  Parameter<T> weight, bias;
  const A *mean, *rstd;
  T* out;
  struct Row {
    A mean, rstd;
  };
  DTENSOR_DEVICE Vector<T> load(std::int64_t at, int n, bool aligned) const { return load_vector(in + at, n, aligned); }
  DTENSOR_DEVICE Row row(std::int64_t r) const { return {mean != nullptr ? mean[r] : A(0), rstd[r]}; }
  DTENSOR_DEVICE void change(Vector<T>& v, int j, const Row& r, std::int64_t c) const {
    v.at[j] = local::store<T>((local::load(v.at[j]) - r.mean) * r.rstd * weight.at(c, A(1)) + bias.at(c, A(0)));
  }
  DTENSOR_DEVICE void store(std::int64_t at, const Vector<T>& v, int n, bool aligned) const { store_vector(out + at, v, n, aligned); }
};

template <class T>
struct NormBackwardElements {
  static constexpr int kV = kVectorOf<T>;
  using A = Accumulate<T>;
  const T *grad, *in;
  Parameter<T> weight;
  const A *mean, *rstd, *shift, *slope;  // the last two: sums over n elements
  A n;
  T* out;
  struct Row {
    A mean, rstd, shift, slope;
  };
  DTENSOR_DEVICE PairOf<T> load(std::int64_t at, int count, bool aligned) const { return load_pair(in + at, grad + at, count, aligned); }
  DTENSOR_DEVICE Row row(std::int64_t r) const {
    return {mean != nullptr ? mean[r] : A(0), rstd[r], mean != nullptr ? shift[r] / n : A(0), slope[r] / n};
  }
  DTENSOR_DEVICE void change(PairOf<T>& v, int j, const Row& r, std::int64_t c) const {
    const A hat = (local::load(v.a.at[j]) - r.mean) * r.rstd;
    v.a.at[j] = local::store<T>(r.rstd * (local::load(v.b.at[j]) * weight.at(c, A(1)) - r.shift - hat * r.slope));
  }
  DTENSOR_DEVICE void store(std::int64_t at, const PairOf<T>& v, int count, bool aligned) const { store_vector(out + at, v.a, count, aligned); }
};

// ---- both

Tensor like(const Tensor& t, Dtype dtype) { return Tensor::empty(t.shape(), dtype, t.device()); }

void norm(const char* name, const Tensor& input, std::int64_t n, const Tensor* weight, const Tensor* bias, double eps, const Tensor& output,
          const Tensor* mean, const Tensor& rstd) {
  if (input.numel() == 0) return;
  if (input.dtype() != output.dtype()) {
    const Dtype wide = computed_dtype(input.dtype());
    const Tensor result = like(output, wide);
    norm(name, input.to(wide), n, weight, bias, eps, result, mean, rstd);
    return output.copy_(result);
  }
  RankDevice& d = rank_device(input);
  const RowShape s(input.numel() / n, n);
  const ParameterTensor w(weight, input.dtype(), computed_dtype(input.dtype())), shift(bias, input.dtype(), computed_dtype(input.dtype()));
  visit_floating(input.dtype(), [&]<class T>(std::type_identity<T>) {
    using A = Accumulate<T>;
    constexpr int kV = kVectorOf<T>;
    const T* in = input.raw_as<const T>();
    T* out = output.raw_as<T>();
    A* const means = mean != nullptr ? mean->raw_as<A>() : nullptr;
    const bool aligned = is_aligned(in) && is_aligned(out) && w.aligned() && shift.aligned();
    if (HeldRows::fit<T>(s)) {
      const HeldRows rows(s, kV);
      return launch_blocks(
          name, rows.blocks(), rows.threads, sizeof(A) * kWarp, d.current,
          NormRows<T>{in, w.as<T>(), shift.as<T>(), out, means, rstd.raw_as<A>(), rows, static_cast<A>(eps), aligned && n % kV == 0});
    }
    run_reduction(name, d, s.axes(), TypedSource<T, A>{in}, MomentsOp<A, PutNorm<A>>{PutNorm<A>{means, rstd.raw_as<A>(), static_cast<A>(eps)}});
    for_row_elements(name, d, s, aligned, NormElements<T>{in, w.as<T>(), shift.as<T>(), means, rstd.raw_as<const A>(), out});
  });
}

// Enough blocks for a device, but so that each has rows enough for its sums of columns to be worth their memory.
std::int64_t backward_blocks(const HeldRows& rows) {
  constexpr std::int64_t kThreads = 132 * 1024;
  return std::min({rows.blocks(), kThreads / rows.threads, std::max<std::int64_t>(kEnoughBlocks / 2, rows.blocks() / 8)});
}

template <class T>
void long_backward(const char* name, RankDevice& d, const RowShape& s, const Tensor& grad, const Tensor& input, const ParameterTensor& w,
                   const Tensor* weight, const Tensor* mean, const Tensor& rstd, const Tensor& grad_input, const Tensor& grad_weight,
                   const Tensor* grad_bias) {
  using A = Accumulate<T>;
  const T *g = grad.raw_as<const T>(), *x = input.raw_as<const T>();
  T* out = grad_input.raw_as<T>();
  const Dtype computed = dtype_of<A>();
  const Tensor shift = Tensor::empty({s.outer}, computed, input.device()), slope = Tensor::empty({s.outer}, computed, input.device());
  const A* const means = mean != nullptr ? mean->raw_as<const A>() : nullptr;
  const Statistics<A> statistics{means, rstd.raw_as<const A>()};
  const Tensor wide = weight != nullptr ? (weight->dtype() == computed ? *weight : weight->to(computed)) : Tensor();
  using Op = GradientSums<A, PutGradientSums>;
  run_reduction(name, d, s.axes(), PairSource<T, A>{x, g},
                Op{statistics, wide ? wide.raw_as<const A>() : nullptr, false, 1, PutGradientSums{shift.raw(), slope.raw(), computed, computed}});
  const NormBackwardElements<T> elements{
      g, x, w.as<T>(), means, rstd.raw_as<const A>(), shift.raw_as<const A>(), slope.raw_as<const A>(), static_cast<A>(s.n), out};
  for_row_elements(name, d, s, is_aligned(g) && is_aligned(x) && is_aligned(out), elements);
  const PutGradientSums put{grad_bias != nullptr ? grad_bias->raw() : nullptr, grad_weight.raw(),
                            grad_bias != nullptr ? grad_bias->dtype() : computed, grad_weight.dtype()};
  run_reduction(name, d, ReductionAxes({s.outer, s.n}, Shape{s.n, 1}, Shape{0}, true), PairSource<T, A>{x, g}, Op{statistics, nullptr, true, 1, put});
}

void norm_backward(const char* name, const Tensor& grad, const Tensor& input, std::int64_t n, const Tensor* weight, const Tensor* mean,
                   const Tensor& rstd, const Tensor& grad_input, const Tensor& grad_weight, const Tensor* grad_bias) {
  if (grad.dtype() != input.dtype() || grad_input.dtype() != input.dtype()) {
    const Dtype wide = computed_dtype(input.dtype());
    const Tensor slope = like(grad_input, wide);
    norm_backward(name, grad.to(wide), input.to(wide), n, weight, mean, rstd, slope, grad_weight, grad_bias);
    return grad_input.copy_(slope);
  }
  if (input.numel() == 0) {
    grad_weight.fill_(0);
    if (grad_bias != nullptr) grad_bias->fill_(0);
    return;
  }
  RankDevice& d = rank_device(input);
  const RowShape s(input.numel() / n, n);
  const ParameterTensor w(weight, input.dtype(), computed_dtype(input.dtype()));
  visit_floating(input.dtype(), [&]<class T>(std::type_identity<T>) {
    using A = Accumulate<T>;
    constexpr int kV = kVectorOf<T>;
    if (!HeldRows::fit<T>(s)) return long_backward<T>(name, d, s, grad, input, w, weight, mean, rstd, grad_input, grad_weight, grad_bias);
    // Sums of columns take registers as well: where two vectors hold the row, no more.
    const bool two = HeldRows::fit<T>(s, 2);
    const HeldRows rows(s, kV, two ? 2 : kRowVectors);
    const std::int64_t blocks = backward_blocks(rows);
    const Tensor of_weight = Tensor::empty({blocks, n}, dtype_of<A>(), input.device());
    const Tensor of_bias = grad_bias != nullptr ? like(of_weight, dtype_of<A>()) : Tensor();
    const T *g = grad.raw_as<const T>(), *x = input.raw_as<const T>();
    T* out = grad_input.raw_as<T>();
    const bool aligned = is_aligned(g) && is_aligned(x) && is_aligned(out) && w.aligned() && n % kV == 0;
    const std::size_t sums = rows.rows_per_block() == 1 ? 0 : static_cast<std::size_t>(rows.rows_per_block() * n) * sizeof(A);
    const auto run = [&]<int kHeld>(std::integral_constant<int, kHeld>) {
      launch_blocks(name, blocks, rows.threads, std::max(sums, sizeof(GradientSum<A>) * kWarp), d.current,
                    NormBackwardRows<T, kHeld>{g, x, w.as<T>(), mean != nullptr ? mean->raw_as<const A>() : nullptr, rstd.raw_as<const A>(), out,
                                               of_weight.raw_as<A>(), of_bias ? of_bias.raw_as<A>() : nullptr, rows, aligned});
    };
    if (two) run(std::integral_constant<int, 2>());
    else run(std::integral_constant<int, kRowVectors>());
    kernels::reduce(cpu::Reduction::sum, of_weight, Shape{0}, grad_weight);
    if (grad_bias != nullptr) kernels::reduce(cpu::Reduction::sum, of_bias, Shape{0}, *grad_bias);
  });
}

void layer_norm(const Tensor& input, std::int64_t n, const Tensor* weight, const Tensor* bias, double eps, const Tensor& output, const Tensor& mean,
                const Tensor& rstd) {
  norm("layer_norm", input, n, weight, bias, eps, output, &mean, rstd);
}
void layer_norm_backward(const Tensor& grad, const Tensor& input, std::int64_t n, const Tensor* weight, const Tensor& mean, const Tensor& rstd,
                         const Tensor& grad_input, const Tensor& grad_weight, const Tensor& grad_bias) {
  norm_backward("layer_norm_backward", grad, input, n, weight, &mean, rstd, grad_input, grad_weight, &grad_bias);
}
void rms_norm(const Tensor& input, std::int64_t n, const Tensor* weight, double eps, const Tensor& output, const Tensor& rstd) {
  norm("rms_norm", input, n, weight, nullptr, eps, output, nullptr, rstd);
}
void rms_norm_backward(const Tensor& grad, const Tensor& input, std::int64_t n, const Tensor* weight, const Tensor& rstd, const Tensor& grad_input,
                       const Tensor& grad_weight) {
  norm_backward("rms_norm_backward", grad, input, n, weight, nullptr, rstd, grad_input, grad_weight, nullptr);
}

}  // namespace

void install_norms() {
  kernels::layer_norm.cuda = layer_norm;
  kernels::layer_norm_backward.cuda = layer_norm_backward;
  kernels::rms_norm.cuda = rms_norm;
  kernels::rms_norm_backward.cuda = rms_norm_backward;
}

}  // namespace dtensor::local::cuda
