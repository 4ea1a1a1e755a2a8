// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <string>
#include <utility>
#include <vector>

#include "dtensor/error.h"
#include "emulator.h"
#include "local/cuda/memory.h"

using namespace dtensor;
using namespace dtensor::local;
using namespace dtensor::local::cuda;

namespace {

std::shared_ptr<DeviceAllocator> allocator() { return std::make_shared<DeviceAllocator>(Device::cuda(0)); }

}  // namespace

TEST_CASE("a block that is let go serves the next request of its stream, and no other stream") {
  const auto a = allocator();
  const Stream first = make_stream(0), second = make_stream(0);
  const void* memory = a->allocate(1000, first)->data();
  CHECK(a->allocate(1000, second)->data() != memory);
  CHECK(a->allocate(990, first)->data() == memory);
  free_stream(first);
  free_stream(second);
}

TEST_CASE("memory that another stream uses is not reused before that is done") {
  const auto a = allocator();
  const Stream own = make_stream(0), other = make_stream(0);
  int ran = 0;
  void* memory = nullptr;
  {
    const auto buffer = a->allocate(1 << 20, own);
    memory = buffer->data();
    emulated::queue_host(other, [&ran] { ++ran; });
    static_cast<DeviceBuffer&>(*buffer).used_on(std::make_shared<DeviceStream>(Device::cuda(0), other));
  }
  const auto meanwhile = a->allocate(1 << 20, own);
  CHECK(meanwhile->data() != memory);
  CHECK(ran == 0);
  host_waits_for_stream(other);
  CHECK(a->allocate(1 << 20, own)->data() == memory);
  free_stream(own);
  free_stream(other);
}

TEST_CASE("figures count what was asked for, and the cap refuses before anything is taken") {
  const auto a = allocator();
  const Stream s = make_stream(0);
  const std::int64_t before = emulated::bytes_in_use(0);
  a->set_cap(1500);
  {
    const auto one = a->allocate(1000, s);
    CHECK(a->stats().current == 1000);
    CHECK_THROWS_WITH_AS(
        a->allocate(501, s),
        "allocate: beyond the memory cap of this rank (asked 501 bytes, in use 1000, cap 1500); raise set_memory_cap, shard over more "
        "ranks, or free tensors",
        DeviceError);
    CHECK_NOTHROW(a->allocate(500, s));
  }
  CHECK(a->stats().current == 0);
  CHECK(a->stats().peak == 1500);
  CHECK(a->stats().allocations == 2);
  a->empty_cache();
  CHECK(a->stats().cached == 0);
  CHECK(emulated::bytes_in_use(0) == before);
  free_stream(s);
}

TEST_CASE("a device without memory gives kept blocks back first, then an error with all sizes; smaller requests still work") {
  emulated::set_devices(2, 1 << 20);
  const auto a = allocator();
  const Stream s = make_stream(0);
  { const auto kept = a->allocate(600 << 10, s); }
  const auto large = a->allocate(900 << 10, s);  // does not fit beside the kept one
  CHECK_THROWS_WITH_AS(a->allocate(500 << 10, s),
                       "allocate: cuda:0 has no more memory (asked 512000 bytes, in use by this rank 921600, free on the device 65536 of 1048576); "
                       "shard over more ranks, use smaller batches or checkpoint(), or free tensors",
                       DeviceError);
  CHECK_NOTHROW(a->allocate(1000, s));
  emulated::set_devices(2, std::int64_t{1} << 30);
  free_stream(s);
}
