// SPDX-License-Identifier: Apache-2.0
#include "local/cuda/gemm.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <vector>

#include "local/cuda/boxes.h"
#include "local/cuda/launched.h"
#include "local/cuda/product_cache.h"
#include "local/cuda/tiled_product.h"
#include "local/kernels/gemm.h"
#include "local/kernels/pointwise.h"
#include "local/precision.h"

namespace dtensor::local::cuda {
namespace {

using cpu::GemmCall;
using cpu::MatrixOperand;

const void* moved(const void* data, std::int64_t elements, Dtype dtype) { return static_cast<const std::byte*>(data) + elements * info(dtype).bytes; }

class Product {
 public:
  Product(const GemmCall& call, Dtype out_dtype) : d_(rank_device(call.device)), c_(call), out_dtype_(out_dtype) {
    cpu::fold_batch(c_);
    if (c_.beta.as_double() == 0) c_.addend.data = nullptr;
    if (c_.addend.data == nullptr) c_.addend.batch = Shape::filled(c_.batch.ndim(), 0);
  }

  void run() {
    if (info(c_.dtype).integral || c_.k == 0) return tiled();
    if (calls() > kMostCalls) {  // copies cost less than so many launches
      copy_runs(c_.a, c_.m, c_.k);
      copy_runs(c_.b, c_.k, c_.n);
    }
    describe();
    if (c_.addend.data != nullptr && !takes_bias()) {
      if (!takes_addend()) copy_addend();
      shape_.has_c = true;
      shape_.c = {.ld = c_.m == 1 ? c_.n : c_.addend.row};
    }
    batches();
  }
  /// gelu of it as part of the call, `sum` (may be null) with what it is taken of. False: it was not done.
  bool run_gelu(void* sum) {
    const auto by_packs = [](const void* address) { return reinterpret_cast<std::uintptr_t>(address) % 16 == 0; };
    if (!info(c_.dtype).floating || c_.dtype == Dtype::f64 || c_.k == 0 || product_batch(c_).ndim != 0) return false;
    if ((c_.addend.data != nullptr && !takes_bias()) || (sum != nullptr && (c_.n % 8 != 0 || !by_packs(sum)))) return false;
    describe();
    shape_.gelu = true;
    shape_.keeps_sum = sum != nullptr;
    ProductPointers p{.a = c_.a.data, .b = c_.b.data, .out = c_.out, .sum = sum};
    if (shape_.has_bias) p.bias = c_.addend.data;
    return by_library(shape_, p);
  }

 private:
  static constexpr std::int64_t kMostCalls = 64;

  void describe() {
    shape_.dtype = c_.dtype;
    shape_.out_dtype = out_dtype_;
    shape_.m = c_.m;
    shape_.n = c_.n;
    shape_.k = c_.k;
    shape_.tf32 = c_.dtype == Dtype::f32 && matmul_precision() == MatmulPrecision::high;
    shape_.a = matrix(c_.a, c_.m, c_.k);
    shape_.b = matrix(c_.b, c_.k, c_.n);
    shape_.out = {.ld = c_.n};
  }

  std::int64_t calls() const {
    const ProductBatch batch = product_batch(c_);
    const int inner = batch.longest();
    return inner < 0 ? 1 : batch.numel() / batch.sizes[static_cast<std::size_t>(inner)];
  }

  void tiled() const {
    TiledProduct t = tiled_call();
    const ProductBatch batch = product_batch(c_);
    t.a = {c_.a.data, c_.a.row, c_.a.column, batch.strides[0]};
    t.b = {c_.b.data, c_.b.row, c_.b.column, batch.strides[1]};
    t.c = {c_.addend.data, c_.addend.row, c_.addend.column, batch.strides[2]};
    t.batch_dims = batch.ndim;
    t.batch = batch.sizes;
    t.out = c_.out;
    tiled_product(t, d_.current);
  }
  TiledProduct tiled_call() const {
    TiledProduct t;
    t.dtype = c_.dtype;
    t.out_dtype = out_dtype_;
    t.m = c_.m;
    t.n = c_.n;
    t.k = c_.k;
    t.alpha = c_.alpha;
    t.beta = c_.beta;
    return t;
  }

  // ---- copies
  // The matrices of `o`, those that repeat in the batch once unless `all`, become row-major ones.
  void copy(MatrixOperand& o, std::int64_t rows, std::int64_t columns, bool all) {
    std::vector<std::int64_t> sizes, to, from;
    Shape batch = Shape::filled(c_.batch.ndim(), 0);
    std::int64_t count = rows * columns;
    for (int d = c_.batch.ndim() - 1; d >= 0; --d) {
      const std::int64_t size = all || o.batch[d] != 0 ? c_.batch[d] : 1;
      sizes.push_back(size);
      to.push_back(count);
      from.push_back(o.batch[d]);
      if (size > 1) batch[d] = count;
      count *= size;
    }
    for (auto* list : {&sizes, &to, &from}) std::reverse(list->begin(), list->end());
    sizes.insert(sizes.end(), {rows, columns});
    to.insert(to.end(), {columns, 1});
    from.insert(from.end(), {o.row, o.column});
    copies_.emplace_back(d_, static_cast<std::size_t>(count * info(c_.dtype).bytes));
    void* const memory = copies_.back().as<void>();
    convert_box(memory, c_.dtype, to, o.data, c_.dtype, from, sizes, d_.current);
    o = {.data = memory, .row = columns, .column = 1, .batch = batch};
  }
  // As one run over the batch, if it is none.
  void copy_runs(MatrixOperand& o, std::int64_t rows, std::int64_t columns) {
    GemmCall alone = c_;
    alone.a = alone.b = o;
    alone.addend.data = nullptr;
    if (product_batch(alone).ndim > 1) copy(o, rows, columns, true);
  }
  ProductMatrix matrix(MatrixOperand& o, std::int64_t rows, std::int64_t columns) {
    if (const auto lies = product_matrix(rows, columns, o.row, o.column)) return *lies;
    copy(o, rows, columns, false);
    return {.ld = columns};
  }
  void copy_addend() {
    std::vector<std::int64_t> sizes, to, from;
    std::int64_t count = c_.m * c_.n;
    Shape batch = c_.batch;
    for (int d = c_.batch.ndim() - 1; d >= 0; --d) {
      batch[d] = count;
      count *= c_.batch[d];
    }
    for (int d = 0; d < c_.batch.ndim(); ++d) {
      sizes.push_back(c_.batch[d]);
      to.push_back(batch[d]);
      from.push_back(c_.addend.batch[d]);
    }
    sizes.insert(sizes.end(), {c_.m, c_.n});
    to.insert(to.end(), {c_.n, 1});
    from.insert(from.end(), {c_.addend.row, c_.addend.column});
    convert_box(c_.out, out_dtype_, to, c_.addend.data, out_dtype_, from, sizes, d_.current);
    c_.addend = {.data = c_.out, .row = c_.n, .column = 1, .batch = batch};
  }

  // ---- the addend: one row for all, matrices like those of out, or what is copied there first
  bool takes_bias() {
    const MatrixOperand& o = c_.addend;
    bool one = (c_.m == 1 || o.row == 0) && (c_.n == 1 || o.column == 1) && c_.beta.as_double() == 1;
    for (int d = 0; d < c_.batch.ndim(); ++d) one = one && (c_.batch[d] == 1 || o.batch[d] == 0);
    // An epilogue may read the row 16 bytes at a time, and no preference says how it lies.
    shape_.has_bias = one && c_.dtype != Dtype::f64 && out_dtype_ == c_.dtype && reinterpret_cast<std::uintptr_t>(o.data) % 16 == 0;
    return shape_.has_bias;
  }
  bool takes_addend() const {
    const MatrixOperand& o = c_.addend;
    bool fits = (c_.n == 1 || o.column == 1) && (c_.m == 1 || o.row >= c_.n);
    for (int d = 0; d < c_.batch.ndim(); ++d) fits = fits && (c_.batch[d] == 1 || o.batch[d] > 0);
    return fits;
  }

  // ---- calls
  void batches() {
    const ProductBatch batch = product_batch(c_);
    const int inner = batch.longest();
    const std::int64_t length = inner < 0 ? 1 : batch.sizes[static_cast<std::size_t>(inner)], count = batch.numel() / length;
    const auto along = [&](std::size_t operand) { return inner < 0 ? 0 : batch.strides[operand][static_cast<std::size_t>(inner)]; };
    shape_.a.batch = along(0);
    shape_.b.batch = along(1);
    shape_.c.batch = shape_.has_c ? along(2) : 0;
    shape_.out.batch = along(3);
    for (std::int64_t i = 0; i < count; ++i) {
      std::array<std::int64_t, 4> offsets{};
      std::int64_t rest = i;
      for (int d = batch.ndim - 1; d >= 0; --d) {
        if (d == inner) continue;
        const auto dim = static_cast<std::size_t>(d);
        for (std::size_t o = 0; o < 4; ++o) offsets[o] += rest % batch.sizes[dim] * batch.strides[o][dim];
        rest /= batch.sizes[dim];
      }
      for (std::int64_t first = 0; first < length; first += kMostProducts) {
        shape_.count = std::min(kMostProducts, length - first);
        const auto at = [&](std::size_t o) { return offsets[o] + first * along(o); };
        ProductPointers p{.a = moved(c_.a.data, at(0), c_.dtype), .b = moved(c_.b.data, at(1), c_.dtype)};
        p.out = static_cast<std::byte*>(c_.out) + at(3) * info(out_dtype_).bytes;
        if (shape_.has_bias) p.bias = c_.addend.data;
        if (shape_.has_c) p.c = moved(c_.addend.data, at(2), out_dtype_);
        one(p);
      }
    }
  }
  // What the library refuses with an epilogue it may take with the bias as an addend; what it refuses for how the operands lie, of copies of them; and the
  // kernel of this library takes all.
  void one(ProductPointers& p) {
    if (by_library(shape_, p)) return;
    ProductShape plain = shape_;
    if (plain.has_bias) {
      spread_bias(p);
      plain.has_bias = false;
      plain.has_c = true;
      plain.c = plain.out;
      p.c = p.out;
      p.bias = nullptr;
      if (by_library(plain, p)) return;
    }
    if (!lie_plainly()) {
      std::optional<Scratch> a, b;
      ProductShape copied = plain;
      ProductPointers q = p;
      q.a = copied_operand(a, p.a, c_.a, shape_.m, shape_.k, copied.a);
      q.b = copied_operand(b, p.b, c_.b, shape_.k, shape_.n, copied.b);
      if (by_library(copied, q)) return;
    }
    without_library(plain, p);
  }
  bool by_library(ProductShape& shape, ProductPointers& p) {
    shape.a.alignment = alignment_of(p.a);
    shape.b.alignment = alignment_of(p.b);
    shape.out.alignment = alignment_of(p.out);
    if (shape.has_c) shape.c.alignment = alignment_of(p.c);
    ProductCache& cache = device_state<ProductCache>(d_.device);
    const auto plan = cache.find(shape, p);
    if (plan == nullptr) return false;
    std::optional<Scratch> workspace;
    p.workspace = nullptr;
    if (const std::size_t bytes = workspace_of(*plan); bytes != 0) p.workspace = workspace.emplace(d_, bytes).as<void>();
    if (!run_product(cache.library(), *plan, p, c_.alpha.as_double(), shape.has_c ? c_.beta.as_double() : 0, d_.current)) return false;
    check_launch("product");
    return true;
  }
  // The bias in every row of the result.
  void spread_bias(const ProductPointers& p) const {
    const std::int64_t sizes[3] = {shape_.count, shape_.m, shape_.n}, to[3] = {shape_.out.batch, shape_.n, 1}, from[3] = {0, 0, 1};
    convert_box(p.out, out_dtype_, to, p.bias, out_dtype_, from, sizes, d_.current);
  }
  bool lie_plainly() const {
    const auto plain = [](const ProductMatrix& m, std::int64_t rows, std::int64_t columns) {
      return m.alignment >= 16 && m.ld == (m.transposed ? rows : columns) && m.batch % 8 == 0;
    };
    return plain(shape_.a, shape_.m, shape_.k) && plain(shape_.b, shape_.k, shape_.n);
  }
  // Row-major in memory of its own, `matrix` as it lies there.
  const void* copied_operand(std::optional<Scratch>& memory, const void* from, const MatrixOperand& o, std::int64_t rows, std::int64_t columns,
                             ProductMatrix& matrix) const {
    const std::int64_t count = matrix.batch == 0 ? 1 : shape_.count, sizes[3] = {count, rows, columns}, to[3] = {rows * columns, columns, 1},
                       strides[3] = {matrix.batch, o.row, o.column};
    memory.emplace(d_, static_cast<std::size_t>(count * rows * columns * info(c_.dtype).bytes));
    convert_box(memory->as<void>(), c_.dtype, to, from, c_.dtype, strides, sizes, d_.current);
    matrix = {.ld = columns, .batch = count == 1 ? 0 : rows * columns};
    return memory->as<void>();
  }
  void without_library(const ProductShape& shape, const ProductPointers& p) const {
    TiledProduct t = tiled_call();
    t.a = {p.a, c_.a.row, c_.a.column, {shape.a.batch}};
    t.b = {p.b, c_.b.row, c_.b.column, {shape.b.batch}};
    if (shape.has_c) t.c = {p.c, shape.c.ld, 1, {shape.c.batch}};
    t.batch_dims = 1;
    t.batch[0] = shape.count;
    t.out = p.out;
    tiled_product(t, d_.current);
  }

  RankDevice& d_;
  GemmCall c_;
  Dtype out_dtype_;
  ProductShape shape_;
  std::vector<Scratch> copies_;
};

}  // namespace

void multiply(const GemmCall& call, Dtype out_dtype) {
  if (call.m == 0 || call.n == 0 || call.batch.numel() == 0) return;
  Product(call, out_dtype).run();
}

namespace {

void linear_gelu(GemmCall call, const Tensor& out, const Tensor* sum) {
  if (out.numel() == 0) return;
  call.out = out.raw();
  if (Product(call, call.dtype).run_gelu(sum != nullptr ? sum->raw() : nullptr)) return;
  const Tensor& before = sum != nullptr ? *sum : out;
  call.out = before.raw();
  multiply(call, call.dtype);
  kernels::unary(cpu::Unary::gelu_tanh, before, out);
}

}  // namespace

void install_gemm() {
  kernels::gemm.cuda = [](GemmCall call) { multiply(call, call.dtype); };
  kernels::linear_gelu.cuda = linear_gelu;
}

}  // namespace dtensor::local::cuda
