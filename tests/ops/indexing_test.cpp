// SPDX-License-Identifier: Apache-2.0
// What the drivers over all ops do not see: results of known values on split tensors, and sizes that depend on data.
#include <doctest/doctest.h>

#include <functional>
#include <string>
#include <vector>

#include <dtensor/dtensor.h>

using namespace dtensor;

namespace {

template <class T>
DTensor placed(const std::vector<T>& values, const Shape& shape, const DeviceMesh& mesh, const Placements& placements) {
  return distribute(Tensor::of(values, shape), mesh, placements, {.source = Source::every_rank});
}
std::vector<double> whole(const DTensor& t) {
  const Tensor local = t.detach().full_tensor().local().to(Dtype::f64);
  const auto v = local.values<const double>();
  return {v.begin(), v.end()};
}
void on(int ranks, const std::function<void(const DeviceMesh&)>& body) {
  run_ranks({.ranks = ranks}, [&](World& world) { body(world.mesh({{"x", ranks}})); });
}
std::string error_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) { return e.what(); }
  return "";
}
using Numbers = std::vector<double>;
using Integers = std::vector<std::int64_t>;

}  // namespace

TEST_CASE("the sizes of nonzero, masked_select, unique, bincount and one_hot are those of the global value, however it is split") {
  for (const int n : {1, 2, 3})
    on(n, [](const DeviceMesh& mesh) {
      for (const Placements& p : {Placements{Replicate()}, Placements{Shard(0)}}) {
        const DTensor x = placed<double>({0, 3, 0, 1, 3, 0, 1}, {7}, mesh, p);
        CHECK(whole(nonzero(x)) == Numbers{1, 3, 4, 6});
        CHECK(nonzero(x).shape() == Shape{4, 1});
        CHECK(whole(masked_select(x, gt(x, 1))) == Numbers{3, 3});
        const UniqueResult u = unique(x, {.sorted = true, .return_inverse = true, .return_counts = true, .dim = {}});
        CHECK(whole(u.values) == Numbers{0, 1, 3});
        CHECK(whole(u.inverse) == Numbers{0, 2, 0, 1, 2, 0, 1});
        CHECK(whole(u.counts) == Numbers{3, 2, 2});
        const DTensor i = x.to(Dtype::i64);
        CHECK(whole(bincount(i)) == Numbers{3, 2, 0, 2});
        CHECK(bincount(i, {.minlength = 9}).shape() == Shape{9});
        CHECK(whole(bincount(i, x)) == Numbers{0, 2, 0, 6});
        CHECK(one_hot(i).shape() == Shape{7, 4});
        CHECK(whole(histc(x, {.bins = 3})) == Numbers{3, 2, 2});
      }
    });
}

TEST_CASE("a search in a split sequence moves none of it") {
  on(3, [](const DeviceMesh& mesh) {
    const DTensor sequence = placed<double>({-1, 0, 0, 2, 5, 5, 9}, {7}, mesh, {Shard(0)}),
                  wanted = placed<double>({-2, 0, 5, 10}, {4}, mesh, {Replicate()});
    const CommCounter counter;
    const DTensor left = searchsorted(sequence, wanted), right = searchsorted(sequence, wanted, {.right = true});
    CHECK(counter.implicit_launches() == 0);
    CHECK(whole(left) == Numbers{0, 1, 4, 7});
    CHECK(whole(right) == Numbers{0, 3, 6, 7});
  });
}

TEST_CASE("writes at computed indices keep the split of what is written") {
  on(2, [](const DeviceMesh& mesh) {
    const DTensor x = placed<double>({0, 1, 2, 3, 4}, {5}, mesh, {Shard(0)});
    const DTensor at = placed<std::int64_t>({4, 0, 4}, {3}, mesh, {Replicate()}), v = placed<double>({10, 20, 30}, {3}, mesh, {Replicate()});
    const CommCounter counter;
    const DTensor put = scatter(x, 0, at, v), added = scatter_add(x, 0, at, v), sums = index_add(x, 0, at, v, {.alpha = 2}),
                  copied = index_copy(x, 0, at, v), filled = index_fill(x, 0, at, -1), set = index_put(x, {at}, v),
                  more = index_put(x, {at}, v, {.accumulate = true});
    CHECK(counter.implicit_launches() == 0);
    for (const DTensor& t : {put, added, sums, copied, filled, set, more}) CHECK(to_string(t) == "f64[5]{x: S(0)}");
    CHECK(whole(put) == Numbers{20, 1, 2, 3, 30});
    CHECK(whole(added) == Numbers{20, 1, 2, 3, 44});
    CHECK(whole(sums) == Numbers{40, 1, 2, 3, 84});
    CHECK(whole(copied) == Numbers{20, 1, 2, 3, 30});
    CHECK(whole(filled) == Numbers{-1, 1, 2, 3, -1});
    CHECK(whole(set) == Numbers{20, 1, 2, 3, 30});
    CHECK(whole(more) == Numbers{20, 1, 2, 3, 44});
  });
}

TEST_CASE("bools added at computed indices are true where one of them is, and nothing is written beside them") {
  for (const Placements& p : {Placements{Replicate()}, Placements{Shard(0)}})
    on(2, [&](const DeviceMesh& mesh) {
      const DTensor x = placed<double>({0, 1, 0, 0, 0}, {5}, mesh, p).to(Dtype::boolean);
      const DTensor at = placed<std::int64_t>({4, 0, 4, 1}, {4}, mesh, p), v = placed<double>({1, 0, 0, 0}, {4}, mesh, p).to(Dtype::boolean);
      for (const DTensor& t : {scatter_add(x, 0, at, v), index_add(x, 0, at, v), index_put(x, {at}, v, {.accumulate = true})}) {
        CHECK(t.dtype() == Dtype::boolean);
        CHECK(whole(t) == Numbers{0, 1, 0, 0, 1});
      }
      CHECK(whole(gather(x, 0, at)) == Numbers{0, 0, 0, 1});
      CHECK(whole(index_select(x, 0, at)) == Numbers{0, 0, 0, 1});
      CHECK(whole(masked_select(x, x)) == Numbers{1});
    });
}

TEST_CASE("an index without dims reads and writes one slice") {
  on(2, [](const DeviceMesh& mesh) {
    for (const Placements& p : {Placements{Replicate()}, Placements{Shard(0)}}) {
      const DTensor x = placed<double>({0, 1, 2, 3, 4}, {5}, mesh, p), v = placed<double>({10}, {1}, mesh, {Replicate()});
      const DTensor at = placed<std::int64_t>({3}, {}, mesh, {Replicate()});
      CHECK(index_select(x, 0, at).shape() == Shape{1});
      CHECK(whole(index_select(x, 0, at)) == Numbers{3});
      CHECK(gather(x, 0, at).shape() == Shape{});
      CHECK(whole(gather(x, 0, at)) == Numbers{3});
      CHECK(whole(index_add(x, 0, at, v)) == Numbers{0, 1, 2, 13, 4});
      CHECK(whole(index_copy(x, 0, at, v)) == Numbers{0, 1, 2, 10, 4});
      CHECK(whole(index_fill(x, 0, at, -1)) == Numbers{0, 1, 2, -1, 4});
    }
  });
}

TEST_CASE("index takes broadcast indices, whole dims and masks as NumPy does") {
  on(2, [](const DeviceMesh& mesh) {
    std::vector<double> values(24);
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<double>(i);
    for (const Placements& p : {Placements{Shard(0)}, Placements{Shard(1)}, Placements{Shard(2)}}) {
      const DTensor x = placed<double>(values, {2, 3, 4}, mesh, p);
      const DTensor a = placed<std::int64_t>({1, 0, -1}, {3}, mesh, {Replicate()}), b = placed<std::int64_t>({3, 0}, {2, 1}, mesh, {Replicate()});
      const DTensor middle = index(x, {DTensor(), a});
      CHECK(middle.shape() == Shape{2, 3, 4});
      CHECK(whole(select(select(middle, 0, 1), 0, 2)) == Numbers{20, 21, 22, 23});
      // Not neighbours: the broadcast dims come first.
      const DTensor apart = index(x, {a, DTensor(), b});
      CHECK(apart.shape() == Shape{2, 3, 3});
      CHECK(whole(select(apart, 0, 0)) == Numbers{15, 19, 23, 3, 7, 11, 15, 19, 23});
      const DTensor mask = placed<double>({1, 0, 1}, {3}, mesh, {Replicate()});
      CHECK(whole(select(index(x, {DTensor(), gt(mask, 0)}), 0, 0)) == Numbers{0, 1, 2, 3, 8, 9, 10, 11});
    }
  });
}

TEST_CASE("indices, orders and sizes that do not fit are refused by text on every rank") {
  on(2, [](const DeviceMesh& mesh) {
    const DTensor x = zeros({3, 4}, mesh, {Shard(0)}), i = zeros({2}, mesh, {}, {.dtype = Dtype::i64});
    CHECK(error_of([&] { scatter(x, 0, i, 1); }) ==
          "scatter: index does not fit (input f32[3, 4], index i64[2], dim 0); it needs as many dims and, but at dim, at most the sizes of input");
    CHECK(error_of([&] { index_add(x, 0, i, x); }) ==
          "index_add: source does not fit (input f32[3, 4], index i64[2], source f32[3, 4], dim 0); it has input's sizes, and at dim one slice per "
          "index");
    CHECK(error_of([&] { index_fill(x, 0, x, 1); }) == "index_fill: indices must be i64 or i32 (index f32[3, 4]); convert them with to()");
    CHECK(error_of([&] { topk(x, 5); }) == "topk: k 5 is out of range for dim 1 of input f32[3, 4]; give 0 to 4");
    CHECK(error_of([&] { kthvalue(x, 0, 0); }) == "kthvalue: k 0 is out of range for dim 0 of input f32[3, 4]; give 1 to 3");
    CHECK(error_of([&] {
            searchsorted(x, zeros({2, 4}, mesh));
          }) ==
          "searchsorted: sorted_sequence f32[3, 4] does not fit input f32[2, 4]; give one line, or as many dims with the same sizes but the last");
    CHECK(error_of([&] { pad(x, {1}); }) == "pad: pad [1] does not fit input f32[3, 4]; give two numbers per dim, the last dim first");
    CHECK(error_of([&] {
            roll(x, {1, 2}, {0});
          }) == "roll: shifts and dims do not pair ([1, 2] and [0]); give one shift per dim, or one shift and no dims");
    CHECK(error_of([&] { masked_select(x, x); }) == "masked_select: the mask must be bool (f32[3, 4]{x: S(0)}); compare or convert it");
    CHECK(error_of([&] {
            movedim(x, Shape{0}, Shape{0, 1});
          }) == "movedim: source [0] and destination [0, 1] do not pair; name each dim once, as many in both");
    CHECK(whole(add(x, 1)) == Numbers(12, 1));
  });
}

TEST_CASE("an embedding gives no gradient to the padding row, and divides it by how often a row is read") {
  on(2, [](const DeviceMesh& mesh) {
    for (const Placements& p : {Placements{Replicate()}, Placements{Shard(0)}, Placements{Shard(1)}}) {
      const DTensor weight = placed<double>({0, 1, 2, 3, 4, 5}, {3, 2}, mesh, p), at = placed<std::int64_t>({2, 0, 2, 1}, {4}, mesh, {Shard(0)});
      weight.set_requires_grad();
      sum(embedding(at, weight, {.padding_idx = 1})).backward();
      CHECK(whole(weight.grad()) == Numbers{1, 1, 0, 0, 2, 2});
      weight.set_grad({});
      sum(embedding(at, weight, {.scale_grad_by_freq = true})).backward();
      CHECK(whole(weight.grad()) == Numbers{1, 1, 1, 1, 1, 1});
    }
  });
}
