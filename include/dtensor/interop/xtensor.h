// SPDX-License-Identifier: Apache-2.0
// Tensors as xtensor arrays and back, without a copy. Needs xtensor; include it only where it is used.
//
//   auto a = xtensor_view<float>(t);                      // a strided array over t's memory
//   Tensor s = from_xtensor(xt::xarray<double>({2, 3}));
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

#include <xtensor/xarray.hpp>
#include <xtensor/xbuffer_adaptor.hpp>

#include "dtensor/error.h"
#include "dtensor/tensor.h"

namespace dtensor {

namespace detail {

// xtensor's own form of memory that something else keeps alive; `owner` is the tensor.
template <class T>
using XtensorBuffer = xt::xbuffer_adaptor<T*, xt::smart_ownership, std::shared_ptr<Tensor>>;

inline std::size_t reached(const Tensor& tensor) {
  if (tensor.numel() == 0) return 0;
  std::int64_t last = 0;
  for (int d = 0; d < tensor.ndim(); ++d) last += (tensor.shape()[d] - 1) * tensor.strides()[d];
  return static_cast<std::size_t>(last + 1);
}

}  // namespace detail

/// A strided xtensor array that keeps the tensor's memory alive.
template <class T>
using XtensorView = xt::xarray_adaptor<detail::XtensorBuffer<T>, xt::layout_type::dynamic, std::vector<std::size_t>>;

/// Local. Waits for works on the storage. A const T only reads. @throws InvalidArgument for another element type.
template <class T>
XtensorView<T> xtensor_view(const Tensor& tensor) {
  if (tensor.dtype() != dtype_of<T>())
    throw InvalidArgument("xtensor_view: element types differ (asked " + to_string(dtype_of<T>()) + ", tensor is " + to_string(tensor.dtype()) +
                          "); convert with to() first");
  T* data = nullptr;
  if constexpr (std::is_const_v<T>) data = static_cast<T*>(tensor.read());
  else data = static_cast<T*>(tensor.data());
  // xtensor wants stride 0 for dimensions of size one.
  std::vector<std::size_t> sizes(tensor.shape().begin(), tensor.shape().end());
  std::vector<std::ptrdiff_t> steps(tensor.strides().begin(), tensor.strides().end());
  for (std::size_t i = 0; i < sizes.size(); ++i)
    if (sizes[i] == 1) steps[i] = 0;
  return XtensorView<T>(detail::XtensorBuffer<T>(std::move(data), detail::reached(tensor), std::make_shared<Tensor>(tensor)), sizes, steps);
}

/// Local. Takes over a container (xarray, xtensor); its memory lives as long as the tensor's.
template <class Container>
requires(!std::is_lvalue_reference_v<Container>) Tensor from_xtensor(Container&& container) {
  auto owner = std::make_shared<Container>(std::move(container));
  Shape shape, strides;
  for (const auto n : owner->shape()) shape.push_back(static_cast<std::int64_t>(n));
  for (const auto s : owner->strides()) strides.push_back(static_cast<std::int64_t>(s));
  return Tensor::wrap(owner->data(), shape, {.dtype = dtype_of<typename Container::value_type>(), .strides = strides, .owner = owner});
}

}  // namespace dtensor
