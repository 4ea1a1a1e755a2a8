// SPDX-License-Identifier: Apache-2.0
// What a call costs at 8 x 8 f32: the bare kernel on preallocated memory, a cached call with autograd off and recording, what a call with new sizes costs above
// a cached one of those sizes, the first call; on one rank and two, on meshes of one axis and two. Medians, nanoseconds. Before that, as "cold code", the first
// calls of the process, for which the system maps the pages of the code.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include <dtensor/dtensor.h>

#include "local/cpu/binary.h"
#include "local/cpu/gemm.h"
#include "local/cpu/norms.h"
#include "local/cpu/softmax.h"

namespace {

using namespace dtensor;
using Clock = std::chrono::steady_clock;

double nanoseconds(Clock::duration d) { return std::chrono::duration<double, std::nano>(d).count(); }

// Median over batches of the time of one call. Batches are short, so that most are over before a busy machine takes the core away.
double time_of(const std::function<void()>& call, int batches = 301, int calls = 200) {
  for (int i = 0; i < 200; ++i) call();
  std::vector<double> times;
  for (int b = 0; b < batches; ++b) {
    const auto start = Clock::now();
    for (int i = 0; i < calls; ++i) call();
    times.push_back(nanoseconds(Clock::now() - start) / calls);
  }
  std::nth_element(times.begin(), times.begin() + batches / 2, times.end());
  return times[static_cast<std::size_t>(batches / 2)];
}

struct Case {
  std::string name;
  std::function<DTensor(const DTensor&, const DTensor&)> call;
  std::function<void(const Tensor&, const Tensor&, const Tensor&)> kernel;
};

std::vector<Case> cases() {
  return {
      {"add", [](const DTensor& a, const DTensor& b) { return a + b; },
       [](const Tensor& a, const Tensor& b, const Tensor& out) {
         const Scalar alpha = 1;
         local::cpu::binary(local::cpu::Binary::add, a, b, out, &alpha);
       }},
      {"mul by a scalar", [](const DTensor& a, const DTensor&) { return a * 1.5; },
       [](const Tensor& a, const Tensor&, const Tensor& out) { local::cpu::binary(local::cpu::Binary::mul, a, Scalar(1.5), out); }},
      {"matmul", [](const DTensor& a, const DTensor& b) { return matmul(a, b); },
       [](const Tensor& a, const Tensor& b, const Tensor& out) {
         const auto n = a.shape()[0];
         local::cpu::gemm({.m = n,
                           .n = n,
                           .k = n,
                           .a = local::cpu::matrix_operand(a, {}),
                           .b = local::cpu::matrix_operand(b, {}),
                           .addend = {},
                           .out = out.data()});
       }},
      {"layer_norm", [](const DTensor& a, const DTensor&) { return layer_norm(a, {8}); },
       [](const Tensor& a, const Tensor&, const Tensor& out) {
         static thread_local const Tensor mean = Tensor::empty({8, 1}, Dtype::f32), rstd = Tensor::empty({8, 1}, Dtype::f32);
         local::cpu::layer_norm(a, 8, nullptr, nullptr, 1e-5, out, mean, rstd);
       }},
      {"slice", [](const DTensor& a, const DTensor&) { return slice(a, 1, 2, 6); },
       [](const Tensor& a, const Tensor&, const Tensor&) { static_cast<void>(a.narrow(1, 2, 4)); }},
      {"softmax", [](const DTensor& a, const DTensor&) { return softmax(a, 1); },
       [](const Tensor& a, const Tensor&, const Tensor& out) { local::cpu::softmax(a, 1, false, out); }},
  };
}

DTensor filled(const Shape& shape, const DeviceMesh& mesh, bool grad) { return ones(shape, mesh, {}, {.requires_grad = grad}); }

double first_call(const Case& c, const DTensor& a, const DTensor& b) {
  const auto start = Clock::now();
  c.call(a, b);
  return nanoseconds(Clock::now() - start);
}

void measure_cold(World& world) {
  const DeviceMesh mesh = world.mesh({{"tp", 1}});
  const DTensor a = filled({8, 8}, mesh, false), b = filled({8, 8}, mesh, false);
  for (const Case& c : cases()) {
    char line[200];
    std::snprintf(line, sizeof(line), "%-24s %-16s %56.0f", "cold code", c.name.c_str(), first_call(c, a, b));
    world.print({std::string(line)});
  }
}

void measure(World& world, const DeviceMesh& mesh, const std::string& where) {
  for (const Case& c : cases()) {
    const DTensor a = filled({8, 8}, mesh, false), b = filled({8, 8}, mesh, false), leaf = filled({8, 8}, mesh, true);
    const double first = first_call(c, a, b);
    const Tensor x = a.local(), y = b.local(), out = Tensor::empty({8, 8}, Dtype::f32);
    const double bare = time_of([&] { c.kernel(x, y, out); });
    double off = 0;
    {
      const NoGrad no_grad;
      off = time_of([&] { c.call(a, b); });
    }
    const double recording = time_of([&] { c.call(leaf, b); });
    std::vector<double> misses;
    for (std::int64_t n = 9; n < 209; ++n) {
      const bool square = c.name == "matmul";
      const DTensor p = filled({n, 8}, mesh, false), q = filled({square ? 8 : n, 8}, mesh, false);
      const auto begin = Clock::now();
      c.call(p, q);
      const auto missed = Clock::now();
      c.call(p, q);
      misses.push_back(nanoseconds(missed - begin) - nanoseconds(Clock::now() - missed));
    }
    std::nth_element(misses.begin(), misses.begin() + 100, misses.end());
    char line[200];
    std::snprintf(line, sizeof(line), "%-24s %-16s %8.0f %10.0f %10.0f %12.0f %12.0f", where.c_str(), c.name.c_str(), bare, off, recording,
                  misses[100], first);
    world.print({std::string(line)});
  }
  const Tensor part = Tensor::zeros({8, 8}, Dtype::f32);
  const Placements rows{{mesh.ndim() == 1 ? "tp" : "dp", Shard(0)}};
  const DTensor whole = from_local(part, mesh, rows);
  const double into = time_of([&] { from_local(part, mesh, rows); }), out_of = time_of([&] { whole.to_local(); });
  char line[200];
  std::snprintf(line, sizeof(line), "%-24s %-16s %8s %10.0f\n%-24s %-16s %8s %10.0f", where.c_str(), "from_local", "", into, where.c_str(),
                "to_local", "", out_of);
  world.print({std::string(line)});
}

int program(World& world) {
  const int n = world.size();
  measure(world, world.mesh({{"tp", n}}), std::to_string(n) + " ranks, 1 axis");
  measure(world, world.mesh({{"dp", n}, {"tp", 1}}), std::to_string(n) + " ranks, 2 axes");
  return 0;
}

}  // namespace

int main() {
  std::puts("mesh                     op                   bare     cached  recording new sizes     first call   [ns]");
  run_ranks({.ranks = 1, .threads_per_rank = 1}, measure_cold);
  for (const int ranks : {1, 2}) run_ranks({.ranks = ranks, .threads_per_rank = 1}, [](World& world) { program(world); });
  return 0;
}
