// SPDX-License-Identifier: Apache-2.0
#include "local/cpu/scan_parts.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "dtensor/error.h"

namespace dtensor::local::cpu {
namespace {

template <class T>
T neutral(ScanOp op) {
  using Limits = std::numeric_limits<T>;
  const T low = Limits::has_infinity ? -Limits::infinity() : Limits::lowest(), high = Limits::has_infinity ? Limits::infinity() : Limits::max();
  return op == ScanOp::sum ? T{0} : op == ScanOp::product ? T{1} : op == ScanOp::min ? high : low;
}

template <class T>
T combine(ScanOp op, T a, T b) {
  if constexpr (std::is_same_v<T, double>) {
    if (op == ScanOp::sum) return a + b;
    if (op == ScanOp::product) return a * b;
    if (std::isnan(a)) return a;
    if (std::isnan(b)) return b;
    if (op == ScanOp::log_sum) {
      const double high = std::max(a, b);
      return std::isinf(high) ? high : high + std::log1p(std::exp(std::min(a, b) - high));
    }
  } else {
    // Integers wrap.
    const auto x = static_cast<std::uint64_t>(a), y = static_cast<std::uint64_t>(b);
    if (op == ScanOp::sum) return static_cast<T>(x + y);
    if (op == ScanOp::product) return static_cast<T>(x * y);
  }
  return op == ScanOp::max ? std::max(a, b) : std::min(a, b);
}

// Rows along the dimension of a row-major tensor: first offset of row r, and the distance of its elements.
struct Rows {
  std::int64_t length = 0, inner = 1, count = 0;
  Rows(const Shape& shape, int dim) : length(shape[dim]) {
    for (int d = dim + 1; d < shape.ndim(); ++d) inner *= shape[d];
    count = inner;
    for (int d = 0; d < dim; ++d) count *= shape[d];
  }
  std::int64_t offset(std::int64_t row) const { return row / inner * length * inner + row % inner; }
};

template <class T>
void total_rows(const ScanCall& scan, const Tensor& in, const Tensor& out) {
  const Rows from(in.shape(), scan.dim), to(out.shape(), scan.dim);
  const T* x = in.raw_as<T>();
  T* y = out.raw_as<T>();
  for (std::int64_t row = 0; row < to.count; ++row) {
    std::vector<T> totals(scan.bounds.size(), neutral<T>(scan.op));
    std::int64_t at = 0;
    for (const placements::Run& run : scan.runs) {
      for (std::int64_t i = 0; i < run.length; ++i, ++at) {
        const auto part = std::upper_bound(scan.bounds.begin(), scan.bounds.end(), run.begin + i) - scan.bounds.begin() - 1;
        if (part < 0) continue;
        T& total = totals[static_cast<std::size_t>(part)];
        total = combine(scan.op, total, x[from.offset(row) + at * from.inner]);
      }
    }
    for (std::size_t k = 0; k < totals.size(); ++k) y[to.offset(row) + static_cast<std::int64_t>(k) * to.inner] = totals[k];
  }
}

template <class T>
void scan_rows(const ScanCall& scan, const Tensor& in, const Tensor& totals, const Tensor& out) {
  const Rows rows(in.shape(), scan.dim), carries(totals.shape(), scan.dim);
  const auto parts = static_cast<std::int64_t>(scan.bounds.size());
  const T* x = in.raw_as<T>();
  const T* c = totals.raw_as<T>();
  T* y = out.raw_as<T>();
  std::int64_t begin = 0;
  for (const placements::Run& run : scan.runs) {
    const std::int64_t part = part_of(scan, run);
    for (std::int64_t row = 0; row < rows.count; ++row) {
      T running = neutral<T>(scan.op);
      for (std::int64_t k = scan.reverse ? parts - 1 : 0; k != part; k += scan.reverse ? -1 : 1)
        running = combine(scan.op, running, c[carries.offset(row) + k * carries.inner]);
      for (std::int64_t step = 0; step < run.length; ++step) {
        const std::int64_t i = rows.offset(row) + (begin + (scan.reverse ? run.length - 1 - step : step)) * rows.inner;
        y[i] = running = combine(scan.op, running, x[i]);
      }
    }
    begin += run.length;
  }
}

Tensor row_major(const Tensor& t, Dtype dtype) {
  const Tensor converted = t.dtype() == dtype ? t : t.to(dtype);
  return converted.contiguous();
}
// Calls f<T>(dtype of T) for the type in which `dtype` is computed.
template <class F>
void with_type(Dtype dtype, F&& f) {
  if (info(dtype).floating) f(double{}, Dtype::f64);
  else f(std::int64_t{}, Dtype::i64);
}

}  // namespace

std::int64_t part_of(const ScanCall& scan, const placements::Run& run) {
  const auto parts = static_cast<std::int64_t>(scan.bounds.size());
  for (std::int64_t k = 0; k < parts; ++k) {
    const std::int64_t end = k + 1 < parts ? scan.bounds[static_cast<std::size_t>(k) + 1] : scan.size;
    if (scan.reverse ? end == run.begin + run.length : scan.bounds[static_cast<std::size_t>(k)] == run.begin) return k;
  }
  throw InternalError("scan_from: no part is bounded by the run at " + std::to_string(run.begin) + " of " + std::to_string(run.length));
}

void scan_totals(const ScanCall& scan, const Tensor& input, const Tensor& output) {
  if (output.numel() == 0) return;
  with_type(output.dtype(), [&](auto type, Dtype dtype) {
    const Tensor wide = Tensor::empty(output.shape(), dtype, output.device());
    total_rows<decltype(type)>(scan, row_major(input, dtype), wide);
    output.copy_(wide.to(output.dtype()));
  });
}

void scan_from(const ScanCall& scan, const Tensor& input, const Tensor& totals, const Tensor& output) {
  if (output.numel() == 0) return;
  with_type(output.dtype(), [&](auto type, Dtype dtype) {
    const Tensor wide = Tensor::empty(output.shape(), dtype, output.device());
    scan_rows<decltype(type)>(scan, row_major(input, dtype), row_major(totals, dtype), wide);
    output.copy_(wide.to(output.dtype()));
  });
}

}  // namespace dtensor::local::cpu
