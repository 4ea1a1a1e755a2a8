// SPDX-License-Identifier: Apache-2.0
// The driver that checks every op and names none: signature, shape rule against kernel, names, gradient against central differences.
#include <doctest/doctest.h>

#include <cmath>
#include <set>
#include <string>

#include "debug/verify_run.h"
#include "dtensor/autograd.h"
#include "dtensor/error.h"
#include "dtensor/generator.h"
#include "dtensor/world.h"
#include "tensor/signature.h"

using namespace dtensor;
using debug::Problem;
using debug::Whole;

namespace {

std::string text_of(const OpDef& op, const Problem& p) { return std::string(op.name) + "(" + p.text() + ")"; }

// Inputs of a problem on one rank.
std::vector<DTensor> place(const Problem& p, const DeviceMesh& mesh, const std::vector<Whole>& values) {
  std::vector<DTensor> inputs;
  for (std::size_t i = 0; i < values.size(); ++i)
    inputs.push_back(
        p.present[i] ? distribute(debug::from_numbers(values[i].values, values[i].shape, values[i].dtype), mesh, {}, {.source = Source::every_rank})
                     : DTensor());
  return inputs;
}
Results run(const Problem& p, const std::vector<DTensor>& inputs, const DeviceMesh& mesh) {
  manual_seed(5);
  if (p.types.empty()) return {call_on(p.op, mesh, {}, {}, p.attributes)};
  std::vector<Input> borrowed;
  for (const DTensor& t : inputs) borrowed.emplace_back(t);
  return call_all(p.op, borrowed, p.attributes);
}

// Which results gradients are asked for: all of a list, else the first.
std::size_t public_results(const OpDef& op, const Results& results) {
  return op.signature.ends_with("[]") ? results.size() : std::min<std::size_t>(1, results.size());
}

double weight(std::size_t output, std::size_t element) {
  return 0.5 + std::sin(1.7 * static_cast<double>(output) + 0.9 * static_cast<double>(element));
}

double weighted_sum(const Problem& p, const std::vector<Whole>& values, const DeviceMesh& mesh) {
  const NoGrad off;
  const Results results = run(p, place(p, mesh, values), mesh);
  double total = 0;
  for (std::size_t o = 0; o < public_results(p.op, results); ++o) {
    if (!info(results[o].dtype()).floating) continue;
    const auto v = debug::numbers(results[o].local());
    for (std::size_t i = 0; i < v.size(); ++i) total += weight(o, i) * v[i];
  }
  return total;
}

std::vector<std::vector<double>> tape_gradients(const Problem& p, const DeviceMesh& mesh, const std::vector<Whole>& values,
                                                std::vector<std::size_t>& asked) {
  const std::vector<DTensor> inputs = place(p, mesh, values);
  std::vector<DTensor> wanted, outputs, weights;
  for (std::size_t i : asked) wanted.push_back(inputs[i].set_requires_grad());
  const Results results = run(p, inputs, mesh);
  for (std::size_t o = 0; o < public_results(p.op, results); ++o) {
    if (!results[o].requires_grad()) continue;
    std::vector<double> w(static_cast<std::size_t>(results[o].numel()));
    for (std::size_t i = 0; i < w.size(); ++i) w[i] = weight(o, i);
    outputs.push_back(results[o]);
    weights.push_back(distribute(debug::from_numbers(w, results[o].shape(), results[o].dtype()), mesh, {}, {.source = Source::every_rank}));
  }
  std::vector<std::vector<double>> gradients;
  if (outputs.empty()) return gradients;
  for (const DTensor& g : grad(outputs, wanted, weights, {.retain_graph = false, .create_graph = false, .allow_unused = true}))
    gradients.push_back(g ? debug::numbers(g.local()) : std::vector<double>());
  return gradients;
}

// Inputs off the grid of the checker: no ties, no kinks at round numbers.
std::vector<Whole> smooth(const Problem& p) {
  std::vector<Whole> values = p.inputs;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!info(values[i].dtype).floating) continue;
    const double low = p.sample.low + 0.01, high = p.sample.high - 0.01;
    for (std::size_t k = 0; k < values[i].values.size(); ++k)
      values[i].values[k] = low + (high - low) * static_cast<double>(debug::random_bits(3 + i, k) >> 11) / 9007199254740992.0;
  }
  return values;
}

void compare_with_differences(const Problem& p, const DeviceMesh& mesh) {
  const std::vector<Whole> values = smooth(p);
  std::vector<std::size_t> asked;
  for (std::size_t i = 0; i < p.types.size(); ++i)
    if (p.present[i] && info(p.types[i].dtype).floating) asked.push_back(i);
  std::vector<std::vector<double>> gradients;
  try {
    gradients = tape_gradients(p, mesh, values, asked);
  } catch (const Error& e) {
    // An op may refuse a gradient for all but its first floating input, and says so.
    INFO(text_of(p.op, p) << ": " << e.what());
    REQUIRE(std::string(e.what()).find("gradient") != std::string::npos);
    asked.resize(1);
    gradients = tape_gradients(p, mesh, values, asked);
  }
  for (std::size_t a = 0; a < gradients.size(); ++a) {
    if (gradients[a].empty()) continue;
    for (std::size_t k = 0; k < gradients[a].size(); ++k) {
      constexpr double kStep = 1e-6;
      std::vector<Whole> moved = values;
      moved[asked[a]].values[k] += kStep;
      const double above = weighted_sum(p, moved, mesh);
      moved[asked[a]].values[k] -= 2 * kStep;
      const double difference = (above - weighted_sum(p, moved, mesh)) / (2 * kStep);
      INFO(text_of(p.op, p) << " input " << asked[a] << " element " << k << ": tape " << gradients[a][k] << ", central difference " << difference);
      CHECK(std::abs(gradients[a][k] - difference) <= 2e-5 * (1 + std::abs(difference)));
    }
  }
}

template <class F>
void each_problem(Dtype dtype, F&& f) {
  for (const OpDef* op : all_ops()) {
    if (op->samples == nullptr || op->shape == nullptr) continue;
    const auto signature = tensor::parse_signature(*op);
    for (const Sample& sample : op->samples()) f(*op, Problem(*op, signature, sample, dtype, 1));
  }
}

bool takes(const OpDef& op, Dtype dtype) {
  return op.dtypes.empty() || op.dtypes == "any" || op.dtypes == "floating" || op.dtypes == "number" ||
         op.dtypes.find(to_string(dtype)) != std::string_view::npos;
}

}  // namespace

TEST_CASE("every op has a signature that parses and a name by which it is found") {
  std::set<std::string> names;
  for (const OpDef* op : all_ops()) {
    INFO(std::string(op->name));
    CHECK_NOTHROW(tensor::parse_signature(*op));
    CHECK(&find_op(op->name) == op);
    CHECK(names.insert(std::string(op->name)).second);
    CHECK((op->plan != nullptr || (op->shape != nullptr && (tensor::has_kernel(*op) || op->decompose != nullptr))));
  }
  CHECK(names.size() >= 60);
}

TEST_CASE("every op but `empty`, whose result is not defined, has samples") {
  std::string without;
  for (const OpDef* op : all_ops())
    if (op->plan == nullptr && op->samples == nullptr) without += std::string(op->name) + " ";
  CHECK(without == "empty ");
}

TEST_CASE("the shape rule of every op predicts shape and dtype of what its kernel gives, and a call by names gives the same") {
  run_ranks({.ranks = 1}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"x", 1}});
    each_problem(Dtype::f32, [&](const OpDef& op, const Problem& p) {
      INFO(text_of(op, p));
      const Results results = run(p, place(p, mesh, p.inputs), mesh);
      REQUIRE(results.size() == p.results.size());
      for (std::size_t o = 0; o < results.size(); ++o) {
        CHECK(results[o].local().shape() == results[o].shape());
        if (!op.data_dependent) CHECK(results[o].shape() == p.results[o].shape);
        CHECK(results[o].dtype() == p.results[o].dtype);
        CHECK(results[o].local().dtype() == p.results[o].dtype);
      }
      if (p.types.empty()) return;
      std::vector<std::pair<std::string_view, Attribute>> named;
      for (std::size_t i = 0; i < p.attributes.size(); ++i) named.emplace_back(p.signature.attributes[i].name, p.attributes[i]);
      const std::vector<DTensor> inputs = place(p, mesh, p.inputs);
      std::vector<Input> borrowed;
      for (const DTensor& t : inputs) borrowed.emplace_back(t);
      manual_seed(5);
      const Results again = call_named(op, borrowed, named);
      REQUIRE(again.size() == results.size());
      for (std::size_t o = 0; o < results.size(); ++o) {
        const auto a = debug::numbers(results[o].local()), b = debug::numbers(again[o].local());
        for (std::size_t k = 0; k < a.size(); ++k) REQUIRE((a[k] == b[k] || (std::isnan(a[k]) && std::isnan(b[k]))));
      }
    });
  });
}

TEST_CASE("gradients equal central differences in f64 for every op and sample") {
  int compared = 0;
  run_ranks({.ranks = 1}, [&compared](World& world) {
    const DeviceMesh mesh = world.mesh({{"x", 1}});
    each_problem(Dtype::f64, [&](const OpDef& op, const Problem& p) {
      if ((op.gradient == nullptr && !tensor::is_composite(op)) || p.writes() || !takes(op, Dtype::f64)) return;
      compare_with_differences(p, mesh);
      ++compared;
    });
  });
  CHECK(compared > 150);
}

TEST_CASE("an unknown op, attribute and missing attribute are named with what is near") {
  CHECK_THROWS_WITH_AS(find_op("sofmax"), doctest::Contains("find_op: there is no op 'sofmax'; near: softmax"), InvalidArgument);
  run_ranks({.ranks = 1}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"x", 1}});
    const DTensor x = distribute(Tensor::of(std::vector<float>{1, 2}, {2}), mesh, {}, {.source = Source::every_rank});
    const Input inputs[] = {x};
    const std::pair<std::string_view, Attribute> wrong[] = {{"axis", 0}};
    CHECK_THROWS_WITH_AS(call_named(find_op("softmax"), inputs, wrong),
                         "softmax: no attribute 'axis'; the signature is \"input, dim: int, dtype: dtype? = none -> out\"", InvalidArgument);
    CHECK_THROWS_WITH_AS(call_named(find_op("softmax"), inputs),
                         "softmax: attribute 'dim' is missing; the signature is \"input, dim: int, dtype: dtype? = none -> out\"", InvalidArgument);
    const std::pair<std::string_view, Attribute> kind[] = {{"dim", "zero"}};
    CHECK_THROWS_WITH_AS(call_named(find_op("softmax"), inputs, kind),
                         "softmax: attribute 'dim' has the wrong kind; the signature is \"input, dim: int, dtype: dtype? = none -> out\"",
                         InvalidArgument);
  });
}

TEST_CASE("a name can be registered once") {
  static constexpr OpDef kMine{.name = "test::mine", .signature = "input -> out"};
  register_op(kMine);
  CHECK(&find_op("test::mine") == &kMine);
  CHECK_THROWS_WITH_AS(register_op(kMine), "register_op: the name 'test::mine' is taken; choose another, such as app::test::mine", InvalidArgument);
}
