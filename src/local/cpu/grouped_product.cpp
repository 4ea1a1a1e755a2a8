// SPDX-License-Identifier: Apache-2.0
#include "local/cpu/grouped_product.h"

#include <cstring>
#include <vector>

#include "base/error_text.h"
#include "local/cpu/gemm.h"

namespace dtensor::local::cpu {
namespace {

MatrixOperand rows_of(const Tensor& t, std::int64_t row, std::int64_t offset) {
  return {.data = static_cast<const std::byte*>(t.raw()) + offset * info(t.dtype()).bytes, .row = row, .column = 1, .batch = {}};
}
std::vector<std::int64_t> ends_of(const Groups& groups, std::int64_t rows) {
  const Tensor list = groups.ends.to(Dtype::i64);
  std::vector<std::int64_t> ends(list.raw_as<const std::int64_t>(), list.raw_as<const std::int64_t>() + list.numel());
  std::int64_t last = 0;
  for (const std::int64_t end : ends) {
    if (end < last || end > rows) throw Error(wrong_end(groups.op, end, rows));
    last = end;
  }
  return ends;
}

}  // namespace

std::string wrong_end(std::string_view op, std::int64_t end, std::int64_t rows) {
  return fmt::format("{}: offs has {} out of turn; they rise from 0, to at most {}", op, end, rows);
}

void grouped_product(const Tensor& input, const Tensor& weight, bool transposed, const Groups& groups, const Tensor& out) {
  const std::vector<std::int64_t> ends = ends_of(groups, input.shape()[0]);
  const std::int64_t k = input.shape()[1], n = out.shape()[1], columns = weight.shape()[2], bytes = info(out.dtype()).bytes;
  auto* to = static_cast<std::byte*>(out.raw());
  std::int64_t first = 0;
  for (std::size_t e = 0; e < ends.size(); ++e) {
    const MatrixOperand w = rows_of(weight, columns, static_cast<std::int64_t>(e) * k * n);
    if (ends[e] > first)
      gemm({.dtype = out.dtype(),
            .m = ends[e] - first,
            .n = n,
            .k = k,
            .a = rows_of(input, k, first * k),
            .b = transposed ? w.transposed() : w,
            .addend = {},
            .out = to + first * n * bytes});
    first = ends[e];
  }
  std::memset(to + first * n * bytes, 0, static_cast<std::size_t>((out.shape()[0] - first) * n * bytes));
}

void grouped_outer(const Tensor& input, const Tensor& grad, const Groups& groups, const Tensor& out) {
  const std::vector<std::int64_t> ends = ends_of(groups, input.shape()[0]);
  const std::int64_t k = input.shape()[1], n = grad.shape()[1], bytes = info(out.dtype()).bytes;
  std::int64_t first = 0;
  for (std::size_t e = 0; e < ends.size(); ++e) {
    gemm({.dtype = out.dtype(),
          .m = k,
          .n = n,
          .k = ends[e] - first,
          .a = rows_of(input, k, first * k).transposed(),
          .b = rows_of(grad, n, first * n),
          .addend = {},
          .out = static_cast<std::byte*>(out.raw()) + static_cast<std::int64_t>(e) * k * n * bytes});
    first = ends[e];
  }
}

}  // namespace dtensor::local::cpu
