// SPDX-License-Identifier: Apache-2.0
// The one call path: plan cache, errors, in-place ops, policies and observers.
#include <doctest/doctest.h>

#include <atomic>
#include <functional>
#include <numeric>
#include <string>
#include <vector>

#include "dtensor/debug.h"
#include "dtensor/dtensor.h"
#include "tensor/state.h"

using namespace dtensor;

namespace {

DTensor counting(const Shape& shape, const DeviceMesh& mesh, const Placements& placements, Dtype dtype = Dtype::f32) {
  std::vector<double> values(static_cast<std::size_t>(shape.numel()));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<double>(i) + 1;
  const Tensor t = Tensor::of(values, shape);
  return distribute(dtype == Dtype::f64 ? t : t.to(dtype), mesh, placements, {.source = Source::every_rank});
}
std::vector<double> whole(const DTensor& t) {
  const Tensor local = t.full_tensor().local().to(Dtype::f64);
  const auto v = local.values<const double>();
  return {v.begin(), v.end()};
}
std::uint64_t misses_of(const std::function<void()>& f) {
  const auto before = plan_cache_stats().misses;
  f();
  return plan_cache_stats().misses - before;
}

// The text that `f` throws, the same on every one of 2 ranks, after which the world still computes.
std::string text_on_all(const std::function<void(World&, const DeviceMesh&)>& f) {
  std::vector<std::string> texts(2);
  run_ranks({.ranks = 2}, [&](World& world) {
    const DeviceMesh mesh = world.mesh({{"tp", 2}});
    auto& text = texts[static_cast<std::size_t>(world.rank())];
    try {
      f(world, mesh);
      text = "nothing thrown";
    } catch (const InvalidArgument& e) { text = e.what(); }
    CHECK(sum(counting({4}, mesh, {Shard(0)})).item() == 10);
  });
  CHECK(texts[0] == texts[1]);
  return texts[0];
}

}  // namespace

TEST_CASE("scalars are not in the key: lr, alpha and a factor that change at every call miss nothing") {
  run_ranks({.ranks = 2}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"tp", 2}});
    const DTensor x = counting({6}, mesh, {Shard(0)}), y = counting({6}, mesh, {Shard(0)}), p = counting({6}, mesh, {Shard(0)}),
                  m = zeros({6}, mesh, {Shard(0)}), v = zeros({6}, mesh, {Shard(0)});
    const auto step = [&](double k) {
      const NoGrad off;
      const std::pair<std::string_view, Attribute> rate[] = {{"lr", k}};
      const Input state[] = {p, x, m, v};
      call_named(find_op("adamw_step_"), state, rate);
      return std::pair(whole(mul(x, k)), whole(add(x, y, {.alpha = k})));
    };
    step(0.5);
    const auto missed = misses_of([&] {
      for (double k : {0.25, 3.0, -1.5}) {
        const auto [scaled, added] = step(k);
        CHECK(scaled[5] == 6 * k);
        CHECK(added[5] == 6 + 6 * k);
      }
    });
    CHECK(missed == 0);
  });
}

TEST_CASE("the kind of a number is in the key: i64 * 2 is i64, then * 2.5 is f32") {
  run_ranks({.ranks = 2}, [](World& world) {
    const DTensor x = counting({4}, world.mesh({{"tp", 2}}), {Shard(0)}, Dtype::i64);
    const DTensor twice = mul(x, 2);
    CHECK(twice.dtype() == Dtype::i64);
    CHECK(whole(twice) == std::vector<double>{2, 4, 6, 8});
    const DTensor more = mul(x, 2.5);
    CHECK(more.dtype() == Dtype::f32);
    CHECK(whole(more) == std::vector<double>{2.5, 5, 7.5, 10});
    CHECK(misses_of([&] { CHECK(mul(x, 3).dtype() == Dtype::i64); }) == 0);
    CHECK(misses_of([&] { CHECK(mul(x, 3.5).dtype() == Dtype::f32); }) == 0);
  });
}

TEST_CASE("attributes, dtype, order of inputs and absent inputs are in the key") {
  run_ranks({.ranks = 2}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"tp", 2}});
    const DTensor x = counting({2, 2}, mesh, {Shard(0)}), r = counting({2, 2}, mesh, {Replicate()}), bias = counting({2}, mesh, {Replicate()});
    CHECK(whole(sum(x, 0)) == std::vector<double>{4, 6});
    CHECK(misses_of([&] { CHECK(whole(sum(x, 1)) == std::vector<double>{3, 7}); }) > 0);
    CHECK(misses_of([&] { CHECK(sum(x, 1, {.keepdim = true}).shape() == Shape{2, 1}); }) > 0);
    CHECK(whole(sub(x, mul(r, 2))) == std::vector<double>{-1, -2, -3, -4});
    CHECK(misses_of([&] { CHECK(whole(sub(mul(r, 2), x)) == std::vector<double>{1, 2, 3, 4}); }) > 0);
    CHECK(misses_of([&] { CHECK(neg(counting({2, 2}, mesh, {Shard(0)}, Dtype::f64)).dtype() == Dtype::f64); }) > 0);
    CHECK(whole(linear(r, r, bias)) == std::vector<double>{6, 13, 12, 27});
    CHECK(misses_of([&] { CHECK(whole(linear(r, r)) == std::vector<double>{5, 11, 11, 25}); }) > 0);
    CHECK(misses_of([&] { CHECK(whole(linear(r, r, bias)) == std::vector<double>{6, 13, 12, 27}); }) == 0);
  });
}

TEST_CASE("an equal call does not miss on new tensors of the same spec") {
  run_ranks({.ranks = 2}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"tp", 2}});
    const DTensor first = matmul(counting({4, 6}, mesh, {Shard(1)}), counting({6, 2}, mesh, {Shard(0)}));
    CHECK(to_string(first) == "f32[4, 2]{tp: P(sum)}");
    const DTensor a = counting({4, 6}, mesh, {Shard(1)}), b = counting({6, 2}, mesh, {Shard(0)});
    CHECK(misses_of([&] { matmul(a, b); }) == 0);
  });
}

TEST_CASE("shapes that do not fit are named with both sides, on all ranks") {
  CHECK(text_on_all([](World&, const DeviceMesh& mesh) {
          matmul(counting({4, 6}, mesh, {Shard(0)}), counting({8, 2}, mesh, {}));
        }) == "matmul: contracting sizes differ (a f32[4, 6] dim 1 = 6, b f32[8, 2] dim 0 = 8); transpose or reshape one of them");
  const std::string add_text = text_on_all([](World&, const DeviceMesh& mesh) { add(counting({4}, mesh, {Shard(0)}), counting({3}, mesh, {})); });
  CHECK(add_text.find("add: ") == 0);
  CHECK(add_text.find("f32[4]") != std::string::npos);
  CHECK(add_text.find("f32[3]") != std::string::npos);
}

TEST_CASE("a dtype that an op does not take is named with those it takes") {
  CHECK(text_on_all([](World&, const DeviceMesh& mesh) {
          layer_norm(counting({4, 2}, mesh, {Shard(0)}, Dtype::i64), {2});
        }) == "layer_norm: 'input' is i64[4, 2]{tp: S(0)}; supported dtypes: floating");
}

TEST_CASE("tensors of different meshes are refused with both meshes") {
  const std::string text = text_on_all([](World& world, const DeviceMesh& mesh) {
    add(counting({4}, mesh, {Shard(0)}), counting({4}, world.mesh({{"dp", 2}}), {Shard(0)}));
  });
  CHECK(text ==
        "add: tensors of different meshes (f32[4]{tp: S(0)} on Mesh(tp=2) of ranks 0 1, f32[4]{dp: S(0)} on Mesh(dp=2) of ranks 0 1); bring them to "
        "one mesh with redistribute or "
        "to_local/from_local");
}

TEST_CASE("an unknown attribute, an empty tensor and a dim that does not exist are refused") {
  CHECK(text_on_all([](World&, const DeviceMesh& mesh) {
          const DTensor x = counting({4}, mesh, {});
          const Input inputs[] = {x};
          const std::pair<std::string_view, Attribute> axis[] = {{"axis", 0}};
          call_named(find_op("softmax"), inputs, axis);
        }) == "softmax: no attribute 'axis'; the signature is \"input, dim: int, dtype: dtype? = none -> out\"");
  CHECK(text_on_all([](World&, const DeviceMesh& mesh) { add(counting({4}, mesh, {}), DTensor()); }) ==
        "add: input 'other' is an empty tensor; only inputs marked '?' may be absent");
  CHECK(text_on_all([](World&, const DeviceMesh& mesh) { counting({4}, mesh, {}).redistribute({Shard(1)}); }) ==
        "redistribute: S(1) names dim 1 of a tensor with 1 dims ([4]); use a dim of the tensor");
  CHECK(text_on_all([](World&, const DeviceMesh& mesh) {
          counting({4}, mesh, {}).redistribute({{"dp", Shard(0)}});
        }).find("redistribute: unknown axis 'dp' of Mesh(tp=2)") == 0);
  CHECK(text_on_all([](World&, const DeviceMesh& mesh) { softmax(counting({4}, mesh, {}), 3); }).find("softmax: dim 3 is out of range") == 0);
}

TEST_CASE("an op in place on a Partial tensor is refused unless its rule keeps it") {
  const std::string text = text_on_all([](World&, const DeviceMesh& mesh) { relu_(counting({4}, mesh, {}).redistribute({Partial()})); });
  CHECK(text.find("relu_: ") == 0);
  CHECK(text.find("redistribute") != std::string::npos);
}

TEST_CASE("a tensor made on one rank is refused on another, naming both") {
  std::atomic<const DTensor*> shared{nullptr};
  std::string text;
  run_ranks({.ranks = 2}, [&](World& world) {
    const DeviceMesh mesh = world.mesh({{"tp", 2}});
    const DTensor mine = counting({4}, mesh, {Shard(0)});
    if (world.rank() == 0) shared = &mine;
    world.barrier();
    if (world.rank() == 1) {
      try {
        mul(*shared.load(), 2);
      } catch (const InvalidArgument& e) { text = e.what(); }
    }
    world.barrier();
    CHECK(sum(mine).item() == 10);
  });
  CHECK(text.find("f32[4]{tp: S(0)} was made on rank 0, used on rank 1: static or captured by reference?") != std::string::npos);
}

TEST_CASE("an op in place changes self, keeps its placements and returns it") {
  run_ranks({.ranks = 2}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"tp", 2}});
    const DTensor x = counting({4}, mesh, {Shard(0)}), y = counting({4}, mesh, {Replicate()});
    const auto version = x.local().version();
    const DTensor r = add_(x, y, {.alpha = 2});
    CHECK(whole(x) == std::vector<double>{3, 6, 9, 12});
    CHECK(to_string(r) == "f32[4]{tp: S(0)}");
    CHECK(r.local().shares_storage_with(x.local()));
    CHECK(x.local().version() == version + 1);
    copy_(x, y);
    CHECK(whole(x) == std::vector<double>{1, 2, 3, 4});
    CHECK(to_string(x) == "f32[4]{tp: S(0)}");
  });
}

TEST_CASE("an op in place on a view writes what it views") {
  run_ranks({.ranks = 2}, [](World& world) {
    const DTensor x = counting({4, 2}, world.mesh({{"tp", 2}}), {Shard(0)});
    fill_(transpose(x, 0, 1), 9);
    CHECK(whole(x) == std::vector<double>(8, 9.0));
  });
}

TEST_CASE("refused implicit communication names the op and the move; explicit moves pass") {
  const std::string text = text_on_all([](World&, const DeviceMesh& mesh) {
    const DTensor p = counting({4}, mesh, {}).redistribute({Partial()});
    const RefuseImplicit refuse;
    CHECK(whole(p.redistribute({Replicate()})) == std::vector<double>{1, 2, 3, 4});
    CHECK(whole(mul(p, 2)) == std::vector<double>{2, 4, 6, 8});
    exp(p);
  });
  CHECK(text.find("exp: implicit communication is refused here (") == 0);
  CHECK(text.find("redistribute the inputs explicitly") != std::string::npos);
  run_ranks({.ranks = 2}, [](World& world) {
    const DTensor p = counting({4}, world.mesh({{"tp", 2}}), {}).redistribute({Partial()});
    { const RefuseImplicit refuse; }
    CHECK_NOTHROW(exp(p));
  });
}

TEST_CASE("a move inside a decomposition is refused under the name of the op that was called, and counts as implicit") {
  const std::string text = text_on_all([](World&, const DeviceMesh& mesh) {
    const DTensor x = counting({4, 6}, mesh, {Shard(0)});
    const RefuseImplicit refuse;
    CHECK_NOTHROW(sort(x, 1));
    CHECK_NOTHROW(cumprod(x, 0));
    sort(x, 0);
  });
  CHECK(text == "sort: implicit communication is refused here (all_to_all f32[4, 6]{tp: S(0)} -> {tp: S(1)}); redistribute the inputs explicitly");
  const std::string sums = text_on_all([](World&, const DeviceMesh& mesh) {
    const DTensor x = counting({4, 6}, mesh, {}).redistribute({Partial()});
    const RefuseImplicit refuse;
    cumprod(x, 0);
  });
  CHECK(sums.find("cumprod: implicit communication is refused here (all_reduce ") == 0);
  run_ranks({.ranks = 2}, [](World& world) {
    const DTensor x = counting({4, 6}, world.mesh({{"tp", 2}}), {Shard(0)});
    const CommCounter counter;
    sort(x, 0);
    CHECK(counter.launches() == 1);
    CHECK(counter.implicit_launches() == 1);
    cumprod(x, 0);
    CHECK(counter.launches() == 2);
    CHECK(counter.implicit_launches() == 1);
  });
}

TEST_CASE("what is known of an op stays where it is when an op with the same place in the table comes") {
  run_ranks({.ranks = 1}, [](World&) {
    constexpr std::size_t kTurn = 16 * 1024, kApart = kTurn / std::gcd(sizeof(OpDef), kTurn);
    OpDef op;
    op.signature = "input -> out";
    const std::vector<OpDef> ops(kApart + 1, op);
    tensor::CallState state;
    const tensor::OpInfo& first = state.info(ops.front());
    const tensor::OpInfo& second = state.info(ops.back());
    CHECK(&state.info(ops.front()) == &first);
    CHECK(&state.info(ops.back()) == &second);
  });
}

TEST_CASE("the counter sees the communicating steps of this rank, with their bytes and who asked for them") {
  run_ranks({.ranks = 2}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"tp", 2}});
    const DTensor x = counting({4, 8}, mesh, {Shard(0)}), w = counting({8, 4}, mesh, {Shard(1)});
    CommCounter counter;
    mul(x, 2);
    CHECK(counter.launches() == 0);
    CHECK(to_string(counter) == "no communication");
    x.redistribute({Replicate()}).wait();
    CHECK(counter.launches("all_gather") == 1);
    CHECK(counter.bytes_received() == 2 * 8 * 4);
    CHECK(counter.implicit_launches() == 0);
    exp(matmul(x.redistribute({Shard(1)}), w.redistribute({Shard(0)})));
    CHECK(counter.implicit_launches() == 1);
    counter.reset();
    CHECK(counter.launches() == 0);
  });
}

TEST_CASE("the trace has a line per step with the op") {
  run_ranks({.ranks = 2}, [](World& world) {
    const DTensor x = counting({4}, world.mesh({{"tp", 2}}), {Shard(0)});
    const Trace trace;
    exp(sum(x));
    const std::string text = to_string(trace);
    INFO(text);
    CHECK(text.find("sum: kernel") != std::string::npos);
    CHECK(text.find("exp: all_reduce") != std::string::npos);
    CHECK(text.find("(implicit)") != std::string::npos);
    CHECK(text.find("exp: kernel") != std::string::npos);
  });
}

TEST_CASE("an observer that ends stops counting, and the outer one goes on") {
  run_ranks({.ranks = 2}, [](World& world) {
    const DTensor x = counting({4}, world.mesh({{"tp", 2}}), {Shard(0)});
    const CommCounter outer;
    {
      const CommCounter inner;
      x.redistribute({Replicate()}).wait();
      CHECK(inner.launches() == 1);
    }
    x.redistribute({Replicate()}).wait();
    CHECK(outer.launches() == 2);
  });
}
