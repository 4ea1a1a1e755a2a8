// SPDX-License-Identifier: Apache-2.0
// Einsum and what follows from it against loops over all indices, on one rank and with split operands.
#include <doctest/doctest.h>

#include <cmath>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include <dtensor/dtensor.h>

namespace {

using namespace dtensor;
using Values = std::vector<double>;

Values numbers(std::int64_t count, int seed) {
  Values v;
  for (std::int64_t i = 0; i < count; ++i) v.push_back(std::sin(1.3 * static_cast<double>(i) + seed));
  return v;
}
DTensor placed(const Shape& shape, int seed, const DeviceMesh& mesh, const Placements& placements) {
  return distribute(Tensor::of(numbers(shape.numel(), seed), shape), mesh, placements, {.source = Source::every_rank});
}
Values whole(const DTensor& t) {
  const Tensor local = t.full_tensor().local().contiguous();
  const auto v = local.values<const double>();
  return {v.begin(), v.end()};
}

// Sum over all labels that are not in the result; one letter per dim.
Values loops(const std::vector<std::string>& labels, const std::vector<Shape>& shapes, const std::string& result) {
  std::map<char, std::int64_t> sizes;
  for (std::size_t i = 0; i < labels.size(); ++i)
    for (std::size_t d = 0; d < labels[i].size(); ++d) sizes[labels[i][d]] = std::max(sizes[labels[i][d]], shapes[i][d]);
  std::int64_t total = 1, out = 1;
  for (const auto& [label, n] : sizes) total *= n;
  for (char c : result) out *= sizes[c];
  Values sums(static_cast<std::size_t>(out), 0.0);
  std::vector<Values> operands;
  for (std::size_t i = 0; i < labels.size(); ++i) operands.push_back(numbers(shapes[i].numel(), static_cast<int>(i)));
  for (std::int64_t k = 0; k < total; ++k) {
    std::map<char, std::int64_t> at;
    std::int64_t rest = k;
    for (const auto& [label, n] : sizes) at[label] = rest % n, rest /= n;
    double product = 1;
    for (std::size_t i = 0; i < labels.size(); ++i) {
      std::int64_t offset = 0;
      for (std::size_t d = 0; d < labels[i].size(); ++d) offset = offset * shapes[i][d] + (shapes[i][d] == 1 ? 0 : at[labels[i][d]]);
      product *= operands[i][static_cast<std::size_t>(offset)];
    }
    std::int64_t offset = 0;
    for (char c : result) offset = offset * sizes[c] + at[c];
    sums[static_cast<std::size_t>(offset)] += product;
  }
  return sums;
}
void check_close(const Values& got, const Values& want) {
  REQUIRE(got.size() == want.size());
  for (std::size_t i = 0; i < got.size(); ++i) CHECK(std::abs(got[i] - want[i]) < 1e-11);
}
std::string error_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const InvalidArgument& e) { return e.what(); }
  return "nothing thrown";
}

struct Row {
  std::string equation;
  std::vector<std::string> labels;
  std::vector<Shape> shapes;
  std::string result;
};
const std::vector<Row>& rows() {
  static const std::vector<Row> list{
      {"ij,jk->ik", {"ij", "jk"}, {{3, 4}, {4, 5}}, "ik"},
      {"bhqd,bhkd->bhqk", {"bhqd", "bhkd"}, {{2, 3, 4, 5}, {2, 3, 2, 5}}, "bhqk"},
      {"abc,cbd->da", {"abc", "cbd"}, {{2, 3, 4}, {4, 3, 5}}, "da"},
      {"ii->i", {"ii"}, {{5, 5}}, "i"},
      {"ii", {"ii"}, {{5, 5}}, ""},
      {"iij,jk->k", {"iij", "jk"}, {{3, 3, 4}, {4, 2}}, "k"},
      {"ij,kl,jm->mlk", {"ij", "kl", "jm"}, {{2, 3}, {4, 2}, {3, 5}}, "mlk"},
      {"...i, ...j -> ...", {"xyi", "xyj"}, {{2, 3, 4}, {2, 3, 2}}, "xy"},
      {"...ij,jk", {"xij", "jk"}, {{2, 3, 4}, {4, 5}}, "xik"},
      {"b...,b...->...", {"bx", "byx"}, {{4, 3}, {4, 2, 3}}, "yx"},
      {"ij,ij->ij", {"ij", "ij"}, {{1, 4}, {3, 4}}, "ij"},
      {"zB,BA", {"zB", "BA"}, {{2, 3}, {3, 4}}, "Az"},
      {"i,j,k->kji", {"i", "j", "k"}, {{2}, {3}, {4}}, "kji"},
  };
  return list;
}

}  // namespace

TEST_CASE("einsum equals loops over all indices") {
  run_ranks({.ranks = 1}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"x", 1}});
    for (const Row& row : rows()) {
      INFO(row.equation);
      std::vector<DTensor> operands;
      for (std::size_t i = 0; i < row.shapes.size(); ++i) operands.push_back(placed(row.shapes[i], static_cast<int>(i), mesh, {}));
      check_close(whole(einsum(row.equation, operands)), loops(row.labels, row.shapes, row.result));
    }
  });
}

TEST_CASE("einsum is the same with every label of the first operand split in turn") {
  run_ranks({.ranks = 3}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"x", 3}});
    for (const Row& row : rows())
      for (int d = 0; d < row.shapes[0].ndim(); ++d) {
        INFO(row.equation << ", dim " << d);
        std::vector<DTensor> operands{placed(row.shapes[0], 0, mesh, {Shard(d)})};
        for (std::size_t i = 1; i < row.shapes.size(); ++i) operands.push_back(placed(row.shapes[i], static_cast<int>(i), mesh, {Replicate()}));
        check_close(whole(einsum(row.equation, operands)), loops(row.labels, row.shapes, row.result));
      }
  });
}

TEST_CASE("a contracted label that both operands have split gives Partial without communication") {
  run_ranks({.ranks = 2}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"x", 2}});
    const DTensor a = placed({2, 6, 3}, 0, mesh, {Shard(1)}), b = placed({4, 6, 3}, 1, mesh, {Shard(1)});
    const RefuseImplicit refuse;
    const DTensor product = einsum("abc,dbc->ad", {a, b});
    CHECK(to_string(product) == "f64[2, 4]{x: P(sum)}");
    CHECK(to_string(tensordot(a, b, {1, 2}, {1, 2})) == "f64[2, 4]{x: P(sum)}");
    CHECK(to_string(einsum("abc,abc->abc", {a, a})) == "f64[2, 6, 3]{x: S(1)}");
  });
}

TEST_CASE("kron, inner, multi_dot, diag and the sums with a product equal their loops") {
  run_ranks({.ranks = 2}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"x", 2}});
    const DTensor a = placed({3, 2}, 0, mesh, {Shard(0)}), b = placed({2, 4}, 1, mesh, {Replicate()}), c = placed({4, 5}, 2, mesh, {Shard(1)});
    const Values va = numbers(6, 0), vb = numbers(8, 1);
    Values expected;
    for (std::size_t r = 0; r < 6; ++r)
      for (std::size_t s = 0; s < 8; ++s) expected.push_back(va[r / 2 * 2 + s / 4] * vb[r % 2 * 4 + s % 4]);
    check_close(whole(kron(a, b)), expected);
    const std::vector<DTensor> chain{a, b, c};
    check_close(whole(multi_dot(chain)), loops({"ij", "jk", "kl"}, {{3, 2}, {2, 4}, {4, 5}}, "il"));
    check_close(whole(inner(a, placed({5, 2}, 1, mesh, {Shard(1)}))), loops({"ij", "kj"}, {{3, 2}, {5, 2}}, "ik"));
    const DTensor v = placed({3}, 0, mesh, {Shard(0)});
    for (const std::int64_t offset : {-2, -1, 0, 1, 3}) {
      INFO("offset " << offset);
      const DTensor m = diag(v, offset);
      CHECK(m.shape() == Shape{3 + std::abs(offset), 3 + std::abs(offset)});
      check_close(whole(diag(m, offset)), numbers(3, 0));
      CHECK(sum(abs(m)).item<double>() == doctest::Approx(sum(abs(v)).item<double>()));
    }
    const DTensor batch1 = placed({2, 3, 4}, 3, mesh, {Shard(0)}), batch2 = placed({2, 4, 5}, 4, mesh, {Shard(0)});
    const DTensor more = placed({3, 5}, 5, mesh, {Shard(1)});
    check_close(whole(addbmm(more, batch1, batch2, {.beta = 2, .alpha = 0.5})), whole(more * 2 + sum(bmm(batch1, batch2), 0) * 0.5));
    check_close(whole(baddbmm(more, batch1, batch2, {.beta = 2, .alpha = 0.5})), whole(more * 2 + bmm(batch1, batch2) * 0.5));
  });
}

TEST_CASE("einsum says what does not fit") {
  run_ranks({.ranks = 1}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"x", 1}});
    const DTensor a = placed({3, 4}, 0, mesh, {}), b = placed({5, 2}, 1, mesh, {});
    CHECK(error_of([&] {
            einsum("ij,jk->ik", {a, b});
          }) == "einsum: label 'j' has sizes 4 and 5; equal sizes or 1 are wanted (equation \"ij,jk->ik\")");
    CHECK(error_of([&] { einsum("ijk->i", {a}); }) == "einsum: 'ijk' names 3 dims of an operand that has 2 (equation \"ijk->i\")");
    CHECK(error_of([&] { einsum("ij->iz", {a}); }) == "einsum: the result has label 'z', which no operand has (equation \"ij->iz\")");
    CHECK(error_of([&] { einsum("ij->ii", {a}); }) == "einsum: the result has label 'i' twice (equation \"ij->ii\")");
    CHECK(error_of([&] { einsum("ij", {a, b}); }) == "einsum: 2 operands are given for fewer in 'ij' (equation \"ij\")");
    CHECK(error_of([&] { einsum("ii->i", {a}); }) == "einsum: label 'i' has sizes 3 and 4; equal sizes or 1 are wanted (equation \"ii->i\")");
  });
}
