// SPDX-License-Identifier: Apache-2.0
// The runner of recorded cases is checked: what is right passes in every placement, each planted slip is reported where it is.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <string>

#include "debug/case_run.h"
#include "dtensor/cases.h"
#include "dtensor/checkpoint.h"
#include "dtensor/error.h"
#include "dtensor/world.h"

using namespace dtensor;

namespace {

constexpr const char* kOps = R"({
  "mul": {"family": "binary", "inputs": [{"name": "input", "list": false}, {"name": "other", "list": false}]},
  "sum": {"family": "reduction", "inputs": [{"name": "input", "list": false}]},
  "cat": {"family": "shape", "inputs": [{"name": "tensors", "list": true}]},
  "isnan": {"family": "unary", "inputs": [{"name": "input", "list": false}]},
  "neg": {"family": "unary", "inputs": [{"name": "input", "list": false}]},
  "sgd": {"family": "optim", "inputs": [{"name": "params", "list": true}, {"name": "grads_1", "list": true}, {"name": "grads_2", "list": true},
                                        {"name": "grads_3", "list": true}]},
  "no_such_op": {"family": "unary", "inputs": [{"name": "input", "list": false}]}
})";

// A folder with these cases over: a = [[0, 1, 2], [3, 4, 5]], b = 10 a, ab = a b, line = 0..11, one = 1 everywhere, rows = sums of rows.
class Folder {
 public:
  explicit Folder(const std::string& cases) {
    path_ = std::filesystem::temp_directory_path() / ("dtensor_cases_" + std::to_string(reinterpret_cast<std::uintptr_t>(this)));
    std::filesystem::create_directories(path_);
    std::ofstream(path_ / "ops.json") << kOps;
    std::ofstream(path_ / "cases.json") << cases;
    std::vector<float> a, b, ab, line, one(6, 1), rows{3, 12}, moved;
    for (int i = 0; i < 6; ++i) {
      const auto x = static_cast<float>(i);
      a.push_back(x), b.push_back(10 * x), ab.push_back(10 * x * x), moved.push_back(x - 0.5F * (10 * x + 1 + x));
    }
    for (int i = 0; i < 12; ++i) line.push_back(static_cast<float>(i));
    const std::vector<float> stepped{-1, -3, -5, -7, -9, -11};  // line from 1 in steps of 2
    const Tensor isnan = Tensor::zeros({2, 3}, Dtype::u8);
    isnan.values<std::uint8_t>()[4] = 1;
    write_safetensors((path_ / "tensors.safetensors").string(),
                      {{"a", Tensor::of(a, {2, 3})},
                       {"b", Tensor::of(b, {2, 3})},
                       {"ab", Tensor::of(ab, {2, 3})},
                       {"line", Tensor::of(line, {12})},
                       {"stepped", Tensor::of(stepped, {2, 3})},
                       {"one", Tensor::of(one, {2, 3})},
                       {"moved", Tensor::of(moved, {2, 3})},
                       {"rows", Tensor::of(rows, {2})},
                       {"ones_of_rows", Tensor::of(std::vector<float>{1, 1}, {2})},
                       {"both", Tensor::of(std::vector<float>{0, 1, 2, 3, 4, 5, 0, 10, 20, 30, 40, 50}, {4, 3})},
                       {"isnan", isnan}});
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  Folder(const Folder&) = delete;
  std::string path() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

const std::string kMul = R"({"id": "mul.0", "op": "mul", "family": "binary", "inputs": ["a", "b"], "attrs": {}, "outputs": ["ab"],
  "grad_outputs": ["one"], "grad_inputs": ["b", "a"], "rtol": 1e-6, "atol": 1e-6, "grad_rtol": 1e-6, "grad_atol": 1e-6})";
const std::string kSum = R"({"id": "sum.0", "op": "sum", "family": "reduction", "inputs": ["a"], "attrs": {"dim": 1}, "outputs": ["rows"],
  "grad_outputs": ["ones_of_rows"], "grad_inputs": ["one"], "rtol": 1e-6, "atol": 1e-6, "grad_rtol": 0, "grad_atol": 0})";
const std::string kNeg = R"({"id": "neg.0", "op": "neg", "family": "unary",
  "inputs": [{"key": "line", "shape": [2, 3], "strides": [6, 2], "offset": 1}], "attrs": {}, "outputs": ["stepped"]})";

std::string replaced(std::string text, const std::string& what, const std::string& with) { return text.replace(text.find(what), what.size(), with); }
CasesReport check_one(const std::string& text, const CasesOptions& options = {}) { return check_cases(Folder("[" + text + "]").path(), options); }

}  // namespace

TEST_CASE("right cases pass on every mesh: lists, strided views, special values, a number for a list, three steps of an optimiser") {
  const std::string cat = R"({"id": "cat.0", "op": "cat", "family": "shape", "inputs": [["a", "b"]], "attrs": {"dim": 0}, "outputs": ["both"],
    "grad_outputs": ["both"], "grad_inputs": [["a", "b"]]})";
  const std::string isnan = R"({"id": "isnan.0", "op": "isnan", "family": "unary", "inputs": [{"key": "a", "special": {"nan": [4], "inf": [0]}}],
    "attrs": {}, "outputs": ["isnan"], "grad_outputs": [], "grad_inputs": []})";
  const std::string sgd = R"({"id": "sgd.0", "op": "sgd", "family": "optim", "inputs": [["a"], ["b"], ["one"], ["a"]], "attrs": {"lr": 0.5},
    "outputs": ["moved"], "rtol": 1e-6, "atol": 1e-6})";
  const CasesReport report = check_cases(Folder("[" + kMul + "," + kSum + "," + kNeg + "," + cat + "," + isnan + "," + sgd + "]").path());
  CHECK_MESSAGE(report.ok(), to_string(report));
  CHECK(report.passed == 6);
  CHECK(report.runs > 150);
  CHECK(to_string(report) == "6 passed, 0 failed");
  CHECK(report.families.size() == 5);
}

TEST_CASE("each slip in a case is a failure that names it") {
  const std::vector<std::pair<std::string, std::string>> planted{
      {replaced(kMul, R"("outputs": ["ab"])", R"("outputs": ["a"])"), "mul.0 on 1: result 0 element [0, 1] is 10, expected 1"},
      {replaced(kMul, R"("grad_inputs": ["b", "a"])", R"("grad_inputs": ["b", "one"])"), "gradient of tensor 1 element [0, 0] is 0, expected 1"},
      {replaced(kSum, R"("outputs": ["rows"])", R"("outputs": ["a"])"), "result 0 is f32[2], expected f32[2, 3]"},
      {replaced(kNeg, R"("offset": 1)", R"("offset": 0)"), "neg.0 on 1: result 0 element [0, 0] is -0, expected -1"},
      {replaced(kNeg, R"("offset": 1)", R"("offset": 9)"), "neg.0: cannot be read: a position outside the stored tensor"},
      {replaced(kSum, R"("dim": 1)", R"("axis": 1)"), "sum has no attribute 'axis'"},
      {replaced(kSum, R"("dim": 1)", R"("dim": 7)"), "sum.0 on 1: sum: dim 7 is out of range"},
      {replaced(kMul, R"("ab")", R"("missing")"), "mul.0: cannot be read: tensors.safetensors has no 'missing'"},
      {R"({"id": "x.0", "op": "no_such_op", "inputs": ["a"], "attrs": {}, "outputs": ["a"]})", "there is no op 'no_such_op'"},
      {R"({"id": "x.0", "op": "undeclared", "inputs": ["a"], "attrs": {}, "outputs": ["a"]})", "ops.json has no op 'undeclared'"},
  };
  for (const auto& [text, fault] : planted) {
    const CasesReport report = check_one(text);
    INFO(to_string(report));
    CHECK(report.failed == 1);
    REQUIRE(report.failures.size() == 1);
    CHECK(to_string(report).find(fault) != std::string::npos);
  }
}

TEST_CASE("the options choose op, family, meshes and where to stop, and failures are told as they come") {
  const std::string wrong = replaced(kMul, R"("outputs": ["ab"])", R"("outputs": ["a"])");
  const Folder folder("[" + wrong + "," + wrong + "," + kSum + "]");
  int told = 0;
  CHECK(check_cases(folder.path(), {.on_failure = [&](const CaseFailure&) { ++told; }}).failed == 2);
  CHECK(told == 2);
  CHECK(check_cases(folder.path(), {.fail_fast = true}).failed == 1);
  CHECK(check_cases(folder.path(), {.op = "sum"}).passed == 1);
  CHECK(check_cases(folder.path(), {.family = "binary"}).failed == 2);
  const CasesReport named = check_cases(folder.path(), {.meshes = {"dp=2,tp=2"}, .op = "sum"});
  CHECK(named.ok());
  CHECK(named.runs < check_cases(folder.path(), {.op = "sum"}).runs);
  CHECK_THROWS_AS(check_cases(folder.path(), {.op = "matmul"}), InvalidArgument);
  CHECK_THROWS_AS(check_cases(folder.path(), {.meshes = {"dp=2,2"}}), InvalidArgument);
  CHECK_THROWS_AS(check_cases(folder.path() + "/no"), InvalidArgument);
  CHECK_THROWS_AS(run_ranks({.ranks = 1}, [&](World&) { check_cases(folder.path()); }), InvalidArgument);
}

TEST_CASE("some choice of placements splits every tensor that has a dimension, and none repeats") {
  debug::RecordedCase recorded;
  recorded.id = "x.0";
  for (const Shape& shape : {Shape{5, 7}, Shape{7}, Shape{}}) {
    debug::CaseTensor t;
    t.present = true;
    t.value = {shape, Dtype::f32, std::vector<double>(static_cast<std::size_t>(shape.numel()))};
    recorded.inputs.push_back({"t" + std::to_string(recorded.inputs.size()), false, {t}});
  }
  for (const std::vector<int>& mesh : {std::vector<int>{2}, {3}, {2, 2}}) {
    const auto cases = debug::placements_of(recorded, mesh, 0);
    bool all_split = false;
    int partial = 0;
    for (const auto& c : cases) {
      bool split = true;
      for (std::size_t i = 0; i < 2; ++i) split = split && std::any_of(c[i].begin(), c[i].end(), [](const Placement& p) { return p.is_shard(); });
      all_split = all_split || split;
      partial += c[2][0].is_partial();
      CHECK(std::count(cases.begin(), cases.end(), c) == 1);
    }
    CHECK(all_split);
    CHECK(partial > 0);
  }
}

TEST_CASE("contributions of an exact part add up to the value without rounding") {
  const double values[] = {0.1F, -3.3e-7F, 1.0e30F, HUGE_VAL, 0};
  const debug::Whole whole{{5}, Dtype::f32, {std::begin(values), std::end(values)}};
  const auto parts = collect({.ranks = 3}, [&](World& world) {
    const DeviceMesh mesh = world.mesh({{"a", 3}});
    const auto layout = placements::make_layout(mesh, {5}, Dtype::f32, {Partial()}, "test");
    return debug::numbers(debug::exact_part(whole, *layout, {world.rank()}));
  });
  for (std::size_t i = 0; i < 5; ++i) {
    float sum = 0;
    int contributions = 0;
    for (const auto& part : parts) sum += static_cast<float>(part[i]), contributions += part[i] != 0;
    CHECK(static_cast<double>(sum) == values[i]);
    if (i < 3) CHECK(contributions == 2);
  }
}
