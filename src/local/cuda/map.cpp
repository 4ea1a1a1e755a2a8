// SPDX-License-Identifier: Apache-2.0
#include "local/cuda/map.h"

#include <array>

namespace dtensor::local::cuda {
namespace {

using Strides = std::array<std::int64_t, kMaxDims>;

MapOperand operand(const MapArgument& a, const Shape& shape, Strides& strides) {
  MapOperand result;
  if (a.tensor == nullptr) return result;
  const Tensor& t = *a.tensor;
  const int missing = shape.ndim() - t.ndim();
  for (int d = 0; d < shape.ndim(); ++d) {
    const bool repeated = d < missing || (t.shape()[d - missing] == 1 && shape[d] != 1);
    strides[static_cast<std::size_t>(d)] = repeated ? 0 : t.strides()[d - missing];
  }
  result.data = static_cast<std::byte*>(t.raw());
  result.dtype = t.dtype();
  result.bytes = info(t.dtype()).bytes;
  result.strides = {strides.data(), shape.size()};
  return result;
}

}  // namespace

void for_walks(std::span<const MapArgument> results, std::span<const MapArgument> inputs, Taken taken, const WalkLaunch& launch) {
  const Shape& shape = results[0].tensor->shape();
  const std::int64_t numel = shape.numel();
  if (numel == 0) return;
  static constexpr std::int64_t kOne[1] = {1};
  std::array<Strides, kMostOperands> strides;
  std::array<MapOperand, kMostOperands> operands;
  std::size_t count = 0;
  bool flat = true;
  for (const auto& list : {results, inputs})
    for (const MapArgument& a : list) {
      flat = flat && (a.tensor == nullptr || (a.tensor->shape() == shape && a.tensor->is_contiguous()));
      operands[count] = operand(a, shape, strides[count]);
      ++count;
    }
  if (!flat) return for_walks(shape, {operands.data(), count}, taken, launch);
  for (MapOperand& o : operands) o.strides = kOne;
  for_walks({&numel, 1}, {operands.data(), count}, taken, launch);
}

}  // namespace dtensor::local::cuda
