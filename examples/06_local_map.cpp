// SPDX-License-Identifier: Apache-2.0
// Leaving the global view and coming back: to_local() gives each rank its part, any code may run on it, from_local() says what the parts are.
// Both are differentiable. Here: a column-parallel layer by hand, beside the one that the library derives.
#include <dtensor/dtensor.h>
using namespace dtensor;

namespace {

// By hand: x is whole on every rank, each rank uses it with its own columns, so the gradients of the copies are summands of x's gradient.
// Nothing can see that from the outside: it is said by grad_placements.
DTensor by_hand(const DTensor& x, const DTensor& w) {
  const DTensor my_x = x.to_local({.grad_placements = Placements{Partial()}});
  const DTensor my_w = w.to_local();
  const DTensor my_y = relu(matmul(my_x, my_w));  // on DeviceMesh::self(): no rank sees another
  return from_local(my_y, x.mesh(), {Shard(1)}, {.shape = {x.size(0), w.size(1)}});
}

bool layer(World& world) {
  const DeviceMesh mesh = world.mesh({{"tp", world.size()}});
  const DTensor x = randn({6, 10}, mesh, {}, {.requires_grad = true});
  const DTensor w = randn({10, 13}, mesh, {Shard(1)}, {.requires_grad = true});  // 13 columns: uneven parts
  const DTensor x2 = x.detach().set_requires_grad(), w2 = w.detach().set_requires_grad();

  const DTensor y = by_hand(x, w), y2 = relu(matmul(x2, w2));
  sum(square(y)).backward();
  sum(square(y2)).backward();
  world.print({"by hand ", y, ", derived ", y2, "; gradients ", x.grad(), " and ", w.grad()});
  return allclose(y, y2) && allclose(x.grad(), x2.grad(), {.rtol = 1e-4, .atol = 1e-4}) &&
         allclose(w.grad(), w2.grad(), {.rtol = 1e-4, .atol = 1e-4});
}

// Foreign code on the memory of a rank: a histogram of what this rank has. The counts of all ranks are summands: Partial.
bool histogram(World& world) {
  const DeviceMesh mesh = world.mesh({{"x", world.size()}});
  const DTensor x = rand({1000}, mesh, {Shard(0)});
  std::vector<std::int64_t> bins(4);
  const Tensor mine = x.local().to(Device::cpu());
  for (const float v : mine.values<const float>()) ++bins[std::min<std::size_t>(static_cast<std::size_t>(v * 4), 3)];
  const DTensor counts = from_local(Tensor::of(bins, {4}).to(world.device()), mesh, {Partial()});
  const DTensor whole = counts.full_tensor();
  world.log({"my bins ", counts.local(), " of ", whole.local()});
  return sum(whole).item<std::int64_t>() == 1000;
}

int program(World& world) {
  const bool a = layer(world), b = histogram(world);
  return a && b ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) { return run(argc, argv, program, {.ranks = 3}); }
