// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <numeric>
#include <stdexcept>
#include <vector>

#include "local/cuda/launch.h"

using namespace dtensor::local::cuda;

namespace {

struct SumRows {
  const float* in;
  float* out;
  std::int64_t columns;
  DTENSOR_DEVICE void operator()(const Block& b) const {
    float sum = 0;
    for (std::int64_t c = b.thread; c < columns; c += b.threads) sum += in[b.index * columns + c];
    sum = reduce_block(b, sum, 0.0f, [](float x, float y) { return x + y; });
    out[b.index * b.threads + b.thread] = sum;
  }
};

// Neighbours through shared memory; `synced` says whether the threads meet in between.
struct Shift {
  int* out;
  bool synced;
  DTENSOR_DEVICE void operator()(const Block& b) const {
    int* values = b.shared<int>();
    values[b.thread] = b.thread;
    if (synced) b.sync();
    out[b.thread] = values[(b.thread + 1) % b.threads];
  }
};

struct Diverge {
  DTENSOR_DEVICE void operator()(const Block& b) const {
    if (b.thread % 2 == 0) b.sync();
  }
};

}  // namespace

TEST_CASE("a block reduction gives every thread the sum, for whole and partial warps of data") {
  for (const int threads : {32, 64, 256, 1024})
    for (const std::int64_t columns : {0, 1, 31, 32, 33, 1000, 5000}) {
      std::vector<float> in(static_cast<std::size_t>(3 * columns)), out(static_cast<std::size_t>(3 * threads), -1);
      for (std::size_t i = 0; i < in.size(); ++i) in[i] = static_cast<float>(static_cast<int>(i * 7 % 13) - 6);
      launch_blocks("sum rows", 3, threads, kWarp * sizeof(float), nullptr, SumRows{in.data(), out.data(), columns});
      for (int row = 0; row < 3; ++row) {
        const auto begin = in.begin() + row * columns;
        const float expected = std::accumulate(begin, begin + columns, 0.0f);  // small integers: exact in any order
        for (int t = 0; t < threads; ++t) REQUIRE(out[static_cast<std::size_t>(row * threads + t)] == expected);
      }
    }
}

TEST_CASE("a missing meeting shows as wrong numbers") {
  std::vector<int> out(64);
  launch_blocks("shift", 1, 64, 64 * sizeof(int), nullptr, Shift{out.data(), true});
  for (int t = 0; t < 64; ++t) CHECK(out[static_cast<std::size_t>(t)] == (t + 1) % 64);
  launch_blocks("shift", 1, 64, 64 * sizeof(int), nullptr, Shift{out.data(), false});
  int wrong = 0;
  for (int t = 0; t < 64; ++t) wrong += out[static_cast<std::size_t>(t)] != (t + 1) % 64;
  CHECK(wrong > 0);
}

TEST_CASE("threads that do not meet are an error") {
  CHECK_THROWS_WITH_AS(launch_blocks("diverge", 1, 32, 0, nullptr, Diverge{}), "threads of a block do not meet: some wait where others never come",
                       std::logic_error);
}
