// SPDX-License-Identifier: Apache-2.0
#include "local/parallel.h"

#include <doctest/doctest.h>

#include <atomic>
#include <mutex>
#include <set>
#include <stdexcept>
#include <thread>
#include <vector>

#include "dtensor/tensor.h"
#include "local/as_rank.h"

using namespace dtensor;

TEST_CASE("every index is visited once, whatever the count, grain and number of threads") {
  for (int threads : {1, 2, 3, 8}) {
    Rank rank(threads);
    for (std::int64_t count : {0, 1, 2, 7, 64, 1000})
      for (std::int64_t grain : {1, 3, 100}) {
        std::vector<std::atomic<int>> visits(static_cast<std::size_t>(count));
        local::parallel_for(count, grain, [&](std::int64_t begin, std::int64_t end) {
          for (std::int64_t i = begin; i < end; ++i) ++visits[static_cast<std::size_t>(i)];
        });
        for (const auto& v : visits) REQUIRE(v == 1);
      }
  }
}

TEST_CASE("one thread, small work and threads outside a world run inline") {
  const auto own = std::this_thread::get_id();
  const auto inline_only = [&](std::int64_t count, std::int64_t grain) {
    std::atomic<bool> elsewhere = false;
    local::parallel_for(count, grain, [&](std::int64_t, std::int64_t) { elsewhere = elsewhere || std::this_thread::get_id() != own; });
    return !elsewhere;
  };
  CHECK(inline_only(1000, 1));
  {
    Rank rank(1);
    CHECK(inline_only(1000, 1));
  }
  Rank rank(4);
  CHECK(inline_only(1000, 1000));
}

TEST_CASE("a rank uses at most its budget of threads, and a nested call stays on its thread") {
  Rank rank(3);
  std::mutex mutex;
  std::set<std::thread::id> seen;
  for (int round = 0; round < 50; ++round)
    local::parallel_for(300, 1, [&](std::int64_t, std::int64_t) {
      const auto own = std::this_thread::get_id();
      local::parallel_for(10, 1, [&](std::int64_t, std::int64_t) { REQUIRE(std::this_thread::get_id() == own); });
      const std::lock_guard lock(mutex);
      seen.insert(own);
    });
  CHECK(seen.size() <= 3);
}

TEST_CASE("an exception of a piece reaches the caller, and the next call works") {
  Rank rank(4);
  CHECK_THROWS_AS(local::parallel_for(100, 1,
                                      [](std::int64_t begin, std::int64_t) {
                                        if (begin > 0) throw std::runtime_error("piece");
                                      }),
                  std::runtime_error);
  std::atomic<std::int64_t> sum = 0;
  local::parallel_for(100, 1, [&](std::int64_t begin, std::int64_t end) { sum += end - begin; });
  CHECK(sum == 100);
}

TEST_CASE("copies and fills have the same bits for every number of threads") {
  const auto run = [](int threads) {
    Rank rank(threads);
    Tensor t = Tensor::empty({513, 517}, Dtype::f32);
    for (std::int64_t i = 0; i < t.numel(); ++i) t.raw_as<float>()[i] = static_cast<float>(i) * 0.37f;
    t.narrow(1, 3, 400).fill_(0.5);
    const Tensor result = t.transpose(0, 1).to(Dtype::bf16);
    const auto* data = static_cast<const char*>(result.read());
    return std::vector<char>(data, data + result.bytes());
  };
  const auto one = run(1);
  CHECK(one == run(2));
  CHECK(one == run(5));
}
