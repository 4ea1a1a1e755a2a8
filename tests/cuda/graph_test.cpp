// SPDX-License-Identifier: Apache-2.0
// Graphs: replays leave what calls of the body would have left, bit for bit.
#include <doctest/doctest.h>

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "debug/verify_run.h"
#include "emulator.h"
#include "graph.h"
#include "tensor/signature.h"

using namespace dtensor;
using namespace dtensor::test;
namespace emulated = local::cuda::emulated;

namespace {

int waits() {
  int count = 0;
  for (const auto& e : emulated::taken_entries()) count += e.what.starts_with("host waits") || e.what.starts_with("copy to host") ? 1 : 0;
  return count;
}

// The bits of what `make(mesh)` gives - a body and tensors that it writes or stores - after `calls` calls, by themselves and replayed.
struct Program {
  std::function<void()> body;
  std::function<std::vector<DTensor>()> results;
};
void check_law(const std::function<Program(const DeviceMesh&)>& make, int calls = 3, int before = 1) {
  std::vector<std::vector<std::byte>> bits[2];
  for (const bool recorded : {false, true})
    on_one_rank([&](const DeviceMesh& mesh) {
      const Program p = make(mesh);
      for (int k = 0; k < before; ++k) p.body();
      if (recorded) {
        CudaGraph graph = CudaGraph::record(kGpu, p.body);
        emulated::taken_entries();
        for (int k = 0; k < calls; ++k) graph.replay();
        CHECK(waits() == 0);
        for (const DTensor& t : p.results()) bits[1].push_back(bytes_of(t));
      } else {
        for (int k = 0; k < calls; ++k) p.body();
        for (const DTensor& t : p.results()) bits[0].push_back(bytes_of(t));
      }
      bits[recorded ? 1 : 0].push_back(bytes_of(randn({5}, mesh)));  // the generator is where it would have been
    });
  CHECK(bits[0] == bits[1]);
}

}  // namespace

TEST_CASE("nothing of a body runs when it is recorded, and each replay does all of it") {
  on_one_rank([](const DeviceMesh& mesh) {
    const DTensor x = full({4}, 1, mesh);
    DTensor doubled;
    CudaGraph graph = CudaGraph::record(kGpu, [&] {
      add_(x, 1);
      doubled = x * 2;
    });
    CHECK(graph.nodes() >= 2);
    CHECK(graph.bytes() > 0);
    CHECK(sum(x).item() == 4);
    graph.replay();
    CHECK(sum(doubled).item() == 16);
    const void* const place = doubled.local().raw();
    for (int k = 0; k < 3; ++k) graph.replay();
    CHECK(sum(x).item() == 20);
    CHECK(sum(doubled).item() == 40);
    CHECK(doubled.local().raw() == place);
  });
}

TEST_CASE("chains, products and dropout come out as without a graph, bit for bit") {
  check_law([](const DeviceMesh& mesh) {
    const DTensor x = randn({17, 9}, mesh), w = randn({9, 9}, mesh);
    const auto y = std::make_shared<DTensor>();
    return Program{[=] {
                     *y = dropout(relu(matmul(x, w)) * 0.5 + sin(x), 0.3);
                     const NoGrad off;
                     copy_(x, tanh(*y));
                   },
                   [=] {
                     return std::vector<DTensor>{x, *y};
                   }};
  });
}

TEST_CASE("every op comes out of two replays as of two calls, on its first good sample") {
  const std::set<std::string> waiting{"histc", "index_put"};
  int compared = 0, refused = 0;
  on_one_rank([&](const DeviceMesh& mesh) {
    const NoGrad off;
    for (const OpDef* op : all_ops()) {
      if (op->samples == nullptr || op->shape == nullptr) continue;
      const auto signature = tensor::parse_signature(*op);
      for (const Sample& sample : op->samples()) {
        const debug::Problem p(*op, signature, sample, Dtype::f32, 1);
        // What three calls leave in inputs and results, the last two of them replayed or not.
        const auto run = [&](bool recorded) {
          manual_seed(3);
          std::vector<DTensor> inputs;
          for (std::size_t i = 0; i < p.inputs.size(); ++i)
            inputs.push_back(p.present[i]
                                 ? from_local(debug::from_numbers(p.inputs[i].values, p.inputs[i].shape, p.inputs[i].dtype).to(kGpu), mesh, {})
                                 : DTensor());
          const std::vector<Input> borrowed(inputs.begin(), inputs.end());
          Results results;
          const auto call = [&] {
            if (p.types.empty()) results = {call_on(p.op, mesh, {}, kGpu, p.attributes)};
            else results = call_all(p.op, borrowed, p.attributes);
          };
          call();
          if (recorded) {
            CudaGraph graph = CudaGraph::record(kGpu, call);
            for (int k = 0; k < 2; ++k) graph.replay();
            Stream::current(kGpu).synchronize();
          } else {
            for (int k = 0; k < 2; ++k) call();
          }
          std::vector<std::vector<std::byte>> bits;
          for (const DTensor& t : inputs)
            if (t) bits.push_back(bytes_of(t));
          for (const DTensor& t : results)
            if (t) bits.push_back(bytes_of(t));
          return bits;
        };
        std::vector<std::vector<std::byte>> called;
        try {
          called = run(false);
        } catch (const InvalidArgument&) { continue; }  // the values of the sample are refused
        INFO(std::string(op->name) << "(" << p.text() << ")");
        // Whether these ask the device for values depends on their inputs.
        std::vector<std::vector<std::byte>> replayed;
        const std::string refusal = error_of([&] { replayed = run(true); });
        if (refusal.empty()) CHECK(replayed == called);
        else {
          CHECK(refusal.find("nothing runs before replay()") != std::string::npos);
          CHECK((op->data_dependent || waiting.contains(std::string(op->name))));
        }
        ++(refusal.empty() ? compared : refused);
        break;
      }
    }
  });
  if (no_device()) return;
  CHECK(compared > 200);
  CHECK(refused >= 3);
}

TEST_CASE("a stream that waits for the recording's takes part, and has to be waited for") {
  check_law([](const DeviceMesh& mesh) {
    const DTensor x = randn({64}, mesh), y = randn({64}, mesh), z = randn({64}, mesh), w = randn({64}, mesh);
    const Stream other = Stream::create(kGpu);
    return Program{[=] {
                     mul_(x, 1.5);
                     const Event made(Stream::current(kGpu));
                     {
                       const StreamScope scope(other, {.ordered = false});
                       other.wait(made);
                       add_(y, x);
                       copy_(z, sin(y));
                     }
                     mul_(w, 2);  // beside it
                     Stream::current(kGpu).wait(other);
                     add_(x, z);
                   },
                   [=] {
                     return std::vector<DTensor>{x, y, z, w};
                   }};
  });
}

TEST_CASE("ordered scopes fork and join by themselves") {
  check_law([](const DeviceMesh& mesh) {
    const DTensor x = randn({64}, mesh);
    const Stream other = Stream::create(kGpu);
    const auto y = std::make_shared<DTensor>();
    return Program{[=] {
                     mul_(x, 1.5);
                     {
                       const StreamScope scope(other);
                       *y = cos(x);
                     }
                     copy_(x, *y);
                   },
                   [=] {
                     return std::vector<DTensor>{x, *y};
                   }};
  });
}

TEST_CASE("dropout, checkpointed functions and other generators draw at each replay what calls would draw") {
  check_law([](const DeviceMesh& mesh) {
    const DTensor x = randn({33, 5}, mesh);
    x.set_requires_grad();
    const auto grads = std::make_shared<DTensor>(full({33, 5}, 0, mesh)), last = std::make_shared<DTensor>();
    return Program{[=] {
                     const DTensor inputs[] = {x};
                     const DTensor y = checkpoint([](std::span<const DTensor> in) { return dropout(in[0] * 2, 0.4); }, inputs);
                     *last = dropout(y, 0.2);
                     sum(*last).backward();
                     const NoGrad off;
                     add_(*grads, x.grad());
                     x.set_grad(DTensor());
                   },
                   [=] {
                     return std::vector<DTensor>{*grads, *last};
                   }};
  });
  on_one_rank([](const DeviceMesh& mesh) {
    Generator mine(11), twin(11);
    const auto draw = [&](Generator& g) {
      const RandomScope scope(g);
      return rand({6}, mesh);
    };
    DTensor made;
    CHECK(error_of([&] { CudaGraph::record(kGpu, [&] { made = draw(mine); }); }) ==
          "CudaGraph::record: random numbers are drawn from a generator that replays would not carry on; name it in CudaGraphOptions::generators, or "
          "draw "
          "outside the body");
    mine = Generator(11);
    CHECK(error_of([&] {
            CudaGraph::record(kGpu,
                              [&] {
                                made = draw(mine);
                                made = draw(twin);
                              },
                              {.generators = {&mine, &twin}});
          }) == "CudaGraph::record: two generators give the same numbers (seed 11, call 0); give them seeds of their own");
    CHECK(mine.calls() == 0);
    CudaGraph graph = CudaGraph::record(kGpu,
                                        [&] {
                                          made = draw(mine);
                                          made = made + draw(mine);
                                        },
                                        {.generators = {&mine}});
    CHECK(mine.calls() == 0);
    const auto expect = [&] {
      const DTensor first = draw(twin);
      return bytes_of(first + draw(twin));
    };
    graph.replay();
    CHECK(mine.calls() == 2);
    CHECK(bytes_of(made) == expect());
    CHECK(bytes_of(draw(mine)) == bytes_of(draw(twin)));  // between replays
    graph.replay();
    CHECK(bytes_of(made) == expect());
    mine.set_state(99, 5);  // a checkpoint, say
    twin.set_state(99, 5);
    graph.replay();
    CHECK(bytes_of(made) == expect());
    CHECK(mine.calls() == twin.calls());
  });
}

TEST_CASE("a replay is queued on the current stream, and the replays of one graph come one after the other") {
  std::vector<std::byte> bits[2];
  for (const bool recorded : {false, true})
    on_one_rank([&](const DeviceMesh& mesh) {
      const DTensor x = full({64}, 1, mesh);
      const auto body = [&] { copy_(x, x * 0.5 + rand({64}, mesh)); };
      body();
      CudaGraph graph;
      if (recorded) graph = CudaGraph::record(kGpu, body);
      const auto next = [&] { recorded ? graph.replay() : body(); };
      const Stream own = Stream::current(kGpu), other = Stream::create(kGpu);
      other.wait(own);
      {
        const StreamScope scope(other, {.ordered = false});
        next();
      }
      if (!recorded) own.wait(other);
      next();
      bits[recorded ? 1 : 0] = bytes_of(x);
    });
  CHECK(bits[0] == bits[1]);
}

TEST_CASE("a step of an optimiser is recorded when its numbers live on the device and its state is there") {
  for (const bool amsgrad : {false, true})
    check_law([amsgrad](const DeviceMesh& mesh) {
      struct Training {
        nn::Linear layer;
        DTensor x, loss;
        std::unique_ptr<optim::AdamW> optimizer;
        explicit Training(const DeviceMesh& m) : layer(12, 8, m, {.bias = true}), x(randn({16, 12}, m)) { layer.materialize(); }
      };
      const auto t = std::make_shared<Training>(mesh);
      t->optimizer =
          std::make_unique<optim::AdamW>(t->layer.named_parameters(), optim::AdamWOptions{.lr = 0.05, .amsgrad = amsgrad, .capturable = true});
      return Program{[t] {
                       t->loss = mean(square(dropout(t->layer(t->x), 0.2)));
                       t->loss.backward();
                       optim::clip_grad_norm_(t->layer.parameters(), 0.5);
                       t->optimizer->step();
                       t->optimizer->zero_grad();
                       t->loss = t->loss.detach();
                     },
                     [t] {
                       std::vector<DTensor> all{t->loss};
                       for (const auto& p : t->layer.named_parameters()) all.push_back(p.parameter.value().detach());
                       for (const auto& s : t->optimizer->state()) all.push_back(s.get());
                       return all;
                     }};
    });
  on_one_rank([](const DeviceMesh& mesh) {
    nn::Linear layer(4, 4, mesh);
    layer.materialize();
    const DTensor x = randn({2, 4}, mesh);
    const auto recorded = [&](optim::Optimizer& optimizer) {
      return error_of([&] {
        CudaGraph::record(kGpu, [&] {
          sum(layer(x)).backward();
          optimizer.step();
        });
      });
    };
    optim::SGD plain(layer.named_parameters()), capturable(layer.named_parameters(), {.capturable = true});
    CHECK(recorded(plain) ==
          "optimizer: the rate and the step count of a step that is recorded in a CUDA graph would be the same at each replay; make the optimiser "
          "capturable");
    CHECK(recorded(capturable) ==
          "optimizer: the first step makes the state, which each replay of a CUDA graph would make anew; make a step before it is recorded");
  });
}
