// SPDX-License-Identifier: Apache-2.0
// What a device does: calls that are all dispatch, products, rows, attention, losses, copies, steps that are replayed, and moves between ranks that share it. One line of
// JSON a row: {"name", "us", "bytes", "flops"}; bench/compare_gpu.py puts PyTorch on the same device beside it.
//   gpu [--device cuda:0|cpu] [--rows add,matmul] [--seconds 0.3] [--small]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include <dtensor/dtensor.h>

namespace {

using namespace dtensor;
using Clock = std::chrono::steady_clock;

struct Settings {
  Device device = Device::cuda(0);
  std::string rows;
  double seconds = 0.3;
  bool small = false;  ///< sizes that a CPU does in no time
};

// The host waits until all that was queued before is done.
void wait_for(const DTensor& t) {
  if (t.local().device().kind != DeviceKind::cuda) return;
  const Tensor flat = t.local().contiguous().view({t.local().numel()});
  static_cast<void>(flat.narrow(0, 0, std::min<std::int64_t>(1, flat.numel())).to(Device::cpu()));
}

class Bench {
 public:
  Bench(const Settings& settings, World& world) : settings_(settings), world_(world) {}
  /// Microseconds of one call, the least of five stretches. All ranks take the same number of calls.
  void row(const std::string& name, double bytes, double flops, const std::function<DTensor()>& f) const {
    if (!wants(name.substr(0, name.find(' ')))) return;
    DTensor last = f();
    wait_for(last);
    int calls = 1;
    double least = 0;
    for (double took = 0; took < settings_.seconds / 5; calls *= 2) {
      took = stretch(calls, f);
      world_.barrier();
      if (calls > (1 << 22)) break;
      least = took / calls;
      if (world_.size() > 1 && calls >= 256) break;  // ranks measure differently; they must call alike
    }
    const int half = calls / 2;
    for (int k = 0; k < 5; ++k) least = std::min(least, stretch(half, f) / half);
    if (world_.rank() == 0)
      std::printf("{\"name\": \"%s\", \"us\": %.3f, \"bytes\": %.0f, \"flops\": %.0f}\n", name.c_str(), least * 1e6, bytes, flops);
  }
  bool wants(const std::string& family) const {
    return settings_.rows.empty() || ("," + settings_.rows + ",").find("," + family + ",") != std::string::npos;
  }
  const Settings& settings() const noexcept { return settings_; }

 private:
  static double stretch(int calls, const std::function<DTensor()>& f) {
    const auto begin = Clock::now();
    DTensor last;
    for (int i = 0; i < calls; ++i) last = f();
    wait_for(last);
    return std::chrono::duration<double>(Clock::now() - begin).count();
  }
  const Settings& settings_;
  World& world_;
};

double size_of(const DTensor& t) { return static_cast<double>(t.numel() * info(t.dtype()).bytes); }

void dispatch_rows(const Bench& b, const DeviceMesh& mesh) {
  const DTensor x = randn({8, 8}, mesh), y = randn({8, 8}, mesh);
  b.row("dispatch add 8x8 f32", 0, 0, [&] { return add(x, y); });
  b.row("dispatch matmul 8x8 f32", 0, 0, [&] { return matmul(x, y); });
  b.row("dispatch softmax 8x8 f32", 0, 0, [&] { return softmax(x, 1); });
}

void copy_rows(const Bench& b, const DeviceMesh& mesh) {
  const std::int64_t n = b.settings().small ? 1 << 16 : std::int64_t{1} << 28;
  const DTensor x = randn({n}, mesh, {}, {.dtype = Dtype::f32}), y = randn({n}, mesh);
  b.row("copy clone f32", 2 * size_of(x), 0, [&] { return contiguous(x.detach()).to(Dtype::f32); });
  b.row("pointwise add f32", 3 * size_of(x), 0, [&] { return add(x, y); });
  b.row("pointwise gelu f32", 2 * size_of(x), 0, [&] { return gelu(x); });
  const DTensor h = x.to(Dtype::bf16), g = y.to(Dtype::bf16);
  b.row("pointwise add bf16", 3 * size_of(h), 0, [&] { return add(h, g); });
  b.row("pointwise silu bf16", 2 * size_of(h), 0, [&] { return silu(h); });
}

void product_rows(const Bench& b, const DeviceMesh& mesh) {
  for (const Dtype dtype : {Dtype::bf16, Dtype::f32})
    for (std::int64_t n = b.settings().small ? 64 : 512; n <= (b.settings().small ? 128 : 8192); n *= 2) {
      const DTensor x = randn({n, n}, mesh).to(dtype), y = randn({n, n}, mesh).to(dtype);
      const double d = static_cast<double>(n);
      b.row("matmul " + std::to_string(n) + " " + std::string(to_string(dtype)), 3 * size_of(x), 2 * d * d * d, [&] { return matmul(x, y); });
    }
}

void row_rows(const Bench& b, const DeviceMesh& mesh) {
  const std::int64_t rows = b.settings().small ? 64 : 16384;
  for (const std::int64_t width : {std::int64_t{1024}, std::int64_t{8192}}) {
    const DTensor x = randn({rows, width}, mesh).to(Dtype::bf16), w = randn({width}, mesh).to(Dtype::bf16);
    const std::string tail = " " + std::to_string(rows) + "x" + std::to_string(width) + " bf16";
    b.row("softmax" + tail, 2 * size_of(x), 0, [&] { return softmax(x, 1); });
    b.row("rms_norm" + tail, 2 * size_of(x), 0, [&] { return rms_norm(x, {width}, w); });
    b.row("layer_norm" + tail, 2 * size_of(x), 0, [&] { return layer_norm(x, {width}, w, w); });
    b.row("sum" + tail, size_of(x), 0, [&] { return sum(x, {1}); });
  }
  const std::int64_t tokens = b.settings().small ? 32 : 8192, classes = b.settings().small ? 512 : 32768;
  const DTensor logits = randn({tokens, classes}, mesh).to(Dtype::bf16), target = randint(0, classes, {tokens}, mesh);
  b.row("cross_entropy " + std::to_string(tokens) + "x" + std::to_string(classes) + " bf16", size_of(logits), 0,
        [&] { return cross_entropy(logits, target); });
}

void attention_rows(const Bench& b, const DeviceMesh& mesh) {
  const std::int64_t heads = b.settings().small ? 2 : 16, batch = b.settings().small ? 1 : 4;
  for (const std::int64_t length : {std::int64_t{512}, std::int64_t{4096}}) {
    if (b.settings().small && length > 512) continue;
    const DTensor q = randn({batch, heads, length, 128}, mesh).to(Dtype::bf16);
    const double flops = 4.0 * static_cast<double>(batch * heads * length * length * 128) / 2;
    b.row("attention causal " + std::to_string(length) + " bf16", 4 * size_of(q), flops,
          [&] { return scaled_dot_product_attention(q, q, q, {.is_causal = true}); });
  }
  // One query against the keys of all tokens before it: what counts is how fast they are read.
  const std::int64_t length = b.settings().small ? 512 : 16384;
  const DTensor q = randn({1, 2 * heads, 1, 128}, mesh).to(Dtype::bf16), kv = randn({1, heads / 2, length, 128}, mesh).to(Dtype::bf16);
  b.row("attention decode " + std::to_string(length) + " bf16", 2 * size_of(kv), 4.0 * static_cast<double>(2 * heads * length * 128),
        [&] { return scaled_dot_product_attention(q, kv, kv, {.enable_gqa = true}); });
}

// What the host's part of many small launches costs, and a training step: called, and replayed.
void graph_rows(const Bench& b, const DeviceMesh& mesh) {
  if (b.settings().device.kind != DeviceKind::cuda) return;
  const std::int64_t width = b.settings().small ? 32 : 1024, rows = b.settings().small ? 16 : 512;
  const DTensor x = randn({8, 8}, mesh);
  DTensor y;
  const auto chain = [&] {
    y = x;
    for (int k = 0; k < 20; ++k) y = add(y, x);
  };
  const DTensor in = randn({rows, width}, mesh);
  std::vector<DTensor> weights;
  for (int k = 0; k < 4; ++k) weights.push_back((randn({width, width}, mesh) * 0.02).set_requires_grad());
  DTensor loss;
  const auto step = [&] {
    const EnableGrad on;
    DTensor h = in;
    for (const DTensor& w : weights) h = gelu(matmul(h, w));
    loss = mean(square(h));
    loss.backward();
    const NoGrad off;
    for (const DTensor& w : weights) {
      sub_(w, w.grad() * 1e-3);
      w.set_grad(DTensor());
    }
  };
  const auto both = [&](const std::string& name, const std::function<void()>& body, const DTensor& result) {
    b.row("graph " + name + ", called", 0, 0, [&] {
      body();
      return result;
    });
    if (!b.wants("graph")) return;
    body();
    CudaGraph graph = CudaGraph::record(b.settings().device, body);
    b.row("graph " + name + ", replayed", 0, 0, [&] {
      graph.replay();
      return result;
    });
  };
  both("20 adds 8x8 f32", chain, y);
  both("step of 4 layers " + std::to_string(rows) + "x" + std::to_string(width) + " f32", step, loss);
}

// The tensors of a Llama of 125M parameters.
std::vector<nn::NamedParameter> llama_parameters(const Settings& settings, const DeviceMesh& mesh, Dtype dtype) {
  const std::int64_t width = settings.small ? 64 : 768, inner = settings.small ? 128 : 2048, layers = settings.small ? 2 : 12;
  std::vector<Shape> shapes{{settings.small ? 256 : 32000, width}, {width}};
  for (std::int64_t layer = 0; layer < layers; ++layer) {
    shapes.insert(shapes.end(), 4, {width, width});
    shapes.insert(shapes.end(), 2, {inner, width});
    shapes.insert(shapes.end(), {{width, inner}, {width}, {width}});
  }
  std::vector<nn::NamedParameter> list;
  for (const Shape& shape : shapes) {
    nn::Parameter p(shape, mesh, {}, dtype);
    p.set(randn(shape, mesh).to(dtype));
    p.value().set_grad(randn(shape, mesh).to(dtype));
    list.push_back({std::to_string(list.size()), p});
  }
  return list;
}

void optimiser_rows(const Bench& b, const DeviceMesh& mesh) {
  for (const Dtype dtype : {Dtype::f32, Dtype::bf16}) {
    const std::vector<nn::NamedParameter> named = llama_parameters(b.settings(), mesh, dtype);
    std::vector<nn::Parameter> parameters;
    double bytes = 0;
    for (const nn::NamedParameter& p : named) {
      parameters.push_back(p.parameter);
      bytes += size_of(p.parameter.value());
    }
    const std::string tail = " 125M " + std::string(to_string(dtype));
    const auto step = [&](optim::Optimizer& optimizer) {
      optimizer.step();
      return parameters.back().value();
    };
    optim::AdamW adamw(named), capturable(named, {.capturable = true});
    optim::SGD sgd(named, {.momentum = 0.9});
    b.row("adamw" + tail, 7 * bytes, 0, [&] { return step(adamw); });
    b.row("adamw capturable" + tail, 7 * bytes, 0, [&] { return step(capturable); });
    b.row("sgd momentum" + tail, 5 * bytes, 0, [&] { return step(sgd); });
    b.row("clip" + tail, 3 * bytes, 0, [&] { return optim::clip_grad_norm_(parameters, 1.0); });
  }
}

void move_rows(const Bench& b, const DeviceMesh& mesh, int ranks) {
  const std::int64_t n = b.settings().small ? 128 : 4096;
  const DTensor sharded = randn({n, n}, mesh, {{"x", Shard(0)}});
  const DTensor partial = randn({n, n}, mesh).redistribute({{"x", Partial()}});
  const double bytes = size_of(sharded);
  const std::string tail = " " + std::to_string(ranks) + " ranks f32";
  b.row("move S(0)->R" + tail, bytes, 0, [&] { return sharded.redistribute({{"x", Replicate()}}); });
  b.row("move S(0)->S(1)" + tail, bytes, 0, [&] { return sharded.redistribute({{"x", Shard(1)}}); });
  b.row("move P->R" + tail, bytes, 0, [&] { return partial.redistribute({{"x", Replicate()}}); });
  b.row("move P->S(0)" + tail, bytes, 0, [&] { return partial.redistribute({{"x", Shard(0)}}); });
}

}  // namespace

int main(int argc, char** argv) {
  Settings settings;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i], value = i + 1 < argc ? argv[i + 1] : "";
    if (word == "--device") settings.device = value == "cpu" ? Device::cpu() : Device::cuda(value.size() > 5 ? std::stoi(value.substr(5)) : 0);
    else if (word == "--rows") settings.rows = value;
    else if (word == "--seconds") settings.seconds = std::stod(value);
    if (word == "--small") settings.small = true;
    else if (word.starts_with("--")) ++i;
  }
  try {
    run_ranks({.ranks = 1, .device = settings.device}, [&](World& world) {
      const DeviceMesh mesh = world.mesh({{"x", 1}});
      const NoGrad off;
      manual_seed(1);
      const Bench b(settings, world);
      for (auto* rows : {dispatch_rows, copy_rows, product_rows, row_rows, attention_rows, optimiser_rows, graph_rows}) rows(b, mesh);
    });
    for (const int ranks : {2, 4})
      run_ranks({.ranks = ranks, .device = settings.device}, [&](World& world) {
        const DeviceMesh mesh = world.mesh({{"x", ranks}});
        const NoGrad off;
        manual_seed(1);
        move_rows(Bench(settings, world), mesh, ranks);
      });
  } catch (const Error& e) {
    std::fprintf(stderr, "gpu: %s\n", e.what());
    return 1;
  }
}
