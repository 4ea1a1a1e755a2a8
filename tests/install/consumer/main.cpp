// SPDX-License-Identifier: Apache-2.0
// A program of a user of the package: on two ranks it multiplies two matrices whose contracted dimension is sharded and moves the product to rows.
#include <dtensor/dtensor.h>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <vector>

namespace {

constexpr std::int64_t kRows = 5, kInner = 7, kColumns = 3;

// Small integers, so that every sum is exact in f32.
float left(std::int64_t row, std::int64_t inner) { return static_cast<float>(row * kInner + inner) - 10; }
float right(std::int64_t inner, std::int64_t column) { return static_cast<float>((inner - column) * (inner + 2)); }

dtensor::Tensor matrix(std::int64_t rows, std::int64_t columns, float (*element)(std::int64_t, std::int64_t)) {
  std::vector<float> values;
  for (std::int64_t i = 0; i < rows; ++i)
    for (std::int64_t j = 0; j < columns; ++j) values.push_back(element(i, j));
  return dtensor::Tensor::of(values, {rows, columns});
}

// The elements of `part` that differ from rows first_row, first_row + 1, ... of the product; -1: a wrong shape.
int wrong_elements(const dtensor::Tensor& part, std::int64_t first_row, std::int64_t rows) {
  if (part.shape() != dtensor::Shape{rows, kColumns}) return -1;
  int wrong = 0;
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < kColumns; ++j) {
      float sum = 0;
      for (std::int64_t k = 0; k < kInner; ++k) sum += left(first_row + i, k) * right(k, j);
      if (part.values<const float>()[static_cast<std::size_t>(i * kColumns + j)] != sum) ++wrong;
    }
  }
  return wrong;
}

int product(dtensor::World& world) {
  const dtensor::DeviceMesh mesh = world.mesh({{"tp", 2}});
  const dtensor::DTensor x = dtensor::distribute(matrix(kRows, kInner, left), mesh, {dtensor::Shard(1)});
  const dtensor::DTensor w = dtensor::distribute(matrix(kInner, kColumns, right), mesh, {dtensor::Shard(0)});
  const dtensor::DTensor y = dtensor::matmul(x, w);
  const dtensor::DTensor z = y.redistribute({dtensor::Shard(0)});
  world.print({"x w = ", y, ", moved to ", z});

  const std::int64_t mine = world.rank() == 0 ? 3 : 2;  // 5 rows over 2 ranks
  const int in_part = wrong_elements(z.local(), world.rank() == 0 ? 0 : 3, mine);
  const int in_whole = wrong_elements(z.full_tensor().local(), 0, kRows);
  world.log({"wrong elements: ", in_part, " of my rows, ", in_whole, " of all"});
  const bool right_text = dtensor::to_string(y) == "f32[5, 3]{tp: P(sum)}" && dtensor::to_string(z) == "f32[5, 3]{tp: S(0)}";
  return in_part == 0 && in_whole == 0 && right_text ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  std::printf("dtensor %s\n", dtensor::version());
  if (std::strcmp(dtensor::version(), dtensor::kVersion) != 0) return 2;
  dtensor::RunOptions options;
  options.ranks = 2;
  return dtensor::run(argc, argv, product, options);
}
