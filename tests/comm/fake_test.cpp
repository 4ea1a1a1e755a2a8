// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include "comm/expected.h"
#include "dtensor/comm.h"
#include "dtensor/world.h"

using namespace dtensor;
using namespace dtensor::testing;

TEST_CASE("on a fake world an all_gather holds the own shard everywhere and an all_reduce the own values") {
  World world = World::fake(5, 64);
  const Communicator c = world.communicator(world.mesh({{"x", 64}}), "x");
  const Tensor in = input_of(5, {2}, Dtype::f32);
  const auto own = doubles_of(in), all = doubles_of(c.all_gather(in));
  REQUIRE(all.size() == 128);
  for (std::size_t i = 0; i < all.size(); ++i) CHECK(all[i] == own[i % 2]);
  CHECK(doubles_of(c.all_reduce(in, ReduceOp::avg)) == own);
  const Tensor wide = input_of(5, {128}, Dtype::f32);
  CHECK(doubles_of(c.reduce_scatter(wide)) == doubles_of(wide.narrow(0, 10, 2)));
  CHECK(doubles_of(c.broadcast(in, 3)) == std::vector<double>(2, 0.0));
  c.barrier();
}

TEST_CASE("on a fake world tensors on the meta device carry shapes only") {
  World world = World::fake(0, 1000);
  const Communicator c = world.communicator(world.mesh({{"x", 1000}}), "x");
  const Tensor in = Tensor::empty({1 << 20, 1 << 20}, Dtype::f32, Device::meta());
  CHECK(c.all_gather(in).shape() == Shape{1000 * (std::int64_t{1} << 20), 1 << 20});
  CHECK(c.reduce_scatter(in, ReduceOp::sum, 1).shape() == Shape{1 << 20, 1049});
  CHECK(c.all_reduce(in).device() == Device::meta());
}
