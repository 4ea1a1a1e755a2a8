// SPDX-License-Identifier: Apache-2.0
// CudaGraph: what a rank queues on its device - a whole training step with its collectives, say - recorded once and then queued again with one call, without
// the host's part of it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "dtensor/export.h"
#include "dtensor/generator.h"
#include "dtensor/values.h"

namespace dtensor {

namespace local {
class DeviceGraph;
}

struct CudaGraphOptions {
  /// Besides the default one: generators that the body draws from. They live as long as the graph.
  std::vector<Generator*> generators;
};

/// A recorded body. Law: k replays leave what k calls of the body would have left, bit for bit, in tensors that were there before and in results that the
/// body stored outside of itself (of these the last replay's), and the generators where the calls would have left them.
///
/// What a replay repeats is what was queued, with the same addresses and host values; so the law asks of the body that
/// * every call queues the same. What only the first call does (plans, communicators, the state of optimisers, tensors that stop to share memory) is done
///   before: call the body once or twice;
/// * values pass from call to call in place (copy_, add_, an optimiser's step), not by assigning a variable anew: replays read the tensor that it held.
///   Gradients are as they were at the end of the body: zero_grad() in it;
/// * numbers that differ from call to call are tensors (an optimiser that is capturable keeps its rate and step count so). Random calls differ as they
///   should: replays carry the generators on.
///
/// Tensors that were made before and are used inside must stay alive while replays are queued; what the body itself lets go of them is kept by the graph.
/// Tensors made inside are the graph's: they keep its memory, each replay writes them again, and nothing they need is saved from that. Of the host, the body
/// runs once: version counters, tape nodes, counters and prints are those of one call.
///
/// A recording refuses, and leaves the rank as it was: what makes the host wait (item, values, copies to the CPU, barriers), copies from memory of the CPU
/// that is not pinned, ops whose result's shape depends on data, collectives among ranks that are threads, another recording inside. Copies from and to
/// pinned tensors are made again by each replay; the program sees to it that nobody writes or reads these meanwhile (Stream::synchronize, Event).
/// Streams take part from when they wait for the current one (StreamScope, Stream::wait), which has to wait for them before the body ends; those of
/// communicators do so by themselves. A graph with collectives ends before its world. All ranks of a mesh record, and replay, alike; what a peer does not join, no time limit finds in a replay.
class DTENSOR_EXPORT CudaGraph {
 public:
  /// Holds nothing.
  CudaGraph() noexcept;
  /// Runs the body on the host, once; nothing of it runs on the device. Whatever the body throws is thrown on.
  /// @throws InvalidArgument for a device that is no CUDA device, inside another recording, for what is refused above; Unsupported in a build without CUDA,
  /// with DTENSOR_CUDA_SYNC=1, for an op whose shape depends on data and a collective of threads; DeviceError for a device that the machine lacks.
  static CudaGraph record(Device device, const std::function<void()>& body, const CudaGraphOptions& options = {});
  CudaGraph(CudaGraph&&) noexcept;
  CudaGraph& operator=(CudaGraph&&) noexcept;
  /// The host waits until replays are done.
  ~CudaGraph();
  explicit operator bool() const noexcept { return graph_ != nullptr; }
  /// Queues all on the rank's current stream, after what communicators have in flight. The host does not wait: what kernels find wrong (an index out of
  /// range) is thrown at a later call for the device, as without a graph. On the rank that recorded. @throws InvalidArgument when it holds nothing.
  void replay();
  /// Kernels, copies and fills of a replay.
  std::int64_t nodes() const noexcept;
  /// Memory of the device and pinned memory of the host that is the graph's own.
  std::int64_t bytes() const noexcept;

 private:
  explicit CudaGraph(std::unique_ptr<local::DeviceGraph> graph) noexcept;
  std::unique_ptr<local::DeviceGraph> graph_;
};

}  // namespace dtensor
