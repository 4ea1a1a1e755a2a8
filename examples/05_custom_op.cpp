// SPDX-License-Identifier: Apache-2.0
// An op of one's own: a line of text says how it is sharded, a function gives its gradient, the checker tries both.
#include <dtensor/dtensor.h>

#include <cstdio>
using namespace dtensor;

void row_dot_cpu(const KernelCall& call) {
  auto a = call.input(0).values<const float>(), b = call.input(1).values<const float>();
  auto out = call.output(0).values<float>();
  const std::size_t k = out.empty() ? 0 : a.size() / out.size();
  for (std::size_t i = 0; i < out.size(); ++i) {
    double sum = 0;
    for (std::size_t j = 0; j < k; ++j) sum += double(a[i * k + j]) * b[i * k + j];
    out[i] = float(call.attribute(0).as_double() * sum);
  }
}
constexpr OpDef kRowDot{
    .name = "app::row_dot",
    .signature = "a, b, *, scale: float = 1.0 -> out",
    .rule = "i k, i k -> i    k: reduce(sum); bilinear",
    .saves = "a, b",
    .dtypes = "f32",
    .contiguous = true,
    .shape = [](ShapeCall& s) { s.output(0) = {.shape = {s.input(0).shape[0]}, .dtype = s.input(0).dtype}; },
    .cpu = row_dot_cpu,
    .gradient = [](const GradientCall& g) -> std::vector<DTensor> {
      DTensor up = unsqueeze(g.grad_output(0), 1) * g.attribute(0).as_double();
      return {g.needs(0) ? up * g.input(1) : DTensor(), g.needs(1) ? up * g.input(0) : DTensor()};
    },
    .decompose = [](const DecomposeCall& c) -> std::vector<DTensor> {  // on devices that it has no kernel for
      return {sum(c.input(0) * c.input(1), 1) * c.attribute(0).as_double()};
    },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{4, 6}, {4, 6}}}, {.shapes = {{0, 3}, {0, 3}}}};
        },
};
struct RowDotOptions {
  double scale = 1.0;
};
DTensor row_dot(const DTensor& a, const DTensor& b, const RowDotOptions& o = {}) { return call(kRowDot, {a, b}, {o.scale}); }

int program(World& world) {
  DeviceMesh mesh = world.mesh({{"tp", world.size()}});
  DTensor a = randn({8, 30}, mesh, {Shard(1)}, {.requires_grad = true}), b = randn({8, 30}, mesh, {Shard(1)});
  const CommCounter comm;
  DTensor y = row_dot(a, b, {.scale = 0.5});
  sum(y).backward();
  world.print({y, "  ", a.grad(), "  ", comm});
  // The same by ops of the library: d y[i] / d a[i, j] = b[i, j] / 2.
  const bool right = allclose(y, sum(a.detach() * b, 1) * 0.5, {.rtol = 1e-5, .atol = 1e-5}) && allclose(a.grad(), b * 0.5);
  return right && to_string(y) == "f32[8]{tp: P(sum)}" ? 0 : 1;
}

int main(int argc, char** argv) {
  const VerifyReport report = verify(kRowDot, {.meshes = {{2}, {3}, {2, 2}}});  // on ranks of its own
  std::puts(to_string(report).c_str());
  if (!report.ok() || report.checked == 0) return 1;
  return run(argc, argv, program);
}
