// SPDX-License-Identifier: Apache-2.0
#include "local/cpu/channel_norms.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "local/parallel.h"
#include "local/strided.h"

namespace dtensor::local::cpu {
namespace {

// The elements of one statistic are `segments` runs of n.size elements, one per channel or one per sample.
struct Segments {
  std::int64_t count, first, stride;  // in runs
};
Segments segments_of(const ChannelNorm& n, std::int64_t statistic) {
  if (n.groups == 0) return {n.samples, statistic, n.channels};
  const std::int64_t q = n.channels / n.groups;
  return {q, statistic * q, 1};
}

// Sum of term(i), lane by lane and then in double: neither the threads nor the address matter.
template <class A, class Term>
double sum_of(std::int64_t n, const Term& term) {
  constexpr std::int64_t kLanes = 8;
  double total = 0;
  for (std::int64_t from = 0; from < n; from += 1024) {
    const std::int64_t to = std::min(n, from + 1024), even = from + (to - from) / kLanes * kLanes;
    A lanes[kLanes] = {};
    for (std::int64_t i = from; i < even; i += kLanes)
      for (std::int64_t j = 0; j < kLanes; ++j) lanes[j] += term(i + j);
    for (std::int64_t i = even; i < to; ++i) lanes[i - even] += term(i);
    for (const A lane : lanes) total += static_cast<double>(lane);
  }
  return total;
}

template <class A, class T, class F>
double sum_segments(const ChannelNorm& n, const Segments& s, const T* x, const F& f) {
  double total = 0;
  for (std::int64_t k = 0; k < s.count; ++k) {
    const std::int64_t offset = (s.first + k * s.stride) * n.size;
    total += sum_of<A>(n.size, [&](std::int64_t i) { return f(load(x[offset + i]), offset + i); });
  }
  return total;
}

std::int64_t grain(const ChannelNorm& n) {
  const std::int64_t all = n.samples * n.channels * n.size, each = n.statistics() > 0 ? all / n.statistics() : 1;
  return std::max<std::int64_t>(1, kPointwiseGrain / std::max<std::int64_t>(1, each));
}

template <class A>
std::vector<A> numbers(const Tensor* t, std::int64_t count, A fallback) {
  std::vector<A> list(static_cast<std::size_t>(count), fallback);
  if (t == nullptr) return list;
  visit_floating(t->dtype(), [&]<class T>(std::type_identity<T>) {
    for (std::size_t i = 0; i < list.size(); ++i) list[i] = static_cast<A>(load(t->raw_as<const T>()[i]));
  });
  return list;
}
void put(const std::vector<double>& values, const Tensor& to) {
  visit_floating(to.dtype(), [&]<class T>(std::type_identity<T>) {
    for (std::size_t i = 0; i < values.size(); ++i) to.raw_as<T>()[i] = store<T>(static_cast<Accumulate<T>>(values[i]));
  });
}
std::int64_t channel_of(const ChannelNorm& n, const Segments& s, std::int64_t k) { return (s.first + k * s.stride) % n.channels; }

template <class T, class A>
void scale_segments(const ChannelNorm& n, const Segments& s, const T* x, A mean, A rstd, const std::vector<A>& weight, const std::vector<A>& bias,
                    T* out) {
  for (std::int64_t k = 0; k < s.count; ++k) {
    const std::int64_t offset = (s.first + k * s.stride) * n.size;
    const auto c = static_cast<std::size_t>(channel_of(n, s, k));
    const A slope = rstd * weight[c], shift = bias[c];
    for (std::int64_t i = 0; i < n.size; ++i) out[offset + i] = store<T>((load(x[offset + i]) - mean) * slope + shift);
  }
}

}  // namespace

void channel_norm(const ChannelNorm& n, const Tensor& x, const Tensor* weight, const Tensor* bias, const Tensor& out, const Tensor& mean,
                  const Tensor& variance) {
  visit_floating(x.dtype(), [&]<class T>(std::type_identity<T>) {
    using A = Accumulate<T>;
    const std::vector<A> w = numbers<A>(weight, n.channels, 1), b = numbers<A>(bias, n.channels, 0);
    const T* in = x.raw_as<const T>();
    parallel_for(n.statistics(), grain(n), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t r = begin; r < end; ++r) {
        const Segments s = segments_of(n, r);
        const auto count = static_cast<double>(s.count * n.size);
        const A average = static_cast<A>(sum_segments<A>(n, s, in, [](A v, std::int64_t) { return v; }) / count);
        const A spread = static_cast<A>(sum_segments<A>(n, s, in, [&](A v, std::int64_t) { return (v - average) * (v - average); }) / count);
        mean.raw_as<A>()[r] = average;
        variance.raw_as<A>()[r] = spread;
        scale_segments(n, s, in, average, static_cast<A>(1 / std::sqrt(static_cast<double>(spread) + n.eps)), w, b, out.raw_as<T>());
      }
    });
  });
}

void channel_norm_apply(const ChannelNorm& n, const Tensor& x, const Tensor* weight, const Tensor* bias, const Tensor& mean, const Tensor& variance,
                        const Tensor& out) {
  visit_floating(x.dtype(), [&]<class T>(std::type_identity<T>) {
    using A = Accumulate<T>;
    const std::vector<A> w = numbers<A>(weight, n.channels, 1), b = numbers<A>(bias, n.channels, 0);
    const std::vector<A> m = numbers<A>(&mean, n.statistics(), 0), v = numbers<A>(&variance, n.statistics(), 0);
    parallel_for(n.statistics(), grain(n), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t r = begin; r < end; ++r) {
        const auto at = static_cast<std::size_t>(r);
        scale_segments(n, segments_of(n, r), x.raw_as<const T>(), m[at], static_cast<A>(1 / std::sqrt(static_cast<double>(v[at]) + n.eps)), w, b,
                       out.raw_as<T>());
      }
    });
  });
}

void channel_norm_backward(const ChannelNorm& n, const Tensor& grad, const Tensor& x, const Tensor* weight, const Tensor& mean,
                           const Tensor& variance, bool constant, const Tensor& grad_x, const Tensor& grad_weight, const Tensor& grad_bias) {
  visit_floating(x.dtype(), [&]<class T>(std::type_identity<T>) {
    using A = Accumulate<T>;
    const std::vector<A> w = numbers<A>(weight, n.channels, 1);
    const std::vector<A> m = numbers<A>(&mean, n.statistics(), 0), v = numbers<A>(&variance, n.statistics(), 0);
    const T *in = x.raw_as<const T>(), *up = grad.raw_as<const T>();
    T* out = grad_x.raw_as<T>();
    // Sums of grad and of grad times the normalised x, per run.
    std::vector<double> sums(static_cast<std::size_t>(n.samples * n.channels)), products(sums.size());
    parallel_for(n.statistics(), grain(n), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t r = begin; r < end; ++r) {
        const Segments s = segments_of(n, r);
        const A average = m[static_cast<std::size_t>(r)];
        const A rstd = static_cast<A>(1 / std::sqrt(static_cast<double>(v[static_cast<std::size_t>(r)]) + n.eps));
        double shift = 0, slope = 0;
        for (std::int64_t k = 0; k < s.count; ++k) {
          const std::int64_t run = s.first + k * s.stride, offset = run * n.size;
          const auto at = static_cast<std::size_t>(run);
          sums[at] = sum_of<A>(n.size, [&](std::int64_t i) { return load(up[offset + i]); });
          products[at] = sum_of<A>(n.size, [&](std::int64_t i) { return load(up[offset + i]) * (load(in[offset + i]) - average) * rstd; });
          const auto share = static_cast<double>(w[static_cast<std::size_t>(channel_of(n, s, k))]);
          shift += sums[at] * share, slope += products[at] * share;
        }
        const auto count = static_cast<double>(s.count * n.size);
        const A a = constant ? A(0) : static_cast<A>(shift / count), b = constant ? A(0) : static_cast<A>(slope / count);
        for (std::int64_t k = 0; k < s.count; ++k) {
          const std::int64_t offset = (s.first + k * s.stride) * n.size;
          const A share = w[static_cast<std::size_t>(channel_of(n, s, k))];
          for (std::int64_t i = 0; i < n.size; ++i)
            out[offset + i] = store<T>(rstd * (load(up[offset + i]) * share - a - (load(in[offset + i]) - average) * rstd * b));
        }
      }
    });
    std::vector<double> of_weight(static_cast<std::size_t>(n.channels)), of_bias(of_weight.size());
    for (std::size_t run = 0; run < sums.size(); ++run) {
      of_bias[run % of_bias.size()] += sums[run];
      of_weight[run % of_weight.size()] += products[run];
    }
    put(of_weight, grad_weight);
    put(of_bias, grad_bias);
  });
}

void running_average(const Tensor& batch, const Tensor* was, double momentum, double factor, const Tensor& out) {
  std::vector<double> now = numbers<double>(&batch, batch.numel(), 0);
  const std::vector<double> before = numbers<double>(was, batch.numel(), 0);
  for (std::size_t i = 0; i < now.size(); ++i) now[i] = (1 - momentum) * before[i] + momentum * factor * now[i];
  put(now, out);
}

void channel_sums(const ChannelNorm& n, const Tensor& x, const Tensor* mean, const Tensor& sums) {
  visit_floating(x.dtype(), [&]<class T>(std::type_identity<T>) {
    const std::vector<double> m = numbers<double>(mean, n.channels, 0);
    parallel_for(n.channels, grain(n), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t c = begin; c < end; ++c) {
        const double centre = m[static_cast<std::size_t>(c)];
        const Segments s = segments_of(n, c);
        const T* in = x.raw_as<const T>();
        sums.raw_as<double>()[c] = mean == nullptr
                                       ? sum_segments<double>(n, s, in, [](double v, std::int64_t) { return v; })
                                       : sum_segments<double>(n, s, in, [&](double v, std::int64_t) { return (v - centre) * (v - centre); });
      }
    });
  });
}

void channel_norm_sums(const ChannelNorm& n, const Tensor& grad, const Tensor& x, const Tensor& mean, const Tensor& variance, const Tensor& sums,
                       const Tensor& products) {
  visit_floating(x.dtype(), [&]<class T>(std::type_identity<T>) {
    const std::vector<double> m = numbers<double>(&mean, n.channels, 0), v = numbers<double>(&variance, n.channels, 0);
    const T *in = x.raw_as<const T>(), *up = grad.raw_as<const T>();
    parallel_for(n.channels, grain(n), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t c = begin; c < end; ++c) {
        const double centre = m[static_cast<std::size_t>(c)];
        const double rstd = 1 / std::sqrt(v[static_cast<std::size_t>(c)] + n.eps);
        const Segments s = segments_of(n, c);
        sums.raw_as<double>()[c] = sum_segments<double>(n, s, up, [](double g, std::int64_t) { return g; });
        products.raw_as<double>()[c] = sum_segments<double>(n, s, up, [&](double g, std::int64_t i) { return g * (load(in[i]) - centre) * rstd; });
      }
    });
  });
}

void channel_norm_input_gradient(const ChannelNorm& n, const Tensor& grad, const Tensor& x, const Tensor* weight, const Tensor& mean,
                                 const Tensor& variance, const Tensor& sums, const Tensor& products, double count, const Tensor& grad_x) {
  visit_floating(x.dtype(), [&]<class T>(std::type_identity<T>) {
    using A = Accumulate<T>;
    const std::vector<A> w = numbers<A>(weight, n.channels, 1), m = numbers<A>(&mean, n.channels, 0), v = numbers<A>(&variance, n.channels, 0);
    const T *in = x.raw_as<const T>(), *up = grad.raw_as<const T>();
    parallel_for(n.channels, grain(n), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t c = begin; c < end; ++c) {
        const auto at = static_cast<std::size_t>(c);
        const A centre = m[at], rstd = static_cast<A>(1 / std::sqrt(static_cast<double>(v[at]) + n.eps)), slope = rstd * w[at];
        const A shift = static_cast<A>(sums.raw_as<const double>()[c] / count), share = static_cast<A>(products.raw_as<const double>()[c] / count);
        const Segments s = segments_of(n, c);
        for (std::int64_t k = 0; k < s.count; ++k) {
          const std::int64_t offset = (s.first + k * s.stride) * n.size;
          for (std::int64_t i = offset; i < offset + n.size; ++i)
            grad_x.raw_as<T>()[i] = store<T>(slope * (load(up[i]) - shift - (load(in[i]) - centre) * rstd * share));
        }
      }
    });
  });
}

}  // namespace dtensor::local::cpu
