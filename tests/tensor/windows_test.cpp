// SPDX-License-Identifier: Apache-2.0
// Windows of every form in ops of an application's own, checked on every placement: slopes of both signs and less than one, halos, wrapping, two windows at once,
// and a reading factor that is a sum.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "dtensor/debug.h"
#include "dtensor/dtensor.h"
#include "dtensor/op.h"
#include "dtensor/verify.h"

using namespace dtensor;

namespace {

std::int64_t floor_of(std::int64_t a, std::int64_t b) { return a >= 0 ? a / b : -((-a + b - 1) / b); }

// Attributes size, num, low, high, den, wrap: out[o, w] = sum of x[h, v] for h from floor((num o + low) / den) to floor((num o + high) / den) and v from w - 1
// to w + 1, as far as they exist.
std::int64_t attribute(const KernelCall& call, int i) { return call.attribute(i).as_int(); }
void read_sum_cpu(const KernelCall& call) {
  const Place &in = call.input_place(0), &out = call.output_place(0);
  const std::int64_t num = attribute(call, 1), low = attribute(call, 2), high = attribute(call, 3), den = attribute(call, 4), n = in.global[0];
  const bool wrap = call.attribute(5).as_bool();
  const Shape& shape = call.output_shape(0);
  const Tensor x = call.input(0).contiguous();
  for (std::int64_t o = 0; o < shape[0]; ++o) {
    for (std::int64_t w = 0; w < shape[1]; ++w) {
      const std::int64_t row = out.to_global(0, o), column = out.to_global(1, w);
      float total = 0;
      for (std::int64_t h = floor_of(num * row + low, den); h <= floor_of(num * row + high, den); ++h) {
        if (n == 0 || (!wrap && (h < 0 || h >= n))) continue;
        for (std::int64_t v = column - 1; v <= column + 1; ++v) {
          if (v < 0 || v >= in.global[1]) continue;
          const std::int64_t i = in.to_local(0, ((h % n) + n) % n), j = in.to_local(1, v);
          if (i < 0 || j < 0) call.fail("an index that is read is not here");
          total += x.raw_as<float>()[i * x.shape()[1] + j];
        }
      }
      call.output(0).raw_as<float>()[o * shape[1] + w] = total;
    }
  }
}
Sample sample(const Shape& shape, int size, int num, int low, int high, int den = 1, bool wrap = false) {
  const auto text = [](int n) { return std::to_string(n); };
  return {
      .shapes = {shape},
      .attributes = {
          {"size", text(size)}, {"num", text(num)}, {"low", text(low)}, {"high", text(high)}, {"den", text(den)}, {"wrap", wrap ? "true" : "false"}}};
}
constexpr OpDef kReadSum{
    .name = "test::read_sum",
    .signature = "input, size: int, num: int, low: int, high: int, den: int, wrap: bool -> out",
    .dtypes = "f32",
    .shape =
        [](ShapeCall& s) {
          s.output(0) = {.shape = {s.attribute(0).as_int(), s.input(0).shape[1]}, .dtype = Dtype::f32};
        },
    .rule_for =
        [](const ShapeCall& s) {
          const auto number = [&](int i) { return std::to_string(s.attribute(i).as_int()); };
          const std::int64_t low = s.attribute(2).as_int();
          return "h v -> o w    h: window(" + number(1) + " o " + (low < 0 ? "- " + std::to_string(-low) : "+ " + number(2)) + " .. " + number(3) +
                 " / " + number(4) + (s.attribute(5).as_bool() ? ", wrap" : "") + "); v: window(w - 1 .. 1); linear";
        },
    .cpu = read_sum_cpu,
    .samples =
        [] {
          return std::vector<Sample>{sample({7, 3}, 7, -1, 6, 6),            // flip
                                     sample({7, 2}, 7, 1, -2, -2, 1, true),  // roll
                                     sample({5, 1}, 5, 1, 3, 4, 1, true),    // roll with a halo
                                     sample({8, 4}, 4, 2, -1, 1),            // stride 2, padding 1, kernel 3
                                     sample({7, 3}, 3, 7, 0, 6, 3),          // adaptive pooling to 3
                                     sample({3, 2}, 8, 3, 0, 0, 8),          // nearest of a larger size
                                     sample({5, 2}, 9, 1, -2, 0, 2),         // transposed, stride 2
                                     sample({4, 2}, 6, 1, -6, 6),            // all of it
                                     sample({0, 2}, 3, 1, 0, 0),             // nothing
                                     sample({3, 2}, 0, 1, 0, 0)};
        },
};

// out[k] = sum over o of g[o] * x[o + k]: the gradient of a filter.
constexpr OpDef kCorrelate{
    .name = "test::correlate",
    .signature = "g, x -> out",
    .rule = "o, h -> k    h: window(o + 0 .. 2); o: reduce(sum); bilinear",
    .dtypes = "f32",
    .contiguous = true,
    .shape = [](ShapeCall& s) { s.output(0) = {.shape = {3}, .dtype = Dtype::f32}; },
    .cpu =
        [](const KernelCall& call) {
          for (std::int64_t k = 0; k < 3; ++k) {
            float total = 0;
            for (std::int64_t o = 0; o < call.input(0).shape()[0]; ++o) {
              const std::int64_t at = call.input_place(1).to_local(0, call.input_place(0).to_global(0, o) + k);
              if (at < 0) call.fail("an index that is read is not here");
              total += call.input(0).raw_as<float>()[o] * call.input(1).raw_as<float>()[at];
            }
            call.output(0).raw_as<float>()[k] = total;
          }
        },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{6}, {8}}}, {.shapes = {{3}, {5}}}, {.shapes = {{0}, {2}}}};
        },
};

}  // namespace

TEST_CASE("windows of every form read what they say under every placement") {
  for (const OpDef* op : {&kReadSum, &kCorrelate}) {
    const VerifyReport report = verify(*op, {.meshes = {{2}, {3}, {2, 2}, {5}}});
    MESSAGE(to_string(report));
    CHECK(report.checked > 100);
    CHECK(report.wrong == 0);
    CHECK(report.missing == 0);
  }
}

TEST_CASE("a halo brings one row from each neighbour, and a window that reads far brings it from there") {
  run_ranks({.ranks = 4}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"x", 4}});
    const DTensor x = zeros({16, 3}, mesh, {Shard(0)});
    const auto bytes_of = [&](std::initializer_list<Attribute> attributes) {
      const CommCounter counter;
      const DTensor out = call(kReadSum, {x}, attributes);
      CHECK(to_string(out.placements()) == "{x: S(0)}");
      CHECK(counter.launches() == counter.launches("window"));
      return counter.bytes_received();
    };
    const bool edge = world.rank() == 0 || world.rank() == 3;
    CHECK(bytes_of({16, 1, -1, 1, 1, false}) == (edge ? 1 : 2) * 12);
    CHECK(bytes_of({16, 1, -1, 1, 1, true}) == 2 * 12);
    CHECK(bytes_of({16, -1, 15, 15, 1, false}) == 4 * 12);
    CHECK(bytes_of({16, 1, 0, 0, 1, false}) == 0);
  });
}

TEST_CASE("a window that brings rows is implicit communication") {
  run_ranks({.ranks = 2}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"x", 2}});
    const DTensor x = zeros({4, 3}, mesh, {Shard(0)});
    const RefuseImplicit strict;
    CHECK_THROWS_AS(call(kReadSum, {x}, {4, 1, -1, 1, 1, false}), InvalidArgument);
    CHECK_NOTHROW(call(kReadSum, {x}, {4, 1, 0, 0, 1, false}));
  });
}
