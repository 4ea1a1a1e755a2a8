// SPDX-License-Identifier: Apache-2.0
// The calling thread as a rank with so many threads, for a scope.
#pragma once

#include "base/rank.h"

struct Rank {
  explicit Rank(int threads) {
    context.threads = threads;
    was = dtensor::base::bind_rank(&context);
  }
  Rank(const Rank&) = delete;
  ~Rank() { dtensor::base::bind_rank(was); }
  dtensor::base::RankContext context;
  dtensor::base::RankContext* was;
};
