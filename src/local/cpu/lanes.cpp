// SPDX-License-Identifier: Apache-2.0
#include "local/cpu/lanes.h"

#include <algorithm>
#include <type_traits>

#include "dtensor/half.h"

namespace dtensor::local::cpu {
namespace {

template <class T>
inline constexpr bool kHalf = std::is_same_v<T, BFloat16> || std::is_same_v<T, Half>;

template <class Acc, class T>
void load(const void* base, std::int64_t offset, std::int64_t stride, std::int64_t n, Acc* out) {
  const T* in = static_cast<const T*>(base) + offset;
  const auto convert = [](T v) {
    if constexpr (kHalf<T>) return static_cast<Acc>(static_cast<float>(v));
    else return static_cast<Acc>(v);
  };
  if (stride == 1) {
    if constexpr (std::is_same_v<T, Acc>) std::copy_n(in, n, out);
    else
      for (std::int64_t i = 0; i < n; ++i) out[i] = convert(in[i]);
  } else {
    for (std::int64_t i = 0; i < n; ++i) out[i] = convert(in[i * stride]);
  }
}

template <class Acc, class T>
void store(void* base, std::int64_t offset, std::int64_t stride, std::int64_t n, const Acc* in) {
  T* out = static_cast<T*>(base) + offset;
  const auto convert = [](Acc v) {
    if constexpr (kHalf<T>) return T(static_cast<float>(v));
    else if constexpr (std::is_same_v<T, bool>) return v != Acc(0);
    else return static_cast<T>(v);
  };
  if (stride == 1) {
    if constexpr (std::is_same_v<T, Acc>) std::copy_n(in, n, out);
    else
      for (std::int64_t i = 0; i < n; ++i) out[i] = convert(in[i]);
  } else {
    for (std::int64_t i = 0; i < n; ++i) out[i * stride] = convert(in[i]);
  }
}

}  // namespace

template <class Acc>
Loader<Acc> loader(Dtype dtype) noexcept {
  switch (dtype) {
    case Dtype::f64:
      return load<Acc, double>;
    case Dtype::f32:
      return load<Acc, float>;
    case Dtype::bf16:
      return load<Acc, BFloat16>;
    case Dtype::f16:
      return load<Acc, Half>;
    case Dtype::i64:
      return load<Acc, std::int64_t>;
    case Dtype::i32:
      return load<Acc, std::int32_t>;
    case Dtype::u8:
      return load<Acc, std::uint8_t>;
    case Dtype::boolean:
      return load<Acc, bool>;
  }
  return nullptr;
}
template <class Acc>
Storer<Acc> storer(Dtype dtype) noexcept {
  switch (dtype) {
    case Dtype::f64:
      return store<Acc, double>;
    case Dtype::f32:
      return store<Acc, float>;
    case Dtype::bf16:
      return store<Acc, BFloat16>;
    case Dtype::f16:
      return store<Acc, Half>;
    case Dtype::i64:
      return store<Acc, std::int64_t>;
    case Dtype::i32:
      return store<Acc, std::int32_t>;
    case Dtype::u8:
      return store<Acc, std::uint8_t>;
    case Dtype::boolean:
      return store<Acc, bool>;
  }
  return nullptr;
}
template Loader<float> loader<float>(Dtype) noexcept;
template Loader<double> loader<double>(Dtype) noexcept;
template Loader<std::int64_t> loader<std::int64_t>(Dtype) noexcept;
template Storer<float> storer<float>(Dtype) noexcept;
template Storer<double> storer<double>(Dtype) noexcept;
template Storer<std::int64_t> storer<std::int64_t>(Dtype) noexcept;

}  // namespace dtensor::local::cpu
