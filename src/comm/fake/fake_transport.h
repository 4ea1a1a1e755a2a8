// SPDX-License-Identifier: Apache-2.0
// The fake backend: one rank of a world of any size, alone. Collectives end at once and fill their results from this rank's input alone:
//  * all_reduce: the output is the input;
//  * exchange: a piece received from anyone gets this rank's piece for itself, else the one it sends to that peer, else any of equal sizes; zeros
//    where it has none of those sizes (an all_gather holds the own shard everywhere);
//  * reduce: the own contribution once, without divisor.
// Tensors on the meta device carry shapes only: nothing moves.
#pragma once

#include <memory>

#include "comm/communicator.h"

namespace dtensor::comm {

std::unique_ptr<Transport> fake_transport(int rank);

}  // namespace dtensor::comm
