// SPDX-License-Identifier: Apache-2.0
// Recorded steps with collectives: replays give every rank what calls would, their launches match, and nobody waits for what does not run.
#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <stdexcept>
#include <thread>

#include "comm/expected.h"
#include "comm/nccl/ranks.h"
#include "dtensor/dtensor.h"

using namespace dtensor;
using namespace dtensor::testing;
using comm::nccl::recorded::taken_calls;

namespace {

std::vector<float> values_of(const Tensor& t) {
  const Tensor here = t.contiguous().to(Device::cpu());
  const auto v = here.values<const float>();
  return {v.begin(), v.end()};
}

// A layer split over the ranks, with its gradient and a plain step, and a move of the result.
struct Step {
  DTensor x, w, last;
  explicit Step(const DeviceMesh& mesh) : x(randn({6, 8}, mesh, {Shard(0)})), w(randn({8, 4}, mesh, {Shard(1)})) { w.set_requires_grad(); }
  void operator()() {
    const DTensor y = dropout(tanh(matmul(x, w)), 0.25);
    sum(square(y)).backward();
    last = y.detach().redistribute({Replicate()});
    const NoGrad off;
    sub_(w.detach(), w.grad() * 0.1);
    w.set_grad(DTensor());
  }
};

}  // namespace

TEST_CASE("replays of a step with collectives leave what calls leave, on every rank") {
  std::vector<std::vector<float>> bits[2];
  for (const bool recorded : {false, true}) {
    bits[recorded ? 1 : 0].resize(4);
    CHECK(runs_over_nccl(2, [&](World& world) {
      manual_seed(5);
      Step step(world.mesh({{"x", 2}}));
      step();
      if (recorded) {
        CudaGraph graph = CudaGraph::record(world.device(), [&] { step(); });
        host_waits();
        for (int k = 0; k < 3; ++k) graph.replay();
        CHECK(host_waits() == 0);
        bits[1][static_cast<std::size_t>(world.rank())] = values_of(step.w.local());
      } else {
        for (int k = 0; k < 3; ++k) step();
        bits[0][static_cast<std::size_t>(world.rank())] = values_of(step.w.local());
      }
      bits[recorded ? 1 : 0][static_cast<std::size_t>(2 + world.rank())] = values_of(step.last.local());
    }));
  }
  CHECK(bits[0] == bits[1]);
}

TEST_CASE("a recording asks NCCL for each launch once, and a replay launches them all again") {
  taken_calls();
  CHECK(runs_over_nccl(2, [&](World& world) {
    const Communicator c = world.communicator(world.mesh({{"x", 2}}), "x");
    const Tensor x = input_of(world.rank(), {12}, Dtype::f32).to(world.device());
    Tensor sum, all;
    const auto body = [&] {
      sum = c.all_reduce(x);
      all = c.all_gather(sum);
    };
    CudaGraph graph = CudaGraph::record(world.device(), body);  // it makes the communicator, too
    for (int k = 0; k < 2; ++k) graph.replay();
    CHECK(values_of(all)[13] == static_cast<float>(input_value(0, 1, Dtype::f32) + input_value(1, 1, Dtype::f32)));
  }));
  const auto texts = texts_by_member(taken_calls(), 2);
  const std::vector<std::string> twice{"AllReduce 12 f32 sum", "AllGather 12 f32", "AllReduce 12 f32 sum", "AllGather 12 f32"};
  CHECK(texts[0] == twice);
  CHECK(texts[1] == twice);
}

TEST_CASE("a recording goes through a window that was open before it, and opens none") {
  for (const bool before : {false, true}) {
    taken_calls();
    CHECK(runs_over_nccl(2,
                         [&](World& world) {
                           const Communicator c = world.communicator(world.mesh({{"x", 2}}), "x");
                           const Tensor x = input_of(world.rank(), {12}, Dtype::f32).to(world.device());
                           if (before) c.all_reduce(x).wait();
                           Tensor sum;
                           CudaGraph graph = CudaGraph::record(world.device(), [&] { sum = c.all_reduce(x); });
                           for (int k = 0; k < 2; ++k) graph.replay();
                           const auto expected = static_cast<float>(input_value(0, 1, Dtype::f32) + input_value(1, 1, Dtype::f32));
                           CHECK(values_of(sum)[1] == expected);
                           CHECK(values_of(c.all_reduce(x))[1] == expected);
                           graph.replay();
                           CHECK(values_of(sum)[1] == expected);
                         },
                         {.window_bytes = 1 << 20}));
    std::vector<bool> through;
    for (const auto& call : taken_calls())
      if (call.member == 0) through.push_back(call.in_windows);
    if (before) CHECK(through == std::vector<bool>{true, true, true, true, true});
    else CHECK(through == std::vector<bool>{false, false, true, false});
  }
}

TEST_CASE("launches before, between and after replays keep their order") {
  CHECK(runs_over_nccl(2, [&](World& world) {
    const Communicator c = world.communicator(world.mesh({{"x", 2}}), "x");
    const Tensor x = Tensor::zeros({1000}, Dtype::f32, world.device());
    x.fill_(1);
    const auto body = [&] { c.all_reduce_(x).wait(); };  // doubles
    c.all_reduce_(x).wait();
    CudaGraph graph = CudaGraph::record(world.device(), body);
    static_cast<void>(c.all_reduce_(x));  // not waited for: a replay is
    graph.replay();
    static_cast<void>(c.all_reduce_(x));
    graph.replay();
    CHECK(values_of(x)[999] == 32);
  }));
}

TEST_CASE("a replay comes after launches whose results nobody has waited for") {
  CHECK(runs_over_nccl(2, [&](World& world) {
    const Communicator c = world.communicator(world.mesh({{"x", 2}}), "x");
    const Tensor x = input_of(world.rank(), {64}, Dtype::f32).to(world.device()), y = Tensor::zeros({64}, Dtype::f32, world.device());
    CudaGraph graph = CudaGraph::record(world.device(), [&] { y.copy_(x); });
    Work work = c.all_reduce_(x);
    graph.replay();
    CHECK(values_of(y)[1] == static_cast<float>(input_value(0, 1, Dtype::f32) + input_value(1, 1, Dtype::f32)));
    work.wait();
  }));
}

TEST_CASE("results that nobody waits for inside are complete after a replay") {
  CHECK(runs_over_nccl(2, [&](World& world) {
    const Communicator c = world.communicator(world.mesh({{"x", 2}}), "x");
    const Tensor x = input_of(world.rank(), {64}, Dtype::f32).to(world.device());
    Tensor late;
    CudaGraph graph = CudaGraph::record(world.device(), [&] { late = c.all_gather(x); });
    graph.replay();
    CHECK(values_of(late)[65] == static_cast<float>(input_value(1, 1, Dtype::f32)));
  }));
}

TEST_CASE("replays come to collectives of two communicators in the order of the calls, not of the waits") {
  CHECK(runs_over_nccl(4, [&](World& world) {
    const DeviceMesh mesh = world.mesh({{"x", 2}, {"y", 2}});
    const Communicator a = world.communicator(mesh, "x"), b = world.communicator(mesh, "y");
    const Tensor x = Tensor::zeros({4}, Dtype::f32, world.device()), y = Tensor::zeros({5}, Dtype::f32, world.device());
    x.fill_(1);
    y.fill_(1);
    for (int k = 0; k < 2; ++k) {
      CudaGraph graph = CudaGraph::record(world.device(), [&] {
        Work first = a.all_reduce_(x), second = b.all_reduce_(y);
        second.wait();
        first.wait();
      });
      world.barrier();
      if (world.rank() == 0) comm::nccl::recorded::taken_starts();
      world.barrier();
      graph.replay();
      CHECK(values_of(y)[4] == (k == 0 ? 2 : 4));
      CHECK(values_of(x)[3] == (k == 0 ? 2 : 4));
      world.barrier();
      if (world.rank() == 0) {
        const auto starts = comm::nccl::recorded::taken_starts();
        const auto first = [&](const char* text) { return std::find(starts.begin(), starts.end(), text); };
        // The first member of B comes to it after all of its A, whatever the others do.
        CHECK(first("AllReduce 4 f32 sum") < first("AllReduce 5 f32 sum"));
        CHECK(std::count(starts.begin(), starts.end(), "AllReduce 5 f32 sum") == 4);
      }
      world.barrier();
    }
  }));
}

TEST_CASE("a graph that outlives its world does not hold it up, and says that it has ended") {
  std::vector<CudaGraph> graphs(2);
  std::vector<Tensor> sums(2);
  CHECK(runs_over_nccl(2,
                       [&](World& world) {
                         const auto rank = static_cast<std::size_t>(world.rank());
                         const Communicator c = world.communicator(world.mesh({{"x", 2}}), "x");
                         const Tensor x = input_of(world.rank(), {12}, Dtype::f32).to(world.device());
                         graphs[rank] = CudaGraph::record(world.device(), [&] { sums[rank] = c.all_reduce(x); });
                         graphs[rank].replay();
                       },
                       {.time_limit_s = 2}));
  for (const Tensor& sum : sums) CHECK(values_of(sum)[1] == static_cast<float>(input_value(0, 1, Dtype::f32) + input_value(1, 1, Dtype::f32)));
  for (CudaGraph& graph : graphs)
    CHECK_THROWS_WITH_AS(graph.replay(), "CudaGraph::replay: the graph was recorded by another rank, or its world has ended; record it anew",
                         InvalidArgument);
}

TEST_CASE("a graph that is alive does not hold up the end of a world that is over, and its memory is not freed before NCCL lets go of it") {
  for (const std::int64_t window : {0, 1 << 20})
    for (const bool found_by_nccl : {true, false}) {
      CAPTURE(window);
      CAPTURE(found_by_nccl);
      std::vector<CudaGraph> graphs(2);
      comm::nccl::recorded::taken_mismatches();
      comm::nccl::recorded::taken_lives();
      const auto errors = errors_over_nccl(2,
                                           [&](World& world) {
                                             const Communicator c = world.communicator(world.mesh({{"x", 2}}), "x");
                                             const Tensor x = Tensor::zeros({12}, Dtype::f32, world.device());
                                             c.all_reduce_(x).wait();
                                             CudaGraph& graph = graphs[static_cast<std::size_t>(world.rank())];
                                             graph = CudaGraph::record(world.device(), [&] { static_cast<void>(c.all_reduce_(x)); });
                                             graph.replay();
                                             world.barrier();
                                             if (world.rank() == 0 && !found_by_nccl) throw std::runtime_error("bad batch");
                                             if (world.rank() == 0)
                                               comm::nccl::recorded::break_comm("group/user/0.1", comm::nccl::Result::remote_error);
                                             for (;;) {  // each rank hears of it in the middle of its steps
                                               c.all_reduce_(x).wait();
                                               std::this_thread::sleep_for(std::chrono::milliseconds(1));
                                             }
                                           },
                                           {.window_bytes = window});
      const char* const what = found_by_nccl ? "remote process exited or there was a network error" : "bad batch";
      for (const std::string& error : errors) CHECK(error.find(what) != std::string::npos);
      const auto lives = comm::nccl::recorded::taken_lives();
      CHECK(lives.made == lives.aborted + lives.destroyed);
      CHECK(lives.aborted >= 2);
      CHECK(lives.aborts_ended == lives.aborted);
      CHECK(comm::nccl::recorded::taken_mismatches().empty());
    }
}

TEST_CASE("no time limit counts for what is recorded and does not run") {
  CHECK(runs_over_nccl(2,
                       [&](World& world) {
                         const Communicator c = world.communicator(world.mesh({{"x", 2}}), "x");
                         const Tensor x = Tensor::zeros({10}, Dtype::f32, world.device());
                         c.all_reduce_(x).wait();
                         CudaGraph graph = CudaGraph::record(world.device(), [&] {
                           static_cast<void>(c.all_reduce_(x));
                           std::this_thread::sleep_for(std::chrono::milliseconds(600));
                         });
                         std::this_thread::sleep_for(std::chrono::milliseconds(600));
                         graph.replay();
                         CHECK(values_of(x)[9] == 0);
                       },
                       {.time_limit_s = 0.5}));
}

TEST_CASE("what NCCL has not queued at once is waited for while a step is recorded") {
  for (const comm::nccl::recorded::Settings& settings :
       {comm::nccl::recorded::Settings{.lingers = 5}, comm::nccl::recorded::Settings{.connects = true}}) {
    comm::nccl::recorded::set(settings);
    CHECK(runs_over_nccl(2, [](World& world) {
      manual_seed(5);
      Step step(world.mesh({{"x", 2}}));
      step();
      CudaGraph graph = CudaGraph::record(world.device(), [&] { step(); });
      for (int k = 0; k < 2; ++k) graph.replay();
      CHECK(values_of(step.w.local()).size() == 16);
    }));
  }
  comm::nccl::recorded::set({});
}

TEST_CASE("a barrier and a tensor of the host are refused inside, and the world goes on") {
  CHECK(runs_over_nccl(2, [](World& world) {
    const Communicator c = world.communicator(world.mesh({{"x", 2}}), "x");
    const Tensor x = Tensor::zeros({4}, Dtype::f32, world.device()), here = Tensor::zeros({4}, Dtype::f32);
    CHECK_THROWS_WITH_AS(CudaGraph::record(world.device(), [&] { world.barrier(); }),
                         "barrier: the host waits for other ranks, which no replay of a CUDA graph repeats; do it outside the body", InvalidArgument);
    CHECK_THROWS_AS(CudaGraph::record(world.device(), [&] { static_cast<void>(c.all_reduce(here)); }), InvalidArgument);
    world.barrier();
    CudaGraph graph = CudaGraph::record(world.device(), [&] { static_cast<void>(c.all_reduce_(x)); });
    graph.replay();
    CHECK(values_of(x)[0] == 0);
  }));
}

namespace {

struct Block : nn::Module<Block> {
  nn::Linear up, down;
  explicit Block(const DeviceMesh& mesh) : up(12, 20, mesh, {.bias = true}), down(20, 12, mesh) {}
  void fields(nn::Fields& f) override { f("up", up)("down", down); }
  DTensor forward(const DTensor& x) { return x + down(dropout(gelu(up(x)), 0.2)); }
};
struct Blocks : nn::Module<Blocks> {
  nn::ModuleList<Block> blocks;
  explicit Blocks(const DeviceMesh& mesh) {
    for (int i = 0; i < 3; ++i) blocks.emplace_back(mesh);
  }
  void fields(nn::Fields& f) override { f("blocks", blocks); }
  DTensor forward(const DTensor& x) {
    DTensor h = x;
    for (std::size_t i = 0; i < blocks.size(); ++i) h = blocks[i](h);
    return h;
  }
};

// Loss and parameters of a rank after some steps of training, the last of them called or replayed.
std::vector<std::vector<float>> trained(World& world, bool sharded, bool recorded) {
  manual_seed(9);
  const DeviceMesh mesh = world.mesh({{"x", world.size()}});
  Blocks model(mesh);
  for (std::size_t i = 0; i < model.blocks.size(); ++i) {
    if (sharded) parallel::fully_shard(model.blocks[i], "x");
    else parallel::parallelize_module(model.blocks[i], "x", {{"up", parallel::colwise()}, {"down", parallel::rowwise()}});
  }
  if (sharded) parallel::fully_shard(model, "x");
  model.materialize();
  optim::AdamW optimizer(model.named_parameters(), {.lr = 0.01, .capturable = true});
  const DTensor x = randn({8, 12}, mesh, sharded ? Placements{Shard(0)} : Placements{Replicate()});
  DTensor loss;
  const auto step = [&] {
    loss = mean(square(model(x) - 2 * x));
    loss.backward();
    optim::clip_grad_norm_(model.parameters(), 0.3);
    optimizer.step();
    optimizer.zero_grad();
    loss = loss.detach();
  };
  for (int k = 0; k < 2; ++k) step();
  CudaGraph graph;
  if (recorded) graph = CudaGraph::record(world.device(), step);
  for (int k = 0; k < 3; ++k) {
    const NoGrad off;
    copy_(x, x * 1.01 + randn_like(x));
    optimizer.set_lr(0.02 - 0.005 * k);
    const EnableGrad on;
    if (recorded) graph.replay();
    else step();
  }
  std::vector<std::vector<float>> values{values_of(loss.redistribute({Replicate()}).local())};
  for (const nn::NamedParameter& p : model.named_parameters())
    values.push_back(values_of(p.parameter.value().detach().redistribute({Replicate()}).local()));
  return values;
}

}  // namespace

TEST_CASE("sharded and tensor-parallel training is the same when its steps are replayed, with new batches and rates between") {
  for (const bool sharded : {true, false})
    for (const int ranks : {2, 3}) {
      CAPTURE(sharded);
      CAPTURE(ranks);
      std::vector<std::vector<std::vector<float>>> called(static_cast<std::size_t>(ranks)), replayed(called);
      CHECK(runs_over_nccl(ranks, [&](World& world) { called[static_cast<std::size_t>(world.rank())] = trained(world, sharded, false); }));
      CHECK(runs_over_nccl(ranks, [&](World& world) { replayed[static_cast<std::size_t>(world.rank())] = trained(world, sharded, true); }));
      CHECK(called[0].size() == 10);
      CHECK(called == replayed);
    }
}
