// SPDX-License-Identifier: Apache-2.0
// Graphs: replays leave what calls of the body would have left, bit for bit; what a recording refuses, and that the rank goes on after it.
#include <doctest/doctest.h>

#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "beside_cpu.h"
#include "debug/verify_run.h"
#include "dtensor/dtensor.h"
#include "emulator.h"
#include "tensor/signature.h"

using namespace dtensor;
namespace emulated = local::cuda::emulated;

namespace {

using test::kGpu;

template <class F>
void on_one_rank(F&& body) {
  if (test::no_device()) return;
  run_ranks({.ranks = 1, .device = kGpu}, [&](World& world) {
    manual_seed(7);
    body(world.mesh({{"x", 1}}));
  });
}

std::vector<std::byte> bytes_of(const Tensor& t) {
  const Tensor here = t.contiguous().to(Device::cpu());
  const auto* data = static_cast<const std::byte*>(here.read());
  return {data, data + here.bytes()};
}
std::vector<std::byte> bytes_of(const DTensor& t) { return bytes_of(t.local()); }

// Memory of the device that is not free. Others may use a real one at the same time.
std::int64_t held() {
#if defined(DTENSOR_REAL_DEVICE)
  return cuda_info().devices.at(0).memory_bytes - cuda_info().devices.at(0).free_bytes;
#else
  return emulated::bytes_in_use(0);
#endif
}

int waits() {
  int count = 0;
  for (const auto& e : emulated::taken_entries()) count += e.what.starts_with("host waits") || e.what.starts_with("copy to host") ? 1 : 0;
  return count;
}

template <class F>
std::string error_of(F&& f) {
  try {
    f();
  } catch (const Error& e) { return e.what(); }
  return "";
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
  if (test::no_device()) return;
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

TEST_CASE("streams that do not join, and streams that do not take part, are said") {
  on_one_rank([](const DeviceMesh& mesh) {
    const DTensor x = full({8}, 1, mesh);
    const Stream other = Stream::create(kGpu);
    const auto fork = [&](bool waits_for_it) {
      if (waits_for_it) other.wait(Stream::current(kGpu));
      const StreamScope scope(other, {.ordered = false});
      add_(x, 1);
    };
    CHECK(error_of([&] { CudaGraph::record(kGpu, [&] { fork(true); }); }) ==
          "CudaGraph::record: a stream waited for the recording's and the body ends without a wait for it; let the current stream wait for it "
          "(Stream::wait, "
          "or an ordered StreamScope)");
    CHECK(error_of([&] {
            CudaGraph::record(kGpu, [&] {
              fork(false);
              Stream::current(kGpu).wait(other);
            });
          }) ==
          "CudaGraph::record: the recording waits for a stream that does not take part in it; let that stream wait for the current one first "
          "(Stream::wait, "
          "or an ordered StreamScope)");
    other.synchronize();
    CudaGraph graph = CudaGraph::record(kGpu, [&] {
      fork(true);
      Stream::current(kGpu).wait(other);
    });
    const double before = sum(x).item();
    graph.replay();
    CHECK(sum(x).item() == before + 8);
  });
}

TEST_CASE("memory is used again inside a recording, in the order of the stream, and never by another stream") {
  on_one_rank([](const DeviceMesh& mesh) {
    const DTensor x = full({1 << 16}, 1, mesh);
    DTensor y;
    const auto body = [&] {
      y = x * 1;
      for (int k = 0; k < 50; ++k) y = y + x;
    };
    CudaGraph graph = CudaGraph::record(kGpu, body);
    CHECK(graph.bytes() < 6 * x.local().bytes());
    graph.replay();
    CHECK(sum(y).item() == 51 * (1 << 16));

    const Stream other = Stream::create(kGpu);
    const DTensor result = full({1 << 16}, 0, mesh);
    const auto shared = [&] {
      {
        const DTensor lent = x * 3;
        other.wait(Stream::current(kGpu));
        const StreamScope scope(other, {.ordered = false});
        copy_(result, lent);
        record_stream(lent.local(), other);
      }
      y = x * 5;  // not in the place of what the other stream reads
      Stream::current(kGpu).wait(other);
    };
    CudaGraph second = CudaGraph::record(kGpu, shared);
    for (int k = 0; k < 2; ++k) second.replay();
    CHECK(sum(result).item() == 3 * (1 << 16));
    CHECK(sum(y).item() == 5 * (1 << 16));
  });
}

TEST_CASE("a graph's memory goes back when the graph and the tensors made inside are gone, and results outlive the graph") {
  on_one_rank([](const DeviceMesh& mesh) {
    const DTensor x = full({1 << 16}, 2, mesh);
    Stream::current(kGpu).synchronize();
    empty_cache(kGpu);
    const std::int64_t before = held();
    DTensor y;
    {
      CudaGraph graph = CudaGraph::record(kGpu, [&] { y = x * x; });
      graph.replay();  // the graph ends while it is queued
    }
    CHECK(sum(y).item() == 4 * (1 << 16));
    y = DTensor();
    empty_cache(kGpu);
    CHECK(held() <= before);

    // Tensors made inside that die first do not let go of what replays write.
    CudaGraph graph = CudaGraph::record(kGpu, [&] {
      const DTensor half = x * 0.5;
      add_(x, half);
    });
    const DTensor others = full({1 << 16}, 7, mesh);
    for (int k = 0; k < 2; ++k) graph.replay();
    CHECK(sum(x).item() == 4.5 * (1 << 16));
    CHECK(sum(others).item() == 7 * (1 << 16));
  });
}

TEST_CASE("tensors that a body lets go of are not given to others while the graph lives") {
  on_one_rank([](const DeviceMesh& mesh) {
    DTensor state = full({1 << 16}, 1, mesh);
    const DTensor total = full({1 << 16}, 0, mesh);
    CudaGraph graph = CudaGraph::record(kGpu, [&] {
      add_(total, state);
      state = DTensor();
    });
    const DTensor others = full({1 << 16}, 9, mesh);
    graph.replay();
    CHECK(sum(total).item() == 1 << 16);
    CHECK(sum(others).item() == 9 * (1 << 16));
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

TEST_CASE("what a kernel of a replay finds wrong is thrown at the next call, each time, and when the graph is gone") {
  on_one_rank([](const DeviceMesh& mesh) {
    const DTensor table = randn({7, 3}, mesh), rows = full({4}, 2, mesh, {}, {.dtype = Dtype::i64});
    DTensor read;
    CudaGraph graph = CudaGraph::record(kGpu, [&] { read = embedding(rows, table); });
    const auto after_replay = [&] {
      graph.replay();
      return error_of([&] { Stream::current(kGpu).synchronize(); });
    };
    CHECK(after_replay().empty());
    fill_(rows, 12);
    const std::string text = after_replay();
    CHECK(text.find("12") != std::string::npos);
    CHECK(error_of([&] { Stream::current(kGpu).synchronize(); }).empty());
    CHECK(after_replay() == text);
    fill_(rows, 3);
    CHECK(after_replay().empty());
    fill_(rows, 12);
    graph.replay();
    graph = CudaGraph();
    CHECK(error_of([&] { static_cast<void>(table + 1); }) == text);
    CHECK(error_of([&] { static_cast<void>(table + 1); }).empty());
  });
}

TEST_CASE("pinned tensors are copied by each replay") {
  on_one_rank([](const DeviceMesh& mesh) {
    const Tensor feed = Tensor::pinned({4}, Dtype::f32), out = Tensor::pinned({4}, Dtype::f32);
    const DTensor x = full({4}, 0, mesh);
    const Tensor place = x.local();
    CudaGraph graph = CudaGraph::record(kGpu, [&] {
      place.copy_(feed, {.non_blocking = true});
      const DTensor y = x * 10;
      out.copy_(y.local(), {.non_blocking = true});
    });
    for (const float v : {1.0F, 2.0F}) {
      for (float& f : feed.values<float>()) f = v;
      graph.replay();
      Stream::current(kGpu).synchronize();
      CHECK(out.values<const float>()[3] == 10 * v);
    }
  });
}

TEST_CASE("what a recording refuses is one sentence, and the rank goes on as before") {
  on_one_rank([](const DeviceMesh& mesh) {
    const DTensor x = full({4}, 1, mesh);
    const std::string waits =
        "CudaGraph::record: the host asks for what cuda:0 has done (item, values, a copy to the CPU, a barrier, a wait, or an op whose "
        "result's shape depends on data), and nothing runs before replay(); do it outside the body";
    const auto refused = [&](const std::function<void()>& body) {
      const MemoryStats before = memory_stats(kGpu);
      const std::string text = error_of([&] { CudaGraph::record(kGpu, body); });
      CHECK(memory_stats(kGpu).current == before.current);
      CHECK(sum(x).item() == 4);
      CudaGraph good = CudaGraph::record(kGpu, [&] { add_(x, 0); });
      good.replay();
      CHECK(sum(x).item() == 4);
      return text;
    };
    CHECK(refused([&] { sum(x).item(); }) == waits);
    CHECK(refused([&] { x.local().to(Device::cpu()); }) == waits);
    CHECK(refused([&] { Stream::current(kGpu).synchronize(); }) == waits);
    CHECK(refused([&] { Event(Stream::current(kGpu)).wait(); }) == waits);
    CHECK(refused([&] {
            Tensor::of(std::vector<float>{1, 2}, {2}).to(kGpu);
          }) ==
          "CudaGraph::record: values of the CPU are copied to cuda:0 when the body runs, not at a replay; make the tensor before and write to it "
          "between "
          "replays, or copy from a pinned one without blocking");
    CHECK(refused([&] { nonzero(x); }) == waits);
    if (cuda_info().devices.size() > 1)
      CHECK(refused([&] { x.local().to(Device::cuda(1)); }) ==
            "CudaGraph::record: a copy from cuda:0 to cuda:1; a graph is of one device, copy outside the body");
    CHECK(refused([&] { CudaGraph::record(kGpu, [] {}); }) ==
          "CudaGraph::record: a recording goes on; record one graph after the other, or call the other body's function in this one");
    CHECK(refused([&] { throw Error("of the body"); }) == "of the body");
    CudaGraph inner = CudaGraph::record(kGpu, [&] { add_(x, 0); });
    CHECK(refused([&] { inner.replay(); }) == "CudaGraph::replay: a recording goes on; replay outside its body");
    CHECK(error_of([&] { CudaGraph::record(Device::cpu(), [] {}); }) ==
          "CudaGraph::record: cpu records no graphs; call the body itself there, or give a CUDA device, as Device::cuda(0)");
    CHECK(error_of([&] { CudaGraph::record(kGpu, nullptr); }) == "CudaGraph::record: the body is empty; give a function");
    CHECK(error_of([&] { CudaGraph().replay(); }) == "CudaGraph::replay: there is nothing to replay; record first");
    CHECK_THROWS_AS(CudaGraph::record(Device::cuda(99), [] {}), DeviceError);
    const Stream legacy = Stream::wrap(nullptr);
    const StreamScope scope(legacy, {.ordered = false});
    CHECK(error_of([&] { CudaGraph::record(kGpu, [] {}); }) ==
          "CudaGraph::record: the legacy default stream cannot record; make another one current (StreamScope)");
  });
}

TEST_CASE("a tensor that would stop to share memory inside is refused, since each replay would begin from what was shared") {
  on_one_rank([](const DeviceMesh& mesh) {
    const DTensor x = full({4}, 1, mesh), alike = x.redistribute({Replicate()});
    REQUIRE(alike.local().raw() == x.local().raw());
    const auto body = [&] { add_(alike, 1); };
    CHECK(error_of([&] { CudaGraph::record(kGpu, body); }) ==
          "CudaGraph::record: a tensor of outside the body is written while it shares its memory with another one, so that each replay would write "
          "to a new "
          "copy; call the body once before, or clone() the tensor");
    body();
    CudaGraph graph = CudaGraph::record(kGpu, body);
    for (int k = 0; k < 2; ++k) graph.replay();
    CHECK(sum(alike).item() == 16);
    CHECK(sum(x).item() == 4);
  });
}

TEST_CASE("ranks that are threads record what needs no other rank, and are told so where it does") {
  if (test::no_device()) return;
  std::vector<std::string> texts(2);
  run_ranks({.ranks = 2, .device = kGpu}, [&](World& world) {
    const DeviceMesh mesh = world.mesh({{"x", 2}});
    const DTensor x = full({4}, 1, mesh, {Shard(0)});
    CudaGraph graph = CudaGraph::record(kGpu, [&] { add_(x, 1); });
    for (int k = 0; k < 3; ++k) graph.replay();
    CHECK(sum(x).item() == 16);
    texts[static_cast<std::size_t>(world.rank())] = error_of([&] { CudaGraph::record(kGpu, [&] { x.redistribute({Replicate()}); }); });
    CHECK(sum(x).item() == 16);
  });
  for (const std::string& text : texts)
    CHECK(text ==
          "CudaGraph::record: ranks that are threads of one process order their devices by events of each other, which a graph cannot hold; record "
          "on one "
          "rank, or run one process per rank with NCCL");
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

TEST_CASE("what the host hands to kernels is there at every replay, whatever it has staged since") {
  on_one_rank([](const DeviceMesh& mesh) {
    const NoGrad off;
    const DTensor x = randn({1, 2, 11, 13}, mesh), large = randn({1, 1, 47, 53}, mesh);
    DTensor y;
    CudaGraph graph = CudaGraph::record(kGpu, [&] { y = adaptive_avg_pool2d(x, {4, 5}); });
    for (int k = 0; k < 400; ++k) static_cast<void>(adaptive_avg_pool2d(large, {43, 41}));
    graph.replay();
    CHECK(bytes_of(y) == bytes_of(adaptive_avg_pool2d(x, {4, 5})));
  });
}

#if !defined(DTENSOR_REAL_DEVICE)
TEST_CASE("a machine without a driver is told so") {
  emulated::set_devices(0, 0);
  CHECK(error_of([] { CudaGraph::record(kGpu, [] {}); }) == "cuda: cuda:0 cannot be used (there is no driver); use Device::cpu()");
  emulated::set_devices(2, std::int64_t{1} << 30);
}
#endif

TEST_CASE("a graph that ends after its world, and one of another rank, are not replayed") {
  CudaGraph graph;
  DTensor x;
  const std::string text = "CudaGraph::replay: the graph was recorded by another rank, or its world has ended; record it anew";
  on_one_rank([&](const DeviceMesh& mesh) {
    const DTensor y = full({4}, 1, mesh);
    graph = CudaGraph::record(kGpu, [&] { add_(y, 1); });
    graph.replay();
  });
  if (!test::no_device()) CHECK(error_of([&] { graph.replay(); }) == text);
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
