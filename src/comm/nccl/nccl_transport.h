// SPDX-License-Identifier: Apache-2.0
// Communicators over NCCL.
#pragma once

#include <memory>

#include "comm/communicator.h"
#include "comm/nccl/nccl_job.h"

namespace dtensor::comm::nccl {

/// Of the job's rank. Tensors of the rank's device travel as they are; tensors of the CPU through the device, and waiting for their results blocks.
std::unique_ptr<Transport> nccl_transport(std::shared_ptr<NcclJob> job);

}  // namespace dtensor::comm::nccl
