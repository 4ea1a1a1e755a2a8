// SPDX-License-Identifier: Apache-2.0
// What a recording refuses and what a replay does, in one sentence each, and that the rank goes on as before.
#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "emulator.h"
#include "graph.h"

using namespace dtensor;
using namespace dtensor::test;
namespace emulated = local::cuda::emulated;

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
  if (no_device()) return;
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
  if (!no_device()) CHECK(error_of([&] { graph.replay(); }) == text);
}
