// SPDX-License-Identifier: Apache-2.0
// Save on one mesh, load on another; refusals that change nothing; a writer that dies at any step.
#include <doctest/doctest.h>

#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include "checkpoint/files.h"
#include "dtensor/dtensor.h"

using namespace dtensor;
namespace fs = std::filesystem;

namespace {

class Folder {
 public:
  Folder() {
    static int number = 0;
    path_ = fs::temp_directory_path() / ("dtensor_checkpoint_" + std::to_string(::getpid()) + "_" + std::to_string(number++));
    fs::create_directories(path_);
  }
  ~Folder() { fs::remove_all(path_); }
  Folder(const Folder&) = delete;
  std::string operator/(const std::string& name) const { return (path_ / name).string(); }

 private:
  fs::path path_;
};

struct Laid {
  std::vector<int> sizes;
  std::string placements;
};
// Meshes and placements of the same matrix: uneven, orders of splits, strided, ragged, joint.
const std::vector<Laid> kPlaces{{{1}, "{}"},
                                {{2}, "{dp: S(0)}"},
                                {{3}, "{dp: S(1)}"},
                                {{4}, "{dp: S(0)}"},
                                {{3}, "{dp: SS(0, 2)}"},
                                {{2}, "{dp: Ragged(0, 5 2)}"},
                                {{2, 2}, "{dp: S(0), tp: S(1)}"},
                                {{2, 2}, "{tp: S(0), dp: S(0)}"},
                                {{2, 2}, "{dp: S(0), tp: S(0)}"},
                                {{2, 3}, "{tp: S(1)}"},
                                {{2, 2}, "{dp+tp: Ragged(1, 0 3 1 1)}"}};
constexpr std::int64_t kRows = 7, kColumns = 5;

DeviceMesh mesh_of(const World& world, const std::vector<int>& sizes) {
  static constexpr std::string_view kNames[] = {"dp", "tp"};
  std::vector<MeshAxis> axes;
  for (std::size_t i = 0; i < sizes.size(); ++i) axes.push_back({kNames[i], sizes[i]});
  return world.mesh(std::span<const MeshAxis>(axes));
}
int ranks_of(const std::vector<int>& sizes) {
  int n = 1;
  for (int k : sizes) n *= k;
  return n;
}
Tensor matrix(Dtype dtype, double offset = 0) {
  std::vector<double> values(kRows * kColumns);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<double>(i) * 1.37 - 9 + offset;
  return Tensor::of(values, {kRows, kColumns}).to(dtype);
}
bool same_bytes(const Tensor& a, const Tensor& b) {
  const Tensor x = a.contiguous(), y = b.contiguous();
  return x.shape() == y.shape() && x.dtype() == y.dtype() && std::memcmp(x.read(), y.read(), static_cast<std::size_t>(x.bytes())) == 0;
}
void save(const Laid& place, const std::string& directory, double offset = 0, std::int64_t step = 3) {
  run_ranks({.ranks = ranks_of(place.sizes)}, [&](World& world) {
    const DeviceMesh mesh = mesh_of(world, place.sizes);
    DTensor w = distribute(matrix(Dtype::f32, offset), mesh, Placements::parse(place.placements)),
            h = distribute(matrix(Dtype::bf16, offset), mesh, Placements::parse(place.placements));
    std::int64_t number = step;
    Generator generator(17);
    StateDict state;
    save_checkpoint(directory, state.add("w", w).add("h", h).add("step", number).add("rng", generator));
  });
}
// What a load on `place` gives; throws what it throws.
void load_and_compare(const Laid& place, const std::string& directory, double offset = 0, std::int64_t step = 3) {
  run_ranks({.ranks = ranks_of(place.sizes)}, [&](World& world) {
    const DeviceMesh mesh = mesh_of(world, place.sizes);
    const Placements placements = Placements::parse(place.placements);
    DTensor w = zeros({kRows, kColumns}, mesh, placements), h = zeros({kRows, kColumns}, mesh, placements, {.dtype = Dtype::bf16});
    std::int64_t number = 0;
    Generator generator;
    StateDict state;
    load_checkpoint(directory, state.add("w", w).add("h", h).add("step", number).add("rng", generator));
    CHECK(same_bytes(w.full_tensor().local(), matrix(Dtype::f32, offset)));
    CHECK(same_bytes(h.full_tensor().local(), matrix(Dtype::bf16, offset)));
    CHECK(number == step);
    CHECK(generator.seed() == 17);
  });
}
// The text with which a load of `directory` is refused on 2 ranks; nothing has changed and the world goes on.
std::string refusal(const std::string& directory, const std::function<void(StateDict&, DTensor&, const DeviceMesh&)>& more = {}) {
  std::vector<std::string> texts(2);
  run_ranks({.ranks = 2}, [&](World& world) {
    const DeviceMesh mesh = mesh_of(world, {2});
    DTensor w = full({kRows, kColumns}, 4, mesh, {Shard(0)}), h = full({kRows, kColumns}, 4, mesh, {Shard(0)}, {.dtype = Dtype::bf16}), other;
    std::int64_t number = -1;
    StateDict state;
    state.add("w", w).add("h", h).add("step", number);
    if (more) more(state, other, mesh);
    try {
      load_checkpoint(directory, state);
      texts[static_cast<std::size_t>(world.rank())] = "loaded";
    } catch (const InvalidArgument& e) {
      texts[static_cast<std::size_t>(world.rank())] = e.what();
      CHECK(number == -1);
      CHECK(sum(w).item() == 4 * kRows * kColumns);
    }
  });
  CHECK(texts[0] == texts[1]);
  return texts[0];
}
std::string file_with(const std::string& directory, const std::string& ending) {
  for (const auto& e : fs::directory_iterator(directory))
    if (e.path().string().ends_with(ending)) return e.path().string();
  return {};
}

}  // namespace

TEST_CASE("what one mesh saved every other loads bit for bit") {
  const Folder folder;
  for (std::size_t i = 0; i < kPlaces.size(); ++i) save(kPlaces[i], folder / std::to_string(i));
  for (std::size_t i = 0; i < kPlaces.size(); ++i) {
    for (const Laid& to : kPlaces) {
      INFO("saved as " << kPlaces[i].placements << ", loaded as " << to.placements);
      load_and_compare(to, folder / std::to_string(i));
    }
  }
}

TEST_CASE("the files do not depend on the mesh that wrote them") {
  const Folder folder;
  const auto bytes = [&](const Laid& place) {
    save(place, folder / "x");
    std::ifstream in(file_with(folder / "x", ".safetensors"), std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(in), {});
  };
  const std::string one = bytes(kPlaces[0]);
  CHECK(one.size() > kRows * kColumns * 6);
  CHECK(bytes(kPlaces[6]) == one);
  CHECK(bytes(kPlaces[7]) == one);
}

TEST_CASE("a Partial tensor is reduced before it is saved") {
  const Folder folder;
  run_ranks({.ranks = 2}, [&](World& world) {
    const DeviceMesh mesh = mesh_of(world, {2});
    DTensor p = full({3}, 2, mesh, {}).redistribute({Partial()});
    p = add(p, p);
    StateDict state;
    save_checkpoint(folder / "p", state.add("p", p));
  });
  const auto stored = list_checkpoint(folder / "p");
  REQUIRE(stored.size() == 1);
  CHECK(read_tensor(stored[0]).values<const float>()[2] == 4);
}

TEST_CASE("a checkpoint that does not fit is refused on every rank and changes nothing") {
  const Folder folder;
  save(kPlaces[1], folder / "good");
  CHECK(refusal(folder / "good") == "loaded");
  CHECK(refusal(folder / "none").find("checkpoint: ") != std::string::npos);
  CHECK(refusal(folder / "good", [](StateDict& s, DTensor& other, const DeviceMesh& mesh) {
          other = zeros({2}, mesh, {});
          s.add("other", other);
        }).find("lacks tensor 'other'; it was saved from another model") != std::string::npos);
  const auto broken = [&](const std::function<void(const std::string&)>& damage) {
    fs::remove_all(folder / "bad");
    fs::copy(folder / "good", folder / "bad");
    damage(folder / "bad");
    return refusal(folder / "bad");
  };
  CHECK(broken([](const std::string& d) {
          const std::string file = file_with(d, ".safetensors");
          fs::resize_file(file, fs::file_size(file) - 6);
        }).find("data_offsets [") != std::string::npos);
  CHECK(broken([](const std::string& d) { fs::resize_file(file_with(d, ".safetensors"), 5); }).find("truncated (5 bytes") != std::string::npos);
  CHECK(broken([](const std::string& d) { fs::remove(file_with(d, ".safetensors")); }).find("is missing; ") != std::string::npos);
  CHECK(broken([](const std::string& d) { fs::remove(d + "/state.json"); }).find("state.json") != std::string::npos);
  CHECK(broken([](const std::string& d) { std::ofstream(d + "/state.json") << "[]"; }).find("is no JSON object") != std::string::npos);
}

TEST_CASE("a tensor of another shape or dtype is refused with both") {
  const Folder folder;
  run_ranks({.ranks = 2}, [&](World& world) {
    const DeviceMesh mesh = mesh_of(world, {2});
    DTensor w = zeros({4}, mesh, {Shard(0)});
    StateDict state;
    save_checkpoint(folder / "x", state.add("w", w));
    DTensor longer = zeros({6}, mesh, {Shard(0)}), wider = zeros({4}, mesh, {Shard(0)}, {.dtype = Dtype::f64});
    StateDict a, b;
    a.add("w", longer);
    b.add("w", wider);
    CHECK_THROWS_WITH_AS(load_checkpoint(folder / "x", a), doctest::Contains("tensor 'w' is f32[4], f32[6]{dp: S(0)} is expected"), InvalidArgument);
    CHECK_THROWS_WITH_AS(load_checkpoint(folder / "x", b), doctest::Contains("tensor 'w' is f32[4], f64[4]{dp: S(0)} is expected"), InvalidArgument);
  });
}

TEST_CASE("a name given twice is refused before anything is written") {
  const Folder folder;
  run_ranks({.ranks = 2}, [&](World& world) {
    DTensor w = zeros({4}, mesh_of(world, {2}), {Shard(0)});
    StateDict state;
    state.add("w", w).add("w", w);
    CHECK_THROWS_WITH_AS(save_checkpoint(folder / "x", state), doctest::Contains("save_checkpoint: the name 'w' is given twice"), InvalidArgument);
  });
  CHECK_FALSE(fs::exists(folder / "x"));
}

namespace {
int steps_seen = 0, die_at = 0;
void count_and_die(const char*) {
  if (++steps_seen == die_at) std::_Exit(9);
}
}  // namespace

TEST_CASE("a writer that dies at any step leaves the old checkpoint or the new one") {
  const Folder folder;
  const Laid place = kPlaces[0];
  // One rank, so that the writer is one process and its steps have one order.
  save(place, folder / "x", 0, 1);
  int step = 1, finished = 0, old = 0, fresh = 0;
  for (; finished == 0 && step < 100; ++step) {
    const pid_t child = ::fork();
    if (child == 0) {
      steps_seen = 0;
      die_at = step;
      checkpoints::before_step = count_and_die;
      save(place, folder / "x", 100, 2);
      std::_Exit(0);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    REQUIRE(WIFEXITED(status));
    if (WEXITSTATUS(status) == 0) ++finished;
    else REQUIRE(WEXITSTATUS(status) == 9);
    INFO("died at step " << step);
    std::int64_t found = 0;
    run_ranks({.ranks = 1}, [&](World& world) {
      DTensor w = zeros({kRows, kColumns}, mesh_of(world, {1}), {});
      std::int64_t number = 0;
      StateDict state;
      load_checkpoint(folder / "x", state.add("w", w).add("step", number));
      found = number;
    });
    REQUIRE((found == 1 || found == 2));
    load_and_compare(place, folder / "x", found == 1 ? 0 : 100, found);
    ++(found == 1 ? old : fresh);
    save(place, folder / "x", 0, 1);
  }
  CHECK(finished == 1);
  CHECK(old > 3);
  CHECK(fresh >= 2);
}

TEST_CASE("a crash leaves nothing that a later save stumbles over") {
  const Folder folder;
  fs::create_directories(folder / "x.saving");
  std::ofstream(folder / "x.saving/junk") << "junk";
  save(kPlaces[1], folder / "x");
  CHECK_FALSE(fs::exists(folder / "x.saving"));
  CHECK_FALSE(fs::exists(folder / "x/junk"));
  load_and_compare(kPlaces[0], folder / "x");
}
