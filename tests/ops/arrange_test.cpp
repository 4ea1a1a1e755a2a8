// SPDX-License-Identifier: Apache-2.0
// What flip, roll, pad and unfold move along a split dimension, and what they and the forms of views give.
#include <doctest/doctest.h>

#include <algorithm>
#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include <dtensor/dtensor.h>

using namespace dtensor;

namespace {

constexpr int kRanks = 4;
using ByRank = std::vector<std::int64_t>;

// 3 r + c at row r and column c.
DTensor counting(const Shape& shape, const DeviceMesh& mesh, const Placements& placements) {
  std::vector<float> values(static_cast<std::size_t>(shape.numel()));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  return distribute(Tensor::of(values, shape), mesh, placements, {.source = Source::every_rank});
}
std::vector<float> whole(const DTensor& t) {
  const Tensor local = t.detach().full_tensor().local().contiguous();
  const auto v = local.values<const float>();
  return {v.begin(), v.end()};
}
struct Seen {
  ByRank bytes = ByRank(kRanks);
  std::string text;
  std::vector<float> values;
};
// f on four ranks: what each received, and the value.
Seen seen(const std::function<DTensor(const DeviceMesh&)>& f) {
  Seen s;
  std::mutex mutex;
  run_ranks({.ranks = kRanks}, [&](World& world) {
    const DeviceMesh mesh = world.mesh({{"x", kRanks}});
    const CommCounter counter;
    const DTensor t = f(mesh);
    const std::int64_t bytes = counter.bytes_received();
    const std::vector<float> values = whole(t);
    const std::lock_guard lock(mutex);
    s.bytes[static_cast<std::size_t>(world.rank())] = bytes;
    s.text = to_string(t);
    s.values = values;
  });
  return s;
}
constexpr std::int64_t kRow = 3 * 4;

}  // namespace

TEST_CASE("roll along a split dimension brings each rank the rows that it lacks") {
  const Seen s = seen([](const DeviceMesh& mesh) { return roll(counting({16, 3}, mesh, {Shard(0)}), {-15}, {0}); });
  CHECK(s.bytes == ByRank(kRanks, kRow));
  CHECK(s.text == "f32[16, 3]{x: S(0)}");
  for (std::size_t i = 0; i < 48; ++i) CHECK(s.values[i] == static_cast<float>((i + 45) % 48));
}

TEST_CASE("flip along a split dimension exchanges parts, and flip of another moves nothing") {
  const Seen s = seen([](const DeviceMesh& mesh) { return flip(counting({16, 3}, mesh, {Shard(0)}), {0}); });
  CHECK(s.bytes == ByRank(kRanks, 4 * kRow));
  for (std::size_t r = 0; r < 16; ++r) CHECK(s.values[r * 3] == static_cast<float>((15 - r) * 3));
  CHECK(seen([](const DeviceMesh& mesh) { return flip(counting({16, 3}, mesh, {Shard(0)}), {1}); }).bytes == ByRank(kRanks, 0));
}

TEST_CASE("pad along a split dimension moves the rows that change their rank") {
  // Rows -1 to 17 in parts of five; rows 0 to 15 in parts of four.
  const Seen s = seen([](const DeviceMesh& mesh) {
    return pad(counting({16, 3}, mesh, {Shard(0)}), {0, 0, 1, 2}, {.mode = "constant", .value = 7.0});
  });
  CHECK(s.bytes == ByRank{0, kRow, 2 * kRow, 0});
  CHECK(s.text == "f32[19, 3]{x: S(0)}");
  for (std::size_t r = 0; r < 19; ++r) CHECK(s.values[r * 3 + 1] == (r == 0 || r > 16 ? 7 : static_cast<float>((r - 1) * 3 + 1)));
}

TEST_CASE("a diagonal of split rows moves its elements alone, and what moved cannot be written through") {
  for (const std::int64_t offset : {0, -3, 2}) {
    CAPTURE(offset);
    const Seen s = seen([&](const DeviceMesh& mesh) { return diagonal(counting({12, 8}, mesh, {Shard(0)}), offset); });
    std::vector<float> expected;
    for (std::int64_t r = std::max<std::int64_t>(0, -offset); r < 12 && r + offset < 8; ++r)
      expected.push_back(static_cast<float>(8 * r + r + offset));
    CHECK(s.values == expected);
    for (const std::int64_t bytes : s.bytes) CHECK(bytes <= 2 * 4);
  }
  run_ranks({.ranks = kRanks}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"x", kRanks}});
    CHECK_THROWS_AS(fill_(diagonal(counting({12, 8}, mesh, {Shard(0)})), 1), InvalidArgument);
    const DTensor square = counting({8, 8}, mesh, {Shard(0)});
    fill_(diagonal(square), -1);
    CHECK(whole(square)[9] == -1);
  });
}

TEST_CASE("unfold of a split dimension brings the ends of windows, and its gradient their sums") {
  const Seen s = seen([](const DeviceMesh& mesh) { return unfold(counting({16, 3}, mesh, {Shard(0)}), 0, 3, 1); });
  CHECK(s.bytes == ByRank{2 * kRow, 2 * kRow, 2 * kRow, 0});
  CHECK(s.text == "f32[14, 3, 3]{x: S(0)}");
  for (std::size_t w = 0; w < 14; ++w)
    for (std::size_t j = 0; j < 3; ++j) CHECK(s.values[w * 9 + 3 + j] == static_cast<float>((w + j) * 3 + 1));
  const Seen g = seen([](const DeviceMesh& mesh) {
    const DTensor x = counting({16, 3}, mesh, {Shard(0)});
    x.set_requires_grad();
    sum(unfold(x, 0, 3, 1)).backward();
    return x.grad();
  });
  for (std::size_t r = 0; r < 16; ++r) CHECK(g.values[r * 3] == static_cast<float>(std::min({r + 1, 16 - r, std::size_t{3}})));
}

TEST_CASE("repeat, tile, repeat_interleave, rot90, diag and pixel_shuffle give what loops give") {
  for (const Placements& p : {Placements{Replicate()}, Placements{Shard(0)}, Placements{Shard(1)}}) {
    const auto of = [&](const std::function<DTensor(const DTensor&)>& f) {
      return seen([&](const DeviceMesh& mesh) { return f(counting({2, 3}, mesh, p)); }).values;
    };
    CHECK(of([](const DTensor& x) { return repeat(x, {1, 2}); }) == std::vector<float>{0, 1, 2, 0, 1, 2, 3, 4, 5, 3, 4, 5});
    CHECK(of([](const DTensor& x) { return tile(x, {2}); }) == std::vector<float>{0, 1, 2, 0, 1, 2, 3, 4, 5, 3, 4, 5});
    CHECK(of([](const DTensor& x) { return repeat_interleave(x, 2, 0); }) == std::vector<float>{0, 1, 2, 0, 1, 2, 3, 4, 5, 3, 4, 5});
    CHECK(of([](const DTensor& x) { return repeat_interleave(x, 2); }) == std::vector<float>{0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5});
    CHECK(of([](const DTensor& x) { return rot90(x); }) == std::vector<float>{2, 5, 1, 4, 0, 3});
    CHECK(of([](const DTensor& x) { return rot90(x, 3); }) == std::vector<float>{3, 0, 4, 1, 5, 2});
    CHECK(of([](const DTensor& x) { return diag(x, 1); }) == std::vector<float>{1, 5});
    CHECK(of([](const DTensor& x) { return diag(select(x, 0, 1), -1); }) == std::vector<float>{0, 0, 0, 0, 3, 0, 0, 0, 0, 4, 0, 0, 0, 0, 5, 0});
  }
  const auto s = seen([](const DeviceMesh& mesh) { return pixel_shuffle(counting({4, 1, 2}, mesh, {Shard(0)}), 2); });
  CHECK(s.values == std::vector<float>{0, 2, 1, 3, 4, 6, 5, 7});
  const auto back = seen([](const DeviceMesh& mesh) { return pixel_unshuffle(pixel_shuffle(counting({4, 1, 2}, mesh, {Shard(0)}), 2), 2); });
  CHECK(back.values == std::vector<float>{0, 1, 2, 3, 4, 5, 6, 7});
}
