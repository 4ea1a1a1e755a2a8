// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "dtensor/tensor.h"
#include "local/storage.h"
#include "local/strided.h"

namespace dtensor {

namespace {

constexpr std::int64_t kShownWhole = 12, kShownEnds = 4;  // of a long dimension its ends are shown

template <class T>
void write_elements(fmt::memory_buffer& out, const T* data, const Shape& shape, const Shape& strides, int dim) {
  if (dim == shape.ndim()) {
    if constexpr (std::is_same_v<T, bool>) fmt::format_to(std::back_inserter(out), "{}", *data);
    else fmt::format_to(std::back_inserter(out), "{}", local::load(*data));
    return;
  }
  const std::int64_t size = shape[dim];
  const bool whole = size <= kShownWhole;
  out.push_back('[');
  for (std::int64_t i = 0; i < size; ++i) {
    if (i > 0) out.append(std::string_view(", "));
    if (!whole && i == kShownEnds) {
      out.append(std::string_view("..., "));
      i = size - kShownEnds;
    }
    write_elements(out, data + i * strides[dim], shape, strides, dim + 1);
  }
  out.push_back(']');
}

}  // namespace

std::string to_string(const Tensor& tensor) {
  if (!tensor) return "no tensor";
  std::string text = to_string(tensor.dtype()) + to_string(tensor.shape());
  if (tensor.device().kind == DeviceKind::meta) return text + " on meta";
  if (tensor.storage()->buffer().bytes() == 0 && tensor.numel() != 0) return text + " released";
  if (tensor.device().kind != DeviceKind::cpu) return to_string(tensor.to(Device::cpu())) + " on " + to_string(tensor.device());
  fmt::memory_buffer out;
  const void* data = tensor.read();
  local::visit_dtype(tensor.dtype(),
                     [&]<class T>(std::type_identity<T>) { write_elements(out, static_cast<const T*>(data), tensor.shape(), tensor.strides(), 0); });
  return text + " " + fmt::to_string(out);
}

}  // namespace dtensor
