// SPDX-License-Identifier: Apache-2.0
#include "dtensor/cuda_graph.h"

#include <utility>

#include "base/error_text.h"
#include "local/device.h"

namespace dtensor {

CudaGraph::CudaGraph() noexcept = default;
CudaGraph::CudaGraph(std::unique_ptr<local::DeviceGraph> graph) noexcept : graph_(std::move(graph)) {}
CudaGraph::CudaGraph(CudaGraph&&) noexcept = default;
CudaGraph& CudaGraph::operator=(CudaGraph&&) noexcept = default;
CudaGraph::~CudaGraph() = default;

CudaGraph CudaGraph::record(Device device, const std::function<void()>& body, const CudaGraphOptions& options) {
  if (device.kind != DeviceKind::cuda)
    base::fail<InvalidArgument>("CudaGraph::record: {} records no graphs; call the body itself there, or give a CUDA device, as Device::cuda(0)",
                                to_string(device));
  local::DeviceBackend* backend = local::cuda_backend();
  if (backend == nullptr)
    base::fail<Unsupported>("CudaGraph::record: this build has no CUDA; call the body itself on Device::cpu(), or build with DTENSOR_CUDA");
  if (!body) base::fail<InvalidArgument>("CudaGraph::record: the body is empty; give a function");
  backend->check(device);
  std::vector<Generator*> generators{&default_generator()};
  generators.insert(generators.end(), options.generators.begin(), options.generators.end());
  return CudaGraph(backend->record_graph(device, generators, body));
}

void CudaGraph::replay() {
  if (graph_ == nullptr) base::fail<InvalidArgument>("CudaGraph::replay: there is nothing to replay; record first");
  graph_->replay();
}
std::int64_t CudaGraph::nodes() const noexcept { return graph_ == nullptr ? 0 : graph_->nodes(); }
std::int64_t CudaGraph::bytes() const noexcept { return graph_ == nullptr ? 0 : graph_->bytes(); }

}  // namespace dtensor
