// SPDX-License-Identifier: Apache-2.0
// What a graph keeps for its replays: memory of the device, results, what the host staged, pinned tensors and where kernels tell what they find wrong.
#include <doctest/doctest.h>

#include <cstdint>
#include <string>

#include "emulator.h"
#include "graph.h"

using namespace dtensor;
using namespace dtensor::test;
namespace emulated = local::cuda::emulated;

namespace {

// Memory of the device that is not free. Others may use a real one at the same time.
std::int64_t held() {
#if defined(DTENSOR_REAL_DEVICE)
  return cuda_info().devices.at(0).memory_bytes - cuda_info().devices.at(0).free_bytes;
#else
  return emulated::bytes_in_use(0);
#endif
}

}  // namespace

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
