// SPDX-License-Identifier: Apache-2.0
#include "dtensor/ops/random.h"

#include <array>

#include "base/rank.h"
#include "dtensor/error.h"
#include "dtensor/op.h"
#include "dtensor/ops/binary.h"
#include "dtensor/ops/cast.h"
#include "local/kernels/binary.h"
#include "local/kernels/random.h"
#include "local/kernels/sampling.h"
#include "local/kernels/sorting.h"
#include "ops/families.h"
#include "ops/index_rules.h"
#include "tensor/impl.h"
#include "tensor/move_ops.h"
#include "tensor/state.h"

namespace dtensor {
namespace {

// Runs of the output as the generator of random numbers reads them.
class Runs {
 public:
  explicit Runs(const Place& place) : global_(place.global) {
    for (int d = 0; d < place.global.ndim(); ++d) runs_.push_back(ops::runs_of(place, d));
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
    .kernel =
        [](const KernelCall& call) {
          local::kernels::fill_uniform(call.output(0), call.seed(), call.random_call(), Runs(call.output_place(0)).map(),
                                       call.attribute(1).as_double(), call.attribute(2).as_double());
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
    .kernel =
        [](const KernelCall& call) {
          local::kernels::fill_normal(call.output(0), call.seed(), call.random_call(), Runs(call.output_place(0)).map(),
                                      call.attribute(1).as_double(), call.attribute(2).as_double());
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
    .kernel =
        [](const KernelCall& call) {
          local::kernels::fill_integers(call.output(0), call.seed(), call.random_call(), Runs(call.output_place(0)).map(), call.attribute(1).as_int(),
                                        call.attribute(2).as_int());
        },
    .samples =
        [] {
          return sized({{"low", "-3"}, {"high", "50"}, {"dtype", "i64"}});
        },
};

// The mask is the saved result: 0 or 1 / (1 - p) per element, so that the gradient is one product.
template <class Call>
double probability_of(const Call& call) {
  const double p = call.attribute(0).as_double();
  if (!(p >= 0 && p <= 1)) call.fail("p is " + std::to_string(p) + "; give a probability from 0 to 1");
  return p;
}
void dropout_shape(ShapeCall& s) {
  probability_of(s);
  s.output(0) = s.input(0);
  s.output(1) = s.input(0);
}
// The value of a number is in no key: a cached plan sees it here first.
void dropout_kernel(const KernelCall& call) {
  const double p = probability_of(call);
  local::kernels::fill_keep_mask(call.output(1), call.seed(), call.random_call(), Runs(call.output_place(1)).map(), 1 - p, p < 1 ? 1 / (1 - p) : 0);
  local::kernels::binary(local::cpu::Binary::mul, call.input(0), call.output(1), call.output(0));
}
constexpr OpDef kDropout{
    .name = "dropout",
    .signature = "input, p: float = 0.5 -> out, mask",
    .rule = "... -> ..., ...",
    .saves = "mask",
    .dtypes = "floating",
    .random = true,
    .shape = dropout_shape,
    .kernel = dropout_kernel,
    .gradient = [](const GradientCall& g) -> std::vector<DTensor> { return {g.grad_output(0) * g.output(1)}; },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 7}}},
                                     {.shapes = {{2, 3, 4}}, .attributes = {{"p", "0.1"}}},
                                     {.shapes = {{3}}, .attributes = {{"p", "1"}}},
                                     {.shapes = {{0, 3}}}};
        },
};

// ---- written in place
void written_shape(ShapeCall& s) {
  if (!info(s.input(0).dtype).floating) s.fail("self must be floating (" + s.describe(0) + "); draw integers with randint");
  s.output(0) = s.input(0);
}
std::vector<Sample> written_samples() { return {{.shapes = {{5, 7}}}, {.shapes = {{2, 3, 1}}, .dtypes = {Dtype::bf16}}, {.shapes = {{0, 3}}}}; }
constexpr OpDef kUniformInPlace{
    .name = "uniform_",
    .signature = "self!, from: float = 0, to: float = 1 -> self",
    .rule = "... -> ...",
    .random = true,
    .shape = written_shape,
    .kernel =
        [](const KernelCall& call) {
          local::kernels::fill_uniform(call.input(0), call.seed(), call.random_call(), Runs(call.input_place(0)).map(), call.attribute(0).as_double(),
                                       call.attribute(1).as_double());
        },
    .samples = written_samples,
};
constexpr OpDef kNormalInPlace{
    .name = "normal_",
    .signature = "self!, mean: float = 0, std: float = 1 -> self",
    .rule = "... -> ...",
    .random = true,
    .shape = written_shape,
    .kernel =
        [](const KernelCall& call) {
          local::kernels::fill_normal(call.input(0), call.seed(), call.random_call(), Runs(call.input_place(0)).map(), call.attribute(0).as_double(),
                                      call.attribute(1).as_double());
        },
    .samples = written_samples,
};
constexpr OpDef kBernoulliInPlace{
    .name = "bernoulli_",
    .signature = "self!, p: float = 0.5 -> self",
    .rule = "... -> ...",
    .random = true,
    .shape =
        [](ShapeCall& s) {
          probability_of(s);
          s.output(0) = s.input(0);
        },
    .kernel =
        [](const KernelCall& call) {
          local::kernels::fill_keep_mask(call.input(0), call.seed(), call.random_call(), Runs(call.input_place(0)).map(), probability_of(call), true);
        },
    .samples = written_samples,
};

// ---- bernoulli, multinomial: probabilities are an input
void bernoulli_kernel(const KernelCall& call) {
  const Tensor p = call.input(0).to(Dtype::f64), u = Tensor::empty(p.shape(), Dtype::f64, p.device());
  local::kernels::fill_uniform(u, call.seed(), call.random_call(), Runs(call.input_place(0)).map(), 0, 1);
  local::kernels::choose(p, u, call.op_name, u);
  call.output(0).copy_(u);
}
constexpr OpDef kBernoulli{
    .name = "bernoulli",
    .signature = "input -> out",
    .rule = "... -> ...",
    .dtypes = "floating",
    .random = true,
    .shape = [](ShapeCall& s) { s.output(0) = s.input(0); },
    .kernel = bernoulli_kernel,
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 7}}, .low = 0, .high = 1}, {.shapes = {{2, 1, 3}}, .low = 0, .high = 1}, {.shapes = {{0, 3}}}};
        },
    .reasons = "probabilities are summed before they are compared",
};

void multinomial_shape(ShapeCall& s) {
  const Shape& shape = s.input(0).shape;
  const std::int64_t samples = s.attribute(0).as_int();
  if (shape.ndim() < 1 || shape.ndim() > 2) s.fail("weights must be [classes] or [rows, classes] (" + s.describe(0) + ")");
  if (samples < 1 || shape.back() == 0) s.fail("num_samples " + std::to_string(samples) + " of no class or below 1 (" + s.describe(0) + ")");
  if (!s.attribute(1).as_bool() && samples > shape.back())
    s.fail("num_samples " + std::to_string(samples) + " are more than the classes (" + s.describe(0) + "); draw with replacement");
  Shape result = shape;
  result[result.ndim() - 1] = samples;
  s.output(0) = {.shape = result, .dtype = Dtype::i64};
}
void multinomial_kernel(const KernelCall& call) {
  const bool replacement = call.attribute(1).as_bool();
  const Tensor weights = call.input(0).to(Dtype::f64), &out = call.output(0);
  const Tensor u = Tensor::empty(replacement ? out.shape() : weights.shape(), Dtype::f64, out.device());
  local::kernels::fill_uniform(u, call.seed(), call.random_call(), Runs(replacement ? call.output_place(0) : call.input_place(0)).map(), 0, 1);
  local::kernels::choose_classes(weights, u, replacement, call.op_name, out);
}
constexpr OpDef kMultinomial{
    .name = "multinomial",
    .signature = "input, num_samples: int, replacement: bool = false -> out",
    .dtypes = "floating",
    .contiguous = true,
    .random = true,
    .shape = multinomial_shape,
    .rule_for = [](const ShapeCall& s) -> std::string { return s.input(0).shape.ndim() == 1 ? "c -> k  c, k: whole" : "n c -> n k  c, k: whole"; },
    .kernel = multinomial_kernel,
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 7}}, .attributes = {{"num_samples", "3"}}, .low = 0.1},
                                     {.shapes = {{3, 4}}, .attributes = {{"num_samples", "6"}, {"replacement", "true"}}, .low = 0.1},
                                     {.shapes = {{5}}, .attributes = {{"num_samples", "5"}}, .low = 0.1},
                                     {.shapes = {{0, 3}}, .attributes = {{"num_samples", "1"}}, .low = 0.1}};
        },
    .reasons = "weights are summed before they are compared",
};

// ---- randperm: every rank sorts all keys and keeps its part
void randperm_kernel(const KernelCall& call) {
  const std::int64_t n = call.attribute(0).as_int();
  const local::GlobalRun all{0, n};
  const std::span<const local::GlobalRun> run(&all, 1);
  const Device device = call.output(0).device();
  const Tensor keys = Tensor::empty({n}, Dtype::i64, device), sorted = Tensor::empty({n}, Dtype::i64, device),
               order = Tensor::empty({n}, Dtype::i64, device);
  local::kernels::fill_words(keys, call.seed(), call.random_call(), {.global = {n}, .runs = {&run, 1}});
  local::kernels::order_lines({.dim = 0, .first = 0, .count = n, .descending = false, .nan_first = false}, keys, sorted, order);
  std::int64_t at = 0;
  for (const IndexRun& r : call.output_place(0).runs[0]) {
    call.output(0).narrow(0, at, r.length).copy_(order.narrow(0, r.begin, r.length));
    at += r.length;
  }
}
constexpr OpDef kRandperm{
    .name = "randperm",
    .signature = "n: int, dtype: dtype -> out",
    .random = true,
    .shape =
        [](ShapeCall& s) {
          if (s.attribute(0).as_int() < 0) s.fail("n is " + std::to_string(s.attribute(0).as_int()) + "; give a size that is not negative");
          s.output(0) = {.shape = {s.attribute(0).as_int()}, .dtype = s.attribute(1).as_dtype()};
        },
    .kernel = randperm_kernel,
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {}, .attributes = {{"n", "9"}, {"dtype", "i64"}}},
                                     {.shapes = {}, .attributes = {{"n", "0"}, {"dtype", "i64"}}}};
        },
};

constexpr std::array<const OpDef*, 10> kOps{&kUniform,       &kNormal,           &kRandint,   &kDropout,     &kUniformInPlace,
                                            &kNormalInPlace, &kBernoulliInPlace, &kBernoulli, &kMultinomial, &kRandperm};

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

DTensor randperm(std::int64_t n, const DeviceMesh& mesh, const Placements& placements, const RandintOptions& options) {
  const Device device = options.device.value_or(base::require_rank("randperm").device);
  const std::array<Attribute, 2> attributes{Attribute(n), Attribute(options.dtype)};
  return call_on(kRandperm, mesh, placements, device, attributes);
}
namespace {
// Mesh, device and placements of `input`, Replicate where it is Partial.
DTensor like(const OpDef& op, const DTensor& input, double a, double b) {
  const tensor::Spec& s = *tensor::checked(input, op.name).spec;
  return make(op, s.shape, a, b, s.mesh, placements::to_placements(*tensor::without_partial(s.layout), s.mesh.names()),
              {.dtype = s.dtype, .device = s.device});
}
}  // namespace
DTensor rand_like(const DTensor& input) { return like(kUniform, input, 0, 1); }
DTensor randn_like(const DTensor& input) { return like(kNormal, input, 0, 1); }
DTensor randint_like(const DTensor& input, std::int64_t low, std::int64_t high) {
  const tensor::Spec& s = *tensor::checked(input, "randint_like").spec;
  return randint(low, high, s.shape, s.mesh, placements::to_placements(*tensor::without_partial(s.layout), s.mesh.names()),
                 {.dtype = s.dtype, .device = s.device});
}

DTensor uniform_(const DTensor& self, double from, double to) { return call(kUniformInPlace, {self}, {from, to}); }
DTensor normal_(const DTensor& self, double mean, double std) { return call(kNormalInPlace, {self}, {mean, std}); }
DTensor bernoulli_(const DTensor& self, double p) { return call(kBernoulliInPlace, {self}, {p}); }
DTensor bernoulli(const DTensor& input) { return call(kBernoulli, {input}); }
DTensor multinomial(const DTensor& input, std::int64_t num_samples, bool replacement) {
  return call(kMultinomial, {input}, {num_samples, replacement});
}

DTensor dropout(const DTensor& input, double p, bool training) { return training && p > 0 ? call(kDropout, {input}, {p}) : input; }

}  // namespace dtensor
