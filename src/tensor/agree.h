// SPDX-License-Identifier: Apache-2.0
// Asking the other ranks of a mesh before a tensor is believed.
#pragma once

#include <functional>

#include "dtensor/distributed_tensor.h"

namespace dtensor::tensor {

/// Runs `make`, which is local, and exchanges its outcome with the other ranks of the mesh: one small collective, that the host waits for. A rank outside
/// the mesh only runs it. @throws InvalidArgument, the same on every rank of the mesh, when it throws on one of them or the results differ in shape, dtype
/// or placements.
DTensor agreed(const DeviceMesh& mesh, const char* op, const std::function<DTensor()>& make);

}  // namespace dtensor::tensor
