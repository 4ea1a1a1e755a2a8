// SPDX-License-Identifier: Apache-2.0
// What the CPU kernels cost at the sizes of a real model, one rank, f32: forward, and forward with backward where an op has a gradient. Microseconds of
// the fastest call of some: other work on the machine disturbs most calls, not all. bench/compare_kernels.py puts PyTorch with as many threads beside it.
//   kernels [--threads N] [--clock wall|cpu] [--seconds S] [--only TEXT]
// The clock "cpu" adds up what all threads used: for one thread on a machine where others work too.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <functional>
#include <string>
#include <vector>

#include <dtensor/dtensor.h>

namespace {

using namespace dtensor;

constexpr std::int64_t kTokens = 2048;

double wall_seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }
double cpu_seconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

struct Bench {
  const DeviceMesh& mesh;
  std::string only;
  double (*seconds)();
  double row_seconds;  // and at least five calls

  double time_of(const std::function<void()>& call) const {
    call();
    double best = 1e300, total = 0;
    for (int calls = 0; calls < 5 || total < row_seconds; ++calls) {
      const double begin = seconds();
      call();
      const double took = seconds() - begin;
      best = std::min(best, took);
      total += std::max(took, 1e-6);
    }
    return best * 1e6;
  }

  DTensor normal(const Shape& shape, bool grad = false) {
    const DTensor x = randn(shape, mesh);
    return grad ? x.set_requires_grad() : x;
  }
  DTensor indices(const Shape& shape, std::int64_t limit) { return randint(0, limit, shape, mesh); }

  void row(const std::string& name, const std::function<DTensor()>& call) {
    if (name.find(only) == std::string::npos) return;
    std::printf("%-40s %12.1f us\n", name.c_str(), time_of([&] {
                  const NoGrad off;
                  call();
                }));
    std::fflush(stdout);
  }
  // Forward alone, then forward and backward from a gradient of ones.
  void both(const std::string& name, const std::vector<DTensor>& leaves, const std::function<DTensor()>& call) {
    row(name, call);
    const std::string whole = name + " + backward";
    if (whole.find(only) == std::string::npos) return;
    const DTensor ones_like_result = ones(call().shape(), mesh);
    std::printf("%-40s %12.1f us\n", whole.c_str(), time_of([&] {
                  call().backward(ones_like_result);
                  for (const DTensor& leaf : leaves) leaf.set_grad({});
                }));
    std::fflush(stdout);
  }
};

std::string sized(const std::string& name, std::int64_t width) { return name + " 2048x" + std::to_string(width); }

void products(Bench& b) {
  for (const std::int64_t width : {256, 1024, 4096}) {
    const DTensor x = b.normal({kTokens, width}, true), w = b.normal({width, width}, true);
    b.both(sized("linear", width), {x, w}, [=] { return linear(x, w); });
    b.row(sized("matmul", width), [=] { return matmul(x, w); });
  }
}
void rows(Bench& b) {
  for (const std::int64_t width : {256, 1024, 4096}) {
    const DTensor x = b.normal({kTokens, width}, true), y = b.normal({kTokens, width}, true), weight = b.normal({width}, true),
                  bias = b.normal({width}, true), target = b.indices({kTokens}, width);
    b.both(sized("softmax", width), {x}, [=] { return softmax(x, -1); });
    b.both(sized("layer_norm", width), {x, weight, bias}, [=] { return layer_norm(x, {width}, weight, bias); });
    b.both(sized("rms_norm", width), {x, weight}, [=] { return rms_norm(x, {width}, weight, 1e-5); });
    b.both(sized("gelu", width), {x}, [=] { return gelu(x); });
    b.both(sized("swiglu", width), {x, y}, [=] { return swiglu(x, y); });
    b.both(sized("cross_entropy", width), {x}, [=] { return cross_entropy(x, target); });
    b.row(sized("sum rows", width), [=] { return sum(x, 1); });
    b.row(sized("sum columns", width), [=] { return sum(x, 0); });
    b.row(sized("sum", width), [=] { return sum(x); });
    b.row(sized("transpose copy", width), [=] { return contiguous(t(x)); });
  }
}
void attention(Bench& b) {
  struct Size {
    std::int64_t batch, heads, length, width;
  };
  for (const Size s : {Size{8, 8, 256, 32}, Size{1, 16, 2048, 64}}) {
    const Shape shape{s.batch, s.heads, s.length, s.width};
    const DTensor q = b.normal(shape, true), k = b.normal(shape, true), v = b.normal(shape, true);
    const std::string name = "attention " + std::to_string(s.heads) + "x" + std::to_string(s.length) + "x" + std::to_string(s.width);
    b.both(name, {q, k, v}, [=] { return scaled_dot_product_attention(q, k, v, {.is_causal = true}); });
  }
}
void tables(Bench& b) {
  for (const std::int64_t width : {256, 1024}) {
    const DTensor table = b.normal({32000, width}, true), tokens = b.indices({kTokens}, 32000);
    b.both(sized("embedding", width), {table}, [=] { return embedding(tokens, table); });
  }
}
void updates(Bench& b) {
  for (const std::int64_t width : {256, 4096}) {
    const DTensor param = b.normal({1024, width}), grad = b.normal({1024, width}), first = b.normal({1024, width}),
                  second = abs(b.normal({1024, width}));
    b.row("adamw 1024x" + std::to_string(width), [=] { return adamw_step_(param, grad, first, second, {.step = 3}); });
  }
}

}  // namespace

int main(int argc, char** argv) {
  int threads = 2;
  bool cpu = false;
  double row_seconds = 0.2;
  std::string only;
  for (int i = 1; i + 1 < argc; i += 2) {
    if (std::strcmp(argv[i], "--threads") == 0) threads = std::atoi(argv[i + 1]);
    if (std::strcmp(argv[i], "--clock") == 0) cpu = std::strcmp(argv[i + 1], "cpu") == 0;
    if (std::strcmp(argv[i], "--seconds") == 0) row_seconds = std::atof(argv[i + 1]);
    if (std::strcmp(argv[i], "--only") == 0) only = argv[i + 1];
  }
  run_ranks({.ranks = 1, .threads_per_rank = threads}, [&](World& world) {
    const DeviceMesh mesh = world.mesh({{"ranks", 1}});
    Bench bench{mesh, only, cpu ? cpu_seconds : wall_seconds, row_seconds};
    for (void (*part)(Bench&) : {products, rows, attention, tables, updates}) part(bench);
  });
}
