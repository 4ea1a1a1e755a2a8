// SPDX-License-Identifier: Apache-2.0
#include "dtensor/generator.h"

#include "base/rank.h"

namespace dtensor {

Generator& default_generator() {
  if (base::RankContext* context = base::current_rank()) return base::rank_state<Generator>(*context);
  thread_local Generator outside;
  return outside;
}

void manual_seed(std::uint64_t seed) { default_generator() = Generator(seed); }

}  // namespace dtensor
