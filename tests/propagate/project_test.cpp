// SPDX-License-Identifier: Apache-2.0
// Views by enumeration: what the projections say against lists of indices cut element by element.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <string>

#include "propagate/project.h"

using namespace dtensor;
using namespace dtensor::propagate;

namespace {

using Indices = std::vector<std::int64_t>;

// What the rank at `at` keeps of 0 .. n-1, by the words of the definition.
Indices owned(const Splits& splits, std::int64_t n, const std::vector<int>& mesh, const std::vector<int>& at) {
  Indices list;
  for (std::int64_t i = 0; i < n; ++i) list.push_back(i);
  for (const Split& s : splits) {
    std::int64_t joint = 0, ranks = 1;
    for (int a : s.axes) {
      joint = joint * mesh[static_cast<std::size_t>(a)] + at[static_cast<std::size_t>(a)];
      ranks *= mesh[static_cast<std::size_t>(a)];
    }
    Indices kept;
    const auto m = static_cast<std::int64_t>(list.size());
    const std::int64_t piece = (m + s.pieces - 1) / s.pieces;
    for (std::int64_t from = 0; from < m; from += piece) {
      const std::int64_t length = std::min(piece, m - from);
      std::int64_t begin = 0, end = 0;
      if (s.sizes.empty()) {
        const std::int64_t chunk = (length + ranks - 1) / ranks;
        begin = std::min(length, joint * chunk);
        end = std::min(length, begin + chunk);
      } else {
        for (std::int64_t j = 0; j < joint; ++j) begin += s.sizes[static_cast<std::size_t>(j)];
        end = begin + s.sizes[static_cast<std::size_t>(joint)];
      }
      for (std::int64_t i = begin; i < end; ++i) kept.push_back(list[static_cast<std::size_t>(from + i)]);
    }
    list = kept;
  }
  return list;
}

Indices product(const Indices& major, const Indices& minor, std::int64_t b) {
  Indices all;
  for (std::int64_t i : major)
    for (std::int64_t j : minor) all.push_back(i * b + j);
  return all;
}

template <class F>
void each_coordinate(const std::vector<int>& mesh, F&& f) {
  std::vector<int> at(mesh.size(), 0);
  while (true) {
    f(at);
    std::size_t a = mesh.size();
    while (a > 0 && ++at[a - 1] == mesh[a - 1]) at[--a] = 0;
    if (a == 0) return;
  }
}

const std::vector<std::vector<int>> kMeshes{{2}, {3}, {2, 2}, {2, 3}};

// Lists of splits of n over the axes of a mesh: none, each axis, all in both orders, pieces of 2, explicit sizes, joint ones.
std::vector<Splits> some_splits(std::int64_t n, const std::vector<int>& mesh) {
  std::vector<Splits> all{{}};
  const auto ragged = [&](std::vector<int> axes, std::int64_t ranks) {
    Split s{.axes = std::move(axes), .pieces = 1, .sizes = Indices(static_cast<std::size_t>(ranks), 0)};
    s.sizes.front() = n / 3;
    s.sizes.back() += n - n / 3;
    return s;
  };
  const int axes = static_cast<int>(mesh.size());
  for (int a = 0; a < axes; ++a) {
    for (std::int64_t pieces : {1, 2, 3}) all.push_back({{.axes = {a}, .pieces = pieces, .sizes = {}}});
    all.push_back({ragged({a}, mesh[static_cast<std::size_t>(a)])});
    for (int b = 0; b < axes; ++b) {
      if (a == b) continue;
      for (std::int64_t pieces : {1, 2, 4}) all.push_back({{.axes = {a}, .pieces = 1, .sizes = {}}, {.axes = {b}, .pieces = pieces, .sizes = {}}});
      all.push_back({ragged({a}, mesh[static_cast<std::size_t>(a)]), {.axes = {b}, .pieces = 1, .sizes = {}}});
    }
  }
  if (axes == 2) all.push_back({ragged({0, 1}, mesh[0] * mesh[1])});
  return all;
}

bool on_one_axis_set(const Splits& major, const Splits& minor) {
  for (const Split& s : major)
    for (const Split& t : minor)
      for (int a : s.axes)
        for (int b : t.axes)
          if (a == b) return false;
  return true;
}

}  // namespace

TEST_CASE("splits of a dimension as splits of its factors own the same indices in the same order") {
  int answered = 0;
  for (const auto& mesh : kMeshes) {
    for (std::int64_t a : {1, 2, 3, 4, 6}) {
      for (std::int64_t b : {1, 2, 3, 4, 6}) {
        for (const Splits& dim : some_splits(a * b, mesh)) {
          const std::array<std::int64_t, 2> sizes{a, b};
          const auto factors = to_factors(dim, sizes, mesh);
          if (!factors) continue;
          ++answered;
          each_coordinate(mesh, [&](const std::vector<int>& at) {
            CAPTURE(a);
            CAPTURE(b);
            REQUIRE(owned(dim, a * b, mesh, at) == product(owned((*factors)[0], a, mesh, at), owned((*factors)[1], b, mesh, at), b));
          });
        }
      }
    }
  }
  CHECK(answered > 500);
}

TEST_CASE("splits of factors as splits of their product own the same indices in the same order") {
  int answered = 0;
  for (const auto& mesh : kMeshes) {
    for (std::int64_t a : {1, 2, 3, 4, 5}) {
      for (std::int64_t b : {1, 2, 3, 4, 6}) {
        for (const Splits& major : some_splits(a, mesh)) {
          for (const Splits& minor : some_splits(b, mesh)) {
            if (!on_one_axis_set(major, minor)) continue;
            const std::array<Splits, 2> factors{major, minor};
            const std::array<std::int64_t, 2> sizes{a, b};
            const auto dim = to_dimension(factors, sizes, mesh);
            if (!dim) continue;
            ++answered;
            each_coordinate(mesh, [&](const std::vector<int>& at) {
              CAPTURE(a);
              CAPTURE(b);
              REQUIRE(owned(*dim, a * b, mesh, at) == product(owned(major, a, mesh, at), owned(minor, b, mesh, at), b));
            });
          }
        }
      }
    }
  }
  CHECK(answered > 1000);
}

TEST_CASE("the major factor stays split exactly when every bound of the dimension's chunks is a multiple of the minor size") {
  for (int ranks : {2, 3, 4}) {
    for (std::int64_t a : {2, 3, 4, 5, 6, 7, 8}) {
      for (std::int64_t b : {2, 3, 4}) {
        const Splits chunks{{.axes = {0}, .pieces = 1, .sizes = {}}};
        const std::int64_t n = a * b, chunk = (n + ranks - 1) / ranks;
        bool aligned = true;
        for (int r = 0; r < ranks; ++r) aligned = aligned && std::min(n, r * chunk) % b == 0;
        const std::array<std::int64_t, 2> sizes{a, b};
        CAPTURE(ranks);
        CAPTURE(a);
        CAPTURE(b);
        CHECK(to_factors(chunks, sizes, std::vector<int>{ranks}).has_value() == aligned);
      }
    }
  }
}

TEST_CASE("a major factor's chunks always merge, as chunks or as exact sizes") {
  for (int ranks : {2, 3, 4}) {
    for (std::int64_t a : {1, 2, 3, 5, 8}) {
      const std::array<Splits, 2> factors{Splits{{.axes = {0}, .pieces = 1, .sizes = {}}}, Splits{}};
      const std::array<std::int64_t, 2> sizes{a, 2};
      CHECK(to_dimension(factors, sizes, std::vector<int>{ranks}).has_value());
    }
  }
}

TEST_CASE("[6] over 2 ranks divides, and does not become [3, 2] without a move") {
  const Splits half{{.axes = {0}, .pieces = 1, .sizes = {}}};
  CHECK_FALSE(to_factors(half, std::array<std::int64_t, 2>{3, 2}, std::vector<int>{2}).has_value());
  CHECK(to_factors(half, std::array<std::int64_t, 2>{2, 3}, std::vector<int>{2}).has_value());
}

TEST_CASE("[3, 2] split over two axes merges to the joint sizes 2 2 2 0") {
  const Splits both{{.axes = {0}, .pieces = 1, .sizes = {}}, {.axes = {1}, .pieces = 1, .sizes = {}}};
  const auto merged = to_dimension(std::array<Splits, 2>{both, Splits{}}, std::array<std::int64_t, 2>{3, 2}, std::vector<int>{2, 2});
  REQUIRE(merged.has_value());
  REQUIRE(merged->size() == 1);
  CHECK((*merged)[0].axes == std::vector<int>{0, 1});
  CHECK((*merged)[0].sizes == Indices{2, 2, 2, 0});
}

TEST_CASE("[2, 3] split over two ranks merges to chunks of [6], as sizes that are not ceil chunks do not") {
  const Splits one{{.axes = {0}, .pieces = 1, .sizes = {}}};
  CHECK(to_dimension(std::array<Splits, 2>{one, Splits{}}, std::array<std::int64_t, 2>{2, 3}, std::vector<int>{2}) == one);
  const auto uneven = to_dimension(std::array<Splits, 2>{one, Splits{}}, std::array<std::int64_t, 2>{3, 2}, std::vector<int>{2});
  REQUIRE(uneven.has_value());
  CHECK((*uneven)[0].sizes == Indices{4, 2});
}

TEST_CASE("a split minor factor becomes a strided split of the product, with the local major size as pieces") {
  const Splits over1{{.axes = {1}, .pieces = 1, .sizes = {}}}, over0{{.axes = {0}, .pieces = 1, .sizes = {}}};
  const auto plain = to_dimension(std::array<Splits, 2>{Splits{}, over0}, std::array<std::int64_t, 2>{4, 6}, std::vector<int>{2});
  REQUIRE(plain.has_value());
  CHECK((*plain)[0].pieces == 4);
  const auto nested = to_dimension(std::array<Splits, 2>{over0, over1}, std::array<std::int64_t, 2>{4, 6}, std::vector<int>{2, 2});
  REQUIRE(nested.has_value());
  REQUIRE(nested->size() == 2);
  CHECK((*nested)[1].pieces == 2);
  CHECK_FALSE(to_dimension(std::array<Splits, 2>{over0, over1}, std::array<std::int64_t, 2>{3, 6}, std::vector<int>{2, 2}).has_value());
}

TEST_CASE("pieces that do not divide what is left are not repeated over the major factor") {
  const Splits minor{{.axes = {0}, .pieces = 1, .sizes = {}}, {.axes = {1}, .pieces = 2, .sizes = {}}};
  CHECK_FALSE(to_dimension(std::array<Splits, 2>{Splits{}, minor}, std::array<std::int64_t, 2>{4, 6}, std::vector<int>{2, 2}).has_value());
  CHECK(to_dimension(std::array<Splits, 2>{Splits{}, minor}, std::array<std::int64_t, 2>{4, 8}, std::vector<int>{2, 2}).has_value());
}
