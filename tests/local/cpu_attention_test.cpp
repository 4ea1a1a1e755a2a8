// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <random>
#include <vector>

#include "local/cpu/attention.h"

using namespace dtensor;
using local::cpu::AttentionCall;

namespace {

Tensor random_tensor(const Shape& shape, Dtype dtype, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<double> values(static_cast<std::size_t>(shape.numel()));
  for (double& x : values) x = static_cast<double>(static_cast<int>(random() % 2001) - 1000) / 800.0;
  return Tensor::of<double>(values, shape).to(dtype);
}
std::vector<double> doubles(const Tensor& t) {
  const Tensor d = t.to(Dtype::f64);
  const auto v = d.values<const double>();
  return {v.begin(), v.end()};
}
double worst(const Tensor& got, const std::vector<double>& wanted) {
  const std::vector<double> g = doubles(got);
  REQUIRE(g.size() == wanted.size());
  double most = 0;
  for (std::size_t i = 0; i < g.size(); ++i) most = std::max(most, std::isnan(g[i]) ? 1e9 : std::abs(g[i] - wanted[i]));
  return most;
}

struct Problem {
  std::int64_t b, h, kv, t, s, d, e;
};
using Sees = std::function<bool(std::int64_t b, std::int64_t h, std::int64_t i, std::int64_t j)>;
using Bias = std::function<double(std::int64_t b, std::int64_t h, std::int64_t i, std::int64_t j)>;

// Attention as the formula says it, with gradients of sum(up * out).
struct Reference {
  std::vector<double> out, lse, dq, dk, dv;
};
Reference reference(const Problem& p, const Tensor& query, const Tensor& key, const Tensor& value, const Tensor& up, double scale, const Sees& sees,
                    const Bias& bias) {
  const auto q = doubles(query), k = doubles(key), v = doubles(value), g = doubles(up);
  const std::int64_t group = p.h / p.kv;
  Reference r{std::vector<double>(static_cast<std::size_t>(p.b * p.h * p.t * p.e)), std::vector<double>(static_cast<std::size_t>(p.b * p.h * p.t)),
              std::vector<double>(q.size()), std::vector<double>(k.size()), std::vector<double>(v.size())};
  const auto at = [](const std::vector<double>& x, std::int64_t i) { return x[static_cast<std::size_t>(i)]; };
  for (std::int64_t b = 0; b < p.b; ++b)
    for (std::int64_t h = 0; h < p.h; ++h)
      for (std::int64_t i = 0; i < p.t; ++i) {
        const std::int64_t qi = ((b * p.h + h) * p.t + i), kv = b * p.kv + h / group;
        std::vector<double> w(static_cast<std::size_t>(p.s), 0.0), dw(w);
        double total = 0, dot = 0;
        for (std::int64_t j = 0; j < p.s; ++j) {
          if (!sees(b, h, i, j)) continue;
          double x = 0;
          for (std::int64_t c = 0; c < p.d; ++c) x += at(q, qi * p.d + c) * at(k, (kv * p.s + j) * p.d + c);
          total += w[static_cast<std::size_t>(j)] = std::exp(scale * x + bias(b, h, i, j));
        }
        r.lse[static_cast<std::size_t>(qi)] = std::log(total);
        for (std::int64_t j = 0; j < p.s; ++j) {
          auto& wj = w[static_cast<std::size_t>(j)];
          wj = total == 0 ? 0 : wj / total;
          for (std::int64_t c = 0; c < p.e; ++c) {
            r.out[static_cast<std::size_t>(qi * p.e + c)] += wj * at(v, (kv * p.s + j) * p.e + c);
            r.dv[static_cast<std::size_t>((kv * p.s + j) * p.e + c)] += wj * at(g, qi * p.e + c);
            dw[static_cast<std::size_t>(j)] += at(g, qi * p.e + c) * at(v, (kv * p.s + j) * p.e + c);
          }
          dot += wj * dw[static_cast<std::size_t>(j)];
        }
        for (std::int64_t j = 0; j < p.s; ++j) {
          const double slope = w[static_cast<std::size_t>(j)] * (dw[static_cast<std::size_t>(j)] - dot) * scale;
          for (std::int64_t c = 0; c < p.d; ++c) {
            r.dq[static_cast<std::size_t>(qi * p.d + c)] += slope * at(k, (kv * p.s + j) * p.d + c);
            r.dk[static_cast<std::size_t>((kv * p.s + j) * p.d + c)] += slope * at(q, qi * p.d + c);
          }
        }
      }
  return r;
}

struct Run {
  Tensor query, key, value, up, out, lse, dq, dk, dv;
};
struct Setting {
  Tensor mask = {};
  bool causal = false;
  std::int64_t offset = 0;
  bool strided = false;
};

// [b, h, t, d] in the memory order of a projection, [b, t, h, d].
Tensor turned(const Tensor& t) { return t.transpose(1, 2).clone().transpose(1, 2); }

Run run(const Problem& p, Dtype dtype, double scale, const Setting& o) {
  Run r;
  r.query = random_tensor({p.b, p.h, p.t, p.d}, dtype, 1);
  r.key = random_tensor({p.b, p.kv, p.s, p.d}, dtype, 2);
  r.value = random_tensor({p.b, p.kv, p.s, p.e}, dtype, 3);
  r.up = random_tensor({p.b, p.h, p.t, p.e}, dtype, 4);
  if (o.strided) {
    r.query = turned(r.query);
    r.key = turned(r.key);
    r.value = r.value.transpose(2, 3).clone().transpose(2, 3);
    r.up = turned(r.up);
  }
  const std::vector<local::GlobalRun> rows{{0, p.t}};
  std::vector<std::int64_t> heads;
  for (std::int64_t h = 0; h < p.h; ++h) heads.push_back(h / (p.h / p.kv));
  AttentionCall call;
  call.query = r.query;
  call.key = r.key;
  call.value = r.value;
  call.mask = o.mask;
  call.scale = scale;
  call.causal = o.causal;
  call.offset = o.offset;
  call.rows = rows;
  call.kv_heads = heads;
  r.out = Tensor::empty({p.b, p.h, p.t, p.e}, dtype);
  r.lse = Tensor::empty({p.b, p.h, p.t}, dtype == Dtype::f64 ? Dtype::f64 : Dtype::f32);
  local::cpu::attention(call, r.out, r.lse);
  r.dq = Tensor::empty(r.query.shape(), dtype);
  r.dk = Tensor::empty(r.key.shape(), dtype);
  r.dv = Tensor::empty(r.value.shape(), dtype);
  local::cpu::attention_backward(call, r.up, r.out, r.lse, {r.dq, r.dk, r.dv});
  return r;
}

void check(
    const Problem& p, const Setting& o, const Sees& sees, const Bias& bias = [](auto...) { return 0.0; }) {
  constexpr std::pair<Dtype, double> kDtypes[] = {{Dtype::f64, 1e-12}, {Dtype::f32, 2e-5}, {Dtype::bf16, 8e-2}, {Dtype::f16, 1e-2}};
  for (const auto& [dtype, allowed] : kDtypes) {
    CAPTURE(to_string(dtype));
    const Run r = run(p, dtype, 0.6, o);
    const Reference e = reference(p, r.query, r.key, r.value, r.up, 0.6, sees, bias);
    CHECK(worst(r.out, e.out) < allowed);
    CHECK(worst(r.dq, e.dq) < 4 * allowed);
    CHECK(worst(r.dk, e.dk) < 4 * allowed);
    CHECK(worst(r.dv, e.dv) < 4 * allowed);
  }
}

const Sees kAll = [](auto...) { return true; };

}  // namespace

TEST_CASE("attention and its gradients agree with the formula in double") {
  check({2, 3, 3, 5, 7, 4, 6}, {}, kAll);
  check({1, 2, 2, 1, 1, 1, 1}, {}, kAll);
  check({1, 2, 1, 70, 150, 16, 8}, {}, kAll);  // more than one block each way
}

TEST_CASE("query heads of a group share a key head") { check({2, 6, 2, 5, 4, 3, 3}, {}, kAll); }

TEST_CASE("strided operands give the same as row-major ones") {
  check({2, 4, 2, 9, 11, 8, 5}, {.strided = true}, kAll);
  check({1, 2, 2, 66, 130, 8, 8}, {.strided = true}, kAll);
}

TEST_CASE("a causal query i sees keys 0 to i + offset") {
  check({1, 2, 2, 9, 9, 4, 4}, {.causal = true}, [](auto, auto, std::int64_t i, std::int64_t j) { return j <= i; });
  check({1, 2, 1, 5, 9, 4, 4}, {.causal = true}, [](auto, auto, std::int64_t i, std::int64_t j) { return j <= i; });
  check({1, 2, 1, 3, 9, 4, 4}, {.causal = true, .offset = 6}, [](auto, auto, std::int64_t i, std::int64_t j) { return j <= i + 6; });
  check({1, 1, 1, 140, 140, 8, 8}, {.causal = true}, [](auto, auto, std::int64_t i, std::int64_t j) { return j <= i; });
}

TEST_CASE("a mask hides keys when bool and is added when floating; a row without keys is zero") {
  std::vector<char> visible(3 * 5);
  for (std::size_t i = 0; i < visible.size(); ++i) visible[i] = i >= 5 && i < 10 ? 0 : static_cast<char>(i % 3 != 1);
  const Tensor mask = Tensor::empty({3, 5}, Dtype::boolean);
  std::copy(visible.begin(), visible.end(), static_cast<char*>(mask.data()));
  check({2, 2, 2, 3, 5, 4, 4}, {.mask = mask},
        [&](auto, auto, std::int64_t i, std::int64_t j) { return visible[static_cast<std::size_t>(i * 5 + j)] != 0; });
  for (Dtype d : {Dtype::f32, Dtype::bf16}) {
    const Tensor added = random_tensor({2, 1, 1, 5}, d, 9);
    const auto v = doubles(added);
    check({2, 2, 2, 3, 5, 4, 4}, {.mask = added}, kAll,
          [&](std::int64_t b, auto, auto, std::int64_t j) { return v[static_cast<std::size_t>(b * 5 + j)]; });
  }
}

TEST_CASE("no keys give zeros and logsumexp -inf; no queries give zero key gradients") {
  const Run none = run({1, 2, 2, 3, 0, 4, 4}, Dtype::f32, 1, {});
  CHECK(worst(none.out, std::vector<double>(24)) == 0);
  CHECK(worst(none.dq, std::vector<double>(24)) == 0);
  for (double x : doubles(none.lse)) CHECK(x == -std::numeric_limits<double>::infinity());
  const Run idle = run({1, 2, 2, 0, 3, 4, 4}, Dtype::f32, 1, {});
  CHECK(worst(idle.dk, std::vector<double>(24)) == 0);
  CHECK(worst(idle.dv, std::vector<double>(24)) == 0);
}

TEST_CASE("great scores do not overflow") {
  const Run r = run({1, 1, 1, 4, 6, 4, 4}, Dtype::f32, 3000, {});
  for (double x : doubles(r.out)) CHECK(std::abs(x) <= 1.25001);  // a mean of values
  for (double x : doubles(r.dq)) CHECK(std::isfinite(x));
}
