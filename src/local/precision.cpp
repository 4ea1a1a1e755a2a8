// SPDX-License-Identifier: Apache-2.0
#include "local/precision.h"

#include <atomic>

namespace dtensor::local {
namespace {

std::atomic<MatmulPrecision> precision_now{MatmulPrecision::highest};

}  // namespace

MatmulPrecision matmul_precision() noexcept { return precision_now.load(std::memory_order_relaxed); }
void set_matmul_precision(MatmulPrecision precision) noexcept { precision_now.store(precision, std::memory_order_relaxed); }

}  // namespace dtensor::local
