// SPDX-License-Identifier: Apache-2.0
#include "local/random.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "base/rank.h"
#include "dtensor/error.h"
#include "dtensor/generator.h"

using namespace dtensor;
using local::GlobalMap;
using local::GlobalRun;

namespace {

class Map {
 public:
  Map(Shape global, std::vector<std::vector<GlobalRun>> runs) : global_(global), runs_(std::move(runs)) {
    for (const auto& r : runs_) spans_.emplace_back(r);
  }
  static Map whole(const Shape& shape) {
    std::vector<std::vector<GlobalRun>> runs;
    for (const std::int64_t n : shape) runs.push_back({{0, n}});
    return Map(shape, runs);
  }
  Shape local() const {
    Shape s;
    for (const auto& dim : runs_) {
      std::int64_t n = 0;
      for (const GlobalRun& r : dim) n += r.length;
      s.push_back(n);
    }
    return s;
  }
  std::vector<std::int64_t> indices(int dim) const {
    std::vector<std::int64_t> list;
    for (const GlobalRun& r : runs_[static_cast<std::size_t>(dim)])
      for (std::int64_t i = 0; i < r.length; ++i) list.push_back(r.begin + i);
    return list;
  }
  operator GlobalMap() const { return {global_, spans_}; }

 private:
  Shape global_;
  std::vector<std::vector<GlobalRun>> runs_;
  std::vector<std::span<const GlobalRun>> spans_;
};

// Philox4x32-10 from its definition, apart from the library that the kernel uses.
std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 4> c, std::array<std::uint32_t, 2> k) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = 0xD2511F53ull * c[0], b = 0xCD9E8D57ull * c[2];
    c = {static_cast<std::uint32_t>(b >> 32) ^ c[1] ^ k[0], static_cast<std::uint32_t>(b), static_cast<std::uint32_t>(a >> 32) ^ c[3] ^ k[1],
         static_cast<std::uint32_t>(a)};
    k = {k[0] + 0x9E3779B9u, k[1] + 0xBB67AE85u};
  }
  return c;
}
std::uint64_t word(std::uint64_t seed, std::uint64_t call, std::uint64_t i) {
  const auto low = [](std::uint64_t v) { return static_cast<std::uint32_t>(v); };
  const auto r = philox({low(i / 2), low(i / 2 >> 32), low(call), low(call >> 32)}, {low(seed), low(seed >> 32)});
  return i % 2 == 0 ? r[0] | static_cast<std::uint64_t>(r[1]) << 32 : r[2] | static_cast<std::uint64_t>(r[3]) << 32;
}

constexpr std::uint64_t kSeed = 0x0123456789abcdefull, kCall = 0xfeedull << 36;

}  // namespace

TEST_CASE("Philox4x32-10 gives the published vectors") {
  CHECK(philox({0, 0, 0, 0}, {0, 0}) == std::array<std::uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  CHECK(philox({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}) == std::array<std::uint32_t, 4>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
        std::array<std::uint32_t, 4>{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("element i is the word of (seed, call, i), also far beyond 32 bits") {
  const Tensor t = Tensor::empty({1000}, Dtype::i64);
  for (const std::int64_t begin : {std::int64_t{0}, std::int64_t{1}, (std::int64_t{1} << 40) + 3}) {
    local::fill_words(t, kSeed, kCall, Map({std::int64_t{1} << 41}, {{{begin, 1000}}}));
    for (std::int64_t i = 0; i < 1000; ++i)
      REQUIRE(static_cast<std::uint64_t>(t.values<const std::int64_t>()[static_cast<std::size_t>(i)]) ==
              word(kSeed, kCall, static_cast<std::uint64_t>(begin + i)));
  }
}

TEST_CASE("every part of every cut holds the elements of the whole, bit for bit") {
  const Shape global{6, 5, 7};
  const std::vector<std::vector<GlobalRun>> a{{{0, 6}}, {{2, 3}}, {{5, 1}, {0, 2}}, {}};
  const std::vector<std::vector<GlobalRun>> b{{{0, 5}}, {{1, 2}}, {{4, 1}, {1, 1}, {2, 1}}};
  const std::vector<std::vector<GlobalRun>> c{{{0, 7}}, {{3, 4}}, {{6, 1}, {0, 3}}, {{2, 1}}};
  for (const Dtype dtype : {Dtype::f64, Dtype::f32, Dtype::bf16, Dtype::f16}) {
    const Tensor whole = Tensor::empty(global, dtype);
    const auto width = static_cast<std::size_t>(info(dtype).bytes);
    for (const bool normal : {false, true}) {
      const auto fill = normal ? +[](const Tensor& t, const GlobalMap& m) { local::fill_normal(t, 5, 9, m, 1, 2); }
                               : +[](const Tensor& t, const GlobalMap& m) { local::fill_uniform(t, 5, 9, m, -1, 3); };
      fill(whole, Map::whole(global));
      for (const auto& ra : a)
        for (const auto& rb : b)
          for (const auto& rc : c) {
            const Map map(global, {ra, rb, rc});
            const Tensor part = Tensor::empty(map.local(), dtype);
            fill(part, map);
            const auto ia = map.indices(0), ib = map.indices(1), ic = map.indices(2);
            const auto *have = static_cast<const char*>(part.read()), *all = static_cast<const char*>(whole.read());
            std::size_t at = 0;
            for (const auto i : ia)
              for (const auto j : ib)
                for (const auto k : ic)
                  REQUIRE(std::memcmp(have + width * at++, all + width * static_cast<std::size_t>((i * 5 + j) * 7 + k), width) == 0);
          }
    }
  }
}

TEST_CASE("values are what their definition gives, computed apart in long double") {
  const std::int64_t n = 4000;
  const Tensor u = Tensor::empty({n}, Dtype::f64), f = Tensor::empty({n}, Dtype::f32), z = Tensor::empty({n}, Dtype::f64);
  local::fill_uniform(u, kSeed, 3, Map::whole({n}));
  local::fill_uniform(f, kSeed, 3, Map::whole({n}));
  local::fill_normal(z, kSeed, 3, Map::whole({n}));
  for (std::uint64_t i = 0; i < static_cast<std::uint64_t>(n); ++i) {
    REQUIRE(u.values<const double>()[i] == static_cast<double>(word(kSeed, 3, i) >> 11) * 0x1p-53);
    REQUIRE(f.values<const float>()[i] == static_cast<float>(word(kSeed, 3, i) >> 40) * 0x1p-24f);
    const auto u1 = 1.0L - static_cast<long double>(word(kSeed, 3, i / 2 * 2) >> 11) * 0x1p-53L;
    const auto u2 = static_cast<long double>(word(kSeed, 3, i / 2 * 2 + 1) >> 11) * 0x1p-53L;
    const long double radius = std::sqrt(-2 * std::log(u1)), angle = 2 * 3.14159265358979323846264338L * u2;
    REQUIRE(std::fabs(z.values<const double>()[i] - static_cast<double>(radius * (i % 2 == 0 ? std::cos(angle) : std::sin(angle)))) < 4e-15);
  }
}

TEST_CASE("the distributions have their moments, and calls and seeds give different numbers") {
  const std::int64_t n = 200000;
  const auto moments = [n](const Tensor& t) {
    double sum = 0, squares = 0, fourth = 0;
    const Tensor wide = t.to(Dtype::f64);
    for (const double x : wide.values<const double>()) sum += x, squares += x * x, fourth += x * x * x * x;
    const auto count = static_cast<double>(n);
    return std::array<double, 3>{sum / count, squares / count, fourth / count};
  };
  const Tensor t = Tensor::empty({n}, Dtype::f32), other = Tensor::empty({n}, Dtype::f32);
  local::fill_normal(t, 1, 0, Map::whole({n}));
  auto m = moments(t);
  CHECK(std::fabs(m[0]) < 0.01);
  CHECK(std::fabs(m[1] - 1) < 0.015);
  CHECK(std::fabs(m[2] - 3) < 0.1);
  local::fill_normal(other, 1, 1, Map::whole({n}));
  double product = 0;
  for (std::size_t i = 0; i < static_cast<std::size_t>(n); ++i)
    product += static_cast<double>(t.values<const float>()[i] * other.values<const float>()[i]);
  CHECK(std::fabs(product / static_cast<double>(n)) < 0.01);
  local::fill_uniform(t, 2, 0, Map::whole({n}), -1, 1);
  m = moments(t);
  CHECK(std::fabs(m[0]) < 0.01);
  CHECK(std::fabs(m[1] - 1.0 / 3) < 0.005);
  const Tensor mask = Tensor::empty({n}, Dtype::bf16);
  local::fill_keep_mask(mask, 2, 1, Map::whole({n}), 0.8, 1.25);
  CHECK(std::fabs(moments(mask)[0] - 1) < 0.01);
  const Tensor whole = Tensor::empty({n}, Dtype::i32);
  local::fill_integers(whole, 2, 2, Map::whole({n}), -3, 7);
  std::array<int, 10> seen{};
  for (const std::int32_t v : whole.values<const std::int32_t>()) ++seen[static_cast<std::size_t>(v + 3)];
  for (const int count : seen) CHECK(std::abs(count - 20000) < 700);
}

TEST_CASE("a uniform number below 1 stays below 1 in every dtype") {
  for (const Dtype dtype : {Dtype::f32, Dtype::bf16, Dtype::f16}) {
    const Tensor t = Tensor::empty({100000}, dtype);
    local::fill_uniform(t, 4, 4, Map::whole({100000}));
    float most = 0;
    const Tensor wide = t.to(Dtype::f32);
    for (const float v : wide.values<const float>()) most = std::max(most, v);
    CHECK(most < 1.0f);
    CHECK(most > 0.99f);
  }
}

TEST_CASE("the number of threads and the strides of the result change no bit") {
  const Shape shape{100, 301};
  const Tensor expected = Tensor::empty(shape, Dtype::f32), turned = Tensor::empty({301, 100}, Dtype::f32).transpose(0, 1);
  local::fill_normal(expected, 8, 8, Map::whole(shape));
  local::fill_normal(turned, 8, 8, Map::whole(shape));
  base::RankContext rank;
  rank.threads = 3;
  base::RankContext* was = base::bind_rank(&rank);
  const Tensor threaded = Tensor::empty(shape, Dtype::f32);
  local::fill_normal(threaded, 8, 8, Map::whole(shape));
  const std::size_t bytes = static_cast<std::size_t>(expected.bytes());
  CHECK(std::memcmp(threaded.read(), expected.read(), bytes) == 0);
  base::bind_rank(was);
  CHECK(std::memcmp(turned.contiguous().read(), expected.read(), bytes) == 0);
}

TEST_CASE("a generator counts calls and takes back its state") {
  Generator g(42);
  CHECK(g.next_call() == 0);
  CHECK(g.next_call() == 1);
  CHECK(g.next_self_call() == 0);
  CHECK(g.calls() == 2);
  g.set_state(7, 100);
  CHECK(g.seed() == 7);
  CHECK(g.next_call() == 100);
}

TEST_CASE("each rank has its own default generator, and manual_seed starts it anew") {
  base::RankContext one, two;
  base::RankContext* was = base::bind_rank(&one);
  manual_seed(5);
  default_generator().next_call();
  base::bind_rank(&two);
  CHECK(default_generator().seed() == 0);
  CHECK(default_generator().calls() == 0);
  base::bind_rank(&one);
  CHECK(default_generator().seed() == 5);
  CHECK(default_generator().calls() == 1);
  manual_seed(5);
  CHECK(default_generator().calls() == 0);
  base::bind_rank(was);
}

TEST_CASE("a dtype that a distribution does not have is refused") {
  const Tensor t = Tensor::empty({2}, Dtype::i32);
  CHECK_THROWS_WITH_AS(local::fill_normal(t, 0, 0, Map::whole({2})), "normal: the dtype is not floating (i32); use f64, f32, bf16 or f16",
                       InvalidArgument);
  CHECK_THROWS_AS(local::fill_integers(t, 0, 0, Map::whole({2}), 3, 3), InvalidArgument);
}
