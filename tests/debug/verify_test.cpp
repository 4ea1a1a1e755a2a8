// SPDX-License-Identifier: Apache-2.0
// The checker is checked: planted wrong and missing rules are reported, right ones are not.
#include <doctest/doctest.h>

#include <algorithm>
#include <string>

#include "dtensor/error.h"
#include "dtensor/ops/binary.h"
#include "dtensor/ops/views.h"
#include "dtensor/verify.h"
#include "dtensor/world.h"

using namespace dtensor;

namespace {

std::span<const float> in(const KernelCall& c, int i) { return c.input(i).values<const float>(); }
std::span<float> out(const KernelCall& c) { return c.output(0).values<float>(); }
std::size_t columns(const KernelCall& c) { return static_cast<std::size_t>(c.input(0).shape()[1]); }

void row_dot_cpu(const KernelCall& c) {
  const auto a = in(c, 0), b = in(c, 1);
  const std::size_t k = columns(c);
  for (std::size_t i = 0; i < out(c).size(); ++i) {
    double sum = 0;
    for (std::size_t j = 0; j < k; ++j) sum += double(a[i * k + j]) * b[i * k + j];
    out(c)[i] = static_cast<float>(c.attribute(0).as_double() * sum);
  }
}
void row_mean_cpu(const KernelCall& c) {
  const std::size_t k = columns(c);
  for (std::size_t i = 0; i < out(c).size(); ++i) {
    double sum = 0;
    for (std::size_t j = 0; j < k; ++j) sum += in(c, 0)[i * k + j];
    out(c)[i] = k == 0 ? 0 : static_cast<float>(sum / static_cast<double>(k));
  }
}
// Each row divided by its largest magnitude; running sums of each row.
void normalize_cpu(const KernelCall& c) {
  const std::size_t k = columns(c);
  for (std::size_t at = 0; at < out(c).size(); at += k) {
    float top = 0;
    for (std::size_t j = 0; j < k; ++j) top = std::max(top, std::abs(in(c, 0)[at + j]));
    for (std::size_t j = 0; j < k; ++j) out(c)[at + j] = in(c, 0)[at + j] / (top + 1);
  }
}
void running_cpu(const KernelCall& c) {
  const std::size_t k = columns(c);
  for (std::size_t at = 0; at < out(c).size(); at += k)
    for (std::size_t j = 0; j < k; ++j) out(c)[at + j] = in(c, 0)[at + j] + (j == 0 ? 0 : out(c)[at + j - 1]);
}
template <class F>
void each(const KernelCall& c, F f) {
  for (std::size_t i = 0; i < out(c).size(); ++i) out(c)[i] = f(in(c, 0)[i]);
}
void square_cpu(const KernelCall& c) {
  each(c, [](float x) { return x * x; });
}
void negate_cpu(const KernelCall& c) {
  each(c, [](float x) { return -x; });
}
void swap_cpu(const KernelCall& c) {
  const std::size_t k = columns(c);
  for (std::size_t i = 0; i < out(c).size(); ++i) out(c)[i] = in(c, 0)[(i % k * k + i / k) % out(c).size()];
}

void same_shape(ShapeCall& s) { s.output(0) = s.input(0); }
void rows_shape(ShapeCall& s) { s.output(0) = {.shape = {s.input(0).shape[0]}, .dtype = s.input(0).dtype}; }
std::vector<Sample> one() { return {{.shapes = {{4, 6}}}, {.shapes = {{0, 3}}}}; }
std::vector<Sample> two() { return {{.shapes = {{4, 6}, {4, 6}}}, {.shapes = {{0, 3}, {0, 3}}}, {.shapes = {{1, 5}, {1, 5}}}}; }
std::vector<Sample> square_sample() { return {{.shapes = {{4, 4}}}}; }
std::vector<DTensor> row_dot_gradient(const GradientCall& g) {
  const DTensor up = mul(unsqueeze(g.grad_output(0), 1), g.attribute(0).as_double());
  return {g.needs(0) ? mul(up, g.input(1)) : DTensor(), g.needs(1) ? mul(up, g.input(0)) : DTensor()};
}
std::vector<DTensor> half_gradient(const GradientCall& g) {
  const DTensor up = mul(unsqueeze(g.grad_output(0), 1), g.attribute(0).as_double());
  return {g.needs(0) ? mul(up, g.input(1)) : DTensor(), DTensor()};
}

OpDef row_dot(std::string_view rule) {
  return {.name = "test::row_dot",
          .signature = "a, b, *, scale: float = 1.0 -> out",
          .rule = rule,
          .saves = "a, b",
          .dtypes = "f32",
          .contiguous = true,
          .shape = rows_shape,
          .cpu = row_dot_cpu,
          .gradient = row_dot_gradient,
          .samples = two};
}
OpDef unary(std::string_view rule, void (*cpu)(const KernelCall&), std::vector<Sample> (*samples)() = one) {
  return {.name = "test::unary",
          .signature = "input -> out",
          .rule = rule,
          .dtypes = "f32",
          .contiguous = true,
          .shape = same_shape,
          .cpu = cpu,
          .samples = samples};
}
OpDef row_mean(std::string_view rule) {
  OpDef op = unary(rule, row_mean_cpu);
  op.shape = rows_shape;
  return op;
}
constexpr std::string_view kRight = "i k, i k -> i    k: reduce(sum); bilinear";

}  // namespace

TEST_CASE("a right rule with a right gradient has nothing wrong and nothing missing on any mesh") {
  const OpDef op = row_dot(kRight);
  const VerifyReport report = verify(op);
  CHECK_MESSAGE(report.ok(), to_string(report));
  CHECK(report.checked > 300);
  CHECK(to_string(report) == "test::row_dot: " + std::to_string(report.checked) + " checked, 0 wrong, 0 missing, 0 explained");
}

TEST_CASE("planted wrong rules are all reported") {
  const std::vector<std::pair<std::string, OpDef>> planted{
      {"max for sum", row_dot("i k, i k -> i    k: reduce(max)")},
      {"linear for bilinear", row_dot("i k, i k -> i    k: reduce(sum); linear")},
      {"a reduced factor that passes", row_dot("i k, i k -> i    k: pass")},
      {"rows reduced", row_mean("i k -> i    k: reduce(sum)")},
      {"a row op that splits rows", unary("i k -> i k", normalize_cpu)},
      {"a scan that passes", unary("i k -> i k", running_cpu)},
      {"a square that is linear", unary("... -> ...    linear", square_cpu)},
      {"a falling op that is monotone", unary("... -> ...    monotone", negate_cpu)},
      {"a transpose that keeps its dims", unary("a b -> a b", swap_cpu, square_sample)},
      {"a square that is monotone", unary("... -> ...    monotone", square_cpu)},
  };
  for (const auto& [what, op] : planted) {
    const VerifyReport report = verify(op);
    INFO(what << ": " << to_string(report));
    CHECK(report.wrong > 0);
    CHECK_FALSE(report.ok());
    CHECK(report.wrong_example.find("on mesh (") != std::string::npos);
  }
}

TEST_CASE("planted missing rules are all reported") {
  const std::vector<std::pair<std::string, OpDef>> planted{
      {"rows may be split", row_dot("i k, i k -> i    i: whole; k: reduce(sum); bilinear")},
      {"the contraction may be split", row_dot("i k, i k -> i    k: whole; bilinear")},
      {"one operand may stay Partial", row_dot("i k, i k -> i    k: reduce(sum)")},
      {"columns may be split", unary("i k -> i k    k: whole; linear", negate_cpu)},
      {"Partial may stay", unary("... -> ...", negate_cpu)},
  };
  for (const auto& [what, op] : planted) {
    for (const std::vector<int>& mesh : {std::vector<int>{2}, {3}, {2, 2}}) {
      const VerifyReport report = verify(op, {.meshes = {mesh}, .gradients = false});
      INFO(what << ": " << to_string(report));
      CHECK(report.missing > 0);
      CHECK(report.wrong == 0);
      CHECK(report.missing_example.find("communicates, but its parts give") != std::string::npos);
    }
  }
}

TEST_CASE("a rule that splits either dim but not both is missed on a mesh of two axes alone") {
  const OpDef op = unary("a b -> a b    b: whole; linear | a b -> a b    a: whole; linear", negate_cpu);
  CHECK(verify(op, {.meshes = {{2}, {3}}}).ok());
  const VerifyReport report = verify(op, {.meshes = {{2, 2}}});
  CHECK(report.missing > 0);
  CHECK_MESSAGE(report.missing_example.find("its parts give {S(") != std::string::npos, to_string(report));
}

TEST_CASE("what is missing for a written reason is explained") {
  OpDef op = unary("... -> ...", negate_cpu);
  op.reasons = "kept simple for the test";
  const VerifyReport report = verify(op, {.meshes = {{2}}});
  CHECK(report.missing == 0);
  CHECK(report.explained > 0);
  CHECK(report.ok());
  CHECK(to_string(report).find("(kept simple for the test)") != std::string::npos);
}

TEST_CASE("the example of a wrong rule is the smallest: few elements, few ranks, one split") {
  const VerifyReport report = verify(unary("i k -> i k", running_cpu), {.gradients = false});
  CHECK(report.wrong_example.find("test::unary(f32[4, 6]{0: ") == 0);
  CHECK(report.wrong_example.find("on mesh (2): result 0 {0: ") != std::string::npos);
  CHECK(report.wrong_example.find("where one rank gives") != std::string::npos);
}

TEST_CASE("a limit samples the cases, and the same seed gives the same report") {
  const OpDef op = row_dot(kRight);
  const VerifyReport few = verify(op, {.limit = 5}), again = verify(op, {.limit = 5});
  CHECK(few.checked <= 3 * 3 * 5);
  CHECK(few.checked > 3 * 3);
  CHECK(to_string(few) == to_string(again));
}

TEST_CASE("a gradient that forgets an input differs from nothing, and one that doubles with the ranks is wrong") {
  OpDef forgets = row_dot(kRight);
  forgets.gradient = half_gradient;
  CHECK(verify(forgets, {.meshes = {{2}}}).wrong == 0);  // the same on one rank: central differences find it
  OpDef doubles = row_dot(kRight);
  doubles.gradient = [](const GradientCall& g) -> std::vector<DTensor> {
    DTensor up = mul(unsqueeze(g.grad_output(0), 1), static_cast<double>(g.grad_output(0).mesh().size()));
    return {mul(up, g.input(1)), mul(up, g.input(0))};
  };
  const VerifyReport report = verify(doubles, {.meshes = {{2}}});
  CHECK(report.wrong > 0);
  CHECK(report.wrong_example.find("gradient of floating input 0") != std::string::npos);
}

TEST_CASE("a slip in a rule is an InvalidArgument on one rank already, and a rank may not call verify") {
  const VerifyReport report = verify(unary("i k -> i k    k: hole", negate_cpu));
  CHECK(report.wrong > 0);
  CHECK(report.wrong_example.find("expected pass, whole, lookup, deposit, reduce(op) or window(map) (column 18 of") != std::string::npos);
  CHECK_THROWS_WITH_AS(run_ranks({.ranks = 1}, [](World&) { verify(unary("... -> ...", negate_cpu)); }),
                       "verify: called on rank 0; it starts ranks of its own, so call it outside run()", InvalidArgument);
}
