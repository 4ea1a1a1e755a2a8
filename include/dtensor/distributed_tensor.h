// SPDX-License-Identifier: Apache-2.0
// DTensor: a tensor sharded over a mesh; the one differentiable type. A handle: copies share value and gradient.
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "dtensor/export.h"
#include "dtensor/mesh.h"
#include "dtensor/placement.h"
#include "dtensor/tensor.h"
#include "dtensor/values.h"

namespace dtensor {

namespace tensor {
class Impl;
struct Spec;
}  // namespace tensor

struct LocalOptions {
  std::optional<Placements> grad_placements =
      {};  ///< of the gradient that comes back; default: the forward placements, Partial turned into Replicate
};
struct BackwardOptions {
  bool retain_graph = false;
  bool create_graph = false;
};
struct RedistributeOptions {
  std::optional<DeviceMesh> mesh = {};                           ///< another mesh of the same world
  std::optional<Dtype> forward_dtype = {}, backward_dtype = {};  ///< cast before the collective, forward and backward
  std::int64_t memory_limit = 0;                                 ///< bytes; 0: none beyond the rule of docs/redistribution.md
};
struct TensorOptions {
  Dtype dtype = Dtype::f32;
  std::optional<Device> device = {};
  bool requires_grad = false;
};

class DTensor;
/// Removes a hook when destroyed or told to; dropping it keeps the hook.
using GradientHook = std::function<DTensor(const DTensor&)>;

class DTENSOR_EXPORT DTensor {
 public:
  /// No tensor: false.
  DTensor() noexcept = default;
  DTensor(const DTensor&) noexcept;
  DTensor(DTensor&& other) noexcept : impl_(std::exchange(other.impl_, nullptr)) {}
  DTensor& operator=(DTensor other) noexcept {
    std::swap(impl_, other.impl_);
    return *this;
  }
  ~DTensor();
  explicit operator bool() const noexcept { return impl_ != nullptr; }

  // Local: metadata. @throws InvalidArgument on an empty handle.
  const DeviceMesh& mesh() const;
  const Placements& placements() const;
  /// Global shape.
  const Shape& shape() const;
  int ndim() const { return shape().ndim(); }
  std::int64_t size(int dim) const;
  std::int64_t numel() const { return shape().numel(); }
  Dtype dtype() const;
  Device device() const;

  /// Local. Waits; this rank's memory itself, outside differentiation. Empty on ranks outside the mesh.
  Tensor local() const;
  /// Collective over the mesh. Starts at once, is waited for at first use. A value: no write to the source shows in the result or the reverse.
  /// Differentiable: the gradient comes back once to this tensor's placements, Partial turned into Replicate.
  DTensor redistribute(const Placements& placements, const RedistributeOptions& options = {}) const;
  /// Local. This rank's part as a DTensor on DeviceMesh::self(), sharing memory; differentiable.
  DTensor to_local(const LocalOptions& options = {}) const;
  /// Collective. redistribute to Replicate, then to_local.
  DTensor full_tensor(const LocalOptions& options = {}) const;
  /// Collective unless Replicate on all axes. The one element. @throws InvalidArgument for more than one, or outside the mesh.
  template <class T = double>
  T item() const {
    return static_cast<T>(item_value().as_double());
  }
  Scalar item_value() const;
  /// Same elements converted; differentiable for floating dtypes.
  DTensor to(Dtype dtype) const;
  /// Local. Each rank's part on another device of that rank (this tensor when it is there); differentiable, the gradient comes back to this device.
  DTensor to(Device device, const CopyOptions& options = {}) const;

  // Differentiation (docs/autograd.md).
  bool requires_grad() const;
  /// A leaf that asks for a gradient. @throws InvalidArgument for a dtype that is not floating or a result of a recorded op.
  const DTensor& set_requires_grad(bool on = true) const;
  bool is_leaf() const;
  /// The accumulated gradient; an empty DTensor when there is none.
  DTensor grad() const;
  void set_grad(const DTensor& grad) const;
  /// The same value without history.
  DTensor detach() const;
  /// Collective. Of a tensor of one element (or with grad_output of the same shape): fills grad() of the leaves.
  void backward(const BackwardOptions& options = {}) const;
  void backward(const DTensor& grad_output, const BackwardOptions& options = {}) const;
  /// Called with the gradient of this tensor when it is complete; a tensor that it returns replaces it. On the thread that calls backward.
  void add_hook(GradientHook hook) const;
  /// Waits for works on the local storage.
  void wait() const;

  // For the layers of the library.
  tensor::Impl* impl() const noexcept { return impl_; }
  static DTensor adopt(tensor::Impl* impl) noexcept;

 private:
  tensor::Impl* impl_ = nullptr;  // counted
};

/// "f32[8, 16]{dp: S(0), tp: P(sum)}". Local.
DTENSOR_EXPORT std::string to_string(const DTensor& tensor);

/// Collective over the meshes of the tensors, which may be several of one world: every rank gives the same list. Each result is that of
/// tensors[i].redistribute(placements[i], options), bit for bit; a span of one Placements counts for all tensors. The moves go in rounds, and moves of one
/// round that are of the same kind over the same ranks are one launch, whatever their shapes and dtypes; the gradients come back in the same way, those
/// that are missing stay missing. A launch is waited for as a whole. Tensors that leave their mesh move one by one, after the others.
/// @throws InvalidArgument when the counts differ, for an empty handle, and as redistribute() does.
DTENSOR_EXPORT std::vector<DTensor> redistribute_all(std::span<const DTensor> tensors, std::span<const Placements> placements,
                                                     const RedistributeOptions& options = {});
inline std::vector<DTensor> redistribute_all(std::span<const DTensor> tensors, const Placements& placements,
                                             const RedistributeOptions& options = {}) {
  return redistribute_all(tensors, std::span<const Placements>(&placements, 1), options);
}

bool operator==(const DTensor&, const DTensor&) = delete;  // eq(a, b) elementwise; equal(a, b) one bool

enum class Source : std::uint8_t { first_rank, every_rank };
struct DistributeOptions {
  Source source =
      Source::first_rank;  ///< first_rank: the mesh's first rank sends, others may pass a meta tensor; every_rank: each slices its own copy
  bool requires_grad = false;
};
/// Collective over `mesh`. `tensor` has the global shape. Partial placements keep the value (docs/placements.md).
DTENSOR_EXPORT DTensor distribute(const Tensor& tensor, const DeviceMesh& mesh, const Placements& placements, const DistributeOptions& options = {});
struct FromLocalOptions {
  Shape shape = {};    ///< global shape; empty: local sizes times the ranks of the axes that shard the dimension
  bool check = false;  ///< collective: one metadata exchange; a part that does not fit is an error on every rank
  std::optional<Placements> grad_placements = {};
  bool requires_grad = false;
};
/// Local (with check: collective). Shares the memory of `tensor`. @throws InvalidArgument when the local shape does not fit.
DTENSOR_EXPORT DTensor from_local(const Tensor& tensor, const DeviceMesh& mesh, const Placements& placements, const FromLocalOptions& options = {});
/// The differentiable form: from a DTensor on self().
DTENSOR_EXPORT DTensor from_local(const DTensor& tensor, const DeviceMesh& mesh, const Placements& placements, const FromLocalOptions& options = {});

}  // namespace dtensor
