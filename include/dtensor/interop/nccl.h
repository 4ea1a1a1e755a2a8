// SPDX-License-Identifier: Apache-2.0
// A World over an application's NCCL communicator. For programs that have nccl.h.
#pragma once

#include <nccl.h>

#include "dtensor/adopt.h"

namespace dtensor {

/// The calling thread becomes the communicator's rank of a world of its size. Collective over the communicator. It is used as it is, for collectives of
/// all ranks, and must outlive the World; it is neither freed nor aborted, so after a CommError the application aborts it. Smaller groups get communicators
/// of the library's own, whose ids travel through AdoptOptions.store_folder or over TCP. While the world lives the application issues nothing on
/// the communicator from other threads, and the same on all ranks.
/// @throws InvalidArgument for a null communicator, another device, or a thread that is a rank already; CommError with NCCL's text; Unsupported for a
/// build without NCCL.
inline World adopt(ncclComm_t comm, const AdoptOptions& options = {}) { return adopt_nccl(comm, options); }

}  // namespace dtensor
