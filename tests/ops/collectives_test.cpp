// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <vector>

#include <dtensor/dtensor.h>

namespace {

using namespace dtensor;

DTensor mine(const std::vector<float>& values, const Shape& shape) { return from_local(Tensor::of(values, shape), DeviceMesh::self(), {}); }
std::vector<float> values_of(const DTensor& t) {
  const Tensor local = t.local().contiguous();
  const auto v = local.values<const float>();
  return {v.begin(), v.end()};
}

}  // namespace

TEST_CASE("functional all_reduce gives every rank the sum, out of place, and its gradient is an all_reduce") {
  for (const int n : {1, 2, 3, 4}) {
    run_ranks({.ranks = n}, [n](World& world) {
      const DeviceMesh mesh = world.mesh({{"x", n}});
      const DTensor x = mine({1.0f + static_cast<float>(world.rank()), 2}, {2});
      x.set_requires_grad();
      const DTensor y = all_reduce(x, ReduceOp::sum, mesh, "x");
      CHECK(values_of(y) == std::vector<float>{static_cast<float>(n * (n + 1)) / 2, static_cast<float>(2 * n)});
      CHECK(values_of(x) == std::vector<float>{1.0f + static_cast<float>(world.rank()), 2});
      sum(y).backward();
      CHECK(values_of(x.grad()) == std::vector<float>(2, static_cast<float>(n)));
      CHECK(values_of(all_reduce(x, ReduceOp::max, mesh, "x"))[0] == static_cast<float>(n));
    });
  }
}

TEST_CASE("functional all_gather and reduce_scatter are each other's gradient") {
  run_ranks({.ranks = 3}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"x", 3}});
    const auto r = static_cast<float>(world.rank());
    const DTensor x = mine({r, r + 10}, {1, 2});
    x.set_requires_grad();
    const DTensor gathered = all_gather(x, 1, mesh, "x");
    CHECK(values_of(gathered) == std::vector<float>{0, 10, 1, 11, 2, 12});
    sum(gathered).backward();
    CHECK(values_of(x.grad()) == std::vector<float>{3, 3});
    const DTensor y = mine({1, 2, 3, 4, 5, 6}, {6});
    y.set_requires_grad();
    const DTensor part = reduce_scatter(y, 0, ReduceOp::sum, mesh, "x");
    CHECK(values_of(part) == std::vector<float>{3 * (2 * r + 1), 3 * (2 * r + 2)});
    sum(part * (r + 1)).backward();
    CHECK(values_of(y.grad()) == std::vector<float>{1, 1, 2, 2, 3, 3});
  });
}

TEST_CASE("functional all_to_all exchanges parts, and its gradient exchanges them back") {
  run_ranks({.ranks = 2}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"x", 2}});
    const auto r = static_cast<float>(10 * world.rank());
    const DTensor x = mine({r, r + 1, r + 2, r + 3}, {2, 2});
    x.set_requires_grad();
    const DTensor y = all_to_all(x, 0, 1, mesh, "x");
    CHECK(y.shape() == Shape{1, 4});
    const float row = world.rank() == 0 ? 0 : 2;
    CHECK(values_of(y) == std::vector<float>{row, row + 1, row + 10, row + 11});
    sum(y * y).backward();
    CHECK(values_of(x.grad()) == std::vector<float>{2 * r, 2 * (r + 1), 2 * (r + 2), 2 * (r + 3)});
    CHECK_THROWS_WITH_AS(all_to_all(mine({1, 2, 3}, {3, 1}), 0, 1, mesh, "x"),
                         "all_to_all: dim 0 of f32[3, 1]{self: R} does not divide by 2 ranks; pad it, or use Communicator::all_to_all with sizes",
                         InvalidArgument);
  });
}

TEST_CASE("functional broadcast gives the first rank's value, and collectives of a sub-group stay in it") {
  run_ranks({.ranks = 4}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"dp", 2}, {"tp", 2}});
    const auto r = static_cast<float>(world.rank());
    CHECK(values_of(broadcast(mine({r + 5}, {1}), mesh, {"dp", "tp"})) == std::vector<float>{5});
    CHECK(values_of(all_reduce(mine({r}, {1}), ReduceOp::sum, mesh, "tp")) == std::vector<float>{world.rank() < 2 ? 1.0f : 5.0f});
    CHECK(values_of(all_reduce(mine({r}, {1}), ReduceOp::sum, mesh, "dp")) == std::vector<float>{world.rank() % 2 == 0 ? 2.0f : 4.0f});
    const CommCounter counter;
    values_of(all_reduce(mine({r}, {1}), ReduceOp::avg, mesh, "tp"));
    CHECK(counter.launches("all_reduce") == 1);
    CHECK(counter.implicit_launches() == 0);
  });
}

TEST_CASE("the part of an average gets its share of the gradient") {
  run_ranks({.ranks = 3}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"x", 3}});
    const DTensor part = mine({static_cast<float>(world.rank()), 3}, {2});
    part.set_requires_grad();
    const DTensor average = from_local(part, mesh, {Partial(ReduceOp::avg)});
    const DTensor whole = average.redistribute({});
    CHECK(values_of(whole) == std::vector<float>{1, 3});
    sum(whole * 6).backward();
    CHECK(values_of(part.grad()) == std::vector<float>{2, 2});
  });
}
