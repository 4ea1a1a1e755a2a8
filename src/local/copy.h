// SPDX-License-Identifier: Apache-2.0
// Copies of strided boxes. Sizes and strides in elements; no Tensor, no allocation, no threads unless the name says so. Source and destination must not
// overlap (but for a box with itself).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "dtensor/values.h"

namespace dtensor::local {

/// Bytes as they are. `element_bytes` may be any number.
void copy_box(void* dst, std::span<const std::int64_t> dst_strides, const void* src, std::span<const std::int64_t> src_strides,
              std::span<const std::int64_t> sizes, std::size_t element_bytes);
/// With conversion (see convert in strided.h); equal dtypes copy bytes.
void convert_box(void* dst, Dtype dst_dtype, std::span<const std::int64_t> dst_strides, const void* src, Dtype src_dtype,
                 std::span<const std::int64_t> src_strides, std::span<const std::int64_t> sizes);
/// convert_box over this rank's threads.
void convert_box_parallel(void* dst, Dtype dst_dtype, std::span<const std::int64_t> dst_strides, const void* src, Dtype src_dtype,
                          std::span<const std::int64_t> src_strides, std::span<const std::int64_t> sizes);
/// Every element of the box becomes `value`; over this rank's threads.
void fill_box(void* dst, Dtype dtype, std::span<const std::int64_t> strides, std::span<const std::int64_t> sizes, const Scalar& value);

}  // namespace dtensor::local
