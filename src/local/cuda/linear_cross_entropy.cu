// SPDX-License-Identifier: Apache-2.0
// Chunks of rows: their logits by cuBLASLt, then one pass over these.
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>

#include "local/cuda/boxes.h"
#include "local/cuda/exponentials.h"
#include "local/cuda/gemm.h"
#include "local/cuda/rows.h"
#include "local/cuda/runs.h"
#include "local/kernels/linear_cross_entropy.h"

namespace dtensor::local::cuda {
namespace {

using cpu::LinearClasses;

// What a row is about.
struct Targets {
  const std::int64_t* target;
  RunMap runs;
  std::int64_t ignore_index, count;
  Fault* fault;  // null: targets have been looked at before
  DTENSOR_DEVICE bool ignored(std::int64_t row) const { return target[row] == ignore_index; }
  /// The local class of a row; -1: elsewhere, ignored, or none.
  DTENSOR_DEVICE std::int64_t at(std::int64_t row) const {
    const std::int64_t label = target[row];
    if (label == ignore_index) return -1;
    if (label >= 0 && label < count) return runs.to_local(label);
    if (fault != nullptr) raise(fault, label);
    return -1;
  }
};

// What becomes of the logits of a row; `first`: the chunk's first row.
enum class Put : std::uint8_t { largest, shifted_sum, loss };
template <class T>
struct PutRow {
  using A = Accumulate<T>;
  Put what;
  Targets targets;
  const A* top;    // of shifted_sum
  A *sum, *logit;  // largest: sum alone; loss: the logarithm of the sum, and that minus the logit
  std::int64_t first, classes;
  const T* logits;
  DTENSOR_DEVICE void operator()(const ExpSum<A>& s, std::int64_t r) const {
    const std::int64_t row = first + r;
    if (what == Put::largest) {
      sum[row] = s.top;
      return;
    }
    const std::int64_t at = targets.at(row);
    const A x = at >= 0 ? load(logits[r * classes + at]) : A(0);
    if (what == Put::loss) {
      sum[row] = s.reference() + std::log(s.sum);
      logit[row] = at >= 0 ? sum[row] - x : A(0);
    } else {
      sum[row] = s.sum == 0 ? A(0) : s.sum * std::exp(s.reference() - ExpSum<A>::reference(top[row]));
      logit[row] = x;
    }
  }
};

// Logits become what the loss gives for them. A block per row.
template <class T>
struct Slopes {
  static constexpr int kMostThreads = 512, kV = kVectorOf<T>;
  using A = Accumulate<T>;
  Targets targets;
  std::int64_t first, rows, classes;
  const A *grad, *lse;
  T* logits;
  bool aligned;
  DTENSOR_DEVICE void operator()(const Block& b) const {
    for (std::int64_t r = b.index; r < rows; r += b.blocks) {
      const std::int64_t row = first + r, at = targets.at(row);
      const A up = targets.ignored(row) ? A(0) : grad[row], shift = lse[row];
      T* const x = logits + r * classes;
      for (std::int64_t c = static_cast<std::int64_t>(b.thread) * kV; c < classes; c += static_cast<std::int64_t>(b.threads) * kV) {
        const int n = static_cast<int>(classes - c < kV ? classes - c : kV);
        Vector<T> v = load_vector(x + c, n, aligned);
        DTENSOR_UNROLL
        for (int j = 0; j < kV; ++j) {
          const A slope = std::exp(load(v.at[j]) - shift) - (c + j == at ? A(1) : A(0));
          v.at[j] = store<T>(up == 0 ? A(0) : up * slope);
        }
        store_vector(x + c, v, n, aligned);
      }
    }
  }
};

// ---- on the host
constexpr std::int64_t kLogitBytes = std::int64_t{256} << 20, kLeastRows = 128, kMostRows = 8192;

template <class T>
class Chunks {
 public:
  using A = Accumulate<T>;
  Chunks(const Tensor& input, const Tensor& weight)
      : d_(rank_device(weight)),
        input_(input.raw_as<const T>()),
        weight_(weight.raw_as<const T>()),
        classes_(weight.shape()[0]),
        width_(weight.shape()[1]) {
    for (int d = 0; d + 1 < input.ndim(); ++d) rows_ *= input.shape()[d];
    const std::int64_t fit = kLogitBytes / std::max<std::int64_t>(1, classes_ * static_cast<std::int64_t>(sizeof(T)));
    chunk_ = std::min(rows_, std::clamp(fit / kLeastRows * kLeastRows, kLeastRows, kMostRows));
  }
  std::int64_t rows() const { return rows_; }
  std::int64_t classes() const { return classes_; }
  std::int64_t width() const { return width_; }
  const T* weight() const { return weight_; }
  const T* input() const { return input_; }
  RankDevice& device() const { return d_; }
  bool aligned(const T* logits) const { return is_aligned(logits) && classes_ % kVectorOf<T> == 0; }

  /// f(first row, number of rows, logits [rows, classes])
  template <class F>
  void run(const F& f) const {
    const Scratch memory(d_, static_cast<std::size_t>(std::max<std::int64_t>(1, chunk_ * classes_)) * sizeof(T));
    T* const logits = memory.as<T>();
    for (std::int64_t first = 0; first < rows_; first += chunk_) {
      const std::int64_t count = std::min(chunk_, rows_ - first);
      product(count, classes_, width_, {input_ + first * width_, width_, 1, {}}, {weight_, 1, width_, {}}, logits, dtype_of<T>(), nullptr);
      f(first, count, logits);
    }
  }
  void reduce(const char* name, PutRow<T> put) const {
    put.classes = classes_;
    run([&](std::int64_t first, std::int64_t count, const T* logits) {
      put.first = first;
      put.logits = logits;
      run_reduction(name, d_, RowShape(count, classes_).axes(), TypedSource<T, A>{logits}, ExpSums<A, PutRow<T>>{put});
    });
  }
  /// out [m, n] = a b + addend, all row-major but a and b as they say.
  void product(std::int64_t m, std::int64_t n, std::int64_t k, const cpu::MatrixOperand& a, const cpu::MatrixOperand& b, void* out, Dtype out_dtype,
               const void* addend) const {
    cpu::GemmCall g;
    g.dtype = dtype_of<T>();
    g.m = m;
    g.n = n;
    g.k = k;
    g.a = a;
    g.b = b;
    if (addend != nullptr) g.addend = {addend, n, 1, {}};
    g.out = out;
    g.device = d_.device;
    multiply(g, out_dtype);
  }

 private:
  RankDevice& d_;
  const T *input_, *weight_;
  std::int64_t rows_ = 1, classes_, width_, chunk_ = 1;
};

class TargetsOnDevice {
 public:
  TargetsOnDevice(RankDevice& d, const LinearClasses& c, const Tensor& target, bool checked)
      : runs_(d, std::span<const cpu::ClassRun>(c.classes.runs), RunOrder::of_begin),
        targets_{target.raw_as<const std::int64_t>(), runs_.map(), c.ignore_index, c.classes.count, nullptr} {
    if (!checked || target.numel() == 0) return;
    targets_.fault = d.faults.expect(
        d.current, [op = std::string(c.op), count = c.classes.count](std::int64_t value) { return cpu::wrong_target(op, value, count); });
  }
  const Targets& get() const { return targets_; }

 private:
  RunsOnDevice runs_;
  Targets targets_;
};

void linear_row_max(const Tensor& input, const Tensor& weight, const Tensor& top) {
  visit_floating(input.dtype(), [&]<class T>(std::type_identity<T>) {
    Chunks<T>(input, weight).reduce("linear_row_max", {Put::largest, {}, nullptr, top.raw_as<Accumulate<T>>(), nullptr, 0, 0, nullptr});
  });
}

std::optional<std::int64_t> linear_exp_sum(const LinearClasses& c, const Tensor& input, const Tensor& weight, const Tensor& target, const Tensor& top,
                                           const Tensor& sums, const Tensor& logit) {
  visit_floating(input.dtype(), [&]<class T>(std::type_identity<T>) {
    using A = Accumulate<T>;
    const Chunks<T> chunks(input, weight);
    const TargetsOnDevice targets(chunks.device(), c, target, true);
    chunks.reduce("linear_exp_sum", {Put::shifted_sum, targets.get(), top.raw_as<const A>(), sums.raw_as<A>(), logit.raw_as<A>(), 0, 0, nullptr});
  });
  return {};
}

std::optional<std::int64_t> linear_cross_entropy(const LinearClasses& c, const Tensor& input, const Tensor& weight, const Tensor& target,
                                                 const Tensor& loss, const Tensor& lse) {
  visit_floating(input.dtype(), [&]<class T>(std::type_identity<T>) {
    using A = Accumulate<T>;
    const Chunks<T> chunks(input, weight);
    const TargetsOnDevice targets(chunks.device(), c, target, true);
    chunks.reduce("linear_cross_entropy", {Put::loss, targets.get(), nullptr, lse.raw_as<A>(), loss.raw_as<A>(), 0, 0, nullptr});
  });
  return {};
}

void linear_cross_entropy_backward(const LinearClasses& c, const Tensor& grad, const Tensor& input, const Tensor& weight, const Tensor& target,
                                   const Tensor& lse, const Tensor& grad_input, const Tensor& grad_weight) {
  visit_floating(input.dtype(), [&]<class T>(std::type_identity<T>) {
    using A = Accumulate<T>;
    constexpr Dtype kWide = dtype_of<A>();
    const Chunks<T> chunks(input, weight);
    RankDevice& d = chunks.device();
    const TargetsOnDevice targets(d, c, target, false);
    const std::int64_t classes = chunks.classes(), width = chunks.width(), size = classes * width;
    if (size == 0 || chunks.rows() == 0) {
      set_bytes(grad_weight.raw(), 0, static_cast<std::size_t>(size) * sizeof(T), d.current);
      return set_bytes(grad_input.raw(), 0, static_cast<std::size_t>(chunks.rows() * width) * sizeof(T), d.current);
    }
    const bool same = std::is_same_v<A, T>;
    const Scratch sums(d, same ? 1 : static_cast<std::size_t>(size) * sizeof(A));
    void* const total = same ? grad_weight.raw() : sums.as<void>();
    chunks.run([&](std::int64_t first, std::int64_t count, T* logits) {
      const Slopes<T> slopes{targets.get(), first, count, classes, grad.raw_as<const A>(), lse.raw_as<const A>(), logits, chunks.aligned(logits)};
      const std::int64_t threads = std::clamp<std::int64_t>((classes / kVectorOf<T> + kWarp) / kWarp * kWarp, kWarp, Slopes<T>::kMostThreads);
      launch_blocks("linear_cross_entropy_backward", count, static_cast<int>(threads), 0, d.current, slopes);
      chunks.product(count, width, classes, {logits, classes, 1, {}}, {chunks.weight(), width, 1, {}}, grad_input.raw_as<T>() + first * width,
                     dtype_of<T>(), nullptr);
      chunks.product(classes, width, count, {logits, 1, classes, {}}, {chunks.input() + first * width, width, 1, {}}, total, kWide,
                     first > 0 ? total : nullptr);
    });
    const std::int64_t one[1] = {1}, all[1] = {size};
    if (!same) convert_box(grad_weight.raw(), dtype_of<T>(), one, total, kWide, one, all, d.current);
  });
}

}  // namespace

void install_linear_cross_entropy() {
  kernels::linear_row_max.cuda = linear_row_max;
  kernels::linear_exp_sum.cuda = linear_exp_sum;
  kernels::linear_cross_entropy.cuda = linear_cross_entropy;
  kernels::linear_cross_entropy_backward.cuda = linear_cross_entropy_backward;
}

}  // namespace dtensor::local::cuda
