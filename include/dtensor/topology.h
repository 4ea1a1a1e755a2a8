// SPDX-License-Identifier: Apache-2.0
// Topology: what the planner of redistribute knows about the machine, as data: made by hand, by a preset, read from JSON or measured. It chooses the route
// between given placements, never the placements that an op gives. See docs/redistribution.md for the cost of a move.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "dtensor/export.h"
#include "dtensor/mesh.h"

namespace dtensor {

class World;

/// What connects ranks.
struct Link {
  double latency_us = 2;       ///< of a message; 0 or more
  double bandwidth_gb_s = 10;  ///< that a rank receives, in 1e9 bytes per second; above 0
  bool shared = false;         ///< the n ranks of a move's group divide the bandwidth: each has an n-th of it
  friend bool operator==(const Link&, const Link&) = default;
};
/// The link of one mesh axis.
struct AxisTopology {
  std::string axis;  ///< a name, or a position ("0") for any mesh whose axis there is named in no other entry
  Link link = {};
  friend bool operator==(const AxisTopology&, const AxisTopology&) = default;
};
/// Equal hosts: world rank r is on host r / ranks. An axis takes `link` when two ranks that differ in it alone are on different hosts.
struct HostTopology {
  int ranks = 1;  ///< per host; at least 1
  int count = 1;  ///< hosts; at least 1
  Link link = {};
  friend bool operator==(const HostTopology&, const HostTopology&) = default;
};

/// A value. The default is the neutral machine under which worlds start and sharding rules are compared.
/// Figures are checked where a topology is used: InvalidArgument "topology: <key> must be ... (<value>); ...", keys as in json().
struct DTENSOR_EXPORT Topology {
  Link link = {};                       ///< of an axis that neither of the next two knows
  std::vector<AxisTopology> axes = {};  ///< go before hosts
  std::optional<HostTopology> hosts = {};
  double copy_gb_s = 20;   ///< bytes written per rank, in 1e9 per second; above 0
  double launch_us = 0.5;  ///< of any move that communicates; 0 or more

  /// GPUs of one host on NVLink (figures of an H100 host).
  static Topology one_host();
  /// `hosts` such hosts of `ranks_per_host` GPUs, each GPU with a 400 Gb/s InfiniBand link of its own.
  static Topology cluster(int ranks_per_host, int hosts);
  /// What json() gives. Keys may be absent (the defaults above) but not unknown. @throws InvalidArgument naming the key and its value, or the place where
  /// the text is no JSON.
  static Topology parse(std::string_view json);
  /// The same from a file, which errors name. @throws InvalidArgument.
  static Topology read(const std::string& path);

  /// {"link": {"latency_us", "bandwidth_gb_s", "shared"}, "axes": {name: link}, "hosts": {"ranks", "count", "link"}, "copy_gb_s", "launch_us"};
  /// axes and hosts only where there are some.
  std::string json() const;
  /// @throws Error when the file cannot be written.
  void write(const std::string& path) const;
  /// Of all figures; equal on all ranks and machines.
  std::uint64_t hash() const noexcept;
  /// The link of axis `axis` of the mesh, shared bandwidth divided. Local. @throws InvalidArgument for bad figures and for a mesh with ranks beyond the hosts.
  Link link_of(const DeviceMesh& mesh, std::string_view axis) const;
  friend bool operator==(const Topology&, const Topology&) = default;
};
/// "2 us 10 GB/s; tp: 1 us 400 GB/s shared; 4 hosts of 8 ranks: 5 us 50 GB/s; copies 20 GB/s, launch 0.5 us".
DTENSOR_EXPORT std::string to_string(const Topology& topology);

struct MeasureOptions {
  DeviceMesh mesh = {};                                 ///< its axes are timed one by one as well
  std::int64_t bytes = 8 << 20;                         ///< of a large exchange, per rank; at least 4096
  std::function<void(std::string_view)> progress = {};  ///< on rank 0, a line per figure
};
/// Times the running backend: exchanges of a few bytes and of many, copies, launches. Collective over the world; every rank gets rank 0's figures.
/// World::set_topology puts them to use. @throws Unsupported on a fake world, InvalidArgument for a mesh that is not all of the world.
DTENSOR_EXPORT Topology measure_topology(World& world, const MeasureOptions& options = {});

}  // namespace dtensor
