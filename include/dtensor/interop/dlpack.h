// SPDX-License-Identifier: Apache-2.0
// Tensors through DLPack, the exchange format of PyTorch, NumPy, JAX and CuPy, without a copy. Needs dlpack/dlpack.h.
//
//   DLManagedTensor* out = to_dlpack(t);      // the consumer calls out->deleter(out)
//   Tensor s = from_dlpack(managed);          // calls managed->deleter when the last handle goes
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include <dlpack/dlpack.h>

#include "dtensor/error.h"
#include "dtensor/tensor.h"

namespace dtensor {

namespace detail {

// Boolean values have a type code of their own since DLPack 0.8, the number 6.
inline constexpr std::uint8_t kDlpackBool = 6;

inline DLDataType dlpack_type(Dtype dtype) {
  const auto bits = static_cast<std::uint8_t>(info(dtype).bytes * 8);
  std::uint8_t code = info(dtype).floating ? static_cast<std::uint8_t>(kDLFloat) : static_cast<std::uint8_t>(kDLInt);
  if (dtype == Dtype::bf16) code = static_cast<std::uint8_t>(kDLBfloat);
  if (dtype == Dtype::u8) code = static_cast<std::uint8_t>(kDLUInt);
  if (dtype == Dtype::boolean) code = kDlpackBool;
  return {code, bits, 1};
}

inline Dtype dtype_of_dlpack(const DLDataType& type) {
  for (int i = 0; i < kDtypeCount; ++i) {
    const auto dtype = static_cast<Dtype>(i);
    const DLDataType own = dlpack_type(dtype);
    if (own.code == type.code && own.bits == type.bits && type.lanes == 1) return dtype;
  }
  throw InvalidArgument("from_dlpack: no dtype for this type (code " + std::to_string(type.code) + ", bits " + std::to_string(type.bits) +
                        ", lanes " + std::to_string(type.lanes) + "); convert it before the exchange");
}

struct DlpackExport {
  DLManagedTensor managed{};
  Tensor tensor;
  Shape shape, strides;
};

}  // namespace detail

/// Local. Waits for works on the storage; a copy-on-write partner is detached, since the consumer may write. The memory lives until the consumer calls
/// the deleter. @throws InvalidArgument for a tensor without memory.
inline DLManagedTensor* to_dlpack(const Tensor& tensor) {
  auto made = std::make_unique<detail::DlpackExport>();
  made->tensor = tensor;
  made->shape = tensor.shape();
  made->strides = tensor.strides();
  DLTensor& dl = made->managed.dl_tensor;
  dl.data = tensor.data();
  dl.device = {kDLCPU, 0};
  dl.ndim = tensor.ndim();
  dl.dtype = detail::dlpack_type(tensor.dtype());
  dl.shape = made->shape.begin();
  dl.strides = made->strides.begin();
  dl.byte_offset = 0;
  made->managed.manager_ctx = made.get();
  made->managed.deleter = [](DLManagedTensor* managed) { delete static_cast<detail::DlpackExport*>(managed->manager_ctx); };
  return &made.release()->managed;
}

/// Local. Takes over `managed`; calls its deleter when the last handle goes. On an error it stays the caller's.
/// @throws InvalidArgument for memory that is not on the CPU, an unknown type or more than eight dimensions.
inline Tensor from_dlpack(DLManagedTensor* managed) {
  const DLTensor& dl = managed->dl_tensor;
  if (dl.device.device_type != kDLCPU)
    throw InvalidArgument("from_dlpack: the memory is not on the CPU (device type " + std::to_string(static_cast<int>(dl.device.device_type)) +
                          "); copy it to the CPU first");
  const Dtype dtype = detail::dtype_of_dlpack(dl.dtype);
  const auto ndim = static_cast<std::size_t>(dl.ndim);
  const Shape shape(std::span<const std::int64_t>(dl.shape, ndim));
  const Shape strides = dl.strides == nullptr ? contiguous_strides(shape) : Shape(std::span<const std::int64_t>(dl.strides, ndim));
  void* data = static_cast<char*>(dl.data) + dl.byte_offset;
  Tensor::wrap(data, shape, {.dtype = dtype, .strides = strides});  // refuses what it cannot take, while `managed` is still the caller's
  return Tensor::wrap(data, shape, {.dtype = dtype, .strides = strides, .owner = std::shared_ptr<void>(managed, [](void* p) {
                                                                          auto* owned = static_cast<DLManagedTensor*>(p);
                                                                          if (owned->deleter != nullptr) owned->deleter(owned);
                                                                        })});
}

}  // namespace dtensor
