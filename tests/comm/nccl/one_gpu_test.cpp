// SPDX-License-Identifier: Apache-2.0
// Processes that share a GPU, started as the tests on a device start them: what they are given, and what they say when NCCL refuses them.
#include <dlfcn.h>
#include <doctest/doctest.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "comm/expected.h"
#include "comm/nccl/nccl_api.h"
#include "dtensor/world.h"
#include "gpu/one_gpu.h"

using namespace dtensor;
using namespace dtensor::testing;

namespace {

// NCCL finds, on a thread of its own, that another rank has the GPU.
void refuse() {
  REQUIRE(comm::nccl::library().why_not == "");
  void* const library = dlopen(DTENSOR_NCCL_RECORDING, RTLD_NOW | RTLD_NOLOAD);
  REQUIRE(library != nullptr);
  const auto answers = reinterpret_cast<void (*)(int, int, const char*)>(dlsym(library, "recorded_answers"));
  REQUIRE((answers != nullptr));
  answers(0, 5, "Duplicate GPU detected : rank 0 and rank 1 both on CUDA device 18000\n");
}

}  // namespace

TEST_CASE("a rank is refused" * doctest::skip()) {
  refuse();
  std::printf("host %s of %s\n", std::getenv("NCCL_HOSTID"), std::getenv("CUDA_VISIBLE_DEVICES"));
  char name[] = "rank";
  char* arguments[] = {name, nullptr};
  CHECK(run(1, arguments, [](World& world) { world.barrier(); }) == 0);
}

TEST_CASE("processes whose GPU another has end with the ways out, and each had a host of its own") {
  setenv("DTENSOR_NCCL_LIBRARY", DTENSOR_NCCL_RECORDING, 1);
  setenv("CUDA_VISIBLE_DEVICES", "5,6", 1);
  setenv("NCCL_HOSTID", "one for all", 1);
  const Processes ended = run_processes(2, "a rank is refused", 60);
  REQUIRE(ended.texts.size() == 2);
  for (int rank = 0; rank < 2; ++rank) {
    const std::string& text = ended.texts[static_cast<std::size_t>(rank)];
    INFO(text);
    CHECK(ended.codes[static_cast<std::size_t>(rank)] == 1);
    CHECK(contains(text, "host rank" + std::to_string(rank) + " of 5\n"));
  }
  CHECK(contains(ended.refusal(),
                 "both on CUDA device 18000; ranks that share a GPU are threads without --backend nccl, or processes that were started with "
                 "an NCCL_HOSTID each (rank "));
}

TEST_CASE("a process that does not end is ended at the time limit, and one that ends well has refused nothing") {
  const Processes slow = run_processes(1, "a rank sleeps", 0.3);
  CHECK(slow.codes == std::vector<int>{-1});
  const Processes good = run_processes(1, "there is no such case", 60);
  CHECK(good.codes == std::vector<int>{0});
  CHECK(good.refusal() == "");
}

TEST_CASE("a rank sleeps" * doctest::skip()) { std::this_thread::sleep_for(std::chrono::minutes(1)); }
