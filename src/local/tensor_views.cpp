// SPDX-License-Identifier: Apache-2.0
#include <optional>

#include "base/error_text.h"
#include "dtensor/tensor.h"
#include "local/storage.h"

namespace dtensor {

namespace {

// One size may be -1: what is left.
Shape resolve(const Shape& from, const Shape& to, const char* op) {
  Shape shape = to;
  int open = -1;
  std::int64_t known = 1;
  for (int d = 0; d < to.ndim(); ++d) {
    if (to[d] == -1 && open < 0) {
      open = d;
    } else if (to[d] < 0 || __builtin_mul_overflow(known, to[d], &known)) {
      base::fail<InvalidArgument>("{}: not a shape (from {}, to {}); sizes are 0 or more, at most one -1", op, to_string(from), to_string(to));
    }
  }
  const std::int64_t numel = from.numel();
  if (open >= 0 && known != 0 && numel % known == 0) shape[open] = numel / known;
  if (shape.numel() != numel || (open >= 0 && shape[open] < 0))
    base::fail<InvalidArgument>("{}: numbers of elements differ (from {} = {}, to {}); keep the product of the sizes", op, to_string(from), numel,
                                to_string(to));
  return shape;
}

// Strides of `to` over the same elements in the same order, none when that needs a copy.
std::optional<Shape> view_strides(const Shape& from, const Shape& strides, const Shape& to) {
  if (from.numel() == 0) return contiguous_strides(to);
  Shape result = Shape::filled(to.ndim(), 1);
  int t = to.ndim() - 1;
  // A run: neighbouring dims of `from` that step through memory evenly. Dims of `to` must each lie in one run.
  std::int64_t run = 1, step = strides.empty() ? 1 : strides.back();
  for (int f = from.ndim() - 1; f >= 0; --f) {
    run *= from[f];
    if (f > 0 && (from[f - 1] == 1 || strides[f - 1] == run * step)) continue;
    std::int64_t inside = 1;
    for (; t >= 0 && (inside < run || to[t] == 1); --t) {
      result[t] = inside * step;
      inside *= to[t];
    }
    if (inside != run) return std::nullopt;
    run = 1;
    if (f > 0) step = strides[f - 1];
  }
  return result;
}

}  // namespace

Tensor Tensor::with(const Shape& shape, const Shape& strides, std::int64_t offset) const {
  Tensor result(*this);
  result.shape_ = shape;
  result.strides_ = strides;
  result.offset_ = offset;
  return result;
}

Tensor Tensor::as_strided(const Shape& shape, const Shape& strides, std::int64_t offset) const {
  const auto refuse = [&](const char* why) {
    base::fail<InvalidArgument>("as_strided: {} (shape {}, strides {}, offset {}, storage {} {} elements); stay within the storage", why,
                                to_string(shape), to_string(strides), offset,
                                storage_->buffer().bytes() / static_cast<std::size_t>(info(dtype_).bytes), to_string(dtype_));
  };
  if (shape.ndim() != strides.ndim()) refuse("one stride per dim is needed");
  if (offset < 0) refuse("the offset is negative");
  std::int64_t last = offset;
  bool empty = false;
  for (int d = 0; d < shape.ndim(); ++d) {
    if (shape[d] < 0 || strides[d] < 0) refuse("sizes and strides are 0 or more");
    empty = empty || shape[d] == 0;
    std::int64_t reach = 0;
    if (!empty && (__builtin_mul_overflow(shape[d] - 1, strides[d], &reach) || __builtin_add_overflow(last, reach, &last)))
      refuse("more elements than can be addressed");
  }
  const auto elements = static_cast<std::int64_t>(storage_->buffer().bytes() / static_cast<std::size_t>(info(dtype_).bytes));
  if (empty ? offset > elements : last >= elements) refuse("it would leave the storage");
  return with(shape, strides, offset);
}

Tensor Tensor::narrow(int dim, std::int64_t start, std::int64_t length) const {
  const int d = normalize_dim(dim, ndim(), "narrow");
  if (start < 0 || length < 0 || start > shape_[d] - length)
    base::fail<InvalidArgument>("narrow: the range leaves the dim (start {}, length {}, dim {} of {} has {}); stay within it", start, length, d,
                                to_string(shape_), shape_[d]);
  Shape shape = shape_;
  shape[d] = length;
  // An empty part stays inside the storage.
  return with(shape, strides_, length == 0 ? offset_ : offset_ + start * strides_[d]);
}

Tensor Tensor::transpose(int a, int b) const {
  const int i = normalize_dim(a, ndim(), "transpose"), j = normalize_dim(b, ndim(), "transpose");
  Shape shape = shape_, strides = strides_;
  std::swap(shape[i], shape[j]);
  std::swap(strides[i], strides[j]);
  return with(shape, strides, offset_);
}

Tensor Tensor::permute(const Shape& order) const {
  Shape shape = shape_, strides = strides_;
  unsigned seen = 0;
  for (int d = 0; d < order.ndim() && order.ndim() == ndim(); ++d) {
    const int from = normalize_dim(static_cast<int>(order[d]), ndim(), "permute");
    seen |= 1u << from;
    shape[d] = shape_[from];
    strides[d] = strides_[from];
  }
  if (order.ndim() != ndim() || seen != (1u << ndim()) - 1u)
    base::fail<InvalidArgument>("permute: the order does not name every dim once (order {}, shape {}); give each of 0 to {} once", to_string(order),
                                to_string(shape_), ndim() - 1);
  return with(shape, strides, offset_);
}

Tensor Tensor::expand(const Shape& shape) const {
  const int more = shape.ndim() - ndim();
  Shape sizes = shape, strides = Shape::filled(shape.ndim(), 0);
  bool fits = more >= 0;
  for (int d = 0; fits && d < shape.ndim(); ++d) {
    const std::int64_t own = d < more ? 1 : shape_[d - more];
    if (shape[d] == -1 && d >= more) sizes[d] = own;
    fits = sizes[d] >= 0 && (own == 1 || own == sizes[d]);
    if (d >= more && own == sizes[d]) strides[d] = strides_[d - more];
  }
  if (!fits)
    base::fail<InvalidArgument>("expand: only dims of size 1 grow (from {}, to {}); dims are compared from the last, -1 keeps one", to_string(shape_),
                                to_string(shape));
  return with(sizes, strides, offset_);
}

Tensor Tensor::view(const Shape& shape) const {
  const Shape sizes = resolve(shape_, shape, "view");
  const std::optional<Shape> strides = view_strides(shape_, strides_, sizes);
  if (!strides)
    base::fail<InvalidArgument>("view: the strides do not allow it (shape {}, strides {}, to {}); use reshape, which copies", to_string(shape_),
                                to_string(strides_), to_string(sizes));
  return with(sizes, *strides, offset_);
}

Tensor Tensor::reshape(const Shape& shape) const {
  const Shape sizes = resolve(shape_, shape, "reshape");
  if (const std::optional<Shape> strides = view_strides(shape_, strides_, sizes)) return with(sizes, *strides, offset_);
  const Tensor copy = clone();
  return copy.with(sizes, contiguous_strides(sizes), 0);
}

}  // namespace dtensor
