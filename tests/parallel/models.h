// SPDX-License-Identifier: Apache-2.0
// Small modules, and what a forward and a backward of one gives as plain numbers: the same on every mesh.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "dtensor/dtensor.h"

namespace parallel_test {

using namespace dtensor;
using Numbers = std::vector<double>;

inline Numbers whole(const DTensor& t) {
  REQUIRE(t);
  const Tensor local = t.detach().full_tensor().local().to(Dtype::f64);
  const auto v = local.values<const double>();
  return {v.begin(), v.end()};
}
/// The largest difference, relative to the largest expected element (at least 1).
inline double deviation(const Numbers& got, const Numbers& want) {
  if (got.size() != want.size()) return INFINITY;
  double scale = 1, worst = 0;
  for (double w : want) scale = std::max(scale, std::abs(w));
  for (std::size_t i = 0; i < got.size(); ++i) {
    if (!std::isfinite(got[i])) return INFINITY;
    worst = std::max(worst, std::abs(got[i] - want[i]));
  }
  return worst / scale;
}
/// Values in (-1, 1) that repeat nowhere, the same on every mesh.
inline DTensor waves(const Shape& shape, const DeviceMesh& mesh, const Placements& placements, Dtype dtype = Dtype::f32, double phase = 0) {
  std::vector<double> values(static_cast<std::size_t>(shape.numel()));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = std::sin(1.7 * static_cast<double>(i) + phase);
  return distribute(Tensor::of(values, shape).to(dtype), mesh, placements, {.source = Source::every_rank});
}
inline std::string error_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const InvalidArgument& e) { return e.what(); }
  return "nothing thrown";
}
inline bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

struct Mlp : nn::Module<Mlp> {
  Mlp(std::int64_t hidden, std::int64_t inner, const DeviceMesh& mesh, const nn::LinearOptions& options)
      : up(hidden, inner, mesh, options), down(inner, hidden, mesh, options) {}
  void fields(nn::Fields& f) override { f("up_proj", up)("down_proj", down); }
  DTensor forward(const DTensor& x) { return down(silu(up(x))); }
  nn::Linear up, down;
};

struct AttentionSizes {
  std::int64_t heads = 4, kv_heads = 2, head_dim = 2;
};
struct Attention : nn::Module<Attention> {
  Attention(std::int64_t hidden, const AttentionSizes& s, const DeviceMesh& mesh, const nn::LinearOptions& options)
      : sizes(s),
        q(hidden, s.heads * s.head_dim, mesh, options),
        k(hidden, s.kv_heads * s.head_dim, mesh, options),
        v(hidden, s.kv_heads * s.head_dim, mesh, options),
        o(s.heads * s.head_dim, hidden, mesh, options) {}
  void fields(nn::Fields& f) override { f("q_proj", q)("k_proj", k)("v_proj", v)("o_proj", o); }
  DTensor forward(const DTensor& x) {
    const auto split = [](const DTensor& t, std::int64_t heads) { return transpose(unflatten(t, -1, {heads, -1}), 1, 2); };
    const DTensor a = scaled_dot_product_attention(split(q(x), sizes.heads), split(k(x), sizes.kv_heads), split(v(x), sizes.kv_heads),
                                                   {.is_causal = true, .enable_gqa = sizes.heads != sizes.kv_heads});
    return o(flatten(transpose(a, 1, 2), 2));
  }
  AttentionSizes sizes;
  nn::Linear q, k, v, o;
};

struct Block : nn::Module<Block> {
  Block(std::int64_t hidden, std::int64_t inner, const AttentionSizes& s, const DeviceMesh& mesh, const nn::LinearOptions& options)
      : norm1(hidden, mesh, {.dtype = options.dtype}),
        norm2(hidden, mesh, {.dtype = options.dtype}),
        attention(hidden, s, mesh, options),
        mlp(hidden, inner, mesh, options) {}
  void fields(nn::Fields& f) override { f("norm1", norm1)("attn", attention)("norm2", norm2)("mlp", mlp); }
  DTensor forward(const DTensor& x) {
    const DTensor h = x + attention(norm1(x));
    return h + mlp(norm2(h));
  }
  nn::RMSNorm norm1;
  nn::LayerNorm norm2;
  Attention attention;
  Mlp mlp;
};

/// Output, gradient of the input and of every parameter.
struct Outcome {
  Numbers output, input_grad;
  std::map<std::string, Numbers> grads;
};

template <class M>
Outcome outcome(M& model, const DTensor& x) {
  x.set_requires_grad();
  const DTensor y = model(x);
  sum(y * waves(y.shape(), y.mesh(), {}, y.dtype(), 0.3)).backward();
  Outcome result{whole(y), whole(x.grad()), {}};
  for (const nn::NamedParameter& p : model.named_parameters()) result.grads[p.name] = whole(p.parameter.grad());
  return result;
}
inline void check_same(const Outcome& got, const Outcome& want, double tolerance) {
  CHECK(deviation(got.output, want.output) <= tolerance);
  CHECK(deviation(got.input_grad, want.input_grad) <= tolerance);
  REQUIRE(got.grads.size() == want.grads.size());
  for (const auto& entry : want.grads) {
    INFO(entry.first);
    CHECK(deviation(got.grads.at(entry.first), entry.second) <= tolerance);
  }
}
/// What `body` gives on a world of one rank.
template <class F>
auto alone(const F& body) {
  std::invoke_result_t<const F&, const DeviceMesh&> result;
  run_ranks({.ranks = 1}, [&](World& world) { result = body(world.mesh({{"tp", 1}})); });
  return result;
}

}  // namespace parallel_test
