// SPDX-License-Identifier: Apache-2.0
#include "dtensor/values.h"

#include <algorithm>

#include "base/error_text.h"
#include "dtensor/text.h"

namespace dtensor {

namespace {

constexpr std::array<DtypeInfo, kDtypeCount> kDtypes{{
    {"f64", 8, true, false, Dtype::f64},
    {"f32", 4, true, false, Dtype::f32},
    {"bf16", 2, true, false, Dtype::f32},
    {"f16", 2, true, false, Dtype::f32},
    {"i64", 8, false, true, Dtype::i64},
    {"i32", 4, false, true, Dtype::i32},
    {"u8", 1, false, true, Dtype::u8},
    {"bool", 1, false, false, Dtype::boolean},
}};

// Position in bool < u8 < i32 < i64 < (f16, bf16) < f32 < f64.
constexpr int rank_of(Dtype dtype) noexcept {
  switch (dtype) {
    case Dtype::boolean:
      return 0;
    case Dtype::u8:
      return 1;
    case Dtype::i32:
      return 2;
    case Dtype::i64:
      return 3;
    case Dtype::f16:
    case Dtype::bf16:
      return 4;
    case Dtype::f32:
      return 5;
    case Dtype::f64:
      return 6;
  }
  return 0;
}

[[noreturn]] void fail_too_long() {
  base::fail<InvalidArgument>("shape: more than {} values; tensors have at most {} dims, reshape first", kMaxDims, kMaxDims);
}

}  // namespace

const DtypeInfo& info(Dtype dtype) noexcept { return kDtypes[static_cast<std::size_t>(dtype)]; }

std::string to_string(Dtype dtype) { return std::string(info(dtype).name); }

Dtype parse_dtype(std::string_view name) {
  std::string legal;
  for (std::size_t i = 0; i < kDtypes.size(); ++i) {
    if (kDtypes[i].name == name) return static_cast<Dtype>(i);
    legal += i == 0 ? "" : " ";
    legal += kDtypes[i].name;
  }
  base::fail<InvalidArgument>("dtype: '{}' is none; legal are {}", name, legal);
}

Dtype promote(Dtype a, Dtype b) noexcept {
  if (a == b) return a;
  if (rank_of(a) == rank_of(b)) return Dtype::f32;
  return rank_of(a) > rank_of(b) ? a : b;
}

Dtype promote(Dtype dtype, ScalarKind kind) noexcept {
  if (kind == ScalarKind::floating) return info(dtype).floating ? dtype : Dtype::f32;
  if (kind == ScalarKind::integer) return dtype == Dtype::boolean ? Dtype::i64 : dtype;
  return dtype;
}

std::string to_string(Device device) {
  switch (device.kind) {
    case DeviceKind::cpu:
      return "cpu";
    case DeviceKind::cuda:
      return fmt::format("cuda:{}", static_cast<int>(device.index));
    case DeviceKind::meta:
      return "meta";
  }
  return "?";
}

Shape::Shape(std::span<const std::int64_t> values) {
  if (values.size() > static_cast<std::size_t>(kMaxDims)) fail_too_long();
  std::copy(values.begin(), values.end(), values_.begin());
  ndim_ = static_cast<int>(values.size());
}

void Shape::push_back(std::int64_t value) {
  if (ndim_ == kMaxDims) fail_too_long();
  values_[static_cast<std::size_t>(ndim_++)] = value;
}

void Shape::insert(int position, std::int64_t value) {
  if (position < 0 || position > ndim_) base::fail<InvalidArgument>("shape: cannot insert at {} ({} values); use 0 to {}", position, ndim_, ndim_);
  push_back(value);
  std::rotate(begin() + position, end() - 1, end());
}

void Shape::erase(int position) {
  if (position < 0 || position >= ndim_)
    base::fail<InvalidArgument>("shape: cannot erase at {} ({} values); use 0 to {}", position, ndim_, ndim_ - 1);
  std::copy(begin() + position + 1, end(), begin() + position);
  --ndim_;
}

std::string to_string(const Shape& shape) {
  std::string text = "[";
  for (int i = 0; i < shape.ndim(); ++i) {
    if (i > 0) text += ", ";
    text += std::to_string(shape[i]);
  }
  return text + "]";
}

Shape contiguous_strides(const Shape& shape) noexcept {
  Shape strides = shape;
  std::int64_t stride = 1;
  for (int i = shape.ndim() - 1; i >= 0; --i) {
    strides[i] = stride;
    stride *= std::max<std::int64_t>(1, shape[i]);
  }
  return strides;
}

int normalize_dim(int dim, int ndim, std::string_view op) {
  if (dim >= -ndim && dim < ndim) return dim < 0 ? dim + ndim : dim;
  if (ndim == 0) base::fail<InvalidArgument>("{}: dim {} is out of range for 0 dims; a tensor without dims takes none", op, dim);
  base::fail<InvalidArgument>("{}: dim {} is out of range for {} dims; use {} to {}", op, dim, ndim, -ndim, ndim - 1);
}

std::string to_string(const Scalar& scalar) {
  switch (scalar.kind()) {
    case ScalarKind::boolean:
      return scalar.as_bool() ? "true" : "false";
    case ScalarKind::integer:
      return std::to_string(scalar.as_int());
    case ScalarKind::floating:
      return number_text(scalar.as_double());
  }
  return "?";
}

}  // namespace dtensor
