// SPDX-License-Identifier: Apache-2.0
// cuDNN's graphs of operations: descriptors, and the choice of an algorithm. Only cudnn_*.cpp include this.
//
// The graph interface and not the older one of convolutions: engines say there whether they are deterministic and what they round, plans can be made for a
// device that is not there, and attention has no other.
#pragma once

#include <cudnn.h>

#include <cstdint>
#include <initializer_list>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "local/cuda/toolkit/cudnn.h"

namespace dtensor::local::cuda {

/// The library's functions; those of a library that could not be loaded are null.
struct CudnnFunctions {
  decltype(&cudnnGetVersion) version = nullptr;
  decltype(&cudnnGetErrorString) error_text = nullptr;
  decltype(&cudnnCreate) create = nullptr;
  decltype(&cudnnDestroy) destroy = nullptr;
  decltype(&cudnnSetStream) set_stream = nullptr;
  decltype(&cudnnBackendCreateDescriptor) create_descriptor = nullptr;
  decltype(&cudnnBackendDestroyDescriptor) destroy_descriptor = nullptr;
  decltype(&cudnnBackendSetAttribute) set = nullptr;
  decltype(&cudnnBackendGetAttribute) get = nullptr;
  decltype(&cudnnBackendFinalize) finalize = nullptr;
  decltype(&cudnnBackendExecute) execute = nullptr;
};
const CudnnFunctions& cudnn_functions();

/// What the library answered when it was not success.
struct CudnnFailure {
  cudnnStatus_t status;
  const char* what;
};
/// @throws CudnnFailure
void require(cudnnStatus_t status, const char* what);
/// The same as a DeviceError.
[[noreturn]] void fail_cudnn(const CudnnFailure& failure);

class CudnnDescriptor {
 public:
  explicit CudnnDescriptor(cudnnBackendDescriptorType_t type);
  CudnnDescriptor(CudnnDescriptor&& other) noexcept : raw_(std::exchange(other.raw_, nullptr)) {}
  CudnnDescriptor& operator=(CudnnDescriptor&& other) noexcept {
    std::swap(raw_, other.raw_);
    return *this;
  }
  ~CudnnDescriptor();
  cudnnBackendDescriptor_t raw() const noexcept { return raw_; }

  CudnnDescriptor& set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, std::int64_t count, const void* values);
  CudnnDescriptor& set(cudnnBackendAttributeName_t name, std::int64_t value) { return set(name, CUDNN_TYPE_INT64, 1, &value); }
  CudnnDescriptor& set(cudnnBackendAttributeName_t name, bool value) { return set(name, CUDNN_TYPE_BOOLEAN, 1, &value); }
  CudnnDescriptor& set(cudnnBackendAttributeName_t name, cudnnDataType_t value) { return set(name, CUDNN_TYPE_DATA_TYPE, 1, &value); }
  CudnnDescriptor& set(cudnnBackendAttributeName_t name, std::span<const std::int64_t> values) {
    return set(name, CUDNN_TYPE_INT64, static_cast<std::int64_t>(values.size()), values.data());
  }
  CudnnDescriptor& set(cudnnBackendAttributeName_t name, const CudnnDescriptor& value) {
    return set(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value.raw_);
  }
  CudnnDescriptor& finalize();

 private:
  cudnnBackendDescriptor_t raw_ = nullptr;
};

class CudnnLibrary {
 public:
  CudnnLibrary();
  explicit CudnnLibrary(const std::string& properties);
  CudnnLibrary(const CudnnLibrary&) = delete;
  ~CudnnLibrary();

  cudnnHandle_t handle = nullptr;
  CudnnDescriptor device;
  std::mutex mutex;  // a handle has one stream
};

/// A tensor of a graph; those without a number live only inside it.
struct CudnnTensor {
  std::int64_t number = 0;  ///< names its memory
  cudnnDataType_t type = CUDNN_DATA_FLOAT;
  std::vector<std::int64_t> sizes{}, strides{};
  std::int64_t alignment = 16;
  bool by_value = false;  ///< on the host
};
cudnnDataType_t cudnn_type(Dtype dtype);
std::vector<std::int64_t> row_major(const std::vector<std::int64_t>& sizes);

/// Operations as they are added, in their order.
class CudnnGraph {
 public:
  /// The number of the tensor in the graph.
  std::size_t tensor(const CudnnTensor& t);
  /// A new tensor inside the graph.
  std::size_t inner(const std::vector<std::int64_t>& sizes, cudnnDataType_t type = CUDNN_DATA_FLOAT);
  const CudnnDescriptor& at(std::size_t tensor) const { return tensors_[tensor]; }
  /// Finalizes it.
  void add(CudnnDescriptor operation) {
    operation.finalize();
    operations_.push_back(std::move(operation));
  }
  void pointwise(cudnnPointwiseMode_t mode, cudnnDataType_t type, std::initializer_list<std::size_t> operands, std::size_t result,
                 std::optional<std::int64_t> axis = {});
  void product(std::size_t a, std::size_t b, std::size_t result);
  /// Over the dims in which the result has size 1.
  void reduce(cudnnReduceTensorOp_t by, std::size_t operand, std::size_t result);
  CudnnDescriptor finalized() const;

 private:
  std::vector<CudnnDescriptor> tensors_, operations_;
  std::int64_t inner_ = std::int64_t{1} << 32;  // numbers of tensors inside
};

/// Notes of engines that must not be chosen.
using CudnnNotes = std::vector<cudnnBackendNumericalNote_t>;

class CudnnPlan {
 public:
  explicit CudnnPlan(CudnnDescriptor d) : descriptor(std::move(d)) {}
  CudnnDescriptor descriptor;
  std::size_t workspace = 0;
  std::string text;
};
/// The first engine, by cuDNN's rules, without these notes and within `workspace` bytes that can be finalized. Null: none.
std::shared_ptr<const CudnnPlan> choose_plan(CudnnLibrary& library, const CudnnGraph& graph, const CudnnNotes& without, std::size_t workspace);

struct CudnnMemory {
  std::int64_t number;
  const void* address;
};
/// False: the call is refused as one that is not supported.
bool run_plan(CudnnLibrary& library, const CudnnPlan& plan, std::span<const CudnnMemory> memory, void* workspace, Stream stream);

}  // namespace dtensor::local::cuda
