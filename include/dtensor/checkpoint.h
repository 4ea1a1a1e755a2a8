// SPDX-License-Identifier: Apache-2.0
// Checkpoints in safetensors files with Hugging Face's index. Whole tensors on disk, so any mesh reads what any other wrote; each rank writes and reads only its
// own bytes. A crash at any point leaves the old checkpoint or the new one.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "dtensor/distributed_tensor.h"
#include "dtensor/export.h"
#include "dtensor/generator.h"
#include "dtensor/nn.h"
#include "dtensor/optim.h"

namespace dtensor {

/// Names -> handles and addresses; copies nothing. What is added must outlive the StateDict.
class DTENSOR_EXPORT StateDict {
 public:
  StateDict& add(std::string_view key, nn::ModuleBase& module);
  StateDict& add(std::string_view key, optim::Optimizer& optimizer);
  StateDict& add(std::string_view key, Generator& generator);
  StateDict& add(std::string_view key, std::int64_t& number);
  StateDict& add(std::string_view key, double& number);
  StateDict& add(std::string_view key, DTensor& tensor);

  struct TensorEntry {
    std::string group;  ///< key under which it was added: names the files
    std::string name;   ///< within the group
    std::function<DTensor()> get;
    std::function<void(const DTensor&)> set;
  };
  struct NumberEntry {
    std::string name;
    std::function<double()> get;
    std::function<void(double)> set;
    bool integer = true;
    std::function<std::int64_t()> get_integer;
    std::function<void(std::int64_t)> set_integer;
  };
  const std::vector<TensorEntry>& tensors() const noexcept { return tensors_; }
  const std::vector<NumberEntry>& numbers() const noexcept { return numbers_; }

 private:
  void number(std::string name, std::function<std::int64_t()> get, std::function<void(std::int64_t)> set);
  std::vector<TensorEntry> tensors_;
  std::vector<NumberEntry> numbers_;
};

/// Collective over the world. `directory` is one that every rank sees. Durable on return on every rank. A Partial tensor is reduced first.
/// @throws InvalidArgument for a directory that cannot be made, a name twice.
DTENSOR_EXPORT void save_checkpoint(const std::string& directory, const StateDict& state);
/// Collective over the world. Writes into what `state` names, by the placements of the running program. All headers, names, shapes and dtypes are checked first:
/// a damaged or unfitting checkpoint is an InvalidArgument on every rank, naming file and tensor, and nothing has changed.
DTENSOR_EXPORT void load_checkpoint(const std::string& directory, const StateDict& state);
/// Collective over the world. Parameters of `module` by name from a .safetensors file or a folder of Hugging Face's form. Names in the file that the module
/// lacks are ignored; the reverse is an error.
DTENSOR_EXPORT void load_weights(nn::ModuleBase& module, const std::string& path);

/// One tensor of a file on disk.
struct StoredTensor {
  std::string name, file;
  Dtype dtype = Dtype::f32;
  Shape shape;
  std::int64_t begin = 0, end = 0;  ///< bytes in the file
};
/// Local. What a file or folder holds, checked as load does. @throws InvalidArgument naming file and tensor.
DTENSOR_EXPORT std::vector<StoredTensor> list_checkpoint(const std::string& path);
/// Local. One whole tensor.
DTENSOR_EXPORT Tensor read_tensor(const StoredTensor& stored);
/// Local. Writes tensors into one safetensors file, by name. Atomic.
DTENSOR_EXPORT void write_safetensors(const std::string& file, const std::vector<std::pair<std::string, Tensor>>& tensors);
/// Local. Copies a checkpoint with files of at most `max_bytes` of data each.
DTENSOR_EXPORT void reshard_checkpoint(const std::string& from, const std::string& to, std::int64_t max_bytes);

}  // namespace dtensor
