// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <filesystem>
#include <map>
#include <set>

#include <nlohmann/json.hpp>

#include "base/error_text.h"
#include "base/rank.h"
#include "checkpoint/agree.h"
#include "checkpoint/boxes.h"
#include "checkpoint/files.h"
#include "checkpoint/safetensors.h"
#include "dtensor/autograd.h"
#include "tensor/impl.h"
#include "tensor/move_ops.h"

namespace dtensor {
namespace checkpoints {
namespace {

constexpr std::int64_t kMaxFile = std::int64_t{4} << 30;

struct Group {
  std::string name;
  std::vector<const StateDict::TensorEntry*> entries;
  std::vector<DTensor> values;
  std::vector<StoredTensor> stored;            // as entries
  std::map<std::string, std::string> headers;  // by file name
  std::map<std::string, std::int64_t> sizes;
};

// Files of one group: tensors in order, a new file when the last one is full. The same on every rank.
void lay_out(Group& group, const std::string& folder) {
  std::vector<std::vector<std::size_t>> files(1);
  std::int64_t bytes = 0;
  for (std::size_t i = 0; i < group.entries.size(); ++i) {
    const std::int64_t n = group.values[i].numel() * info(group.values[i].dtype()).bytes;
    if (bytes > 0 && bytes + n > kMaxFile) {
      files.emplace_back();
      bytes = 0;
    }
    files.back().push_back(i);
    bytes += n;
  }
  group.stored.resize(group.entries.size());
  for (std::size_t k = 0; k < files.size(); ++k) {
    const std::string name = fmt::format("{}-{:05}-of-{:05}.safetensors", group.name, k + 1, files.size());
    std::vector<StoredTensor> tensors;
    for (std::size_t i : files[k])
      tensors.push_back({.name = group.entries[i]->name,
                         .file = (std::filesystem::path(folder) / name).string(),
                         .dtype = group.values[i].dtype(),
                         .shape = group.values[i].shape()});
    group.headers[tensors.empty() ? (std::filesystem::path(folder) / name).string() : tensors[0].file] = make_header(tensors);
    for (std::size_t j = 0; j < files[k].size(); ++j) group.stored[files[k][j]] = tensors[j];
    const std::string file = (std::filesystem::path(folder) / name).string();
    group.sizes[file] = tensors.empty() ? static_cast<std::int64_t>(group.headers[file].size()) : tensors.back().end;
  }
}

std::vector<Group> groups_of(const StateDict& state) {
  std::vector<Group> groups;
  std::set<std::pair<std::string, std::string>> names;
  const NoGrad off;
  for (const StateDict::TensorEntry& e : state.tensors()) {
    if (!names.insert({e.group, e.name}).second)
      base::fail<InvalidArgument>("save_checkpoint: the name '{}' is given twice under '{}'; choose another key", e.name, e.group);
    auto it = std::find_if(groups.begin(), groups.end(), [&](const Group& g) { return g.name == e.group; });
    if (it == groups.end()) {
      it = groups.insert(groups.end(), Group{});
      it->name = e.group;
    }
    DTensor value = e.get();
    if (!value) base::fail<InvalidArgument>("save_checkpoint: '{}' is an empty tensor; assign it first", e.name);
    if (value.device().kind == DeviceKind::meta)
      base::fail<InvalidArgument>("save_checkpoint: '{}' is on the meta device; materialize it first", e.name);
    value = value.detach();
    if (value.impl()->spec->layout->has_partial()) value = tensor::redistribute_to(value, tensor::without_partial(value.impl()->spec->layout));
    it->entries.push_back(&e);
    it->values.push_back(value);
  }
  return groups;
}

// Rank 0 makes all files in full size with their headers.
void make_files(const std::vector<Group>& groups, const StateDict& state, const std::string& staging) {
  for (const Group& g : groups) {
    for (const auto& [file, header] : g.headers) {
      if (before_step != nullptr) before_step("header");
      const File f = File::create(file);
      f.set_size(g.sizes.at(file));
      f.write(0, header.data(), static_cast<std::int64_t>(header.size()));
    }
    write_text((std::filesystem::path(staging) / (g.name + ".safetensors.index.json")).string(), make_index(g.stored));
  }
  nlohmann::ordered_json numbers = nlohmann::ordered_json::object();
  for (const auto& n : state.numbers()) {
    if (n.integer) numbers[n.name] = n.get_integer();
    else numbers[n.name] = n.get();
  }
  write_text((std::filesystem::path(staging) / "state.json").string(), numbers.dump(2) + "\n");
}

void write_own(const DTensor& value, const StoredTensor& stored) {
  const tensor::Spec& spec = *value.impl()->spec;
  if (!spec.inside || !is_writer(*spec.layout, spec.coordinates)) return;
  const Tensor local = value.local().to(Device::cpu()).contiguous();
  const std::int64_t bytes = info(spec.dtype).bytes;
  const File file = File::open_to_write(stored.file);
  const auto* data = static_cast<const char*>(local.read());
  if (before_step != nullptr) before_step("data");
  for (const Segment& s : segments(*spec.layout, spec.shape, spec.coordinates))
    file.write(stored.begin + s.whole * bytes, data + s.local * bytes, s.length * bytes);
  file.sync();
}

}  // namespace
}  // namespace checkpoints

void save_checkpoint(const std::string& directory, const StateDict& state) {
  using namespace checkpoints;
  const bool first = base::require_rank("save_checkpoint").rank == 0;
  const std::string clean = std::filesystem::path(directory).lexically_normal().string();
  std::string staging;
  std::vector<Group> groups;
  together("save_checkpoint", [&] { groups = groups_of(state); });
  together("save_checkpoint", [&] {
    std::string target = clean;
    while (target.size() > 1 && target.back() == '/') target.pop_back();
    staging = first ? make_staging(directory) : target + ".saving";
    for (Group& g : groups) lay_out(g, staging);
    if (first) make_files(groups, state, staging);
  });
  together("save_checkpoint", [&] {
    for (const Group& g : groups)
      for (std::size_t i = 0; i < g.values.size(); ++i) write_own(g.values[i], g.stored[i]);
  });
  together("save_checkpoint", [&] {
    if (first) publish(staging);
  });
}

}  // namespace dtensor
