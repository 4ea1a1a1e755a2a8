// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "local/cuda/exponentials.h"
#include "local/cuda/rows.h"
#include "local/cuda/table.h"
#include "local/kernels/softmax.h"

namespace dtensor::local::cuda {
namespace {

// ---- rows in registers

template <class T>
struct SoftmaxRows {
  static constexpr int kMostThreads = kRowThreads, kV = kVectorOf<T>;
  using A = Accumulate<T>;
  const T* in;
  T* out;
  HeldRows rows;
  bool logarithm, aligned;
  DTENSOR_DEVICE void operator()(const Block& b) const {
    const int thread = b.thread % rows.group, n = static_cast<int>(rows.n);
    const std::int64_t row = b.index * rows.rows_per_block() + b.thread / rows.group;
    const bool here = row < rows.count;
    RowTile<T> tile;
    tile.read(in + (here ? row * rows.n : 0), here ? n : 0, rows.group, thread, aligned);
    A x[kRowVectors][kV], top = -std::numeric_limits<A>::infinity();
    DTENSOR_UNROLL
    for (int k = 0; k < kRowVectors; ++k) {
      const int c = RowTile<T>::column(k, rows.group, thread);
      DTENSOR_UNROLL
      for (int j = 0; j < kV; ++j) {
        x[k][j] = c + j < n ? tile.get(k, j) : -std::numeric_limits<A>::infinity();
        top = ExpSum<A>::larger(top, x[k][j]);
      }
    }
    top = reduce_group(b, rows.group, top, [](A a, A c) { return ExpSum<A>::larger(a, c); });
    A sum = 0;
    DTENSOR_UNROLL
    for (int k = 0; k < kRowVectors; ++k) DTENSOR_UNROLL
    for (int j = 0; j < kV; ++j) {
      const A e = std::exp(x[k][j] - top);
      sum += e;
      if (!logarithm) x[k][j] = e;
    }
    sum = sum_group(b, rows.group, sum);
    if (!here) return;
    const A shift = std::log(sum), factor = A(1) / sum;
    DTENSOR_UNROLL
    for (int k = 0; k < kRowVectors; ++k) {
      const int c = RowTile<T>::column(k, rows.group, thread);
      if (c >= n) break;
      Vector<T> v;
      DTENSOR_UNROLL
      for (int j = 0; j < kV; ++j) v.at[j] = store<T>(logarithm ? x[k][j] - top - shift : x[k][j] * factor);
      store_vector(out + row * rows.n + c, v, n - c, aligned);
    }
  }
};

// y (g - sum(g y)), or g - exp(y) sum(g)
template <class A>
DTENSOR_DEVICE A slope(A g, A y, A sum, bool logarithm) {
  return logarithm ? g - std::exp(y) * sum : y * (g - sum);
}

template <class T>
struct SoftmaxBackwardRows {
  static constexpr int kMostThreads = kRowThreads, kV = kVectorOf<T>;
  using A = Accumulate<T>;
  const T *grad, *result;
  T* out;
  HeldRows rows;
  bool logarithm, aligned;
  DTENSOR_DEVICE void operator()(const Block& b) const {
    const int thread = b.thread % rows.group, n = static_cast<int>(rows.n);
    const std::int64_t row = b.index * rows.rows_per_block() + b.thread / rows.group;
    const bool here = row < rows.count;
    const std::int64_t begin = here ? row * rows.n : 0;
    RowTile<T> g, y;  // zeros beyond the row
    g.read(grad + begin, here ? n : 0, rows.group, thread, aligned);
    y.read(result + begin, here ? n : 0, rows.group, thread, aligned);
    A sum = 0;
    DTENSOR_UNROLL
    for (int k = 0; k < kRowVectors; ++k) DTENSOR_UNROLL
    for (int j = 0; j < kV; ++j) sum += logarithm ? g.get(k, j) : g.get(k, j) * y.get(k, j);
    sum = sum_group(b, rows.group, sum);
    if (!here) return;
    DTENSOR_UNROLL
    for (int k = 0; k < kRowVectors; ++k) {
      const int c = RowTile<T>::column(k, rows.group, thread);
      if (c >= n) break;
      Vector<T> v;
      DTENSOR_UNROLL
      for (int j = 0; j < kV; ++j) v.at[j] = store<T>(slope(g.get(k, j), y.get(k, j), sum, logarithm));
      store_vector(out + begin + c, v, n - c, aligned);
    }
  }
};

// ---- long rows, and rows across memory: what is known of each row first

// Of each row its largest element, and the logarithm of its sum or the inverse. An infinite largest element makes the row NaN.
template <class A>
struct PutScale {
  A *top, *scale;
  bool logarithm;
  DTENSOR_DEVICE void operator()(const ExpSum<A>& s, std::int64_t row) const {
    top[row] = s.top;
    scale[row] = (logarithm ? std::log(s.sum) : A(1) / s.sum) + (s.top - s.top);
  }
};

template <class T>
struct ScaleElements {
  static constexpr int kV = kVectorOf<T>;
  using A = Accumulate<T>;
  const T* in;
  T* out;
  const A *top, *scale;
  bool logarithm;
  DTENSOR_DEVICE Vector<T> load(std::int64_t at, int n, bool aligned) const { return load_vector(in + at, n, aligned); }
  struct Row {
    A top, scale;
  };
  DTENSOR_DEVICE Row row(std::int64_t r) const { return {top[r], scale[r]}; }
  DTENSOR_DEVICE void change(Vector<T>& v, int j, const Row& r, std::int64_t /*c*/) const {
    const A x = local::load(v.at[j]) - r.top;
    v.at[j] = local::store<T>(logarithm ? x - r.scale : std::exp(x) * r.scale);
  }
  DTENSOR_DEVICE void store(std::int64_t at, const Vector<T>& v, int n, bool aligned) const { store_vector(out + at, v, n, aligned); }
};

template <class T>
struct SlopeElements {
  static constexpr int kV = kVectorOf<T>;
  using A = Accumulate<T>;
  const T *grad, *result;
  T* out;
  const A* sums;
  bool logarithm;
  DTENSOR_DEVICE PairOf<T> load(std::int64_t at, int n, bool aligned) const { return load_pair(grad + at, result + at, n, aligned); }
  DTENSOR_DEVICE A row(std::int64_t r) const { return sums[r]; }
  DTENSOR_DEVICE void change(PairOf<T>& v, int j, A sum, std::int64_t /*c*/) const {
    v.a.at[j] = local::store<T>(slope(local::load(v.a.at[j]), local::load(v.b.at[j]), sum, logarithm));
  }
  DTENSOR_DEVICE void store(std::int64_t at, const PairOf<T>& v, int n, bool aligned) const { store_vector(out + at, v.a, n, aligned); }
};

// Products of two tensors of one layout.
template <class T>
struct ProductSource {
  using A = Accumulate<T>;
  static constexpr int kV = kVectorOf<T>;
  using Values = Numbers<A, kV>;
  using Raw = PairOf<T>;
  const T *a, *b;  // without b: a alone
  bool aligned() const { return is_aligned(a) && (b == nullptr || is_aligned(b)); }
  DTENSOR_DEVICE Raw load_whole(std::int64_t at) const {
    Raw raw;
    raw.a = load_vector(a + at, kV, true);
    if (b != nullptr) raw.b = load_vector(b + at, kV, true);
    return raw;
  }
  DTENSOR_DEVICE Values values(const Raw& raw) const {
    Values v;
    DTENSOR_UNROLL
    for (int j = 0; j < kV; ++j) v.x[j] = b != nullptr ? load(raw.a.at[j]) * load(raw.b.at[j]) : load(raw.a.at[j]);
    return v;
  }
  DTENSOR_DEVICE Values load_some(std::int64_t at, std::int64_t stride, int n) const {
    Values v;
    DTENSOR_UNROLL
    for (int j = 0; j < kV; ++j) v.x[j] = j < n ? load(a[at + j * stride]) * (b != nullptr ? load(b[at + j * stride]) : A(1)) : A(0);
    return v;
  }
};

template <class A>
struct PutSum {
  A* sums;
  DTENSOR_DEVICE void operator()(A value, std::int64_t row) const { sums[row] = value; }
};

// Where operands and result differ in type: f(result) makes it in a wide type, which is then converted.
template <class F>
void convert_result(const Tensor& output, Dtype wide, const F& f) {
  const Tensor result = Tensor::empty(output.shape(), wide, output.device());
  f(result);
  output.copy_(result);
}

void softmax(const Tensor& input, int dim, bool logarithm, const Tensor& output) {
  if (input.dtype() != output.dtype()) {
    const Dtype wide = computed_dtype(input.dtype());
    return convert_result(output, wide, [&](const Tensor& result) { softmax(input.to(wide), dim, logarithm, result); });
  }
  const RowShape s(input.shape(), dim);
  if (s.numel() == 0) return;
  RankDevice& d = rank_device(input);
  visit_floating(input.dtype(), [&]<class T>(std::type_identity<T>) {
    using A = Accumulate<T>;
    constexpr int kV = kVectorOf<T>;
    const T* in = input.raw_as<const T>();
    T* out = output.raw_as<T>();
    const bool aligned = is_aligned(in) && is_aligned(out);
    if (HeldRows::fit<T>(s)) {
      const HeldRows rows(s, kV);
      return launch_blocks("softmax", rows.blocks(), rows.threads, sizeof(A) * kWarp, d.current,
                           SoftmaxRows<T>{in, out, rows, logarithm, aligned && s.n % kV == 0});
    }
    const Scratch top(d, static_cast<std::size_t>(s.count()) * sizeof(A)), scale(d, static_cast<std::size_t>(s.count()) * sizeof(A));
    run_reduction("softmax sums", d, s.axes(), TypedSource<T, A>{in}, ExpSums<A, PutScale<A>>{PutScale<A>{top.as<A>(), scale.as<A>(), logarithm}});
    for_row_elements("softmax", d, s, aligned, ScaleElements<T>{in, out, top.as<A>(), scale.as<A>(), logarithm});
  });
}

void softmax_backward(const Tensor& grad, const Tensor& result, int dim, bool logarithm, const Tensor& output) {
  if (grad.dtype() != output.dtype() || result.dtype() != output.dtype()) {
    const Dtype wide = computed_dtype(output.dtype());
    return convert_result(output, wide, [&](const Tensor& slope) { softmax_backward(grad.to(wide), result.to(wide), dim, logarithm, slope); });
  }
  const RowShape s(grad.shape(), dim);
  if (s.numel() == 0) return;
  RankDevice& d = rank_device(grad);
  visit_floating(output.dtype(), [&]<class T>(std::type_identity<T>) {
    using A = Accumulate<T>;
    constexpr int kV = kVectorOf<T>;
    const T *g = grad.raw_as<const T>(), *y = result.raw_as<const T>();
    T* out = output.raw_as<T>();
    const bool aligned = is_aligned(g) && is_aligned(y) && is_aligned(out);
    if (HeldRows::fit<T>(s)) {
      const HeldRows rows(s, kV);
      return launch_blocks("softmax_backward", rows.blocks(), rows.threads, sizeof(A) * kWarp, d.current,
                           SoftmaxBackwardRows<T>{g, y, out, rows, logarithm, aligned && s.n % kV == 0});
    }
    const Scratch sums(d, static_cast<std::size_t>(s.count()) * sizeof(A));
    run_reduction("softmax_backward sums", d, s.axes(), ProductSource<T>{g, logarithm ? nullptr : y}, SumOp<A, PutSum<A>>{PutSum<A>{sums.as<A>()}});
    for_row_elements("softmax_backward", d, s, aligned, SlopeElements<T>{g, y, out, sums.as<A>(), logarithm});
  });
}

// ---- sums of exponentials over any dims

template <class A>
struct ShiftedSum : SumStates<A> {
  const void* shift;
  Dtype shift_dtype;
  void* output;
  Dtype dtype;
  template <int kV>
  struct Lanes {
    A sum[kV], shift[kV];
  };
  DTENSOR_DEVICE A shift_of(std::int64_t out) const {
    const A s = element<A>(shift, shift_dtype, out);
    return std::isinf(s) ? A(0) : s;
  }
  template <int kV>
  DTENSOR_DEVICE void start(Lanes<kV>& lanes, std::int64_t out, std::int64_t step, int n) const {
    DTENSOR_UNROLL
    for (int j = 0; j < kV; ++j) {
      lanes.sum[j] = 0;
      lanes.shift[j] = j < n ? shift_of(out + j * step) : A(0);
    }
  }
  template <int kV>
  DTENSOR_DEVICE void add(Lanes<kV>& lanes, const Numbers<A, kV>& v, int n, std::int64_t /*term*/, std::int64_t /*step*/) const {
    DTENSOR_UNROLL
    for (int j = 0; j < kV; ++j)
      if (j < n) lanes.sum[j] += std::exp(v.x[j] - lanes.shift[j]);
  }
  template <int kV>
  DTENSOR_DEVICE void add_columns(Lanes<kV>& lanes, const Numbers<A, kV>& v, std::int64_t term) const {
    add(lanes, v, kV, term, 0);
  }
  DTENSOR_DEVICE void finish(A value, std::int64_t out) const { put_element(output, dtype, out, value); }
};

template <class A>
struct PutLogarithm {
  void* output;
  Dtype dtype;
  DTENSOR_DEVICE void operator()(const ExpSum<A>& s, std::int64_t out) const {
    put_element(output, dtype, out, static_cast<A>(std::log(s.sum) + s.reference()));
  }
};

// f(A{}, source): computed in f64 for f64 and in f32 otherwise.
template <class F>
void with_floats(const Tensor& input, const F& f) {
  visit_floating(input.dtype(), [&]<class T>(std::type_identity<T>) { f(Accumulate<T>{}, TypedSource<T, Accumulate<T>>{input.raw_as<const T>()}); });
}

void exp_sum(const Tensor& input, const Tensor& shift, const Shape& dims, const Tensor& output) {
  RankDevice& d = rank_device(input);
  const Tensor shifts = shift.contiguous();
  with_floats(input, [&]<class A>(A, const auto& source) {
    run_reduction("exp_sum", d, ReductionAxes(input.shape(), input.strides(), dims, false), source,
                  ShiftedSum<A>{{}, shifts.raw(), shifts.dtype(), output.raw(), output.dtype()});
  });
}

void log_sum_exp(const Tensor& input, const Shape& dims, const Tensor& output) {
  RankDevice& d = rank_device(input);
  with_floats(input, [&]<class A>(A, const auto& source) {
    run_reduction("log_sum_exp", d, ReductionAxes(input.shape(), input.strides(), dims, false), source,
                  ExpSums<A, PutLogarithm<A>>{PutLogarithm<A>{output.raw(), output.dtype()}});
  });
}

}  // namespace

void install_softmax() {
  kernels::softmax.cuda = softmax;
  kernels::softmax_backward.cuda = softmax_backward;
  kernels::exp_sum.cuda = exp_sum;
  kernels::log_sum_exp.cuda = log_sum_exp;
}

}  // namespace dtensor::local::cuda
