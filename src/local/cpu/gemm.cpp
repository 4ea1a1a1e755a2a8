// SPDX-License-Identifier: Apache-2.0
#include "local/cpu/gemm.h"

#include <algorithm>
#include <memory>
#include <type_traits>

#include "base/error_text.h"
#include "local/cpu/panel.h"
#include "local/cpu/pointwise.h"
#include "local/parallel.h"

namespace dtensor::local::cpu {
namespace {

// One batch element's pointers.
template <class T>
struct Item {
  Strided<const T> a, b, addend;
  T* out;
};

template <class T>
class Product {
 public:
  explicit Product(const GemmCall& call) : c_(call), alpha_(number(call.alpha)), beta_(number(call.beta)) {
    if (beta_ == Sum<T>(0)) c_.addend.data = nullptr;
    small_ = is_small(c_.m, c_.n, c_.k);
    tile_rows_ = c_.m;
    tile_columns_ = c_.n;
    if (!small_) choose_tiles();
    down_ = (c_.m + tile_rows_ - 1) / tile_rows_;
    across_ = (c_.n + tile_columns_ - 1) / tile_columns_;
  }

  void run() const {
    const std::int64_t count = c_.batch.numel() * down_ * across_;
    if (count == 1) return tile(0);
    constexpr std::int64_t kTaskWork = 64 * 1024;  // multiplications worth a task of their own
    const std::int64_t work = std::max<std::int64_t>(1, tile_rows_ * tile_columns_ * std::max<std::int64_t>(1, c_.k));
    parallel_for(count, std::max<std::int64_t>(1, kTaskWork / work), [this](std::int64_t begin, std::int64_t end) {
      for (std::int64_t t = begin; t < end; ++t) tile(t);
    });
  }

 private:
  static Sum<T> number(const Scalar& s) {
    if constexpr (std::is_integral_v<T>) return static_cast<Sum<T>>(s.as_int());
    else return static_cast<Sum<T>>(s.as_double());
  }

  // Tiles depend on sizes only, never on the threads that share them. A tile holds whole sums.
  void choose_tiles() {
    constexpr std::int64_t tile_work = std::int64_t{1} << 21, most = 16, least = 128, unit = 64;
    if constexpr (kIsHalf<T>) {  // bounds the f32 copies of the operands
      tile_rows_ = std::min<std::int64_t>(c_.m, 512);
      tile_columns_ = std::min<std::int64_t>(c_.n, 512);
      return;
    }
    const double work = static_cast<double>(c_.m) * static_cast<double>(c_.n) * static_cast<double>(c_.k);
    const auto parts = static_cast<std::int64_t>(std::min(static_cast<double>(most), work / static_cast<double>(tile_work)));
    if (parts < 2) return;
    std::int64_t& longer = c_.m >= c_.n ? tile_rows_ : tile_columns_;
    longer = std::min(longer, std::max(least, ((longer + parts - 1) / parts + unit - 1) / unit * unit));
  }

  Item<T> item(std::int64_t index) const {
    std::int64_t a = 0, b = 0, addend = 0, rest = index;
    for (int d = c_.batch.ndim() - 1; d >= 0; --d) {
      const std::int64_t i = rest % c_.batch[d];
      rest /= c_.batch[d];
      a += i * c_.a.batch[d];
      b += i * c_.b.batch[d];
      if (c_.addend.data != nullptr) addend += i * c_.addend.batch[d];
    }
    return {at(c_.a, a), at(c_.b, b), c_.addend.data == nullptr ? Strided<const T>{} : at(c_.addend, addend),
            static_cast<T*>(c_.out) + index * c_.m * c_.n};
  }
  static Strided<const T> at(const MatrixOperand& m, std::int64_t offset) { return {static_cast<const T*>(m.data) + offset, m.row, m.column}; }

  void tile(std::int64_t index) const {
    const Item<T> whole = item(index / (down_ * across_));
    const std::int64_t i = index % (down_ * across_) / across_ * tile_rows_, j = index % across_ * tile_columns_;
    const std::int64_t m = std::min(tile_rows_, c_.m - i), n = std::min(tile_columns_, c_.n - j);
    const Item<T> part{block(whole.a, i, 0), block(whole.b, 0, j), block(whole.addend, i, j), whole.out + i * c_.n + j};
    if constexpr (std::is_integral_v<T>) {
      integers(part, m, n);
    } else {
      if (small_) few(part, m, n);
      else large(part, m, n);
    }
  }

  void few(const Item<T>& p, std::int64_t m, std::int64_t n) const {
    using C = Sum<T>;
    T* const out = p.out;
    const std::int64_t ld = c_.n;
    if (p.addend.data == nullptr && alpha_ == C(1)) {
      small_product<C>(m, n, c_.k, p.a, p.b, [out, ld](std::int64_t i, std::int64_t j, C sum) { out[i * ld + j] = static_cast<T>(sum); });
      return;
    }
    const Strided<const T> addend = p.addend;
    small_product<C>(m, n, c_.k, p.a, p.b, [&](std::int64_t i, std::int64_t j, C sum) {
      const C more = addend.data == nullptr ? C(0) : beta_ * static_cast<C>(addend(i, j));
      out[i * ld + j] = static_cast<T>(alpha_ * sum + more);
    });
  }

  void large(const Item<T>& p, std::int64_t m, std::int64_t n) const {
    using C = Sum<T>;
    std::unique_ptr<C[]> scratch;
    C* sums;
    std::int64_t ld = n;
    if constexpr (std::is_same_v<C, T>) {
      sums = p.out;
      ld = c_.n;
    } else {
      scratch.reset(new C[static_cast<std::size_t>(m * n)]);
      sums = scratch.get();
    }
    const bool has_addend = p.addend.data != nullptr;
    if (has_addend)
      for (std::int64_t i = 0; i < m; ++i)
        for (std::int64_t j = 0; j < n; ++j) sums[i * ld + j] = static_cast<C>(p.addend(i, j));
    const Panel<C> a = panel<C>(p.a, m, c_.k), b = panel<C>(p.b, c_.k, n);
    gemm_backend(BackendCall<C>{a.transposed, b.transposed, m, n, c_.k, alpha_, a.data, a.ld, b.data, b.ld, has_addend ? beta_ : C(0), sums, ld});
    if constexpr (!std::is_same_v<C, T>)
      for (std::int64_t i = 0; i < m; ++i)
        for (std::int64_t j = 0; j < n; ++j) p.out[i * c_.n + j] = static_cast<T>(sums[i * n + j]);
  }

  void integers(const Item<T>& p, std::int64_t m, std::int64_t n) const {
    constexpr std::int64_t lanes = 64;
    for (std::int64_t i = 0; i < m; ++i) {
      for (std::int64_t j0 = 0; j0 < n; j0 += lanes) {
        std::uint64_t sum[lanes] = {};
        const std::int64_t columns = std::min(lanes, n - j0);
        for (std::int64_t q = 0; q < c_.k; ++q) {
          const auto factor = static_cast<std::uint64_t>(p.a(i, q));
          for (std::int64_t j = 0; j < columns; ++j) sum[j] += factor * static_cast<std::uint64_t>(p.b(q, j0 + j));
        }
        for (std::int64_t j = 0; j < columns; ++j) {
          const std::uint64_t more = p.addend.data == nullptr ? 0 : beta_ * static_cast<std::uint64_t>(p.addend(i, j0 + j));
          p.out[i * c_.n + j0 + j] = static_cast<T>(alpha_ * sum[j] + more);
        }
      }
    }
  }

  GemmCall c_;
  Sum<T> alpha_, beta_;
  bool small_ = false;
  std::int64_t tile_rows_, tile_columns_, down_, across_;
};

}  // namespace

MatrixOperand matrix_operand(const Tensor& t, const Shape& batch) {
  MatrixOperand o;
  const int n = t.ndim();
  o.data = t.raw();
  o.row = t.strides()[n - 2];
  o.column = t.strides()[n - 1];
  for (int d = 0; d < batch.ndim(); ++d) {
    const int at = d - batch.ndim() + n - 2;
    o.batch.push_back(at < 0 || (t.shape()[at] == 1 && batch[d] != 1) ? 0 : t.strides()[at]);
  }
  return o;
}

void fold_batch(GemmCall& c) {
  const bool has_addend = c.addend.data != nullptr;
  while (!c.batch.empty()) {
    const std::int64_t size = c.batch.back(), a = c.a.batch.back(), b = c.b.batch.back(), addend = has_addend ? c.addend.batch.back() : 0;
    if (size != 1) {
      if (b != 0) return;
      if (c.m == 1) {
        c.a.row = a;
        c.addend.row = addend;
      } else if (a != c.m * c.a.row || (has_addend && addend != c.m * c.addend.row)) {
        return;
      }
      c.m *= size;
    }
    c.batch.pop_back();
    c.a.batch.pop_back();
    c.b.batch.pop_back();
    if (has_addend) c.addend.batch.pop_back();
  }
}

void gemm(GemmCall call) {
  if (call.m == 0 || call.n == 0 || call.batch.numel() == 0) return;
  fold_batch(call);
  switch (call.dtype) {
    case Dtype::f64:
      return Product<double>(call).run();
    case Dtype::f32:
      return Product<float>(call).run();
    case Dtype::bf16:
      return Product<BFloat16>(call).run();
    case Dtype::f16:
      return Product<Half>(call).run();
    case Dtype::i64:
      return Product<std::int64_t>(call).run();
    case Dtype::i32:
      return Product<std::int32_t>(call).run();
    case Dtype::u8:
      return Product<std::uint8_t>(call).run();
    case Dtype::boolean:
      base::fail<InternalError>("gemm: bool operands reached the kernel (dtype bool); the op must refuse them");
  }
}

void linear_gelu(GemmCall call, const Tensor& out, const Tensor* sum) {
  const Tensor& before = sum != nullptr ? *sum : out;
  call.out = before.raw();
  gemm(call);
  unary(Unary::gelu_tanh, before, out);
}

}  // namespace dtensor::local::cpu
