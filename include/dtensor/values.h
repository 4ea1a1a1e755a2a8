// SPDX-License-Identifier: Apache-2.0
// Small values that every part speaks: Dtype, Device, Shape, Scalar.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

#include "dtensor/export.h"
#include "dtensor/half.h"

namespace dtensor {

enum class Dtype : std::uint8_t { f64, f32, bf16, f16, i64, i32, u8, boolean };
inline constexpr int kDtypeCount = 8;

/// One row of the dtype table.
struct DtypeInfo {
  std::string_view name;  ///< as printed: "f32", "bool"
  std::uint8_t bytes;     ///< size of one element
  bool floating;          ///< f64 f32 bf16 f16
  bool integral;          ///< i64 i32 u8 (not bool)
  Dtype accumulate;       ///< type in which sums are taken: f32 for bf16 and f16, itself otherwise
};
/// The row of `dtype`.
DTENSOR_EXPORT const DtypeInfo& info(Dtype dtype) noexcept;
DTENSOR_EXPORT std::string to_string(Dtype dtype);
/// "f32" -> Dtype::f32. @throws InvalidArgument naming the legal ones.
DTENSOR_EXPORT Dtype parse_dtype(std::string_view name);
/// PyTorch's table for two tensors of dimension one or more: bool < u8 < i32 < i64 < (f16, bf16 -> f32) < f32 < f64.
DTENSOR_EXPORT Dtype promote(Dtype a, Dtype b) noexcept;
/// The Dtype of a C++ element type: dtype_of<float>() == Dtype::f32. bool, BFloat16 and Half included.
template <class T>
constexpr Dtype dtype_of() {
  using U = std::remove_cv_t<T>;
  if constexpr (std::is_same_v<U, double>) return Dtype::f64;
  else if constexpr (std::is_same_v<U, float>) return Dtype::f32;
  else if constexpr (std::is_same_v<U, BFloat16>) return Dtype::bf16;
  else if constexpr (std::is_same_v<U, Half>) return Dtype::f16;
  else if constexpr (std::is_same_v<U, bool>) return Dtype::boolean;
  else if constexpr (std::is_integral_v<U> && sizeof(U) == 8) return Dtype::i64;
  else if constexpr (std::is_integral_v<U> && sizeof(U) == 4) return Dtype::i32;
  else {
    static_assert(std::is_same_v<U, std::uint8_t>, "no Dtype for this element type");
    return Dtype::u8;
  }
}

enum class DeviceKind : std::uint8_t { cpu, cuda, meta };
/// Where memory lives. `meta` tensors carry shapes only.
struct Device {
  DeviceKind kind = DeviceKind::cpu;
  std::int8_t index = 0;
  static constexpr Device cpu() { return {}; }
  static constexpr Device cuda(int index) { return {DeviceKind::cuda, static_cast<std::int8_t>(index)}; }
  static constexpr Device meta() { return {DeviceKind::meta, 0}; }
  friend constexpr bool operator==(const Device&, const Device&) = default;
};
/// "cpu", "cuda:1", "meta".
DTENSOR_EXPORT std::string to_string(Device device);

/// Tensors have at most this many dimensions, meshes at most this many axes.
inline constexpr int kMaxDims = 8;

/// Up to eight numbers inline: a shape, strides, a list of dims. Printed "[64, 1024]".
class Shape {
 public:
  using value_type = std::int64_t;
  constexpr Shape() noexcept = default;
  Shape(std::initializer_list<std::int64_t> values) : Shape(std::span<const std::int64_t>(values.begin(), values.size())) {}
  /// @throws InvalidArgument for more than eight values.
  DTENSOR_EXPORT explicit Shape(std::span<const std::int64_t> values);
  /// `count` copies of `value`.
  static Shape filled(int count, std::int64_t value) {
    Shape s;
    for (int i = 0; i < count; ++i) s.push_back(value);
    return s;
  }
  constexpr int ndim() const noexcept { return ndim_; }
  constexpr std::size_t size() const noexcept { return static_cast<std::size_t>(ndim_); }
  constexpr bool empty() const noexcept { return ndim_ == 0; }
  constexpr std::int64_t operator[](int i) const noexcept { return values_[static_cast<std::size_t>(i)]; }
  constexpr std::int64_t& operator[](int i) noexcept { return values_[static_cast<std::size_t>(i)]; }
  constexpr std::int64_t operator[](std::size_t i) const noexcept { return values_[i]; }
  constexpr std::int64_t& operator[](std::size_t i) noexcept { return values_[i]; }
  constexpr const std::int64_t* begin() const noexcept { return values_.data(); }
  constexpr const std::int64_t* end() const noexcept { return values_.data() + ndim_; }
  constexpr std::int64_t* begin() noexcept { return values_.data(); }
  constexpr std::int64_t* end() noexcept { return values_.data() + ndim_; }
  constexpr std::int64_t back() const noexcept { return values_[static_cast<std::size_t>(ndim_ - 1)]; }
  operator std::span<const std::int64_t>() const noexcept { return {begin(), size()}; }  // NOLINT(google-explicit-constructor)
  /// @throws InvalidArgument when there are eight already.
  DTENSOR_EXPORT void push_back(std::int64_t value);
  void pop_back() noexcept { --ndim_; }
  DTENSOR_EXPORT void insert(int position, std::int64_t value);
  DTENSOR_EXPORT void erase(int position);
  /// Product of the values; 1 for an empty list.
  constexpr std::int64_t numel() const noexcept {
    std::int64_t n = 1;
    for (int i = 0; i < ndim_; ++i) n *= values_[static_cast<std::size_t>(i)];
    return n;
  }
  friend constexpr bool operator==(const Shape& a, const Shape& b) noexcept {
    if (a.ndim_ != b.ndim_) return false;
    for (int i = 0; i < a.ndim_; ++i)
      if (a[i] != b[i]) return false;
    return true;
  }

 private:
  std::array<std::int64_t, kMaxDims> values_{};
  int ndim_ = 0;
};
DTENSOR_EXPORT std::string to_string(const Shape& shape);
/// Row-major strides, in elements: [2, 3, 4] -> [12, 4, 1].
DTENSOR_EXPORT Shape contiguous_strides(const Shape& shape) noexcept;
/// dim in [-ndim, ndim) -> [0, ndim). @throws InvalidArgument "`op`: dim 3 is out of range for 2 dims ...".
DTENSOR_EXPORT int normalize_dim(int dim, int ndim, std::string_view op);

enum class ScalarKind : std::uint8_t { boolean, integer, floating };
/// Any arithmetic value; remembers its kind, which decides the dtype of a result (i64 tensor * 2.5 is f32).
class Scalar {
 public:
  constexpr Scalar() noexcept = default;
  template <class T>
  requires std::is_arithmetic_v<T>
  constexpr Scalar(T value) noexcept {  // NOLINT(google-explicit-constructor)
    if constexpr (std::is_same_v<T, bool>) {
      kind_ = ScalarKind::boolean;
      integer_ = value;
    } else if constexpr (std::is_integral_v<T>) {
      kind_ = ScalarKind::integer;
      integer_ = static_cast<std::int64_t>(value);
    } else {
      kind_ = ScalarKind::floating;
      floating_ = static_cast<double>(value);
    }
  }
  constexpr ScalarKind kind() const noexcept { return kind_; }
  constexpr double as_double() const noexcept { return kind_ == ScalarKind::floating ? floating_ : static_cast<double>(integer_); }
  constexpr std::int64_t as_int() const noexcept { return kind_ == ScalarKind::floating ? static_cast<std::int64_t>(floating_) : integer_; }
  constexpr bool as_bool() const noexcept { return kind_ == ScalarKind::floating ? floating_ != 0 : integer_ != 0; }
  friend constexpr bool operator==(const Scalar&, const Scalar&) = default;

 private:
  ScalarKind kind_ = ScalarKind::integer;
  std::int64_t integer_ = 0;
  double floating_ = 0;
};
DTENSOR_EXPORT std::string to_string(const Scalar& scalar);
/// The dtype of a tensor of `dtype` combined with a number of `kind` (PyTorch's rule: the category counts, f32 for floating).
DTENSOR_EXPORT Dtype promote(Dtype dtype, ScalarKind kind) noexcept;

}  // namespace dtensor
