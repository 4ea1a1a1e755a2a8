// SPDX-License-Identifier: Apache-2.0
#include "dtensor/mesh.h"

#include <doctest/doctest.h>

#include <numeric>
#include <set>
#include <vector>

#include "base/rank.h"
#include "dtensor/error.h"
#include "mesh/mesh_data.h"

using namespace dtensor;

namespace {

DeviceMesh make(std::vector<MeshAxis> axes, std::vector<int> ranks = {}, int world_size = 8, std::uint64_t world = 1) {
  return mesh::make_mesh(world, world_size, axes, ranks);
}

template <class F>
std::string error_of(F&& call) {
  try {
    call();
  } catch (const InvalidArgument& error) { return error.what(); }
  return "no error";
}

std::vector<int> ranks_of(const DeviceMesh& mesh) { return {mesh.ranks().begin(), mesh.ranks().end()}; }
std::vector<int> sizes_of(const DeviceMesh& mesh) { return {mesh.sizes().begin(), mesh.sizes().end()}; }

// Binds this thread to a rank for the length of a scope.
struct AsRank {
  explicit AsRank(int rank, std::uint64_t world = 1) {
    context.rank = rank;
    context.world_size = 8;
    context.world_id = world;
    base::bind_rank(&context);
  }
  ~AsRank() { base::bind_rank(nullptr); }
  base::RankContext context;
};

}  // namespace

TEST_CASE("meshes of equal values are equal, and a difference in any value makes them different") {
  const DeviceMesh mesh = make({{"dp", 2}, {"tp", 4}});
  CHECK(mesh == make({{"dp", 2}, {"tp", 4}}));
  CHECK(mesh == make({{"dp", 2}, {"tp", -1}}));
  CHECK(mesh == make({{"dp", 2}, {"tp", 4}}, {0, 1, 2, 3, 4, 5, 6, 7}));
  CHECK_FALSE(mesh == make({{"dp", 4}, {"tp", 2}}));
  CHECK_FALSE(mesh == make({{"tp", 2}, {"dp", 4}}));
  CHECK_FALSE(mesh == make({{"dp", 2}, {"tp", 4}}, {1, 0, 2, 3, 4, 5, 6, 7}));
  CHECK_FALSE(mesh == make({{"dp", 2}, {"tp", 4}}, {}, 8, 2));
  CHECK(mesh.data().hash == make({{"dp", 2}, {"tp", 4}}, {}, 8, 2).data().hash);
  CHECK(make({{"", 2}, {"", 2}}) == make({{"0", 2}, {"1", 2}}));
}

TEST_CASE("a mesh prints its axes, and its ranks where they are not counted from 0") {
  CHECK(to_string(make({{"dp", 2}, {"tp", 4}})) == "Mesh(dp=2, tp=4)");
  CHECK(to_string(make({{"tp", 2}}, {5, 3})) == "Mesh(tp=2; ranks 5 3)");
  CHECK(to_string(DeviceMesh()) == "Mesh()");
}

TEST_CASE("a mesh that cannot be is refused with its values and the way out") {
  CHECK(error_of([] { make({}); }) == "mesh: no axis; give at least one, such as {\"dp\", -1}");
  CHECK(error_of([] { make(std::vector<MeshAxis>(9, {"", 1})); }) == "mesh: 9 axes, at most 8 are possible; flatten some");
  CHECK(error_of([] { make({{"dp", 0}}); }) == "mesh: axis 'dp' has size 0; sizes are 1 or more, or -1 for what is left");
  CHECK(error_of([] { make({{"dp", 2}, {"dp", 2}}); }) == "mesh: axis name 'dp' is repeated; axis names must be distinct");
  CHECK(error_of([] { make({{"dp", 2}, {"", 2}}); }) == "mesh: axis 1 has no name; name every axis or none");
  CHECK(error_of([] { make({{"d+p", 2}}); }) == "mesh: axis name 'd+p' has the character '+'; use letters, digits and _ . -");
  CHECK(error_of([] { make({{"1", 2}}); }) == "mesh: axis 0 has the name '1'; a name that is a number must be the axis' position");
  CHECK(error_of([] { make({{"dp", 2}}, {3, 3}); }) == "mesh: rank 3 is repeated; a mesh holds every rank at most once");
  CHECK(error_of([] { make({{"dp", 2}}, {3, 8}); }) == "mesh: there is no rank 8 (the world has ranks 0 to 7); use ranks of this world");
  CHECK(error_of([] { make({{"dp", 2}}, {-1, 3}); }) == "mesh: there is no rank -1 (the world has ranks 0 to 7); use ranks of this world");
  CHECK(error_of([] {
          make({{"dp", 2}, {"tp", 2}}, {0, 1, 2});
        }) == "mesh: sizes and ranks differ (dp=2, tp=2 is 4 ranks, 3 are given); give one rank per place");
  CHECK(error_of([] {
          make({{"dp", 3}, {"tp", 3}});
        }) == "mesh: more ranks than the world has (dp=3, tp=3 is 9 ranks, the world has 8); use smaller sizes or -1, or start more ranks");
  CHECK(error_of([] {
          make({{"dp", 3}, {"tp", -1}});
        }) == "mesh: axis 'tp' = -1 has no size (8 ranks are not a multiple of 3); change the other sizes (dp=3, tp=-1)");
  CHECK(error_of([] { make({{"dp", -1}, {"tp", -1}}); }) == "mesh: axes 'dp' and 'tp' both have size -1; only one size can be what is left");
  CHECK(error_of([] { DeviceMesh().ndim(); }) == "mesh: this DeviceMesh is empty; make one with World::mesh");
}

TEST_CASE("coordinates and ranks are inverse on meshes of any list of ranks") {
  const std::vector<std::vector<int>> lists{{}, {7, 6, 5, 4, 3, 2, 1, 0}, {3, 1, 4, 0, 5, 7, 2, 6}};
  for (const auto& list : lists) {
    const DeviceMesh mesh = make({{"a", 2}, {"b", 2}, {"c", 2}}, list);
    for (int rank = 0; rank < 8; ++rank) {
      Shape at;
      REQUIRE(mesh::coordinates_of(mesh.data(), rank, at));
      CHECK(mesh.ranks()[static_cast<std::size_t>(at[0] * 4 + at[1] * 2 + at[2])] == rank);
      const std::vector<int> along = mesh::ranks_along(mesh.data(), at, std::vector<int>{2, 0});
      for (std::int64_t c = 0; c < 2; ++c)
        for (std::int64_t a = 0; a < 2; ++a)
          CHECK(along[static_cast<std::size_t>(c * 2 + a)] == mesh.ranks()[static_cast<std::size_t>(a * 4 + at[1] * 2 + c)]);
    }
  }
  Shape at;
  CHECK_FALSE(mesh::coordinates_of(make({{"a", 2}}, {2, 5}).data(), 3, at));
  CHECK_FALSE(mesh::coordinates_of(make({{"a", 2}}).data(), 7, at));
}

TEST_CASE("a slice holds this rank, with the axes in the order given") {
  const DeviceMesh mesh = make({{"pp", 2}, {"dp", 2}, {"tp", 2}});
  for (int rank = 0; rank < 8; ++rank) {
    const AsRank bound(rank);
    const int pp = rank / 4, dp = rank / 2 % 2, tp = rank % 2;
    CHECK(ranks_of(mesh["tp"]) == std::vector<int>{rank - tp, rank - tp + 1});
    CHECK(ranks_of(mesh["pp"]) == std::vector<int>{rank % 4, rank % 4 + 4});
    const DeviceMesh turned = mesh[{"tp", "dp"}];
    CHECK(ranks_of(turned) == std::vector<int>{pp * 4, pp * 4 + 2, pp * 4 + 1, pp * 4 + 3});
    CHECK(std::vector<std::string>(turned.names().begin(), turned.names().end()) == std::vector<std::string>{"tp", "dp"});
    CHECK(mesh[{"pp", "dp", "tp"}] == mesh);
    CHECK(mesh.coordinate("dp") == dp);
    CHECK(mesh.coordinate({"tp", "pp"}) == tp * 2 + pp);
    CHECK(mesh.contains_this_rank());
  }
}

TEST_CASE("a rank outside the mesh, or of another world, has no coordinate and gets the slice at 0") {
  const DeviceMesh mesh = make({{"dp", 2}, {"tp", 2}});
  for (const auto& [rank, world] : std::vector<std::pair<int, std::uint64_t>>{{5, 1}, {3, 2}}) {
    const AsRank bound(rank, world);
    CHECK_FALSE(mesh.contains_this_rank());
    CHECK_FALSE(mesh.coordinate("tp").has_value());
    CHECK(ranks_of(mesh["dp"]) == std::vector<int>{0, 2});
  }
  CHECK_FALSE(mesh.contains_this_rank());
}

TEST_CASE("axes are found by name or position, and an unknown one lists those there are") {
  const DeviceMesh mesh = make({{"dp", 2}, {"tp", 4}});
  CHECK(mesh.axis("tp") == 1);
  CHECK(mesh.axis("0") == 0);
  CHECK(mesh.size("tp") == 4);
  CHECK(mesh.size({"tp", "dp"}) == 8);
  CHECK(error_of([&] { mesh.axis("pp"); }) == "mesh: unknown axis 'pp' of Mesh(dp=2, tp=4); its axes are dp, tp");
  CHECK(error_of([&] { mesh["2"]; }) == "mesh[]: unknown axis '2' of Mesh(dp=2, tp=4); its axes are dp, tp");
  CHECK(error_of([&] { mesh[{"tp", "tp"}]; }) == "mesh[]: axis 'tp' of Mesh(dp=2, tp=4) is named twice; name every axis at most once");
  CHECK(error_of([&] { mesh[AxisNames(std::vector<std::string>{})]; }) == "mesh[]: no axis of Mesh(dp=2, tp=4) is named; its axes are dp, tp");
}

TEST_CASE("flatten joins axes in the order given, and unflatten undoes it where the order is that of the mesh") {
  const DeviceMesh mesh = make({{"pp", 2}, {"dp", 2}, {"tp", 2}});
  const DeviceMesh joined = mesh.flatten({"dp", "tp"}, "x");
  CHECK(to_string(joined) == "Mesh(pp=2, x=4)");
  CHECK(joined.unflatten("x", {{"dp", 2}, {"tp", -1}}) == mesh);
  CHECK(ranks_of(mesh.flatten({"tp", "dp"}, "x")) == std::vector<int>{0, 2, 1, 3, 4, 6, 5, 7});
  const DeviceMesh outer = mesh.flatten({"pp", "tp"}, "x");
  CHECK(to_string(outer) == "Mesh(x=4, dp=2; ranks 0 2 1 3 4 6 5 7)");
  CHECK(sizes_of(mesh.flatten({"tp", "pp", "dp"}, "all")) == std::vector<int>{8});
  CHECK(error_of([&] { mesh.flatten({"dp", "tp"}, "pp"); }) == "mesh: axis name 'pp' is repeated; axis names must be distinct");
  CHECK(error_of([&] {
          mesh.unflatten("dp", {{"a", 3}, {"b", 2}});
        }) == "mesh.unflatten: sizes do not fit (axis 'dp' has 2 ranks, the new axes 6); make their product 2");
  const DeviceMesh unnamed = make({{"", 2}, {"", 2}, {"", 2}}).flatten({"0", "1"}, "x");
  CHECK(std::vector<std::string>(unnamed.names().begin(), unnamed.names().end()) == std::vector<std::string>{"x", "1"});
}

TEST_CASE("concatenate joins along one axis what slices would take apart") {
  const DeviceMesh left = make({{"dp", 2}, {"tp", 1}}, {0, 2}), right = make({{"dp", 2}, {"tp", 2}}, {5, 4, 7, 6});
  const DeviceMesh both = DeviceMesh::concatenate(std::vector<DeviceMesh>{left, right}, "tp");
  CHECK(sizes_of(both) == std::vector<int>{2, 3});
  CHECK(ranks_of(both) == std::vector<int>{0, 5, 4, 2, 7, 6});
  CHECK(error_of([&] {
          DeviceMesh::concatenate(std::vector<DeviceMesh>{left, left}, "tp");
        }) == "mesh: rank 0 is repeated; a mesh holds every rank at most once");
  CHECK(error_of([&] {
          DeviceMesh::concatenate(std::vector<DeviceMesh>{left, right}, "dp");
        }) ==
        "mesh.concatenate: meshes differ outside axis 'dp' (Mesh(dp=2, tp=1; ranks 0 2), Mesh(dp=2, tp=2; ranks 5 4 7 6)); join meshes of one world "
        "with equal axes");
  CHECK(error_of([&] { DeviceMesh::concatenate({}, "dp"); }) == "mesh.concatenate: no mesh; give at least one");
}

TEST_CASE("self is the mesh of one rank, the same each time, and needs a rank") {
  CHECK(error_of([] { DeviceMesh::self(); }) ==
        "DeviceMesh::self: this thread is no rank; call it inside run(), or bind the thread with World::enter");
  const AsRank bound(3);
  const DeviceMesh self = DeviceMesh::self();
  CHECK(ranks_of(self) == std::vector<int>{3});
  CHECK(self == DeviceMesh::self());
  CHECK(self.contains_this_rank());
}
