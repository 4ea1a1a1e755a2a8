// SPDX-License-Identifier: Apache-2.0
// Communicators of ranks that are threads of this process.
#pragma once

#include <memory>

#include "comm/communicator.h"
#include "comm/thread/hub.h"

namespace dtensor::comm {

/// For rank `rank` of the hub's world.
std::unique_ptr<Transport> thread_transport(std::shared_ptr<Hub> hub, int rank);

}  // namespace dtensor::comm
