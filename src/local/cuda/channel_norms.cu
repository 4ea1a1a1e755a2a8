// SPDX-License-Identifier: Apache-2.0
// Means and sums are taken in f64 by the one reduction, over a channel of all samples or over a group's channels of one; then every element is seen once.
#include <cmath>
#include <limits>
#include <optional>

#include "local/cuda/gradient_sums.h"
#include "local/cuda/moments.h"
#include "local/cuda/rows.h"
#include "local/cuda/table.h"
#include "local/kernels/channel_norms.h"
#include "local/kernels/reduce.h"

namespace dtensor::local::cuda {
namespace {

using cpu::ChannelNorm;

// Elements of one channel of one sample lie together: a run.
RowShape runs_of(const ChannelNorm& n) { return {n.samples * n.channels, n.size}; }
// Each statistic one output.
ReductionAxes statistics_of(const ChannelNorm& n) {
  if (n.groups == 0) return {Shape{n.samples, n.channels, n.size}, Shape{n.channels * n.size, n.size, 1}, Shape{0, 2}, false};
  const std::int64_t size = n.channels / n.groups * n.size;
  return {Shape{n.statistics(), size}, Shape{size, 1}, Shape{1}, false};
}

// What belongs to a run.
struct RunPlace {
  std::int64_t channels, per_group;  // channels of a group, 0: a statistic is a channel
  explicit RunPlace(const ChannelNorm& n) : channels(n.channels), per_group(n.groups > 0 ? n.channels / n.groups : 0) {}
  DTENSOR_DEVICE std::int64_t channel(std::int64_t run) const { return run - quotient(run, channels) * channels; }
  DTENSOR_DEVICE std::int64_t statistic(std::int64_t run) const { return per_group > 0 ? quotient(run, per_group) : channel(run); }
};

// ---- forward

template <class A>
struct PutMoments {
  A *mean, *variance;
  DTENSOR_DEVICE void operator()(const Moments<double>& m, std::int64_t out) const {
    mean[out] = static_cast<A>(m.count > 0 ? m.mean : std::numeric_limits<double>::quiet_NaN());
    variance[out] = static_cast<A>(m.squares / m.count);
  }
};

template <class T>
struct ChannelElements {
  static constexpr int kV = kVectorOf<T>;
  using A = Accumulate<T>;
  const T* in;
  T* out;
  RunPlace place;
  Parameter<T> weight, bias, mean, variance;
  double eps;
  struct Row {
    A mean, slope, shift;
  };
  DTENSOR_DEVICE Vector<T> load(std::int64_t at, int n, bool aligned) const { return load_vector(in + at, n, aligned); }
  DTENSOR_DEVICE Row row(std::int64_t run) const {
    const std::int64_t s = place.statistic(run), c = place.channel(run);
    const A rstd = static_cast<A>(1 / std::sqrt(static_cast<double>(variance.at(s, A(0))) + eps));
    return {mean.at(s, A(0)), rstd * weight.at(c, A(1)), bias.at(c, A(0))};
  }
  DTENSOR_DEVICE void change(Vector<T>& v, int j, const Row& r, std::int64_t /*c*/) const {
    v.at[j] = local::store<T>((local::load(v.at[j]) - r.mean) * r.slope + r.shift);
  }
  DTENSOR_DEVICE void store(std::int64_t at, const Vector<T>& v, int n, bool aligned) const { store_vector(out + at, v, n, aligned); }
};

void channel_norm_apply(const ChannelNorm& n, const Tensor& x, const Tensor* weight, const Tensor* bias, const Tensor& mean, const Tensor& variance,
                        const Tensor& out) {
  if (x.numel() == 0) return;
  RankDevice& d = rank_device(x);
  const Dtype dtype = x.dtype(), wide = computed_dtype(dtype);
  const ParameterTensor w(weight, dtype, wide), b(bias, dtype, wide), m(&mean, dtype, wide), v(&variance, dtype, wide);
  visit_floating(dtype, [&]<class T>(std::type_identity<T>) {
    const T* in = x.raw_as<const T>();
    T* to = out.raw_as<T>();
    for_row_elements("channel_norm", d, runs_of(n), is_aligned(in) && is_aligned(to),
                     ChannelElements<T>{in, to, RunPlace(n), w.as<T>(), b.as<T>(), m.as<T>(), v.as<T>(), n.eps});
  });
}

void channel_norm(const ChannelNorm& n, const Tensor& x, const Tensor* weight, const Tensor* bias, const Tensor& out, const Tensor& mean,
                  const Tensor& variance) {
  RankDevice& d = rank_device(x);
  visit_floating(x.dtype(), [&]<class T>(std::type_identity<T>) {
    using A = Accumulate<T>;
    run_reduction("channel_norm moments", d, statistics_of(n), TypedSource<T, double>{x.raw_as<const T>()},
                  MomentsOp<double, PutMoments<A>>{PutMoments<A>{mean.raw_as<A>(), variance.raw_as<A>()}});
  });
  kernels::channel_norm_apply(n, x, weight, bias, mean, variance, out);
}

// ---- backward

// Gradients of the input from the mean of g w and of g w times the normalised x, per statistic.
template <class T>
struct ChannelSlopes {
  static constexpr int kV = kVectorOf<T>;
  using A = Accumulate<T>;
  const T *grad, *in;
  T* out;
  RunPlace place;
  Parameter<T> weight, mean, variance;
  const double *shift, *slope;  // sums; none: 0
  double count, eps;
  struct Row {
    A mean, rstd, weight, shift, slope;
  };
  DTENSOR_DEVICE PairOf<T> load(std::int64_t at, int n, bool aligned) const { return load_pair(in + at, grad + at, n, aligned); }
  DTENSOR_DEVICE Row row(std::int64_t run) const {
    const std::int64_t s = place.statistic(run);
    const A rstd = static_cast<A>(1 / std::sqrt(static_cast<double>(variance.at(s, A(0))) + eps));
    return {mean.at(s, A(0)), rstd, weight.at(place.channel(run), A(1)), static_cast<A>(shift != nullptr ? shift[s] / count : 0),
            static_cast<A>(slope != nullptr ? slope[s] / count : 0)};
  }
  DTENSOR_DEVICE void change(PairOf<T>& v, int j, const Row& r, std::int64_t /*c*/) const {
    const A hat = (local::load(v.a.at[j]) - r.mean) * r.rstd;
    v.a.at[j] = local::store<T>(r.rstd * (local::load(v.b.at[j]) * r.weight - r.shift - hat * r.slope));
  }
  DTENSOR_DEVICE void store(std::int64_t at, const PairOf<T>& v, int n, bool aligned) const { store_vector(out + at, v.a, n, aligned); }
};

// Where the sums of g and of g times the normalised x go, one number per output of the reduction; null: not wanted.
struct PutChannelSums {
  double *sums = nullptr, *products = nullptr;
  void *of_bias = nullptr, *of_weight = nullptr;
  Dtype bias_dtype = Dtype::f32, of_weight_dtype = Dtype::f32;
  double *shift = nullptr, *slope = nullptr;  // the same times the weight
  const void* weight = nullptr;               // none: 1
  Dtype weight_dtype = Dtype::f32;
  DTENSOR_DEVICE void operator()(const GradientSum<double>& s, std::int64_t out) const {
    if (sums != nullptr) sums[out] = s.grad, products[out] = s.product;
    if (of_bias != nullptr) {
      put_element(of_bias, bias_dtype, out, s.grad);
      put_element(of_weight, of_weight_dtype, out, s.product);
    }
    if (shift != nullptr) {
      const double w = weight != nullptr ? element<double>(weight, weight_dtype, out) : 1;
      shift[out] = s.grad * w, slope[out] = s.product * w;
    }
  }
};

// Per channel, or per run where a group has a mean.
void gradient_sums(const ChannelNorm& n, const Tensor& grad, const Tensor& x, const Tensor& mean, const Tensor& variance, const PutChannelSums& put) {
  RankDevice& d = rank_device(x);
  const ReductionAxes axes = n.groups == 0 ? statistics_of(n) : runs_of(n).axes();
  visit_floating(x.dtype(), [&]<class T>(std::type_identity<T>) {
    const auto run = [&]<class S>(const Tensor& m, const Tensor& v, S /*kept as*/) {
      const Statistics<double, S> statistics{m.raw_as<const S>(), v.raw_as<const S>(), true, n.eps};
      run_reduction("channel_norm sums", d, axes, PairSource<T, double>{x.raw_as<const T>(), grad.raw_as<const T>()},
                    GradientSums<double, PutChannelSums, S>{statistics, nullptr, false, n.groups == 0 ? 1 : n.channels / n.groups, put});
    };
    if (mean.dtype() == Dtype::f32 && variance.dtype() == Dtype::f32) run(mean, variance, float{});
    else run(mean.to(Dtype::f64), variance.to(Dtype::f64), double{});
  });
}

void input_gradient(const ChannelNorm& n, const Tensor& grad, const Tensor& x, const Tensor* weight, const Tensor& mean, const Tensor& variance,
                    const Tensor* shift, const Tensor* slope, double count, const Tensor& grad_x) {
  if (x.numel() == 0) return;
  RankDevice& d = rank_device(x);
  const Dtype dtype = x.dtype(), wide = computed_dtype(dtype);
  const ParameterTensor w(weight, dtype, wide), m(&mean, dtype, wide), v(&variance, dtype, wide);
  visit_floating(dtype, [&]<class T>(std::type_identity<T>) {
    const T *g = grad.raw_as<const T>(), *in = x.raw_as<const T>();
    T* to = grad_x.raw_as<T>();
    const ChannelSlopes<T> slopes{g,
                                  in,
                                  to,
                                  RunPlace(n),
                                  w.as<T>(),
                                  m.as<T>(),
                                  v.as<T>(),
                                  shift != nullptr ? shift->raw_as<const double>() : nullptr,
                                  slope != nullptr ? slope->raw_as<const double>() : nullptr,
                                  count,
                                  n.eps};
    for_row_elements("channel_norm_backward", d, runs_of(n), is_aligned(g) && is_aligned(in) && is_aligned(to), slopes);
  });
}

// Per statistic the sums over its runs, each times its channel's weight.
struct WeighRuns {
  const double *sums, *products;
  const void* weight;  // none: 1
  Dtype weight_dtype;
  std::int64_t channels, per_statistic;
  double *shift, *slope;
  DTENSOR_DEVICE void operator()(std::int64_t s) const {
    double shifts = 0, slopes = 0;
    for (std::int64_t run = s * per_statistic; run < (s + 1) * per_statistic; ++run) {
      const double w = weight != nullptr ? element<double>(weight, weight_dtype, run % channels) : 1;
      shifts += sums[run] * w, slopes += products[run] * w;
    }
    shift[s] = shifts, slope[s] = slopes;
  }
};

struct Weighed {
  Tensor shift, slope;
  explicit Weighed(const ChannelNorm& n, Device device)
      : shift(Tensor::empty({n.statistics()}, Dtype::f64, device)), slope(Tensor::empty({n.statistics()}, Dtype::f64, device)) {}
  Weighed(const ChannelNorm& n, const Tensor& sums, const Tensor& products, const Tensor* weight) : Weighed(n, sums.device()) {
    launch_elements("channel_norm weigh", n.statistics(), rank_device(sums).current,
                    WeighRuns{sums.raw_as<const double>(), products.raw_as<const double>(), weight != nullptr ? weight->raw() : nullptr,
                              weight != nullptr ? weight->dtype() : Dtype::f32, n.channels, n.groups > 0 ? n.channels / n.groups : 1,
                              shift.raw_as<double>(), slope.raw_as<double>()});
  }
};

void channel_norm_backward(const ChannelNorm& n, const Tensor& grad, const Tensor& x, const Tensor* weight, const Tensor& mean,
                           const Tensor& variance, bool constant, const Tensor& grad_x, const Tensor& grad_weight, const Tensor& grad_bias) {
  const Tensor same = grad.dtype() == x.dtype() ? grad : grad.to(x.dtype());
  const auto elements = static_cast<double>(n.samples * n.channels * n.size);
  const double count = n.statistics() > 0 ? elements / static_cast<double>(n.statistics()) : 1;
  std::optional<Weighed> means;
  if (n.groups == 0) {
    means.emplace(n, x.device());
    gradient_sums(n, same, x, mean, variance,
                  {.of_bias = grad_bias.raw(),
                   .of_weight = grad_weight.raw(),
                   .bias_dtype = grad_bias.dtype(),
                   .of_weight_dtype = grad_weight.dtype(),
                   .shift = means->shift.raw_as<double>(),
                   .slope = means->slope.raw_as<double>(),
                   .weight = weight != nullptr ? weight->raw() : nullptr,
                   .weight_dtype = weight != nullptr ? weight->dtype() : Dtype::f32});
  } else {
    const Shape runs{n.samples, n.channels};
    const Tensor sums = Tensor::empty(runs, Dtype::f64, x.device()), products = Tensor::empty(runs, Dtype::f64, x.device());
    gradient_sums(n, same, x, mean, variance, {.sums = sums.raw_as<double>(), .products = products.raw_as<double>()});
    kernels::reduce(cpu::Reduction::sum, products, Shape{0}, grad_weight);
    kernels::reduce(cpu::Reduction::sum, sums, Shape{0}, grad_bias);
    if (!constant) means.emplace(n, sums, products, weight);
  }
  if (constant) means.reset();
  input_gradient(n, same, x, weight, mean, variance, means ? &means->shift : nullptr, means ? &means->slope : nullptr, count, grad_x);
}

// ---- the same in parts

struct PutNumber {
  double* out;
  DTENSOR_DEVICE void operator()(double value, std::int64_t at) const { out[at] = value; }
};
// Sums of squared distances from the number of the output.
struct SquaresAround : SumStates<double> {
  template <int kV>
  struct Lanes {
    double sum[kV], centre[kV];
  };
  const double* centres;
  double* out;
  template <int kV>
  DTENSOR_DEVICE void start(Lanes<kV>& lanes, std::int64_t at, std::int64_t step, int n) const {
    DTENSOR_UNROLL
    for (int j = 0; j < kV; ++j) lanes.sum[j] = 0, lanes.centre[j] = j < n ? centres[at + j * step] : 0;
  }
  template <int kV>
  DTENSOR_DEVICE void add(Lanes<kV>& lanes, const Numbers<double, kV>& v, int n, std::int64_t /*term*/, std::int64_t /*step*/) const {
    DTENSOR_UNROLL
    for (int j = 0; j < kV; ++j)
      if (j < n) lanes.sum[j] += (v.x[j] - lanes.centre[j]) * (v.x[j] - lanes.centre[j]);
  }
  template <int kV>
  DTENSOR_DEVICE void add_columns(Lanes<kV>& lanes, const Numbers<double, kV>& v, std::int64_t term) const {
    add(lanes, v, kV, term, 0);
  }
  DTENSOR_DEVICE void finish(double value, std::int64_t at) const { out[at] = value; }
};

void channel_sums(const ChannelNorm& n, const Tensor& x, const Tensor* mean, const Tensor& sums) {
  RankDevice& d = rank_device(x);
  const Tensor centres = mean != nullptr ? mean->to(Dtype::f64) : Tensor();
  visit_floating(x.dtype(), [&]<class T>(std::type_identity<T>) {
    const TypedSource<T, double> source{x.raw_as<const T>()};
    if (centres) run_reduction("channel_sums", d, statistics_of(n), source, SquaresAround{{}, centres.raw_as<const double>(), sums.raw_as<double>()});
    else run_reduction("channel_sums", d, statistics_of(n), source, SumOp<double, PutNumber>{PutNumber{sums.raw_as<double>()}});
  });
}

void channel_norm_sums(const ChannelNorm& n, const Tensor& grad, const Tensor& x, const Tensor& mean, const Tensor& variance, const Tensor& sums,
                       const Tensor& products) {
  gradient_sums(n, grad.dtype() == x.dtype() ? grad : grad.to(x.dtype()), x, mean, variance,
                {.sums = sums.raw_as<double>(), .products = products.raw_as<double>()});
}

// slope (g - shift - hat share), slope = rstd w: the gradient above with sums times w.
void channel_norm_input_gradient(const ChannelNorm& n, const Tensor& grad, const Tensor& x, const Tensor* weight, const Tensor& mean,
                                 const Tensor& variance, const Tensor& sums, const Tensor& products, double count, const Tensor& grad_x) {
  std::optional<Weighed> weighed;
  if (weight != nullptr) weighed.emplace(n, sums, products, weight);
  const Tensor &shift = weighed ? weighed->shift : sums, &slope = weighed ? weighed->slope : products;
  input_gradient(n, grad.dtype() == x.dtype() ? grad : grad.to(x.dtype()), x, weight, mean, variance, &shift, &slope, count, grad_x);
}

struct RunningAverage {
  const double *batch, *was;
  double* out;
  double momentum, factor;
  DTENSOR_DEVICE void operator()(std::int64_t i) const { out[i] = (1 - momentum) * (was != nullptr ? was[i] : 0.0) + momentum * factor * batch[i]; }
};
void running_average(const Tensor& batch, const Tensor* was, double momentum, double factor, const Tensor& out) {
  RankDevice& d = rank_device(batch);
  const Tensor now = batch.to(Dtype::f64), before = was != nullptr ? was->to(Dtype::f64) : Tensor(),
               wide = Tensor::empty(out.shape(), Dtype::f64, out.device());
  launch_elements(
      "running_average", batch.numel(), d.current,
      RunningAverage{now.raw_as<const double>(), before ? before.raw_as<const double>() : nullptr, wide.raw_as<double>(), momentum, factor});
  out.copy_(wide);
}

}  // namespace

void install_channel_norms() {
  kernels::channel_norm.cuda = channel_norm;
  kernels::channel_norm_apply.cuda = channel_norm_apply;
  kernels::channel_norm_backward.cuda = channel_norm_backward;
  kernels::running_average.cuda = running_average;
  kernels::channel_sums.cuda = channel_sums;
  kernels::channel_norm_sums.cuda = channel_norm_sums;
  kernels::channel_norm_input_gradient.cuda = channel_norm_input_gradient;
}

}  // namespace dtensor::local::cuda
