// SPDX-License-Identifier: Apache-2.0
#include "local/cpu/sequences.h"

#include <algorithm>

namespace dtensor::local::cpu {

void fill_steps(const Scalar& start, const Scalar& step, std::span<const GlobalRun> runs, const Tensor& out) {
  const bool integer = start.kind() != ScalarKind::floating && step.kind() != ScalarKind::floating;
  const Tensor work = Tensor::empty(out.shape(), integer ? Dtype::i64 : Dtype::f64);
  std::int64_t at = 0;
  for (const GlobalRun& run : runs)
    for (std::int64_t i = run.begin; i < run.begin + run.length; ++i, ++at) {
      if (integer) work.raw_as<std::int64_t>()[at] = start.as_int() + i * step.as_int();
      else work.raw_as<double>()[at] = start.as_double() + static_cast<double>(i) * step.as_double();
    }
  out.copy_(work);
}

void fill_diagonal(std::span<const GlobalRun> rows, std::span<const GlobalRun> columns, const Tensor& out) {
  out.fill_(0);
  std::int64_t i = 0;
  for (const GlobalRun& row : rows)
    for (std::int64_t global = row.begin; global < row.begin + row.length; ++global, ++i) {
      std::int64_t j = 0;
      for (const GlobalRun& column : columns) {
        if (global >= column.begin && global < column.begin + column.length) out.narrow(0, i, 1).narrow(1, j + global - column.begin, 1).fill_(1);
        j += column.length;
      }
    }
}

void clear_triangle(std::span<const GlobalRun> rows, std::span<const GlobalRun> columns, std::int64_t diagonal, bool above, const Tensor& out) {
  if (out.numel() == 0) return;
  const int n = out.ndim();
  std::int64_t i = 0;
  for (const GlobalRun& row : rows)
    for (std::int64_t global = row.begin; global < row.begin + row.length; ++global, ++i) {
      std::int64_t j = 0;
      for (const GlobalRun& column : columns) {
        // Columns of the run before `cut` are at most on the diagonal (or before it).
        const std::int64_t cut = std::clamp(global + diagonal + (above ? 1 : 0) - column.begin, std::int64_t{0}, column.length);
        const Tensor part = above ? out.narrow(n - 1, j + cut, column.length - cut) : out.narrow(n - 1, j, cut);
        if (part.numel() > 0) part.narrow(n - 2, i, 1).fill_(0);
        j += column.length;
      }
    }
}

}  // namespace dtensor::local::cpu
