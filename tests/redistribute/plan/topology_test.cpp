// SPDX-License-Identifier: Apache-2.0
#include "dtensor/topology.h"

#include <doctest/doctest.h>

#include <cstdio>
#include <fstream>
#include <limits>
#include <numeric>
#include <set>

#include "dtensor/error.h"
#include "dtensor/plan.h"
#include "mesh/mesh_data.h"
#include "redistribute/plan/links.h"

using namespace dtensor;

namespace {

DeviceMesh mesh_of(std::vector<MeshAxis> axes, std::vector<int> ranks = {}, int world = 0) {
  int n = 1;
  for (const MeshAxis& a : axes) n *= a.size;
  return mesh::make_mesh(1, std::max(n, world), axes, ranks);
}

Topology full() {
  Topology t;
  t.link = {1.5, 12.25, true};
  t.axes = {{"tp", {0, 400, false}}, {"0", {7, 0.1, true}}};
  t.hosts = HostTopology{.ranks = 8, .count = 4, .link = {20, 45}};
  t.copy_gb_s = 1.0 / 3;
  t.launch_us = 0;
  return t;
}

std::string error_of(std::string_view json) {
  try {
    Topology::parse(json);
  } catch (const InvalidArgument& e) { return e.what(); }
  return "no error";
}

std::vector<std::string> kinds(const Plan& plan) {
  std::vector<std::string> result;
  for (const PlanMove& move : plan.moves()) result.push_back(move.kind);
  return result;
}

}  // namespace

TEST_CASE("json and back is the same topology, to the last bit of every figure") {
  for (const Topology& t : {Topology(), full(), Topology::one_host(), Topology::cluster(8, 2)}) {
    const Topology back = Topology::parse(t.json());
    CHECK(back == t);
    CHECK_EQ(back.hash(), t.hash());
    CHECK_EQ(back.json(), t.json());
  }
}

TEST_CASE("keys that the text does not have keep their defaults") {
  CHECK(Topology::parse("{}") == Topology());
  Topology expected;
  expected.axes = {{"tp", {2, 300, false}}};
  CHECK(Topology::parse(R"({"axes": {"tp": {"bandwidth_gb_s": 300}}})") == expected);
}

TEST_CASE("a topology goes through a file, and errors name the file") {
  const std::string path = "topology_test.json";
  full().write(path);
  CHECK(Topology::read(path) == full());
  std::ofstream(path) << R"({"copy_gb_s": -2})";
  CHECK_THROWS_WITH_AS(Topology::read(path), "topology: topology_test.json: copy_gb_s must be finite and above 0 (-2); correct the figure",
                       InvalidArgument);
  std::remove(path.c_str());
  CHECK_THROWS_WITH_AS(Topology::read(path), "topology: cannot read topology_test.json; give a file that dtensor measure has written",
                       InvalidArgument);
  CHECK_THROWS_AS(full().write("no/such/folder/t.json"), Error);
}

TEST_CASE("text that is no topology is refused by key and value") {
  CHECK_EQ(error_of(R"({"link": {"bandwidth_gb_s": 0}})"), "topology: link.bandwidth_gb_s must be finite and above 0 (0); correct the figure");
  CHECK_EQ(error_of(R"({"axes": {"tp": {"latency_us": -1}}})"),
           "topology: axes.tp.latency_us must be finite and not negative (-1); correct the figure");
  CHECK_EQ(error_of(R"({"hosts": {"ranks": 0}})"), "topology: hosts.ranks must be at least 1 (0); correct the figure");
  CHECK_EQ(error_of(R"({"hosts": {"count": -2}})"), "topology: hosts.count must be at least 1 (-2); correct the figure");
  CHECK_EQ(error_of(R"({"hosts": {"link": {"bandwidth_gb_s": -3}}})"),
           "topology: hosts.link.bandwidth_gb_s must be finite and above 0 (-3); correct the figure");
  CHECK_EQ(error_of(R"({"launch_us": -1})"), "topology: launch_us must be finite and not negative (-1); correct the figure");
  CHECK_EQ(error_of(R"({"link": {"bandwidth_gb_s": "fast"}})"),
           R"(topology: link.bandwidth_gb_s is not a number ("fast"); write a figure such as 12.5)");
  CHECK_EQ(error_of(R"({"link": {"shared": 1}})"), "topology: link.shared is not true or false (1); write one of them");
  CHECK_EQ(error_of(R"({"hosts": {"ranks": 1.5}})"), "topology: hosts.ranks is not a whole number (1.5); write one such as 8");
  CHECK_EQ(error_of(R"({"hosts": {"ranks": 99999999999}})"), "topology: hosts.ranks is not a whole number (99999999999); write one such as 8");
  CHECK_EQ(error_of(R"({"axes": {"tp": {"bandwith": 3}}})"),
           "topology: axes.tp.bandwith is no key of a topology (3); there are latency_us, bandwidth_gb_s, shared");
  CHECK_EQ(error_of(R"({"copy": 3})"), "topology: copy is no key of a topology (3); there are link, axes, hosts, copy_gb_s, launch_us");
  CHECK_EQ(error_of("[1]"), "topology: the text is not an object ([1]); write {...}");
  CHECK_EQ(error_of(R"({"axes": 4})"), "topology: axes is not an object (4); write {...}");
  CHECK(error_of("{\"link\": }").find("line 1, column 10") != std::string::npos);
  CHECK(error_of(R"({"copy_gb_s": 1e999})").find("the text is no JSON") != std::string::npos);
  CHECK(error_of("").find("the text is no JSON") != std::string::npos);
}

TEST_CASE("figures given by hand are checked where they are used") {
  const DeviceMesh mesh = mesh_of({{"dp", 2}, {"tp", 2}});
  const auto plan = [&](const Topology& t) { return make_plan(mesh, {8}, Dtype::f32, {Shard(0), Replicate()}, {}, 0, t); };
  Topology t = full();
  t.axes[0].link.bandwidth_gb_s = std::numeric_limits<double>::quiet_NaN();
  CHECK_THROWS_WITH_AS(plan(t), "topology: axes.tp.bandwidth_gb_s must be finite and above 0 (nan); correct the figure", InvalidArgument);
  t = full();
  t.axes[1].axis = "tp";
  CHECK_THROWS_WITH_AS(plan(t), "topology: axis 'tp' is given twice; give one link to an axis", InvalidArgument);
  t.axes[1].axis = "";
  CHECK_THROWS_WITH_AS(plan(t), "topology: entry 1 of axes has no name; give an axis name or a position", InvalidArgument);
  CHECK_THROWS_WITH_AS(Topology::cluster(8, 0), "topology: hosts.count must be at least 1 (0); correct the figure", InvalidArgument);
  CHECK_THROWS_WITH_AS(make_plan(mesh_of({{"dp", 32}}), {64}, Dtype::f32, {Shard(0)}, {}, 0, Topology::cluster(8, 3)),
                       "topology: the mesh has rank 31 and 3 hosts of 8 ranks end at rank 23; describe as many hosts as there are", InvalidArgument);
}

TEST_CASE("an axis takes the link between hosts exactly when two ranks that differ in it alone are on different hosts") {
  const Topology t = Topology::cluster(4, 6);
  std::vector<int> shuffled(24);
  std::iota(shuffled.begin(), shuffled.end(), 0);
  for (std::size_t i = 0; i < shuffled.size(); ++i) std::swap(shuffled[i], shuffled[(i * 7 + 3) % shuffled.size()]);
  const std::vector<DeviceMesh> meshes{mesh_of({{"a", 6}, {"b", 4}}),
                                       mesh_of({{"a", 4}, {"b", 6}}),
                                       mesh_of({{"a", 3}, {"b", 2}, {"c", 4}}),
                                       mesh_of({{"a", 2}, {"b", 3}, {"c", 2}, {"d", 2}}),
                                       mesh_of({{"a", 2}, {"b", 2}}, {0, 1, 2, 3}, 24),
                                       mesh_of({{"a", 2}, {"b", 2}}, {3, 4, 5, 6}, 24),
                                       mesh_of({{"a", 2}, {"b", 2}}, {0, 4, 1, 5}, 24),
                                       mesh_of({{"a", 4}, {"b", 6}}, shuffled)};
  for (const DeviceMesh& mesh : meshes) {
    const auto links = redistribute::links_of(t, mesh.data());
    for (int axis = 0; axis < mesh.ndim(); ++axis) {
      bool crosses = false;
      Shape a, b;
      for (int r : mesh.ranks())
        for (int s : mesh.ranks()) {
          REQUIRE(mesh::coordinates_of(mesh.data(), r, a));
          REQUIRE(mesh::coordinates_of(mesh.data(), s, b));
          b[axis] = a[axis];
          if (a == b && r / 4 != s / 4) crosses = true;
        }
      const Link& expected = crosses ? t.hosts->link : t.link;
      CHECK(t.link_of(mesh, mesh.names()[static_cast<std::size_t>(axis)]) == expected);
      CHECK_EQ(links.axes[static_cast<std::size_t>(axis)].bytes_per_ns, expected.bandwidth_gb_s);
      CHECK_EQ(links.axes[static_cast<std::size_t>(axis)].latency_ns, 1000 * expected.latency_us);
    }
  }
}

TEST_CASE("an entry by name goes before one by position, both before hosts, and a shared link is divided by the ranks of the axis") {
  Topology t;
  t.link = {1, 10, true};
  t.axes = {{"tp", {2, 20, false}}, {"1", {3, 30, true}}};
  t.hosts = HostTopology{.ranks = 2, .count = 8, .link = {4, 40, false}};
  const DeviceMesh mesh = mesh_of({{"dp", 2}, {"tp", 3}, {"ep", 2}});
  CHECK(t.link_of(mesh, "dp") == Link{4, 40, false});
  CHECK(t.link_of(mesh, "tp") == Link{2, 20, false});
  CHECK(t.link_of(mesh, "ep") == Link{1, 5, true});
  const DeviceMesh other = mesh_of({{"tp", 2}, {"cp", 6}});
  CHECK(t.link_of(other, "tp") == Link{2, 20, false});
  CHECK(t.link_of(other, "cp") == Link{3, 5, true});
  CHECK_THROWS_AS(t.link_of(other, "ep"), InvalidArgument);
}

TEST_CASE("the ranks of a group divide a shared link, along one axis and over several") {
  Topology t;
  t.link = {1, 6, true};
  t.launch_us = 0;
  t.copy_gb_s = 1e6;
  const DeviceMesh mesh = mesh_of({{"dp", 2}, {"tp", 3}});
  const auto us = [&](const Placements& from) { return make_plan(mesh, {6000000}, Dtype::u8, from, {}, 0, t).predicted_us(); };
  // 1 us and bytes received at 6 GB/s divided by 2, 3 and 6 ranks; writing is a few ns.
  CHECK_EQ(us({Shard(0), Replicate()}), doctest::Approx(1 + 3000000 / 3000.0).epsilon(1e-4));
  CHECK_EQ(us({Replicate(), Shard(0)}), doctest::Approx(1 + 4000000 / 2000.0).epsilon(1e-4));
  t.link.shared = false;
  CHECK_EQ(us({Shard(0), Replicate()}), doctest::Approx(1 + 3000000 / 6000.0).epsilon(1e-4));
  t.link = {1e6, 6, true};  // one launch, whatever it moves
  CHECK_EQ(us({Shard(0), Shard(0)}), doctest::Approx(1e6 + 5000000 / 1000.0).epsilon(1e-6));
}

TEST_CASE("topologies that differ in one figure differ, in value and in hash") {
  std::vector<Topology> all{full()};
  const auto add = [&](auto change) {
    all.push_back(full());
    change(all.back());
  };
  add([](Topology& t) { t.link.latency_us = 1.6; });
  add([](Topology& t) { t.link.bandwidth_gb_s = 12.5; });
  add([](Topology& t) { t.link.shared = false; });
  add([](Topology& t) { t.axes[0].axis = "pp"; });
  add([](Topology& t) { t.axes[1].link.shared = false; });
  add([](Topology& t) { t.axes.pop_back(); });
  add([](Topology& t) { t.hosts->ranks = 4; });
  add([](Topology& t) { t.hosts->count = 5; });
  add([](Topology& t) { t.hosts->link.latency_us = 21; });
  add([](Topology& t) { t.hosts.reset(); });
  add([](Topology& t) { t.copy_gb_s = 1; });
  add([](Topology& t) { t.launch_us = 1; });
  std::set<std::uint64_t> hashes;
  for (std::size_t i = 0; i < all.size(); ++i) {
    hashes.insert(all[i].hash());
    for (std::size_t j = 0; j < i; ++j) CHECK_FALSE(all[i] == all[j]);
  }
  CHECK_EQ(hashes.size(), all.size());
}

TEST_CASE("a topology prints its links, hosts and copies") {
  CHECK_EQ(to_string(Topology()), "2 us 10 GB/s; copies 20 GB/s, launch 0.5 us");
  CHECK_EQ(to_string(full()),
           "1.5 us 12.25 GB/s shared; tp: 0 us 400 GB/s; 0: 7 us 0.1 GB/s shared; 4 hosts of 8 ranks: 20 us 45 GB/s; "
           "copies 0.3333 GB/s, launch 0 us");
}

TEST_CASE("the default topology is the one under which rules are compared") {
  const auto links = redistribute::links_of(Topology(), mesh_of({{"dp", 2}, {"tp", 3}}).data());
  const redistribute::Topology& reference = redistribute::reference_topology();
  CHECK(links.axes.empty());
  CHECK_EQ(links.fallback.latency_ns, reference.fallback.latency_ns);
  CHECK_EQ(links.fallback.bytes_per_ns, reference.fallback.bytes_per_ns);
  CHECK_EQ(links.copy_bytes_per_ns, reference.copy_bytes_per_ns);
  CHECK_EQ(links.launch_ns, reference.launch_ns);
}

TEST_CASE("a slow outer axis turns one all_reduce over both into a reduction that crosses hosts with a part only") {
  const DeviceMesh mesh = mesh_of({{"dp", 4}, {"tp", 8}});
  const auto plan = [&](const Topology& t) { return make_plan(mesh, {1 << 24}, Dtype::f32, {Partial(), Partial()}, {}, 0, t); };
  CHECK(kinds(plan(Topology::one_host())) == std::vector<std::string>{"all_reduce"});
  const Plan across = plan(Topology::cluster(8, 4));
  CHECK(kinds(across) == std::vector<std::string>{"reduce_scatter", "all_reduce", "all_gather"});
  CHECK(across.moves()[0].axes == std::vector<std::string>{"tp"});
  CHECK(across.moves()[1].axes == std::vector<std::string>{"dp"});
  // The same ranks, but each row of the mesh is a host's first, second, ... GPU: now tp crosses and dp does not.
  std::vector<int> ranks;
  for (int d = 0; d < 4; ++d)
    for (int t = 0; t < 8; ++t) ranks.push_back(4 * t + d);
  const Plan turned =
      make_plan(mesh_of({{"dp", 4}, {"tp", 8}}, ranks), {1 << 24}, Dtype::f32, {Partial(), Partial()}, {}, 0, Topology::cluster(4, 8));
  REQUIRE_EQ(turned.moves().size(), 3);
  CHECK(turned.moves()[1].axes == std::vector<std::string>{"tp"});
}
