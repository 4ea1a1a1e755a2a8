// SPDX-License-Identifier: Apache-2.0
// Writing without a world: one file of tensors, a checkpoint cut into other files.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <map>
#include <set>

#include "base/error_text.h"
#include "checkpoint/files.h"
#include "checkpoint/safetensors.h"

namespace dtensor {

namespace fs = std::filesystem;

void write_safetensors(const std::string& file, const std::vector<std::pair<std::string, Tensor>>& tensors) {
  std::vector<StoredTensor> stored;
  std::set<std::string> names;
  for (const auto& [name, t] : tensors) {
    if (!names.insert(name).second) base::fail<InvalidArgument>("write_safetensors: tensor '{}' is given twice", name);
    stored.push_back({.name = name, .file = file, .dtype = t.dtype(), .shape = t.shape()});
  }
  const std::string header = checkpoints::make_header(stored), staging = file + ".saving";
  {
    const auto out = checkpoints::File::create(staging);
    out.write(0, header.data(), static_cast<std::int64_t>(header.size()));
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      const Tensor t = tensors[i].second.to(Device::cpu()).contiguous();
      if (t.numel() > 0) out.write(stored[i].begin, t.read(), t.bytes());
    }
    out.sync();
  }
  if (std::rename(staging.c_str(), file.c_str()) != 0) base::fail<InvalidArgument>("write_safetensors: cannot rename {} to {}", staging, file);
  checkpoints::sync_directory(fs::path(file).parent_path().string());
}

void reshard_checkpoint(const std::string& from, const std::string& to, std::int64_t max_bytes) {
  if (max_bytes < 1) base::fail<InvalidArgument>("reshard_checkpoint: max_bytes is {}; give a positive number", max_bytes);
  const auto all = list_checkpoint(from);
  std::map<std::string, std::vector<StoredTensor>> groups;
  for (const StoredTensor& t : all) {
    const std::string name = fs::path(t.file).filename().string();
    groups[name.substr(0, std::min(name.find("-0"), name.find(".safetensors")))].push_back(t);
  }
  const std::string staging = checkpoints::make_staging(to);
  for (const auto& [group, tensors] : groups) {
    std::vector<std::vector<StoredTensor>> files(1);
    std::int64_t bytes = 0;
    for (const StoredTensor& t : tensors) {
      if (bytes > 0 && bytes + t.end - t.begin > max_bytes) {
        files.emplace_back();
        bytes = 0;
      }
      files.back().push_back(t);
      bytes += t.end - t.begin;
    }
    std::vector<StoredTensor> index;
    for (std::size_t k = 0; k < files.size(); ++k) {
      const std::string file = (fs::path(staging) / fmt::format("{}-{:05}-of-{:05}.safetensors", group, k + 1, files.size())).string();
      std::vector<std::pair<std::string, Tensor>> values;
      for (StoredTensor t : files[k]) {
        values.emplace_back(t.name, read_tensor(t));
        t.file = file;
        index.push_back(t);
      }
      write_safetensors(file, values);
    }
    checkpoints::write_text((fs::path(staging) / (group + ".safetensors.index.json")).string(), checkpoints::make_index(index));
  }
  if (fs::is_directory(from) && fs::exists(fs::path(from) / "state.json"))
    fs::copy_file(fs::path(from) / "state.json", fs::path(staging) / "state.json");
  checkpoints::publish(staging);
}

}  // namespace dtensor
