// SPDX-License-Identifier: Apache-2.0
#include <filesystem>
#include <fstream>
#include <map>

#include <nlohmann/json.hpp>

#include "base/error_text.h"
#include "base/rank.h"
#include "checkpoint/agree.h"
#include "checkpoint/boxes.h"
#include "checkpoint/files.h"
#include "checkpoint/safetensors.h"
#include "dtensor/autograd.h"
#include "tensor/impl.h"

namespace dtensor {
namespace checkpoints {
namespace {

using Index = std::map<std::string, StoredTensor>;

Index index_of(std::vector<StoredTensor> list) {
  Index index;
  for (StoredTensor& t : list) index.emplace(t.name, std::move(t));
  return index;
}

const StoredTensor& find(const Index& index, const std::string& path, const std::string& name) {
  const auto it = index.find(name);
  if (it == index.end()) base::fail<InvalidArgument>("checkpoint: {} lacks tensor '{}'; it was saved from another model", path, name);
  return it->second;
}

struct Job {
  const StateDict::TensorEntry* entry;
  DTensor target;
  StoredTensor stored;
};

Job check(const StateDict::TensorEntry& entry, const StoredTensor& stored) {
  DTensor target = entry.get();
  if (!target) base::fail<InvalidArgument>("checkpoint: '{}' is an empty tensor here; give it a shape and placements first", entry.name);
  if (target.impl()->spec->layout->has_partial())
    base::fail<InvalidArgument>("checkpoint: '{}' is {} here; a file holds no Partial tensors, redistribute it first", entry.name, to_string(target));
  if (target.shape() != stored.shape || target.dtype() != stored.dtype)
    base::fail<InvalidArgument>("checkpoint: {}: tensor '{}' is {}{}, {} is expected; it was saved from another model", stored.file, stored.name,
                                info(stored.dtype).name, to_string(stored.shape), to_string(target));
  return {&entry, target, stored};
}

// Reads this rank's bytes only. A tensor on meta gets its memory here; another keeps its own.
void read_own(const Job& job) {
  const tensor::Spec& spec = *job.target.impl()->spec;
  const bool meta = spec.device.kind == DeviceKind::meta;
  const Device device = meta ? base::require_rank("load_checkpoint").device : spec.device;
  Tensor fresh = Tensor::empty(spec.local_shape, spec.dtype, Device::cpu());
  if (spec.inside && fresh.numel() > 0) {
    const std::int64_t bytes = info(spec.dtype).bytes;
    const File file = File::open_to_read(job.stored.file);
    auto* data = static_cast<char*>(fresh.data());
    for (const Segment& s : segments(*spec.layout, spec.shape, spec.coordinates))
      file.read(job.stored.begin + s.whole * bytes, data + s.local * bytes, s.length * bytes);
  }
  if (meta) {
    job.entry->set(tensor::make_dtensor(tensor::intern_spec(spec.mesh, spec.layout, spec.shape, spec.dtype, device), fresh.to(device)));
  } else if (spec.inside) {
    job.target.local().copy_(fresh);
  }
}

nlohmann::json read_numbers(const std::string& path) {
  const std::string file = (std::filesystem::path(path) / "state.json").string();
  std::ifstream in(file);
  if (!in) base::fail<InvalidArgument>("checkpoint: cannot read {}; give a folder that save_checkpoint wrote", file);
  nlohmann::json json = nlohmann::json::parse(in, nullptr, false);
  if (!json.is_object()) base::fail<InvalidArgument>("checkpoint: {} is no JSON object; the file is damaged, restore it", file);
  return json;
}

void run(const std::vector<Job>& jobs) {
  const NoGrad off;
  together("load_checkpoint", [&] {
    for (const Job& job : jobs) read_own(job);
  });
}

}  // namespace
}  // namespace checkpoints

void load_checkpoint(const std::string& directory, const StateDict& state) {
  using namespace checkpoints;
  const std::string path = resolve(directory);
  std::vector<Job> jobs;
  nlohmann::json numbers = nlohmann::json::object();
  together("load_checkpoint", [&] {
    std::map<std::string, Index> groups;
    for (const auto& e : state.tensors()) {
      if (!groups.contains(e.group)) groups[e.group] = index_of(list_group(path, e.group));
      jobs.push_back(check(e, find(groups[e.group], path, e.name)));
    }
    if (!state.numbers().empty()) numbers = read_numbers(path);
    for (const auto& n : state.numbers())
      if (!numbers.contains(n.name) || !numbers[n.name].is_number())
        base::fail<InvalidArgument>("checkpoint: {}/state.json lacks number '{}'", path, n.name);
  });
  run(jobs);
  for (const auto& n : state.numbers()) {
    if (n.integer) n.set_integer(numbers[n.name].get<std::int64_t>());
    else n.set(numbers[n.name].get<double>());
  }
}

void load_weights(nn::ModuleBase& module, const std::string& path) {
  using namespace checkpoints;
  StateDict state;
  state.add("model", module);
  std::vector<Job> jobs;
  together("load_weights", [&] {
    const Index index = index_of(list_group(path, "model"));
    for (const auto& e : state.tensors()) jobs.push_back(check(e, find(index, path, e.name)));
  });
  run(jobs);
}

std::vector<StoredTensor> list_checkpoint(const std::string& path) {
  namespace fs = std::filesystem;
  const std::string resolved = checkpoints::resolve(path);
  if (!fs::exists(resolved)) base::fail<InvalidArgument>("checkpoint: {} does not exist; give a folder or a .safetensors file", path);
  if (fs::is_regular_file(resolved)) return checkpoints::read_header(resolved);
  std::vector<std::string> groups;
  for (const auto& entry : fs::directory_iterator(resolved)) {
    const std::string name = entry.path().filename().string();
    constexpr std::string_view kIndex = ".safetensors.index.json";
    if (name.ends_with(kIndex)) groups.push_back(name.substr(0, name.size() - kIndex.size()));
  }
  std::sort(groups.begin(), groups.end());
  if (groups.empty()) groups.emplace_back("model");
  std::vector<StoredTensor> all;
  for (const std::string& g : groups)
    for (StoredTensor& t : checkpoints::list_group(resolved, g)) all.push_back(std::move(t));
  return all;
}

Tensor read_tensor(const StoredTensor& stored) {
  Tensor t = Tensor::empty(stored.shape, stored.dtype);
  if (t.numel() > 0) checkpoints::File::open_to_read(stored.file).read(stored.begin, t.data(), stored.end - stored.begin);
  return t;
}

}  // namespace dtensor
