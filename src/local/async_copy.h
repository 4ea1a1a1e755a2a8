// SPDX-License-Identifier: Apache-2.0
// Copies between a device and pinned memory of the host for which the host does not wait.
#pragma once

#include "dtensor/tensor.h"

namespace dtensor::local {

/// Queues the copy on the rank's current stream. False, and nothing done, unless one tensor is of a device and the other pinned, both row-major, of one
/// shape and dtype. Memory of the host then holds a work: reads of what is written and writes of what is read wait.
bool copy_async(const Tensor& to, const Tensor& from);

}  // namespace dtensor::local
