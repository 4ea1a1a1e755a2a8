// SPDX-License-Identifier: Apache-2.0
// What stands in the place of NCCL finds what members do not do alike.
#include "comm/nccl/recorder.h"

#include <doctest/doctest.h>

#include <functional>

#include "cuda/emulator.h"

namespace nccl = dtensor::comm::nccl;
namespace recorded = nccl::recorded;
namespace cuda = dtensor::local::cuda;

namespace {

using nccl::Type;

struct Members {
  std::vector<nccl::Comm> comms;
  std::vector<nccl::Stream> streams;
  std::vector<float*> memory;

  explicit Members(int size) {
    cuda::emulated::set_devices(size, 1 << 20);
    nccl::UniqueId id{};
    nccl::make_unique_id(id);
    for (int m = 0; m < size; ++m) {
      nccl::init(comms.emplace_back(), size, id, m, "members");
      streams.push_back(cuda::make_stream(m));
      memory.push_back(static_cast<float*>(cuda::device_malloc(m, 64 * sizeof(float))));
    }
    recorded::taken_mismatches();
  }
  void send(int m, int peer, std::size_t count = 1) const { nccl::send(memory[at(m)], count, Type::f32, peer, comms[at(m)], streams[at(m)]); }
  void receive(int m, int peer, std::size_t count = 1) const {
    nccl::receive(memory[at(m)] + 32, count, Type::f32, peer, comms[at(m)], streams[at(m)]);
  }
  void gather(int m, std::size_t count = 1) const {
    nccl::all_gather(memory[at(m)], memory[at(m)] + 32, count, Type::f32, comms[at(m)], streams[at(m)]);
  }
  void finish() const {
    for (nccl::Stream s : streams) cuda::host_waits_for_stream(s);
  }
  static std::size_t at(int m) { return static_cast<std::size_t>(m); }
};

void grouped(const std::function<void()>& calls) {
  nccl::group_start();
  calls();
  nccl::group_end();
}
using Texts = std::vector<std::string>;

}  // namespace

TEST_CASE("groups of sends and receives that match in one way on all members are no mismatch") {
  const Members all(3);
  for (int m = 0; m < 3; ++m)
    grouped([&] {
      for (int p = 0; p < 3; ++p) {
        if (p == m) continue;
        all.send(m, p);
        all.receive(m, p);
      }
    });
  // Member 2 has nothing to do with this one.
  grouped([&] { all.send(0, 1); });
  grouped([&] { all.receive(1, 0); });
  for (int m = 0; m < 3; ++m)
    grouped([&] {
      all.gather(m);
      all.gather(m, 2);
    });
  all.finish();
  CHECK(recorded::taken_mismatches().empty());
}

TEST_CASE("sends and receives that are one group of one member and two of another are a mismatch") {
  const Members all(2);
  grouped([&] {
    all.send(0, 1);
    all.receive(0, 1);
  });
  grouped([&] { all.receive(1, 0); });
  CHECK(recorded::taken_mismatches().empty());
  grouped([&] { all.send(1, 0); });
  all.finish();
  CHECK(recorded::taken_mismatches() == Texts{"members: member 1 has in groups 0 and 1 what is one group of others"});
}

TEST_CASE("a chain of members whose groups meet in two ways is a mismatch, whoever comes last") {
  const Members all(3);
  grouped([&] { all.send(0, 1); });
  grouped([&] { all.receive(0, 2); });
  grouped([&] {
    all.receive(1, 0);
    all.send(1, 2);
  });
  CHECK(recorded::taken_mismatches().empty());
  grouped([&] {
    all.receive(2, 1);
    all.send(2, 0);
  });
  all.finish();
  CHECK(recorded::taken_mismatches() == Texts{"members: member 0 has in groups 0 and 1 what is one group of others"});
}

TEST_CASE("collectives that are grouped on one member alone are a mismatch") {
  const Members all(2);
  grouped([&] {
    all.gather(0);
    all.gather(0, 2);
  });
  all.gather(1);
  all.gather(1, 2);
  all.finish();
  CHECK(recorded::taken_mismatches() == Texts{"members: member 1 has in groups 0 and 1 what is one group of others"});
}

TEST_CASE("counts that differ are a mismatch") {
  const Members all(2);
  all.gather(0, 3);
  all.gather(1, 4);
  CHECK(recorded::taken_mismatches() == Texts{"members: member 1 AllGather 4 f32, member 0 AllGather 3 f32"});
  const Members pair(2);
  pair.send(0, 1, 3);
  pair.receive(1, 0, 2);
  pair.finish();
  CHECK(recorded::taken_mismatches() == Texts{"members: member 0 Send 3 f32 to 1, member 1 Recv 2 f32 from 0"});
}
