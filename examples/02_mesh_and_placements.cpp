// SPDX-License-Identifier: Apache-2.0
// Where ranks are (a mesh) and where the pieces of a tensor are (placements): who holds what, in numbers and as a picture.
#include <dtensor/dtensor.h>

#include <numeric>
using namespace dtensor;

namespace {

bool meshes(World& world) {
  const DeviceMesh mesh = world.mesh({{"dp", 2}, {"tp", 2}});
  world.print({mesh, ": axis tp has ", mesh.size("tp"), " ranks, the slice of this rank is ", mesh["tp"]});
  world.log({"dp ", *mesh.coordinate("dp"), ", tp ", *mesh.coordinate("tp")});
  const DeviceMesh flat = mesh.flatten({"dp", "tp"}, "all");
  // Local values: nothing has communicated, and equal meshes are equal.
  return flat == world.mesh({{"all", 4}}) && flat.unflatten("all", {{"dp", 2}, {"tp", 2}}) == mesh && *flat.coordinate("all") == world.rank();
}

// Sizes need not divide: 5 rows in ceil chunks over dp, 7 columns over tp.
bool chunks(World& world) {
  const DeviceMesh mesh = world.mesh({{"dp", 2}, {"tp", 2}});
  std::vector<float> values(35);
  std::iota(values.begin(), values.end(), 0.0f);
  const DTensor x = distribute(Tensor::of(values, {5, 7}), mesh, {Shard(0), Shard(1)});
  world.print({x, "\n", visualize(x)});
  world.log({"my part ", x.local().shape(), " begins with ", x.local().to(Device::cpu()).contiguous().values<const float>()[0]});
  const int dp = *mesh.coordinate("dp"), tp = *mesh.coordinate("tp");
  const Shape expected{dp == 0 ? 3 : 2, tp == 0 ? 4 : 3};
  const float first = static_cast<float>(21 * dp + 4 * tp);
  return x.local().shape() == expected && x.local().to(Device::cpu()).contiguous().values<const float>()[0] == first;
}

// The notation is read by the same code that prints it. By axis name the written order is the order of the splits.
bool notation(World& world) {
  const DeviceMesh mesh = world.mesh({{"dp", 2}, {"tp", 2}});
  bool same = true;
  for (const char* text :
       {"{dp: S(0), tp: S(1)}", "{tp: S(0), dp: S(0)}", "{dp: P(sum), tp: R}", "{dp: SS(0, 2), tp: S(0)}", "{dp: Ragged(0, 6 2), tp: R}"}) {
    const DTensor x = zeros({8, 4}, mesh, Placements::parse(text));
    world.print({x, " holds ", x.local().shape(), " on rank 0"});
    same = same && to_string(x).ends_with(text);
  }
  return same;
}

// A value does not depend on its placement: Partial keeps one contribution per rank, whose sum is the value.
bool values(World& world) {
  const DeviceMesh mesh = world.mesh({{"x", 4}});
  const DTensor whole = randn({6, 5}, mesh);
  const DTensor pieces = whole.redistribute({Shard(0)}), sums = whole.redistribute({Partial()});
  world.log({"of the sum I hold ", sums.local()});
  return equal(whole, pieces) && equal(whole, sums);
}

int program(World& world) {
  const bool right[] = {meshes(world), chunks(world), notation(world), values(world)};
  for (const bool part : right)
    if (!part) return 1;
  return 0;
}

}  // namespace

int main(int argc, char** argv) { return run(argc, argv, program, {.ranks = 4}); }
