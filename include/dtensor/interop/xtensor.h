// SPDX-License-Identifier: Apache-2.0
// Tensors as xtensor arrays and back, without a copy. Needs xtensor; include it only where it is used.
//
//   auto a = xtensor_view<float>(t);                      // a strided array over t's memory
//   Tensor s = from_xtensor(xt::xarray<double>({2, 3}));
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

#include <xtensor/xadapt.hpp>
#include <xtensor/xarray.hpp>

#include "dtensor/error.h"
#include "dtensor/tensor.h"

namespace dtensor {

namespace detail {

template <class T>
auto xtensor_adapt(T* data, std::size_t elements, const Shape& shape, const Shape& strides) {
  // xtensor wants stride 0 for dimensions of size one.
  std::vector<std::size_t> sizes(shape.begin(), shape.end());
  std::vector<std::ptrdiff_t> steps(strides.begin(), strides.end());
  for (std::size_t d = 0; d < sizes.size(); ++d)
    if (sizes[d] == 1) steps[d] = 0;
  return xt::adapt(data, elements, xt::no_ownership(), std::move(sizes), std::move(steps));
}
template <class T>
using XtensorAdaptor = decltype(xtensor_adapt<T>(nullptr, 0, {}, {}));

inline std::size_t reached(const Tensor& tensor) {
  if (tensor.numel() == 0) return 0;
  std::int64_t last = 0;
  for (int d = 0; d < tensor.ndim(); ++d) last += (tensor.shape()[d] - 1) * tensor.strides()[d];
  return static_cast<std::size_t>(last + 1);
}

}  // namespace detail

/// A strided xtensor adaptor that keeps the tensor's memory alive.
template <class T>
class XtensorView : public detail::XtensorAdaptor<T> {
 public:
  using Adaptor = detail::XtensorAdaptor<T>;
  using Adaptor::operator=;
  XtensorView(const Tensor& tensor, T* data)
      : Adaptor(detail::xtensor_adapt<T>(data, detail::reached(tensor), tensor.shape(), tensor.strides())), tensor_(tensor) {}

 private:
  Tensor tensor_;
};

/// Local. Waits for works on the storage. A const T only reads. @throws InvalidArgument for another element type.
template <class T>
XtensorView<T> xtensor_view(const Tensor& tensor) {
  if (tensor.dtype() != dtype_of<T>())
    throw InvalidArgument("xtensor_view: element types differ (asked " + to_string(dtype_of<T>()) + ", tensor is " + to_string(tensor.dtype()) +
                          "); convert with to() first");
  if constexpr (std::is_const_v<T>) return XtensorView<T>(tensor, static_cast<T*>(tensor.read()));
  else return XtensorView<T>(tensor, static_cast<T*>(tensor.data()));
}

/// Local. Takes over a container (xarray, xtensor); its memory lives as long as the tensor's.
template <class Container>
  requires(!std::is_lvalue_reference_v<Container>)
Tensor from_xtensor(Container&& container) {
  auto owner = std::make_shared<Container>(std::move(container));
  Shape shape, strides;
  for (const auto n : owner->shape()) shape.push_back(static_cast<std::int64_t>(n));
  for (const auto s : owner->strides()) strides.push_back(static_cast<std::int64_t>(s));
  return Tensor::wrap(owner->data(), shape, {.dtype = dtype_of<typename Container::value_type>(), .strides = strides, .owner = owner});
}

}  // namespace dtensor
