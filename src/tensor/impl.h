// SPDX-License-Identifier: Apache-2.0
// What a DTensor handle refers to.
#pragma once

#include "base/ref.h"
#include "dtensor/distributed_tensor.h"
#include "tensor/spec.h"

namespace dtensor::tensor {

class Impl final : public base::RefCounted {
 public:
  Impl(SpecRef s, Tensor l, std::uint64_t world_id, int rank) noexcept : spec(std::move(s)), local(std::move(l)), world(world_id), owner(rank) {}
  SpecRef spec;
  Tensor local;
  std::uint64_t world;
  int owner;  ///< world rank that made it
  bool requires_grad = false;
  bool copied_view = false;              ///< result of a view whose input had to move: writing to it would not reach what it views
  base::Ref<base::RefCounted> autograd;  ///< owned by autograd/; empty until a gradient is asked for
};

/// A new handle with one reference. Without history.
DTensor make_dtensor(SpecRef spec, Tensor local);
/// The implementation of a handle that is not empty and belongs to the calling rank. @throws InvalidArgument otherwise.
Impl& checked(const DTensor& tensor, std::string_view op);

}  // namespace dtensor::tensor
