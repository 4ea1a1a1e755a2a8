// SPDX-License-Identifier: Apache-2.0
#include "local/cpu/attention.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <type_traits>
#include <vector>

#include "base/error_text.h"
#include "local/cpu/exponentials.h"
#include "local/cpu/panel.h"
#include "local/parallel.h"
#include "local/strided.h"

namespace dtensor::local::cpu {
namespace {

constexpr std::int64_t kQueries = 64;  // rows of a block
constexpr std::int64_t kKeys = 128;    // columns of a block, and the fixed length of a row of scores: no element falls into a loop's tail

// Of each query row the keys that it sees, which are the first ones.
std::vector<std::int64_t> keys_seen(const AttentionCall& call) {
  const std::int64_t s = call.key.shape()[2];
  std::vector<std::int64_t> before{0}, seen;  // keys before each run of columns
  for (const GlobalRun& r : call.columns) before.push_back(before.back() + r.length);
  seen.reserve(static_cast<std::size_t>(length_of(call.rows)));
  for_each_number(call.rows, [&](std::int64_t row) {
    const std::int64_t last = row + call.offset;
    if (call.columns.empty()) return seen.push_back(std::clamp<std::int64_t>(last + 1, 0, s));
    const auto after =
        std::upper_bound(call.columns.begin(), call.columns.end(), last, [](std::int64_t n, const GlobalRun& r) { return n < r.begin; });
    if (after == call.columns.begin()) return seen.push_back(0);
    const GlobalRun& r = *std::prev(after);
    seen.push_back(before[static_cast<std::size_t>(after - call.columns.begin()) - 1] + std::min(r.length, last - r.begin + 1));
  });
  return seen;
}

template <class C>
constexpr C kMinusInfinity = -std::numeric_limits<C>::infinity();

template <class C>
C row_dot(const C* a, const C* b) {
  return sum_terms<C>(kKeys, [a, b](std::int64_t i) { return a[i] * b[i]; });
}

template <class C, class M>
void add_mask_row(const M* mask, std::int64_t stride, std::int64_t n, C* s) {
  for (std::int64_t j = 0; j < n; ++j) {
    if constexpr (std::is_same_v<M, bool>) {
      if (!mask[j * stride]) s[j] = kMinusInfinity<C>;
    } else if constexpr (kIsHalf<M>) {
      s[j] += static_cast<C>(static_cast<float>(mask[j * stride]));
    } else {
      s[j] += static_cast<C>(mask[j * stride]);
    }
  }
}

// A matrix of a [b, h, rows, columns] tensor.
template <class T>
Strided<const T> matrix(const Tensor& t, std::int64_t b, std::int64_t h) {
  const Shape& s = t.strides();
  const auto* data = static_cast<const T*>(t.raw());
  return {data == nullptr ? nullptr : data + b * s[0] + h * s[1], s[2], s[3]};
}

template <class T>
class Attention {
 public:
  using C = Sum<T>;
  explicit Attention(const AttentionCall& call)
      : c_(call),
        h_(call.query.shape()[1]),
        t_(call.query.shape()[2]),
        d_(call.query.shape()[3]),
        s_(call.key.shape()[2]),
        e_(call.value.shape()[3]) {
    if (call.causal) seen_ = keys_seen(call);
  }

  void forward(const Tensor& out, const Tensor& logsumexp) const {
    const std::int64_t blocks = (t_ + kQueries - 1) / kQueries;
    parallel_for(c_.query.shape()[0] * h_ * blocks, 1, [&](std::int64_t begin, std::int64_t end) {
      Scratch scratch(e_);
      for (std::int64_t i = begin; i < end; ++i) {
        const std::int64_t head = i / blocks;
        forward_block(head / h_, head % h_, i % blocks * kQueries, out, logsumexp, scratch);
      }
    });
  }

  void backward(const Tensor& grad, const Tensor& out, const Tensor& logsumexp, const AttentionGradients& g) const {
    const std::int64_t kv = c_.key.shape()[1];
    parallel_for(c_.query.shape()[0] * kv, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) backward_head(i / kv, i % kv, grad, out, logsumexp, g);
    });
  }

 private:
  struct Scratch {
    explicit Scratch(std::int64_t width) : scores(kQueries * kKeys), sums(static_cast<std::size_t>(kQueries * width)) {}
    std::vector<C> scores, sums;
    C top[kQueries], total[kQueries];
  };

  std::int64_t visible(std::int64_t row) const { return c_.causal ? seen_[static_cast<std::size_t>(row)] : s_; }
  std::int64_t visible(std::int64_t row, std::int64_t rows) const {
    std::int64_t most = 0;
    for (std::int64_t i = 0; i < rows; ++i) most = std::max(most, visible(row + i));
    return most;
  }

  static void product(bool ta, bool tb, std::int64_t m, std::int64_t n, std::int64_t k, C alpha, const Panel<C>& a, const Panel<C>& b, C beta, C* c,
                      std::int64_t ldc) {
    multiply(BackendCall<C>{a.transposed != ta, b.transposed != tb, m, n, k, alpha, a.data, a.ld, b.data, b.ld, beta, c, ldc});
  }

  // Scores of query rows i.. against keys j.., -inf where a key is not seen and beyond the last one.
  void scores(std::int64_t b, std::int64_t h, std::int64_t i, std::int64_t rows, std::int64_t j, std::int64_t n, const Panel<C>& q, const Panel<C>& k,
              C* s) const {
    product(false, true, rows, n, d_, static_cast<C>(c_.scale), q, k, C(0), s, kKeys);
    for (std::int64_t r = 0; r < rows; ++r) {
      C* row = s + r * kKeys;
      const std::int64_t seen = std::clamp<std::int64_t>(visible(i + r) - j, 0, n);
      if (c_.mask) add_mask(b, h, i + r, j, seen, row);
      std::fill(row + seen, row + kKeys, kMinusInfinity<C>);
    }
  }

  void add_mask(std::int64_t b, std::int64_t h, std::int64_t i, std::int64_t j, std::int64_t n, C* row) const {
    const std::int64_t at[4] = {b, h, i, j};
    std::int64_t offset = 0, stride = 0;
    for (int dim = 0; dim < c_.mask.ndim(); ++dim) {
      if (c_.mask.shape()[dim] == 1) continue;
      const std::int64_t step = c_.mask.strides()[dim];
      offset += step * at[dim + 4 - c_.mask.ndim()];
      if (dim == c_.mask.ndim() - 1) stride = step;
    }
    switch (c_.mask.dtype()) {
      case Dtype::boolean:
        return add_mask_row(c_.mask.raw_as<bool>() + offset, stride, n, row);
      case Dtype::f64:
        return add_mask_row(c_.mask.raw_as<double>() + offset, stride, n, row);
      case Dtype::f32:
        return add_mask_row(c_.mask.raw_as<float>() + offset, stride, n, row);
      case Dtype::bf16:
        return add_mask_row(c_.mask.raw_as<BFloat16>() + offset, stride, n, row);
      case Dtype::f16:
        return add_mask_row(c_.mask.raw_as<Half>() + offset, stride, n, row);
      default:
        base::fail<InternalError>("attention: a mask of {} reached the kernel (bool or floating); the op must refuse it", to_string(c_.mask.dtype()));
    }
  }

  void forward_block(std::int64_t b, std::int64_t h, std::int64_t i, const Tensor& out, const Tensor& logsumexp, Scratch& w) const {
    const std::int64_t rows = std::min(kQueries, t_ - i), g = c_.kv_heads[static_cast<std::size_t>(h)];
    const Panel<C> q = panel<C>(block(matrix<T>(c_.query, b, h), i, 0), rows, d_);
    begin_rows((b * h_ + h) * t_ + i, rows, w);
    const std::int64_t last = visible(i, rows);
    for (std::int64_t j = 0; j < last; j += kKeys) {
      const std::int64_t n = std::min(kKeys, last - j);
      const Panel<C> k = panel<C>(block(matrix<T>(c_.key, b, g), j, 0), n, d_), v = panel<C>(block(matrix<T>(c_.value, b, g), j, 0), n, e_);
      scores(b, h, i, rows, j, n, q, k, w.scores.data());
      for (std::int64_t r = 0; r < rows; ++r) absorb_row(r, w);
      product(false, false, rows, e_, n, C(1), {w.scores.data(), kKeys, false, nullptr}, v, C(1), w.sums.data(), e_);
    }
    C* lse = logsumexp.raw_as<C>() + (b * h_ + h) * t_ + i;
    for (std::int64_t r = 0; r < rows; ++r) {
      const C total = w.total[r], factor = total == C(0) ? C(0) : C(1) / total;
      for (std::int64_t x = 0; x < e_; ++x) w.sums[static_cast<std::size_t>(r * e_ + x)] *= factor;
      lse[r] = total == C(0) ? kMinusInfinity<C> : w.top[r] + std::log(total);
    }
    store(w.sums.data(), rows * e_, out, ((b * h_ + h) * t_ + i) * e_, false);
  }

  // Rows begin with nothing seen, or with what the call brings: its out is a sum whose weights add up to one.
  void begin_rows(std::int64_t first, std::int64_t rows, Scratch& w) const {
    std::fill_n(w.top, kQueries, kMinusInfinity<C>);
    std::fill_n(w.total, kQueries, C(0));
    std::fill(w.sums.begin(), w.sums.end(), C(0));
    if (!c_.logsumexp) return;
    std::copy_n(c_.logsumexp.raw_as<C>() + first, rows, w.top);
    for (std::int64_t r = 0; r < rows; ++r) w.total[r] = w.top[r] == kMinusInfinity<C> ? C(0) : C(1);
    std::copy_n(c_.out.raw_as<C>() + first * e_, rows * e_, w.sums.data());
  }

  // Turns a row of scores into weights relative to the greatest score so far and rescales what was summed before.
  void absorb_row(std::int64_t r, Scratch& w) const {
    C* row = w.scores.data() + r * kKeys;
    const C top = std::max(w.top[r], max_of(row, kKeys));
    if (top == kMinusInfinity<C>) {
      w.total[r] += exponentials(row, kKeys, C(0), row);  // -inf becomes 0, NaN stays
      return;
    }
    if (top != w.top[r]) {
      const C factor = w.top[r] == kMinusInfinity<C> ? C(0) : vexp_negative(w.top[r] - top);
      w.total[r] *= factor;
      for (std::int64_t x = 0; x < e_; ++x) w.sums[static_cast<std::size_t>(r * e_ + x)] *= factor;
      w.top[r] = top;
    }
    w.total[r] += exponentials(row, kKeys, top, row);
  }

  struct Head {
    Panel<C> k, v;
    std::vector<C> dk, dv;
  };

  void backward_head(std::int64_t b, std::int64_t g, const Tensor& grad, const Tensor& out, const Tensor& logsumexp,
                     const AttentionGradients& result) const {
    Head head{panel<C>(matrix<T>(c_.key, b, g), s_, d_), panel<C>(matrix<T>(c_.value, b, g), s_, e_),
              std::vector<C>(static_cast<std::size_t>(s_ * d_)), std::vector<C>(static_cast<std::size_t>(s_ * e_))};
    for (std::int64_t h = 0; h < h_; ++h) {
      if (c_.kv_heads[static_cast<std::size_t>(h)] != g) continue;
      for (std::int64_t i = 0; i < t_; i += kQueries) backward_block(b, h, i, grad, out, logsumexp, result, head);
    }
    const std::int64_t kv = c_.key.shape()[1];
    store(head.dk.data(), s_ * d_, result.key, (b * kv + g) * s_ * d_, false);
    store(head.dv.data(), s_ * e_, result.value, (b * kv + g) * s_ * e_, false);
  }

  // To a tensor of the operands' type or of the type of the sums.
  static void store(const C* from, std::int64_t n, const Tensor& tensor, std::int64_t offset, bool add) {
    if (tensor.dtype() == dtype_of<C>()) {
      C* to = tensor.raw_as<C>() + offset;
      for (std::int64_t x = 0; x < n; ++x) to[x] = add ? to[x] + from[x] : from[x];
    } else {
      T* to = tensor.raw_as<T>() + offset;
      for (std::int64_t x = 0; x < n; ++x) to[x] = static_cast<T>(from[x]);
    }
  }
  static Panel<C> rows_of(const Panel<C>& p, std::int64_t j) { return {p.data + (p.transposed ? j : j * p.ld), p.ld, p.transposed, nullptr}; }

  void backward_block(std::int64_t b, std::int64_t h, std::int64_t i, const Tensor& grad, const Tensor& out, const Tensor& logsumexp,
                      const AttentionGradients& result, Head& head) const {
    const std::int64_t rows = std::min(kQueries, t_ - i), last = visible(i, rows);
    const Panel<C> q = panel<C>(block(matrix<T>(c_.query, b, h), i, 0), rows, d_);
    const Strided<const T> go = block(matrix<T>(grad, b, h), i, 0), o = block(matrix<T>(out, b, h), i, 0);
    const Panel<C> up = panel<C>(go, rows, e_);
    // Rows within one block are normalised anew: the slopes of a row then add up to 0 but for their own rounding, not that of out and logsumexp, as
    // the gradient of what is added to all keys needs.
    const bool one_block = c_.whole_rows && last <= kKeys;
    C dot[kQueries], lse[kQueries];
    for (std::int64_t r = 0; r < rows; ++r) {
      dot[r] = 0;
      for (std::int64_t x = 0; x < e_ && !one_block; ++x) dot[r] += static_cast<C>(go(r, x)) * static_cast<C>(o(r, x));
      lse[r] = logsumexp.raw_as<C>()[b * logsumexp.strides()[0] + h * logsumexp.strides()[1] + (i + r) * logsumexp.strides()[2]];
    }
    std::vector<C> weights(kQueries * kKeys), slopes(kQueries * kKeys), dq(static_cast<std::size_t>(rows * d_));
    const Panel<C> p{weights.data(), kKeys, false, nullptr}, ds{slopes.data(), kKeys, false, nullptr};
    const C scale = static_cast<C>(c_.scale);
    for (std::int64_t j = 0; j < last; j += kKeys) {
      const std::int64_t n = std::min(kKeys, last - j);
      const Panel<C> k = rows_of(head.k, j), v = rows_of(head.v, j);
      scores(b, h, i, rows, j, n, q, k, weights.data());
      for (std::int64_t r = 0; r < rows; ++r) {
        const C total = weights_of_row(weights.data() + r * kKeys, lse[r]);
        if (one_block && total != C(0)) divide_row(weights.data() + r * kKeys, total);
      }
      product(true, false, n, e_, rows, C(1), p, up, C(1), head.dv.data() + j * e_, e_);
      product(false, true, rows, n, e_, C(1), up, v, C(0), slopes.data(), kKeys);
      for (std::int64_t r = 0; r < rows && one_block; ++r) dot[r] = row_dot(weights.data() + r * kKeys, slopes.data() + r * kKeys);
      for (std::int64_t r = 0; r < rows; ++r)
        for (std::int64_t x = r * kKeys; x < r * kKeys + kKeys; ++x)
          slopes[static_cast<std::size_t>(x)] = weights[static_cast<std::size_t>(x)] * (slopes[static_cast<std::size_t>(x)] - dot[r]);
      product(false, false, rows, d_, n, scale, ds, k, C(1), dq.data(), d_);
      product(true, false, n, d_, rows, scale, ds, q, C(1), head.dk.data() + j * d_, d_);
    }
    store(dq.data(), rows * d_, result.query, ((b * h_ + h) * t_ + i) * d_, result.add_to_query);
  }

  // The sum of the weights.
  static C weights_of_row(C* row, C logsumexp) {
    if (logsumexp != kMinusInfinity<C>) return exponentials(row, kKeys, logsumexp, row);
    std::fill_n(row, kKeys, C(0));
    return C(0);
  }
  static void divide_row(C* row, C by) {
    for (std::int64_t k = 0; k < kKeys; ++k) row[k] /= by;
  }

  const AttentionCall& c_;
  std::int64_t h_, t_, d_, s_, e_;
  std::vector<std::int64_t> seen_;
};

}  // namespace

void attention(const AttentionCall& call, const Tensor& out, const Tensor& logsumexp) {
  if (call.query.shape()[0] * call.query.shape()[1] * call.query.shape()[2] == 0) return;
  visit_floating(call.query.dtype(), [&]<class T>(std::type_identity<T>) { Attention<T>(call).forward(out, logsumexp); });
}

void attention_backward(const AttentionCall& call, const Tensor& grad, const Tensor& out, const Tensor& logsumexp,
                        const AttentionGradients& gradients) {
  visit_floating(call.query.dtype(), [&]<class T>(std::type_identity<T>) { Attention<T>(call).backward(grad, out, logsumexp, gradients); });
}

std::int64_t attention_blocks(const AttentionCall& call) {
  const std::int64_t t = length_of(call.rows), s = call.key.shape()[2];
  const std::vector<std::int64_t> seen = call.causal ? keys_seen(call) : std::vector(static_cast<std::size_t>(t), s);
  std::int64_t blocks = 0;
  for (std::int64_t i = 0; i < t; i += kQueries)
    blocks += (*std::max_element(seen.begin() + i, seen.begin() + std::min(t, i + kQueries)) + kKeys - 1) / kKeys;
  return blocks;
}

}  // namespace dtensor::local::cpu
