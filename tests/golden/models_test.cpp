// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <mutex>
#include <string>
#include <vector>

#include <dtensor/dtensor.h>

#include "check_model.h"

namespace {

using namespace dtensor;
namespace fs = std::filesystem;

std::vector<std::string> model_folders() {
  const char* other = std::getenv("DTENSOR_GOLDEN");
  const fs::path root = fs::path(other != nullptr && *other != '\0' ? other : DTENSOR_GOLDEN_DIR) / "models";
  std::vector<std::string> folders;
  if (fs::is_directory(root))
    for (const auto& entry : fs::directory_iterator(root))
      if (fs::exists(entry.path() / "expected.json")) folders.push_back(entry.path().string());
  std::sort(folders.begin(), folders.end());
  return folders;
}

// Checks every folder on the mesh; each deviation is a failure.
void check_all(std::initializer_list<MeshAxis> axes, int ranks, bool sequence_parallel) {
  for (const std::string& folder : model_folders()) {
    std::vector<std::string> wrong;
    run_ranks({.ranks = ranks}, [&](World& world) {
      const auto found = golden::check_model({folder, sequence_parallel}, world.mesh(axes));
      if (world.rank() == 0) wrong = found;
    });
    INFO(folder);
    for (const std::string& text : wrong) FAIL_CHECK(text);
    CHECK(wrong.empty());
  }
}

}  // namespace

TEST_CASE("golden models are there") { CHECK(!model_folders().empty()); }
TEST_CASE("golden models on one rank") { check_all({{"dp", 1}}, 1, false); }
TEST_CASE("golden models on tp 2") { check_all({{"tp", 2}}, 2, false); }
TEST_CASE("golden models on tp 3") { check_all({{"tp", 3}}, 3, false); }
TEST_CASE("golden models on tp 4") { check_all({{"tp", 4}}, 4, false); }
TEST_CASE("golden models on tp 2 with sequence parallelism") { check_all({{"tp", 2}}, 2, true); }
TEST_CASE("golden models on tp 3 with sequence parallelism") { check_all({{"tp", 3}}, 3, true); }
TEST_CASE("golden models on tp 4 with sequence parallelism") { check_all({{"tp", 4}}, 4, true); }
TEST_CASE("golden models on dp 2") { check_all({{"dp", 2}}, 2, false); }
TEST_CASE("golden models on dp 3, which does not divide the batch") { check_all({{"dp", 3}}, 3, false); }
TEST_CASE("golden models on dp 2 x tp 2") { check_all({{"dp", 2}, {"tp", 2}}, 4, false); }
TEST_CASE("golden models on dp 2 x tp 2 with sequence parallelism") { check_all({{"dp", 2}, {"tp", 2}}, 4, true); }
TEST_CASE("golden models on dp 2 x tp 3") { check_all({{"dp", 2}, {"tp", 3}}, 6, false); }
TEST_CASE("golden models on dp 2 x tp 3 with sequence parallelism") { check_all({{"dp", 2}, {"tp", 3}}, 6, true); }
