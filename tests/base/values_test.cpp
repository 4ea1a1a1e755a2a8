// SPDX-License-Identifier: Apache-2.0
#include "dtensor/values.h"

#include <doctest/doctest.h>

#include <cstdlib>
#include <vector>

#include "dtensor/error.h"
#include "dtensor/text.h"

using namespace dtensor;

namespace {

template <class F>
std::string error_of(F&& call) {
  try {
    call();
  } catch (const InvalidArgument& error) { return error.what(); }
  return "no error";
}

}  // namespace

TEST_CASE("every dtype is read back from its name, and its row is that of its element type") {
  for (int i = 0; i < kDtypeCount; ++i) {
    const auto dtype = static_cast<Dtype>(i);
    CHECK(parse_dtype(to_string(dtype)) == dtype);
  }
  CHECK(info(dtype_of<double>()).bytes == 8);
  CHECK(info(dtype_of<float>()).bytes == 4);
  CHECK(info(dtype_of<BFloat16>()).bytes == 2);
  CHECK(info(dtype_of<Half>()).bytes == 2);
  CHECK(info(dtype_of<std::int64_t>()).bytes == 8);
  CHECK(info(dtype_of<int>()).bytes == 4);
  CHECK(info(dtype_of<std::uint8_t>()).bytes == 1);
  CHECK(info(dtype_of<bool>()).bytes == 1);
  CHECK(info(Dtype::f16).accumulate == Dtype::f32);
  CHECK(info(Dtype::bf16).accumulate == Dtype::f32);
  CHECK(info(Dtype::f64).accumulate == Dtype::f64);
  CHECK_FALSE(info(Dtype::boolean).integral);
  CHECK(error_of([] { parse_dtype("float"); }) == "dtype: 'float' is none; legal are f64 f32 bf16 f16 i64 i32 u8 bool");
}

TEST_CASE("two dtypes promote as in PyTorch's table") {
  using enum Dtype;
  // Rows and columns in the order bool u8 i32 i64 f16 bf16 f32 f64, as torch.promote_types prints them.
  const std::vector<Dtype> all{boolean, u8, i32, i64, f16, bf16, f32, f64};
  const std::vector<std::vector<Dtype>> table{{boolean, u8, i32, i64, f16, bf16, f32, f64}, {u8, u8, i32, i64, f16, bf16, f32, f64},
                                              {i32, i32, i32, i64, f16, bf16, f32, f64},    {i64, i64, i64, i64, f16, bf16, f32, f64},
                                              {f16, f16, f16, f16, f16, f32, f32, f64},     {bf16, bf16, bf16, bf16, f32, bf16, f32, f64},
                                              {f32, f32, f32, f32, f32, f32, f32, f64},     {f64, f64, f64, f64, f64, f64, f64, f64}};
  for (std::size_t a = 0; a < all.size(); ++a)
    for (std::size_t b = 0; b < all.size(); ++b) CHECK(promote(all[a], all[b]) == table[a][b]);
}

TEST_CASE("a number changes the dtype of a tensor only by its category") {
  CHECK(promote(Dtype::i64, Scalar(2).kind()) == Dtype::i64);
  CHECK(promote(Dtype::u8, Scalar(2).kind()) == Dtype::u8);
  CHECK(promote(Dtype::i64, Scalar(2.5).kind()) == Dtype::f32);
  CHECK(promote(Dtype::bf16, Scalar(2.5).kind()) == Dtype::bf16);
  CHECK(promote(Dtype::boolean, Scalar(true).kind()) == Dtype::boolean);
  CHECK(promote(Dtype::boolean, Scalar(1).kind()) == Dtype::i64);
  CHECK(promote(Dtype::f64, Scalar(true).kind()) == Dtype::f64);
}

TEST_CASE("a shape holds up to eight values and says so when there are more") {
  Shape shape{2, 3, 4};
  shape.insert(1, 7);
  CHECK(to_string(shape) == "[2, 7, 3, 4]");
  shape.insert(4, 9);
  shape.insert(0, 1);
  CHECK(to_string(shape) == "[1, 2, 7, 3, 4, 9]");
  shape.erase(0);
  shape.erase(4);
  CHECK(shape == Shape{2, 7, 3, 4});
  CHECK(shape.numel() == 168);
  CHECK(Shape{}.numel() == 1);
  CHECK(to_string(Shape{}) == "[]");
  Shape full = Shape::filled(8, 1);
  CHECK(error_of([&] { full.push_back(1); }) == "shape: more than 8 values; tensors have at most 8 dims, reshape first");
  CHECK(error_of([] { Shape(std::vector<std::int64_t>(9, 1)); }) == "shape: more than 8 values; tensors have at most 8 dims, reshape first");
  CHECK(error_of([&] { shape.erase(4); }) == "shape: cannot erase at 4 (4 values); use 0 to 3");
  CHECK(error_of([&] { shape.insert(5, 1); }) == "shape: cannot insert at 5 (4 values); use 0 to 4");
}

TEST_CASE("row-major strides address every element of a shape exactly once, in order") {
  CHECK(contiguous_strides({2, 3, 4}) == Shape{12, 4, 1});
  CHECK(contiguous_strides({2, 0, 4}) == Shape{4, 4, 1});
  CHECK(contiguous_strides({}) == Shape{});
  const Shape shape{3, 1, 5};
  const Shape strides = contiguous_strides(shape);
  std::int64_t expected = 0;
  for (std::int64_t i = 0; i < 3; ++i)
    for (std::int64_t k = 0; k < 5; ++k) CHECK(i * strides[0] + k * strides[2] == expected++);
}

TEST_CASE("a dim counts from the end when negative and is refused outside its range") {
  CHECK(normalize_dim(-1, 3, "sum") == 2);
  CHECK(normalize_dim(-3, 3, "sum") == 0);
  CHECK(normalize_dim(2, 3, "sum") == 2);
  CHECK(error_of([] { normalize_dim(3, 2, "sum"); }) == "sum: dim 3 is out of range for 2 dims; use -2 to 1");
  CHECK(error_of([] { normalize_dim(-3, 2, "sum"); }) == "sum: dim -3 is out of range for 2 dims; use -2 to 1");
  CHECK(error_of([] { normalize_dim(0, 0, "sum"); }) == "sum: dim 0 is out of range for 0 dims; a tensor without dims takes none");
}

TEST_CASE("numbers print shortest and read back the same") {
  for (double value : {0.1, 1e300, -2.5, 1.0 / 3.0, 5e-324, 1234567.0}) CHECK(std::strtod(number_text(value).c_str(), nullptr) == value);
  CHECK(number_text(0.1) == "0.1");
  CHECK(number_text(2.0) == "2");
  CHECK(Text(0.5f).str() == "0.5");
  CHECK(Text(true).str() == "true");
  CHECK(Text(Shape{2, 3}).str() == "[2, 3]");
  CHECK(to_string(Scalar(3)) == "3");
  CHECK(to_string(Scalar(2.5)) == "2.5");
  CHECK(to_string(Scalar(false)) == "false");
  CHECK(to_string(Device::cuda(1)) == "cuda:1");
  CHECK(to_string(Device::meta()) == "meta");
}

TEST_CASE("bf16 and f16 round to nearest even and keep infinities and NaN") {
  CHECK(static_cast<float>(BFloat16(1.0f + 0x1p-8f)) == 1.0f);
  CHECK(static_cast<float>(BFloat16(1.0f + 3 * 0x1p-8f)) == 1.0f + 0x1p-6f);
  CHECK(static_cast<float>(Half(1.0f + 0x1p-11f)) == 1.0f);
  CHECK(static_cast<float>(Half(65519.0f)) == 65504.0f);
  CHECK(Half(65520.0f).bits == 0x7c00);
  CHECK(static_cast<float>(Half(0x1p-24f)) == 0x1p-24f);
  CHECK(Half(0x1p-26f).bits == 0);
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    Half half;
    half.bits = static_cast<std::uint16_t>(bits);
    const auto value = static_cast<float>(half);
    if (value == value && Half(value).bits != bits) FAIL_CHECK("f16 bits ", bits, " do not survive float");
    BFloat16 brain;
    brain.bits = static_cast<std::uint16_t>(bits);
    const auto wide = static_cast<float>(brain);
    if (wide == wide && BFloat16(wide).bits != bits) FAIL_CHECK("bf16 bits ", bits, " do not survive float");
    if (wide != wide && static_cast<float>(BFloat16(wide)) == static_cast<float>(BFloat16(wide))) FAIL_CHECK("bf16 NaN ", bits, " is lost");
  }
}
