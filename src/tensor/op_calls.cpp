// SPDX-License-Identifier: Apache-2.0
// What shape rules, kernels and gradients see.
#include "base/error_text.h"
#include "dtensor/op.h"
#include "tensor/signature.h"
#include "tensor/state.h"

namespace dtensor {

TensorType& ShapeCall::output(int i) {
  outputs_.reserve(3);
  if (i >= num_outputs()) outputs_.resize(static_cast<std::size_t>(i) + 1);
  return outputs_[static_cast<std::size_t>(i)];
}

const Attribute& ShapeCall::attribute(int i) const { return attributes_[static_cast<std::size_t>(i)]; }

void ShapeCall::fail(const std::string& text) const { base::fail<InvalidArgument>("{}: {}", op_->name, text); }

std::string ShapeCall::describe(int i) const {
  const tensor::Signature s = tensor::parse_signature(*op_);
  const auto& in = s.inputs[std::min(static_cast<std::size_t>(i), s.inputs.size() - 1)];
  return fmt::format("{} {}{}", in.name, info(input(i).dtype).name, to_string(input(i).shape));
}

// What only one rank sees is no InvalidArgument: it ends the run on all ranks.
void KernelCall::fail(const std::string& text) const { base::fail<Error>("{}: {}", op_name, text); }

const DTensor& GradientCall::input(int i) const {
  const auto& t = inputs_[static_cast<std::size_t>(i)];
  if (!t) base::fail<InternalError>("{}: gradient reads input {} which is not saved (saves \"{}\")", op->name, i, op->saves);
  return t;
}

const DTensor& GradientCall::output(int i) const {
  const auto& t = outputs_[static_cast<std::size_t>(i)];
  if (!t) base::fail<InternalError>("{}: gradient reads result {} which is not saved (saves \"{}\")", op->name, i, op->saves);
  return t;
}

}  // namespace dtensor
