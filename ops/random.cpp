// SPDX-License-Identifier: Apache-2.0
#include "dtensor/ops/random.h"

#include <array>
#include <cmath>

#include "base/rank.h"
#include "dtensor/error.h"
#include "dtensor/op.h"
#include "dtensor/ops/binary.h"
#include "dtensor/ops/cast.h"
#include "local/cpu/binary.h"
#include "local/random.h"
#include "ops/families.h"
#include "tensor/move_ops.h"
#include "tensor/state.h"

namespace dtensor {
namespace {

// Runs of the output as the generator of random numbers reads them.
class Runs {
 public:
  explicit Runs(const Place& place) : global_(place.global) {
    for (const auto& dim : place.runs) {
      auto& list = runs_.emplace_back();
      for (const IndexRun& r : dim) list.push_back({r.begin, r.length});
    }
    for (const auto& list : runs_) spans_.emplace_back(list);
  }
  local::GlobalMap map() const { return {global_, spans_}; }

 private:
  Shape global_;
  std::vector<std::vector<local::GlobalRun>> runs_;
  std::vector<std::span<const local::GlobalRun>> spans_;
};

void random_shape(ShapeCall& s) {
  const Shape shape = s.attribute(0).as_shape();
  for (std::int64_t n : shape)
    if (n < 0) s.fail("sizes must not be negative (" + to_string(shape) + ")");
  const Dtype dtype = s.attribute(3).as_dtype();
  if (!info(dtype).floating) s.fail("dtype " + to_string(dtype) + " is not floating; use randint for integers");
  s.output(0) = {.shape = shape, .dtype = dtype};
}

std::vector<Sample> sized(const std::vector<std::pair<std::string, std::string>>& more) {
  std::vector<Sample> samples;
  for (const char* size : {"[5, 7]", "[9]", "[1, 2, 3]", "[0, 3]", "[]"}) {
    Sample s{.shapes = {}, .attributes = {{"size", size}}};
    s.attributes.insert(s.attributes.end(), more.begin(), more.end());
    samples.push_back(std::move(s));
  }
  return samples;
}

constexpr OpDef kUniform{
    .name = "uniform",
    .signature = "size: int[], low: float = 0, high: float = 1, dtype: dtype -> out",
    .random = true,
    .shape = random_shape,
    .cpu =
        [](const KernelCall& call) {
          local::fill_uniform(call.output(0), call.seed(), call.random_call(), Runs(call.output_place(0)).map(), call.attribute(1).as_double(),
                              call.attribute(2).as_double());
        },
    .samples =
        [] {
          return sized({{"low", "-1"}, {"dtype", "f32"}});
        },
};
constexpr OpDef kNormal{
    .name = "normal",
    .signature = "size: int[], mean: float = 0, std: float = 1, dtype: dtype -> out",
    .random = true,
    .shape = random_shape,
    .cpu =
        [](const KernelCall& call) {
          local::fill_normal(call.output(0), call.seed(), call.random_call(), Runs(call.output_place(0)).map(), call.attribute(1).as_double(),
                             call.attribute(2).as_double());
        },
    .samples =
        [] {
          return sized({{"std", "2"}, {"dtype", "bf16"}});
        },
};
constexpr OpDef kRandint{
    .name = "randint",
    .signature = "size: int[], low: int, high: int, dtype: dtype -> out",
    .random = true,
    .shape =
        [](ShapeCall& s) {
          if (s.attribute(1).as_int() >= s.attribute(2).as_int())
            s.fail("low " + std::to_string(s.attribute(1).as_int()) + " is not below high " + std::to_string(s.attribute(2).as_int()));
          s.output(0) = {.shape = s.attribute(0).as_shape(), .dtype = s.attribute(3).as_dtype()};
        },
    .cpu =
        [](const KernelCall& call) {
          local::fill_integers(call.output(0), call.seed(), call.random_call(), Runs(call.output_place(0)).map(), call.attribute(1).as_int(),
                               call.attribute(2).as_int());
        },
    .samples =
        [] {
          return sized({{"low", "-3"}, {"high", "50"}, {"dtype", "i64"}});
        },
};

// The mask is the saved result: 0 or 1 / (1 - p) per element, so that the gradient is one product.
void dropout_shape(ShapeCall& s) {
  const double p = s.attribute(0).as_double();
  if (!(p >= 0 && p <= 1)) s.fail("p is " + std::to_string(p) + "; give a probability from 0 to 1");
  s.output(0) = s.input(0);
  s.output(1) = s.input(0);
}
void dropout_cpu(const KernelCall& call) {
  const double p = call.attribute(0).as_double();
  local::fill_keep_mask(call.output(1), call.seed(), call.random_call(), Runs(call.output_place(1)).map(), 1 - p, p < 1 ? 1 / (1 - p) : 0);
  local::cpu::binary(local::cpu::Binary::mul, call.input(0), call.output(1), call.output(0));
}
constexpr OpDef kDropout{
    .name = "dropout",
    .signature = "input, p: float = 0.5 -> out, mask",
    .rule = "... -> ..., ...",
    .saves = "mask",
    .dtypes = "floating",
    .random = true,
    .shape = dropout_shape,
    .cpu = dropout_cpu,
    .gradient = [](const GradientCall& g) -> std::vector<DTensor> { return {g.grad_output(0) * g.output(1)}; },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 7}}},
                                     {.shapes = {{2, 3, 4}}, .attributes = {{"p", "0.1"}}},
                                     {.shapes = {{3}}, .attributes = {{"p", "1"}}},
                                     {.shapes = {{0, 3}}}};
        },
};

constexpr std::array<const OpDef*, 4> kOps{&kUniform, &kNormal, &kRandint, &kDropout};

DTensor make(const OpDef& op, const Shape& size, double a, double b, const DeviceMesh& mesh, const Placements& placements,
             const TensorOptions& options) {
  const Device device = options.device.value_or(base::require_rank(op.name).device);
  const auto layout = placements::make_layout(mesh, size, options.dtype, placements, op.name);
  if (layout->has_partial())
    throw InvalidArgument(std::string(op.name) + ": a random tensor is never Partial (" + to_string(placements) +
                          "); make it Replicate and redistribute");
  const std::array<Attribute, 4> attributes{Attribute(size), Attribute(a), Attribute(b), Attribute(options.dtype)};
  DTensor t = call_on(op, mesh, placements, device, attributes);
  if (options.requires_grad) t.set_requires_grad();
  return t;
}

}  // namespace

namespace ops {
OpList random_ops() { return kOps; }
}  // namespace ops

RandomScope::RandomScope(Generator& generator) : was_(tensor::call_state().generator) { tensor::call_state().generator = &generator; }
RandomScope::~RandomScope() { tensor::call_state().generator = was_; }

DTensor uniform(const Shape& size, double low, double high, const DeviceMesh& mesh, const Placements& placements, const TensorOptions& options) {
  return make(kUniform, size, low, high, mesh, placements, options);
}
DTensor normal(const Shape& size, double mean, double std, const DeviceMesh& mesh, const Placements& placements, const TensorOptions& options) {
  return make(kNormal, size, mean, std, mesh, placements, options);
}
DTensor rand(const Shape& size, const DeviceMesh& mesh, const Placements& placements, const TensorOptions& options) {
  return uniform(size, 0, 1, mesh, placements, options);
}
DTensor randn(const Shape& size, const DeviceMesh& mesh, const Placements& placements, const TensorOptions& options) {
  return normal(size, 0, 1, mesh, placements, options);
}

DTensor randint(std::int64_t low, std::int64_t high, const Shape& size, const DeviceMesh& mesh, const Placements& placements,
                const RandintOptions& options) {
  const Device device = options.device.value_or(base::require_rank("randint").device);
  const std::array<Attribute, 4> attributes{Attribute(size), Attribute(low), Attribute(high), Attribute(options.dtype)};
  return call_on(kRandint, mesh, placements, device, attributes);
}

DTensor dropout(const DTensor& input, double p, bool training) { return training && p > 0 ? call(kDropout, {input}, {p}) : input; }

}  // namespace dtensor
