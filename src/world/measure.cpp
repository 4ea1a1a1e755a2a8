// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <chrono>
#include <cstring>
#include <numeric>
#include <string>
#include <vector>

#include "base/error_text.h"
#include "dtensor/comm.h"
#include "dtensor/tensor.h"
#include "dtensor/topology.h"
#include "world/world_data.h"

namespace dtensor {
namespace {

using Clock = std::chrono::steady_clock;

// Microseconds of one f(): the best of some batches, on the slowest member. The number of calls is fixed, as members must make the same.
template <class F>
double time_of(const Communicator& group, int batches, int calls, const F& f) {
  f();
  double best = 0;
  for (int batch = 0; batch < batches; ++batch) {
    group.barrier();
    const auto start = Clock::now();
    for (int i = 0; i < calls; ++i) f();
    const double took = std::chrono::duration<double, std::micro>(Clock::now() - start).count() / calls;
    best = batch == 0 ? took : std::min(best, took);
  }
  const Tensor worst = group.all_reduce(Tensor::of<double>(std::vector<double>{best}, {1}), ReduceOp::max);
  return worst.values<const double>()[0];
}

struct Timing {
  double small_us = 0, large_us = 0;
};

// Each member gets a message from its neighbour; the last from the first.
Timing time_exchange(const Communicator& group, std::int64_t bytes) {
  constexpr int kBatches = 5, kSmallCalls = 200, kLargeCalls = 4;
  const Tensor small = Tensor::zeros({8}, Dtype::u8), large = Tensor::zeros({bytes}, Dtype::u8);
  std::vector<int> next(static_cast<std::size_t>(group.size()));
  for (int i = 0; i < group.size(); ++i) next[static_cast<std::size_t>(i)] = (i + 1) % group.size();
  Timing timing;
  timing.small_us = time_of(group, kBatches, kSmallCalls, [&] { group.permute(small, next).wait(); });
  timing.large_us = time_of(group, kBatches, kLargeCalls, [&] { group.permute(large, next).wait(); });
  return timing;
}

double time_copy(const Communicator& group, std::int64_t bytes) {
  const Tensor from = Tensor::zeros({bytes}, Dtype::u8), to = Tensor::zeros({bytes}, Dtype::u8);
  const void* source = from.read();
  void* target = to.data();
  return time_of(group, 5, 4, [&] { std::memcpy(target, source, static_cast<std::size_t>(bytes)); });
}

double gigabytes_per_s(std::int64_t bytes, double us) { return static_cast<double>(bytes) / (1000 * std::max(us, 1e-3)); }

// The figures under which the planner's cost of the timed exchange, launch + latency + bytes / bandwidth + bytes / copy speed, is the time it took. Where a
// transfer is the copy itself, as between threads, a twentieth of the time is left to the link.
Link fitted(const Timing& timing, std::int64_t bytes, const Topology& rest) {
  Link link;
  link.latency_us = std::max(0.0, timing.small_us - rest.launch_us);
  const double others = rest.launch_us + link.latency_us + static_cast<double>(bytes) / (1000 * rest.copy_gb_s);
  link.bandwidth_gb_s = gigabytes_per_s(bytes, std::max(timing.large_us - others, timing.large_us / 20));
  return link;
}

double rounded(double value) { return std::stod(fmt::format("{:.4g}", value)); }
Link rounded(const Link& link) { return {rounded(link.latency_us), rounded(link.bandwidth_gb_s), link.shared}; }

class Measurement {
 public:
  Measurement(World& world, const MeasureOptions& options)
      : world_(world), options_(options), everyone_(world.communicator(world.mesh({{"world", -1}}), "world")) {}

  Topology run() {
    measure_rank();
    if (world_.size() > 1) measure_world();
    if (options_.mesh) measure_axes();
    return agreed();
  }

 private:
  void say(const std::string& line) const {
    if (options_.progress && world_.rank() == 0) options_.progress(line);
  }

  void measure_rank() {
    const Communicator alone = Communicator::of(DeviceMesh::self());
    const Tensor small = Tensor::zeros({8}, Dtype::u8);
    topology_.launch_us = rounded(time_of(everyone_, 5, 200, [&] { alone.all_gather(small).wait(); }));
    say(fmt::format("launch: {} us", topology_.launch_us));
    topology_.copy_gb_s = rounded(gigabytes_per_s(options_.bytes, time_copy(everyone_, options_.bytes)));
    say(fmt::format("copies, all ranks at once: {} GB/s", topology_.copy_gb_s));
  }

  void measure_world() {
    const Timing all = time_exchange(everyone_, options_.bytes);
    topology_.link = rounded(fitted(all, options_.bytes, topology_));
    say(fmt::format("all {} ranks: {} us, {} GB/s per rank", world_.size(), topology_.link.latency_us, topology_.link.bandwidth_gb_s));
    if (world_.size() < 4) return;
    const double pairs_us = time_pairs();
    // n ranks that divide a link take n / 2 times as long as 2; with links of their own, as long. Nearer to which?
    const double ratio = all.large_us / pairs_us, n = world_.size();
    if (ratio * ratio > n / 2) {
      topology_.link.shared = true;
      topology_.link.bandwidth_gb_s = rounded(topology_.link.bandwidth_gb_s * n);
    }
    say(fmt::format("groups of 2 take {:.3g} us, one of {} takes {:.3g}: links are {}", pairs_us, world_.size(), all.large_us,
                    topology_.link.shared ? "shared" : "not shared"));
  }

  // Of a large exchange in groups of two, all at once: the machine is as busy as with one group.
  double time_pairs() {
    const int pairs = world_.size() / 2;
    std::vector<int> ranks(2 * static_cast<std::size_t>(pairs));
    std::iota(ranks.begin(), ranks.end(), 0);
    double us = 0;
    if (world_.rank() < 2 * pairs) {
      const DeviceMesh mesh = world_.mesh({{"pairs", pairs}, {"pair", 2}}, ranks);
      us = time_exchange(world_.communicator(mesh, "pair"), options_.bytes).large_us;
    }
    const Tensor slowest = everyone_.all_reduce(Tensor::of<double>(std::vector<double>{us}, {1}), ReduceOp::max);
    return slowest.values<const double>()[0];
  }

  void measure_axes() {
    const DeviceMesh& mesh = options_.mesh;
    for (int a = 0; a < mesh.ndim(); ++a) {
      if (mesh.sizes()[static_cast<std::size_t>(a)] < 2) continue;
      const std::string& name = mesh.names()[static_cast<std::size_t>(a)];
      const Link link = rounded(fitted(time_exchange(world_.communicator(mesh, name), options_.bytes), options_.bytes, topology_));
      topology_.axes.push_back({name, link});
      say(fmt::format("{}: {} us, {} GB/s per rank", name, link.latency_us, link.bandwidth_gb_s));
    }
  }

  // Rank 0's figures, on every rank.
  Topology agreed() const {
    const std::string text = topology_.json();
    const std::vector<std::int64_t> mine{static_cast<std::int64_t>(text.size())};
    const Tensor length = everyone_.broadcast(Tensor::of<std::int64_t>(mine, {1}));
    std::vector<std::uint8_t> letters(text.begin(), text.end());
    letters.resize(static_cast<std::size_t>(length.values<const std::int64_t>()[0]));
    const Tensor all = everyone_.broadcast(Tensor::of<std::uint8_t>(letters, {static_cast<std::int64_t>(letters.size())}));
    const auto read = all.values<const std::uint8_t>();
    return Topology::parse(std::string(read.begin(), read.end()));
  }

  World& world_;
  const MeasureOptions& options_;
  Communicator everyone_;
  Topology topology_;
};

}  // namespace

Topology measure_topology(World& world, const MeasureOptions& options) {
  if (!world::WorldData::of(world).hub && !world::WorldData::of(world).job)
    base::fail<Unsupported>("measure_topology: a fake world has nothing to time (rank {} of {}); measure in one that runs", world.rank(),
                            world.size());
  if (options.bytes < 4096)
    base::fail<InvalidArgument>("measure_topology: a large exchange has at least 4096 bytes (got {}); give more", options.bytes);
  if (options.mesh && options.mesh.size() != world.size())
    base::fail<InvalidArgument>("measure_topology: the mesh has {} ranks and the world {}; give one over all ranks", options.mesh.size(),
                                world.size());
  return Measurement(world, options).run();
}

}  // namespace dtensor
