// SPDX-License-Identifier: Apache-2.0
// Strided boxes on a device, queued on a stream.
#pragma once

#include <cstdint>
#include <span>

#include "dtensor/values.h"
#include "local/cuda/driver.h"

namespace dtensor::local::cuda {

/// As local::convert_box; equal dtypes of one run on both sides are one copy.
void convert_box(void* dst, Dtype dst_dtype, std::span<const std::int64_t> dst_strides, const void* src, Dtype src_dtype,
                 std::span<const std::int64_t> src_strides, std::span<const std::int64_t> sizes, Stream stream);
/// As local::fill_box.
void fill_box(void* dst, Dtype dtype, std::span<const std::int64_t> strides, std::span<const std::int64_t> sizes, const Scalar& value, Stream stream);

}  // namespace dtensor::local::cuda
