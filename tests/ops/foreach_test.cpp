// SPDX-License-Identifier: Apache-2.0
// Lists of tensors against the ops on each of them, and writing at indices, bags and masks against loops over their elements.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "dtensor/debug.h"
#include "dtensor/dtensor.h"

using namespace dtensor;

namespace {

std::vector<double> gathered(const DTensor& t) {
  const Tensor all = t.detach().full_tensor().local().to(Dtype::f64);
  const auto v = all.values<const double>();
  return {v.begin(), v.end()};
}
DTensor numbers(const Shape& shape, const DeviceMesh& mesh, const Placements& placements, double shift = 0) {
  std::vector<double> values(static_cast<std::size_t>(shape.numel()));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<double>((i * 37) % 101) / 50 + 0.1 + shift;
  return distribute(Tensor::of(values, shape), mesh, placements, {.source = Source::every_rank});
}
DTensor integers(const std::vector<std::int64_t>& values, const Shape& shape, const DeviceMesh& mesh, const Placements& placements = {}) {
  return distribute(Tensor::of(values, shape), mesh, placements, {.source = Source::every_rank});
}
std::vector<DTensor> tensors(const DeviceMesh& mesh, double shift = 0) {
  return {numbers({5, 3}, mesh, {Shard(0)}, shift), numbers({7}, mesh, {}, shift), numbers({2, 0}, mesh, {Shard(1)}, shift),
          numbers({}, mesh, {}, shift)};
}
void on_meshes(const std::function<void(const DeviceMesh&)>& body) {
  for (const int ranks : {1, 2, 3}) run_ranks({.ranks = ranks}, [&](World& world) { body(world.mesh({{"x", world.size()}})); });
}
std::vector<double> gradient_of(const DTensor& y, const DTensor& x) {
  return gathered(grad(std::vector<DTensor>{sum(y)}, std::vector<DTensor>{x})[0]);
}

}  // namespace

TEST_CASE("each element of a list is the op on that element, and the form that writes gives the same") {
  on_meshes([](const DeviceMesh& mesh) {
    const std::vector<DTensor> a = tensors(mesh), b = tensors(mesh, 0.5), c = tensors(mesh, 1);
    const std::vector<Scalar> scalars{2, 0.5, 3, -1};
    struct Form {
      std::function<std::vector<DTensor>()> list;
      std::function<void(TensorList)> write;
      std::function<DTensor(std::size_t)> single;
    };
    const std::vector<Form> forms{
        {[&] { return foreach_add(a, b, {.alpha = 2}); }, [&](TensorList x) { foreach_add_(x, b, {.alpha = 2}); },
         [&](std::size_t i) { return add(a[i], b[i], {.alpha = 2}); }},
        {[&] { return foreach_add(a, scalars); }, [&](TensorList x) { foreach_add_(x, scalars); },
         [&](std::size_t i) { return add(a[i], scalars[i]); }},
        {[&] { return foreach_sub(a, 0.25); }, [&](TensorList x) { foreach_sub_(x, 0.25); }, [&](std::size_t i) { return sub(a[i], 0.25); }},
        {[&] { return foreach_mul(a, b); }, [&](TensorList x) { foreach_mul_(x, b); }, [&](std::size_t i) { return mul(a[i], b[i]); }},
        {[&] { return foreach_div(a, scalars); }, [&](TensorList x) { foreach_div_(x, scalars); },
         [&](std::size_t i) { return div(a[i], scalars[i]); }},
        {[&] { return foreach_pow(a, b); }, [&](TensorList x) { foreach_pow_(x, b); }, [&](std::size_t i) { return pow(a[i], b[i]); }},
        {[&] { return foreach_maximum(a, c); }, [&](TensorList x) { foreach_maximum_(x, c); }, [&](std::size_t i) { return maximum(a[i], c[i]); }},
        {[&] { return foreach_clamp_max(a, 0.7); }, [&](TensorList x) { foreach_clamp_max_(x, 0.7); },
         [&](std::size_t i) { return clamp(a[i], {.min = {}, .max = 0.7}); }},
        {[&] { return foreach_addcmul(a, b, c, 0.5); }, [&](TensorList x) { foreach_addcmul_(x, b, c, 0.5); },
         [&](std::size_t i) { return addcmul(a[i], b[i], c[i], {.value = 0.5}); }},
        {[&] { return foreach_addcdiv(a, b, c, scalars); }, [&](TensorList x) { foreach_addcdiv_(x, b, c, scalars); },
         [&](std::size_t i) { return addcdiv(a[i], b[i], c[i], {.value = scalars[i]}); }},
        {[&] { return foreach_lerp(a, b, 0.3); }, [&](TensorList x) { foreach_lerp_(x, b, 0.3); },
         [&](std::size_t i) { return lerp(a[i], b[i], 0.3); }},
        {[&] { return foreach_sqrt(a); }, [](TensorList x) { foreach_sqrt_(x); }, [&](std::size_t i) { return sqrt(a[i]); }},
        {[&] { return foreach_reciprocal(a); }, [](TensorList x) { foreach_reciprocal_(x); }, [&](std::size_t i) { return reciprocal(a[i]); }},
        {[&] { return foreach_lgamma(a); }, [](TensorList x) { foreach_lgamma_(x); }, [&](std::size_t i) { return lgamma(a[i]); }},
        {[&] { return foreach_mul(a, 0); }, [](TensorList x) { foreach_zero_(x); }, [&](std::size_t i) { return zeros_like(a[i]); }},
        {[&] { return foreach_add(b, 0); }, [&](TensorList x) { foreach_copy_(x, b); }, [&](std::size_t i) { return b[i]; }},
    };
    for (std::size_t f = 0; f < forms.size(); ++f) {
      INFO("form " << f);
      const std::vector<DTensor> result = forms[f].list(), written = tensors(mesh);
      forms[f].write(written);
      REQUIRE(result.size() == a.size());
      for (std::size_t i = 0; i < a.size(); ++i) {
        const std::vector<double> want = gathered(forms[f].single(i));
        CHECK(gathered(result[i]) == want);
        CHECK(gathered(written[i]) == want);
        CHECK(written[i].placements() == a[i].placements());
      }
    }
    CHECK_THROWS_WITH_AS(foreach_add(a, TensorList(b).first(2)), "foreach_add: lists differ in length (4, 2); give as many of each", InvalidArgument);
  });
}

TEST_CASE("norms of a list are those of its tensors, and one move of the list adds their parts") {
  run_ranks({.ranks = 2}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"x", 2}});
    const std::vector<DTensor> list{numbers({5, 3}, mesh, {Shard(0)}), numbers({8}, mesh, {Shard(0)}), numbers({3, 4}, mesh, {Shard(1)})};
    for (const double ord : {2.0, 1.0, HUGE_VAL, 3.0}) {
      const CommCounter counter;
      const std::vector<DTensor> norms = foreach_norm(list, ord);
      if (ord == 2) CHECK(counter.launches() == 1);
      for (std::size_t i = 0; i < list.size(); ++i)
        CHECK(norms[i].full_tensor().item() == doctest::Approx(vector_norm(list[i], {.ord = ord}).full_tensor().item()));
    }
    const DTensor x = numbers({4}, mesh, {Shard(0)}).set_requires_grad();
    CHECK(gradient_of(foreach_norm(std::vector<DTensor>{x})[0], x) == gradient_of(vector_norm(x), x));
    CHECK(foreach_max(list)[2].full_tensor().item() == max(list[2]).full_tensor().item());
  });
}

TEST_CASE("in-place forms give what the ops give, comparisons 0 and 1 in the dtype that is written") {
  on_meshes([](const DeviceMesh& mesh) {
    const auto x = [&] { return numbers({5, 3}, mesh, {Shard(0)}, -0.8); };
    const auto y = numbers({3}, mesh, {}, 0.2);
    CHECK(gathered(sin_(x())) == gathered(sin(x())));
    CHECK(gathered(atan_(x())) == gathered(atan(x())));
    CHECK(gathered(round_(x())) == gathered(round(x())));
    CHECK(gathered(remainder_(x(), y)) == gathered(remainder(x(), y)));
    CHECK(gathered(pow_(x(), 2)) == gathered(pow(x(), 2)));
    CHECK(gathered(lt_(x(), y)) == gathered(lt(x(), y)));
    CHECK(lt_(x(), y).dtype() == Dtype::f64);
    const DTensor n = integers({5, -3, 6, 12}, {4}, mesh, {Shard(0)});
    CHECK(gathered(bitwise_and_(n, integers({4, 7, 3, 8}, {4}, mesh))) == std::vector<double>{4, 5, 2, 8});
    CHECK(gathered(floor_divide_(n, 3)) == std::vector<double>{1, 1, 0, 2});
  });
}

TEST_CASE("scatter_reduce combines what meets, with what was there or without, whatever is split") {
  const std::vector<std::int64_t> at{0, 2, 2, 1, 0, 2};
  const std::map<std::string, std::vector<double>> with{
      {"sum", {10, 13, 23, 9}}, {"prod", {0, 30, 672, 9}}, {"mean", {10.0 / 3, 6.5, 23.0 / 4, 9}}, {"amax", {7, 10, 8, 9}}, {"amin", {0, 3, 2, 9}}},
      without{{"sum", {7, 3, 16, 9}}, {"prod", {0, 3, 96, 9}}, {"mean", {3.5, 3, 16.0 / 3, 9}}, {"amax", {7, 3, 8, 9}}, {"amin", {0, 3, 2, 9}}};
  on_meshes([&](const DeviceMesh& mesh) {
    for (const Placements& of_input : {Placements(), Placements{Shard(0)}})
      for (const Placements& of_source : {Placements(), Placements{Shard(0)}}) {
        const auto make = [&](const std::vector<double>& v, const Placements& p) {
          return distribute(Tensor::of(v, {static_cast<std::int64_t>(v.size())}), mesh, p, {.source = Source::every_rank});
        };
        const DTensor x = make({3, 10, 7, 9}, of_input), src = make({7, 8, 2, 3, 0, 6}, of_source), index = integers(at, {6}, mesh, of_source);
        for (const bool include : {true, false})
          for (const auto& [reduce, want] : include ? with : without) {
            INFO(reduce << include);
            const std::vector<double> got = gathered(scatter_reduce(x, 0, index, src, reduce, {.include_self = include}));
            for (std::size_t i = 0; i < 4; ++i) CHECK(got[i] == doctest::Approx(want[i]));
          }
      }
    const DTensor ties = distribute(Tensor::of(std::vector<double>{2, 1}, {2}), mesh, {Shard(0)}).set_requires_grad();
    const DTensor more = distribute(Tensor::of(std::vector<double>{2, 2, 0}, {3}), mesh, {}).set_requires_grad();
    const DTensor top = scatter_reduce(ties, 0, integers({0, 0, 1}, {3}, mesh), more, "amax");
    CHECK(gradient_of(top, ties) == std::vector<double>{1.0 / 3, 1});
    CHECK(gradient_of(scatter_reduce(ties, 0, integers({0, 0, 1}, {3}, mesh), more, "amax"), more) == std::vector<double>{1.0 / 3, 1.0 / 3, 0});
    CHECK(gradient_of(scatter_reduce(ties, 0, integers({0, 0, 1}, {3}, mesh), more, "prod"), more) == std::vector<double>{4, 4, 1});
  });
}

TEST_CASE("masked_scatter writes its source in order, whatever is split, and gives it the gradient of what was written") {
  on_meshes([](const DeviceMesh& mesh) {
    for (const Placements& p : {Placements(), Placements{Shard(0)}, Placements{Shard(1)}}) {
      const DTensor x =
          distribute(Tensor::of(std::vector<double>{0, 1, 2, 3, 4, 5}, {2, 3}), mesh, p, {.source = Source::every_rank}).set_requires_grad();
      const DTensor mask =
          ne(distribute(Tensor::of(std::vector<std::int64_t>{1, 0, 1, 0, 1, 1}, {2, 3}), mesh, p, {.source = Source::every_rank}), 0);
      const DTensor source =
          distribute(Tensor::of(std::vector<double>{10, 11, 12, 13, 14}, {5}), mesh, {}, {.source = Source::every_rank}).set_requires_grad();
      CHECK(gathered(masked_scatter(x, mask, source)) == std::vector<double>{10, 1, 11, 3, 12, 13});
      CHECK(gradient_of(masked_scatter(x, mask, source), x) == std::vector<double>{0, 1, 0, 1, 0, 0});
      CHECK(gradient_of(masked_scatter(x, mask, source), source) == std::vector<double>{1, 1, 1, 1, 0});
      const DTensor none = zeros({0}, mesh, {}, {.dtype = Dtype::f64});
      CHECK(gathered(masked_scatter(x, zeros({2, 3}, mesh, p, {.dtype = Dtype::boolean}), none)) == gathered(x));
      CHECK_THROWS_AS(masked_scatter(x, mask, none), InvalidArgument);
    }
  });
}

TEST_CASE("bags that begin at offsets are reduced each by itself, empty ones to 0, without what is padding") {
  on_meshes([](const DeviceMesh& mesh) {
    const std::vector<std::int64_t> at{4, 1, 0, 4, 2, 1, 1}, starts{0, 3, 3, 5};
    for (const Placements& of_rows : {Placements(), Placements{Shard(0)}, Placements{Shard(1)}})
      for (const Placements& of_index : {Placements(), Placements{Shard(0)}}) {
        const DTensor weight = numbers({5, 2}, mesh, of_rows).set_requires_grad(), index = integers(at, {7}, mesh, of_index),
                      offsets = integers(starts, {4}, mesh);
        const std::vector<double> w = gathered(weight);
        for (const std::string mode : {"sum", "mean", "max"})
          for (const std::int64_t padding : {-9, 1}) {
            INFO(mode << padding);
            std::vector<double> want(8), count(4);
            for (std::size_t b = 0; b < 4; ++b)
              for (std::size_t i = static_cast<std::size_t>(starts[b]); i < (b == 3 ? 7 : static_cast<std::size_t>(starts[b + 1])); ++i) {
                if (at[i] == padding) continue;
                for (std::size_t d = 0; d < 2; ++d) {
                  const double v = w[static_cast<std::size_t>(at[i]) * 2 + d];
                  double& to = want[b * 2 + d];
                  to = mode == "max" && count[b] > 0 ? std::max(to, v) : mode == "max" ? v : to + v;
                }
                ++count[b];
              }
            if (mode == "mean")
              for (std::size_t k = 0; k < 8; ++k) want[k] /= std::max(1.0, count[k / 2]);
            EmbeddingBagOptions o{.mode = mode};
            if (padding >= 0) o.padding_idx = padding;
            const std::vector<double> got = gathered(embedding_bag(index, weight, offsets, o));
            for (std::size_t k = 0; k < 8; ++k) CHECK(got[k] == doctest::Approx(want[k]));
            o.include_last_offset = true;
            CHECK(gathered(embedding_bag(index, weight, integers({0, 3, 3, 5, 7}, {5}, mesh), o)) == got);
          }
        const std::vector<double> g = gradient_of(embedding_bag(index, weight, offsets, {.mode = "sum"}), weight);
        CHECK(g == std::vector<double>{1, 1, 3, 3, 1, 1, 0, 0, 2, 2});
        const DTensor shares = numbers({7}, mesh, {});
        const DTensor members =
            distribute(Tensor::of(std::vector<double>{1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 1, 1}, {4, 7}),
                       mesh, {}, {.source = Source::every_rank});
        CHECK(allclose(embedding_bag(index, weight, offsets, {.mode = "sum"}, shares),
                       matmul(members, mul(unsqueeze(shares, 1), embedding(index, weight)))));
      }
  });
}
