// SPDX-License-Identifier: Apache-2.0
// Pinned memory and copies for which the host does not wait; tensors of the mesh that go from device to device.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "dtensor/dtensor.h"
#include "under_test.h"

using namespace dtensor;
using namespace dtensor::test;

TEST_CASE("copies to and from pinned memory do not make the host wait, and it waits where it needs the bytes") {
  const Tensor from = Tensor::pinned({3, 400}, Dtype::f32), back = Tensor::pinned({3, 400}, Dtype::f32);
  CHECK(from.is_pinned());
  CHECK(from.device() == Device::cpu());
  CHECK(!Tensor::zeros({3}, Dtype::f32).is_pinned());
  from.fill_(6);
  queued();
  const Tensor there = from.to(kGpu, {.non_blocking = true});
  back.copy_(there, {.non_blocking = true});
  const Tensor also = there.to(Device::cpu(), {.non_blocking = true});
  CHECK(also.is_pinned());
  CHECK_TOLD(queued("host waits") == 0);
  from.fill_(1);  // waits until it has been read
  CHECK_TOLD(queued("host waits") == 1);
  CHECK(back.values<const float>()[1199] == 6);
  CHECK(also.values<const float>()[0] == 6);
  CHECK(last(there.view({1200})) == 6);
  there.copy_(from, {.non_blocking = true});
  CHECK(last(there.view({1200})) == 1);
}

TEST_CASE("pinned memory is not reused while a device copies") {
  const Tensor there = filled(0);
  void* memory = nullptr;
  {
    const Tensor from = Tensor::pinned({1000}, Dtype::f32);
    from.fill_(8);
    memory = from.raw();
    there.copy_(from, {.non_blocking = true});
  }
  const Tensor next = Tensor::pinned({1000}, Dtype::f32);
  CHECK_TOLD(next.raw() != memory);  // a real device may be done already
  next.fill_(0);
  CHECK(last(there) == 8);
  const Tensor reused = Tensor::pinned({1000}, Dtype::f32);
  CHECK_TOLD(reused.raw() == memory);
}

TEST_CASE("what cannot go without blocking is copied all the same") {
  const Tensor plain = Tensor::zeros({4, 5}, Dtype::f32), pinned = Tensor::pinned({4, 5}, Dtype::f32);
  pinned.fill_(2);
  for (const Tensor& t : {plain, pinned}) {
    const double value = t.is_pinned() ? 2 : 0;
    CHECK(last(t.transpose(0, 1).to(kGpu, {.non_blocking = true})) == value);
    const Tensor there = Tensor::zeros({4, 5}, Dtype::bf16, kGpu), strided = Tensor::zeros({5, 4}, Dtype::f32, kGpu).transpose(0, 1);
    there.copy_(t, {.non_blocking = true});
    CHECK(last(there.to(Dtype::f32)) == value);
    strided.copy_(t, {.non_blocking = true});
    CHECK(last(strided) == value);
    t.copy_(there, {.non_blocking = true});
    CHECK(last(t) == value);
    t.transpose(0, 1).copy_(strided.transpose(0, 1), {.non_blocking = true});
    CHECK(last(t) == value);
  }
}

TEST_CASE("a sharded tensor goes to a device and its gradient comes back") {
  run_ranks({.ranks = 2}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"x", 2}});
    const Tensor whole = Tensor::of<float>({1, 2, 3, 4, 5, 6}, {3, 2});
    const DTensor x = distribute(whole, mesh, {Shard(0)}, {.requires_grad = true});
    const DTensor there = x.to(kGpu);
    CHECK(there.device() == kGpu);
    CHECK(there.placements() == x.placements());
    CHECK(there.local().device() == kGpu);
    CHECK(x.to(Device::cpu()).impl() == x.impl());
    const DTensor moved = there.redistribute({Replicate()});
    const DTensor gradient = from_local(Tensor::of<float>({1, 0, 2, 0, 3, 0}, {3, 2}).to(kGpu), mesh, {Replicate()});
    moved.backward(gradient);
    CHECK(x.grad().device() == Device::cpu());
    CHECK(to_string(x.grad().full_tensor().local()) == "f32[3, 2] [[1, 0], [2, 0], [3, 0]]");
    CHECK(to_string(there.to(Device::cpu(), {.non_blocking = true}).full_tensor().local()) == to_string(whole));
  });
}
