// SPDX-License-Identifier: Apache-2.0
#include <cstdint>

#include "local/cuda/exact.h"
#include "local/cuda/launch.h"
#include "local/cuda/rank_device.h"
#include "local/cuda/reduction.h"
#include "local/cuda/runs.h"
#include "local/cuda/table.h"
#include "local/kernels/sequences.h"

namespace dtensor::local::cuda {
namespace {

template <class A>
struct Steps {
  A start, step;
  RunMap runs;
  void* out;
  Dtype dtype;
  std::int64_t stride;
  DTENSOR_DEVICE void operator()(std::int64_t i) const { put_element<A>(out, dtype, i * stride, at(runs.to_global(i))); }
  DTENSOR_DEVICE A at(std::int64_t global) const {
    if constexpr (std::is_same_v<A, double>) return static_cast<double>(Exact(start) + Exact(static_cast<double>(global)) * Exact(step));
    else return start + global * step;
  }
};
void fill_steps(const Scalar& start, const Scalar& step, std::span<const GlobalRun> runs, const Tensor& out) {
  if (out.numel() == 0) return;
  RankDevice& device = rank_device(out);
  const RunsOnDevice map(device, runs, RunOrder::of_local);
  const std::int64_t stride = out.strides()[0];
  if (start.kind() != ScalarKind::floating && step.kind() != ScalarKind::floating)
    launch_elements("steps", out.numel(), device.current,
                    Steps<std::int64_t>{start.as_int(), step.as_int(), map.map(), out.raw(), out.dtype(), stride});
  else
    launch_elements("steps", out.numel(), device.current,
                    Steps<double>{start.as_double(), step.as_double(), map.map(), out.raw(), out.dtype(), stride});
}

struct Diagonal {
  RunMap rows, columns;
  void* out;
  Dtype dtype;
  std::int64_t row_stride, column_stride;
  DTENSOR_DEVICE void operator()(std::int64_t i) const {
    const std::int64_t j = columns.to_local(rows.to_global(i));
    if (j >= 0) put_element<std::int64_t>(out, dtype, i * row_stride + j * column_stride, 1);
  }
};
void fill_diagonal(std::span<const GlobalRun> rows, std::span<const GlobalRun> columns, const Tensor& out) {
  if (out.numel() == 0) return;
  out.fill_(0);
  RankDevice& device = rank_device(out);
  const RunsOnDevice of_rows(device, rows, RunOrder::of_local), of_columns(device, columns, RunOrder::of_begin);
  launch_elements("diagonal", out.shape()[0], device.current,
                  Diagonal{of_rows.map(), of_columns.map(), out.raw(), out.dtype(), out.strides()[0], out.strides()[1]});
}

struct ClearTriangle {
  RunMap rows, columns;
  void* out;
  Dtype dtype;
  std::int64_t height, width, diagonal;
  bool above;
  DTENSOR_DEVICE void operator()(std::int64_t i) const {
    const std::int64_t line = quotient(i, width), j = i - line * width,
                       distance = columns.to_global(j) - rows.to_global(line - quotient(line, height) * height);
    if (above ? distance > diagonal : distance < diagonal) put_element<std::int64_t>(out, dtype, i, 0);
  }
};
void clear_triangle(std::span<const GlobalRun> rows, std::span<const GlobalRun> columns, std::int64_t diagonal, bool above, const Tensor& out) {
  if (out.numel() == 0) return;
  RankDevice& device = rank_device(out);
  const RunsOnDevice of_rows(device, rows, RunOrder::of_local), of_columns(device, columns, RunOrder::of_local);
  const int n = out.ndim();
  launch_elements("clear triangle", out.numel(), device.current,
                  ClearTriangle{of_rows.map(), of_columns.map(), out.raw(), out.dtype(), out.shape()[n - 2], out.shape()[n - 1], diagonal, above});
}

}  // namespace

void install_sequences() {
  kernels::fill_steps.cuda = fill_steps;
  kernels::fill_diagonal.cuda = fill_diagonal;
  kernels::clear_triangle.cuda = clear_triangle;
}

}  // namespace dtensor::local::cuda
