// SPDX-License-Identifier: Apache-2.0
// Streams, events and scopes, and the memory of tensors that several streams use.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "dtensor/dtensor.h"
#include "under_test.h"

using namespace dtensor;
using namespace dtensor::test;

TEST_CASE("kernels run on the current stream, which a scope changes and gives back") {
  const Stream own = Stream::current(kGpu), other = Stream::create(kGpu);
  CHECK(own.device() == kGpu);
  CHECK(!(own == other));
  queued();
  filled(1);
  for (const auto& e : queued()) CHECK(e.stream == own.native());
  {
    const StreamScope scope(other);
    CHECK(Stream::current(kGpu) == other);
    queued();
    filled(1);
    for (const auto& e : queued()) CHECK(e.stream == other.native());
    const StreamScope inner(own);
    CHECK(Stream::current(kGpu) == own);
  }
  CHECK(Stream::current(kGpu) == own);
}

TEST_CASE("what the host stages for kernels outlives the stream on which it was staged") {
  run_ranks({.ranks = 1, .device = kGpu}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"x", 1}});
    const DTensor table = randn({7, 3}, mesh), rows = randint(0, 7, {5}, mesh);
    const auto read = [&] { return to_string(embedding(rows, table).local().to(Device::cpu())); };
    const std::string expected = read();
    {
      const Stream gone = Stream::create(kGpu);
      const StreamScope scope(gone);
      CHECK(read() == expected);
    }
    CHECK(read() == expected);
  });
}

TEST_CASE("a tensor is used inside a scope and outside in the order of the program") {
  const Stream other = Stream::create(kGpu);
  const Tensor x = filled(2), y = filled(0);
  {
    const StreamScope scope(other);
    y.copy_(x);
    x.fill_(5);
  }
  y.fill_(7);
  {
    const StreamScope scope(other);
    x.copy_(y);
  }
  CHECK(last(x) == 7);
}

TEST_CASE("without order a stream goes its own way until it is told to wait") {
  const Stream own = Stream::current(kGpu), other = Stream::create(kGpu);
  const Tensor x = filled(1), y = filled(0);
  own.synchronize();
  x.fill_(2);  // queued, not run
  const Event filled_two(own);
  CHECK_TOLD(!filled_two.done());
  CHECK_TOLD(!own.done());
  {
    const StreamScope scope(other, {.ordered = false});
    y.copy_(x);
    CHECK_TOLD(last(y) == 1);
    other.wait(filled_two);
    y.copy_(x);
    CHECK(last(y) == 2);
  }
  filled_two.wait();
  CHECK(filled_two.done());
  other.synchronize();
  CHECK(other.done());
}

TEST_CASE("memory of which a stream is recorded is not reused before that is done") {
  const Stream other = Stream::create(kGpu);
  const Tensor result = filled(0);
  Stream::current(kGpu).synchronize();
  void* memory = nullptr;
  {
    const Tensor x = filled(3);
    memory = x.raw();
    other.wait(Stream::current(kGpu));
    const StreamScope scope(other, {.ordered = false});
    result.copy_(x);
    record_stream(x, other);
  }
  const Tensor next = filled(4);
  CHECK_TOLD(next.raw() != memory);  // a real device may be done already
  other.synchronize();
  CHECK(last(result) == 3);
  CHECK_TOLD(filled(5).raw() == memory);
}

TEST_CASE("an application's stream is taken as it is") {
  const Stream made = Stream::create(kGpu), mine = Stream::wrap(made.native());
  CHECK(mine == made);
  const Tensor x = filled(1);
  {
    const StreamScope scope(mine);
    x.fill_(9);
  }
  CHECK(last(x) == 9);
}

TEST_CASE("what has no streams says so") {
  CHECK_THROWS_WITH_AS(Stream::create(Device::cpu()), "Stream::create: cpu has no streams; give a CUDA device, as Device::cuda(0)", InvalidArgument);
  CHECK_THROWS_AS(Stream::create(Device::cuda(100)), DeviceError);
  CHECK_THROWS_AS(record_stream(Tensor(), Stream::current(kGpu)), InvalidArgument);
}
