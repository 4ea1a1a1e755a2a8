// SPDX-License-Identifier: Apache-2.0
// Blocks and threads of a launch in another order leave the same bits: no order of atomics, no read of what another block writes.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "debug/verify_run.h"
#include "dtensor/dtensor.h"
#include "local/cuda/launch.h"
#include "tensor/signature.h"
#include "under_test.h"

using namespace dtensor;
using debug::Problem;
using local::cuda::emulated::Order;
using test::kGpu;
namespace emulated = local::cuda::emulated;

namespace {

struct InOrder {
  explicit InOrder(Order order) { emulated::set_order(order); }
  ~InOrder() { emulated::set_order(Order::upwards); }
};

std::string bits_of(const DTensor& t) {
  if (!t) return "none";
  const Tensor here = t.local().to(Device::cpu()).contiguous();
  return to_string(here.dtype()) + to_string(here.shape()) +
         std::string(static_cast<const char*>(here.read()), static_cast<std::size_t>(here.bytes()));
}
using Call = std::function<std::vector<DTensor>()>;
// All that a call leaves, or what it throws.
std::string bits_of(const Call& call, Order order) {
  const InOrder scope(order);
  manual_seed(5);
  std::string all;
  try {
    for (const DTensor& t : call()) all += bits_of(t);
  } catch (const Error& e) { return std::string("error: ") + e.what(); }
  return all;
}
struct Compared {
  bool threw = false;
  std::string other = {};  ///< orders in which the call leaves other bits
};
Compared compare(const Call& call) {
  const std::string upwards = bits_of(call, Order::upwards);
  Compared c{.threw = upwards.starts_with("error: ")};
  if (bits_of(call, Order::downwards) != upwards) c.other += " downwards";
  if (bits_of(call, Order::mixed) != upwards) c.other += " mixed";
  return c;
}

Compared compare(const Problem& p, const DeviceMesh& mesh) {
  return compare([&] {
    const NoGrad off;
    std::vector<DTensor> inputs;
    for (std::size_t i = 0; i < p.inputs.size(); ++i)
      inputs.push_back(p.present[i] ? from_local(debug::from_numbers(p.inputs[i].values, p.inputs[i].shape, p.inputs[i].dtype).to(kGpu), mesh, {})
                                    : DTensor());
    if (p.types.empty()) return std::vector<DTensor>{call_on(p.op, mesh, {}, kGpu, p.attributes)};
    const std::vector<Input> borrowed(inputs.begin(), inputs.end());
    const Results results = call_all(p.op, borrowed, p.attributes);
    return std::vector<DTensor>(results.begin(), results.end());
  });
}

// Of numbers whose sums round, on the device.
DTensor numbers(const Shape& shape, const DeviceMesh& mesh, Dtype dtype = Dtype::f32, int salt = 0) {
  const Tensor t = Tensor::empty(shape, Dtype::f64);
  std::int64_t i = salt;
  for (double& v : t.values<double>()) v = 7.0 / static_cast<double>(1 + (i++ * 31) % 997) - 0.3;
  return from_local(t.to(dtype).to(kGpu), mesh, {});
}
// Each of them many times.
DTensor indices(const Shape& shape, std::int64_t end, const DeviceMesh& mesh) {
  const Tensor t = Tensor::empty(shape, Dtype::i64);
  std::int64_t i = 0;
  for (std::int64_t& v : t.values<std::int64_t>()) v = i++ * 7919 % end;
  return from_local(t.to(kGpu), mesh, {});
}

}  // namespace

TEST_CASE("a device runs blocks and threads in the order that a test asks for") {
  struct Write {
    std::int64_t* next;
    std::int64_t* to;
    void operator()(const local::cuda::Block& b) const { to[(*next)++] = b.index * b.threads + b.thread; }
  };
  const auto order_of = [](Order order) {
    const InOrder scope(order);
    const Tensor next = Tensor::zeros({1}, Dtype::i64, kGpu), to = Tensor::empty({96}, Dtype::i64, kGpu);
    const Stream stream = Stream::current(kGpu);
    local::cuda::launch_blocks("write", 3, 32, 0, stream.native(), Write{next.raw_as<std::int64_t>(), to.raw_as<std::int64_t>()});
    const Tensor here = to.to(Device::cpu());
    const auto v = here.values<const std::int64_t>();
    return std::vector<std::int64_t>(v.begin(), v.end());
  };
  std::vector<std::int64_t> upwards(96);
  for (std::size_t i = 0; i < upwards.size(); ++i) upwards[i] = static_cast<std::int64_t>(i);
  CHECK(order_of(Order::upwards) == upwards);
  CHECK(order_of(Order::downwards) == std::vector<std::int64_t>(upwards.rbegin(), upwards.rend()));
  auto mixed = order_of(Order::mixed);
  CHECK(mixed != upwards);
  std::sort(mixed.begin(), mixed.end());
  CHECK(mixed == upwards);
}

TEST_CASE("every op leaves the same bits in every order of blocks and threads") {
  std::set<std::string> wrong;
  std::int64_t cases = 0;
  run_ranks({.ranks = 1, .device = kGpu}, [&](World& world) {
    const DeviceMesh mesh = world.mesh({{"x", 1}});
    for (const OpDef* op : all_ops()) {
      // Memory that nobody has written differs from call to call.
      if (op->samples == nullptr || op->shape == nullptr || op->name == "empty") continue;
      const auto signature = tensor::parse_signature(*op);
      for (const Sample& sample : op->samples())
        for (Dtype dtype : {Dtype::f32, Dtype::bf16, Dtype::i64}) {
          std::optional<Problem> made;
          try {
            made.emplace(*op, signature, sample, dtype, 1);
          } catch (const InvalidArgument&) { continue; }  // the op refuses the dtype
          const Compared c = compare(*made, mesh);
          cases += c.threw ? 0 : 1;
          if (!c.other.empty()) wrong.insert(std::string(op->name) + "(" + made->text() + "):" + c.other);
        }
    }
  });
  for (const std::string& w : wrong) MESSAGE(w);
  CHECK(wrong.empty());
  MESSAGE(cases << " cases");
  CHECK(cases > 2000);
}

TEST_CASE("calls of many blocks, and their gradients, leave the same bits in every order") {
  run_ranks({.ranks = 1, .device = kGpu}, [](World& world) {
    const DeviceMesh m = world.mesh({{"x", 1}});
    const auto leaf = [&](const Shape& shape, Dtype dtype = Dtype::f32, int salt = 0) { return numbers(shape, m, dtype, salt).set_requires_grad(); };
    const auto with_gradients = [&](const DTensor& y, const std::vector<DTensor>& leaves) {
      y.backward(numbers(y.shape(), m, y.dtype(), 3));
      std::vector<DTensor> all{y.detach()};
      for (const DTensor& l : leaves) all.push_back(l.grad());
      return all;
    };
    const auto expect = [](const char* what, const Call& call) {
      INFO(std::string(what));
      const Compared c = compare(call);
      CHECK_FALSE(c.threw);
      CHECK(c.other == "");
    };
    for (const Dtype dtype : {Dtype::f32, Dtype::bf16}) {
      const DTensor wide = numbers({3, 9001}, m, dtype), tall = numbers({2003, 17}, m, dtype), flat = numbers({30011}, m, dtype);
      expect("sums", [&] { return std::vector{sum(wide), sum(wide, 0), sum(wide, 1), sum(tall, 0), sum(flat, 0), mean(tall), vector_norm(flat)}; });
      expect("moments", [&] { return std::vector{var(wide, 1), var(tall, 0), var(flat)}; });
      expect("places", [&] { return std::vector{argmax(wide, 1), argmax(tall, 0), argmin(flat)}; });
      expect("scans", [&] { return std::vector{cumsum(wide, 1), cumsum(tall, 0), cumsum(flat, 0), logcumsumexp(wide, 1), cummax(flat, 0).indices}; });
      expect("sorting", [&] {
        return std::vector{sort(flat).indices, topk(wide, 50, 1).values, topk(wide, 50, 1).indices, topk(tall, 5, 0).indices};
      });
      expect("selection", [&] { return std::vector{masked_select(flat, gt(flat, 0)), nonzero(gt(flat, 0))}; });
      const DTensor many = indices({20000}, 37, m), rows = numbers({2000, 16}, m, dtype, 1);
      expect("adding at indices", [&] {
        return std::vector{scatter_add(numbers({37}, m, dtype), 0, many, narrow(flat, 0, 0, 20000)),
                           index_add(numbers({37, 16}, m, dtype), 0, narrow(many, 0, 0, 2000), rows),
                           index_put(numbers({37, 16}, m, dtype), {&many, 1}, numbers({20000, 16}, m, dtype), {.accumulate = true})};
      });
      expect("writing at indices", [&] { return std::vector{scatter(numbers({37}, m, dtype), 0, many, narrow(flat, 0, 0, 20000))}; });
      expect("embedding", [&] {
        const DTensor table = leaf({37, 24}, dtype);
        return with_gradients(embedding(indices({2000}, 37, m), table), {table});
      });
      expect("softmax", [&] {
        const DTensor x = leaf({40, 3000}, dtype);
        return with_gradients(softmax(x, 1), {x});
      });
      for (const std::int64_t n : {std::int64_t{200}, std::int64_t{20000}})
        expect("norms", [&] {
          const DTensor x = leaf({60000 / n, n}, dtype), w = leaf({n}, dtype), b = leaf({n}, dtype, 5), v = leaf({60000 / n, n}, dtype),
                        u = leaf({n}, dtype);
          auto all = with_gradients(layer_norm(x, {n}, w, b), {x, w, b});
          for (const DTensor& t : with_gradients(rms_norm(v, {n}, u), {v, u})) all.push_back(t);
          return all;
        });
      expect("cross entropy", [&] {
        const DTensor x = leaf({300, 200}, dtype), h = leaf({300, 16}, dtype), w = leaf({200, 16}, dtype), target = indices({300}, 200, m);
        auto all = with_gradients(cross_entropy(x, target), {x});
        for (const DTensor& t : with_gradients(linear_cross_entropy(h, w, target), {h, w})) all.push_back(t);
        return all;
      });
      expect("attention", [&] {
        const DTensor q = leaf({1, 4, 150, 16}, dtype), k = leaf({1, 2, 150, 16}, dtype, 1), v = leaf({1, 2, 150, 16}, dtype, 2);
        return with_gradients(scaled_dot_product_attention(q, k, v, {.is_causal = true, .enable_gqa = true}), {q, k, v});
      });
      expect("attention of one query to keys in parts", [&] {
        const DTensor q = numbers({1, 2, 1, 16}, m, dtype), k = numbers({1, 1, 3000, 16}, m, dtype, 1), v = numbers({1, 1, 3000, 16}, m, dtype, 2);
        return std::vector{scaled_dot_product_attention(q, k, v, {.enable_gqa = true})};
      });
      expect("pooling", [&] {
        const DTensor x = leaf({2, 3, 40, 40}, dtype);
        return with_gradients(max_pool2d(x, {3, 3}, {.stride = {2, 2}, .padding = {1}}), {x});
      });
      expect("grouped products", [&] {
        const DTensor x = leaf({300, 32}, dtype), w = leaf({3, 32, 48}, dtype);
        const DTensor ends = from_local(Tensor::of<std::int32_t>(std::vector<std::int32_t>{100, 100, 300}, {3}).to(kGpu), m, {});
        return with_gradients(grouped_mm(x, w, ends), {x, w});
      });
    }
    const DTensor whole = indices({20000}, 301, m);
    expect("counts", [&] {
      return std::vector{bincount(whole), unique(whole).values, histc(numbers({20000}, m), {.bins = 40, .min = -1, .max = 3}), count_nonzero(whole)};
    });
    expect("random numbers", [&] { return std::vector{randn({5000}, m), randperm(5000, m), dropout(numbers({5000}, m), 0.3)}; });
  });
}
