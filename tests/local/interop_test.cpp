// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <xtensor/xmath.hpp>
#include <xtensor/xtensor.hpp>
#include <xtensor/xview.hpp>

#include "dtensor/interop/dlpack.h"
#include "dtensor/interop/eigen.h"
#include "dtensor/interop/xtensor.h"

using namespace dtensor;

namespace {

Tensor counting(const Shape& shape) {
  std::vector<float> values(static_cast<std::size_t>(shape.numel()));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  return Tensor::of(values, shape);
}

}  // namespace

TEST_CASE("an Eigen view reads and writes the tensor through any strides") {
  const Tensor t = counting({3, 4});
  auto turned = eigen_view<float>(t.transpose(0, 1).narrow(0, 1, 2));
  CHECK(turned.rows() == 2);
  CHECK(turned.cols() == 3);
  CHECK(turned(1, 2) == 10.0f);
  turned *= 2;
  CHECK(to_string(t) == "f32[3, 4] [[0, 2, 4, 3], [4, 10, 12, 7], [8, 18, 20, 11]]");
  const Eigen::MatrixXf product = eigen_view<const float>(t) * eigen_view<const float>(t).transpose();
  CHECK(product(0, 0) == 29.0f);
  CHECK(eigen_view<const float>(counting({5})).cols() == 5);
  CHECK(eigen_view<float>(counting({2, 2})).data() != nullptr);
}

TEST_CASE("an Eigen view and the matrix given to a tensor stay alive") {
  auto view = eigen_view<float>(counting({8, 8}));
  const Tensor other = Tensor::zeros({8, 8}, Dtype::f32);
  CHECK(view(7, 7) == 63.0f);
  Eigen::MatrixXd columns(2, 3);
  columns << 1, 2, 3, 4, 5, 6;
  const void* memory = columns.data();
  const Tensor t = from_eigen(std::move(columns));
  CHECK(t.read() == memory);
  CHECK(to_string(t) == "f64[2, 3] [[1, 2, 3], [4, 5, 6]]");
  Eigen::Matrix<float, 2, 2, Eigen::RowMajor> rows;
  rows << 1, 2, 3, 4;
  const Tensor borrowed = borrow_eigen(rows);
  borrowed.narrow(0, 1, 1).fill_(0);
  CHECK(rows(1, 1) == 0.0f);
  CHECK_THROWS_WITH_AS(eigen_view<double>(counting({2, 2})), "eigen_view: element types differ (asked f64, tensor is f32); convert with to() first",
                       InvalidArgument);
  CHECK_THROWS_AS(eigen_view<float>(counting({2, 2, 2})), InvalidArgument);
}

TEST_CASE("an xtensor view reads and writes the tensor through any strides") {
  const Tensor t = counting({2, 3, 4});
  auto view = xtensor_view<float>(t.permute({2, 0, 1}));
  CHECK(view(3, 1, 2) == 23.0f);
  CHECK(xt::sum(view)() == 276.0f);
  xt::view(view, 0) = 0.0f;
  CHECK(to_string(t.narrow(0, 0, 1)) == "f32[1, 3, 4] [[[0, 1, 2, 3], [0, 5, 6, 7], [0, 9, 10, 11]]]");
  auto alive = xtensor_view<const float>(counting({1, 9}));
  CHECK(alive(0, 8) == 8.0f);
}

TEST_CASE("an xtensor container becomes a tensor without a copy") {
  xt::xarray<std::int64_t> a{{1, 2, 3}, {4, 5, 6}};
  const void* memory = a.data();
  const Tensor t = from_xtensor(std::move(a));
  CHECK(t.read() == memory);
  CHECK(to_string(t) == "i64[2, 3] [[1, 2, 3], [4, 5, 6]]");
  CHECK_THROWS_AS(xtensor_view<float>(t), InvalidArgument);
}

TEST_CASE("DLPack carries every dtype and any strides there and back without a copy") {
  for (int d = 0; d < kDtypeCount; ++d) {
    const Tensor t = counting({2, 3}).to(static_cast<Dtype>(d)).transpose(0, 1);
    const Tensor back = from_dlpack(to_dlpack(t));
    CHECK(back.dtype() == t.dtype());
    CHECK(back.shape() == t.shape());
    CHECK(back.strides() == t.strides());
    CHECK(back.read() == t.read());
    CHECK(to_string(back) == to_string(t));
  }
}

TEST_CASE("DLPack keeps the memory until the deleter is called, and calls it once") {
  DLManagedTensor* out = nullptr;
  {
    const Tensor t = counting({4});
    out = to_dlpack(t.narrow(0, 1, 2));
  }
  CHECK(static_cast<float*>(out->dl_tensor.data)[1] == 2.0f);
  out->deleter(out);

  static int deleted = 0;
  std::vector<double> memory{1, 2, 3, 4};
  std::int64_t shape[] = {2, 2};
  DLManagedTensor foreign{};
  foreign.dl_tensor = {memory.data(), {kDLCPU, 0}, 2, {static_cast<std::uint8_t>(kDLFloat), 64, 1}, shape, nullptr, 0};
  foreign.deleter = [](DLManagedTensor*) { ++deleted; };
  {
    const Tensor t = from_dlpack(&foreign), view = t.narrow(0, 0, 1);
    CHECK(to_string(t) == "f64[2, 2] [[1, 2], [3, 4]]");
    CHECK(deleted == 0);
  }
  CHECK(deleted == 1);
  foreign.dl_tensor.dtype.lanes = 4;
  CHECK_THROWS_AS(from_dlpack(&foreign), InvalidArgument);
  foreign.dl_tensor.device.device_type = kDLCUDA;
  CHECK_THROWS_AS(from_dlpack(&foreign), InvalidArgument);
  CHECK(deleted == 1);
}
