// SPDX-License-Identifier: Apache-2.0
#include "local/cuda/boxes.h"

#include <type_traits>

#include "local/cuda/launch.h"
#include "local/strided.h"

namespace dtensor::local::cuda {
namespace {

// Offsets of element i of the loop's row-major order.
template <std::size_t N>
struct Offsets {
  std::int64_t at[N] = {};
};
template <std::size_t N>
DTENSOR_DEVICE Offsets<N> offsets(const StridedLoop<N>& loop, std::int64_t i) {
  Offsets<N> result;
  for (int d = loop.ndim - 1; d >= 0; --d) {
    const std::int64_t size = loop.sizes[static_cast<std::size_t>(d)], k = d == 0 ? i : i % size;
    i /= size;
    for (std::size_t n = 0; n < N; ++n) result.at[n] += k * loop.strides[n][static_cast<std::size_t>(d)];
  }
  return result;
}

// One kernel per type of the source; the type of the result is the same branch for all threads.
template <class From>
struct Convert {
  StridedLoop<2> loop;
  void* dst;
  const From* src;
  Dtype to;
  DTENSOR_DEVICE void operator()(std::int64_t i) const {
    const Offsets<2> o = offsets(loop, i);
    const From value = src[o.at[1]];
    switch (to) {
      case Dtype::f64: put<double>(o.at[0], value); break;
      case Dtype::f32: put<float>(o.at[0], value); break;
      case Dtype::bf16: put<BFloat16>(o.at[0], value); break;
      case Dtype::f16: put<Half>(o.at[0], value); break;
      case Dtype::i64: put<std::int64_t>(o.at[0], value); break;
      case Dtype::i32: put<std::int32_t>(o.at[0], value); break;
      case Dtype::u8: put<std::uint8_t>(o.at[0], value); break;
      case Dtype::boolean: put<bool>(o.at[0], value); break;
    }
  }
  template <class To>
  DTENSOR_DEVICE void put(std::int64_t at, From value) const {
    static_cast<To*>(dst)[at] = convert<To>(value);
  }
};

template <class T>
struct Fill {
  StridedLoop<1> loop;
  T* dst;
  T value;
  DTENSOR_DEVICE void operator()(std::int64_t i) const { dst[offsets(loop, i).at[0]] = value; }
};

}  // namespace

void convert_box(void* dst, Dtype dst_dtype, std::span<const std::int64_t> dst_strides, const void* src, Dtype src_dtype,
                 std::span<const std::int64_t> src_strides, std::span<const std::int64_t> sizes, Stream stream) {
  const auto loop = strided_loop<2>(sizes, {dst_strides, src_strides});
  if (loop.numel == 0) return;
  if (dst_dtype == src_dtype && loop.ndim == 1 && loop.unit())
    return copy(dst, src, static_cast<std::size_t>(loop.numel) * static_cast<std::size_t>(info(dst_dtype).bytes), CopyKind::on_device, stream);
  visit_dtype(src_dtype, [&]<class From>(std::type_identity<From>) {
    launch_elements("convert", loop.numel, stream, Convert<From>{loop, dst, static_cast<const From*>(src), dst_dtype});
  });
}

void fill_box(void* dst, Dtype dtype, std::span<const std::int64_t> strides, std::span<const std::int64_t> sizes, const Scalar& value, Stream stream) {
  const auto loop = strided_loop<1>(sizes, {strides});
  visit_dtype(dtype, [&]<class T>(std::type_identity<T>) {
    launch_elements("fill", loop.numel, stream, Fill<T>{loop, static_cast<T*>(dst), convert<T>(value)});
  });
}

}  // namespace dtensor::local::cuda
