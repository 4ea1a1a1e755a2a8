// SPDX-License-Identifier: Apache-2.0
// Golden models on a device, alone and on ranks that share it: loss, gradients, training and text as on the CPU.
#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "dtensor/dtensor.h"
#include "golden/check_model.h"

using namespace dtensor;

namespace {

// Emulated devices are slow: two steps of training unless DTENSOR_GOLDEN_STEPS says how many, 0 for all.
std::int64_t steps() {
  const char* given = std::getenv("DTENSOR_GOLDEN_STEPS");
  return given != nullptr ? std::atoll(given) : 2;
}

void check_all(std::initializer_list<MeshAxis> axes, int ranks, bool sequence_parallel = false, bool replayed = false) {
  int found = 0;
  const char* other = std::getenv("DTENSOR_GOLDEN");
  const std::filesystem::path folder = other != nullptr ? other : DTENSOR_GOLDEN_DIR;
  for (const auto& entry : std::filesystem::directory_iterator(folder / "models")) {
    if (!std::filesystem::exists(entry.path() / "expected.json")) continue;
    ++found;
    std::vector<std::string> wrong;
    run_ranks({.ranks = ranks, .device = Device::cuda(0), .threads_per_rank = 1}, [&](World& world) {
      const auto faults = golden::check_model({entry.path().string(), sequence_parallel, replayed && steps() != 0 ? steps() + 1 : steps(), replayed},
                                              world.mesh(axes));
      if (world.rank() == 0) wrong = faults;
    });
    INFO(entry.path().string());
    for (const std::string& text : wrong) FAIL_CHECK(text);
  }
  CHECK(found > 0);
}

}  // namespace

TEST_CASE("golden models on a device and one rank") { check_all({{"dp", 1}}, 1); }
TEST_CASE("golden models on a device whose training steps are replayed") { check_all({{"dp", 1}}, 1, false, true); }
TEST_CASE("golden models on a device and tp 2") { check_all({{"tp", 2}}, 2); }
TEST_CASE("golden models on a device and dp 2") { check_all({{"dp", 2}}, 2); }
TEST_CASE("golden models on a device and dp 2 x tp 2 with sequence parallelism") { check_all({{"dp", 2}, {"tp", 2}}, 4, true); }
