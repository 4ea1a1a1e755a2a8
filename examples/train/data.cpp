// SPDX-License-Identifier: Apache-2.0
#include "train/data.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

#include "models/causal_lm.h"

namespace train {

using namespace dtensor;
namespace fs = std::filesystem;

namespace {

std::string read_file(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw InvalidArgument("--data: cannot read " + path.string());
  return {std::istreambuf_iterator<char>(in), {}};
}

std::string read_folders(const std::vector<fs::path>& folders) {
  std::vector<fs::path> files;
  for (const fs::path& folder : folders)
    for (const auto& entry : fs::recursive_directory_iterator(folder)) {
      const std::string suffix = entry.path().extension().string();
      if (entry.is_regular_file() && (suffix == ".h" || suffix == ".cpp" || suffix == ".md" || suffix == ".txt" || suffix == ".py"))
        files.push_back(entry.path());
    }
  std::sort(files.begin(), files.end());
  std::string text;
  for (const fs::path& file : files) text += read_file(file);
  return text;
}

std::string read_text(const std::string& path) {
  if (path.empty()) {
    const fs::path root = TRAIN_SOURCE_DIR;
    if (!fs::is_directory(root / "include")) throw InvalidArgument("--data: the source text is no longer at " + root.string() + "; give --data FILE");
    return read_folders({root / "include", root / "mesh", root / "ops", root / "placements", root / "src"});
  }
  if (fs::is_directory(path)) return read_folders({path});
  return read_file(path);
}

std::uint64_t mix(std::uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return z ^ (z >> 31);
}

}  // namespace

Corpus::Corpus(const std::string& path, std::int64_t batch, std::int64_t sequence, std::uint64_t seed)
    : text_(read_text(path)), batch_(batch), sequence_(sequence), split_(bytes() * 9 / 10), seed_(seed) {
  if (bytes() < 20 * (sequence + 1))
    throw InvalidArgument("--data: " + std::to_string(bytes()) + " bytes are too few for sequences of " + std::to_string(sequence) +
                          "; give more text or a smaller --seq");
}

Batch Corpus::windows(const std::vector<std::int64_t>& starts, const DeviceMesh& mesh) const {
  std::vector<std::int64_t> inputs, targets;
  for (const std::int64_t start : starts)
    for (std::int64_t i = 0; i < sequence_; ++i) {
      inputs.push_back(static_cast<unsigned char>(text_[static_cast<std::size_t>(start + i)]));
      targets.push_back(static_cast<unsigned char>(text_[static_cast<std::size_t>(start + i + 1)]));
    }
  const Shape shape{static_cast<std::int64_t>(starts.size()), sequence_};
  const Placements rows = models::has_axis(mesh, "dp") ? Placements{{"dp", Shard(0)}} : Placements();
  const DistributeOptions own_copy{.source = Source::every_rank};
  return {distribute(Tensor::of(inputs, shape), mesh, rows, own_copy), distribute(Tensor::of(targets, shape), mesh, rows, own_copy)};
}

Batch Corpus::training(std::int64_t position, const DeviceMesh& mesh) const {
  std::vector<std::int64_t> starts;
  for (std::int64_t row = 0; row < batch_; ++row) {
    const std::uint64_t number =
        mix(mix(mix(seed_ + 0x9e3779b97f4a7c15ull) + static_cast<std::uint64_t>(position)) + static_cast<std::uint64_t>(row));
    starts.push_back(static_cast<std::int64_t>(number % static_cast<std::uint64_t>(split_ - sequence_)));
  }
  return windows(starts, mesh);
}

Batch Corpus::validation(std::int64_t index, std::int64_t count, const DeviceMesh& mesh) const {
  std::vector<std::int64_t> starts;
  const std::int64_t room = bytes() - split_ - sequence_ - 1, windows_in_all = count * batch_;
  for (std::int64_t row = 0; row < batch_; ++row) starts.push_back(split_ + room * (index * batch_ + row) / windows_in_all);
  return windows(starts, mesh);
}

}  // namespace train
