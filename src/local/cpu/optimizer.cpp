// SPDX-License-Identifier: Apache-2.0
#include "local/cpu/optimizer.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>

#include "local/cpu/map.h"
#include "local/cpu/reduce.h"
#include "local/cpu/rows.h"
#include "local/formulas/optimizer.h"

namespace dtensor::local::cpu {
namespace {

using namespace formulas;

template <class T, int count>
struct Constants {
  T k[count];
  explicit Constants(const Scalar* numbers) {
    for (int i = 0; i < count; ++i) k[i] = number_as<T>(numbers[i]);
  }
};

// `top` is read and written only with keeps_top.
template <bool keeps_top, class T>
[[gnu::noinline]] void adam_block(const Constants<T, Adam::numbers>& constants, T* p, const T* g, T* m, T* v, [[maybe_unused]] T* top) {
  const auto local = constants;
  T rp[kBlock], rm[kBlock], rv[kBlock], rt[keeps_top ? kBlock : 1];
  for (std::int64_t j = 0; j < kBlock; ++j) {
    T pj = p[j], mj = m[j], vj = v[j], tj = T(0);
    if constexpr (keeps_top) tj = top[j];
    Adam::of<keeps_top>(pj, g[j], mj, vj, tj, local.k);
    rp[j] = pj;
    rm[j] = mj;
    rv[j] = vj;
    if constexpr (keeps_top) rt[j] = tj;
  }
  if constexpr (keeps_top) std::memcpy(top, rt, sizeof rt);
  std::memcpy(p, rp, sizeof rp);
  std::memcpy(m, rm, sizeof rm);
  std::memcpy(v, rv, sizeof rv);
}

template <class T>
[[gnu::noinline]] void sgd_block(const Constants<T, Sgd::numbers>& constants, T* p, const T* g, T* b) {
  const auto local = constants;
  T rp[kBlock], rb[kBlock];
  for (std::int64_t j = 0; j < kBlock; ++j) {
    T pj = p[j], bj = b[j];
    Sgd::of(pj, g[j], bj, local.k);
    rp[j] = pj;
    rb[j] = bj;
  }
  std::memcpy(p, rp, sizeof rp);
  std::memcpy(b, rb, sizeof rb);
}

template <class T>
void take(T* out, const void* in, std::int64_t n) {
  if (out != in) std::memcpy(out, in, static_cast<std::size_t>(n) * sizeof(T));
}
template <class T>
void give(T* out, const T* padded, std::int64_t n) {
  std::memcpy(out, padded, static_cast<std::size_t>(n) * sizeof(T));
}

// in: param, grad, exp_avg, exp_avg_sq, then with keeps_top the largest exp_avg_sq; out: the same but grad.
template <class T, bool keeps_top>
void adam_row(const void* const* in, void* const* out, std::int64_t n, const Scalar* numbers) {
  const Constants<T, Adam::numbers> k(numbers);
  T *p = static_cast<T*>(out[0]), *m = static_cast<T*>(out[1]), *v = static_cast<T*>(out[2]);
  const T* g = static_cast<const T*>(in[1]);
  take(p, in[0], n);
  take(m, in[2], n);
  take(v, in[3], n);
  T* top = v;
  if constexpr (keeps_top) {
    top = static_cast<T*>(out[3]);
    take(top, in[4], n);
  }
  std::int64_t i = 0;
  for (; i + kBlock <= n; i += kBlock) adam_block<keeps_top>(k, p + i, g + i, m + i, v + i, top + i);
  if (i == n) return;
  Padded<T> tp(p + i, n - i), tg(g + i, n - i), tm(m + i, n - i), tv(v + i, n - i), tt(top + i, n - i);
  adam_block<keeps_top>(k, tp.values, tg.values, tm.values, tv.values, tt.values);
  if constexpr (keeps_top) give(top + i, tt.values, n - i);
  give(p + i, tp.values, n - i);
  give(m + i, tm.values, n - i);
  give(v + i, tv.values, n - i);
}

// in: param, grad, buffer; out: param, buffer.
template <class T>
void sgd_row(const void* const* in, void* const* out, std::int64_t n, const Scalar* numbers) {
  const Constants<T, Sgd::numbers> k(numbers);
  T *p = static_cast<T*>(out[0]), *b = static_cast<T*>(out[1]);
  const T* g = static_cast<const T*>(in[1]);
  take(p, in[0], n);
  take(b, in[2], n);
  std::int64_t i = 0;
  for (; i + kBlock <= n; i += kBlock) sgd_block(k, p + i, g + i, b + i);
  if (i == n) return;
  Padded<T> tp(p + i, n - i), tg(g + i, n - i), tb(b + i, n - i);
  sgd_block(k, tp.values, tg.values, tb.values);
  give(p + i, tp.values, n - i);
  give(b + i, tb.values, n - i);
}

double number(const Tensor& t) { return t.dtype() == Dtype::f64 ? t.values<const double>()[0] : double{t.values<const float>()[0]}; }
void set_number(const Tensor& t, double value) {
  if (t.dtype() == Dtype::f64) t.values<double>()[0] = value;
  else t.values<float>()[0] = static_cast<float>(value);
}

template <class F>
using Derived = std::array<Scalar, static_cast<std::size_t>(F::numbers)>;
template <class F, class Step>
Derived<F> derive(Step o, const StepNumbers& given) {
  if (given.lr) set_rate(o, number(given.lr));
  if (given.step) {
    const double step = number(given.step) + 1;
    set_number(given.step, step);
    set_step(o, step);
  }
  std::array<double, static_cast<std::size_t>(F::numbers)> k;
  F::derive(o, k.data());
  Derived<F> numbers;
  std::copy(k.begin(), k.end(), numbers.begin());
  return numbers;
}

void adam_step(const AdamCall& c) {
  const Dtype type = compute_type(c.param.dtype());
  const auto numbers = derive<Adam>(c.step, c.numbers);
  if (c.max_exp_avg_sq) {
    map(type == Dtype::f64 ? adam_row<double, true> : adam_row<float, true>,
        {{c.param, type}, {c.grad, type}, {c.exp_avg, type}, {c.exp_avg_sq, type}, {c.max_exp_avg_sq, type}},
        {{c.param, type}, {c.exp_avg, type}, {c.exp_avg_sq, type}, {c.max_exp_avg_sq, type}}, numbers.data());
    return;
  }
  map(type == Dtype::f64 ? adam_row<double, false> : adam_row<float, false>,
      {{c.param, type}, {c.grad, type}, {c.exp_avg, type}, {c.exp_avg_sq, type}}, {{c.param, type}, {c.exp_avg, type}, {c.exp_avg_sq, type}},
      numbers.data());
}

void sgd_step(const SgdCall& c) {
  const Dtype type = compute_type(c.param.dtype());
  if (!c.momentum_buffer) {
    map(floating_rows<Descent, 2>().of(type), {{c.param, type}, {c.grad, type}}, {{c.param, type}}, derive<Descent>(c.step, c.numbers).data());
    return;
  }
  map(type == Dtype::f64 ? sgd_row<double> : sgd_row<float>, {{c.param, type}, {c.grad, type}, {c.momentum_buffer, type}},
      {{c.param, type}, {c.momentum_buffer, type}}, derive<Sgd>(c.step, c.numbers).data());
}

}  // namespace

void adam_steps(std::span<const AdamCall> calls) {
  for (const AdamCall& c : calls) adam_step(c);
}
void sgd_steps(std::span<const SgdCall> calls) {
  for (const SgdCall& c : calls) sgd_step(c);
}
void scales(std::span<const ScaleCall> calls) {
  for (const ScaleCall& c : calls) {
    const Dtype type = compute_type(c.tensor.dtype());
    const Scalar factor = number(c.factor);
    map(floating_rows<Scale, 1>().of(type), {{c.tensor, type}}, {{c.tensor, type}}, &factor);
  }
}
void square_sums(std::span<const SquareSumCall> calls) {
  for (const SquareSumCall& c : calls) {
    Shape dims;
    for (int d = 0; d < c.input.ndim(); ++d) dims.push_back(d);
    reduce(Reduction::square_sum, c.input, dims, c.output);
  }
}
void sum_numbers(std::span<const Tensor* const> numbers, const Tensor& output) {
  double sum = 0;
  for (const Tensor* t : numbers) sum += number(*t);
  set_number(output, sum);
}

}  // namespace dtensor::local::cpu
