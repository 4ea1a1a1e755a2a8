// SPDX-License-Identifier: Apache-2.0
#include "dtensor/topology.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "base/error_text.h"
#include "base/hash.h"
#include "redistribute/plan/links.h"

namespace dtensor {
namespace {

[[noreturn]] void refuse(std::string_view key, std::string_view figure, std::string_view rule, double value) {
  base::fail<InvalidArgument>("topology: {}{}{} must be {} ({}); correct the figure", key, key.empty() ? "" : ".", figure, rule, value);
}
void check_positive(std::string_view key, std::string_view figure, double value) {
  if (!(value > 0) || std::isinf(value)) refuse(key, figure, "finite and above 0", value);
}
void check_not_negative(std::string_view key, std::string_view figure, double value) {
  if (!(value >= 0) || std::isinf(value)) refuse(key, figure, "finite and not negative", value);
}
void check_link(std::string_view key, const Link& link) {
  check_not_negative(key, "latency_us", link.latency_us);
  check_positive(key, "bandwidth_gb_s", link.bandwidth_gb_s);
}

std::uint64_t mix(std::uint64_t seed, double value) { return base::mix(seed, std::bit_cast<std::uint64_t>(value)); }
std::uint64_t mix(std::uint64_t seed, const Link& link) {
  return base::mix(mix(mix(seed, link.latency_us), link.bandwidth_gb_s), link.shared ? 1 : 0);
}

std::string link_text(const Link& link) {
  return fmt::format("{:.4g} us {:.4g} GB/s{}", link.latency_us, link.bandwidth_gb_s, link.shared ? " shared" : "");
}

// Whether ranks that are neighbours along the axis live on different hosts. Meshes are large and this is asked for every plan: a division per host.
bool crosses_hosts(const mesh::MeshData& mesh, std::size_t axis, int ranks_per_host) {
  std::size_t stride = 1;
  for (std::size_t a = axis + 1; a < mesh.sizes.size(); ++a) stride *= static_cast<std::size_t>(mesh.sizes[a]);
  const std::size_t block = stride * static_cast<std::size_t>(mesh.sizes[axis]);
  const int* ranks = mesh.ranks.data();
  int first = 0, last = -1;  // of the host seen last
  for (std::size_t begin = 0; begin < mesh.ranks.size(); begin += block)
    for (std::size_t i = begin + stride; i < begin + block; ++i) {
      if (ranks[i - stride] < first || ranks[i - stride] > last) {
        first = ranks[i - stride] / ranks_per_host * ranks_per_host;
        last = first + ranks_per_host - 1;
      }
      if (ranks[i] < first || ranks[i] > last) return true;
    }
  return false;
}

const Link& given_link(const Topology& topology, const mesh::MeshData& mesh, std::size_t axis) {
  const auto of = [&](const std::string& name) {
    return std::find_if(topology.axes.begin(), topology.axes.end(), [&](const AxisTopology& a) { return a.axis == name; });
  };
  if (const auto at = of(mesh.names[axis]); at != topology.axes.end()) return at->link;
  if (const auto at = of(std::to_string(axis)); at != topology.axes.end()) return at->link;
  if (topology.hosts && crosses_hosts(mesh, axis, topology.hosts->ranks)) return topology.hosts->link;
  return topology.link;
}

void check_ranks(const HostTopology& hosts, const mesh::MeshData& mesh) {
  const auto most = static_cast<std::int64_t>(hosts.ranks) * hosts.count;
  const int last = *std::max_element(mesh.ranks.begin(), mesh.ranks.end());
  if (last >= most)
    base::fail<InvalidArgument>("topology: the mesh has rank {} and {} hosts of {} ranks end at rank {}; describe as many hosts as there are", last,
                                hosts.count, hosts.ranks, most - 1);
}

Link resolved(const Topology& topology, const mesh::MeshData& mesh, std::size_t axis) {
  Link link = given_link(topology, mesh, axis);
  if (link.shared) link.bandwidth_gb_s /= mesh.sizes[axis];
  return link;
}

}  // namespace

// Copies of 1.5 TB/s, as a GPU writes what it reads; latencies of small collectives over NCCL.
Topology Topology::one_host() { return {.link = {.latency_us = 8, .bandwidth_gb_s = 400}, .copy_gb_s = 1500, .launch_us = 4}; }

Topology Topology::cluster(int ranks_per_host, int hosts) {
  Topology topology = one_host();
  topology.hosts = HostTopology{.ranks = ranks_per_host, .count = hosts, .link = {.latency_us = 20, .bandwidth_gb_s = 45}};
  redistribute::check_figures(topology);
  return topology;
}

std::uint64_t Topology::hash() const noexcept {
  std::uint64_t h = mix(0, link);
  for (const AxisTopology& a : axes) h = mix(base::mix(h, base::hash_text(a.axis)), a.link);
  h = base::mix(h, axes.size());
  if (hosts) h = mix(base::mix(base::mix(h, static_cast<std::uint64_t>(hosts->ranks)), static_cast<std::uint64_t>(hosts->count)), hosts->link);
  return mix(mix(h, copy_gb_s), launch_us);
}

Link Topology::link_of(const DeviceMesh& mesh, std::string_view axis) const {
  redistribute::check_figures(*this);
  if (hosts) check_ranks(*hosts, mesh.data());
  return resolved(*this, mesh.data(), static_cast<std::size_t>(mesh.axis(axis)));
}

std::string to_string(const Topology& topology) {
  std::string text = link_text(topology.link);
  for (const AxisTopology& a : topology.axes) text += fmt::format("; {}: {}", a.axis, link_text(a.link));
  if (topology.hosts)
    text += fmt::format("; {} hosts of {} ranks: {}", topology.hosts->count, topology.hosts->ranks, link_text(topology.hosts->link));
  return text + fmt::format("; copies {:.4g} GB/s, launch {:.4g} us", topology.copy_gb_s, topology.launch_us);
}

void redistribute::check_figures(const dtensor::Topology& topology) {
  check_link("link", topology.link);
  for (std::size_t i = 0; i < topology.axes.size(); ++i) {
    const std::string& name = topology.axes[i].axis;
    if (name.empty()) base::fail<InvalidArgument>("topology: entry {} of axes has no name; give an axis name or a position", i);
    for (std::size_t j = 0; j < i; ++j)
      if (topology.axes[j].axis == name) base::fail<InvalidArgument>("topology: axis '{}' is given twice; give one link to an axis", name);
    check_link("axes." + name, topology.axes[i].link);
  }
  if (topology.hosts) {
    if (topology.hosts->ranks < 1) refuse("hosts", "ranks", "at least 1", topology.hosts->ranks);
    if (topology.hosts->count < 1) refuse("hosts", "count", "at least 1", topology.hosts->count);
    check_link("hosts.link", topology.hosts->link);
  }
  check_positive("", "copy_gb_s", topology.copy_gb_s);
  check_not_negative("", "launch_us", topology.launch_us);
}

redistribute::Topology redistribute::links_of(const dtensor::Topology& topology, const mesh::MeshData& mesh) {
  check_figures(topology);
  if (topology.hosts) check_ranks(*topology.hosts, mesh);
  Topology links;
  const auto link_at = [&](std::size_t axis) {
    const Link link = resolved(topology, mesh, axis);
    return AxisLink{link.latency_us * 1000, link.bandwidth_gb_s, link.shared};
  };
  if (topology.axes.empty() && !topology.hosts && !topology.link.shared) links.fallback = link_at(0);
  else
    for (std::size_t a = 0; a < mesh.sizes.size(); ++a) links.axes.push_back(link_at(a));
  links.copy_bytes_per_ns = topology.copy_gb_s;
  links.launch_ns = topology.launch_us * 1000;
  return links;
}

}  // namespace dtensor
