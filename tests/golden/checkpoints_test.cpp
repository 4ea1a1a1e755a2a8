// SPDX-License-Identifier: Apache-2.0
// Checkpoints that another program wrote, bit for bit against the same tensors in one file. The folder comes from DTENSOR_GOLDEN when set.
#include <doctest/doctest.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <map>
#include <string>
#include <vector>

#include "dtensor/dtensor.h"

using namespace dtensor;
namespace fs = std::filesystem;

namespace {

fs::path folder() {
  const char* given = std::getenv("DTENSOR_GOLDEN");
  if (given != nullptr && *given != '\0') return fs::path(given) / "checkpoints";
  return fs::path(DTENSOR_SOURCE_DIR) / "tests/golden/checkpoints";
}

std::map<std::string, StoredTensor> by_name(const std::string& path) {
  std::map<std::string, StoredTensor> map;
  for (const StoredTensor& t : list_checkpoint(path)) map.emplace(t.name, t);
  return map;
}

bool same_bytes(const Tensor& a, const Tensor& b) {
  const Tensor x = a.contiguous(), y = b.contiguous();
  return x.shape() == y.shape() && x.dtype() == y.dtype() && std::memcmp(x.read(), y.read(), static_cast<std::size_t>(x.bytes())) == 0;
}

// A model with the parameters of a file, whatever they are.
struct Model : nn::ModuleBase {
  std::map<std::string, nn::Parameter> members;
  void fields(nn::Fields& f) override {
    for (auto& [name, parameter] : members) f(name, parameter);
  }
};

Placement sharded(const Shape& shape, std::size_t turn) {
  if (shape.empty() || turn % 3 == 2) return Replicate();
  return Shard(static_cast<int>(turn % 3) % shape.ndim());
}

void check_folder(const fs::path& path) {
  const auto stored = by_name(path.string());
  const auto whole = by_name((path / "full.safetensors").string());
  REQUIRE(!whole.empty());
  CHECK(stored.size() == whole.size());
  std::size_t files = 0;
  std::map<std::string, int> seen;
  for (const auto& [name, t] : whole) {
    INFO(name);
    REQUIRE(stored.contains(name));
    CHECK(same_bytes(read_tensor(stored.at(name)), read_tensor(t)));
    files += static_cast<std::size_t>(seen[stored.at(name).file]++ == 0);
  }
  CHECK(files > 1);
  for (const int ranks : {1, 2, 3, 4}) {
    run_ranks({.ranks = ranks}, [&](World& world) {
      const DeviceMesh mesh = world.mesh({{"tp", ranks}});
      Model model;
      std::size_t turn = 0;
      for (const auto& [name, t] : whole) {
        model.members[name] = nn::Parameter(t.shape, mesh, {}, t.dtype);
        model.members[name].place({sharded(t.shape, turn++)});
      }
      load_weights(model, path.string());
      for (const auto& [name, t] : whole) {
        INFO(name << " on " << ranks << " as " << to_string(model.members[name].value()));
        CHECK(same_bytes(model.members[name].value().detach().full_tensor().local(), read_tensor(t)));
      }
    });
  }
}

}  // namespace

TEST_CASE("a sharded checkpoint of Hugging Face's form equals the same tensors in one file, on 1 to 4 ranks") {
  int checked = 0;
  REQUIRE_MESSAGE(fs::is_directory(folder()), folder().string());
  for (const auto& entry : fs::directory_iterator(folder())) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("dcp_") && entry.is_directory()) {
      std::cout << name << ": PyTorch's distributed checkpoints are not read by this version, not checked\n";
      continue;
    }
    if (!entry.is_directory() || !fs::exists(entry.path() / "full.safetensors")) continue;
    INFO(name);
    check_folder(entry.path());
    ++checked;
  }
  CHECK(checked > 0);
}
