// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "dtensor/error.h"
#include "local/cuda/memory.h"
#include "under_test.h"

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
  emulated::free_stream(first);
  emulated::free_stream(second);
}

TEST_CASE("streams of the library come from a pool, with the blocks that belong to them") {
  const auto a = allocator();
  auto first = std::make_unique<OwnedStream>(Device::cuda(0));
  const Stream handle = first->native();
  const void* memory = a->allocate(1000, handle)->data();
  host_waits_for_stream(handle);
  first.reset();
  const OwnedStream again(Device::cuda(0)), another(Device::cuda(0));
  CHECK(again.native() == handle);
  CHECK(another.native() != handle);
  CHECK(a->allocate(1000, again.native())->data() == memory);
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
  CHECK_TOLD(emulated::bytes_in_use(0) == before);
  emulated::free_stream(s);
}

#if !defined(DTENSOR_REAL_DEVICE)  // devices whose work and memory the test holds back

TEST_CASE("a new stream with the handle of one that is gone gets none of its blocks") {
  const auto a = allocator();
  const Stream gone = make_stream(0);
  auto buffer = a->allocate(1000, gone);
  const void* memory = buffer->data();
  emulated::free_stream(gone);
  const Stream other = make_stream(0);
  REQUIRE(other == gone);  // as handles
  // Nor is its work taken for that of the block's own stream.
  static_cast<DeviceBuffer&>(*buffer).used_on(std::make_shared<DeviceStream>(Device::cuda(0), other));
  bool ran = false;
  emulated::queue_host(other, [&ran] { ran = true; });
  buffer = {};
  CHECK(a->allocate(1000, other)->data() != memory);
  CHECK_FALSE(ran);
  emulated::free_stream(other);
}

TEST_CASE("an event that a stream waits for says nothing about a later stream with the same handle") {
  const Stream source = make_stream(0), gone = make_stream(0);
  bool ran = false;
  emulated::queue_host(source, [&ran] { ran = true; });
  PooledEvent event(Device::cuda(0), source);
  event.order(gone);
  CHECK(event.ordered(stream_id(gone)));
  emulated::free_stream(gone);
  emulated::queue_host(source, [&ran] { ran = true; });
  const Stream other = make_stream(0);
  REQUIRE(other == gone);
  CHECK_FALSE(event.ordered(stream_id(other)));
  emulated::free_stream(other);
  emulated::free_stream(source);
}

TEST_CASE("a stream on which something hangs is not given again") {
  auto hung = std::make_unique<OwnedStream>(Device::cuda(1));
  const Stream handle = hung->native();
  std::atomic<bool> open = false;
  emulated::queue_when(handle, [&open] { return open.load(); });
  hung.reset();
  CHECK(OwnedStream(Device::cuda(1)).native() != handle);
  open = true;
  host_waits_for_stream(handle);
}

TEST_CASE("a block comes back while another thread waits for memory") {
  emulated::set_devices(2, 3 << 20);
  const auto a = allocator();
  const Stream own = make_stream(0), other = make_stream(0);
  std::atomic<bool> open = false;
  std::atomic<int> asked = 0;
  const void* memory = nullptr;
  {
    const auto used = a->allocate(2 << 20, own);
    memory = used->data();
    emulated::queue_when(other, [&] {
      ++asked;
      return open.load();
    });
    static_cast<DeviceBuffer&>(*used).used_on(std::make_shared<DeviceStream>(Device::cuda(0), other));
  }
  auto small = a->allocate(1000, own);
  auto large = std::async(std::launch::async, [&] { return a->allocate(2 << 20, own); });  // must wait for the block in use
  for (const int before = asked; asked < before + 20;) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  auto back = std::async(std::launch::async, [&] {
    small = {};
    return a->stats().current;
  });
  const bool came = back.wait_for(std::chrono::seconds(5)) == std::future_status::ready;
  open = true;
  CHECK(came);
  CHECK(back.get() == 2 << 20);
  CHECK(large.get()->data() != nullptr);
  CHECK(memory != nullptr);
  emulated::set_devices(2, std::int64_t{1} << 30);
  emulated::free_stream(own);
  emulated::free_stream(other);
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
  emulated::free_stream(own);
  emulated::free_stream(other);
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
  emulated::free_stream(s);
}

#endif
