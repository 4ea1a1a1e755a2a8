// SPDX-License-Identifier: Apache-2.0
// Tensors as Eigen matrices and back, without a copy. Needs Eigen 3.4; include it only where it is used.
//
//   auto m = eigen_view<float>(t);        // t is f32[4, 6]
//   m.row(0) *= 2;                        // writes into t
//   Tensor s = from_eigen(std::move(matrix));
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include <Eigen/Core>

#include "dtensor/error.h"
#include "dtensor/tensor.h"

namespace dtensor {

namespace detail {

template <class T>
using EigenMatrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using EigenStride = Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>;
template <class T>
using EigenMap = std::conditional_t<std::is_const_v<T>, Eigen::Map<const EigenMatrix<std::remove_const_t<T>>, Eigen::Unaligned, EigenStride>,
                                    Eigen::Map<EigenMatrix<T>, Eigen::Unaligned, EigenStride>>;

}  // namespace detail

/// A row-major Eigen map of a tensor of one dimension (a row) or two, of any strides, that keeps the tensor's memory alive.
template <class T>
class EigenView : public detail::EigenMap<T> {
 public:
  using Map = detail::EigenMap<T>;
  using Map::operator=;
  EigenView(const Tensor& tensor, T* data)
      : Map(data, tensor.ndim() == 2 ? tensor.shape()[0] : 1, tensor.shape().back(),
            detail::EigenStride(tensor.ndim() == 2 ? tensor.strides()[0] : tensor.shape().back(), tensor.strides().back())),
        tensor_(tensor) {}

 private:
  Tensor tensor_;
};

/// Local. Waits for works on the storage. A const T only reads. A later write through another handle of a copy-on-write pair does not show in the map.
/// @throws InvalidArgument for another element type or number of dimensions.
template <class T>
EigenView<T> eigen_view(const Tensor& tensor) {
  if (tensor.dtype() != dtype_of<T>())
    throw InvalidArgument("eigen_view: element types differ (asked " + to_string(dtype_of<T>()) + ", tensor is " + to_string(tensor.dtype()) +
                          "); convert with to() first");
  if (tensor.ndim() != 1 && tensor.ndim() != 2)
    throw InvalidArgument("eigen_view: a matrix has one or two dims (shape " + to_string(tensor.shape()) + "); view or narrow the tensor first");
  if constexpr (std::is_const_v<T>) return EigenView<T>(tensor, static_cast<T*>(tensor.read()));
  else return EigenView<T>(tensor, static_cast<T*>(tensor.data()));
}

/// Local. Takes over a matrix (of either storage order); its memory lives as long as the tensor's.
template <class Scalar, int Rows, int Columns, int Options, int MaxRows, int MaxColumns>
Tensor from_eigen(Eigen::Matrix<Scalar, Rows, Columns, Options, MaxRows, MaxColumns>&& matrix) {
  using Matrix = Eigen::Matrix<Scalar, Rows, Columns, Options, MaxRows, MaxColumns>;
  auto owner = std::make_shared<Matrix>(std::move(matrix));
  const std::int64_t rows = owner->rows(), columns = owner->cols();
  const Shape strides = Matrix::IsRowMajor ? Shape{columns, 1} : Shape{1, rows};
  return Tensor::wrap(owner->data(), {rows, columns}, {.dtype = dtype_of<Scalar>(), .strides = strides, .owner = owner});
}
/// Local. Borrows a matrix or map, which must outlive the tensor.
template <class Derived>
Tensor borrow_eigen(Eigen::PlainObjectBase<Derived>& matrix) {
  const Shape strides{matrix.rowStride(), matrix.colStride()};
  return Tensor::wrap(matrix.data(), {matrix.rows(), matrix.cols()}, {.dtype = dtype_of<typename Derived::Scalar>(), .strides = strides});
}

}  // namespace dtensor
