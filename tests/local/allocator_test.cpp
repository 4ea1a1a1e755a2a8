// SPDX-License-Identifier: Apache-2.0
#include "local/allocator.h"

#include <doctest/doctest.h>

#include <thread>

#include "base/rank.h"
#include "dtensor/error.h"

using namespace dtensor;

namespace {

struct Bound {
  explicit Bound(base::RankContext& context) : was(base::bind_rank(&context)) {}
  ~Bound() { base::bind_rank(was); }
  base::RankContext* was;
};

#if defined(__SANITIZE_ADDRESS__)
constexpr bool kReuses = false;
#else
constexpr bool kReuses = true;
#endif

}  // namespace

TEST_CASE("a size class holds every request that maps to it and wastes at most an eighth beyond 512 bytes") {
  std::size_t before = 0;
  for (std::size_t bytes = 0; bytes < 300000; bytes += bytes < 5000 ? 1 : 37) {
    const std::size_t c = local::CachingAllocator::size_class(bytes), held = local::CachingAllocator::class_bytes(c);
    REQUIRE(held >= bytes);
    REQUIRE(c >= before);
    if (bytes <= 512) REQUIRE(held < bytes + 64 + (bytes == 0 ? 1 : 0));
    else REQUIRE(held - bytes <= bytes / 8);
    REQUIRE(local::CachingAllocator::size_class(held) == c);
    before = c;
  }
}

TEST_CASE("figures follow what is in use, its peak and the number of allocations") {
  base::RankContext rank;
  const Bound bound(rank);
  const Tensor a = Tensor::empty({100}, Dtype::f32);
  CHECK(memory_stats().current == 400);
  {
    const Tensor b = Tensor::empty({1000}, Dtype::f64), view = b.narrow(0, 1, 2);
    CHECK(memory_stats().current == 8400);
  }
  CHECK(memory_stats().current == 400);
  CHECK(memory_stats().peak == 8400);
  CHECK(memory_stats().allocations == 2);
  CHECK(memory_stats().cached == (kReuses ? 8192 : 0));
  reset_peak_memory();
  CHECK(memory_stats().peak == 400);
  empty_cache();
  CHECK(memory_stats().cached == 0);
  a.resize_storage(0);
  CHECK(memory_stats().current == 0);
}

TEST_CASE("memory is aligned to 64 bytes and used again") {
  base::RankContext rank;
  const Bound bound(rank);
  const void* first = nullptr;
  {
    const Tensor t = Tensor::empty({300}, Dtype::f32);
    first = t.raw();
  }
  const Tensor t = Tensor::empty({299}, Dtype::f32);
  CHECK((t.raw() == first) == kReuses);
  for (int n : {0, 1, 17, 1000, 100000}) CHECK(reinterpret_cast<std::uintptr_t>(Tensor::empty({n}, Dtype::u8).raw()) % 64 == 0);
}

TEST_CASE("beyond the cap an allocation fails, names the sizes and leaves everything usable") {
  base::RankContext rank;
  const Bound bound(rank);
  set_memory_cap(1000);
  const Tensor a = Tensor::empty({200}, Dtype::f32);
  try {
    Tensor::empty({100}, Dtype::f32);
    FAIL("no error");
  } catch (const DeviceError& e) {
    CHECK(std::string(e.what()) ==
          "allocate: beyond the memory cap of this rank (asked 400 bytes, in use 800, cap 1000); raise set_memory_cap, shard over more ranks, or "
          "free tensors");
  }
  CHECK(memory_stats().current == 800);
  CHECK(memory_stats().allocations == 1);
  CHECK_NOTHROW(Tensor::empty({50}, Dtype::f32));
  set_memory_cap(0);
  CHECK_NOTHROW(Tensor::empty({100}, Dtype::f32));
  CHECK_THROWS_AS(set_memory_cap(-1), InvalidArgument);
}

TEST_CASE("memory that the machine does not have is a DeviceError") {
  base::RankContext rank;
  const Bound bound(rank);
  CHECK_THROWS_AS(Tensor::empty({std::int64_t{1} << 50}, Dtype::f32), DeviceError);
  CHECK(memory_stats().current == 0);
}

TEST_CASE("each rank has its own figures, and a block may come back from another thread") {
  base::RankContext one, two;
  Tensor given;
  {
    const Bound bound(one);
    given = Tensor::empty({256}, Dtype::f32);
    CHECK(memory_stats().current == 1024);
  }
  {
    const Bound bound(two);
    CHECK(memory_stats().current == 0);
  }
  std::thread([&] { given = Tensor(); }).join();
  const Bound bound(one);
  CHECK(memory_stats().current == 0);
}

TEST_CASE("many threads give blocks back while their owner allocates") {
  base::RankContext rank;
  const Bound bound(rank);
  for (int round = 0; round < 20; ++round) {
    std::vector<Tensor> tensors;
    for (int i = 0; i < 64; ++i) tensors.push_back(Tensor::empty({i * 8}, Dtype::f32));
    std::vector<std::thread> threads;
    for (int part = 0; part < 4; ++part)
      threads.emplace_back([mine = std::vector<Tensor>(tensors.begin() + part * 16, tensors.begin() + part * 16 + 16)]() mutable { mine.clear(); });
    tensors.clear();
    for (int i = 0; i < 64; ++i) CHECK(Tensor::empty({i * 8}, Dtype::f32).raw() != nullptr);
    for (std::thread& t : threads) t.join();
  }
  CHECK(memory_stats().current == 0);
}

TEST_CASE("a tensor outlives the rank that made it") {
  Tensor survivor;
  {
    base::RankContext rank;
    const Bound bound(rank);
    survivor = Tensor::zeros({64}, Dtype::i32);
    Tensor::empty({1000}, Dtype::i32);
  }
  CHECK(survivor.values<std::int32_t>()[63] == 0);
  survivor.fill_(3);
  CHECK(survivor.values<const std::int32_t>()[63] == 3);
}

TEST_CASE("kept blocks stay within a quarter of the highest use and 64 MiB") {
  base::RankContext rank;
  const Bound bound(rank);
  for (std::int64_t mib = 1; mib < 60; ++mib) Tensor::empty({mib << 20}, Dtype::u8);
  const MemoryStats s = memory_stats();
  CHECK(s.cached <= s.peak + s.peak / 4 + (64 << 20));
}
