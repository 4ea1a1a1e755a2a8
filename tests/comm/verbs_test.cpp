// SPDX-License-Identifier: Apache-2.0
#include "dtensor/comm.h"

#include <doctest/doctest.h>

#include <cstring>

#include "comm/expected.h"
#include "dtensor/error.h"
#include "dtensor/world.h"

using namespace dtensor;
using namespace dtensor::testing;

namespace {

Communicator all(World& world) { return world.communicator(world.mesh({{"x", world.size()}}), "x"); }

// What a reduction of everybody's inputs is, rounded as the dtype does.
std::vector<double> expected_reduction(ReduceOp op, int ranks, const Shape& shape, Dtype dtype) {
  std::vector<double> results;
  for (std::int64_t i = 0; i < shape.numel(); ++i) {
    std::vector<double> values;
    for (int r = 0; r < ranks; ++r) values.push_back(input_value(r, i, dtype));
    results.push_back(reduced(op, values));
  }
  // Products and sums of eight small values fit every dtype but u8, which wraps.
  if (dtype == Dtype::u8)
    for (double& r : results) r = static_cast<double>(static_cast<std::uint8_t>(static_cast<std::int64_t>(r)));
  return doubles_of(from_doubles(results, shape, dtype));
}

// The dimension `dim` of a row-major tensor of `shape`, indices [begin, begin + size).
std::vector<double> cut(const std::vector<double>& values, const Shape& shape, int dim, std::int64_t begin, std::int64_t size) {
  std::int64_t inner = 1, outer = 1;
  for (int d = dim + 1; d < shape.ndim(); ++d) inner *= shape[d];
  for (int d = 0; d < dim; ++d) outer *= shape[d];
  std::vector<double> part;
  for (std::int64_t o = 0; o < outer; ++o)
    for (std::int64_t k = begin; k < begin + size; ++k)
      for (std::int64_t i = 0; i < inner; ++i) part.push_back(values[static_cast<std::size_t>((o * shape[dim] + k) * inner + i)]);
  return part;
}

}  // namespace

TEST_CASE("all_reduce gives the reduction in rank order for every op, dtype and number of ranks, and refuses the pairs that do not exist") {
  for (int ranks : kWorldSizes) {
    run_ranks({.ranks = ranks}, [&](World& world) {
      const Communicator c = all(world);
      for (Dtype dtype : kDtypes)
        for (ReduceOp op : kReduceOps)
          for (const Shape& shape : {Shape{}, Shape{0}, Shape{5}, Shape{3, 1000}}) {
            const Tensor in = input_of(world.rank(), shape, dtype);
            if (!Communicator::is_reducible(op, dtype)) {
              CHECK(error_of([&] { c.all_reduce(in, op); }) ==
                    "all_reduce: " + to_string(op) + " of " + to_string(dtype) + " does not exist; convert the tensor with to() first");
              continue;
            }
            const auto expected = expected_reduction(op, ranks, shape, dtype);
            const Tensor out = c.all_reduce(in, op);
            CHECK(doubles_of(out) == expected);
            CHECK(out.dtype() == dtype);
            c.all_reduce_(in, op).wait();
            CHECK(doubles_of(in) == expected);
          }
    });
  }
}

TEST_CASE("the legal pairs of reduction and dtype are those of the table") {
  CHECK(Communicator::is_reducible(ReduceOp::avg, Dtype::bf16));
  CHECK(!Communicator::is_reducible(ReduceOp::avg, Dtype::i64));
  CHECK(!Communicator::is_reducible(ReduceOp::sum, Dtype::boolean));
  CHECK(Communicator::is_reducible(ReduceOp::max, Dtype::boolean));
  CHECK(Communicator::is_reducible(ReduceOp::bxor, Dtype::u8));
  CHECK(!Communicator::is_reducible(ReduceOp::band, Dtype::f32));
}

TEST_CASE("a large all_reduce equals a sum in rank order bit for bit, in place and not, on all ranks and runs") {
  constexpr std::int64_t kCount = (5 << 20) + 77;
  std::vector<std::vector<float>> results;
  for (int repeat = 0; repeat < 2; ++repeat) {
    const auto got = collect({.ranks = 3}, [&](World& world) {
      std::vector<float> values(kCount);
      for (std::int64_t i = 0; i < kCount; ++i)
        values[static_cast<std::size_t>(i)] = 1.0f / static_cast<float>(1 + (i * 31 + world.rank() * 1237) % 10007);
      const Tensor in = Tensor::of<float>(values, {kCount});
      const Communicator c = all(world);
      const Tensor out = c.all_reduce(in);
      c.all_reduce_(in).wait();
      const auto a = out.values<const float>(), b = in.values<const float>();
      CHECK(std::memcmp(a.data(), b.data(), a.size_bytes()) == 0);
      return std::vector<float>(a.begin(), a.end());
    });
    results.insert(results.end(), got.begin(), got.end());
  }
  std::vector<float> expected(kCount);
  for (std::int64_t i = 0; i < kCount; ++i) {
    float sum = 0;
    for (int r = 0; r < 3; ++r) {
      const float v = 1.0f / static_cast<float>(1 + (i * 31 + r * 1237) % 10007);
      sum = r == 0 ? v : sum + v;
    }
    expected[static_cast<std::size_t>(i)] = sum;
  }
  for (const auto& r : results) CHECK(r == expected);
}

TEST_CASE("all_gather joins uneven parts along any dimension, sizes given or asked for") {
  for (int ranks : kWorldSizes) {
    run_ranks({.ranks = ranks}, [&](World& world) {
      const Communicator c = all(world);
      for (Dtype dtype : kDtypes)
        for (int dim : {0, 1, -1}) {
          const int d = dim < 0 ? 1 : dim;
          std::vector<std::int64_t> sizes;
          std::int64_t total = 0;
          for (int r = 0; r < ranks; ++r) {
            sizes.push_back(r == 1 ? 0 : r + 1);
            total += sizes.back();
          }
          Shape shape{3, 3}, whole{3, 3};
          shape[d] = sizes[static_cast<std::size_t>(world.rank())];
          whole[d] = total;
          const Tensor in = input_of(world.rank(), shape, dtype);
          const Tensor given = c.all_gather(in, dim, {.sizes = sizes}), asked = c.all_gather(in, dim, {.exchange_sizes = true});
          REQUIRE(given.shape() == whole);
          REQUIRE(asked.shape() == whole);
          const auto values = doubles_of(given);
          CHECK(values == doubles_of(asked));
          std::int64_t begin = 0;
          for (int r = 0; r < ranks; ++r) {
            const std::int64_t n = sizes[static_cast<std::size_t>(r)];
            Shape theirs{3, 3};
            theirs[d] = n;
            CHECK(cut(values, whole, d, begin, n) == doubles_of(input_of(r, theirs, dtype)));
            begin += n;
          }
        }
    });
  }
}

TEST_CASE("reduce_scatter gives each rank its chunk of the reduction, by ceil chunks or by given sizes") {
  for (int ranks : kWorldSizes) {
    run_ranks({.ranks = ranks}, [&](World& world) {
      const Communicator c = all(world);
      for (Dtype dtype : {Dtype::f32, Dtype::bf16, Dtype::i64, Dtype::boolean})
        for (ReduceOp op : {ReduceOp::sum, ReduceOp::avg, ReduceOp::max})
          for (int dim : {0, 1}) {
            if (!Communicator::is_reducible(op, dtype)) continue;
            const Shape shape{7, 9};
            const auto expected = expected_reduction(op, ranks, shape, dtype);
            const Tensor in = input_of(world.rank(), shape, dtype);
            const std::int64_t n = shape[dim], chunk = (n + ranks - 1) / ranks, begin = std::min(n, world.rank() * chunk),
                               end = std::min(n, begin + chunk);
            CHECK(doubles_of(c.reduce_scatter(in, op, dim)) == cut(expected, shape, dim, begin, end - begin));
            std::vector<std::int64_t> sizes(static_cast<std::size_t>(ranks), 0);
            sizes.back() = n;
            const bool last = world.rank() == ranks - 1;
            CHECK(doubles_of(c.reduce_scatter(in, op, dim, {.sizes = sizes})) == cut(expected, shape, dim, 0, last ? n : 0));
          }
    });
  }
}

TEST_CASE("all_to_all sends piece i to member i, with dimensions exchanged and with uneven lists") {
  for (int ranks : kWorldSizes) {
    run_ranks({.ranks = ranks}, [&](World& world) {
      const Communicator c = all(world);
      const int me = world.rank();
      // Rows to columns: [ranks * 2, 3] on each becomes [2, 3 * ranks].
      const Shape shape{ranks * 2, 3};
      const Tensor turned = c.all_to_all(input_of(me, shape, Dtype::f32), 0, 1);
      REQUIRE(turned.shape() == Shape{2, 3 * ranks});
      const auto values = doubles_of(turned);
      for (int r = 0; r < ranks; ++r)
        CHECK(cut(values, turned.shape(), 1, 3 * r, 3) == cut(doubles_of(input_of(r, shape, Dtype::f32)), shape, 0, 2 * me, 2));
      // Rank r sends r + i rows to member i.
      std::vector<std::int64_t> sends, receives;
      std::int64_t total = 0;
      for (int i = 0; i < ranks; ++i) {
        sends.push_back(me + i);
        receives.push_back(i + me);
        total += me + i;
      }
      const Tensor out = c.all_to_all(input_of(me, {total, 2}, Dtype::i32), 0, 0, {.send_sizes = sends, .receive_sizes = receives});
      std::int64_t at = 0;
      for (int r = 0; r < ranks; ++r) {
        std::int64_t theirs = 0, before = 0;
        for (int i = 0; i < ranks; ++i) {
          if (i < me) before += r + i;
          theirs += r + i;
        }
        const Shape their_shape{theirs, 2};
        CHECK(cut(doubles_of(out), out.shape(), 0, at, r + me) ==
              cut(doubles_of(input_of(r, their_shape, Dtype::i32)), their_shape, 0, before, r + me));
        at += r + me;
      }
    });
  }
}

TEST_CASE("broadcast, scatter and gather go from and to any root") {
  for (int ranks : kWorldSizes) {
    run_ranks({.ranks = ranks}, [&](World& world) {
      const Communicator c = all(world);
      for (int root = 0; root < ranks; ++root) {
        const Shape shape{5, 4};
        CHECK(doubles_of(c.broadcast(input_of(world.rank(), shape, Dtype::f64), root)) == doubles_of(input_of(root, shape, Dtype::f64)));
        const Tensor here = input_of(world.rank(), shape, Dtype::u8);
        c.broadcast_(here, root).wait();
        CHECK(doubles_of(here) == doubles_of(input_of(root, shape, Dtype::u8)));

        const Tensor whole = world.rank() == root ? input_of(root, shape, Dtype::f32) : Tensor::empty(shape, Dtype::f32, Device::meta());
        const Tensor part = c.scatter(whole, root, 0);
        const std::int64_t chunk = (5 + ranks - 1) / ranks, begin = std::min<std::int64_t>(5, world.rank() * chunk),
                           end = std::min<std::int64_t>(5, begin + chunk);
        CHECK(doubles_of(part) == cut(doubles_of(input_of(root, shape, Dtype::f32)), shape, 0, begin, end - begin));

        const Tensor gathered = c.gather(part, root, 0, {.exchange_sizes = true});
        CHECK(static_cast<bool>(gathered) == (world.rank() == root));
        if (gathered) CHECK(doubles_of(gathered) == doubles_of(input_of(root, shape, Dtype::f32)));
      }
    });
  }
}

TEST_CASE("permute moves tensors between ranks and gives zeros where nothing comes") {
  run_ranks({.ranks = 4}, [](World& world) {
    const Communicator c = all(world);
    const Tensor out = c.permute(input_of(world.rank(), {3}, Dtype::f32), {2, 0, -1, 3});
    const int from[] = {1, -1, 0, 3};
    const int source = from[world.rank()];
    CHECK(doubles_of(out) == (source < 0 ? std::vector<double>(3, 0.0) : doubles_of(input_of(source, {3}, Dtype::f32))));
    CHECK(error_of([&] { c.permute(out, {1, 1, -1, -1}); }) == "permute: two members send to member 1 ([1, 1, -1, -1]); destinations are distinct");
  });
}

TEST_CASE("sends and receives of a pair match in order, whichever side comes first") {
  run_ranks({.ranks = 3}, [](World& world) {
    const Communicator c = all(world);
    const int next = (world.rank() + 1) % 3, previous = (world.rank() + 2) % 3;
    const Tensor first = Tensor::zeros({2}, Dtype::f32), second = Tensor::zeros({3}, Dtype::f32);
    Work a = c.send(input_of(world.rank(), {2}, Dtype::f32), next);
    Work b = c.send(input_of(world.rank() + 10, {3}, Dtype::f32), next);
    Work d = c.recv(first, previous);
    Work e = c.recv(second, previous);
    e.wait();
    d.wait();
    CHECK(doubles_of(first) == doubles_of(input_of(previous, {2}, Dtype::f32)));
    CHECK(doubles_of(second) == doubles_of(input_of(previous + 10, {3}, Dtype::f32)));
    a.wait();
    b.wait();
    // A ring in both directions at once; ranks 0 and 1 of the list only.
    if (world.rank() < 2) {
      const Tensor in = Tensor::zeros({4}, Dtype::i64);
      Work both = c.group({recv_from(in, 1 - world.rank()), send_to(input_of(world.rank(), {4}, Dtype::i64), 1 - world.rank())});
      both.wait();
      CHECK(both.done());
      CHECK(doubles_of(in) == doubles_of(input_of(1 - world.rank(), {4}, Dtype::i64)));
    }
    CHECK(error_of([&] { c.send(first, world.rank()).wait(); }) ==
          "send: the peer is this member itself (" + std::to_string(world.rank()) + "); use copy_");
  });
}

TEST_CASE("groups along the axes of a mesh are independent of each other") {
  run_ranks({.ranks = 6}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"dp", 2}, {"tp", 3}});
    const Communicator dp = world.communicator(mesh, "dp"), tp = Communicator::of(mesh, "tp"), both = Communicator::of(mesh),
                       turned = Communicator::of(mesh, {"tp", "dp"});
    const Tensor mine = Tensor::of<std::int64_t>(std::vector<std::int64_t>{world.rank()}, {1});
    for (int repeat = 0; repeat < world.rank() % 3; ++repeat) CHECK(doubles_of(dp.all_reduce(mine))[0] == 2 * (world.rank() % 3) + 3);
    const int row = world.rank() / 3;
    CHECK(doubles_of(tp.all_gather(mine)) == std::vector<double>{row * 3.0, row * 3.0 + 1, row * 3.0 + 2});
    CHECK(doubles_of(both.all_gather(mine)) == std::vector<double>{0, 1, 2, 3, 4, 5});
    CHECK(doubles_of(turned.all_gather(mine)) == std::vector<double>{0, 3, 1, 4, 2, 5});
  });
}

TEST_CASE("inputs with other strides are taken as they are seen") {
  run_ranks({.ranks = 2}, [](World& world) {
    const Communicator c = all(world);
    const Tensor turned = input_of(world.rank(), {3, 4}, Dtype::f32).transpose(0, 1);
    const auto values = doubles_of(c.all_gather(turned));
    CHECK(cut(values, {8, 3}, 0, 4, 4) == doubles_of(input_of(1, {3, 4}, Dtype::f32).transpose(0, 1)));
    CHECK(contains(error_of([&] { c.all_reduce_(turned).wait(); }), "all_reduce_: the tensor is not row-major (shape [4, 3], strides [1, 4])"));
  });
}

TEST_CASE("arguments that are wrong on their face are refused and change nothing") {
  run_ranks({.ranks = 2}, [](World& world) {
    const Communicator c = all(world);
    const Tensor t = input_of(0, {4}, Dtype::f32);
    CHECK(error_of([&] { c.all_gather(t, 1); }).find("all_gather: ") == 0);
    CHECK(error_of([&] { c.all_gather(t, 0, {.sizes = {4}}); }) ==
          "all_gather: one size per member (1 sizes, 2 members); give as many as the group has");
    CHECK(error_of([&] {
            c.reduce_scatter(t, ReduceOp::sum, 0, {.sizes = {1, 2}});
          }) == "reduce_scatter: sizes do not add up to the dimension ([1, 2] is 3, the dimension has 4); correct the sizes");
    CHECK(error_of([&] { c.broadcast(t, 2); }) == "broadcast: there is no root 2 in a group of 2; members are 0 to 1");
    CHECK(error_of([&] { c.all_reduce(Tensor()); }) == "all_reduce: the tensor is empty; pass one with a shape and a dtype");
    CHECK(error_of([&] { c.all_gather(Tensor::zeros({}, Dtype::f32)); }) ==
          "all_gather: a tensor without dimensions cannot be cut or joined (f32[]); use view({1})");
    CHECK(world.any(true));
  });
}
