// SPDX-License-Identifier: Apache-2.0
#include "local/cuda/toolkit/cudnn_graph.h"

#include <algorithm>

#include "local/cuda/launched.h"

namespace dtensor::local::cuda {

void require(cudnnStatus_t status, const char* what) {
  if (status != CUDNN_STATUS_SUCCESS) throw CudnnFailure{status, what};
}
void fail_cudnn(const CudnnFailure& failure) { fail_device(failure.what, std::string("cuDNN: ") + cudnn_functions().error_text(failure.status)); }

CudnnDescriptor::CudnnDescriptor(cudnnBackendDescriptorType_t type) { require(cudnn_functions().create_descriptor(type, &raw_), "cuDNN descriptor"); }
CudnnDescriptor::~CudnnDescriptor() {
  if (raw_ != nullptr) static_cast<void>(cudnn_functions().destroy_descriptor(raw_));
}
CudnnDescriptor& CudnnDescriptor::set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, std::int64_t count, const void* values) {
  require(cudnn_functions().set(raw_, name, type, count, values), "cuDNN attribute");
  return *this;
}
CudnnDescriptor& CudnnDescriptor::finalize() {
  require(cudnn_functions().finalize(raw_), "cuDNN descriptor");
  return *this;
}

CudnnLibrary::CudnnLibrary() : device(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR) {
  require(cudnn_functions().create(&handle), "cuDNN");
  device.set(CUDNN_ATTR_DEVICEPROP_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle).finalize();
}
CudnnLibrary::CudnnLibrary(const std::string& properties) : device(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR) {
  device.set(CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, static_cast<std::int64_t>(properties.size()), properties.data()).finalize();
}
CudnnLibrary::~CudnnLibrary() {
  if (handle != nullptr) static_cast<void>(cudnn_functions().destroy(handle));
}
std::shared_ptr<CudnnLibrary> make_cudnn_library() try { return std::make_shared<CudnnLibrary>(); } catch (const CudnnFailure&) {
  return nullptr;
}
std::shared_ptr<CudnnLibrary> make_cudnn_library(const std::string& properties) try {
  return std::make_shared<CudnnLibrary>(properties);
} catch (const CudnnFailure&) { return nullptr; }

cudnnDataType_t cudnn_type(Dtype dtype) {
  switch (dtype) {
    case Dtype::f64:
      return CUDNN_DATA_DOUBLE;
    case Dtype::bf16:
      return CUDNN_DATA_BFLOAT16;
    case Dtype::f16:
      return CUDNN_DATA_HALF;
    default:
      return CUDNN_DATA_FLOAT;
  }
}
std::vector<std::int64_t> row_major(const std::vector<std::int64_t>& sizes) {
  std::vector<std::int64_t> strides(sizes.size(), 1);
  for (std::size_t d = sizes.size(); d-- > 1;) strides[d - 1] = strides[d] * sizes[d];
  return strides;
}

std::size_t CudnnGraph::tensor(const CudnnTensor& t) {
  CudnnDescriptor d(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  d.set(CUDNN_ATTR_TENSOR_UNIQUE_ID, t.number != 0 ? t.number : ++inner_).set(CUDNN_ATTR_TENSOR_DATA_TYPE, t.type);
  d.set(CUDNN_ATTR_TENSOR_DIMENSIONS, t.sizes).set(CUDNN_ATTR_TENSOR_STRIDES, t.strides).set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, t.alignment);
  d.set(CUDNN_ATTR_TENSOR_IS_VIRTUAL, t.number == 0).set(CUDNN_ATTR_TENSOR_IS_BY_VALUE, t.by_value);
  tensors_.push_back(std::move(d.finalize()));
  return tensors_.size() - 1;
}
std::size_t CudnnGraph::inner(const std::vector<std::int64_t>& sizes, cudnnDataType_t type) {
  return tensor({.type = type, .sizes = sizes, .strides = row_major(sizes)});
}

void CudnnGraph::pointwise(cudnnPointwiseMode_t mode, cudnnDataType_t type, std::initializer_list<std::size_t> operands, std::size_t result,
                           std::optional<std::int64_t> axis) {
  CudnnDescriptor rule(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
  rule.set(CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode).set(CUDNN_ATTR_POINTWISE_MATH_PREC, type);
  if (axis) rule.set(CUDNN_ATTR_POINTWISE_AXIS, *axis);
  rule.finalize();
  CudnnDescriptor operation(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
  operation.set(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, rule);
  constexpr cudnnBackendAttributeName_t kOperands[] = {CUDNN_ATTR_OPERATION_POINTWISE_XDESC, CUDNN_ATTR_OPERATION_POINTWISE_BDESC,
                                                       CUDNN_ATTR_OPERATION_POINTWISE_TDESC};
  std::size_t i = 0;
  for (std::size_t operand : operands) operation.set(kOperands[i++], at(operand));
  operation.set(CUDNN_ATTR_OPERATION_POINTWISE_YDESC, at(result));
  add(std::move(operation));
}

void CudnnGraph::product(std::size_t a, std::size_t b, std::size_t result) {
  CudnnDescriptor rule(CUDNN_BACKEND_MATMUL_DESCRIPTOR), operation(CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR);
  rule.set(CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_DATA_FLOAT).finalize();
  operation.set(CUDNN_ATTR_OPERATION_MATMUL_ADESC, at(a)).set(CUDNN_ATTR_OPERATION_MATMUL_BDESC, at(b));
  operation.set(CUDNN_ATTR_OPERATION_MATMUL_CDESC, at(result)).set(CUDNN_ATTR_OPERATION_MATMUL_DESC, rule);
  add(std::move(operation));
}
void CudnnGraph::reduce(cudnnReduceTensorOp_t by, std::size_t operand, std::size_t result) {
  CudnnDescriptor rule(CUDNN_BACKEND_REDUCTION_DESCRIPTOR), operation(CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR);
  rule.set(CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE, 1, &by)
      .set(CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_DATA_FLOAT)
      .finalize();
  operation.set(CUDNN_ATTR_OPERATION_REDUCTION_XDESC, at(operand)).set(CUDNN_ATTR_OPERATION_REDUCTION_YDESC, at(result));
  operation.set(CUDNN_ATTR_OPERATION_REDUCTION_DESC, rule);
  add(std::move(operation));
}

CudnnDescriptor CudnnGraph::finalized() const {
  std::vector<cudnnBackendDescriptor_t> list;
  for (const CudnnDescriptor& operation : operations_) list.push_back(operation.raw());
  CudnnDescriptor graph(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
  graph.set(CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, static_cast<std::int64_t>(list.size()), list.data());
  return std::move(graph.finalize());
}

namespace {

constexpr std::int64_t kMostConfigurations = 64;

std::vector<CudnnDescriptor> configurations(const CudnnLibrary& library, const CudnnDescriptor& graph, cudnnBackendHeurMode_t mode) {
  CudnnDescriptor rules(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
  rules.set(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph).set(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
  rules.set(CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, library.device).finalize();
  std::vector<CudnnDescriptor> list;
  std::vector<cudnnBackendDescriptor_t> raw;
  std::int64_t count = 0;
  require(cudnn_functions().get(rules.raw(), CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, &count, nullptr), "cuDNN algorithm");
  for (std::int64_t i = 0; i < std::min(count, kMostConfigurations); ++i) raw.push_back(list.emplace_back(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR).raw());
  require(cudnn_functions().get(rules.raw(), CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, static_cast<std::int64_t>(raw.size()),
                                &count, raw.data()),
          "cuDNN algorithm");
  list.erase(list.begin() + std::min<std::int64_t>(count, static_cast<std::int64_t>(list.size())), list.end());
  return list;
}

struct Engine {
  std::int64_t number = 0;
  CudnnNotes notes;
};
Engine engine_of(const CudnnDescriptor& configuration) {
  const CudnnDescriptor engine(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
  cudnnBackendDescriptor_t raw = engine.raw();
  std::int64_t count = 0;
  const CudnnFunctions& f = cudnn_functions();
  require(f.get(configuration.raw(), CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &count, &raw), "cuDNN engine");
  Engine result{.notes = CudnnNotes(CUDNN_NUMERICAL_NOTE_TYPE_COUNT)};
  require(f.get(raw, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &count, &result.number), "cuDNN engine");
  require(f.get(raw, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE, CUDNN_NUMERICAL_NOTE_TYPE_COUNT, &count, result.notes.data()),
          "cuDNN engine");
  result.notes.resize(static_cast<std::size_t>(count));
  return result;
}
bool has_one_of(const CudnnNotes& notes, const CudnnNotes& of) {
  return std::find_first_of(notes.begin(), notes.end(), of.begin(), of.end()) != notes.end();
}

std::shared_ptr<CudnnPlan> plan_of(const CudnnLibrary& library, const CudnnDescriptor& configuration, std::size_t workspace) {
  auto plan = std::make_shared<CudnnPlan>(CudnnDescriptor(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR));
  plan->descriptor.set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, configuration).set(CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, library.device).finalize();
  std::int64_t bytes = 0, count = 0;
  require(cudnn_functions().get(plan->descriptor.raw(), CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &count, &bytes), "cuDNN plan");
  if (static_cast<std::size_t>(bytes) > workspace) return nullptr;
  plan->workspace = static_cast<std::size_t>(bytes);
  return plan;
}

}  // namespace

std::shared_ptr<const CudnnPlan> choose_plan(CudnnLibrary& library, const CudnnGraph& graph, const CudnnNotes& without, std::size_t workspace) {
  const CudnnDescriptor finalized = graph.finalized();
  for (cudnnBackendHeurMode_t mode : {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK}) {
    std::vector<CudnnDescriptor> list;
    try {
      list = configurations(library, finalized, mode);
    } catch (const CudnnFailure&) {
      continue;  // these rules know no engine for the graph
    }
    for (const CudnnDescriptor& configuration : list) try {
        const Engine engine = engine_of(configuration);
        if (has_one_of(engine.notes, without)) continue;
        if (auto plan = plan_of(library, configuration, workspace)) {
          plan->text = "engine " + std::to_string(engine.number);
          return plan;
        }
      } catch (const CudnnFailure&) {
        continue;  // the engine does not take this graph after all
      }
  }
  return nullptr;
}

std::size_t workspace_of(const CudnnPlan& plan) noexcept { return plan.workspace; }
std::string description_of(const CudnnPlan& plan) { return plan.text; }

bool run_plan(CudnnLibrary& library, const CudnnPlan& plan, std::span<const CudnnMemory> memory, void* workspace, Stream stream) try {
  std::vector<std::int64_t> numbers;
  std::vector<const void*> addresses;
  for (const CudnnMemory& m : memory) {
    numbers.push_back(m.number);
    addresses.push_back(m.address);
  }
  CudnnDescriptor pack(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
  pack.set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, numbers);
  pack.set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, static_cast<std::int64_t>(addresses.size()), addresses.data());
  pack.set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace).finalize();
  const std::lock_guard lock(library.mutex);
  require(cudnn_functions().set_stream(library.handle, static_cast<cudaStream_t>(stream)), "cuDNN stream");
  const cudnnStatus_t status = cudnn_functions().execute(library.handle, plan.descriptor.raw(), pack.raw());
  if (CUDNN_STATUS_CATEGORY(status) == CUDNN_STATUS_NOT_SUPPORTED) return false;
  require(status, "cuDNN call");
  return true;
} catch (const CudnnFailure& failure) { fail_cudnn(failure); }

}  // namespace dtensor::local::cuda
