// SPDX-License-Identifier: Apache-2.0
#include "world/topology.h"

#include <bit>
#include <string>

#include "base/error_text.h"
#include "base/rank.h"
#include "dtensor/comm.h"
#include "dtensor/tensor.h"
#include "redistribute/plan/links.h"
#include "world/world_data.h"

namespace dtensor {
namespace {

// Every rank comes here before any looks at the figures, so that all find the same fault.
void check_equal(const Communicator& everyone, const Topology& topology) {
  const std::string text = to_string(topology);
  const std::vector<std::int64_t> mine{std::bit_cast<std::int64_t>(topology.hash()), static_cast<std::int64_t>(text.size())};
  const Tensor all = everyone.all_gather(Tensor::of<std::int64_t>(mine, {1, 2}));
  const auto figures = all.values<const std::int64_t>();
  std::size_t other = 0;
  while (other < figures.size() && figures[other] == figures[0]) other += 2;
  if (other >= figures.size()) return;
  AllGatherOptions options;
  for (std::size_t i = 1; i < figures.size(); i += 2) options.sizes.push_back(figures[i]);
  const std::vector<std::uint8_t> letters(text.begin(), text.end());
  const Tensor texts = everyone.all_gather(Tensor::of<std::uint8_t>(letters, {mine[1]}), 0, options);
  const auto joined = texts.values<const std::uint8_t>();
  const auto text_of = [&](std::size_t rank) {
    std::int64_t begin = 0;
    for (std::size_t r = 0; r < rank; ++r) begin += options.sizes[r];
    return std::string(joined.begin() + begin, joined.begin() + begin + options.sizes[rank]);
  };
  base::fail<InvalidArgument>(
      "World::set_topology: ranks give different topologies (rank 0: {}, rank {}: {}); give the same on all, for example by reading one file",
      text_of(0), other / 2, text_of(other / 2));
}

}  // namespace

void World::set_topology(const Topology& topology) {
  base::RankContext& here = world::WorldData::of(*this).context;
  here.last_call.store("set_topology", std::memory_order_relaxed);
  const DeviceMesh everyone = mesh({{"world", -1}});
  check_equal(communicator(everyone, "world"), topology);
  redistribute::links_of(topology, everyone.data());
  base::rank_state<world::RankTopology>(here) = {topology, topology.hash()};
}

const Topology& World::topology() const { return base::rank_state<world::RankTopology>(data_->context).topology; }

}  // namespace dtensor
